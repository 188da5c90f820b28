"""A lake with the stream's tables, what it holds as comparable values, and a lake where things happen."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze import backend_logs, client_events, dead_letters, oltp_changes, schemas
from platform_assets.gold import live_metrics
from platform_assets.ops import canaries
from platform_assets.semantics.events import CANARY
from platform_assets.silver import admissions, events, late_arrivals, outcomes, quarantine, touched_hours
from platform_assets.silver.judgement import Rules
from platform_assets.streams import epochs, event_rebuild
from platform_assets.streams.judging import Judging
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.table import Table
from resources.lake import LOG_RETENTION_HOURS, Lake
from resources.records import RecordSource
from resources.schemas import NoRegistry
from resources.settings import Settings
from support.reference import Expected

STREAM_TABLES = tuple(
    module.TABLE
    for module in (
        client_events,
        dead_letters,
        quarantine,
        late_arrivals,
        events,
        outcomes,
        live_metrics,
        touched_hours,
    )
)
"""The tables that the micro-batches write, in the order in which they write them."""

ALLOWED_LATENESS = timedelta(hours=4)
"""Short, so that a world of a few hours has events that are too late."""

COORDINATES = ["topic", "epoch", "partition", "offset"]


def new_lake(folder: Path) -> Lake:
    """A lake with all tables of the stream, empty."""
    lake = Lake(str(folder))
    # What both streams refuse is in the same tables: a rebuild of those looks into both.
    others = (backend_logs.TABLE, oltp_changes.TABLE, schemas.TABLE, admissions.TABLE, canaries.TABLE)
    for table in (*STREAM_TABLES, *others):
        lake.create(table)
    return lake


def stream_settings(micro_batch_records: int = 1_000_000) -> Settings:
    return Settings(allowed_lateness=ALLOWED_LATENESS, micro_batch_records=micro_batch_records)


def drain(lake: Lake, source: RecordSource, settings: Settings | None = None) -> MicroBatches:
    """Start a writer, catch up, and read all that there is."""
    batches = MicroBatches(lake, source, settings or stream_settings())
    batches.catch_up()
    while batches.step() is not None:
        pass
    return batches


def age_log(lake: Lake, table: Table) -> None:
    """Let the entries of a table's log be older than they are kept behind a checkpoint."""
    then = (datetime.now(UTC) - timedelta(hours=LOG_RETENTION_HOURS + 1)).timestamp()
    for entry in (Path(lake.uri(table)) / "_delta_log").iterdir():
        os.utime(entry, (then, then))


def rebuild_silver(lake: Lake, window: Window, allowed_lateness: timedelta = ALLOWED_LATENESS) -> None:
    """Rebuild a window of `silver/events`."""
    rules = Rules(allowed_lateness, NoRegistry())
    event_rebuild.rebuild(lake, [Judging(lake, stream, rules) for stream in EVENT_STREAMS], window)


