"""What a table is: a declaration, data only.

A table's grain, key, columns, layout, update pattern and service level are said once, here, in its own
file. The Delta schema, the pandera contract, the constraints, the metadata in the UI, the asset checks and
the data dictionary are functions over that declaration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

import dagster as dg
import pandera.polars as pa
import polars as pl

from partitions import Grain
from platform_assets.semantics.calendar import Interval, WeekStart

Layer = Literal["bronze", "silver", "gold", "quality", "ops"]
Source = Literal["events", "changes"]
"""The streams that numbers come from: clients' events, or changes of the database."""

Update = Literal[
    "append", "append, rarely replace", "append; settled", "advance; rebuild", "landed; rebuild", "merge", "rebuild"
]

TIMESTAMP = pl.Datetime("us", "UTC")
"""Every instant in the lake: microseconds, UTC."""

MONEY = pl.Decimal(18, 6)
"""An amount of money; its currency stands beside it (semantics 9)."""


@dataclass(frozen=True)
class Column:
    """One column. ``nullable`` is a promise that the contract checks, and Delta enforces.

    Attributes:
        name: As stored.
        dtype: The Polars type, checked exactly before every write.
        description: What it means, for the UI and the data dictionary.
        unit: The unit of a quantity (``events``, ``persons``, ``bytes``).
        nullable: Whether a row may lack it.
        provenance: Says how the row came to be (versions, clock times), not what it says: left out when
            stream and batch are compared.
        personal: Holds personal data.
        protected: E-mail addresses in it are hashed and IP addresses truncated on the way in (`semantics.privacy`).
        accepted: The only values allowed, where there is a closed list.
        minimum: The least value allowed.
    """

    name: str
    dtype: pl.DataType
    description: str
    unit: str | None = None
    nullable: bool = False
    provenance: bool = False
    personal: bool = False
    protected: bool = False
    accepted: tuple[str, ...] | None = None
    minimum: int | None = None


@dataclass(frozen=True)
class Plot:
    """The picture of a table by days: a line of numbers for each value of a column.

    Attributes:
        value: The column of numbers; added up where a day has several of one line.
        by: The column that has a line for each of its values.
        days: How many days it shows.
        only: A column and the value that rows shown have in it; all rows where None.
        interval: The length of what stands on a day, which is its first.
        week_start: The first day of a week.
        needs_end: Whether it has a number only when it has ended.
    """

    value: str
    by: str
    days: int = 28
    only: tuple[str, str] | None = None
    interval: Interval = "day"
    week_start: WeekStart = "monday"
    needs_end: bool = False


@dataclass(frozen=True)
class Reference:
    """A promise that values of a table stand for rows of another one, whose key they name or are part of.

    A dimension may come after the facts that name it, and some ids are nobody's: so a reference that does not hold
    warns, and some share of such rows may be expected.

    Attributes:
        columns: The columns; a row with a null in one of them refers to nothing.
        table: The table referred to.
        to: Its columns, in the same order; where None, of the same names.
        share: The greatest share of the rows that may refer to nothing, from 0 to 1.
    """

    columns: tuple[str, ...]
    table: Table
    to: tuple[str, ...] | None = None
    share: float = 0.0

    @property
    def referred(self) -> tuple[str, ...]:
        """The columns of the other table."""
        return self.columns if self.to is None else self.to

    @property
    def text(self) -> str:
        """For people: ``user_id → silver/users``."""
        named = "" if self.to is None else f" ({', '.join(self.to)})"
        return f"{', '.join(self.columns)} → {self.table.name}{named}"


