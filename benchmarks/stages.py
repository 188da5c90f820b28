"""Each stage, and the whole, against the bare libraries on the same rows: `python -m benchmarks.stages [--small]`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from rich.console import Console

from benchmarks import bare, past, report
from benchmarks.timing import PARTS, Prepared, Spread, in_turn, other, rate, ratio, watched
from benchmarks.traffic import PARTITIONS, RATE, Deck, Record, Traffic, fill, frame
from local_stack.broker import Broker, create_topic, free_port
from platform_assets.bronze import client_events
from platform_assets.bronze import records as received
from platform_assets.gold import active_users, live_metrics, person_days
from platform_assets.semantics.activity import active_users as counted
from platform_assets.semantics.engines import collected
from platform_assets.silver import activity_hours, events, outcomes, touched_hours
from platform_assets.silver.judgement import Rules, judge
from platform_assets.streams.followers import Followers, SilverStep
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.table import Table
from platform_assets.tables import create_tables
from resources.delta_log import Change
from resources.events import decode
from resources.kafka import KafkaSource
from resources.lake import Lake, Writer
from resources.records import Position
from resources.schemas import NoRegistry
from resources.settings import Settings

RULES = Rules(timedelta(days=7), NoRegistry())
TOPIC = "client_events"
AIM = 0.7


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        batch: Records of a micro-batch.
        batches: Micro-batches of the whole.
        history: Rows of the day of history.
        persons: Of the gold tables.
        repetitions: Rounds.
    """

    batch: int = 100_000
    batches: int = 8
    history: int = 2_000_000
    persons: int = 1_000_000
    repetitions: int = 5


SMALL = Sizes(batch=10_000, batches=3, history=80_000, persons=50_000, repetitions=2)


@dataclass
class Bench:
    """What the stages share.

    Attributes:
        sizes: How much.
        folder: For lakes.
        config: Of the broker, whose topic holds ``batch * batches`` records and a few.
        records: One micro-batch as it is read.
        template: The rows of a file of history.
        now: When the traffic begins.
    """

    sizes: Sizes
    folder: Path
    config: dict[str, str]
    records: pl.DataFrame
    template: pl.DataFrame
    now: datetime
    rows: list[list[object]] = field(default_factory=list)
    measured: list[dict[str, object]] = field(default_factory=list)
    _lakes: Iterator[int] = field(default_factory=itertools.count)

    def lake(self, *, history: bool = False) -> Lake:
        """A new lake with its tables, with or without a day of history."""
        lake = Lake(str(self.folder / f"lake-{next(self._lakes)}"))
        create_tables(lake)
        if history:
            hours = (self.now - datetime(self.now.year, self.now.month, self.now.day, tzinfo=UTC)) / timedelta(hours=1)
            past.write_day(lake, self.template, self.now.date(), hours, 0, past.FILES_PER_DAY)
            version = lake.open(events.TABLE).version()
            for table in (outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE):
                follower = Writer(lake, table)
                follower.progress(events.FOLLOWS)
                follower.record({events.FOLLOWS: version})
        return lake

    def settings(self) -> Settings:
        """The platform's settings for micro-batches of our size."""
        return Settings(micro_batch_records=self.sizes.batch)

    def compare(
        self, stage: str, count: int, ours: Callable[[], Prepared], peers: Mapping[str, Callable[[], Prepared]]
    ) -> None:
        """Measure a stage against its peers, and take down a row for each."""
        seconds = in_turn({"ours": ours, **peers}, self.sizes.repetitions)
        own = rate(count, seconds["ours"])
        for peer in peers:
            share = ratio(seconds["ours"], seconds[peer])
            cells = (own.shown(), peer, rate(count, seconds[peer]).shown(), share.shown(2))
            self.rows.append([stage, *cells])
            self.measured.append(
                {
                    "stage": stage,
                    "events": count,
                    "ours_events_per_second": own.as_json(),
                    "peer": peer,
                    "peer_events_per_second": rate(count, seconds[peer]).as_json(),
                    "ratio": share.as_json(),
                }
            )