def substance(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    """All that the stream's tables say, but for how they came to say it: comparable between two lakes.

    Signed ledgers are summed over the versions of silver, and of the touched hours remains what was added but not
    removed: an hour that only held a row until an earlier arrival displaced it was touched, yet holds nothing.
    """
    found = {table.name: _rows(lake, table) for table in (client_events.TABLE, events.TABLE, late_arrivals.TABLE)}
    found |= {table.name: _rows(lake, table) for table in (quarantine.TABLE, dead_letters.TABLE)}
    found[outcomes.TABLE.name] = _summed(lake, outcomes.TABLE, "records")
    found[live_metrics.TABLE.name] = _summed(lake, live_metrics.TABLE, "events")
    found[touched_hours.TABLE.name] = sorted(_net_touched(lake).items())
    return found


def assert_same(found: Lake, wanted: Lake) -> None:
    """Assert that two lakes hold the same, table by table."""
    left, right = substance(found), substance(wanted)
    for name, rows in right.items():
        assert left[name] == rows, _told(name, left[name], rows)


def assert_as_expected(lake: Lake, expected: Expected) -> None:
    """Assert that the stream's tables hold what the reference says."""
    silver = lake.scan(events.TABLE).drop("key_hash").collect()
    rows = {tuple(row[name] for name in COORDINATES): row for row in silver.to_dicts()}
    assert len(rows) == silver.height, "a record is in silver twice"
    assert rows == expected.silver

    refused = lake.scan(quarantine.TABLE).collect().to_dicts()
    quarantined = {tuple(r[name] for name in COORDINATES): (sorted(r["reasons"]), r["occurred_at"]) for r in refused}
    assert len(quarantined) == len(refused), "a record is quarantined twice"
    assert quarantined == expected.quarantined

    letters = lake.scan(dead_letters.TABLE).collect().to_dicts()
    kinds = {tuple(r[name] for name in COORDINATES): r["reasons"][0].split(":")[0] for r in letters}
    assert len(kinds) == len(letters), "a record is dead-lettered twice"
    assert kinds == expected.dead_lettered

    late = lake.scan(late_arrivals.TABLE).select(*COORDINATES, "occurred_at").collect().rows()
    assert len({row[:-1] for row in late}) == len(late), "a record is in the late index twice"
    assert {row[:-1]: row[-1] for row in late} == expected.late

    counted = lake.scan(outcomes.TABLE).collect()
    keys = ("topic", "epoch", "partition", "ingestion_hour", "event_hour", "outcome")
    assert _counter(counted, keys, "records") == expected.outcomes
    live = lake.scan(live_metrics.TABLE).collect()
    assert _counter(live, ("minute", "event_name", "platform"), "events") == expected.live

    touching = [row for row in expected.silver.values() if (row["event_name"], row["is_test"]) != (CANARY, True)]
    hours = Counter(row["occurred_at"].replace(minute=0, second=0, microsecond=0) for row in touching)
    assert _net_touched(lake) == hours, "the ledger of touched hours does not add up to silver's rows"


def assert_conserved(lake: Lake, topic: str) -> None:
    """Assert that what was consumed is contiguous, is in bronze once, and has one outcome each.

    The log is read as the files that it is, not by the code under test.
    """
    bronze = lake.open(client_events.TABLE)
    progress: dict[str, int] = {}
    consumed: Counter[tuple[int, int, int]] = Counter()
    for commit in commits(lake, client_events.TABLE):
        before = dict(progress)
        progress |= commit.progress
        for app, number in before.items():
            assert progress[app] >= number, f"{app} went back from {number} to {progress[app]}"
        for epoch, partition, offset in commit.added.select("epoch", "partition", "offset").iter_rows():
            app = f"{topic}/{epoch}/{partition}"
            assert before[app] <= offset < progress[app], f"{app}: {offset} is not in the commit's range"
            consumed[epoch, partition, offset] += 1
    assert set(consumed.values()) <= {1}, "a record is in bronze twice"
    for epoch in range(1, progress[f"{topic}/epoch"] + 1):
        position = epochs.recorded(bronze, topic, epoch)
        assert position is not None
        for partition, start in epochs.starts(bronze, position).items():
            end = position.offsets[partition]
            assert start <= end
            assert all(start <= o < end for e, p, o in consumed if (e, p) == (epoch, partition))
            behind = {
                table.name: lake.open(table).transaction_version(position.app(partition)) or start
                for table in STREAM_TABLES[1:5]
            }
            assert behind == dict.fromkeys(behind, end), f"not all tables caught up with {position.app(partition)}"

    per = ("topic", "epoch", "partition", "ingestion_hour")
    received = lake.scan(client_events.TABLE).with_columns(ingestion_hour=pl.col("ingested_at").dt.truncate("1h"))
    came = Counter(received.select(per).collect().rows())
    assert _counter(lake.scan(outcomes.TABLE).collect(), per, "records") == came
    ends = lake.scan(outcomes.TABLE).group_by(*per, "event_hour", "outcome").agg(pl.col("records").sum()).collect()
    assert ends.filter(pl.col("records") < 0).is_empty(), "an outcome is counted below zero"


@dataclass(frozen=True)
class Commit:
    """What a commit's file says: the progress recorded and the rows of the files added."""

    progress: Mapping[str, int]
    added: pl.DataFrame


def commits(lake: Lake, table: Table) -> list[Commit]:
    """The commits of a table in order, from the log's files."""
    root = Path(lake.uri(table))
    found = []
    for file in sorted((root / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        added = [root / unquote(action["add"]["path"]) for action in actions if "add" in action]
        moved = not any(action.get("commitInfo", {}).get("operation") == "OPTIMIZE" for action in actions)
        rows = [pl.read_parquet(path, hive_partitioning=False) for path in added if moved]
        transactions = [action["txn"] for action in actions if "txn" in action]
        found.append(
            Commit(
                {txn["appId"]: txn["version"] for txn in transactions},
                pl.concat(rows) if rows else table.empty(),
            )
        )
    return found


def version_of(lake: Lake, table: Table) -> int:
    return DeltaTable(lake.uri(table)).version()


class Killed(BaseException):
    """The process ended here."""


@dataclass(eq=False)
class EventfulLake(Lake):
    """A lake where something happens at chosen moments: when a table is opened, before and after a write.

    The moments are numbered from 1 as they come; a write has two.

    Attributes:
        url: See `Lake`.
        happenings: What happens at which moment.
        moments: The moments so far: what was about to be done, or was just done.
    """

    url: str
    happenings: dict[int, Callable[[], object]] = field(default_factory=dict)
    moments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.url)

    def open(self, table: Any, version: int | None = None) -> DeltaTable:
        self._moment(f"open {table.name}")
        return super().open(table, version)

    def write(self, table: Any, *args: Any, **named: Any) -> int:
        self._moment(f"before writing {table.name}")
        written = super().write(table, *args, **named)
        self._moment(f"after writing {table.name}")
        return written

    def _moment(self, what: str) -> None:
        self.moments.append(what)
        happening = self.happenings.pop(len(self.moments), None)
        if happening is not None:
            happening()


def die() -> None:
    """A happening: the process ends."""
    raise Killed


def die_at(lake: EventfulLake, moment: str) -> None:
    """Let the process end at the next moment of that name."""

    class Watch(dict[int, Any]):
        def pop(self, number: int, default: Any = None) -> Any:
            if lake.moments[number - 1] == moment:
                lake.happenings = {}
                return die
            return default

    lake.happenings = Watch()


def _rows(lake: Lake, table: Table) -> list[tuple[Any, ...]]:
    return lake.scan(table).select(table.substance).sort(COORDINATES).collect().rows()


def _summed(lake: Lake, table: Table, quantity: str) -> list[tuple[Any, ...]]:
    by = [name for name in table.substance if name != quantity]
    summed = lake.scan(table).group_by(by).agg(pl.col(quantity).sum()).filter(pl.col(quantity) != 0)
    return summed.sort(by).collect().rows()


def _net_touched(lake: Lake) -> Counter[datetime]:
    """What is left of each touched hour: rows added, less rows removed."""
    net = (pl.col("added") - pl.col("removed")).sum()
    rows = lake.scan(touched_hours.TABLE).group_by("event_hour").agg(rows=net).filter(pl.col("rows") != 0)
    return Counter(dict(rows.collect().iter_rows()))


def _counter(rows: pl.DataFrame, keys: Sequence[str], quantity: str) -> Counter[tuple[Any, ...]]:
    summed = rows.group_by(keys).agg(pl.col(quantity).sum()).filter(pl.col(quantity) != 0)
    return Counter({row[:-1]: row[-1] for row in summed.iter_rows()})


def _told(name: str, found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> str:
    extra = [row for row in found if row not in wanted]
    missing = [row for row in wanted if row not in found]
    return f"{name}: {len(found)} rows, {len(wanted)} wanted\nmissing: {missing[:5]}\nextra: {extra[:5]}"
