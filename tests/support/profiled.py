"""Profiles of hours that never were: history for checks of anomalies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from partitions import Window
from platform_assets.quality import profiles
from platform_assets.table import Table
from support.platforms import Run

Count = tuple[str, str, str | None, int, int]
"""Measure, subject, value, how many, of how many."""


def invent(run: Run, table: Table, hours: Mapping[datetime, Sequence[Count]]) -> None:
    """Put profiles of a table into the lake, for hours without a gap, and nothing else of these hours."""
    rows = [(table.name, hour, *count, hour.date()) for hour, counts in hours.items() for count in counts]
    frame = pl.DataFrame(rows, schema=profiles.TABLE.schema, orient="row")
    window = Window(min(hours), max(hours) + timedelta(hours=1))
    run.lake.replace(profiles.TABLE, run.lake.open(profiles.TABLE), frame, window)
    run.platform.record(profiles.TABLE, window, table, 10**6, 1, frame.height)
