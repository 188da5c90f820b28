"""Whether the rows that a table names in other tables are there: one comparison for each `Reference` declared."""

from __future__ import annotations

import polars as pl

from platform_assets.platform import Platform
from platform_assets.quality.conservation import Finding
from platform_assets.table import Reference, Table
from resources.lake import disk_usage

_SHOWN = 10


def orphans(platform: Platform, table: Table, rows: pl.LazyFrame) -> Finding:
    """The rows that refer to nothing, reference by reference.

    A reference to a table without rows (a dimension where no database is followed) is not judged, and the description
    says so.

    Args:
        platform: The platform.
        table: A table with references.
        rows: The rows of it that are judged.

    Returns:
        ``reference``, ``refers_to`` (values that no row has), ``rows`` with them: the most frequent of each reference
        that more rows break than it tolerates.
    """
    off, told = [], []
    for reference in table.references:
        if disk_usage(platform.lake.open(reference.table))["rows"] == 0:
            told.append(f"{reference.text}: it has no rows, not judged")
            continue
        found, total = _orphans(platform, rows, reference)
        count = int(found["rows"].sum())
        told.append(f"{reference.text}: {count} of {total} rows refer to nothing")
        if count > reference.share * total:
            off.append(found.head(_SHOWN))
    schema = {"reference": pl.String(), "refers_to": pl.String(), "rows": pl.Int64()}
    return Finding("; ".join(told), pl.concat([pl.DataFrame(schema=schema), *off]))


def _orphans(platform: Platform, rows: pl.LazyFrame, reference: Reference) -> tuple[pl.DataFrame, int]:
    """The values that refer to nothing, each once and with its rows, the most frequent first; and all rows that refer.

    Values are counted before they are looked up, so that what is joined is as small as the values are few.
    """
    names = list(reference.columns)
    refers = rows.select(names).drop_nulls().group_by(names).agg(rows=pl.len().cast(pl.Int64))
    there = platform.lake.scan(reference.table).select(reference.referred)
    missing = (
        refers.join(there, left_on=names, right_on=list(reference.referred), how="anti")
        .select(
            reference=pl.lit(reference.text),
            refers_to=pl.concat_str(pl.col(names).cast(pl.String), separator=", "),
            rows="rows",
        )
        .sort("rows", "refers_to", descending=[True, False])
    )
    found, total = pl.collect_all([missing, refers.select(pl.col("rows").sum())], engine="streaming")
    return found, int(total.item())
