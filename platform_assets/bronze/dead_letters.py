"""`bronze/dead_letters`: records that cannot be decoded, with their bytes and the reason."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import INGESTION_DATE, REASONS, RECORD, with_ingestion_date
from platform_assets.table import Table

TABLE = Table(
    name="bronze/dead_letters",
    description=(
        "Records that cannot be decoded: truncated, empty, not UTF-8, no JSON object, larger than an event may be, "
        "framed with a schema that nobody knows or that they do not keep to. Kept byte for byte with the reason, and "
        "replayable."
    ),
    grain="one Kafka record",
    key=("topic", "epoch", "partition", "offset"),
    columns=(*RECORD, REASONS, INGESTION_DATE),
    partition_by=("ingestion_date",),
    window_on="ingested_at",
    partitions="hour",
    cluster_by=("topic", "offset"),
    update="advance; rebuild",
    service_level=timedelta(minutes=15),
    stats=("ingested_at", "epoch", "partition", "offset"),
)


def transform(undecodable: pl.DataFrame) -> pl.DataFrame:
    """Refused records (`resources.events.REFUSED_SCHEMA`) to rows of the table."""
    return with_ingestion_date(undecodable).select(TABLE.schema.names())
