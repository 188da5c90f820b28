"""`silver/dimension_changes`: which hours of facts a change of a dimension touches, told before it happens."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="silver/dimension_changes",
    description=(
        "For each change of a dimension that facts join as of their time: which of their hours hold an event whose "
        "attributes as of then are others now. Facts that were computed before the change are stale in those hours, "
        "and in no other. Written before the dimension is."
    ),
    grain="version of a dimension × look into the facts",
    key=("dimension", "change", "facts_version"),
    columns=(
        Column("dimension", pl.String(), "Name of the dimension's table."),
        Column("change", pl.Int64(), "Delta version of it that brings the change.", provenance=True),
        Column("since", TIMESTAMP, "From when on any attribute is another as of then, inclusive."),
        Column("until", TIMESTAMP, "Until when, exclusive; 9999-12-31 where it still is."),
        Column("rows_changed", pl.Int64(), "Rows of the source table with other attributes.", unit="rows", minimum=1),
        Column("event_hours", pl.List(TIMESTAMP), "UTC hours of the events with other attributes."),
        Column("facts_version", pl.Int64(), "Delta version of `gold/fact_events` looked into.", provenance=True),
        Column("since_date", pl.Date(), "UTC date of `since`."),
    ),
    partition_by=("since_date",),
    window_on="since",
    partitions=None,
    cluster_by=("dimension", "change"),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("since", "dimension", "change"),
)


def transform(
    spans: pl.DataFrame, hours: pl.Series, dimension: str, key: tuple[str, ...], change: int, facts_version: int
) -> pl.DataFrame:
    """A row of the table.

    Args:
        spans: `semantics.dimensions.changed_spans`, not empty.
        hours: UTC hours of the facts in them.
        dimension: Name of the dimension's table.
        key: The columns that identify a row of it.
        change: The version of it that brings the change.
        facts_version: The version of the facts that the hours were looked up in.
    """
    return (
        spans.select(
            pl.col("since").min(), pl.col("until").max(), rows_changed=pl.struct(key).n_unique().cast(pl.Int64)
        )
        .with_columns(
            dimension=pl.lit(dimension),
            change=pl.lit(change, pl.Int64),
            event_hours=pl.Series([hours], dtype=pl.List(TIMESTAMP)),
            facts_version=pl.lit(facts_version, pl.Int64),
            since_date=pl.col("since").dt.date(),
        )
        .select(TABLE.schema.names())
    )
