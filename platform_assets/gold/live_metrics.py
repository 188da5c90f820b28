"""`gold/live_metrics`: events per minute, seconds behind the click."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from partitions import Window
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.semantics.events import is_of_people
from platform_assets.silver import events
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

TABLE = Table(
    name="gold/live_metrics",
    description=(
        "Events per minute, event name and platform, without bots and test traffic. Advanced with every "
        "micro-batch as signed deltas, late events to their own minute; a rebuild puts one row in their place. "
        "Sum `events`."
    ),
    grain="minute × event name × platform × version of silver that brought the change",
    key=("minute", "event_name", "platform", "silver_version"),
    columns=(
        Column("minute", TIMESTAMP, "UTC minute of event time."),
        Column("event_name", pl.String(), "Name of the events."),
        Column("platform", pl.String(), "Platform that the events say they come from.", nullable=True),
        Column("events", pl.Int64(), "Signed number of events.", unit="events"),
        Column("silver_version", pl.Int64(), "Version of `silver/events` that brought it.", provenance=True),
        Column("event_date", pl.Date(), "UTC date of `minute`."),
    ),
    partition_by=("event_date",),
    window_on="minute",
    partitions="hour",
    cluster_by=("minute",),
    update="advance; rebuild",
    service_level=timedelta(minutes=5),
    stats=("minute",),
)


def transform(added: pl.DataFrame, removed: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """The signed counts of one change of silver.

    Args:
        added: Rows that silver gained: ``occurred_at``, ``event_name``, ``platform``, ``is_bot``, ``is_test``.
        removed: Rows that it lost.
        silver_version: The version that the change made.
    """
    signed = pl.concat([added.with_columns(sign=1), removed.with_columns(sign=-1)])
    return (
        signed.filter(is_of_people())
        .group_by(pl.col("occurred_at").dt.truncate("1m").alias("minute"), "event_name", "platform")
        .agg(events=pl.col("sign").sum().cast(pl.Int64))
        .filter(pl.col("events") != 0)
        .with_columns(silver_version=pl.lit(silver_version, pl.Int64), event_date=pl.col("minute").dt.date())
        .select(TABLE.schema.names())
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Count a window again from silver, at the version of it that this table has taken in."""
    lake = platform.lake
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> int:
            handle = lake.open(TABLE)
            version = handle.transaction_version(events.FOLLOWS) or 0
            silver = lake.open(events.TABLE, version)
            rows = lake.scan(events.TABLE, part, silver).select(events.FOLLOWED).collect(engine="streaming")
            return lake.replace(TABLE, handle, transform(rows, rows.clear(), version), part)

        retrying(f"rebuild of {TABLE.name}", attempt)
