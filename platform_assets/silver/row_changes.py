"""`silver/row_changes`: what changed in the database, one row at a time; the dimensions are functions of it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import COORDINATES, INGESTED_AT
from platform_assets.changes.dimension import BUCKET
from platform_assets.table import TIMESTAMP, Column, Table, Watch

TABLE = Table(
    name="silver/row_changes",
    description=(
        "Every valid change event of the database, decoded. Delivered twice, it stands twice: the dimensions, which "
        "are computed from it, apply one change once. Of a table that is no dimension, only that it changed is kept."
    ),
    grain="one change event",
    key=("topic", "epoch", "partition", "offset"),
    columns=(
        *COORDINATES,
        INGESTED_AT,
        Column("source_table", pl.String(), "The table that changed."),
        Column("op", pl.String(), "Created, updated, deleted, read, truncated.", accepted=("c", "u", "d", "r", "t")),
        Column("lsn", pl.Int64(), "Position in the database's log.", minimum=0),
        Column("sequence", pl.Int64(), "Order among the changes of one position."),
        Column("changed_at", TIMESTAMP, "Commit time."),
        Column(
            "row_key",
            pl.String(),
            "The row's key, JSON; of a truncation none.",
            nullable=True,
            personal=True,
            protected=True,
        ),
        Column(
            "row",
            pl.String(),
            "The row after the change, of a deleted one its key: the columns that the dimension takes, JSON.",
            nullable=True,
            personal=True,
        ),
        BUCKET,
    ),
    partition_by=("bucket",),
    window_on="ingested_at",
    partitions=None,
    cluster_by=("source_table", "row_key"),
    update="advance; rebuild",
    service_level=timedelta(minutes=15),
    stats=("ingested_at", "source_table", "row_key", "lsn", "epoch", "partition", "offset"),
    source="changes",
    watch=Watch(by="source_table", values=("op",)),
)

FOLLOWS = TABLE.name
"""The name under which a dimension records the version of the table that it has taken in."""
