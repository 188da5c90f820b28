"""`gold/trends/…`: a trend of `gold/metrics`, by the first day of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.gold import fact_events
from platform_assets.gold.daily_numbers import LONGEST, DailyNumber, Reading, beginnings, daily_table, published
from platform_assets.gold.metric_columns import fact_columns, of_names, told_together
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics.breakdowns import OTHER
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.specification import properties_of
from platform_assets.semantics.trends import (
    Actors,
    DistinctValues,
    EventsPerActor,
    OfProperty,
    Series,
    Trend,
    Window,
    trend,
)
from platform_assets.table import Column, Plot, Table


def table(metric: Metric, specification: Trend) -> Table:
    """The declaration of a trend's table."""
    has_lines = len(specification.series) > 1 and specification.formula is None
    return daily_table(
        metric,
        says=(
            "A bucket stands on its first day. A breakdown's values beyond the limit, of each bucket those with the "
            f"least, are `{OTHER}`."
        ),
        grain="bucket × series × breakdown",
        day="First day of the bucket",
        by=("series", "breakdown"),
        columns=(
            Column("series", pl.Int64(), "Number of the series, from 0; of a formula 0.", minimum=0),
            Column(
                "breakdown",
                pl.String(),
                "The value that it is split by; several, joined by ` / `, one that lacks `$none`; null without any.",
                nullable=True,
            ),
            Column("name", pl.String(), "What the series is called."),
            Column(
                "value",
                pl.Float64(),
                "The number, so far where the bucket has not ended; null of nothing.",
                nullable=True,
            ),
        ),
        plot=Plot(
            "value",
            by="breakdown" if specification.breakdowns and not has_lines else "name",
            days=90,
            interval=specification.interval,
            week_start=specification.week_start,
        ),
        steady=not specification.breakdowns,
    )


def number(metric: Metric, specification: Trend) -> DailyNumber:
    """A trend as a table by the day.

    Args:
        metric: What its file says.
        specification: The trend.

    Raises:
        MetricFileError: It asks for what days do not tell, or for what facts do not have.
    """
    for path, fault in _faults(specification):
        msg = f"{metric.at(*path)}: {fault}"
        raise MetricFileError(msg)
    spec, longest = specification, LONGEST[specification.interval]
    looked_back = [one.measure.within_days or 1 for one in spec.series if isinstance(one.measure, Actors)]
    back = max(looked_back, default=1) - 1 + (spec.smoothed_over - 1) * longest
    made = table(metric, spec)
    return DailyNumber(
        table=made,
        source=fact_events.TABLE,
        columns=fact_columns(metric, _references(spec)),
        compute=lambda reading: rows(reading, spec),
        back=back,
        ahead=longest - 1,
        keep=of_names([one.events for one in spec.series]),
        publishes=published(
            made,
            "value",
            ("series", "breakdown"),
            spec.interval,
            week_start=spec.week_start,
            back=back,
            ahead=longest - 1,
        ),
    )


def rows(reading: Reading, specification: Trend) -> pl.DataFrame:
    """The rows of the buckets that begin on some days, without those that say how final they are.

    Each bucket is told by itself, so that which values are told apart in it does not depend on what is computed with
    it.
    """
    spec = specification.model_copy(update={"zone": reading.zone})
    found = list(_of_buckets(reading, spec))
    if not found:
        dtypes = {"day": pl.Date, "series": pl.Int64, "breakdown": pl.String, "name": pl.String, "value": pl.Float64}
        return pl.DataFrame(schema=dtypes)
    told = pl.concat(found)
    names = dict(enumerate([spec.formula] if spec.formula is not None else [one.events.label for one in spec.series]))
    values = [pl.col("breakdown").list.get(at, null_on_oob=True) for at in range(len(spec.breakdowns))]
    value = told_together(values) if values else pl.lit(None, pl.String)
    return told.select(
        day="starts",
        series="series",
        breakdown=pl.when("is_other").then(pl.lit(OTHER)).otherwise(value),
        name=pl.col("series").replace_strict(names, return_dtype=pl.String),
        value="value",
    )


def _of_buckets(reading: Reading, spec: Trend) -> Iterator[pl.DataFrame]:
    starts = beginnings(reading.days, spec.interval, spec.week_start)
    events = reading.events.collect(engine="streaming").lazy() if starts else reading.events
    for start in starts:
        bucket = bucket_of(start, spec.interval, spec.week_start)
        since, until = (
            start_of(bucket + k, spec.interval, spec.week_start).replace(tzinfo=reading.zone)
            for k in (1 - spec.smoothed_over, 1)
        )
        told = trend(events, spec, Window(since, until))
        yield told.filter(pl.col("bucket") == bucket)


def _faults(spec: Trend) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What is wrong, each with the path to its field."""
    if spec.interval not in LONGEST or spec.interval == "hour":
        yield ("interval",), f"interval {spec.interval!r}: a table of trends has days, weeks or months"
    if spec.whole or spec.cumulative:
        wrong = (
            f"whole {spec.whole}, cumulative {spec.cumulative}: a day does not know where a sum begins; leave them "
            "out, and add up the days"
        )
        yield ("whole" if spec.whole else "cumulative",), wrong
    if spec.zone != ZoneInfo("UTC"):
        yield ("zone",), f"zone {spec.zone.key!r}: all tables have the platform's reporting timezone; leave it out"
    for at, breakdown in enumerate(spec.breakdowns):
        if breakdown.bins is not None:
            wrong = f"breakdowns.{at}.bins {breakdown.bins}: every day would have other ranges; leave it out"
            yield ("breakdowns", at, "bins"), wrong
    for at, series in enumerate(spec.series):
        if series.events.first_ever:
            wrong = f"series.{at}.events: first_ever: a day of a trend does not read all history; leave it out"
            yield ("series", at, "events", "first_ever"), wrong
        for field, column in _own_columns(series):
            if column not in (*fact_events.TABLE.schema, "person_id"):
                there = ", ".join(fact_events.TABLE.schema)
                wrong = f"series.{at}.measure.{field} {column!r} is no column of gold/fact_events; there are {there}"
                yield ("series", at, "measure", field), wrong


def _own_columns(series: Series) -> Iterator[tuple[str, str]]:
    """The fields of a measure that name a column, and the columns."""
    measure = series.measure
    if isinstance(measure, Actors | EventsPerActor) and measure.actor is not None:
        yield "actor", measure.actor
    if isinstance(measure, OfProperty) and measure.once_per is not None:
        yield "once_per", measure.once_per


def _references(spec: Trend) -> set[str]:
    found = {*properties_of(spec.where), *(breakdown.property for breakdown in spec.breakdowns)}
    for series in spec.series:
        found.update(series.events.properties)
        found.update(properties_of(series.where))
        found.update(column for _, column in _own_columns(series))
        if isinstance(series.measure, OfProperty | DistinctValues):
            found.add(series.measure.property)
    return found - {"person_id"}
