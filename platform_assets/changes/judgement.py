"""Change events judged one by one: valid, quarantined or dead-lettered; their rows typed, and protected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl
import xxhash

from platform_assets.bronze import dead_letters
from platform_assets.changes.dimension import BUCKETS, Dimension, SourceColumn
from platform_assets.changes.dimensions import by_source
from platform_assets.semantics.privacy import hashed, protected
from platform_assets.silver import quarantine, row_changes
from platform_assets.silver.judgement import Judgement, Rules
from platform_assets.table import TIMESTAMP
from resources import debezium
from resources.debezium import RowChange
from resources.events import refused

_BY_SOURCE = by_source()
_UNAVAILABLE = "__debezium_unavailable_value"
_DECIMAL = re.compile(r"[+-]?\d{1,12}(\.\d{1,6}0*)?")
_YEAR_ONE_US = -62_135_596_800_000_000
_YEAR_10000_US = 253_402_300_800_000_000


@dataclass(frozen=True)
class _Row:
    """A row of a source table, as silver keeps it."""

    key: str
    text: str


class _Unfit(Exception):
    """A row that is none of its table's; `reasons` has everything that is wrong with it."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = reasons


def judge_changes(records: pl.DataFrame, rules: Rules) -> Judgement:
    """Decode change events and judge each. A tombstone, which repeats a deletion, is in none of the three results.

    Args:
        records: Rows of `resources.records.RECORD_SCHEMA`.
        rules: What they are judged by. A change is never too late.

    Returns:
        ``accepted`` are rows of `silver/row_changes`. Reasons of quarantine: what `resources.debezium` says, and
        ``missing:<table>.<column>`` (of the key), ``wrong_type:<table>.<column>``, ``unavailable:<table>.<column>``
        (the connector was not told an unchanged large value: set the table's replica identity to full),
        ``key_changed:<table>`` (an update is to be a deletion and a creation).
    """
    decoded = debezium.decode(records, rules.schemas)
    malformed = dict(decoded.malformed)
    good: list[int] = []
    rows: list[tuple[object, ...]] = []
    for change in decoded.changes:
        try:
            row = _row(change)
        except _Unfit as error:
            malformed[change.index] = error.reasons
            continue
        good.append(change.index)
        key, text = (None, None) if row is None else (row.key, row.text)
        rows.append(
            (
                change.source_table,
                change.op,
                change.lsn,
                change.sequence,
                change.changed_at_us,
                key,
                text,
                bucket_of(change.source_table, key),
            )
        )
    return Judgement(
        accepted=_accepted(records[good], rows),
        quarantined=quarantine.transform(refused(records, malformed).with_columns(occurred_at=pl.lit(None, TIMESTAMP))),
        dead_lettered=dead_letters.transform(refused(records, decoded.undecodable)),
    )


def bucket_of(source_table: str, row_key: str | None) -> int:
    """The bucket of a row; the same in every process and release."""
    return xxhash.xxh3_64_intdigest(f"{source_table}\x00{row_key or ''}".encode()) % BUCKETS


def typed(dimension: Dimension, changes: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of `silver/row_changes` of a dimension's source table, with the columns that it takes.

    Returns:
        The rows with ``dimension.row_schema`` for ``row``.
    """
    wire = pl.Struct({source.column.name: _wire_type(source) for source in dimension.columns})
    fields = changes.with_columns(pl.col("row").str.json_decode(wire)).unnest("row")
    return fields.with_columns(
        pl.col(source.column.name).cast(source.column.dtype)
        for source in dimension.columns
        if _wire_type(source) != source.column.dtype
    )


def _wire_type(source: SourceColumn) -> pl.DataType:
    """How a column's values stand in the JSON of `silver/row_changes`: instants as µs, decimals as text."""
    if source.column.dtype == TIMESTAMP:
        return pl.Int64()
    return pl.String() if isinstance(source.column.dtype, pl.Decimal) else source.column.dtype


def _accepted(records: pl.DataFrame, rows: list[tuple[object, ...]]) -> pl.DataFrame:
    schema = {
        "source_table": pl.String,
        "op": pl.String,
        "lsn": pl.Int64,
        "sequence": pl.Int64,
        "changed_at": pl.Int64,
        "row_key": pl.String,
        "row": pl.String,
        "bucket": pl.Int32,
    }
    changes = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("changed_at").cast(TIMESTAMP))
    coordinates = records.select("topic", "epoch", "partition", "offset", "ingested_at")
    return pl.concat([coordinates, changes], how="horizontal").select(row_changes.TABLE.schema.names())


