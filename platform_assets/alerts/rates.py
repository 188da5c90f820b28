"""What became of the records that arrived lately, by topic."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from partitions import floor_hour
from platform_assets.platform import Platform
from platform_assets.silver import outcomes


def lately(platform: Platform, now: datetime) -> pl.DataFrame:
    """Records by topic and outcome, of the hours of arrival that `alert_rate_window` reaches back into; no canaries.

    Returns:
        ``topic``, ``outcome``, ``records``: the events of the hour that is open, and of the hours before it.
    """
    came = outcomes.of_producers(platform.lake, floor_hour(now - platform.settings.alert_rate_window), now)
    return came.group_by("topic", "outcome").agg(pl.col("records").sum()).sort("topic", "outcome")
