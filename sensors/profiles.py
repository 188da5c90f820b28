"""Requests that closed hours be profiled, and judged by what was usual."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
from dagster import AssetSelection

from partitions import Window
from platform_assets import restatement
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality import profiles
from platform_assets.quality.anomalies import ANOMALY_CHECKS
from platform_assets.restatement import Tier
from sensors.restatement import RANGE_END, RANGE_START, RANGES
from sensors.runs import is_under_way

TIERS = (Tier("closed hours", timedelta(days=36_500), timedelta(days=1)),)
"""Late events move a profile by little: what they touch is profiled again once a day."""

JUDGED_FOR = timedelta(days=1)
"""How far behind the newest closed hour an hour is still judged when it is profiled first: older ones are no news."""

profile_hours = dg.define_asset_job(
    "profile_hours",
    selection=AssetSelection.assets(profiles.TABLE.asset_key)
    | AssetSelection.checks(*(dg.AssetCheckKey(check.table.asset_key, check.name) for check in ANOMALY_CHECKS)),
    description="Profile closed hours, and judge whether they are as usual.",
)


@dg.sensor(
    job=profile_hours,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Profiles hours when the watermark has passed them, and has them judged.",
)
def profiling(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for history first, which is not judged; then for new hours, which are; then for what late events touched."""
    if is_under_way(context.instance, profile_hours.name):
        yield dg.SkipReason("hours are being profiled")
        return
    ledger, now = platform.lake.scan(computations.TABLE).collect(), platform.clock()
    new = profiles.missing(platform, ledger)
    news = [hour for hour in new if new[-1] - hour < JUDGED_FOR]
    history = new[: len(new) - len(news)]
    if history or not news:
        touched = restatement.due(
            profiles.stale(platform, ledger), ledger.filter(table=profiles.TABLE.name), now, TIERS
        )
        yield from _requests(platform, [*history, *touched], [profiles.TABLE.asset_key])
    else:
        yield from _requests(platform, news, None)


def _requests(platform: Platform, starts: list[datetime], assets: list[dg.AssetKey] | None) -> Iterator[dg.RunRequest]:
    """A run a range; of the profiles alone, or with the checks that rest on them where no assets are named."""
    for first, last in restatement.ranges(starts, *RANGES["hour"]):
        keys = platform.partitions.keys("hour", Window(first, last + timedelta(seconds=1)))
        if keys:
            tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
            yield dg.RunRequest(job_name=profile_hours.name, asset_selection=assets, tags=tags)
