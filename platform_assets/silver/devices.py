"""`silver/devices`: the devices that the database knows, as it last knew them."""

from __future__ import annotations

import polars as pl

from platform_assets.changes.dimension import SourceColumn, scd1
from platform_assets.table import Column

DIMENSION = scd1(
    name="silver/devices",
    description="The devices of the database.",
    source_table="devices",
    key=("anonymous_id",),
    columns=(
        SourceColumn(
            Column("anonymous_id", pl.String(), "The device's id, as in events.", personal=True, protected=True)
        ),
        SourceColumn(Column("device_type", pl.String(), "`phone`, `desktop`, …", nullable=True)),
        SourceColumn(Column("os", pl.String(), "Operating system.", nullable=True)),
        SourceColumn(Column("app_version", pl.String(), "Version of the app.", nullable=True)),
    ),
)
