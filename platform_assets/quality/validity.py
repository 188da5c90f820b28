"""Whether values are such as they may be: the contract, no plain addresses, and what was refused."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context

from partitions import Window
from platform_assets.bronze import landed_files
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, rows_of
from platform_assets.quality.verdict import SHOWN, Verdict
from platform_assets.semantics.privacy import holds_address, may_hold_address
from platform_assets.table import Table, contract

_OF_SCHEMAS = ("schema:", "unknown_schema:", "unsupported_schema:", "not_avro:", "not_protobuf:")
"""Reasons that name a schema (`resources.wire.framing`, `resources.events`)."""


def keeps_contract(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the rows of a window have the declared types, are complete, and hold only accepted values."""
    rows = rows_of(platform, table, window)
    schema = contract(table)
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            checked = schema.validate(rows.collect(), lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        of_rows = cases["index"].null_count() == 0  # else of a column, as its type is
        return Verdict.of_wrong(
            cases.height,
            "failures",
            f"{cases.height} failures: {', '.join(sorted(set(cases['check'].cast(pl.String))))}",
            cases.head(SHOWN).to_dicts(),
            cases["index"].n_unique() if of_rows else None,
        )
    told = Verdict.of_wrong(0, "failures", f"{checked.height} rows keep the contract", rows_failed=0)
    return replace(told, metadata={"rows": checked.height})


def keeps_schemas(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no record was refused for the schema that it was written with: all that its producer sends may be."""
    reason = pl.col("reasons")
    refused = (
        rows_of(platform, table, window)
        .select(reason.explode())
        .filter(pl.any_horizontal(reason.str.starts_with(prefix) for prefix in _OF_SCHEMAS))
        .group_by("reasons")
        .len("records")
        .sort("records", descending=True)
        .collect()
    )
    return Verdict.of_wrong(
        refused.height,
        "schemas",
        f"{refused['records'].sum()} records were refused for {refused.height} schemas",
        refused.head(SHOWN).rows(),
        int(refused["records"].sum()),
    )


def keeps_addresses_out(table: Table) -> bool:
    """Whether a table declares that it holds no plain addresses."""
    return table.layer != "bronze" and any(column.protected for column in table.columns)


def has_no_address(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no text of a window that may be personal holds a plain e-mail or IP address."""
    names = [column.name for column in table.columns if column.protected]
    rows = rows_of(platform, table, window).select(names).filter(pl.any_horizontal(map(may_hold_address, names)))
    told = rows.unique().collect(engine="streaming")
    found = {name: int(holds_address(told[name]).sum()) for name in names}
    holding = {name: count for name, count in found.items() if count}
    total = sum(holding.values())
    return Verdict.of_wrong(total, "texts", f"{total} texts hold a plain e-mail or IP address", holding)


def address_check(table: Table) -> Check:
    """The check that a table holds no plain addresses."""
    none = "No text that is declared as protected holds a plain e-mail or IP address."
    return Check(table, "no_plain_addresses", has_no_address, none, pillar="validity")


def has_no_bad_rows(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no row of the files that stand for some days is in quarantine."""
    days = window.days(platform.settings.zone)
    landings = platform.lake.scan(landed_files.TABLE).filter(pl.col("feed") == table.name.split("/")[1]).collect()
    standing = landed_files.standing(landings).filter(
        pl.col("bad_rows") > 0, pl.col("first_day") <= days[-1], pl.col("last_day") >= days[0]
    )
    told = dict(standing.select("name", "report").iter_rows())
    bad = int(standing["bad_rows"].sum())
    return Verdict.of_wrong(bad, "rows", f"rows in quarantine: {bad}; files: {standing.height}", told, bad)


def bad_rows_check(table: Table) -> Check:
    """The check that warns of quarantined rows, of a feed's table."""
    usable = "No row of the files that stand for the day is in quarantine."
    warn = dg.AssetCheckSeverity.WARN
    return Check(table, "no_bad_rows", has_no_bad_rows, usable, severity=warn, pillar="validity")
