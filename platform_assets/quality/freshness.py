"""Whether what is owed by now is there: partitions that are due, and changes of other tables."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from partitions import Window, floor_hour
from platform_assets.followed import Followed
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, rows_of
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import touched_hours
from platform_assets.streams import epochs
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.table import Table
from resources.delta_log import changed_since

_HOUR = timedelta(hours=1)


def is_there(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether a partition that is due exists.

    A stream's partition is there when the stream has come past it, one of received records when its own topic has, a
    feed's when a file brought rows of it. A rebuilt one is there when it was computed, or when silver has nothing in
    it; one that was computed while it was open, when silver has nothing in what came after. How much of it may still
    come, which the watermark waits for, is `is_complete`'s to judge. Runs judge what they make, too: of what is not due
    yet nothing is owed.
    """
    due_at = window.end + table.service_level
    if platform.clock() < due_at:
        return Verdict(passed=True, description=f"not due before {due_at}")
    if table.update == "landed; rebuild":
        if platform.lake.scan(table).select(pl.len()).collect().item() == 0:
            return Verdict(passed=True, description="no file of this feed was ever taken: none is owed")
        rows = rows_of(platform, table, window).select(pl.len()).collect().item()
        told = f"{rows} rows were delivered for it"
        return Verdict(passed=rows > 0, description=told, observed=rows, least=1, unit="rows")
    if table.update != "rebuild":
        come = _come_to(platform, table)
        if come is None:
            return Verdict(passed=True, description="no event was ever taken in: none is owed")
        told = f"the stream has come to {come}, the partition ends at {window.end}"
        return Verdict.of_wrong(_seconds_short(window, come), "seconds", told)
    lake = platform.lake
    ledger = lake.scan(computations.TABLE).filter(
        (pl.col("table") == table.name) & (pl.col("window_start") < window.end) & (pl.col("window_end") > window.start)
    )
    computed = ledger.select("window_start", "window_end", "computed_at").sort("window_start").collect()
    reached = window.start
    for start, end, at in computed.iter_rows():
        if start <= reached:
            reached = max(reached, min(end, floor_hour(at) + _HOUR))
    short, touched = _seconds_short(window, reached), 0
    if short:
        rest = lake.scan(touched_hours.TABLE, Window(reached, window.end))
        touched = rest.select(pl.len()).collect().item()
    told = f"computed up to {reached}; silver touched the rest {touched} times"
    return Verdict.of_wrong(short if touched else 0, "seconds", told)


def keeping_up_check(table: Table, followed: Followed) -> Check:
    """The check that a table which answers another one's changes has taken them in within its service level.

    A table without partitions owes none, and where nothing changes it need not be materialized: so neither a freshness
    policy nor a due partition tells that it is late.
    """

    def keeps_up(platform: Platform, _table: Table, _window: Window) -> Verdict:
        lake, above = platform.lake, followed.table
        taken_in = lake.open(table).transaction_version(followed.app) or 0
        since = changed_since(lake, above, taken_in)
        waited = timedelta(0) if since is None else platform.clock() - since
        told = f"version {taken_in} of {above.name} is taken in"
        return Verdict(
            passed=waited <= table.service_level,
            description=told if since is None else f"{told}; what changed at {since} is not",
            observed=waited.total_seconds(),
            most=table.service_level.total_seconds(),
            unit="seconds",
        )

    what = f"What changed in {followed.table.name} is taken in within {table.service_level}."
    return Check(table, "keeps_up", keeps_up, what, pillar="freshness")


def _come_to(platform: Platform, table: Table) -> datetime | None:
    """The event time that a stream's table has come to; None before the first event.

    Of received records it is that of their own topic: one that is silent does not hold the watermark back.
    """
    for stream in EVENT_STREAMS:
        if stream.table is table:
            position = epochs.recorded(platform.lake.open(table), stream.required_topic(platform.settings))
            silver = platform.lake.open(stream.silver)
            return None if position is None else epochs.come_to(silver, position, platform.settings.idle_after)
    watermark = platform.watermark()
    return None if watermark is None else watermark + platform.settings.expected_disorder


def _seconds_short(window: Window, reached: datetime) -> float:
    """How much of a window, in seconds, is not there yet."""
    return max(timedelta(0), window.end - reached).total_seconds()
