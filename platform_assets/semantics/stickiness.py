"""The stickiness histogram: persons by the number of intervals of a window that they were active in (semantics 5).

It is another metric than the stickiness ratio, DAU / MAU, which `activity.active_users` has.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
from pydantic import Field

from platform_assets.semantics.calendar import Interval, WeekStart
from platform_assets.semantics.engines import Frame, collected, lazy
from platform_assets.semantics.person_buckets import bucket_range, first_open, numbered, of_events
from platform_assets.semantics.specification import EventPredicate, Specification


class Stickiness(Specification):
    """What counts as active, and how long an interval is.

    Attributes:
        activity: What makes a person active.
        interval: The length of an interval.
        week_start: The first day of a week (a choice: Monday, semantics 5).
    """

    activity: EventPredicate = EventPredicate()
    interval: Interval = "day"
    week_start: WeekStart = "monday"


class RollingStickiness(Stickiness):
    """A histogram that is told anew of each interval, with those before it.

    Attributes:
        intervals: How many intervals the window has, the last of them the one that it is told of.
    """

    intervals: int = Field(default=7, ge=1, le=366)


def active_intervals(active: Any, buckets: range, *, actor: str = "person_id") -> Frame:
    """The number of a window's intervals in which each person was active.

    Args:
        active: The actor, ``bucket``, once each (`person_buckets`).
        buckets: The buckets of the window.
        actor: Whose intervals.

    Returns:
        The actor, ``active_intervals`` (from 1; who was not active at all is not there).
    """
    within = lazy(active).filter(nw.col("bucket") >= buckets.start, nw.col("bucket") < buckets.stop)
    return within.group_by(actor).agg(nw.len().cast(nw.Int64).alias("active_intervals"))


def stickiness(
    events: Any,
    specification: Stickiness,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    now: datetime,
    *,
    compared_with: tuple[date | datetime, date | datetime] | None = None,
    actor: str = "person_id",
) -> pl.DataFrame:
    """The histogram of a window and, where asked for, of one to compare it with.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the specification names; of both windows.
        specification: What counts.
        first: A day of the window's first interval, in the reporting timezone; of hours, a time on its clock (naive).
            The window is made of whole intervals.
        last: The same of its last interval.
        zone: The reporting timezone.
        now: The instant up to which events are known: the watermark (semantics 2).
        compared_with: First and last of the window to compare with; one of another length has as many rows as it has
            intervals.
        actor: Whose intervals.

    Returns:
        As `stickiness_of_buckets`.

    Raises:
        ValueError: A last is before its first, ``now`` is naive, or the events lack a column.
    """
    active = of_events(
        events, specification.activity, specification.interval, zone, specification.week_start, actor=actor
    )
    return stickiness_of_buckets(
        active, specification, first, last, zone, now, compared_with=compared_with, actor=actor
    )


def stickiness_of_buckets(
    active: Any,
    specification: Stickiness,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    now: datetime,
    *,
    compared_with: tuple[date | datetime, date | datetime] | None = None,
    actor: str = "person_id",
) -> pl.DataFrame:
    """`stickiness`, of the buckets that persons were active in rather than of their events.

    Args:
        active: The actor, ``bucket``, once each: `person_buckets.of_days` makes it from person-days.
        specification: What counts.
        first: As for `stickiness`.
        last: As for `stickiness`.
        zone: The reporting timezone.
        now: The instant up to which activity is known.
        compared_with: As for `stickiness`.
        actor: Whose intervals.

    Returns:
        ``period`` (`current`, `previous`), ``active_intervals`` (from 1 to the number of intervals in the window),
        ``persons`` (Int64), ``is_complete`` (whether the window has ended: before that a person can still become active
        in one interval more, and the numbers are those so far), in this order.

    Raises:
        ValueError: A last is before its first, or ``now`` is naive.
    """
    interval, week_start = specification.interval, specification.week_start
    still_open = first_open(now, interval, zone, week_start)
    windows = [("current", bucket_range(first, last, interval, week_start))]
    if compared_with is not None:
        windows.append(("previous", bucket_range(*compared_with, interval, week_start)))
    parts = []
    for period, buckets in windows:
        found = active_intervals(active, buckets, actor=actor)
        counts = collected(found.group_by("active_intervals").agg(nw.len().alias("persons")))
        parts.append(
            numbered("active_intervals", range(1, len(buckets) + 1))
            .join(counts, on="active_intervals", how="left", maintain_order="left")
            .select(
                pl.lit(period).alias("period"),
                "active_intervals",
                pl.col("persons").fill_null(0).cast(pl.Int64),
                pl.lit(buckets.stop <= still_open).alias("is_complete"),
            )
        )
    return pl.concat(parts)
