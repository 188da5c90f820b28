"""`gold/funnels/…`: a funnel of `gold/metrics`, by the day on which people entered it."""

from __future__ import annotations

import narwhals as nw
import polars as pl

from platform_assets.gold import fact_events
from platform_assets.gold.daily_numbers import DailyNumber, Reading, daily_table, days_of, published
from platform_assets.gold.metric_columns import fact_columns, of_names, told_together
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics.breakdowns import OTHER
from platform_assets.semantics.calendar import bucket_of, starts
from platform_assets.semantics.funnels import Funnel, attempts, furthest, summary
from platform_assets.table import Column, Plot, Table


def table(metric: Metric) -> Table:
    """The declaration of a funnel's table."""
    return daily_table(
        metric,
        says=(
            "Persons by the day on which they entered the funnel: of those who enter it on "
            "several days, each day has the furthest attempt that began on it. A breakdown's values beyond the "
            f"limit, of each day those with the fewest persons, are `{OTHER}`."
        ),
        grain="day × breakdown × step",
        day="Day of the first step",
        by=("breakdown", "step"),
        columns=(
            Column(
                "breakdown",
                pl.String(),
                "The value that it is told by; several, joined by ` / `, one that lacks `$none`; null without any.",
                nullable=True,
            ),
            Column("step", pl.Int64(), "Number of the step.", minimum=1),
            Column("name", pl.String(), "What the step is called."),
            Column("persons", pl.Int64(), "Persons who took the step within the window.", unit="persons", minimum=0),
            Column("from_first", pl.Float64(), "Their share of those who entered.", nullable=True),
            Column("from_previous", pl.Float64(), "Their share of those of the step before.", nullable=True),
            Column("mean_seconds", pl.Float64(), "Mean time from the step before.", unit="s", nullable=True),
            Column("p50_seconds", pl.Float64(), "Median time from the step before.", unit="s", nullable=True),
            Column("p90_seconds", pl.Float64(), "90 % came within this time.", unit="s", nullable=True),
        ),
        plot=Plot("persons", by="name"),
    )


def number(metric: Metric, funnel: Funnel) -> DailyNumber:
    """A funnel as a table by the day.

    Args:
        metric: What its file says.
        funnel: Its specification.

    Raises:
        MetricFileError: The funnel asks for what facts do not have.
    """
    predicates = [*funnel.steps, *funnel.exclusions]
    wanted = {reference for predicate in predicates for reference in predicate.properties}
    wanted |= set(funnel.breakdown.properties if funnel.breakdown is not None else ())
    for field, asked in (("steps", funnel.steps), ("exclusions", funnel.exclusions)):
        for number_of, predicate in enumerate(asked):
            if predicate.first_ever:
                at = metric.at(field, number_of, "first_ever")
                msg = f"{at}: first_ever: a day of a funnel does not read all history; leave it out"
                raise MetricFileError(msg)
    made, ahead = table(metric), days_of(funnel.window)
    return DailyNumber(
        table=made,
        source=fact_events.TABLE,
        columns=fact_columns(metric, wanted),
        compute=lambda reading: rows(reading, funnel),
        ahead=ahead,
        publishes=published(made, "persons", ("breakdown", "step"), ahead=ahead),
        keep=None if funnel.order == "strict" else of_names(predicates),
    )


def rows(reading: Reading, funnel: Funnel) -> pl.DataFrame:
    """The rows of some days, without those that say how final they are."""
    tried = attempts(reading.events, funnel, interval="day", zone=reading.zone)
    first, last = (bucket_of(day, "day") for day in (reading.days[0], reading.days[-1]))
    begun = tried.filter(nw.col("bucket").is_between(first, last))
    counted = furthest(begun, ["person_id", *funnel.breakdown_columns, "bucket"], dropped=funnel.dropped)
    told = summary(counted, funnel, by=["bucket"])
    values = [pl.col(column) for column in funnel.breakdown_columns]
    breakdown = pl.lit(None, pl.String)
    if values:
        is_other = pl.all_horizontal((value == OTHER).fill_null(value=False) for value in values)
        breakdown = pl.when(is_other).then(pl.lit(OTHER)).otherwise(told_together(values))
    return told.with_columns(day=starts(pl.col("bucket"), "day"), breakdown=breakdown).drop(
        "bucket", *funnel.breakdown_columns
    )