def consume(bench: Bench) -> None:
    """Kafka to a frame, and to what a loop of `consume` gives."""
    count = bench.sizes.batch * bench.sizes.batches

    def ours() -> Prepared:
        def read() -> None:
            with KafkaSource(bench.config) as source:
                position, got = Position(TOPIC, 1, dict.fromkeys(range(PARTITIONS), 0)), 0
                while got < count:
                    batch = source.read(position, bench.sizes.batch, 2**30)
                    assert batch is not None
                    got, position = got + batch.records.height, batch.next_position

        return read

    def peer(*, framed: bool) -> Callable[[], Prepared]:
        def read() -> None:
            reader, got = bare.Reader(bench.config, TOPIC, PARTITIONS), 0
            while got < count:
                messages = reader.read(min(bench.sizes.batch, count - got))
                if framed:
                    bare.frame(messages)
                got += len(messages)
            reader.close()

        return lambda: read

    peers = {
        "confluent_kafka consume(), list of tuples": peer(framed=False),
        "the same, as a Polars frame": peer(framed=True),
    }
    bench.compare("consume", count, ours, peers)


def bronze(bench: Bench) -> None:
    """A frame to a commit of bronze with progress."""
    writer = Writer(bench.lake(), client_events.TABLE)
    bare_handle = bench.lake().open(client_events.TABLE)
    rows = received.transform(bench.records)
    progress, apps = itertools.count(1), [f"{TOPIC}/1/{partition}" for partition in range(PARTITIONS)]
    for app in apps:
        writer.progress(app)

    def ours() -> Prepared:
        reached = dict.fromkeys(apps, next(progress))
        return lambda: writer.append(received.transform(bench.records), reached)

    peers = {"write_deltalake, zstd 1": lambda: lambda: bare.append(bare_handle, rows)}
    bench.compare("bronze append", rows.height, ours, peers)


def decoding(bench: Bench) -> None:
    """Values to columns; then judged."""
    records, count = bench.records, bench.records.height
    values = records["value"].to_list()
    is_text = [value is not None and _is_utf8(value) for value in values]
    text = records.filter(pl.Series(is_text))["value"].cast(pl.String)
    connection = bare.duckdb_connection()

    def by_msgspec() -> pl.DataFrame:
        decoded, good = bare.decode(records["value"].to_list())
        return bare.valid_events(decoded, records[good])

    assert abs(judge(records, RULES).accepted.height - by_msgspec().height) <= count * 0.001
    peers: dict[str, Callable[[], Prepared]] = {
        "msgspec and pyarrow": lambda: lambda: bare.decode(records["value"].to_list()),
        "DuckDB json_valid, json_transform": lambda: lambda: bare.decode_by_duckdb(connection, text),
    }
    bench.compare("decode", count, lambda: lambda: decode(records, RULES.schemas), peers)
    peers = {"msgspec, pyarrow and Polars by hand": lambda: by_msgspec}
    bench.compare("decode and judge", count, lambda: lambda: judge(records, RULES), peers)


def silver(bench: Bench) -> None:
    """Judged rows against a day of history; what is new, committed; what follows it."""
    lake, plain = bench.lake(history=True), bench.lake(history=True)
    judgement = judge(bench.records, RULES)
    rows, count = events.transform(judgement.accepted), bench.records.height
    handle = lake.open(events.TABLE)
    # The history's files are all that there is: no more than what the platform finds near.
    files = [f"{lake.uri(events.TABLE)}/{path}" for path in pl.DataFrame(handle.get_add_actions(flatten=True))["path"]]
    whole_day = pl.scan_parquet(files).select("key_hash")
    resident = whole_day.collect()
    found = events.arrivals(lake, handle, rows)
    peers: dict[str, Callable[[], Prepared]] = {
        "Polars anti-join, every file of the day": lambda: lambda: bare.fresh(rows, whole_day.collect()),
        "Polars anti-join, hashes in memory": lambda: lambda: bare.fresh(rows, resident),
    }
    bench.compare("dedupe, a day of history", count, lambda: lambda: events.arrivals(lake, handle, rows), peers)

    writer, bare_handle, progress = Writer(lake, events.TABLE), plain.open(events.TABLE), itertools.count(1)
    writer.progress("benchmarks")

    def commit() -> Prepared:
        reached = {"benchmarks": next(progress)}
        return lambda: writer.append(found.kept, reached)

    peers = {"write_deltalake, zstd 1": lambda: lambda: bare.append(bare_handle, found.kept)}
    bench.compare("silver append", count, commit, peers)

    followers, versions = Followers(lake), itertools.count(writer.version + 1_000)
    tables = (outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE)
    handles = [plain.open(table) for table in tables]
    kept, removed = found.kept.select(events.FOLLOWED), found.displaced.select(events.FOLLOWED)

    def follow() -> Prepared:
        change = Change(next(versions), kept, removed)
        return lambda: followers.follow(SilverStep(change, judgement.tallies()))

    def follow_by_hand() -> None:
        made = (bare.outcomes(kept, 1), bare.live_metrics(kept, 1), bare.touched_hours(kept, 1))
        for target, table, one in zip(handles, tables, made, strict=True):
            bare.append(target, one.select(table.schema.names()))

    bench.compare("followers", count, follow, {"Polars by hand, write_deltalake": lambda: follow_by_hand})


