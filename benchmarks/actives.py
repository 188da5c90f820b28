"""A new day of active users, against counting the last 28 days anew: `python -m benchmarks.actives [--small]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from benchmarks import report
from benchmarks.timing import Prepared, in_turn, ratio
from platform_assets.semantics.activity import HISTORY_DAYS, active_days, active_users, history_before, next_day
from platform_assets.semantics.engines import collected

DAY = date(2026, 6, 28)
"""The new day; the window begins 27 days before."""

ZONE = ZoneInfo("UTC")
PASSIVE = frozenset({"push_received"})
ONE_DAY_IN = 4
"""A person is active on one day in so many: DAU / MAU is about a quarter."""

EVENTS_A_DAY = 20
"""Of a person on a day that they are active."""

AIM = 20

_IN_SQL = """
select count(distinct person_id) filter (where occurred_at >= $today) as dau,
    count(distinct person_id) filter (where occurred_at >= $week) as wau,
    count(distinct person_id) as mau
from read_parquet($files) where event_name <> 'push_received'
"""


def write_events(folder: Path, events: int) -> list[Path]:
    """The events of 28 days, a file a day as a lake has them, in no order of persons."""
    persons = events * ONE_DAY_IN // (EVENTS_A_DAY * HISTORY_DAYS)
    files = []
    for ago in range(HISTORY_DAYS):
        start = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(days=ago)
        person = pl.int_range(persons).hash(seed=0)
        acting = pl.select(person=person).filter(pl.int_range(pl.len()).hash(seed=ago) % ONE_DAY_IN == 0)
        number = pl.int_range(pl.len())
        rows = (
            acting.select(pl.col("person").repeat_by(EVENTS_A_DAY).explode())
            .sample(fraction=1, shuffle=True, seed=ago)
            .select(
                person_id=pl.format("u:user-{}", "person"),
                event_name=pl.when(number % 50 == 0).then(pl.lit("push_received")).otherwise(pl.lit("page_viewed")),
                occurred_at=pl.lit(start) + pl.duration(seconds=number.hash(seed=1) % 86_400),
            )
        )
        files.append(folder / f"{start.date()}.parquet")
        rows.write_parquet(files[-1], compression="zstd", compression_level=1)
    return files


def ours(folder: Path, files: list[Path]) -> Callable[[], tuple[int, ...]]:
    """The new day from its own events and the histories of the day before; its histories are written, too."""
    before, after = folder / "histories-before.parquet", folder / "histories-after.parquet"
    past = active_days(pl.scan_parquet(files[1:]), ZONE, PASSIVE)
    collected(history_before(past, DAY)).write_parquet(before)

    def roll() -> tuple[int, ...]:
        today = active_days(pl.scan_parquet(files[0]), ZONE, PASSIVE)
        rolled = collected(next_day(pl.scan_parquet(before), today))
        rolled.write_parquet(after, compression="zstd", compression_level=1)
        return collected(active_users(rolled, by=())).select("dau", "wau", "mau").row(0)

    return roll


def theirs(files: list[Path]) -> Callable[[], tuple[int, ...]]:
    """Distinct persons in 28 days of events, exact, by DuckDB."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    today = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    told = {"today": today, "week": today - timedelta(days=6), "files": [str(file) for file in files]}

    def count() -> tuple[int, ...]:
        row = connection.execute(_IN_SQL, told).fetchone()
        assert row is not None
        return tuple(row)

    return count


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.actives", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few events, to see that it runs")
    small = parser.parse_args().small
    sizes, repetitions = ((200_000,), 2) if small else ((2_000_000, 5_000_000, 20_000_000), 3)
    rows, measured = [], []
    for events in sizes:
        with report.scratch("actives") as folder:
            files = write_events(folder, events)
            roll, count = ours(folder, files), theirs(files)
            assert roll() == count(), "not the same numbers"

            def one(timed: Callable[[], object] = roll) -> Prepared:
                return timed

            def other(timed: Callable[[], object] = count) -> Prepared:
                return timed

            seconds = in_turn({"ours": one, "DuckDB": other}, repetitions)
            share = ratio(seconds["ours"], seconds["DuckDB"])
            cores = _cpu_seconds(count) / _cpu_seconds(roll)
            of_day, of_window = (_rows(files[:1]), _rows(files))
            histories = _rows([folder / "histories-before.parquet"])
        rows.append(
            [
                f"{of_window:,}",
                f"{histories:,}",
                seconds["ours"].shown(3),
                seconds["DuckDB"].shown(3),
                share.shown(1),
                f"{cores:.1f}",
                f"{of_window / (of_day + histories):.1f}",
            ]
        )
        measured.append(
            {
                "events": of_window,
                "events_of_the_day": of_day,
                "histories": histories,
                "ours_seconds": seconds["ours"].as_json(),
                "duckdb_seconds": seconds["DuckDB"].as_json(),
                "ratio": share.as_json(),
                "cpu_ratio": cores,
                "aim": AIM,
            }
        )
    report.write(
        "actives",
        small=small,
        columns=[
            "events in 28 days",
            "persons",
            "new day (s)",
            "DuckDB count(distinct) (s)",
            "ratio",
            "CPU, ratio",
            "rows read, ratio",
        ],
        rows=rows,
        measured={"sizes": measured},
        notes=[
            f"The aim is a ratio of {AIM}. Both read Parquet, a file a day; ours writes the day's histories besides.",
            f"DAU / MAU is about 1 in {ONE_DAY_IN}, {EVENTS_A_DAY} events a person and active day.",
        ],
    )
    return 0


def _cpu_seconds(work: Callable[[], object]) -> float:
    """What some work takes of all cores: the least of three, which others on the machine disturb the least."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def _rows(files: list[Path]) -> int:
    return int(pl.scan_parquet(files).select(pl.len()).collect().item())


if __name__ == "__main__":
    sys.exit(main())