@dataclass(frozen=True)
class Watch:
    """What of a table is compared, hour by hour, with the weeks before; what is unusual is warned of.

    Hours are those of the table's `window_on`. Rows are counted always.

    Attributes:
        by: The column that rows are counted by, each of its values alone; all together where None.
        distinct: The columns of which it is watched how many values an hour has.
        nulls: The columns whose share of nulls is watched.
        values: The columns whose distribution of values is watched.
        outcomes: Whether `silver/outcomes` tells what became of the records that the table is made of. Rows are then
            counted as they arrived, by topic, and so are those that came late, again, or were refused.
    """

    by: str | None = None
    distinct: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    outcomes: bool = False

    @property
    def text(self) -> str:
        """For people: ``rows by op; nulls of plan``."""
        counted = "records by outcome and topic" if self.outcomes else f"rows{f' by {self.by}' if self.by else ''}"
        told = {"distinct values of": self.distinct, "nulls of": self.nulls, "distribution of": self.values}
        return "; ".join([counted, *(f"{what} {', '.join(names)}" for what, names in told.items() if names)])


@dataclass(frozen=True)
class Table:
    """The declaration of one table.

    Attributes:
        name: ``layer/name``; also the asset's key and the folder in the lake.
        description: What the table is for, in a sentence or two.
        grain: What one row is.
        key: The columns that identify a row.
        columns: In order.
        partition_by: The Delta partition columns; the first is a date, or a bucket of the key.
        window_on: The column that a Dagster partition is a window on: an instant, or the day itself.
        partitions: The grain of its Dagster partitions; none for a ledger.
        cluster_by: How closed dates are sorted within their files.
        update: How rows come in.
        service_level: How long after an hour or day has passed its partition may be missing.
        version: Of the definition; raise it when the meaning of a number changes.
        stats: The columns that files carry minimum and maximum of, for pruning.
        append_only: Whether Delta refuses deletes.
        steady: Whether every hour or day brings rows; a source that may be idle owes none, so none is missed.
        owner: Who answers for it.
        plot: The picture that the newest day shows in the UI, of a table by days.
        source: Whose watermark closes its windows. Events are refused once they are later than the allowed lateness, so
            a window becomes final; the database may change what is of any day at any time, so none of its does.
        references: The rows of other tables that its rows name.
        watch: What of it is watched for anomalies; of a table whose rows have instants, and do not come by days.
    """

    name: str
    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    window_on: str
    partitions: Grain | None
    cluster_by: tuple[str, ...]
    update: Update
    service_level: timedelta
    stats: tuple[str, ...]
    version: int = 1
    append_only: bool = False
    steady: bool = True
    owner: str = "team:data-platform"
    plot: Plot | None = None
    source: Source = "events"
    references: tuple[Reference, ...] = ()
    watch: Watch | None = None

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        for field in ("key", "partition_by", "cluster_by", "stats"):
            unknown = [name for name in getattr(self, field) if name not in names]
            if unknown:
                msg = f"table {self.name}: {field} names {unknown}, which are no columns of it"
                raise ValueError(msg)
        if self.window_on not in names:
            msg = f"table {self.name}: window_on names {self.window_on!r}, which is no column of it"
            raise ValueError(msg)
        for reference in self.references:
            self._assert_can_hold(reference)
        if self.watch is not None:
            self._assert_can_be_watched(self.watch)

    def _assert_can_hold(self, reference: Reference) -> None:
        there = reference.table
        outside = [name for name in reference.referred if name not in there.key]
        types = [self.schema.get(name) for name in reference.columns]
        if outside:
            msg = f"table {self.name}: the reference {reference.text} names {outside}, not of the key of {there.name}"
            raise ValueError(msg)
        if types != [there.schema[name] for name in reference.referred]:
            msg = f"table {self.name}: the reference {reference.text} joins {types} with columns of another type"
            raise ValueError(msg)

    def _assert_can_be_watched(self, watch: Watch) -> None:
        is_of_hours = self.schema[self.window_on] == TIMESTAMP and self.window_on in self.stats
        if self.partitions == "day" or self.update == "merge" or not is_of_hours:
            msg = (
                f"table {self.name}: it has a watch, which is of hours that stand when they are closed; its partitions "
                f"are {self.partitions!r}, its update is {self.update!r}, its window is on {self.window_on!r}: do "
                "without days and merges, let the window be on an instant, and name it in stats"
            )
            raise ValueError(msg)
        by = () if watch.by is None else (watch.by,)
        texts = [name for name in (*by, *watch.values) if self.schema.get(name) != pl.String()]
        empty = [name for name in watch.nulls if name not in self.schema or name in self.required]
        unknown = [name for name in watch.distinct if name not in self.schema]
        lacking = [name for name in by if name not in self.required]
        for names, what in (
            (texts, "are no columns of text"),
            (empty, "are no columns that may be null"),
            (unknown, "are no columns"),
            (lacking, "may be null: nothing can be counted by it"),
        ):
            if names:
                msg = f"table {self.name}: its watch names {names}, which {what}"
                raise ValueError(msg)

    @property
    def layer(self) -> str:
        """``bronze``, ``silver``, ``gold``, ``quality`` or ``ops``."""
        return self.name.split("/")[0]

    @property
    def asset_key(self) -> dg.AssetKey:
        """The key of its asset."""
        return dg.AssetKey(self.name.split("/"))

    @cached_property
    def schema(self) -> pl.Schema:
        """Names and types of the columns, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that are never null."""
        return tuple(column.name for column in self.columns if not column.nullable)

    @property
    def substance(self) -> tuple[str, ...]:
        """The columns that say what is, without those that say how it was computed."""
        return tuple(column.name for column in self.columns if not column.provenance)

    def empty(self) -> pl.DataFrame:
        """A frame of no rows."""
        return pl.DataFrame(schema=self.schema)