def gold(bench: Bench) -> None:
    """A day of events to who was active, a day on for the histories, and the counts."""
    lake = bench.lake(history=True)
    rows = lake.scan(events.TABLE)
    count = rows.select(pl.len()).collect().item()
    passive = frozenset({"push_received"})

    def activity() -> pl.DataFrame:
        return activity_hours.transform(rows, passive, "UTC").collect(engine="streaming")

    assert activity().height == bare.activity_hours(rows).height
    peers: dict[str, Callable[[], Prepared]] = {"Polars by hand": lambda: lambda: bare.activity_hours(rows)}
    bench.compare("gold: activity_hours", count, lambda: activity, peers)

    persons, day = bench.sizes.persons, date(2026, 6, 15)
    ids = pl.select(person_id=pl.format("u:user-{}", pl.int_range(persons).hash(seed=1)))
    history = ids.with_columns(history=(pl.int_range(pl.len()).hash(seed=2) % (1 << 28)).cast(pl.Int32))
    active = ids.filter(pl.int_range(pl.len()) % 4 == 0)
    active = pl.concat([active, active.with_columns(pl.col("person_id") + "-new").head(persons // 100)])
    dated = active.with_columns(day=pl.lit(day))

    def roll() -> pl.DataFrame:
        return next(person_days.transform(history.lazy(), dated.lazy(), [day]))

    rolled = roll()
    assert rolled.height == bare.person_days(history, active).height
    peers = {"Polars by hand": lambda: lambda: bare.person_days(history, active)}
    bench.compare("gold: person_days, a day on", persons, lambda: roll, peers)

    def numbers() -> pl.DataFrame:
        return collected(counted(rolled.lazy()))

    assert numbers().select("dau", "wau", "mau").row(0) == bare.active_users(rolled)
    assert set(numbers().columns) <= set(active_users.TABLE.schema)
    peers = {"Polars by hand": lambda: lambda: bare.active_users(rolled)}
    bench.compare("gold: active_users", persons, lambda: numbers, peers)


def whole(bench: Bench) -> None:
    """Kafka to bronze, and Kafka to silver and what follows it, in the micro-batches of the platform."""
    count = bench.sizes.batch * bench.sizes.batches
    parts: dict[str, list[float]] = {part: [] for part in (*PARTS, "other")}

    def to_bronze() -> Prepared:
        writer = Writer(bench.lake(), client_events.TABLE)
        position, got = Position(TOPIC, 1, dict.fromkeys(range(PARTITIONS), 0)), 0
        for app in position.transactions():
            writer.progress(app)

        def read() -> None:
            nonlocal position, got
            with KafkaSource(bench.config) as source:
                while got < count:
                    batch = source.read(position, bench.sizes.batch, 2**30)
                    assert batch is not None
                    writer.append(received.transform(batch.records), batch.next_position.transactions())
                    got, position = got + batch.records.height, batch.next_position

        return read

    def to_bronze_by_hand() -> Prepared:
        handle = bench.lake().open(client_events.TABLE)
        return lambda: _by_hand(bench, count, handle)

    def to_silver() -> Prepared:
        lake = bench.lake(history=True)

        def step() -> None:
            got = 0
            with KafkaSource(bench.config) as source, MicroBatches(lake, source, bench.settings()) as batches:
                batches.catch_up()
                with watched() as spent:
                    began = time.perf_counter()
                    while got < count:
                        done = batches.step()
                        assert done is not None
                        got += done.records
                    whole = time.perf_counter() - began
                spent["other"] = other(whole, spent)
                for part, values in parts.items():
                    values.append(spent.get(part, 0.0) / got)

        return step

    def to_silver_by_hand() -> Prepared:
        lake = bench.lake(history=True)
        known = lake.scan(events.TABLE).select("key_hash").collect()
        tables = (events.TABLE, outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE)
        handles = {table.name: lake.open(table) for table in tables}
        bronze_handle = lake.open(client_events.TABLE)
        return lambda: _by_hand(bench, count, bronze_handle, handles, tables, known)

    peers: dict[str, Callable[[], Prepared]] = {"the bare libraries in a row": to_bronze_by_hand}
    bench.compare("Kafka → bronze", count, to_bronze, peers)
    peers = {"the bare libraries in a row, hashes in memory": to_silver_by_hand}
    bench.compare("Kafka → silver and followers", count, to_silver, peers)
    bench.measured.append(
        {"stage": "microseconds per event", **{part: Spread(tuple(v)).median * 1e6 for part, v in parts.items()}}
    )


def _by_hand(
    bench: Bench,
    count: int,
    bronze_handle: DeltaTable,
    handles: dict[str, DeltaTable] | None = None,
    tables: tuple[Table, ...] = (),
    known: pl.DataFrame | None = None,
) -> None:
    reader, got = bare.Reader(bench.config, TOPIC, PARTITIONS), 0
    while got < count:
        rows = bare.frame(reader.read(min(bench.sizes.batch, count - got)))
        got += rows.height
        bare.append(bronze_handle, rows)
        if handles is None or known is None:
            continue
        decoded, good = bare.decode(rows["value"].to_list())
        fresh = bare.fresh(bare.valid_events(decoded, rows[good]), known)
        known = pl.concat([known, fresh.select("key_hash")])
        made = (fresh, bare.outcomes(fresh, 1), bare.live_metrics(fresh, 1), bare.touched_hours(fresh, 1))
        for table, one in zip(tables, made, strict=True):
            bare.append(handles[table.name], one.select(table.schema.names()))
    reader.close()


STAGES: tuple[Callable[[Bench], None], ...] = (consume, bronze, decoding, silver, gold, whole)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few rows, to see that it runs")
    parser.add_argument("--only", nargs="*", help=f"some of {', '.join(stage.__name__ for stage in STAGES)}")
    options = parser.parse_args()
    sizes = SMALL if options.small else Sizes()
    console = Console(stderr=True)
    with console.status("the traffic") as status, _bench(sizes) as bench:
        for stage in STAGES:
            if options.only is None or stage.__name__ in options.only:
                status.update(stage.__name__)
                stage(bench)
    spent = next((row for row in bench.measured if row["stage"] == "microseconds per event"), {})
    shares = ", ".join(f"{part} {spent[part]:.1f}" for part in (*PARTS, "other") if part in spent and part != "read")
    report.write(
        "stages",
        small=options.small,
        columns=["stage", "events/s", "against", "its events/s", "ratio (1 is as fast)"],
        rows=bench.rows,
        measured={"sizes": sizes, "stages": bench.measured, "aim": AIM},
        notes=[
            (
                f"Micro-batches of {sizes.batch:,} records, {sizes.history:,} rows of history in the same day. Medians "
                f"of {sizes.repetitions} rounds in turn, least and most in brackets. Aim: {AIM} of the floor."
            ),
            f"Of Kafka → silver, microseconds per event: {shares}. Reading from Kafka is in `other`.",
        ],
    )
    return 0


@contextmanager
def _bench(sizes: Sizes) -> Iterator[Bench]:
    now = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    now = now.replace(hour=max(now.hour, 2))
    records = Traffic(Deck(), int(now.timestamp() * 1e6), RATE).records()
    with report.scratch("stages") as folder, Broker(free_port(), folder / "broker.log") as broker:
        config = {"bootstrap.servers": broker.bootstrap_servers}
        create_topic(config, TOPIC, PARTITIONS)
        # A few more than are read, so that no read has to wait for the end of a partition.
        given: list[Record] = list(itertools.islice(records, sizes.batch * (sizes.batches + 1)))
        fill(config, TOPIC, given)
        yield Bench(
            sizes=sizes,
            folder=folder,
            config=config,
            records=frame(given[: sizes.batch], {}),
            template=past.template(sizes.history // past.FILES_PER_DAY),
            now=now,
        )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
