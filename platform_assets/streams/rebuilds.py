"""Rebuilding the tables that micro-batches feed: a window made equal to the function of what is above it.

Each reads what is above it at the table's own recorded progress and writes on the handle whose progress it read, so
a rebuild while micro-batches flow loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import polars as pl

from partitions import Window, floor_hour
from platform_assets.bronze import dead_letters
from platform_assets.bronze import records as received
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.silver import admissions, events, late_arrivals, outcomes, quarantine, row_changes
from platform_assets.silver.judgement import Judgement
from platform_assets.silver.outcomes import Tallies
from platform_assets.streams import event_rebuild
from platform_assets.streams.judging import Judging, rules_of
from platform_assets.streams.stream import EVENT_STREAMS, OLTP_CHANGES, STREAMS, Stream
from platform_assets.table import Table
from resources.lake import retrying, within
from resources.records import RECORD_SCHEMA, in_ranges


def rebuild_from_records(
    platform: Platform,
    table: Table,
    window: Window,
    rows: Callable[[Judgement], pl.DataFrame],
    streams: Sequence[Stream] = STREAMS,
    reach: timedelta = timedelta(0),
) -> None:
    """Make a window of a table equal to what its bronze records say, up to the table's own progress.

    Args:
        platform: The platform.
        table: A table that has a row, or none, for each bronze record.
        window: The window of the table.
        rows: What the table takes of a judgement.
        streams: The streams that feed it.
        reach: How long after the window's end its records may have been ingested; 0 for a table laid out by
            ingestion.

    Raises:
        RebuildRefused: Bronze no longer holds all the records of the window.
    """
    lake, judgings = platform.lake, _judgings(platform, streams)
    for judging in judgings:
        received.refuse_if_gone(lake, judging.stream.table, table.name, window)
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> int:
            handle = lake.open(table)
            ingested = Window(part.start - timedelta(hours=1), part.end + reach) if reach else part
            judged = [table.empty()]
            for judging in judgings:
                level = admissions.level(handle, judging.stream.name)
                records = lake.scan(judging.stream.table, ingested).select(RECORD_SCHEMA.names()).collect()
                if reach:  # a replay may have let in what came later than that
                    records = pl.concat([records, judging.admitted_late(part, ingested, level)])
                progress = received.progress_of(handle, records)
                judged.append(rows(judging.again(records.filter(in_ranges({}, progress)), level)))
            return lake.replace(table, handle, pl.concat(judged).filter(within(table, part)), part)

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
        streams=EVENT_STREAMS,
        reach=platform.settings.allowed_lateness,
    )


def rebuild_received(stream: Stream, platform: Platform, window: Window) -> None:
    """Read a window's records of a stream from Kafka again; see `bronze.records.rebuild`."""
    with platform.source() as source:
        received.rebuild(platform.lake, stream.table, source, window)


def rebuild_row_changes(platform: Platform) -> None:
    """Decode all change events again, a day of arrival at a time."""
    ingested = platform.lake.scan(OLTP_CHANGES.table).select(
        first=pl.col("ingested_at").min(), last=pl.col("ingested_at").max()
    )
    first, last = ingested.collect().row(0)
    if first is None:
        return
    window = Window(floor_hour(first), floor_hour(last) + timedelta(hours=1))
    rebuild_from_records(
        platform, row_changes.TABLE, window, lambda judgement: judgement.accepted, streams=(OLTP_CHANGES,)
    )


def rebuild_events(platform: Platform, window: Window) -> None:
    """Judge a window's records again and tell duplicates again; see `event_rebuild.rebuild`."""
    judgings = _judgings(platform, EVENT_STREAMS)
    for part in window.split(REBUILD_AT_ONCE):
        event_rebuild.rebuild(platform.lake, judgings, part)


def rebuild_outcomes(platform: Platform, window: Window) -> None:
    """Make a window of `silver/outcomes` equal to a count over bronze and silver.

    It is counted at the version of silver that the table has taken in, over the records that silver had taken in
    by then, so micro-batches may go on meanwhile.

    Raises:
        RebuildRefused: Bronze no longer holds all the records of the window.
    """
    lake, judgings = platform.lake, _judgings(platform, EVENT_STREAMS)
    for judging in judgings:
        received.refuse_if_gone(lake, judging.stream.table, outcomes.TABLE.name, window)
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> int:
            handle = lake.open(outcomes.TABLE)
            version = handle.transaction_version(events.FOLLOWS) or 0
            silver = lake.open(events.TABLE, version)
            judged = []
            for judging in judgings:
                records = lake.scan(judging.stream.table, part).select(RECORD_SCHEMA.names()).collect()
                known = records.filter(in_ranges({}, received.progress_of(silver, records)))
                judged.append(judging.again(known, admissions.level(silver, judging.stream.name)).tallies())
            arrived = (pl.col("ingested_at") >= part.start) & (pl.col("ingested_at") < part.end)
            stored = lake.scan(events.TABLE, handle=silver).filter(arrived).select(events.FOLLOWED).collect()
            rows = outcomes.transform(
                Tallies.total(judged), outcomes.tally(stored), outcomes.tally(stored.clear()), version
            )
            return lake.replace(outcomes.TABLE, handle, rows, part)

        retrying(f"rebuild of {outcomes.TABLE.name}", attempt)


def _judgings(platform: Platform, streams: Sequence[Stream]) -> list[Judging]:
    """The judges of streams, over one set of rules."""
    rules = rules_of(platform.lake, platform.settings)
    return [Judging(platform.lake, stream, rules) for stream in streams]
