"""What a micro-batch costs at 1, 10 and 100 million rows of history: `python -m benchmarks.growth [--small]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl
from rich.console import Console

from benchmarks import past, report
from benchmarks.timing import PARTS, Spread, other, watched
from benchmarks.traffic import RATE, Deck, Traffic
from platform_assets.bronze import client_events, dead_letters
from platform_assets.gold import live_metrics
from platform_assets.maintenance import compact
from platform_assets.silver import events, late_arrivals, outcomes, quarantine, touched_hours
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.tables import create_tables
from resources.lake import Lake, Writer, disk_usage
from resources.records import Batch, Held, Position, advanced
from resources.settings import Settings

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
"""When the micro-batches arrive. The history ends here."""


WRITTEN = tuple(
    module.TABLE
    for module in (
        *(client_events, dead_letters, quarantine, late_arrivals, events),
        *(outcomes, live_metrics, touched_hours),
    )
)
"""The tables that a micro-batch commits to."""


@dataclass
class Given:
    """A `resources.records.RecordSource` that hands out what it was given, batch by batch."""

    waiting: list[pl.DataFrame] = field(default_factory=list)

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        return {partition: Held(0, 2**40) for partition in range(4)}

    def identity(self, topic: str) -> int | None:
        return None

    def read(self, position: Position, max_records: int, max_bytes: int) -> Batch | None:
        if not self.waiting:
            return None
        records = self.waiting.pop(0)
        return Batch(records, position, advanced(position, records))


@dataclass(frozen=True)
class Size:
    """One point of the curve.

    Attributes:
        days: Of history, the newest one the half day before `NOW`.
        rows_per_day: Of each.
        log_entries: The least length of the log of each table that micro-batches write.
        unmaintained: Micro-batches since the small files were last compacted, besides those measured.
    """

    days: int
    rows_per_day: int
    log_entries: int = 0
    unmaintained: int = 3

    @property
    def rows(self) -> int:
        """In all."""
        return self.days * self.rows_per_day


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--small", action="store_true", help="1, 2 and 5 days of few rows, to see that it runs")
    small = parser.parse_args().small
    rows_per_day, days = (40_000, (1, 2, 5)) if small else (1_000_000, (1, 10, 100))
    # At one micro-batch in 2 s, the last one is a day of them.
    logs = (300, 1_000) if small else (1_000, 5_000, 43_200)
    piled_up = (10, 20) if small else (100, 300)
    steps = [
        *(Size(count, rows_per_day) for count in days),
        *(Size(days[-1], rows_per_day, unmaintained=count) for count in piled_up),
        *(Size(days[-1], rows_per_day, log_entries=count) for count in logs),
    ]
    size, repetitions = (2_000, 3) if small else (10_000, 15)
    console = Console(stderr=True)
    with report.scratch("growth") as folder, console.status("") as status:
        lake = Lake(str(folder / "lake"))
        create_tables(lake)
        source = Given()
        offsets: dict[int, int] = {}
        records = past.batches(Traffic(Deck(), int(NOW.timestamp() * 1e6)).records(), size, offsets)
        status.update("the template")
        rows = past.template(rows_per_day // past.FILES_PER_DAY)
        measured, built = [], 0
        for step in steps:
            shown = f"{step.rows:,} rows, {step.unmaintained} micro-batches, {step.log_entries:,} log entries"
            status.update(f"history of {shown}")
            built = _grow(lake, rows, built, step)
            status.update(f"micro-batches at {shown}")
            source.waiting = [next(records) for _ in range(repetitions + step.unmaintained)]
            measured.append(_measured(lake, source, size, step))
        assert sum(offsets.values()) == sum(repetitions + step.unmaintained for step in steps) * size
    _report(measured, small=small, size=size)
    return 0


def _grow(lake: Lake, rows: pl.DataFrame, built: int, size: Size) -> int:
    """Add older days until there are as many as wanted, and make the logs as long."""
    for number in range(built, size.days):
        day = (NOW - timedelta(days=number)).date()
        hours = 11.75 if number == 0 else 24.0  # the newest files are those of the micro-batches
        past.write_day(lake, rows, day, hours, number * past.FILES_PER_DAY, past.FILES_PER_DAY)
    for table in WRITTEN:
        if (missing := size.log_entries - lake.open(table).version()) > 0:
            past.lengthen_log(lake, table, missing)
        compact(lake, table)
    version = lake.open(events.TABLE).version()
    for table in (outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE):  # the past is not what they are to count
        follower = Writer(lake, table)
        if (follower.progress(events.FOLLOWS) or 0) < version:
            follower.record({events.FOLLOWS: version})
    return size.days


def _measured(lake: Lake, source: Given, size: int, step: Size) -> dict[str, object]:
    settings = Settings(micro_batch_records=size)
    entries = lake.open(events.TABLE).version()
    batches = MicroBatches(lake, source, settings)
    began = time.perf_counter()
    batches.catch_up()
    opened = time.perf_counter() - began
    for _ in range(step.unmaintained):  # so that the copies in the first batches that count have an original, too
        batches.step()
    wholes: list[float] = []
    parts: dict[str, list[float]] = {part: [] for part in (*PARTS, "other")}
    duplicates = 0
    while source.waiting:
        with watched() as spent:
            began = time.perf_counter()
            done = batches.step()
            whole = time.perf_counter() - began
        assert done is not None
        duplicates += done.duplicates
        wholes.append(whole)
        for part in PARTS:
            parts[part].append(spent.get(part, 0.0))
        parts["other"].append(other(whole, spent))
    assert duplicates > 0
    return {
        "rows": step.rows,
        "days": step.days,
        "log_entries": entries,
        "micro_batches_since_maintenance": step.unmaintained,
        "silver": disk_usage(lake.open(events.TABLE)),
        "opening_ms": 1e3 * opened,
        "duplicates_found": duplicates,
        "whole": Spread(tuple(wholes)),
        "parts": {part: Spread(tuple(values)) for part, values in parts.items()},
    }


def _report(measured: list[dict[str, object]], *, small: bool, size: int) -> None:
    shown = ("whole", *(part for part in (*PARTS, "other") if part != "read"))

    def spreads(one: Mapping[str, object]) -> dict[str, Spread]:
        return {"whole": one["whole"], **one["parts"]}  # type: ignore[dict-item]

    first = spreads(measured[0])["whole"].median
    rows = [
        [
            f"{one['rows']:,}",
            one["micro_batches_since_maintenance"],
            one["silver"]["files"],  # type: ignore[index]
            f"{one['log_entries']:,}",
            *(
                spreads(one)[part].shown(0, 1e3) if part == "whole" else f"{spreads(one)[part].median * 1e3:,.0f}"
                for part in shown
            ),
            f"{spreads(one)['whole'].median / first:.2f}",
        ]
        for one in measured
    ]
    report.write(
        "growth",
        small=small,
        columns=[
            "rows of history",
            "micro-batches since maintenance",
            "files",
            "log entries",
            *(f"{part}, ms" for part in shown),
            "× the least",
        ],
        rows=rows,
        measured={
            "records_per_micro_batch": size,
            "rate": RATE,
            "sizes": [
                {**one, "whole": None, "parts": None}
                | {"seconds": {part: spread.as_json() for part, spread in spreads(one).items()}}
                for one in measured
            ],
        },
        notes=[
            (
                f"A micro-batch is {size:,} events, 1 % of them up to 6.9 days late, 2 % repeats. Medians; the whole "
                "with its least and most."
            ),
            (
                "Log entries: files in the log of each table that a micro-batch commits to. A micro-batch every 2 s "
                "makes 43,200 a day, and they stay as long as the log retention says."
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
