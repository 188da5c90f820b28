"""`gold/stickiness/…`: a histogram of stickiness of `gold/metrics`, by the first day of its last interval."""

from __future__ import annotations

import narwhals as nw
import polars as pl

from platform_assets.gold.daily_numbers import LONGEST, DailyNumber, Reading, beginnings, daily_table, published
from platform_assets.gold.metric_columns import ACTIVITY_COLUMNS, check_activity
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics import person_buckets
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.engines import collected, lazy
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.stickiness import RollingStickiness, stickiness_of_buckets
from platform_assets.silver import activity_hours
from platform_assets.table import Column, Plot, Table


def table(metric: Metric, specification: RollingStickiness) -> Table:
    """The declaration of a histogram's table."""
    return daily_table(
        metric,
        says=(
            f"Of the {specification.intervals} intervals ({specification.interval}s) up to the one that begins on the "
            "day; persons without any activity in them are not there."
        ),
        grain="day × number of intervals",
        day="First day of the last of the intervals",
        by=("active_intervals",),
        columns=(
            Column("active_intervals", pl.Int64(), "In how many of the intervals persons were active.", minimum=1),
            Column(
                "persons",
                pl.Int64(),
                "Persons who were active in exactly so many; so far where the last has not ended.",
                unit="persons",
                minimum=0,
            ),
            Column("is_complete", pl.Boolean(), "Whether the last interval had ended by the watermark."),
        ),
        plot=Plot(
            "persons",
            by="active_intervals",
            days=90,
            interval=specification.interval,
            week_start=specification.week_start,
        ),
    )


def number(metric: Metric, specification: RollingStickiness) -> DailyNumber:
    """A histogram of stickiness as a table by the day. It reads hours of activity, not events.

    Args:
        metric: What its file says.
        specification: The histogram.

    Raises:
        MetricFileError: It asks for what days of activity cannot tell.
    """
    spec = specification
    if spec.interval in ("hour", "minute"):
        msg = f"{metric.at('interval')}: interval {spec.interval!r}: a table of stickiness has days, weeks or months"
        raise MetricFileError(msg)
    check_activity(metric, "activity")
    made, longest = table(metric, spec), LONGEST[spec.interval]
    back = (spec.intervals - 1) * longest
    return DailyNumber(
        table=made,
        source=activity_hours.TABLE,
        columns=ACTIVITY_COLUMNS,
        compute=lambda reading: rows(reading, spec),
        back=back,
        ahead=longest - 1,
        publishes=published(
            made,
            "persons",
            ("active_intervals",),
            spec.interval,
            week_start=spec.week_start,
            back=back,
            ahead=longest - 1,
        ),
    )


def rows(reading: Reading, spec: RollingStickiness) -> pl.DataFrame:
    """The rows of the intervals that begin on some days, without those that say how final they are."""
    starts = beginnings(reading.days, spec.interval, spec.week_start)
    dtypes = {"day": pl.Date, "active_intervals": pl.Int64, "persons": pl.Int64, "is_complete": pl.Boolean}
    if not starts:
        return pl.DataFrame(schema=dtypes)
    did = with_matches(lazy(reading.events), [("is_activity", spec.activity)]).filter(nw.col("is_activity"))
    active = collected(person_buckets.of_days(did, spec.interval, spec.week_start))
    found = []
    for start in starts:
        first = bucket_of(start, spec.interval, spec.week_start) - spec.intervals + 1
        since = start_of(first, spec.interval, spec.week_start)
        told = stickiness_of_buckets(active, spec, since, start, reading.zone, reading.known_until)
        found.append(told.select(pl.lit(start).alias("day"), "active_intervals", "persons", "is_complete"))
    return pl.concat(found)
