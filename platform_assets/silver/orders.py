"""`silver/orders`: the orders that the database knows, as it last knew them."""

from __future__ import annotations

import polars as pl

from platform_assets.changes.dimension import SourceColumn, scd1
from platform_assets.silver import users
from platform_assets.table import MONEY, TIMESTAMP, Column, Reference

SOURCE_TABLE = "orders"
KEY = ("order_id",)
COLUMNS = (
    SourceColumn(Column("order_id", pl.String(), "The order's id, as in events.")),
    SourceColumn(
        Column("user_id", pl.String(), "The account that ordered.", nullable=True, personal=True, protected=True)
    ),
    SourceColumn(Column("status", pl.String(), "`placed`, `shipped`, `refunded`, …", nullable=True)),
    SourceColumn(Column("amount", MONEY, "What was ordered.", unit="currency units", nullable=True)),
    SourceColumn(Column("currency", pl.String(), "ISO 4217 currency of `amount`.", nullable=True)),
    SourceColumn(Column("ordered_at", TIMESTAMP, "When.", nullable=True)),
)
"""What is taken of an order; `gold/orders` is made of the same."""

DIMENSION = scd1(
    name="silver/orders",
    description="The orders of the database.",
    source_table=SOURCE_TABLE,
    key=KEY,
    columns=COLUMNS,
    references=(Reference(("user_id",), users.DIMENSION.table),),
)
