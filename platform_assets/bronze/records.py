"""The columns that every table of received records shares."""

from __future__ import annotations

import polars as pl

from platform_assets.table import TIMESTAMP, Column
from resources.records import RECORD_SCHEMA

COORDINATES = (
    Column("topic", pl.String(), "Kafka topic."),
    Column("epoch", pl.Int32(), "Life of the topic: grows when its offsets begin anew.", minimum=1),
    Column("partition", pl.Int32(), "Topic partition.", minimum=0),
    Column("offset", pl.Int64(), "Offset in the topic partition.", minimum=0),
)
"""What identifies a record."""

INGESTED_AT = Column("ingested_at", TIMESTAMP, "Ingestion time: the Kafka record's timestamp.")

RECORD = (
    *COORDINATES,
    INGESTED_AT,
    Column("key", pl.Binary(), "The record's key, as received.", nullable=True, personal=True),
    Column("value", pl.Binary(), "The record's value, as received.", nullable=True, personal=True),
    Column("headers", RECORD_SCHEMA["headers"], "The record's headers, as received.", nullable=True),
)
"""A record as it was received."""

REASONS = Column("reasons", pl.List(pl.String()), "Every reason why it was refused, `what:where`.")

INGESTION_DATE = Column("ingestion_date", pl.Date(), "UTC date of `ingested_at`.")


def with_ingestion_date(records: pl.DataFrame) -> pl.DataFrame:
    """Add the partition column of tables laid out by ingestion."""
    return records.with_columns(ingestion_date=pl.col("ingested_at").dt.date())
