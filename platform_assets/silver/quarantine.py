"""`silver/quarantine`: records that decode, but break the contract; with every reason."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import COORDINATES, INGESTED_AT, INGESTION_DATE, REASONS, with_ingestion_date
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="silver/quarantine",
    description=(
        "Events that cannot be believed: a required field missing, a wrong type, no actor, a time in the future, "
        "or later than the allowed lateness. With every reason, and replayable; the bytes are in bronze alone."
    ),
    grain="one Kafka record",
    key=("topic", "epoch", "partition", "offset"),
    columns=(
        *COORDINATES,
        INGESTED_AT,
        Column("occurred_at", TIMESTAMP, "Event time, where it can be told.", nullable=True),
        REASONS,
        INGESTION_DATE,
    ),
    partition_by=("ingestion_date",),
    window_on="ingested_at",
    partitions="hour",
    cluster_by=("topic", "offset"),
    update="advance; rebuild",
    service_level=timedelta(minutes=15),
    stats=("ingested_at", "epoch", "partition", "offset"),
)


def transform(refused: pl.DataFrame) -> pl.DataFrame:
    """Records with ``reasons`` and ``occurred_at`` to rows of the table."""
    return with_ingestion_date(refused).select(TABLE.schema.names())
