"""`gold/order_changes`: in which hours entries of `gold/orders` came, changed or went, told before it happens."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.gold import orders
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="gold/order_changes",
    description=(
        "For each change of `gold/orders`: the UTC hours whose entries came, and those whose entries are others now or "
        "are gone. It tells why a day's revenue changed. Written before the orders are."
    ),
    grain="version of `gold/orders` × hour of its entries",
    key=("change", "entry_hour"),
    columns=(
        Column("change", pl.Int64(), "Delta version of `gold/orders` that brings the change.", provenance=True),
        Column("entry_hour", TIMESTAMP, "UTC hour of `entry_at`; of an entry that moved the one before, too."),
        Column("came", pl.Int64(), "Sales and refunds that were not there before.", unit="entries", minimum=0),
        Column(
            "altered",
            pl.Int64(),
            "Sales and refunds that were there, and are others now, or gone.",
            unit="entries",
            minimum=0,
        ),
        Column("entry_date", pl.Date(), "UTC date of `entry_hour`."),
    ),
    partition_by=("entry_date",),
    window_on="entry_hour",
    partitions=None,
    cluster_by=("entry_hour",),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("entry_hour", "change"),
)

_KEY = list(orders.TABLE.key)


def transform(before: pl.DataFrame, after: pl.DataFrame, change: int) -> pl.DataFrame:
    """Rows of the table, of a change of `gold/orders`.

    Args:
        before: Rows of `gold/orders` that are about to be replaced, all of each order.
        after: The rows of the same orders that take their place.
        change: The version of `gold/orders` that the commit makes.
    """
    names = orders.TABLE.schema.names()
    came = after.join(before, on=_KEY, how="anti")
    others = after.join(before, on=names, how="anti", nulls_equal=True).join(came, on=_KEY, how="anti")
    replaced = before.join(after, on=names, how="anti", nulls_equal=True)
    told = pl.concat(
        [came.select(*_KEY, "entry_at", is_new=True)]
        + [rows.select(*_KEY, "entry_at", is_new=False) for rows in (others, replaced)]
    )
    # An entry that stays within its hour is one, though it is there before and after.
    entries = told.with_columns(entry_hour=pl.col("entry_at").dt.truncate("1h")).unique([*_KEY, "entry_hour"])
    return (
        entries.group_by("entry_hour")
        .agg(
            came=pl.col("is_new").sum().cast(pl.Int64),
            altered=(~pl.col("is_new")).sum().cast(pl.Int64),
        )
        .with_columns(change=pl.lit(change, pl.Int64), entry_date=pl.col("entry_hour").dt.date())
        .select(TABLE.schema.names())
        .sort("entry_hour")
    )
