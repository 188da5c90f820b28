"""Rebuilding the tables that micro-batches feed: a window made equal to the function of what is above it.

Each reads what is above it at the table's own recorded progress and writes on the handle whose progress it read, so
a rebuild while micro-batches flow loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import polars as pl

from partitions import Window
from platform_assets.bronze import client_events, dead_letters
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.silver import events, late_arrivals, outcomes, quarantine
from platform_assets.silver.judgement import Judgement, judge
from platform_assets.table import Table
from resources.lake import retrying, within
from resources.records import RECORD_SCHEMA, in_ranges


def rebuild_from_records(
    platform: Platform,
    table: Table,
    window: Window,
    rows: Callable[[Judgement], pl.DataFrame],
    reach: timedelta = timedelta(0),
) -> None:
    """Make a window of a table equal to what its bronze records say, up to the table's own progress.

    Args:
        platform: The platform.
        table: A table that has a row, or none, for each bronze record.
        window: The window of the table.
        rows: What the table takes of a judgement.
        reach: How long after the window's end its records may have been ingested; 0 for a table laid out by
            ingestion.

    Raises:
        RebuildRefused: Bronze no longer holds all the records of the window.
    """
    lake = platform.lake
    client_events.refuse_if_gone(lake, table.name, window)
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> int:
            handle = lake.open(table)
            ingested = Window(part.start - timedelta(hours=1), part.end + reach) if reach else part
            records = lake.scan(client_events.TABLE, ingested).select(RECORD_SCHEMA.names()).collect()
            progress = client_events.progress_of(handle, records)
            judgement = judge(records.filter(in_ranges({}, progress)), platform.settings.allowed_lateness)
            rebuilt = rows(judgement).filter(within(table, part))
            return lake.replace(table, handle, rebuilt, part)

        retrying(f"rebuild of {table.name}", attempt)


def rebuild_dead_letters(platform: Platform, window: Window) -> None:
    """Judge a window's records again, and keep what cannot be decoded."""
    rebuild_from_records(platform, dead_letters.TABLE, window, lambda judgement: judgement.dead_lettered)


def rebuild_quarantine(platform: Platform, window: Window) -> None:
    """Judge a window's records again, and keep what breaks the contract."""
    rebuild_from_records(platform, quarantine.TABLE, window, lambda judgement: judgement.quarantined)


def rebuild_late_arrivals(platform: Platform, window: Window) -> None:
    """Judge again the records that may hold events of a window, and index those that came late."""
    rebuild_from_records(
        platform,
        late_arrivals.TABLE,
        window,
        lambda judgement: late_arrivals.transform(judgement.accepted),
        reach=platform.settings.allowed_lateness,
    )


def rebuild_client_events(platform: Platform, window: Window) -> None:
    """Read a window's records from Kafka again; see `client_events.rebuild`."""
    with platform.source() as source:
        client_events.rebuild(platform.lake, source, window)


def rebuild_events(platform: Platform, window: Window) -> None:
    """Judge a window's records again and tell duplicates again; see `events.rebuild`."""
    for part in window.split(REBUILD_AT_ONCE):
        events.rebuild(platform.lake, platform.settings.allowed_lateness, part)


def rebuild_outcomes(platform: Platform, window: Window) -> None:
    """Make a window of `silver/outcomes` equal to a count over bronze and silver.

    It is counted at the version of silver that the table has taken in, over the records that silver had taken in
    by then, so micro-batches may go on meanwhile.

    Raises:
        RebuildRefused: Bronze no longer holds all the records of the window.
    """
    lake = platform.lake
    client_events.refuse_if_gone(lake, outcomes.TABLE.name, window)
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> int:
            handle = lake.open(outcomes.TABLE)
            version = handle.transaction_version(events.FOLLOWS) or 0
            silver = lake.open(events.TABLE, version)
            records = lake.scan(client_events.TABLE, part).select(RECORD_SCHEMA.names()).collect()
            progress = client_events.progress_of(silver, records)
            judgement = judge(records.filter(in_ranges({}, progress)), platform.settings.allowed_lateness)
            arrived = (pl.col("ingested_at") >= part.start) & (pl.col("ingested_at") < part.end)
            stored = lake.scan(events.TABLE, handle=silver).filter(arrived).select(events.FOLLOWED).collect()
            rows = outcomes.transform(
                *judgement.tallies(), outcomes.tally(stored), outcomes.tally(stored.clear()), version
            )
            return lake.replace(outcomes.TABLE, handle, rows, part)

        retrying(f"rebuild of {outcomes.TABLE.name}", attempt)
