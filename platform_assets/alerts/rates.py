"""What became of the records that arrived lately, by topic."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from partitions import Window, floor_hour
from platform_assets.platform import Platform
from platform_assets.silver import outcomes
from resources.lake import within


def lately(platform: Platform, now: datetime) -> pl.DataFrame:
    """Records by topic and outcome, of the hours of arrival that `alert_rate_window` reaches back into.

    Returns:
        ``topic``, ``outcome``, ``records``: the events of the hour that is open, and of the hours before it.
    """
    window = Window(floor_hour(now - platform.settings.alert_rate_window), now)
    return (
        platform.lake.scan(outcomes.TABLE)
        .filter(within(outcomes.TABLE, window))
        .group_by("topic", "outcome")
        .agg(pl.col("records").sum())
        .sort("topic", "outcome")
        .collect()
    )
