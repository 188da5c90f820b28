"""`advance` and `advance_changes`: op jobs that hold a stream for a lease and take in one micro-batch after another.

They have no partition and no ranges in their configuration: what there is to do comes from the progress in the lake.
Each is the only writer of its stream (a pool with one slot), and if it were not, the second writer is fenced. The
materializations that they log are for display only. One stream that stands still keeps the other from nothing.
"""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import dagster as dg

from partitions import Window
from platform_assets.bronze import dead_letters, oltp_changes
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.gold import live_metrics
from platform_assets.platform import Platform
from platform_assets.quality.metadata import whole_metadata
from platform_assets.silver import events, late_arrivals, outcomes, quarantine, row_changes
from platform_assets.streams.change_batches import ChangeBatches, ChangeStep
from platform_assets.streams.micro_batches import MicroBatches, Step
from platform_assets.streams.stream import EVENT_STREAMS, OLTP_CHANGES

STREAMS_POOL = "streams"
"""The pool whose one slot the writer of the streams takes."""

CHANGES_POOL = "changes"
"""The pool whose one slot the writer of the database's changes takes."""

POSITION_TAG = "headwater/position"
"""Tag of an `advance` run: the progress at which it was requested."""

_DISPLAY_EVERY = timedelta(minutes=1)
_SHOWN_AT_ONCE = 6


Touched = dict[str, dict[datetime, int]]
"""Per table, the touched hours and how many rows or records of each came."""

_BY_INGESTION = (dead_letters.TABLE, quarantine.TABLE, outcomes.TABLE)
_BY_EVENT = (events.TABLE, late_arrivals.TABLE, live_metrics.TABLE)


_CHANGES_BY_INGESTION = (oltp_changes.TABLE, dead_letters.TABLE, quarantine.TABLE)
_CHANGES_WHOLE = (row_changes.TABLE, *(dimension.table for dimension in DIMENSIONS))


class AnyStep(Protocol):
    """What a micro-batch of any stream tells."""

    @property
    def has_more(self) -> bool: ...  # noqa: D102


S_co = TypeVar("S_co", bound=AnyStep, covariant=True)
S = TypeVar("S", bound=AnyStep)


class Batches(Protocol[S_co]):
    """The writer of a stream."""

    def catch_up(self) -> None: ...  # noqa: D102
    def step(self) -> S_co | None: ...  # noqa: D102


def touched_by(step: Step) -> Touched:
    """The hours of each table that a micro-batch touched."""
    ingested: dict[datetime, int] = defaultdict(int)
    for hours in step.received.values():
        for hour, records in hours.items():
            ingested[hour] += records
    return (
        {name: dict(hours) for name, hours in step.received.items()}
        | {table.name: dict(ingested) for table in _BY_INGESTION}
        | {table.name: step.event_hours for table in _BY_EVENT}
    )


def changed_by(step: ChangeStep) -> Touched:
    """The hours of each table that a micro-batch of changes touched."""
    return {table.name: step.ingestion_hours for table in _CHANGES_BY_INGESTION}


WRITERS: Mapping[str, type[MicroBatches] | type[ChangeBatches]] = {
    **{stream.name: MicroBatches for stream in EVENT_STREAMS},
    OLTP_CHANGES.name: ChangeBatches,
}
"""The writer of each stream, by its name."""


class Display:
    """The touched hours, told to Dagster as materializations: for people to see, nothing rests on them."""

    def __init__(self, context: dg.OpExecutionContext, platform: Platform) -> None:
        self._context = context
        self._platform = platform
        self._told_at = time.monotonic()
        self.untold: Touched = defaultdict(lambda: defaultdict(int))

    def add(self, touched: Touched) -> None:
        """Take note of touched hours."""
        for name, hours in touched.items():
            for hour, rows in hours.items():
                self.untold[name][hour] += rows

    def tell_newest(self) -> None:
        """Once a minute, log a materialization for the newest touched hours.

        Each costs tens of milliseconds, in which no micro-batch runs: so the older hours wait for the end.
        """
        if time.monotonic() - self._told_at >= _DISPLAY_EVERY.total_seconds():
            self._told_at = time.monotonic()
            self.tell(newest=_SHOWN_AT_ONCE)

    def tell(self, newest: int | None = None) -> None:
        """Log a materialization for each touched hour of each table, or for the newest ones only."""
        watermark = self._platform.watermark()
        for name, hours in self.untold.items():
            for hour in sorted(hours, reverse=True)[:newest]:
                rows = hours.pop(hour)
                for key in self._platform.partitions.keys("hour", Window.of_hour(hour)):  # none before the first one
                    metadata: dict[str, dg.MetadataValue] = {"records taken in": dg.MetadataValue.int(rows)}
                    if watermark is not None:
                        metadata["watermark"] = dg.MetadataValue.timestamp(watermark)
                    shown = dg.AssetMaterialization(asset_key=name.split("/"), partition=key, metadata=metadata)
                    self._context.log_event(shown)


