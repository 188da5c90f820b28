"""`bronze/partner_files`: the rows of third-party files, as they arrived."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="bronze/partner_files",
    description=(
        "The rows of every third-party file that was taken, bad ones too, as they arrived. A file is here once, "
        "whatever names it was delivered under (`bronze/landed_files`)."
    ),
    grain="row of a file",
    key=("file_id", "line"),
    columns=(
        Column("feed", pl.String(), "Feed that the file was delivered for."),
        Column("file_id", pl.String(), "SHA-256 of the file."),
        Column("line", pl.Int64(), "Line in the file, from 1; of Parquet, the row.", minimum=1),
        Column("row", pl.String(), "The line itself (JSON Lines), or a JSON object of strings (CSV, Parquet)."),
        Column("landed_at", TIMESTAMP, "When the file was taken."),
        Column("landing_date", pl.Date(), "UTC date of `landed_at`."),
    ),
    partition_by=("landing_date",),
    window_on="landed_at",
    partitions=None,
    cluster_by=("file_id", "line"),
    update="append, rarely replace",
    service_level=timedelta(minutes=15),
    stats=("file_id", "line"),
)
