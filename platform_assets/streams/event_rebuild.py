"""A window of `silver/events` made equal to what bronze says, while micro-batches go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window, floor_hour
from platform_assets.bronze import records as received
from platform_assets.silver import admissions, events, late_arrivals
from platform_assets.streams.judging import Judging
from platform_assets.table import Table
from resources.lake import Lake, retrying
from resources.records import COORDINATES, RECORD_SCHEMA, in_ranges

Levels = tuple[int, ...]
"""The newest admission of each stream."""


@dataclass(frozen=True)
class _Made:
    """A window's events as of a version of silver.

    Attributes:
        rows: Of `silver/events`, duplicates among them.
        progress: How far silver had taken in the records that were read.
        levels: The admissions that silver had taken in.
    """

    rows: pl.DataFrame
    progress: Mapping[tuple[str, int, int], int]
    levels: Levels


def rebuild(lake: Lake, judgings: Sequence[Judging], window: Window) -> None:
    """Make a window of event hours equal to what bronze says, up to the table's own progress.

    Micro-batches may go on meanwhile: what they append after the progress that was read is folded in. Nothing
    is lost and nothing doubled. Where they let in what a replay admitted, the window is made anew.

    Args:
        lake: The lake.
        judgings: Of the streams that feed it.
        window: The event hours.

    Raises:
        RebuildRefused: Bronze no longer holds all that the window was made from.
        ConflictNotResolved: Micro-batches came in between at every attempt.
    """
    for judging in judgings:
        received.refuse_if_gone(lake, judging.stream.table, events.TABLE.name, window)
    made = _made(lake, judgings, lake.open(events.TABLE), window)

    def attempt() -> None:
        nonlocal made
        fresh = lake.open(events.TABLE)
        if made.levels != _levels(judgings, fresh):
            made = _made(lake, judgings, fresh, window)
        since = lake.scan(events.TABLE, window, fresh).filter(~in_ranges({}, made.progress)).collect()
        rows = pl.concat([made.rows, since.select(events.TABLE.schema.names())])
        found = events.arrivals(lake, fresh, rows, outside=window)
        also_remove = None if found.displaced.is_empty() else events.sql_displaced(found.displaced)
        lake.replace(events.TABLE, fresh, found.kept, window, also_remove=also_remove)

    retrying(f"rebuild of {events.TABLE.name}", attempt)


def _made(lake: Lake, judgings: Sequence[Judging], handle: DeltaTable, window: Window) -> _Made:
    """A window's events, up to the progress of a handle; it was opened before bronze is read."""
    levels, rows = _levels(judgings, handle), [events.TABLE.empty()]
    progress: dict[tuple[str, int, int], int] = {}
    inside = (pl.col("occurred_at") >= window.start) & (pl.col("occurred_at") < window.end)
    for judging, level in zip(judgings, levels, strict=True):
        bronze = lake.open(judging.stream.table)
        candidates = pl.concat(read(lake, judging.stream.table, bronze, window) for read in (_on_time, _late))
        taken_in = received.progress_of(handle, candidates)
        judgement = judging.again(candidates.filter(in_ranges({}, taken_in)), level)
        rows.append(events.transform(judgement.accepted.filter(inside)))
        progress |= taken_in
    return _Made(pl.concat(rows), progress, levels)


def _levels(judgings: Sequence[Judging], handle: DeltaTable) -> Levels:
    return tuple(admissions.level(handle, judging.stream.name) for judging in judgings)


def _ingestion_hours(window: Window) -> Window:
    """The hours in which the records of a window's events came if on time: the events' hours and the one after."""
    last = window.end - timedelta(microseconds=1)
    return Window(floor_hour(window.start), floor_hour(last) + timedelta(hours=2))


def _on_time(lake: Lake, table: Table, bronze: DeltaTable, window: Window) -> pl.DataFrame:
    return lake.scan(table, _ingestion_hours(window), bronze).select(RECORD_SCHEMA.names()).collect()


def _late(lake: Lake, table: Table, bronze: DeltaTable, window: Window) -> pl.DataFrame:
    """The bronze records of the window's events that came late, and are not in the hours read as on time."""
    reach = _ingestion_hours(window)
    is_beyond = (pl.col("ingested_at") < reach.start) | (pl.col("ingested_at") >= reach.end)
    late = lake.scan(late_arrivals.TABLE, window).filter(is_beyond).collect()
    if late.is_empty():
        return pl.DataFrame(schema=RECORD_SCHEMA)
    return (
        lake.scan(table, handle=bronze)
        .filter(
            pl.col("ingestion_date").is_in(late["ingested_at"].dt.date().unique().implode())
            & pl.col("offset").is_between(late["offset"].min(), late["offset"].max())
        )
        .join(late.lazy().select(COORDINATES), on=COORDINATES, how="semi")
        .select(RECORD_SCHEMA.names())
        .collect()
    )
