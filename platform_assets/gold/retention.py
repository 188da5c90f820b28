"""`gold/retention/…`: a retention of `gold/metrics`, by the first day of the cohort."""

from __future__ import annotations

from datetime import date, timedelta

import narwhals as nw
import polars as pl

from platform_assets.gold.daily_numbers import LONGEST, DailyNumber, Reading, beginnings, daily_table, published
from platform_assets.gold.metric_columns import ACTIVITY_COLUMNS, check_activity
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.publication import Ends
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.engines import Frame, lazy
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.retention import Retention, retention_of_days
from platform_assets.silver import activity_hours
from platform_assets.table import Column, Plot, Table


def table(metric: Metric, specification: Retention) -> Table:
    """The declaration of a retention's table."""
    return daily_table(
        metric,
        says="A cohort stands on the first day of its day, week or month.",
        grain="cohort × interval",
        day="First day of the cohort's bucket",
        by=("interval",),
        columns=(
            Column(
                "interval", pl.Int64(), "Interval after the cohort's, which is 0; of brackets their first.", minimum=0
            ),
            Column(
                "persons",
                pl.Int64(),
                "Persons of the cohort who returned in it; null where it has not ended.",
                unit="persons",
                nullable=True,
                minimum=0,
            ),
            Column("cohort_size", pl.Int64(), "Persons of the cohort.", unit="persons", nullable=True, minimum=0),
            Column("share", pl.Float64(), "`persons` / `cohort_size`.", nullable=True),
            Column("is_complete", pl.Boolean(), "Whether the interval had ended by the watermark."),
        ),
        plot=Plot(
            "share",
            by="interval",
            days=180,
            interval=specification.interval,
            week_start=specification.week_start,
            needs_end=specification.incomplete == "null",
        ),
    )


def number(metric: Metric, specification: Retention) -> DailyNumber:
    """A retention as a table by the day. It reads hours of activity, not events.

    Args:
        metric: What its file says.
        specification: The retention.

    Raises:
        MetricFileError: It asks for what days of activity cannot tell.
    """
    spec = specification
    if spec.interval == "hour" or spec.windows != "calendar" or spec.breakdown is not None:
        field = "interval" if spec.interval == "hour" else "windows" if spec.windows != "calendar" else "breakdown"
        msg = (
            f"{metric.at(field)}: interval {spec.interval!r}, windows {spec.windows!r}, breakdown {spec.breakdown!r}: "
            "a table of retention has calendar days, weeks or months, without a breakdown"
        )
        raise MetricFileError(msg)
    if spec.kind == "first_time" and (spec.start.where or spec.start.first_ever):
        msg = f"{metric.at('start')}: start: firsts are known by the event's name only; leave where and first_ever out"
        raise MetricFileError(msg)
    check_activity(metric, "start", "returning")
    made, ahead = table(metric, spec), LONGEST[spec.interval] * (spec.reach + 1)
    ends = Ends("interval", lambda day: last_days(day, spec))
    return DailyNumber(
        table=made,
        source=activity_hours.TABLE,
        columns=ACTIVITY_COLUMNS,
        compute=lambda reading: rows(reading, spec),
        ahead=ahead,
        ends=ends,
        publishes=published(
            made, "persons", ("interval",), spec.interval, week_start=spec.week_start, ahead=ahead, ends=ends
        ),
        needs_firsts=spec.kind == "first_time",
    )


def last_days(cohort: date, spec: Retention) -> dict[int, date]:
    """The last day that each interval of a cohort is about, by the interval; nothing of a day that no cohort begins on.

    A return that is counted in all intervals before it (`unbounded`) may come until the last one ends.
    """
    if not beginnings([cohort], spec.interval, spec.week_start):
        return {}
    first = bucket_of(cohort, spec.interval, spec.week_start)
    through = {begins: spec.reach if spec.counting == "unbounded" and begins else ends for begins, ends in spec.ranges}
    return {
        begins: start_of(first + ends + 1, spec.interval, spec.week_start).date() - timedelta(days=1)
        for begins, ends in through.items()
    }


def rows(reading: Reading, spec: Retention) -> pl.DataFrame:
    """The rows of the cohorts that begin on some days, without those that say how final they are."""
    starts = beginnings(reading.days, spec.interval, spec.week_start)
    if not starts:
        wanted = ("day", "interval", "persons", "cohort_size", "share", "is_complete")
        dtypes = (pl.Date, pl.Int64, pl.Int64, pl.Int64, pl.Float64, pl.Boolean)
        return pl.DataFrame(schema=dict(zip(wanted, dtypes, strict=True)))
    told = with_matches(lazy(reading.events), [("is_start", spec.start), ("is_return", spec.returning)])
    days = told.select("person_id", "day", "is_start", "is_return").filter(nw.col("is_start") | nw.col("is_return"))
    firsts: Frame | None = None
    if spec.kind == "first_time":
        of_start = pl.lit(value=True) if spec.start.events is None else pl.col("event_name").is_in(spec.start.events)
        local = pl.col("first_at").dt.convert_time_zone(reading.zone.key).dt.date()
        began = reading.first_events.filter(of_start).group_by("person_id").agg(first_day=local.min())
        firsts = reading.engine.frame(began)
    told_of = retention_of_days(days, spec, starts[0], starts[-1], reading.zone, reading.known_until, firsts=firsts)
    return told_of.rename({"cohort": "day"}).filter(pl.col("day").is_in(starts))
