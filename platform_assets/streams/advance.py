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
from platform_assets.bronze import client_events
from platform_assets.gold import live_metrics
from platform_assets.platform import Platform
from platform_assets.silver import events
from platform_assets.streams.micro_batches import MicroBatches, Step

STREAMS_POOL = "streams"
"""The pool whose one slot the writer of the streams takes."""

POSITION_TAG = "headwater/position"
"""Tag of an `advance` run: the progress at which it was requested."""

_DISPLAY_EVERY = timedelta(minutes=1)
_SHOWN_AT_ONCE = 6


class Display:
    """The touched hours, told to Dagster as materializations: for people to see, nothing rests on them."""

    def __init__(self, context: dg.OpExecutionContext, platform: Platform) -> None:
        self._context = context
        self._platform = platform
        self._rows: dict[dg.AssetKey, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
        self._told_at = time.monotonic()

    def add(self, step: Step) -> None:
        """Take note of what a micro-batch touched."""
        for hour, rows in step.ingestion_hours.items():
            self._rows[client_events.TABLE.asset_key][hour] += rows
        for hour, rows in step.event_hours.items():
            self._rows[events.TABLE.asset_key][hour] += rows
            self._rows[live_metrics.TABLE.asset_key][hour] += rows

    def tell(self, *, everything: bool = False) -> None:
        """Log a materialization for each touched hour, once a minute for the newest ones, and all at the end.

        Each costs tens of milliseconds, in which no micro-batch runs: so the older hours wait for the end.
        """
        if not everything and time.monotonic() - self._told_at < _DISPLAY_EVERY.total_seconds():
            return
        self._told_at = time.monotonic()
        watermark = self._platform.watermark()
        for asset_key, hours in self._rows.items():
            newest = sorted(hours)[-(len(hours) if everything else _SHOWN_AT_ONCE) :]
            for hour in newest:
                keys = self._platform.partitions.keys("hour", Window.of_hour(hour))
                rows = hours.pop(hour)
                for key in keys:  # none for an hour before the first partition
                    metadata: dict[str, dg.MetadataValue] = {"rows added": dg.MetadataValue.int(rows)}
                    if watermark is not None:
                        metadata["watermark"] = dg.MetadataValue.timestamp(watermark)
                    self._context.log_event(
                        dg.AssetMaterialization(asset_key=asset_key, partition=key, metadata=metadata)
                    )


@dg.op(pool=STREAMS_POOL, description="Kafka → bronze → silver → live metrics, micro-batch by micro-batch.")
def advance_client_events(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Hold the client events' stream until it is quiet or the lease ends."""
    settings = platform.settings
    ends = time.monotonic() + settings.lease.total_seconds()
    quiet_since = None
    display = Display(context, platform)
    with platform.source() as source:
        batches = MicroBatches(platform.lake, source, settings)
        batches.catch_up()
        while (now := time.monotonic()) < ends:
            step = batches.step()
            if step is None:
                quiet_since = quiet_since or now
                if now - quiet_since > settings.quiet_after.total_seconds():
                    break
            else:
                quiet_since = None
                display.add(step)
                context.log.debug(f"micro-batch: {step}")
            display.tell()
            if step is None or step.records < settings.micro_batch_records:  # a backlog is eaten without a pause
                pause = now + settings.trigger_interval.total_seconds() - time.monotonic()
                time.sleep(max(0.0, min(pause, ends - time.monotonic())))
    display.tell(everything=True)


@dg.job(
    description="Take in what is new in Kafka, up to the live metrics. Requested by the sensor `micro_batches`.",
    executor_def=dg.in_process_executor,
)
def advance() -> None:
    """Hold the streams for a lease."""
    advance_client_events()
