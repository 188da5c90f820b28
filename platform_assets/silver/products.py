"""`silver/products`: the catalogue, with every category and price that a product had."""

from __future__ import annotations

import polars as pl

from platform_assets.changes.dimension import SourceColumn, scd2
from platform_assets.table import MONEY, Column

DIMENSION = scd2(
    name="silver/products",
    description="The products of the database, as they were at any time.",
    source_table="products",
    key=("product_id",),
    columns=(
        SourceColumn(Column("product_id", pl.String(), "The product's id, as in events.")),
        SourceColumn(Column("category", pl.String(), "Category.", nullable=True)),
        SourceColumn(Column("price", MONEY, "List price.", unit="currency units", nullable=True)),
        SourceColumn(Column("currency", pl.String(), "ISO 4217 currency of `price`.", nullable=True)),
    ),
    tracked=("category", "price"),
)
