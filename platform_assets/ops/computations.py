"""`ops/computations`: which window of which table was computed from which version of what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from partitions import Window
from platform_assets.table import TIMESTAMP, Column, Table

TABLE = Table(
    name="ops/computations",
    description=(
        "The ledger of rebuilds: one row each time a window of a table was computed, with the version that it was "
        "computed from and the one that it made. Written after the data: a crash in between makes the window look "
        "stale, and it is computed once more."
    ),
    grain="table × window × computation",
    key=("table", "window_start", "window_end", "computed_at"),
    columns=(
        Column("table", pl.String(), "Name of the table computed."),
        Column("window_start", TIMESTAMP, "Start of the window, UTC."),
        Column("window_end", TIMESTAMP, "End of the window, exclusive, UTC."),
        Column("upstream", pl.String(), "Name of the table that it was computed from."),
        Column("upstream_version", pl.Int64(), "Delta version of that table.", provenance=True),
        Column("table_version", pl.Int64(), "Delta version that the computation made.", provenance=True),
        Column("definition_version", pl.Int64(), "Version of the table's definition."),
        Column("watermark", TIMESTAMP, "Watermark of the stream then.", nullable=True, provenance=True),
        Column("row_count", pl.Int64(), "Rows in the window.", unit="rows"),
        Column("computed_at", TIMESTAMP, "When, by the clock of the machine.", provenance=True),
        Column("computed_date", pl.Date(), "UTC date of `computed_at`.", provenance=True),
    ),
    partition_by=("computed_date",),
    window_on="computed_at",
    partitions=None,
    cluster_by=("table", "window_start"),
    update="append",
    service_level=timedelta(hours=1),
    stats=("computed_at", "window_start"),
)


@dataclass(frozen=True)
class Computation:
    """One computation of one window.

    Attributes:
        table: The table computed.
        window: The window.
        upstream: The name of the table that it was computed from.
        upstream_version: Its Delta version.
        table_version: The Delta version made.
        row_count: Rows in the window.
        watermark: Of the stream, then.
    """

    table: Table
    window: Window
    upstream: str
    upstream_version: int
    table_version: int
    row_count: int
    watermark: datetime | None

    def row(self, computed_at: datetime) -> pl.DataFrame:
        """The row of the ledger."""
        return pl.DataFrame(
            [
                {
                    "table": self.table.name,
                    "window_start": self.window.start,
                    "window_end": self.window.end,
                    "upstream": self.upstream,
                    "upstream_version": self.upstream_version,
                    "table_version": self.table_version,
                    "definition_version": self.table.version,
                    "watermark": self.watermark,
                    "row_count": self.row_count,
                    "computed_at": computed_at,
                    "computed_date": computed_at.date(),
                }
            ],
            schema=TABLE.schema,
        )
