"""`bronze/landed_files`: which files landed, what became of each, and which version of a name stands."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.table import TIMESTAMP, Column, Table

OUTCOMES = ("taken", "set_aside")

TABLE = Table(
    name="bronze/landed_files",
    description=(
        "Every delivery of a third-party file, in the order in which they were taken. The content's hash identifies a "
        "file, whatever its name: its rows are in `bronze/partner_files` once. Of a name, the last delivery that was "
        "taken stands. A file that cannot be used is set aside, with the reason; its name keeps what stood."
    ),
    grain="delivery of a file",
    key=("landing",),
    columns=(
        Column("landing", pl.Int64(), "Number of the delivery, without gaps, from 1.", minimum=1),
        Column("feed", pl.String(), "Feed: the file's folder in the landing folder."),
        Column("name", pl.String(), "The file's path in that folder."),
        Column("file_id", pl.String(), "SHA-256 of the content, in hexadecimal digits."),
        Column("size_bytes", pl.Int64(), "Size.", unit="bytes", minimum=0),
        Column("modified_at", TIMESTAMP, "When the file was last written, by the folder."),
        Column("landed_at", TIMESTAMP, "When it was taken, by the platform's clock."),
        Column("outcome", pl.String(), "What became of it.", accepted=OUTCOMES),
        Column("rows", pl.Int64(), "Rows taken into bronze.", unit="rows", minimum=0),
        Column("bad_rows", pl.Int64(), "Of them, rows in quarantine.", unit="rows", minimum=0),
        Column("first_day", pl.Date(), "First day of its valid rows.", nullable=True),
        Column("last_day", pl.Date(), "Last day of its valid rows.", nullable=True),
        Column("report", pl.String(), "Why it was set aside, or what is wrong with its rows.", nullable=True),
        Column("landing_date", pl.Date(), "UTC date of `landed_at`."),
    ),
    partition_by=("landing_date",),
    window_on="landed_at",
    partitions=None,
    cluster_by=("landing",),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("landing", "first_day", "last_day"),
    append_only=True,
)

LANDINGS = TABLE.name
"""The name under which a table records up to which landing it has taken files in."""


def standing(landings: pl.DataFrame) -> pl.DataFrame:
    """Of each feed and name, the last delivery that was taken; of one content under several names, one.

    Args:
        landings: Rows of the table.
    """
    taken = landings.filter(outcome="taken").sort("landing")
    of_names = taken.unique(["feed", "name"], keep="last", maintain_order=True)
    return of_names.unique(["feed", "file_id"], keep="last", maintain_order=True)
