"""Requests `publish_numbers` where a gold table changed, and nobody compared it with what was published."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster import AssetSelection

from platform_assets.gold import published_numbers
from platform_assets.platform import Platform
from platform_assets.publication import Publication
from sensors.restatement import restate_days
from sensors.runs import is_under_way

publish_numbers = dg.define_asset_job(
    "publish_numbers",
    selection=AssetSelection.assets(published_numbers.TABLE.asset_key),
    description="Publish the numbers that differ from what was published last.",
)


def publications_sensor(publications: Sequence[Publication]) -> dg.SensorDefinition:
    """The sensor that asks for a run after a backfill, and after a run that died before it published.

    A run that restates days of active users publishes by itself.
    """

    @dg.sensor(
        name="publications",
        job=publish_numbers,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares the versions of the gold tables with those that were published; publishes what is new.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        if is_under_way(context.instance, publish_numbers.name, restate_days.name):
            return dg.SkipReason("a run that publishes is under way")
        if not any(published_numbers.is_behind(platform, publication) for publication in publications):
            return dg.SkipReason("all is published")
        return dg.RunRequest()

    return sensor
