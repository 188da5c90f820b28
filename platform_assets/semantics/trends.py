"""Events or persons over time: counts and measures per hour, day, week or month, split by properties (semantics 5).

A trend is one number of each of its series in each bucket of a window: in the reporting timezone, over the person's
events as they are resolved now. The heavy part runs on the engine of the events; what comes back is one row per
series, value of the breakdown, and bucket.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
from pydantic import Field, model_validator

from platform_assets.semantics.breakdowns import BETWEEN, MISSING, as_one_text
from platform_assets.semantics.calendar import Interval, WeekStart, bucket_of, start_of, starts, with_buckets
from platform_assets.semantics.engines import Frame, collected, lazy, property_column, with_properties
from platform_assets.semantics.matching import holds, number, with_matches
from platform_assets.semantics.specification import AllOf, Condition, EventPredicate, Specification, properties_of

Aggregate = Literal["sum", "average", "minimum", "maximum", "median", "p75", "p90", "p95", "p99"]

_QUANTILES: Mapping[str, float] = {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_OTHER = "\x1d"
"""The values beyond the limit, where a breakdown's values travel as one text (`as_one_text`)."""

_TRAILING = r"[/?#]+$"


@dataclass(frozen=True)
class Window:
    """Instants from `start` up to, not including, `end`; both aware.

    Raises:
        ValueError: One has no timezone, or nothing is between them.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, at in (("start", self.start), ("end", self.end)):
            if at.tzinfo is None:
                msg = f"{name} {at} has no timezone: an instant needs one"
                raise ValueError(msg)
        if self.end <= self.start:
            msg = f"the window ends at {self.end}, not after its start {self.start}"
            raise ValueError(msg)


class Events(Specification):
    """How many events."""

    kind: Literal["events"] = "events"


class Actors(Specification):
    """How many distinct actors (persons by default).

    Attributes:
        kind: Which measure this is.
        within_days: Of the last so many days instead of the bucket alone, up to and including its last day (of an
            hour: so many times 24 hours, up to and including it). Weekly actives are 7, monthly 28 (a choice:
            semantics 5; others count 30).
        actor: Who is counted instead of `trend`'s actor: a column, like that of a group.
        as_of: Of a week or month, the days up to its last day that is in the window, or up to its first (a choice).
    """

    kind: Literal["actors"] = "actors"
    within_days: int | None = Field(default=None, ge=1)
    actor: str | None = None
    as_of: Literal["end", "start"] = "end"


class OfProperty(Specification):
    """A sum, average, … of a property that is a number; events without one do not count.

    Attributes:
        kind: Which measure this is.
        property: As `Filter.property` has it.
        aggregate: Percentiles are interpolated linearly between the nearest values.
        once_per: A column of whose every value the property counts once a bucket: of a session's duration, the
            session. The greatest one, where events differ.
    """

    kind: Literal["property"] = "property"
    property: str = Field(min_length=1)
    aggregate: Aggregate = "sum"
    once_per: str | None = None


class EventsPerActor(Specification):
    """An average, maximum, … of how many events each actor has who has any.

    Attributes:
        kind: Which measure this is.
        aggregate: As of `OfProperty`.
        actor: Whose events instead of those of `trend`'s actor: a column, like that of a group.
    """

    kind: Literal["events_per_actor"] = "events_per_actor"
    aggregate: Aggregate = "average"
    actor: str | None = None


class DistinctValues(Specification):
    """How many different values a property has; missing is none."""

    kind: Literal["distinct_values"] = "distinct_values"
    property: str = Field(min_length=1)


Measure: TypeAlias = Annotated[
    Events | Actors | OfProperty | EventsPerActor | DistinctValues, Field(discriminator="kind")
]


class Series(Specification):
    """One line of a trend.

    Attributes:
        events: Which events count. Of the first ever (`first_ever`) it is the first of all given events, whenever it
            was; with the measure `actors`, that is who did it for the first time.
        where: What must hold of those events besides: of a first ever event, of that very event.
        measure: What is told of them.
    """

    events: EventPredicate
    where: tuple[Condition, ...] = ()
    measure: Measure = Events()


class Breakdown(Specification):
    """A property whose values split each series.

    Attributes:
        property: As `Filter.property` has it. Values are texts, truth values `true` and `false`.
        bins: Into so many ranges of equal width between the least and greatest number, instead of single values; what
            is no number is missing.
        trim_url: Whether trailing `/`, `?` and `#` are cut off.
        empty_is_missing: Whether an empty text counts as a missing value (a choice: it does not).
    """

    property: str = Field(min_length=1)
    bins: int | None = Field(default=None, ge=1, le=100)
    trim_url: bool = False
    empty_is_missing: bool = False


class Trend(Specification):
    """Numbers over time.

    Attributes:
        series: The lines; a formula calls them A, B, C, ….
        interval: The length of a bucket.
        whole: Whether one number of the whole window is told instead of one a bucket.
        cumulative: Whether each bucket adds to those before; an actor or value counts when first seen.
        smoothed_over: Of how many buckets, the last of them its own, each bucket tells the average; fewer at the
            beginning of the window.
        where: What must hold of the events of every series.
        breakdowns: What each series is split by.
        breakdown_limit: How many values of each series are told; the rest is one value, *other*. A missing value is
            one, too.
        other: How *other* comes about: `counted` again from its events, so that a person counts once (a choice); then
            the values with the most events are told. Or `summed` over its values, or `left_out`: then those with the
            greatest numbers are told, which needs every value's.
        formula: Arithmetic over series that takes their place: `A + 2 * B`, with ``+ - * / % **``, numbers, brackets.
        nothing_is_zero: Whether the average, median, … of nothing is 0, not null (a choice).
        zone: The reporting timezone.
        week_start: The first day of a week (a choice: Monday, semantics 5).
    """

    series: tuple[Series, ...] = Field(min_length=1, max_length=26)
    interval: Interval = "day"
    whole: bool = False
    cumulative: bool = False
    smoothed_over: int = Field(default=1, ge=1)
    where: tuple[Condition, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    breakdown_limit: int = Field(default=25, ge=1)
    other: Literal["counted", "summed", "left_out"] = "counted"
    formula: str | None = None
    nothing_is_zero: bool = False
    zone: ZoneInfo = ZoneInfo("UTC")
    week_start: WeekStart = "monday"

    @model_validator(mode="after")
    def _makes_sense(self) -> Trend:
        if self.formula is not None:
            parsed_formula(self.formula, len(self.series))
        if self.whole and (self.cumulative or self.smoothed_over > 1):
            msg = "cumulative and smoothed_over are over buckets; with whole there are none"
            raise ValueError(msg)
        for at, series in enumerate(self.series):
            kind = series.measure.kind
            if self.cumulative and not adds_up(series.measure):
                msg = f"series {at}: cumulative adds up events, sums, actors and values; this {kind} does not add up"
                raise ValueError(msg)
            if isinstance(series.measure, Actors) and series.measure.within_days and self.interval == "minute":
                msg = f"series {at}: actives of the last days are not told by the minute; the shortest interval is hour"
                raise ValueError(msg)
        return self


def adds_up(measure: Measure) -> bool:
    """Whether what has been so far can be told bucket by bucket (`Trend.cumulative`)."""
    if isinstance(measure, Actors):
        return measure.within_days is None
    if isinstance(measure, OfProperty):
        return measure.aggregate == "sum" and measure.once_per is None
    return not isinstance(measure, EventsPerActor)


def trend(
    events: Any, specification: Trend, window: Window, compared_with: Window | None = None, actor: str = "person_id"
) -> pl.DataFrame:
    """The numbers of a trend.

    Args:
        events: ``occurred_at`` (instants), ``event_name``, the actor, and the columns that the specification names, in
            a frame of any engine. All of history where a first ever event or a look-back of days is asked for.
        specification: What is told.
        window: Of which time. A bucket that is only partly in it has only that part.
        compared_with: Another window, told besides.
        actor: Who is counted: a column; null is nobody.

    Returns:
        One row per period, series, value of the breakdown and bucket: ``period`` (`current` or `compared`), ``series``
        (Int64, from 0; of a formula 0), ``breakdown`` (list of texts, one for each of the breakdowns; null where the
        value is missing), ``is_other`` (whether these are the values beyond the limit), ``rank`` (from 0: the most
        first, then those with a missing value, then other), ``bucket`` (Int64, as in `calendar`; of the whole, that of
        the window's start), ``starts`` (when the bucket begins, on the zone's clock: a date, of an hour a naive time),
        ``value`` (Float64), ordered by these. Without breakdowns each series has every bucket; with, each
        value that has events (of the last days: that has actors).

    Raises:
        ValueError: The events lack a column that the specification names.
    """
    periods = {"current": window} | ({"compared": compared_with} if compared_with is not None else {})
    told = []
    for at, (period, of) in enumerate(periods.items()):
        lines = [_line(lazy(events), specification, series, of, actor) for series in specification.series]
        if specification.formula is not None:
            lines = [_calculated(specification.formula, lines, specification)]
        for index, line in enumerate(lines):
            told.append(_shown(line, specification).with_columns(at=pl.lit(at), period=pl.lit(period), series=index))
    shown = pl.concat(told).sort("at", "series", "rank", "bucket")
    return shown.select(
        "period", pl.col("series").cast(pl.Int64), "breakdown", "is_other", "rank", "bucket", "starts", "value"
    )


def previous(window: Window, specification: Trend) -> Window:
    """The window of as many buckets just before one: what a period is compared with.

    It begins and ends at the same time on the clock, day of the week or day of the month as far as a bucket goes.
    """
    buckets = _buckets(window, specification)
    back = len(buckets)

    def _earlier(at: datetime) -> datetime:
        local = at.astimezone(specification.zone)
        bucket = bucket_of(local.replace(tzinfo=None), specification.interval, specification.week_start)
        into = local.replace(tzinfo=None) - start_of(bucket, specification.interval, specification.week_start)
        begin = start_of(bucket - back, specification.interval, specification.week_start)
        return (begin + into).replace(tzinfo=specification.zone)

    start = _earlier(window.start)
    return Window(start, min(_earlier(window.end), window.start))


def parsed_formula(formula: str, series: int) -> ast.expr:
    """The syntax of a formula.

    Args:
        formula: Arithmetic over the letters of series.
        series: How many series there are.

    Raises:
        ValueError: It is no arithmetic, or names a series that is not there.
    """
    try:
        parsed = ast.parse(formula.strip(), mode="eval").body
    except SyntaxError as error:
        msg = f"formula {formula!r}: {error.msg}"
        raise ValueError(msg) from None
    letters = _letters(series)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name) and node.id not in letters:
            msg = f"formula {formula!r} names {node.id!r}; there are the series {', '.join(letters)}"
            raise ValueError(msg)
        is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True
        if not (is_number or isinstance(node, (*_ARITHMETIC, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp))):
            msg = f"formula {formula!r}: {type(node).__name__} is no arithmetic (there is + - * / % ** and brackets)"
            raise ValueError(msg)
    return parsed


_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow, ast.USub, ast.UAdd)


def _letters(count: int) -> tuple[str, ...]:
    return tuple(chr(ord("A") + at) for at in range(count))


def _buckets(window: Window, specification: Trend) -> range:
    """The buckets that a window touches."""

    def _bucket(at: datetime) -> int:
        local = at.astimezone(specification.zone).replace(tzinfo=None)
        return bucket_of(local, specification.interval, specification.week_start)

    first, last = _bucket(window.start), _bucket(window.end - timedelta(microseconds=1))
    return range(first, first + 1) if specification.whole else range(first, last + 1)


def _line(events: Frame, specification: Trend, series: Series, window: Window, actor: str) -> pl.DataFrame:
    """``key`` (the breakdown's values), ``bucket``, ``value`` of one series: every bucket, before any ranking."""
    rows = _rows(events, specification, series, window, actor)
    if specification.breakdowns and specification.other == "counted":
        rows = _with_most(rows, specification)
    measure = series.measure
    if isinstance(measure, Actors) and measure.within_days is not None:
        found = _rolling(rows, measure, specification, window)
    else:
        found = collected(_measured(rows, measure, cumulative=specification.cumulative))
    buckets = pl.DataFrame({"bucket": list(_buckets(window, specification))}, schema={"bucket": pl.Int64})
    keys = found.select("key").unique() if specification.breakdowns else pl.DataFrame({"key": [""]})
    value = pl.col("value").cast(pl.Float64)
    is_zero = specification.nothing_is_zero or not _may_be_nothing(measure)
    line = keys.join(buckets, how="cross").join(found, on=["key", "bucket"], how="left").sort("key", "bucket")
    line = line.select("key", "bucket", value.fill_null(0.0) if is_zero else value)
    if specification.cumulative:
        line = line.with_columns(pl.col("value").cum_sum().over("key", order_by="bucket"))
    if specification.smoothed_over > 1:
        average = pl.col("value").rolling_mean(specification.smoothed_over, min_samples=1)
        line = line.with_columns(average.over("key", order_by="bucket"))
    return line


def _may_be_nothing(measure: Measure) -> bool:
    return isinstance(measure, OfProperty | EventsPerActor) and measure.aggregate != "sum"


def _rows(events: Frame, specification: Trend, series: Series, window: Window, actor: str) -> Frame:
    """The events that a series counts, with ``key``, ``bucket``, ``actor``, ``measured`` and, rolling, ``unit``."""
    measure = series.measure
    own = measure.actor if isinstance(measure, Actors | EventsPerActor) else None
    looked_back = measure.within_days if isinstance(measure, Actors) and measure.within_days else 0
    counted = _counted(events, specification, series, window, actor, looked_back)
    if looked_back:
        unit: Interval = "hour" if specification.interval == "hour" else "day"
        counted = with_buckets(counted, unit, specification.zone, specification.week_start, name="unit")
    elif specification.whole:
        counted = counted.with_columns(nw.lit(_buckets(window, specification)[0], nw.Int64).alias("bucket"))
    else:
        counted = with_buckets(counted, specification.interval, specification.zone, specification.week_start)
    texts = _breakdown_texts(counted, specification.breakdowns)
    key = as_one_text(texts) if texts else nw.lit("")
    columns = [key.alias("key"), nw.col("unit" if looked_back else "bucket"), nw.col(own or actor).alias("actor")]
    if isinstance(measure, OfProperty):
        columns.append(number(nw.col(property_column(measure.property))).alias("measured"))
        if measure.once_per is not None:
            columns.append(nw.col(measure.once_per).alias("once_per"))
    elif isinstance(measure, DistinctValues):
        columns.append(nw.col(property_column(measure.property)).alias("measured"))
    return counted.select(*columns)


def _counted(
    events: Frame, specification: Trend, series: Series, window: Window, actor: str, looked_back: int
) -> Frame:
    """The events of a window, and of the days before that are looked back at, that a series counts."""
    since = window.start
    if looked_back:
        # From the bucket's first day, should the window begin later in it (`as_of`); a day more for changes of clocks.
        first = start_of(_buckets(window, specification)[0], specification.interval, specification.week_start)
        since = min(since, first.replace(tzinfo=specification.zone)) - timedelta(days=looked_back + 1)
    where = series.where + specification.where
    wanted = {*properties_of(where), *(breakdown.property for breakdown in specification.breakdowns)}
    if isinstance(series.measure, OfProperty | DistinctValues):
        wanted.add(series.measure.property)
    is_before_end = nw.col("occurred_at") < nw.lit(window.end.astimezone(UTC))
    is_since = nw.col("occurred_at") >= nw.lit(since.astimezone(UTC))
    # What was the first ever is told by all of history; else only the window is read, its properties last of all.
    read = events.filter(is_before_end if series.events.first_ever else is_before_end & is_since)
    counted = with_matches(read, [("is_counted", series.events)], actor).filter(nw.col("is_counted") & is_since)
    counted = with_properties(counted, wanted - set(series.events.properties))
    return counted.filter(holds(AllOf(all=where))) if where else counted


def _breakdown_texts(counted: Frame, breakdowns: Sequence[Breakdown]) -> list[nw.Expr]:
    texts = []
    for breakdown in breakdowns:
        text = nw.col(property_column(breakdown.property))
        if breakdown.trim_url:
            trimmed = text.str.replace_all(_TRAILING, "")
            # An address that is nothing but slashes is the root.
            text = nw.when((trimmed == "") & (text != "")).then(nw.lit("/")).otherwise(trimmed)
        if breakdown.empty_is_missing:
            text = nw.when(text != "").then(text)
        if breakdown.bins is not None:
            text = _binned(counted, breakdown)
        texts.append(text)
    return texts


def _binned(counted: Frame, breakdown: Breakdown) -> nw.Expr:
    """The name of the range that a number is in: it takes one look at the numbers to know the ranges."""
    size = number(nw.col(property_column(breakdown.property)))
    ends = collected(counted.select(low=size.min(), high=size.max()))
    low, high = ends.row(0) if ends.height else (None, None)
    if low is None or high is None:
        return nw.lit(None, nw.String)
    edges = bin_edges(low, high, breakdown.bins or 1)
    name: nw.Expr = nw.when(~size.is_null()).then(nw.lit(_bin_name(edges, 0)))
    for at in range(1, len(edges) - 1):
        text = _bin_name(edges, at)
        name = nw.when(size >= edges[at]).then(nw.lit(text)).otherwise(name)
    return name


def bin_edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    """The edges of ranges of equal width from the least to the greatest number; one range where they are the same."""
    if low == high:
        return (low, high)
    width = (high - low) / bins
    return (*(low + width * at for at in range(bins)), high)


def _bin_name(edges: Sequence[float], at: int) -> str:
    """``[10,17.5)``; the last range has its end, too: ``[32.5,40]``."""
    low, high = (f"{edge:.12g}" for edge in edges[at : at + 2])
    return f"[{low},{high}{']' if at == len(edges) - 2 else ')'}"


def _with_most(rows: Frame, specification: Trend) -> Frame:
    """The rows with the values beyond the limit as one, *other*; the values with the most rows stay."""
    most = rows.group_by("key").agg(nw.len().alias("rows")).sort("rows", "key", descending=[True, False])
    found = collected(most.head(specification.breakdown_limit + 1)).sort("rows", "key", descending=[True, False])
    if found.height <= specification.breakdown_limit:
        return rows
    kept = found["key"].head(specification.breakdown_limit).to_list()
    return rows.with_columns(key=nw.when(nw.col("key").is_in(kept)).then(nw.col("key")).otherwise(nw.lit(_OTHER)))


def _measured(rows: Frame, measure: Measure, *, cumulative: bool) -> Frame:
    """``key``, ``bucket``, ``value``: where there are rows, even of nobody or without a number."""
    by = ["key", "bucket"]
    if isinstance(measure, Events):
        return rows.group_by(by).agg(nw.len().alias("value"))
    if isinstance(measure, Actors | DistinctValues):
        counted = "actor" if isinstance(measure, Actors) else "measured"
        if cumulative:
            seen = rows.group_by(["key", counted]).agg(nw.col("bucket").min())
        else:
            seen = rows.select(*by, counted).unique(subset=[*by, counted])
        return seen.group_by(by).agg(nw.col(counted).count().alias("value"))
    if isinstance(measure, EventsPerActor):
        each = rows.group_by([*by, "actor"]).agg(nw.len().cast(nw.Float64).alias("measured"))
        each = each.with_columns(measured=nw.when(~nw.col("actor").is_null()).then(nw.col("measured")))
        return _aggregated(each, measure.aggregate)
    if measure.once_per is not None:
        rows = rows.group_by([*by, "once_per"]).agg(nw.col("measured").max())
    return _aggregated(rows, measure.aggregate)


def _aggregated(rows: Frame, aggregate: Aggregate) -> Frame:
    """``value`` of each key and bucket: the aggregate of ``measured`` (nulls are none); null where all are null."""
    by = ["key", "bucket"]
    measured = nw.col("measured")
    simple = {"sum": measured.sum(), "average": measured.mean(), "minimum": measured.min(), "maximum": measured.max()}
    if aggregate in simple:
        return rows.group_by(by).agg(simple[aggregate].alias("value"))
    # Exact and the same on every engine: the values on both sides of the place, and how far between them it is.
    numbered = rows.with_columns(
        place=measured.cum_count().over(*by, order_by="measured") - 1, count=measured.count().over(*by)
    )
    numbered = numbered.with_columns(wanted=(nw.col("count") - 1) * _QUANTILES[aggregate])
    numbered = numbered.with_columns(part=nw.col("wanted") - nw.col("wanted").floor(), low=nw.col("wanted").floor())
    weight = (
        nw.when(nw.col("place") == nw.col("low"))
        .then(1 - nw.col("part"))
        .otherwise(nw.when(nw.col("place") == nw.col("low") + 1).then(nw.col("part")).otherwise(nw.lit(0.0)))
    )
    weighed = numbered.with_columns(weighed=nw.col("measured") * weight).group_by(by)
    told = weighed.agg(nw.col("weighed").sum().alias("value"), nw.col("measured").count().alias("count"))
    return told.select(*by, nw.when(nw.col("count") > 0).then(nw.col("value")).alias("value"))


def _rolling(rows: Frame, measure: Actors, specification: Trend, window: Window) -> pl.DataFrame:
    """Distinct actors of the days before each bucket's end.

    An active day makes an actor count from that day on until the days have passed, or until they are active again:
    one more on the first day, one less on the day after the last. Added up, that is how many count on each day.
    """
    length = (measure.within_days or 1) * (24 if specification.interval == "hour" else 1)
    active = (
        rows.filter(~nw.col("actor").is_null()).select("key", "actor", "unit").unique(subset=["key", "actor", "unit"])
    )
    active = active.with_columns(again=nw.col("unit").shift(-1).over("key", "actor", order_by="unit"))
    passed = nw.col("unit") + length
    until = nw.when(nw.col("again") < passed).then(nw.col("again")).otherwise(passed)
    active = active.with_columns(until=until)
    spans = collected(active.group_by("key", "unit", "until").agg(nw.len().alias("actors")))
    spans = spans.with_columns(pl.col("unit", "until", "actors").cast(pl.Int64))
    more = spans.select("key", "unit", pl.col("actors").alias("change"))
    less = spans.select("key", pl.col("until").alias("unit"), -pl.col("actors").alias("change"))
    changes = pl.concat([more, less])
    level = changes.group_by("key", "unit").agg(pl.col("change").sum()).sort("key", "unit")
    level = level.with_columns(value=pl.col("change").cum_sum().over("key", order_by="unit"))
    buckets = _buckets(window, specification)
    ends = pl.DataFrame(
        {"bucket": list(buckets), "unit": [_unit(bucket, measure, specification, window) for bucket in buckets]},
        schema={"bucket": pl.Int64, "unit": pl.Int64},
    )
    asked = level.select("key").unique().join(ends, how="cross").sort("unit")
    told = asked.join_asof(level.sort("unit"), on="unit", by="key", strategy="backward", check_sortedness=False)
    return told.select("key", "bucket", pl.col("value").fill_null(0)).filter((pl.col("value").max() > 0).over("key"))


def _unit(bucket: int, measure: Actors, specification: Trend, window: Window) -> int:
    """The day up to which a bucket's days are (of an hour: itself), as a number."""
    unit: Interval = "hour" if specification.interval == "hour" else "day"
    last = (window.end - timedelta(microseconds=1)).astimezone(specification.zone).replace(tzinfo=None)
    if not specification.whole:
        if measure.as_of == "start":
            return bucket_of(start_of(bucket, specification.interval, specification.week_start), unit)
        after = start_of(bucket + 1, specification.interval, specification.week_start)
        last = min(last, after - timedelta(microseconds=1))
    return bucket_of(last, unit)


def _calculated(formula: str, lines: Sequence[pl.DataFrame], specification: Trend) -> pl.DataFrame:
    """The formula of each key and bucket; a series without a key has nothing there: 0."""
    keys = pl.concat([line.select("key", "bucket") for line in lines]).unique()
    for letter, line in zip(_letters(len(lines)), lines, strict=True):
        there = line.select("key", "bucket", pl.col("value").alias(letter), pl.lit(value=True).alias("is_there"))
        keys = keys.join(there, on=["key", "bucket"], how="left")
        absent = pl.col("is_there").is_null()
        keys = keys.with_columns(pl.when(absent).then(0.0).otherwise(pl.col(letter)).alias(letter)).drop("is_there")
    value = _expression(parsed_formula(formula, len(lines)))
    line = keys.select("key", "bucket", value=value).with_columns(
        pl.when(pl.col("value").is_finite()).then(pl.col("value")).alias("value")
    )
    return line.with_columns(pl.col("value").fill_null(0.0)) if specification.nothing_is_zero else line


def _expression(node: ast.expr) -> pl.Expr:
    if isinstance(node, ast.Name):
        return pl.col(node.id)
    if isinstance(node, ast.Constant):
        return pl.lit(node.value, pl.Float64)
    if isinstance(node, ast.UnaryOp):
        return -_expression(node.operand) if isinstance(node.op, ast.USub) else _expression(node.operand)
    if not isinstance(node, ast.BinOp):
        msg = f"{type(node).__name__} is no arithmetic"
        raise TypeError(msg)
    left, right = _expression(node.left), _expression(node.right)
    if isinstance(node.op, ast.Div | ast.Mod):
        result = left / right if isinstance(node.op, ast.Div) else left % right
        return pl.when(right != 0).then(result)
    if isinstance(node.op, ast.Pow):
        return left.pow(right)
    return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(node.op)]


