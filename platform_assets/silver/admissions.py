"""`silver/admissions`: refused records that a replay let in; whoever judges a record again reads it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from platform_assets.bronze.records import COORDINATES, INGESTED_AT, INGESTION_DATE, REASONS
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake

TABLE = Table(
    name="silver/admissions",
    description=(
        "Records that were refused, and that a replay let in after what kept them out was mended. The writer of their "
        "stream moves them: out of dead letters and quarantine, into silver, once. A rebuild lets in the same ones."
    ),
    grain="one Kafka record",
    key=("topic", "epoch", "partition", "offset"),
    columns=(
        *COORDINATES,
        INGESTED_AT,
        Column("stream", pl.String(), "The stream that the record belongs to."),
        Column("admission", pl.Int64(), "Number of the admission, from 1, a stream.", minimum=1),
        Column("refused_as", pl.String(), "What it was.", accepted=("quarantined", "dead_lettered")),
        Column("refused_at", TIMESTAMP, "Event time that it was refused with, where it could be told.", nullable=True),
        REASONS,
        Column("occurred_at", TIMESTAMP, "Event time that it was let in with; none of a change.", nullable=True),
        Column("is_late_allowed", pl.Boolean(), "Whether it may be later than the allowed lateness."),
        Column("field_aliases", pl.String(), "The names of fields that it was let in by: a JSON object."),
        Column("admitted_at", TIMESTAMP, "When, by the clock of the machine.", provenance=True),
        Column("run_id", pl.String(), "The run that let it in.", provenance=True),
        INGESTION_DATE,
    ),
    partition_by=("ingestion_date",),
    window_on="ingested_at",
    partitions=None,
    cluster_by=("topic", "offset"),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("ingested_at", "epoch", "partition", "offset"),
)

MOST_AT_ONCE = 5_000
"""The most records of one admission: what takes it in names each of them."""


def taken_in(stream: str) -> str:
    """The name under which a table records the newest admission of a stream that it has taken in.

    This table records its newest one under it.
    """
    return f"admissions/{stream}"


def newest(lake: Lake, stream: str) -> int:
    """The number of a stream's newest admission; 0 before the first."""
    return level(lake.open(TABLE), stream)


def level(handle: DeltaTable, stream: str) -> int:
    """The newest admission of a stream that a version of a table has taken in; 0 where it has taken in none."""
    return handle.transaction_version(taken_in(stream)) or 0
