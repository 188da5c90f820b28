"""Funnels, retention and sessions, against Polars by hand and DuckDB: `python -m benchmarks.numbers [--small]`."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import narwhals as nw
import polars as pl

from benchmarks import report
from benchmarks.timing import Prepared, in_turn, ratio
from platform_assets.semantics.engines import collected
from platform_assets.semantics.funnels import Funnel, Step, attempts, furthest
from platform_assets.semantics.retention import Retention, retained
from platform_assets.semantics.sessions import with_sessions

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 28
NAMES = ("page_viewed", "product_viewed", "page_viewed", "search_performed", "cart_item_added", "page_viewed")
STEPS = ("product_viewed", "cart_item_added", "order_completed")
WEEK = 7 * 86_400 * 10**6
FUNNEL = Funnel(steps=tuple(Step(event=name) for name in STEPS), window=timedelta(days=7))
RETENTION = Retention(intervals=8)
EVENTS_OF_A_PERSON = 50

Contest = dict[str, Callable[[], object]]


def write_events(file: Path, events: int) -> None:
    """Events of 28 days in no order of persons, 50 of each on average."""
    number = pl.int_range(events, eager=True)
    name = pl.when(number.hash(seed=3) % 20 == 0).then(pl.lit(STEPS[-1]))
    for place, other in enumerate(NAMES):
        name = name.when(number.hash(seed=4) % len(NAMES) == place).then(pl.lit(other))
    frame = pl.DataFrame({"number": number}).select(
        event_id=pl.format("e{}", "number"),
        person_id=pl.format("u:user-{}", pl.col("number").hash(seed=1) % (events // EVENTS_OF_A_PERSON)),
        anonymous_id=pl.lit("device"),
        occurred_at=pl.lit(START) + pl.duration(microseconds=pl.col("number").hash(seed=2) % (DAYS * 86_400 * 10**6)),
        event_name=name.otherwise(pl.lit(NAMES[0])),
        page_url=pl.lit("/"),
        referrer=pl.lit(None, pl.String),
        utm_source=pl.lit(None, pl.String),
        utm_medium=pl.lit(None, pl.String),
        utm_campaign=pl.lit(None, pl.String),
    )
    frame.write_parquet(file, compression="zstd", compression_level=1)


def funnel(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """Persons by how many of three steps they took within a week."""

    def ours() -> dict[int, int]:
        counted = furthest(attempts(pl.scan_parquet(file), FUNNEL), ["person_id"])
        return dict(collected(counted.group_by("reached").agg(nw.len())).rows())

    def by_hand() -> dict[int, int]:
        at, step = pl.col("at"), pl.col("step")
        of_name = pl.col("event_name").replace_strict({name: place for place, name in enumerate(STEPS, 1)})
        rows = (
            pl.scan_parquet(file)
            .filter(pl.col("event_name").is_in(STEPS))
            .select("person_id", at=pl.col("occurred_at").dt.epoch("us"), step=of_name)
            .sort("person_id", "at", "step")
            .with_columns(third=pl.when(step == 3).then(at).backward_fill().over("person_id"))
            .with_columns(
                second=pl.when(step == 2).then(at).backward_fill().over("person_id"),
                then=pl.when(step == 2).then("third").backward_fill().over("person_id"),
            )
            .filter(step == 1)
        )
        inside = [(pl.col(name) <= at + WEEK).fill_null(value=False).cast(pl.Int64) for name in ("second", "then")]
        reached = rows.group_by("person_id").agg(reached=(1 + inside[0] + inside[1]).max())
        return dict(reached.group_by("reached").len().collect(engine="streaming").rows())

    query = f"""
    with steps as (
        select person_id, epoch_us(occurred_at) as time,
            case event_name when '{STEPS[0]}' then 1 when '{STEPS[1]}' then 2 else 3 end as step
        from read_parquet('{file}') where event_name in {STEPS}),
    thirds as (
        select *, min(case when step = 3 then time end) over ahead as third from steps
        window ahead as (partition by person_id order by time, step rows between current row and unbounded following)),
    seconds as (
        select *, min(case when step = 2 then time end) over ahead as second,
            min(case when step = 2 then third end) over ahead as next from thirds
        window ahead as (partition by person_id order by time, step rows between current row and unbounded following)),
    told as (
        select person_id,
            max(1 + coalesce((second <= time + {WEEK})::int, 0) + coalesce((next <= time + {WEEK})::int, 0)) as reached
        from seconds where step = 1 group by person_id)
    select reached, count(*) from told group by reached"""
    return {"ours": ours, "Polars": by_hand, "DuckDB": lambda: dict(connection.execute(query).fetchall())}


def retention(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """Persons active on a day who are active so many days after, added up over the days."""
    last = START.date() + timedelta(days=DAYS - 1)

    def ours() -> dict[int, int]:
        cells = retained(pl.scan_parquet(file), RETENTION, START.date(), last, ZoneInfo("UTC"))
        return dict(collected(cells.group_by("interval").agg(nw.len())).rows())

    def by_hand() -> dict[int, int]:
        active = pl.scan_parquet(file).select("person_id", day=pl.col("occurred_at").dt.date()).unique()
        pairs = active.join(active, on="person_id", suffix="_later")
        since = (pl.col("day_later") - pl.col("day")).dt.total_days()
        counted = pairs.filter(since.is_between(0, 7)).group_by(since.alias("interval")).len()
        return dict(counted.collect(engine="streaming").rows())

    query = f"""
    with active as (select distinct person_id, occurred_at::date as day from read_parquet('{file}'))
    select b.day - a.day as interval, count(*) from active a join active b using (person_id)
    where b.day - a.day between 0 and 7 group by interval"""
    return {"ours": ours, "Polars": by_hand, "DuckDB": lambda: dict(connection.execute(query).fetchall())}


def sessions(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """How many sessions there are. Ours also cuts at 24 hours, names each, and flags new days and campaigns."""

    def ours() -> int:
        told = with_sessions(pl.scan_parquet(file), most_cuts=1).select("session_event")
        return int(collected(told.filter(nw.col("session_event") == 1).select(nw.len()))["len"].item())

    def by_hand() -> int:
        pause = pl.col("occurred_at").diff().over("person_id", "anonymous_id", order_by="occurred_at")
        begun = (pause.is_null() | (pause > timedelta(minutes=30))).sum()
        return int(pl.scan_parquet(file).select(begun).collect(engine="streaming").item())

    query = f"""
    with paused as (
        select occurred_at - lag(occurred_at) over (partition by person_id, anonymous_id order by occurred_at) as pause
        from read_parquet('{file}'))
    select count(*) from paused where pause is null or pause > interval 30 minutes"""

    def in_sql() -> int:
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    return {"ours": ours, "Polars": by_hand, "DuckDB": in_sql}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.numbers", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few events, to see that it runs")
    parser.add_argument("--events", type=int, help="how many, instead of 5 and 50 million")
    options = parser.parse_args()
    sizes = (options.events,) if options.events else (200_000,) if options.small else (5_000_000, 50_000_000)
    rows, measured = [], []
    for events in sizes:
        with report.scratch("numbers") as folder, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            file = folder / "events.parquet"
            write_events(file, events)
            for contest in (funnel, retention, sessions):
                contestants = contest(file, connection)
                found = [answer() for answer in contestants.values()]
                answers = [repr(sorted(f.items()) if isinstance(f, dict) else f) for f in found]
                assert len(set(answers)) == 1, f"{contest.__name__}: not the same numbers: {answers}"

                def prepared(timed: Callable[[], object]) -> Callable[[], Prepared]:
                    return lambda: timed

                seconds = in_turn({name: prepared(timed) for name, timed in contestants.items()}, 3)
                by_hand, in_sql = (ratio(seconds["ours"], seconds[peer]) for peer in ("Polars", "DuckDB"))
                shown = [seconds[name].shown(2) for name in contestants]
                rows.append([contest.__name__, f"{events:,}", *shown, by_hand.shown(2), in_sql.shown(2)])
                measured.append(
                    {
                        "number": contest.__name__,
                        "events": events,
                        **{f"{name}_seconds": seconds[name].as_json() for name in contestants},
                        "ratio_to_polars": by_hand.as_json(),
                        "ratio_to_duckdb": in_sql.as_json(),
                    }
                )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.write(
        "numbers",
        small=options.small,
        columns=[
            "number",
            "events",
            "ours (s)",
            "Polars by hand (s)",
            "DuckDB (s)",
            "ratio to Polars",
            "ratio to DuckDB",
        ],
        rows=rows,
        measured={"contests": measured, "peak_gib": peak},
        notes=[
            "The aims are 0.9 of Polars by hand and 3 times DuckDB. All read the same Parquet file.",
            f"Sessions: ours does more than its peers (see its docstring). The process's peak: {peak:.1f} GiB.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
