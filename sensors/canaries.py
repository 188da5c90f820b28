"""Measures the end-to-end freshness: one sensor sends the platform's own events, and looks up what became of them."""

from __future__ import annotations

import dagster as dg

from platform_assets.ops.canaries import TABLE
from platform_assets.platform import Platform
from platform_assets.quality.end_to_end import tick


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Sends an event of the platform's own to each topic of events, every HEADWATER_CANARY_EVERY, and writes into "
        f"`{TABLE.name}` when it could be read in gold. It requests no runs."
    ),
)
def canaries(platform: dg.ResourceParam[Platform]) -> dg.SkipReason:
    """Look up and send."""
    if not platform.settings.canary_every:
        return dg.SkipReason("HEADWATER_CANARY_EVERY is PT0S: no canary is sent")
    changed = tick(platform)
    told = [f"{count} {outcome}" for outcome, count in changed.group_by("outcome").len().sort("outcome").iter_rows()]
    return dg.SkipReason(", ".join(told) or "no canary is due, and none came")
