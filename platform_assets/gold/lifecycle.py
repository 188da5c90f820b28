"""`gold/lifecycle/…`: a lifecycle of `gold/metrics`, by the first day of the bucket."""

from __future__ import annotations

import narwhals as nw
import polars as pl

from platform_assets.gold.daily_numbers import LONGEST, DailyNumber, Reading, beginnings, daily_table, published
from platform_assets.gold.metric_columns import ACTIVITY_COLUMNS, check_activity
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics import person_buckets
from platform_assets.semantics.calendar import with_buckets
from platform_assets.semantics.engines import lazy
from platform_assets.semantics.lifecycle import STATUSES, Lifecycle, lifecycle_of_buckets
from platform_assets.semantics.matching import with_matches
from platform_assets.silver import activity_hours
from platform_assets.table import Column, Plot, Table


def table(metric: Metric, specification: Lifecycle) -> Table:
    """The declaration of a lifecycle's table."""
    return daily_table(
        metric,
        says="A bucket stands on its first day.",
        grain="bucket × status",
        day="First day of the bucket",
        by=("status",),
        columns=(
            Column("status", pl.String(), "What the persons are in the bucket.", accepted=STATUSES),
            Column(
                "persons",
                pl.Int64(),
                "Persons of that status, dormant ones negative; null where the bucket has not ended.",
                unit="persons",
                nullable=True,
            ),
            Column("is_complete", pl.Boolean(), "Whether the bucket had ended by the watermark."),
        ),
        plot=Plot(
            "persons",
            by="status",
            days=90,
            interval=specification.interval,
            week_start=specification.week_start,
            needs_end=specification.incomplete == "null",
        ),
    )


def number(metric: Metric, specification: Lifecycle) -> DailyNumber:
    """A lifecycle as a table by the day. It reads hours of activity, not events.

    Args:
        metric: What its file says.
        specification: The lifecycle.

    Raises:
        MetricFileError: It asks for what days of activity cannot tell.
    """
    if specification.interval == "hour" or specification.new_by != "any_event":
        field = "interval" if specification.interval == "hour" else "new_by"
        msg = (
            f"{metric.at(field)}: interval {specification.interval!r}, new_by {specification.new_by!r}: a table of "
            "lifecycle has days, weeks or months, and whoever was seen before is not new"
        )
        raise MetricFileError(msg)
    check_activity(metric, "activity")
    made, longest = table(metric, specification), LONGEST[specification.interval]
    return DailyNumber(
        table=made,
        source=activity_hours.TABLE,
        columns=ACTIVITY_COLUMNS,
        compute=lambda reading: rows(reading, specification),
        back=longest,
        ahead=longest - 1,
        needs_firsts=True,
        publishes=published(
            made,
            "persons",
            ("status",),
            specification.interval,
            week_start=specification.week_start,
            back=longest,
            ahead=longest - 1,
        ),
    )


def rows(reading: Reading, spec: Lifecycle) -> pl.DataFrame:
    """The rows of the buckets that begin on some days, without those that say how final they are."""
    starts = beginnings(reading.days, spec.interval, spec.week_start)
    if not starts:
        return pl.DataFrame(
            schema={"day": pl.Date, "status": pl.String, "persons": pl.Int64, "is_complete": pl.Boolean}
        )
    did = with_matches(lazy(reading.events), [("is_activity", spec.activity)]).filter(nw.col("is_activity"))
    active = person_buckets.of_days(did, spec.interval, spec.week_start)
    firsts = reading.first_events.group_by("person_id").agg(first_at=pl.col("first_at").min())
    began = with_buckets(reading.engine.frame(firsts), spec.interval, reading.zone, spec.week_start, instant="first_at")
    told = lifecycle_of_buckets(
        active, began.select("person_id", "bucket"), spec, starts[0], starts[-1], reading.zone, reading.known_until
    )
    return told.rename({"bucket": "day"}).filter(pl.col("day").is_in(starts))