def contract(table: Table) -> pa.DataFrameSchema:
    """The pandera contract of a table's rows: exact types, nullability, accepted values, ranges.

    The key's uniqueness is a check of its own (`quality.uniqueness`), because its failures have no rows to show.
    """
    columns = {}
    for column in table.columns:
        checks = []
        if column.accepted is not None:
            checks.append(pa.Check.isin(list(column.accepted)))
        if column.minimum is not None:
            checks.append(pa.Check.ge(column.minimum))
        columns[column.name] = pa.Column(column.dtype, checks=checks, nullable=column.nullable)
    return pa.DataFrameSchema(columns, strict=True, ordered=True, name=table.name)


def ui_schema(table: Table) -> dg.TableSchema:
    """The column schema that the Dagster UI shows."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=str(column.dtype),
                description=_described(column),
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=table.key == (column.name,)),
                tags={"personal": ""} if column.personal else None,
            )
            for column in table.columns
        ]
    )


def ui_metadata(table: Table) -> dict[str, dg.MetadataValue]:
    """The metadata of a table's asset: everything its declaration says."""
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(ui_schema(table)),
        "dagster/table_name": dg.MetadataValue.text(table.name),
        "grain": dg.MetadataValue.text(table.grain),
        "key": dg.MetadataValue.text(", ".join(table.key)),
        "laid out by": dg.MetadataValue.text(", ".join(table.partition_by)),
        "clustered by": dg.MetadataValue.text(", ".join(table.cluster_by)),
        "update pattern": dg.MetadataValue.text(table.update),
        "service level": dg.MetadataValue.text(str(table.service_level)),
        "definition version": dg.MetadataValue.int(table.version),
        **({"refers": dg.MetadataValue.text("; ".join(r.text for r in table.references))} if table.references else {}),
        **({"watched": dg.MetadataValue.text(table.watch.text)} if table.watch is not None else {}),
    }


def meanings(table: Table) -> dict[str, str]:
    """What each column of a table means, with its unit and the values that it may have."""
    return {column.name: _described(column) for column in table.columns}


