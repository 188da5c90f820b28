"""Requests `publish_numbers` where a gold table changed, and nobody compared it with what was published."""

from __future__ import annotations

import dagster as dg
from dagster import AssetSelection

from platform_assets.definitions import PUBLICATIONS
from platform_assets.gold import published_numbers
from platform_assets.platform import Platform
from sensors.restatement import restate_days
from sensors.runs import is_under_way

publish_numbers = dg.define_asset_job(
    "publish_numbers",
    selection=AssetSelection.assets(published_numbers.TABLE.asset_key),
    description="Publish the numbers that differ from what was published last.",
)


@dg.sensor(
    job=publish_numbers,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compares the versions of the gold tables with those that were published; publishes what is new.",
)
def publications(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run after a backfill by hand, and after a run that died before it published.

    A run that restates days publishes by itself.
    """
    if is_under_way(context.instance, publish_numbers.name, restate_days.name):
        return dg.SkipReason("a run that publishes is under way")
    behind = [p.table.name for p in PUBLICATIONS if published_numbers.is_behind(platform, p)]
    if not behind:
        return dg.SkipReason("all is published")
    return dg.RunRequest()
