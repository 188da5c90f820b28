"""Whether the rows that a table names in other tables are there: one comparison for each `Reference` declared."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import polars as pl

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, rows_of
from platform_assets.quality.verdict import SHOWN, Finding, Verdict
from platform_assets.table import Reference, Table
from resources.lake import disk_usage


def keeps_references(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the rows that those of a window name in other tables are there."""
    finding = orphans(platform, table, rows_of(platform, table, window))
    return replace(Verdict.of_finding(finding, "values"), rows_failed=int(finding.off["rows"].sum()))


def references_check(table: Table) -> Check:
    """The check that warns of rows that refer to nothing: what they name may only be late."""
    there = "; ".join(reference.text for reference in table.references)
    return Check(
        table,
        "references",
        keeps_references,
        f"What rows name is there: {there}.",
        severity=dg.AssetCheckSeverity.WARN,
        one_by_one=any(reference.share for reference in table.references),
        pillar="consistency",
    )


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
            off.append(found.head(SHOWN))
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
