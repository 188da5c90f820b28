"""`silver/users`: who has an account, with every plan and country that they had."""

from __future__ import annotations

import polars as pl

from platform_assets.changes.dimension import SourceColumn, scd2
from platform_assets.table import TIMESTAMP, Column

DIMENSION = scd2(
    name="silver/users",
    description="The accounts of the database, as they were at any time.",
    source_table="users",
    key=("user_id",),
    columns=(
        SourceColumn(Column("user_id", pl.String(), "The account's id, as in events.", personal=True, protected=True)),
        SourceColumn(
            Column("email_hash", pl.String(), "SHA-256 of the e-mail address, lower case.", nullable=True),
            name="email",
            protect="hash",
        ),
        SourceColumn(Column("plan", pl.String(), "`free`, `plus`, `pro`, …", nullable=True)),
        SourceColumn(Column("country", pl.String(), "ISO 3166 country.", nullable=True)),
        SourceColumn(Column("created_at", TIMESTAMP, "When the account was opened.", nullable=True)),
    ),
    tracked=("plan", "country"),
)
