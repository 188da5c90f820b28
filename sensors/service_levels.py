"""A schedule that refreshes the service-level report, after the hourly look at what is due."""

from __future__ import annotations

import dagster as dg
from dagster import AssetSelection

from platform_assets.quality import service_levels

report_service_levels = dg.define_asset_job(
    "report_service_levels",
    selection=AssetSelection.assets(service_levels.TABLE.asset_key),
    description="Compute how each table kept its service level.",
)

hourly_report = dg.ScheduleDefinition(
    job=report_service_levels, cron_schedule="35 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
