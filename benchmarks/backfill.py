"""A month's backfill of every gold table by the day, in a process each: `python -m benchmarks.backfill [--small]`.

Day after day, as somebody would fill a month anew. The time of a day must not grow with the days that are there, nor
memory with anything but a day.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from rich.console import Console

from benchmarks import past, report
from partitions import Window
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    live_metrics,
    person_day_slices,
    person_days,
    sessions,
)
from platform_assets.gold.metric_numbers import own_numbers
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, events, identity_links, person_firsts, persons
from platform_assets.streams.epochs import WATERMARK_APP
from platform_assets.table import Table
from platform_assets.tables import create_tables
from resources.lake import Lake, Writer
from resources.settings import Settings

FIRST = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = 30
COMPARED = 10
"""The last so many days against the first so many: the slope."""

SILVER = "silver"
"""What is there before gold, in a process of its own, too: memory that one took is not the next one's."""

_LIVE = 4 * 3_600.0
"""Longest that one table may take, in seconds."""

Rebuild = Callable[[Platform, Window], None]


def gold() -> dict[str, tuple[Table, Rebuild]]:
    """The gold tables that events make, by name, in the order in which data flows.

    `gold/revenue` is not among them: it is of the database's orders, not of a day's events.
    """
    declared = (
        live_metrics,
        fact_events,
        person_days,
        active_users,
        person_day_slices,
        active_users_by_slice,
        sessions,
        conversions,
    )
    made: dict[str, tuple[Table, Rebuild]] = {module.TABLE.name: (module.TABLE, module.rebuild) for module in declared}
    return {**made, **{number.table.name: (number.table, number.rebuild) for number in own_numbers()}}


def day(number: int) -> Window:
    """One of the days, from 0, UTC."""
    return Window(FIRST + timedelta(days=number), FIRST + timedelta(days=number + 1))


def write_silver(platform: Platform, rows_per_day: int, days: int) -> dict[str, Any]:
    """Write the events of the days, and what silver has of them."""
    lake = platform.lake
    create_tables(lake)
    template = past.template(max(100, rows_per_day // past.FILES_PER_DAY))
    for number in range(days):
        of_day = day(number).start.date()
        past.write_day(lake, template, of_day, 24.0, number * past.FILES_PER_DAY, past.FILES_PER_DAY)
    ended = Writer(lake, events.TABLE)
    ended.progress(WATERMARK_APP)
    ended.record({WATERMARK_APP: int(day(days).start.timestamp() * 1e6)})
    for number in range(days):
        activity_hours.rebuild(platform, day(number))
        identity_links.rebuild(platform, day(number))
    persons.resolve(platform)
    person_firsts.rebuild(platform)
    return {"rows": _rows(lake, events.TABLE)}


def fill(platform: Platform, name: str, days: int) -> dict[str, Any]:
    """Compute the days of a table, one after another: the seconds of each, and the rows that there are then."""
    table, rebuild = gold()[name]
    seconds = []
    for number in range(days):
        began = time.perf_counter()
        rebuild(platform, day(number))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "rows": _rows(platform.lake, table)}


def slope(seconds: list[float]) -> float:
    """How much longer the last days took than the first ones, by their medians: 1 is as long."""
    compared = min(COMPARED, len(seconds) // 2)
    return statistics.median(seconds[-compared:]) / statistics.median(seconds[:compared])


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few events of six days, to see that it runs")
    parser.add_argument("--rows", type=int, help="events a day, instead of a million")
    parser.add_argument(
        "--only", nargs="+", choices=list(gold()), help="some tables; what they need must be named, too"
    )
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # what a process of its own does
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows_per_day = options.rows or (8_000 if options.small else 1_000_000)
    days = 6 if options.small else DAYS
    if options.alone is not None:
        platform = Platform.from_settings(Settings(lake_url=options.lake, start_date=FIRST.date()))
        before = report.peak_gib()
        is_silver = options.alone == SILVER
        told = write_silver(platform, rows_per_day, days) if is_silver else fill(platform, options.alone, days)
        print(json.dumps({**told, "before_gib": before, "peak_gib": report.peak_gib()}))
        return 0
    rows, measured = [], []
    console = Console(stderr=True)
    with report.scratch("backfill") as folder, console.status("") as status:
        for name in (SILVER, *(options.only or gold())):
            status.update(name)
            command = [sys.executable, "-m", "benchmarks.backfill", "--alone", name, "--lake", str(folder / "lake")]
            command += ["--rows", str(rows_per_day), *(["--small"] if options.small else [])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_LIVE)
            told = json.loads(done.stdout.splitlines()[-1])
            measured.append({"table": name, **told})
            if name == SILVER:
                continue
            seconds = told["seconds"]
            shown = (f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", f"{slope(seconds):.2f}")
            rows.append([name, f"{told['rows']:,}", *shown, f"{told['peak_gib']:.2f}"])
    report.write(
        "backfill",
        small=options.small,
        columns=["table", "rows", "a day, median (s)", "a day, longest (s)", "last days / first days", "peak (GiB)"],
        rows=rows,
        measured={"days": days, "rows_per_day": rows_per_day, "tables": measured},
        notes=[
            f"{days} days of {rows_per_day:,} events, day after day in one process a table; the aim is a slope of 1.",
            f"Before its first day a process has taken {max(told['before_gib'] for told in measured):.2f} GiB.",
            "A day that looks back takes longer once there is something behind it; its own reach bounds that.",
        ],
    )
    return 0


def _rows(lake: Lake, table: Table) -> int:
    return int(lake.scan(table).select(pl.len()).collect().item())


if __name__ == "__main__":
    sys.exit(main())
