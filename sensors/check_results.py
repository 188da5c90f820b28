"""Keeps what checks said: one sensor takes the new evaluations of Dagster's log into the lake."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import polars as pl

from platform_assets.platform import Platform
from platform_assets.quality.check_results import TABLE, take_in


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Appends the evaluations of checks to `{TABLE.name}`, each once. How far it came is in that table.",
)
def check_results(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
    """Take in what is new, and show it as materializations of the days. It requests no runs."""
    rows = take_in(platform, context.instance)
    return dg.SensorResult(skip_reason=f"{rows.height} evaluations taken in", asset_events=list(_shown(platform, rows)))


def _shown(platform: Platform, rows: pl.DataFrame) -> Iterator[dg.AssetMaterialization]:
    zone = platform.settings.zone
    days = rows.group_by(day=pl.col("evaluated_at").dt.convert_time_zone(zone.key).dt.date()).agg(
        pl.len(), failed=(~pl.col("passed")).sum()
    )
    for day, evaluations, failed in days.sort("day").iter_rows():
        if day >= platform.settings.start_date:
            yield dg.AssetMaterialization(
                asset_key=TABLE.asset_key,
                partition=str(day),
                metadata={
                    "dagster/row_count": dg.MetadataValue.int(evaluations),
                    "failed": dg.MetadataValue.int(failed),
                },
            )
