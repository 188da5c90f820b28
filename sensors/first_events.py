"""Requests `take_in_firsts` while silver is ahead of the firsts, once an hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from platform_assets.first_assets import take_in_firsts
from platform_assets.platform import Platform
from platform_assets.silver import person_firsts
from sensors.runs import is_under_way

EVERY = timedelta(hours=1)
"""The least time between two requests: each rewrites buckets, which every micro-batch would be too often for."""


@dg.sensor(
    job=take_in_firsts,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compares what silver did with what the firsts have taken in; starts `take_in_firsts` once an hour.",
)
def first_events(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where silver is ahead, and the last request is an hour past. The cursor is its time."""
    now = platform.clock()
    if not person_firsts.is_behind(platform):
        return dg.SkipReason("the firsts are up to date")
    if is_under_way(context.instance, take_in_firsts.name):
        return dg.SkipReason("a run is at it")
    if context.cursor is not None and now - datetime.fromisoformat(context.cursor) < EVERY:
        return dg.SkipReason(f"the last run was asked for at {context.cursor}")
    context.update_cursor(now.isoformat())
    return dg.RunRequest()
