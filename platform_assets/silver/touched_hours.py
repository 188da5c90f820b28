"""`silver/touched_hours`: which commit of silver touched which event hour. Restatement starts here."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.semantics.events import is_canary
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="silver/touched_hours",
    description=(
        "The ledger of change: for each commit of `silver/events`, the event hours whose rows it changed, canaries "
        "aside. It is "
        "derived from silver's own log with a progress of its own, so no crash loses a touched hour. What was "
        "computed from an hour before the last commit that touched it is stale."
    ),
    grain="event hour × version of silver",
    key=("event_hour", "silver_version"),
    columns=(
        Column("event_hour", TIMESTAMP, "UTC hour of event time."),
        Column("silver_version", pl.Int64(), "Version of `silver/events` that the commit made.", provenance=True),
        Column("added", pl.Int64(), "Rows that came.", unit="events"),
        Column("removed", pl.Int64(), "Rows that went.", unit="events"),
        Column("event_date", pl.Date(), "UTC date of `event_hour`."),
    ),
    partition_by=("event_date",),
    window_on="event_hour",
    partitions=None,
    cluster_by=("event_hour",),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("event_hour", "silver_version"),
)


def transform(added: pl.DataFrame, removed: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """The hours that a change of silver touched.

    Args:
        added: Rows that silver gained: ``occurred_at``, ``event_name``, ``is_test``.
        removed: Rows that it lost.
        silver_version: The version that the change made.
    """
    touched = pl.concat(
        [
            added.filter(~is_canary()).select("occurred_at", added=1, removed=0),
            removed.filter(~is_canary()).select("occurred_at", added=0, removed=1),
        ]
    )
    return (
        touched.group_by(event_hour=pl.col("occurred_at").dt.truncate("1h"))
        .agg(pl.col("added", "removed").sum().cast(pl.Int64))
        .with_columns(silver_version=pl.lit(silver_version, pl.Int64), event_date=pl.col("event_hour").dt.date())
        .select(TABLE.schema.names())
    )
