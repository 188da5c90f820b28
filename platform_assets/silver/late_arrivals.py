"""`silver/late_arrivals`: where in bronze the records of an event hour are that did not come on time."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import COORDINATES, INGESTED_AT
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="silver/late_arrivals",
    description=(
        "The index that a rebuild of an event hour reads instead of seven days of bronze: the coordinates of the "
        "valid records that arrived neither in their event's hour nor in the one after."
    ),
    grain="one valid Kafka record that came late",
    key=("topic", "epoch", "partition", "offset"),
    columns=(
        *COORDINATES,
        INGESTED_AT,
        Column("occurred_at", TIMESTAMP, "Event time."),
        Column("event_date", pl.Date(), "UTC date of `occurred_at`."),
    ),
    partition_by=("event_date",),
    window_on="occurred_at",
    partitions="hour",
    cluster_by=("occurred_at",),
    update="advance; rebuild",
    service_level=timedelta(minutes=15),
    stats=("ingested_at", "occurred_at", "epoch", "partition", "offset"),
)


def transform(accepted: pl.DataFrame) -> pl.DataFrame:
    """Valid events (rows of `silver/events`, duplicates too) to rows of the table."""
    return accepted.filter(~arrived_on_time()).select(TABLE.schema.names())


def arrived_on_time() -> pl.Expr:
    """Whether a record's ingestion hour is its event hour or the one after."""
    event_hour = pl.col("occurred_at").dt.truncate("1h")
    behind = pl.col("ingested_at").dt.truncate("1h") - event_hour
    return behind.is_between(timedelta(0), timedelta(hours=1))