def _shown(line: pl.DataFrame, specification: Trend) -> pl.DataFrame:
    """A line as `trend` returns it: ranked, with *other*, the keys told apart again."""
    line = _limited(line, specification)
    is_missing = pl.col("key").str.contains(MISSING, literal=True)
    ranked = (
        line.group_by("key")
        .agg(pl.col("value").sum().alias("total"))
        .with_columns(order=pl.when(pl.col("key") == _OTHER).then(2).when(is_missing).then(1).otherwise(0))
        .sort("order", "total", "key", descending=[False, True, False])
        .with_row_index("rank")
        .select("key", pl.col("rank").cast(pl.Int64))
    )
    is_other = pl.col("key") == _OTHER
    parts = pl.col("key").str.split(BETWEEN).list.eval(pl.when(pl.element() != MISSING).then(pl.element()))
    nothing = pl.lit([], pl.List(pl.String)) if not specification.breakdowns else None
    return line.join(ranked, on="key").select(
        (nothing if nothing is not None else pl.when(~is_other).then(parts)).alias("breakdown"),
        is_other.alias("is_other"),
        "rank",
        "bucket",
        starts(pl.col("bucket"), specification.interval, specification.week_start).alias("starts"),
        "value",
    )


def _limited(line: pl.DataFrame, specification: Trend) -> pl.DataFrame:
    if not specification.breakdowns or specification.other == "counted":
        return line
    totals = line.group_by("key").agg(pl.col("value").sum()).sort("value", "key", descending=[True, False])
    rest = totals["key"].slice(specification.breakdown_limit)
    beyond = pl.col("key").is_in(rest.implode())
    if specification.other == "left_out":
        return line.filter(~beyond)
    key = pl.when(beyond).then(pl.lit(_OTHER)).otherwise(pl.col("key"))
    return line.group_by(key.alias("key"), "bucket").agg(pl.col("value").sum())
