"""Requests `take_files` where the landing folder holds something new."""

from __future__ import annotations

import dagster as dg

from platform_assets.feeds.job import FEEDS, take_files
from platform_assets.feeds.taking import undelivered, untaken
from platform_assets.platform import Platform
from sensors.runs import is_under_way


@dg.sensor(
    job=take_files,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compares the landing folder with the deliveries in the lake; starts `take_files` when there is more.",
)
def landed_files(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where a whole file is new, or a feed's table lacks what was delivered."""
    if platform.settings.landing_url is None:
        return dg.SkipReason("no landing folder is set (HEADWATER_LANDING_URL)")
    landing = platform.landing()
    files = landing.files(platform.clock(), platform.settings.landing_settled_for)
    waiting = undelivered(platform.lake, files)
    behind = untaken(platform.lake, FEEDS)
    if not waiting and not behind:
        problems = "".join(f"; {problem}" for problem in landing.problems)
        return dg.SkipReason(f"nothing new among {len(files)} files{problems}")
    if is_under_way(context.instance, take_files.name):
        return dg.SkipReason("a run is at it")
    return dg.RunRequest()
