"""Which numbers a gold table publishes: a declaration, data only, beside the table.

`gold/published_numbers` keeps every number that was published, and why it changed. A gold table comes to it by one
`Publication`: which columns are numbers, which slice them, which window a row is of, and how far what is read for it
reaches. What it was computed from is not declared: `ops/computations` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.semantics.calendar import Interval, WeekStart, bucket_of, start_of
from platform_assets.table import TIMESTAMP, Table

VALUE = pl.Decimal(38, 9)
"""A published value: counts and money exactly, ratios to nine places."""

TOO_GREAT = 1e28
"""From here on `VALUE` may hold no change. One event may say such an amount, and is not to keep all else from the
ledger."""

_FINE = pl.Decimal(38, 15)
"""Ratios while they are added up, so that the sum is the same in whatever order."""

_ENCODED = ("%", ",", "=")
"""What is percent-encoded in a slice's text; the sign that encodes first."""


@dataclass(frozen=True)
class Reach:
    """How far around a window lies what is read for it: whole days of the reporting timezone.

    Attributes:
        before: Days before its first one.
        after: Days after its last one.
    """

    before: int = 0
    after: int = 0

    def around(self, window: Window, zone: ZoneInfo) -> Window:
        """The window and what is within reach of it; the window itself where there is nothing."""
        if not (self.before or self.after):
            return window
        days = window.days(zone)
        first, last = days[0] - timedelta(days=self.before), days[-1] + timedelta(days=self.after)
        reached = Window.of_days(first, last, zone)
        return Window(min(reached.start, window.start), max(reached.end, window.end))


@dataclass(frozen=True)
class Metric:
    """A column of numbers.

    Attributes:
        column: Its name; integers, decimals or floats.
        reach: What can move the number at all, where that is less than what is read for its row: nothing outside of
            it is a cause. None where all that is read can.
        unmoved_by: Tables that are read for its row and cannot move it, as persons cannot move an amount.
    """

    column: str
    reach: Reach | None = None
    unmoved_by: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Ends:
    """When that is over which a row is about, where the rows of one day differ in it.

    Attributes:
        by: The column that tells: ``interval``.
        last_days: Of a day that rows stand on, the last day that each is about, by the column's value.
    """

    by: str
    last_days: Callable[[date], Mapping[int, date]]


def settled(day: date, ahead: int, zone: ZoneInfo) -> datetime:
    """When so many days after a day have passed, by the clock of a zone and in elapsed time."""
    elapsed = Window.of_days(day, day, zone).end + timedelta(days=ahead)
    last = day + timedelta(days=ahead)
    return max(elapsed, Window.of_days(last, last, zone).end)