@dg.op(pool=STREAMS_POOL, description="Kafka → bronze → silver → live metrics, micro-batch by micro-batch.")
def advance_events(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> Touched:
    """Hold the streams of events until they are quiet or the lease ends."""
    with platform.source() as source, MicroBatches(platform.lake, source, platform.settings) as batches:
        return _hold(context, platform, batches, touched_by)


@dg.op(pool=CHANGES_POOL, description="Kafka → bronze → row changes → dimensions, micro-batch by micro-batch.")
def advance_oltp_changes(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> Touched:
    """Hold the changes' stream until it is quiet or the lease ends."""
    shown = _ChangedTables(context, platform)

    def touched(step: ChangeStep) -> Touched:
        shown.add(step)
        return changed_by(step)

    with platform.source() as source, ChangeBatches(platform.lake, source, platform.settings) as batches:
        untold = _hold(context, platform, batches, touched)
    shown.tell(timedelta(0))
    return untold


class _ChangedTables:
    """The tables without partitions that changed, told to Dagster at most once a minute each."""

    def __init__(self, context: dg.OpExecutionContext, platform: Platform) -> None:
        self._context = context
        self._platform = platform
        self._told_at: dict[str, float] = {}
        self._untold: set[str] = set()

    def add(self, step: ChangeStep) -> None:
        """Take note of a step, and tell what was not told for a while."""
        self._untold |= {*step.dimensions, *([row_changes.TABLE.name] if step.changes else [])}
        self.tell(_DISPLAY_EVERY)

    def tell(self, every: timedelta) -> None:
        """Log a materialization of each changed table that was last told so long ago, or never."""
        now = time.monotonic()
        for table in _CHANGES_WHOLE:
            name = table.name
            if name in self._untold and now - self._told_at.get(name, -1e9) >= every.total_seconds():
                self._context.log_event(
                    dg.AssetMaterialization(asset_key=table.asset_key, metadata=whole_metadata(self._platform, table))
                )
                self._told_at[name] = now
                self._untold.discard(name)


def _hold(
    context: dg.OpExecutionContext, platform: Platform, batches: Batches[S], touched: Callable[[S], Touched]
) -> Touched:
    """Take in one micro-batch after another, until the stream is quiet or the lease ends. Returns what is untold."""
    settings = platform.settings
    ends = time.monotonic() + settings.lease.total_seconds()
    quiet_since = None
    display = Display(context, platform)
    batches.catch_up()
    while (now := time.monotonic()) < ends:
        step = batches.step()
        if step is None:
            quiet_since = quiet_since or now
            if now - quiet_since > settings.quiet_after.total_seconds():
                break
        else:
            quiet_since = None
            display.add(touched(step))
            context.log.debug(f"micro-batch: {step}")
        display.tell_newest()
        if step is None or not step.has_more:  # a backlog is eaten without a pause
            pause = now + settings.trigger_interval.total_seconds() - time.monotonic()
            time.sleep(max(0.0, min(pause, ends - time.monotonic())))
    return {name: dict(hours) for name, hours in display.untold.items()}


@dg.op(description="Show the hours that were touched as materializations. The streams are free meanwhile.")
def show_touched_hours(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform], touched: Touched) -> None:
    """Tell Dagster of the touched hours that it was not told of yet."""
    display = Display(context, platform)
    display.add(touched)
    display.tell()


@dg.job(
    description="Take in what is new in Kafka, up to the live metrics. Requested by the sensor `micro_batches`.",
    executor_def=dg.in_process_executor,
)
def advance() -> None:
    """Hold the streams for a lease."""
    show_touched_hours(advance_events())


@dg.job(
    description="Take in what changed in the database, up to the dimensions. Requested by the sensor `changes`.",
    executor_def=dg.in_process_executor,
)
def advance_changes() -> None:
    """Hold the changes' stream for a lease."""
    show_touched_hours(advance_oltp_changes())
