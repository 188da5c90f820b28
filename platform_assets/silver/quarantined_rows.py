"""`silver/quarantined_rows`: rows of third-party files that were refused, with every reason."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import REASONS
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="silver/quarantined_rows",
    description=(
        "Rows of third-party files that cannot be used, as they arrived, each with its line and every reason. A "
        "corrected file of the same name takes their place; these stay, to be told to the partner."
    ),
    grain="row of a file",
    key=("file_id", "line"),
    columns=(
        Column("feed", pl.String(), "Feed."),
        Column("name", pl.String(), "The file's path in its feed's folder."),
        Column("file_id", pl.String(), "SHA-256 of the file."),
        Column("line", pl.Int64(), "Line in the file, from 1.", minimum=1),
        Column("row", pl.String(), "The row, as it arrived."),
        REASONS,
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
