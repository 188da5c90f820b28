"""Requests `refresh_warehouse` where a table has a newer version than the warehouse has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg
from dagster import AssetSelection

from platform_assets.platform import Platform
from platform_assets.serving.catalog import NotReadable
from platform_assets.serving.warehouse import KEY, behind
from platform_assets.table import Table
from resources.warehouse import NoWarehouse
from sensors.runs import is_under_way

refresh_warehouse = dg.define_asset_job(
    "refresh_warehouse",
    selection=AssetSelection.assets(KEY),
    description="Make the warehouse anew, by the newest version of each table.",
)


def warehouse_sensor(tables: Sequence[Table]) -> dg.SensorDefinition:
    """The sensor that keeps the warehouse up to date.

    Args:
        tables: What the warehouse has views of.
    """

    @dg.sensor(
        name="warehouse",
        job=refresh_warehouse,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares the tables' logs with the warehouse; refreshes it, at most once in "
        "HEADWATER_WAREHOUSE_EVERY.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        """The cursor is the time of the last request."""
        now, every = platform.clock(), platform.settings.warehouse_every
        if every == timedelta(0):
            return dg.SkipReason("the warehouse is refreshed by hand only (HEADWATER_WAREHOUSE_EVERY)")
        if context.cursor is not None and now - datetime.fromisoformat(context.cursor) < every:
            return dg.SkipReason(f"the last refresh was asked for at {context.cursor}")
        try:
            newer = behind(platform, tables)
        except (NoWarehouse, NotReadable) as reason:
            return dg.SkipReason(str(reason))
        if not newer:
            return dg.SkipReason("the warehouse has the newest of every table")
        if is_under_way(context.instance, refresh_warehouse.name):
            return dg.SkipReason("a run is at it")
        context.update_cursor(now.isoformat())
        return dg.RunRequest()

    return sensor
