"""What a dimension is: a source table, the columns taken of it, and the silver table that they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

import polars as pl

from platform_assets.semantics import dimensions
from platform_assets.table import TIMESTAMP, Column, Reference, Table

BUCKETS = 16
"""Row changes and dimensions are laid out by a hash of the row's key: a change rewrites the buckets that it is in."""

BUCKET = Column("bucket", pl.Int32(), "Hash of the source table and the row's key.", unit=f"0 to {BUCKETS - 1}")

Protect = Literal["hash"]
"""How personal data is protected on the way into silver: ``hash`` keeps equal values equal, and nothing else."""


@dataclass(frozen=True)
class SourceColumn:
    """A column of a source table.

    Attributes:
        column: What it becomes in silver. String, Int64, Boolean, Decimal (text on the wire) or an instant (RFC 3339
            text, or whole microseconds since 1970).
        name: Its name in the source; the same where None.
        protect: How it is protected.
    """

    column: Column
    name: str | None = None
    protect: Protect | None = None

    @property
    def source_name(self) -> str:
        """Its name in the source."""
        return self.name or self.column.name


@dataclass(frozen=True)
class Dimension:
    """A source table as a table of the lake.

    Attributes:
        table: The table.
        source_table: The table in the database.
        key: The columns that identify a row of it, by their names in silver; texts or whole numbers.
        columns: What is taken of it, the key included.
        compute: Its rows out of changes (`semantics`), key included; ``bucket`` is added to them.
    """

    table: Table
    source_table: str
    key: tuple[str, ...]
    columns: tuple[SourceColumn, ...]
    compute: Callable[[pl.LazyFrame], pl.LazyFrame]

    def __post_init__(self) -> None:
        for name in self.key:
            if self.row_schema.get(name) not in (pl.String, pl.Int64):
                msg = f"dimension {self.table.name}: the key column {name!r} must be taken, as String or Int64"
                raise ValueError(msg)

    @cached_property
    def row_schema(self) -> pl.Schema:
        """The columns taken of a row, with their types in silver."""
        return pl.Schema({source.column.name: source.column.dtype for source in self.columns})


def scd2(
    name: str,
    description: str,
    source_table: str,
    key: tuple[str, ...],
    columns: tuple[SourceColumn, ...],
    tracked: tuple[str, ...],
) -> Dimension:
    """A dimension with a row per version of its tracked columns (semantics 3); the others are the latest."""
    others = tuple(source.column.name for source in columns if source.column.name not in {*key, *tracked})

    def compute(changes: pl.LazyFrame) -> pl.LazyFrame:
        latest = dimensions.latest(changes, key, others).select(*key, *others)
        return dimensions.versions(changes, key, tracked).join(latest, on=key, how="left")

    return Dimension(
        _table(
            name,
            f"{description} One row per version of {' and '.join(tracked)}; a deletion closes the last one.",
            f"version of a row of `{source_table}`",
            (*key, "valid_from"),
            columns,
            Column("valid_from", TIMESTAMP, "Commit time from which on it held, inclusive."),
            Column("valid_to", TIMESTAMP, "Until when, exclusive; 9999-12-31 where it still holds."),
            Column("is_current", pl.Boolean(), "Whether it still holds."),
        ),
        source_table,
        key,
        columns,
        compute,
    )


def scd1(
    name: str,
    description: str,
    source_table: str,
    key: tuple[str, ...],
    columns: tuple[SourceColumn, ...],
    references: tuple[Reference, ...] = (),
) -> Dimension:
    """A dimension with a row per key, its latest values (semantics 3)."""
    others = tuple(source.column.name for source in columns if source.column.name not in key)
    return Dimension(
        _table(
            name,
            f"{description} The latest values; of a deleted row those that it had.",
            f"row of `{source_table}`",
            key,
            columns,
            Column("first_seen_at", TIMESTAMP, "Commit time of its first change."),
            Column("last_seen_at", TIMESTAMP, "Commit time of its last change."),
            Column("is_deleted", pl.Boolean(), "Whether it is gone from the source."),
            references=references,
        ),
        source_table,
        key,
        columns,
        lambda changes: dimensions.latest(changes, key, others),
    )


def _table(
    name: str,
    description: str,
    grain: str,
    key: tuple[str, ...],
    columns: tuple[SourceColumn, ...],
    *kind: Column,
    references: tuple[Reference, ...] = (),
) -> Table:
    return Table(
        name=name,
        description=description,
        grain=grain,
        key=key,
        columns=(*(source.column for source in columns), *kind, BUCKET),
        partition_by=("bucket",),
        window_on=kind[0].name,
        partitions=None,
        cluster_by=key,
        update="merge",
        service_level=timedelta(minutes=15),
        stats=(*key,),
        references=references,
    )