@dataclass(frozen=True)
class Publication:
    """The numbers of one gold table.

    Attributes:
        table: The table.
        metrics: Its numbers; published as ``<table>.<column>``, as in ``active_users.dau``.
        slices: The columns whose values make a slice, together.
        grain: The length of the window that a row is of.
        starts_on: The column that tells the window's first day (of the reporting timezone) or, for an hour, its start.
        week_start: The first day of a week.
        named_by: The column that holds the metric's name, where rows of several metrics are in one table.
        watermark: The column that holds the watermark at computation; None where `ops/computations` tells.
        definition: The column that holds the version or digest of the definition; None for that of the table.
        versions: Columns that hold the version that a row was computed from, and of which table it is.
        reach: For tables on the way by name, this one too: how far around a window of theirs what they read for it
            lies. Nothing around it where a table is not named.
        ends: When each row settles, where that is not told by ``reach``; its column is one of the slices.
        adds_up: Whether rows of one window and slice add up to its number, as the cohorts of a day's revenue do; else
            a number that stands twice is an error. A number is null where it is null in all of them.
        absent: What a number is that was published and has no row any more: 0 for a count by slice, None where it is
            not known.
    """

    table: Table
    metrics: tuple[Metric, ...]
    slices: tuple[str, ...] = ()
    grain: Interval = "day"
    starts_on: str = "day"
    week_start: WeekStart = "monday"
    named_by: str | None = None
    watermark: str | None = "watermark"
    definition: str | None = "definition_version"
    versions: Mapping[str, Table] = field(default_factory=dict)
    reach: Mapping[str, Reach] = field(default_factory=dict)
    ends: Ends | None = None
    adds_up: bool = False
    absent: int | None = None

    def __post_init__(self) -> None:
        told = [self.starts_on, *self.slices, *self.versions, *(metric.column for metric in self.metrics)]
        told += [name for name in (self.named_by, self.watermark, self.definition) if name is not None]
        if self.ends is not None and self.ends.by not in self.slices:
            msg = f"publication of {self.table.name}: its rows end by {self.ends.by!r}, which is none of its slices"
            raise ValueError(msg)
        unknown = [name for name in told if name not in self.table.schema]
        if unknown:
            msg = f"publication of {self.table.name}: it names {unknown}, which are no columns of the table"
            raise ValueError(msg)

    @property
    def progress(self) -> str:
        """The name under which the ledger records up to which version of the table it has compared."""
        return f"published/{self.table.name}"

    @property
    def names(self) -> Mapping[str, Metric]:
        """The numbers by the names that they are published under, where no column names them."""
        own = self.table.name.split("/", 1)[1].replace("/", ".")
        return {f"{own}.{metric.column}": metric for metric in self.metrics}

    def metric(self, column: str) -> Metric:
        """The metric of a column."""
        return next(metric for metric in self.metrics if metric.column == column)

    def window(self, start: date | datetime, zone: ZoneInfo) -> Window:
        """The window that begins on a day of the reporting timezone, or (an hour) at an instant."""
        if isinstance(start, datetime):
            return Window(start, start + timedelta(hours=1))
        after = start_of(bucket_of(start, self.grain, self.week_start) + 1, self.grain, self.week_start).date()
        return Window.of_days(start, after - timedelta(days=1), zone)

    def settles_at(self, window: Window, zone: ZoneInfo, part: int | None = None) -> datetime:
        """When all has happened that the window's number is made of: its end, or later where it reads days after it.

        A day of a funnel of 14 days is made of what its people did in the two weeks after it (`DailyNumber.ahead`).

        Args:
            window: The window.
            zone: The reporting timezone.
            part: The value of the column that `ends` names; the last one to settle where it is not known.
        """
        after = self.reach.get(self.table.name, Reach()).after
        if not after:
            return window.end
        first = window.days(zone)[0]
        last = None if self.ends is None or part is None else self.ends.last_days(first).get(part)
        return max(window.end, settled(first, after, zone) if last is None else settled(last, 0, zone))

    def windows_before(self, window: Window, zone: ZoneInfo) -> Iterator[Window]:
        """The windows before one, the nearest first, without end."""
        while True:
            last = window.start - timedelta(microseconds=1)
            if self.grain == "hour":
                window = Window.of_hour(last)
            else:
                bucket = bucket_of(last.astimezone(zone), self.grain, self.week_start)
                window = self.window(start_of(bucket, self.grain, self.week_start).date(), zone)
            yield window

    def numbers(self, rows: pl.LazyFrame, zone: ZoneInfo) -> pl.DataFrame:
        """The table's rows as numbers.

        Args:
            rows: Rows of the table.
            zone: The reporting timezone.

        Returns:
            ``metric``, ``slice``, ``window_start``, ``window_end``, ``settles_at``, ``value`` (Decimal(38, 9); null
            where a float is `TOO_GREAT`, or is none), ``column``, ``start`` (as the table has it), ``part`` (the value
            of the column that `ends` names, or null), ``watermark``, ``definition_version`` (text), and the columns of
            `versions`.

        Raises:
            ValueError: A number stands twice.
        """
        held = self._added_up(rows).collect(engine="streaming")
        part = (pl.lit(None) if self.ends is None else pl.col(self.ends.by)).cast(pl.Int64).alias("part")
        cells = held.select(pl.col(self.starts_on).alias("start"), part).unique()
        windows = {start: self.window(start, zone) for start in cells["start"].unique()}
        told = [(windows[start], self.settles_at(windows[start], zone, part)) for start, part in cells.iter_rows()]
        spans = cells.with_columns(
            window_start=pl.Series([window.start for window, _ in told], dtype=TIMESTAMP),
            window_end=pl.Series([window.end for window, _ in told], dtype=TIMESTAMP),
            settles_at=pl.Series([settles_at for _, settles_at in told], dtype=TIMESTAMP),
        )
        parts = [
            held.select(
                metric=pl.lit(name) if self.named_by is None else pl.col(self.named_by),
                slice=slice_text(self.slices),
                part=part,
                start=pl.col(self.starts_on),
                value=_exact(metric.column, held.schema[metric.column]),
                column=pl.lit(metric.column),
                watermark=pl.lit(None, TIMESTAMP) if self.watermark is None else pl.col(self.watermark),
                definition_version=pl.lit(str(self.table.version))
                if self.definition is None
                else pl.col(self.definition).cast(pl.String),
                **{version: pl.col(version) for version in self.versions},
            )
            for name, metric in self.names.items()
        ]
        found = pl.concat(parts).join(spans, on=["start", "part"], nulls_equal=True)
        twice = found.filter(pl.struct("metric", "slice", "window_start").is_duplicated())
        if not twice.is_empty():
            first = twice.row(0, named=True)
            msg = (
                f"publication of {self.table.name}: {first['metric']} of {first['start']} and slice "
                f"{first['slice']!r} stands more than once; name the columns that tell its rows apart as slices"
            )
            raise ValueError(msg)
        return found

    def _added_up(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The columns told, a row for each window and slice where they add up; ratios as decimals, in any order."""
        apart = [self.starts_on, *self.slices, *self.versions]
        apart += [name for name in (self.named_by, self.watermark, self.definition) if name is not None]
        columns = {metric.column: pl.col(metric.column) for metric in self.metrics}
        if not self.adds_up:
            return rows.select(*apart, *columns)
        exact = {
            name: column.cast(_FINE if self.table.schema[name].is_float() else VALUE)
            for name, column in columns.items()
        }
        is_known = {name: column.is_not_null().any() for name, column in columns.items()}
        return rows.group_by(apart).agg(pl.when(is_known[name]).then(exact[name].sum()).alias(name) for name in exact)


def slice_text(columns: tuple[str, ...]) -> pl.Expr:
    """The canonical text of a slice: ``country=DE,platform=ios``, by name; empty for the total.

    A column that is null is its bare name, ``platform``. ``%``, ``,`` and ``=`` in a value are percent-encoded.
    """
    if not columns:
        return pl.lit("")
    parts = []
    for name in sorted(columns):
        value = pl.col(name).cast(pl.String)
        for sign in _ENCODED:
            value = value.str.replace_all(sign, f"%{ord(sign):02X}", literal=True)
        parts.append(pl.coalesce(pl.lit(f"{name}=") + value, pl.lit(name)))
    return pl.concat_str(parts, separator=",")


def slice_part(column: str, value: str | None) -> str:
    """What a slice's text has of one column: see `slice_text`."""
    if value is None:
        return column
    return f"{column}={''.join(f'%{ord(sign):02X}' if sign in _ENCODED else sign for sign in value)}"


def slice_words(text: str) -> str:
    """The text of a slice for people: a value that is null is not known, and what a slice is of is said by its name."""
    values: dict[str, str | None] = {}
    for part in text.split(",") if text else ():
        name, has_value, value = part.partition("=")
        for sign in reversed(_ENCODED):  # the sign that encodes last
            value = value.replace(f"%{ord(sign):02X}", sign)
        values[name] = value if has_value else None
    if "dimension" in values and "value" in values:  # of the tables by slice
        of_dimension = values.pop("value")
        values[str(values.pop("dimension"))] = of_dimension
    return ", ".join(f"{name} is not known" if value is None else f"{name}={value}" for name, value in values.items())


def _exact(column: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype.is_float():
        value = pl.when(value.abs() < TOO_GREAT).then(value)
    return (value.round(9) if dtype.is_float() or dtype == _FINE else value).cast(VALUE)
