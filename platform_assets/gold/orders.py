"""`gold/orders`: what was sold and what was paid back, entry by entry."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.changes.dimension import BUCKET, Dimension
from platform_assets.semantics.orders import entries
from platform_assets.silver import orders
from platform_assets.table import MONEY, TIMESTAMP, Column, Table

TABLE = Table(
    name="gold/orders",
    description=(
        "The orders of the database as entries that add up: a sale each, and a refund with a negative amount. Sum "
        "`amount` by `currency` over `entry_at`; the day is the reader's, in the reporting timezone."
    ),
    grain="order × entry",
    key=("order_id", "entry"),
    columns=(
        Column("order_id", pl.String(), "The order's id, as in events."),
        Column("entry", pl.String(), "What the amount is.", accepted=("sale", "refund")),
        Column("user_id", pl.String(), "The account that ordered.", nullable=True, personal=True, protected=True),
        Column(
            "amount",
            MONEY,
            "The order's amount as it stands; of a refund negative.",
            unit="currency units",
            nullable=True,
        ),
        Column("currency", pl.String(), "ISO 4217 currency of `amount`.", nullable=True),
        Column(
            "entry_at",
            TIMESTAMP,
            "Of a sale when it was ordered (where the source does not say, when the row came); of a refund the commit "
            "time of the change with which the order became `refunded`.",
        ),
        BUCKET,
    ),
    partition_by=("bucket",),
    window_on="entry_at",
    partitions=None,
    cluster_by=("order_id", "entry"),
    update="merge",
    service_level=timedelta(minutes=15),
    stats=("order_id", "entry_at"),
)

DIMENSION = Dimension(TABLE, orders.SOURCE_TABLE, orders.KEY, orders.COLUMNS, entries)
