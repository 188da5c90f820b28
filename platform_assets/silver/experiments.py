"""`silver/experiments`: the experiments that the database knows, as it last knew them."""

from __future__ import annotations

import polars as pl

from platform_assets.changes.dimension import SourceColumn, scd1
from platform_assets.table import TIMESTAMP, Column

DIMENSION = scd1(
    name="silver/experiments",
    description="The experiments of the database.",
    source_table="experiments",
    key=("experiment",),
    columns=(
        SourceColumn(Column("experiment", pl.String(), "The experiment's name, as in `experiment_exposed` events.")),
        SourceColumn(Column("status", pl.String(), "`draft`, `running`, `stopped`, …", nullable=True)),
        SourceColumn(Column("started_at", TIMESTAMP, "When it began.", nullable=True)),
        SourceColumn(Column("stopped_at", TIMESTAMP, "When it was stopped.", nullable=True)),
    ),
)