def data_dictionary(tables: Sequence[Table]) -> str:
    """The data dictionary of some tables, in Markdown (`docs/data_dictionary.md`)."""
    lines = [
        "# Data dictionary",
        "",
        "Generated from the declarations in `platform_assets` by `headwater dictionary`. Instants are UTC,",
        "to the microsecond. *P* marks provenance (how a row was computed), *★* personal data.",
    ]
    for table in tables:
        lines += [
            "",
            f"## {table.name}",
            "",
            table.description,
            "",
            f"- **Grain**: {table.grain}; key ({', '.join(table.key)})",
            f"- **Laid out by** {', '.join(table.partition_by)}, clustered by {', '.join(table.cluster_by)}",
            f"- **Partitions**: {table.partitions or 'none'}, on `{table.window_on}`",
            f"- **Update**: {table.update}; service level {table.service_level}; version {table.version}",
            *(f"- **Refers**: {reference.text}" for reference in table.references),
            *([f"- **Watched**, by the hour: {table.watch.text}"] if table.watch is not None else []),
            "",
            "| column | type | null | | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for column in table.columns:
            marks = ("P" if column.provenance else "") + ("★" if column.personal else "")
            null = "yes" if column.nullable else ""
            lines.append(f"| `{column.name}` | {column.dtype} | {null} | {marks} | {_described(column)} |")
    return "\n".join(lines) + "\n"


def data_model(tables: Sequence[Table]) -> str:
    """The data model of some tables, in Markdown (`docs/data_model.md`): what each row is, where it lies, and why."""
    lines = [
        "# Data model",
        "",
        "Generated from the declarations in `platform_assets` by `headwater dictionary`; the columns are in",
        "[the data dictionary](data_dictionary.md).",
    ]
    for layer, what in _LAYERS.items():
        of_layer = [table for table in tables if table.layer == layer]
        lines += [
            "",
            f"## {layer.capitalize()}: {what}",
            "",
            "| table | grain | key | partitions | laid out by | clustered by | update |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{table.name.split('/', 1)[1]}` | {table.grain} | {', '.join(table.key)} | {table.partitions or ''} "
            f"| {', '.join(table.partition_by)} | {', '.join(table.cluster_by)} | {table.update} |"
            for table in of_layer
        ]
    lines += ["", "## Update patterns, and why", ""]
    used = {table.update for table in tables}
    lines += [f"- **{update}**: {why}" for update, why in _UPDATES.items() if update in used]
    lines += ["", "## Layouts, and why", ""]
    first = {table.schema[table.partition_by[0]] for table in tables}
    lines += [f"- {why}" for dtype, why in _LAYOUTS.items() if dtype in first]
    return "\n".join(lines) + "\n"


_LAYERS = {
    "bronze": "as it arrived",
    "silver": "decoded, deduplicated, conformed; dimensions; identity",
    "gold": "what people read",
    "quality": "how good it is",
    "ops": "how it came about",
}
_UPDATES: dict[Update, str] = {
    "append": "rows only come, with the progress that they stand for; nothing that is there ever changes.",
    "append, rarely replace": (
        "first arrival wins: where an earlier arrival is read later, it takes the place of the row that is there, in "
        "the same commit."
    ),
    "append; settled": "rows come while something is under way, and are replaced once it is known how it ended.",
    "advance; rebuild": (
        "micro-batches add what is new; materializing a window makes it equal to the function of what is above it."
    ),
    "landed; rebuild": "days are computed again from the files that stand, when one lands or is corrected.",
    "merge": (
        "one writer replaces the hash buckets of the keys that changed, with the version that it has taken in; "
        "materializing the table computes all of it anew."
    ),
    "rebuild": (
        "windows are computed whole from what is above them, when the ledgers say that they are stale, or when "
        "somebody asks."
    ),
}
_LAYOUTS: dict[pl.DataType, str] = {
    pl.Date(): (
        "By **date**: what is read, rebuilt, compacted and retained is a span of time. An hour is a predicate within "
        "its date, because 24 folders a day would be 24 times the files."
    ),
    pl.Int32(): (
        "By **bucket** of the key: what changes is a key, whenever it was last seen; a change rewrites one bucket in "
        "sixteen, and a reader of one key opens one."
    ),
}


def _described(column: Column) -> str:
    parts = [column.description]
    if column.unit is not None:
        parts.append(f"Unit: {column.unit}.")
    if column.protected:
        parts.append("Addresses in it are hashed or truncated.")
    if column.accepted is not None:
        parts.append("One of " + ", ".join(f"`{value}`" for value in column.accepted) + ".")
    return " ".join(parts)