def _row(change: RowChange) -> _Row | None:
    """What is kept of a change's row; None for a truncation, and where the table is no dimension.

    Raises:
        _Unfit: It is no row of that table.
    """
    dimension = _BY_SOURCE.get(change.source_table)
    if dimension is None or change.op == "t":
        return None
    before = _decoded(change.before, dimension)
    if change.op == "d":
        only_key = [source for source in dimension.columns if source.column.name in dimension.key]
        return _kept(dimension, only_key, before or {})
    after = _kept(dimension, dimension.columns, _decoded(change.after, dimension) or {})
    names = {source.source_name for source in dimension.columns if source.column.name in dimension.key}
    if change.op == "u" and before is not None and names <= before.keys():
        told = _kept(dimension, [s for s in dimension.columns if s.source_name in names], before)
        if told.key != after.key:
            raise _Unfit([f"key_changed:{dimension.source_table}"])
    return after


def _decoded(text: bytes | None, dimension: Dimension) -> dict[str, Any] | None:
    try:
        row = None if text is None else msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Unfit([f"not_json:{dimension.source_table}: {error}"]) from error
    if row is not None and not isinstance(row, dict):
        raise _Unfit([f"not_a_row:{dimension.source_table}"])
    return row


def _kept(dimension: Dimension, columns: tuple[SourceColumn, ...] | list[SourceColumn], row: Mapping[str, Any]) -> _Row:
    kept: dict[str, object] = {}
    reasons = []
    for source in columns:
        name, value = source.column.name, row.get(source.source_name)
        where = f"{dimension.source_table}.{source.source_name}"
        if value is None:
            if name in dimension.key:
                reasons.append(f"missing:{where}")
            kept[name] = None
        elif value == _UNAVAILABLE:
            reasons.append(f"unavailable:{where}")
        else:
            try:
                kept[name] = _protected(source, _fitting(source.column.dtype, value))
            except ValueError:
                reasons.append(f"wrong_type:{where}")
    if reasons:
        raise _Unfit(reasons)
    key = json.dumps([kept[name] for name in dimension.key], ensure_ascii=False)
    return _Row(key, json.dumps(kept, ensure_ascii=False))


def _fitting(dtype: pl.DataType, value: object) -> object:
    """A value as it stands in `silver/row_changes`.

    Raises:
        ValueError: It is not of that type.
    """
    if dtype == pl.String and isinstance(value, str):
        value.encode()  # half a surrogate pair is no text
        return value
    if dtype == pl.Boolean and isinstance(value, bool):
        return value
    if dtype == pl.Int64 and isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(dtype, pl.Decimal) and isinstance(value, str) and _DECIMAL.fullmatch(value):
        return str(Decimal(value).quantize(Decimal("0.000001")))
    if dtype == TIMESTAMP:
        return _instant(value)
    raise ValueError


def _instant(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and _YEAR_ONE_US <= value < _YEAR_10000_US:
        return value
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            seconds = found - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
            return (seconds.days * 86_400 + seconds.seconds) * 1_000_000 + seconds.microseconds
    raise ValueError


def _protected(source: SourceColumn, value: object) -> object:
    if source.protect == "hash":
        return hashed(str(value))
    return protected(value) if source.column.protected and isinstance(value, str) else value
