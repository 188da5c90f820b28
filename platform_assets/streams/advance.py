"""`advance`: the op job that holds the streams for a lease and takes in one micro-batch after another.

It has no partition and no ranges in its configuration: what there is to do comes from the progress in the lake.
It is the only writer of the streams (a pool with one slot), and if it were not, the second writer is fenced. The
materializations that it logs are for display only.
"""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

import time
from collections import defaultdict
from datetime import datetime, timedelta

import dagster as dg

from partitions import Window
from platform_assets.bronze import client_events, dead_letters
from platform_assets.gold import live_metrics
from platform_assets.platform import Platform
from platform_assets.silver import events, late_arrivals, outcomes, quarantine
from platform_assets.streams.micro_batches import MicroBatches, Step

STREAMS_POOL = "streams"
"""The pool whose one slot the writer of the streams takes."""

POSITION_TAG = "headwater/position"
"""Tag of an `advance` run: the progress at which it was requested."""

_DISPLAY_EVERY = timedelta(minutes=1)
_SHOWN_AT_ONCE = 6


Touched = dict[str, dict[datetime, int]]
"""Per table, the touched hours and how many rows or records of each came."""

_BY_INGESTION = (client_events.TABLE, dead_letters.TABLE, quarantine.TABLE, outcomes.TABLE)
_BY_EVENT = (events.TABLE, late_arrivals.TABLE, live_metrics.TABLE)


def touched_by(step: Step) -> Touched:
    """The hours of each table that a micro-batch touched."""
    return {table.name: step.ingestion_hours for table in _BY_INGESTION} | {
        table.name: step.event_hours for table in _BY_EVENT
    }


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
def advance_client_events(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> Touched:
    """Hold the client events' stream until it is quiet or the lease ends."""
    settings = platform.settings
    ends = time.monotonic() + settings.lease.total_seconds()
    quiet_since = None
    display = Display(context, platform)
    with platform.source() as source, MicroBatches(platform.lake, source, settings) as batches:
        batches.catch_up()
        while (now := time.monotonic()) < ends:
            step = batches.step()
            if step is None:
                quiet_since = quiet_since or now
                if now - quiet_since > settings.quiet_after.total_seconds():
                    break
            else:
                quiet_since = None
                display.add(touched_by(step))
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
    show_touched_hours(advance_client_events())
