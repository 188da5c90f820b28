"""The buckets (days, weeks, months) that each person was active in: what lifecycle, stickiness and retention count.

A frame of them has a row per person and bucket: the actor's column (``person_id``) and ``bucket`` (Int64, the number
that `calendar` gives it).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart, bucket_of, with_buckets, with_buckets_of_days
from platform_assets.semantics.engines import Frame, lazy
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.specification import EventPredicate


def of_events(
    events: Any,
    activity: EventPredicate,
    interval: Interval,
    zone: ZoneInfo,
    week_start: WeekStart = "monday",
    *,
    actor: str = "person_id",
) -> Frame:
    """The buckets in which each person did something, once each.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the predicate names. Who is null is nobody.
        activity: What has to be done.
        interval: The length of a bucket.
        zone: The reporting timezone.
        week_start: The first day of a week.
        actor: Whose buckets: a person's, or a group's.

    Returns:
        The actor, ``bucket``.
    """
    acts = with_matches(lazy(events), [("is_activity", activity)], actor)
    acts = acts.filter(nw.col("is_activity") & ~nw.col(actor).is_null()).select(actor, "occurred_at")
    return with_buckets(acts, interval, zone, week_start).select(actor, "bucket").unique()


def of_days(
    person_days: Any, interval: Interval, week_start: WeekStart = "monday", *, actor: str = "person_id"
) -> Frame:
    """The buckets in which each person had an active day, once each.

    Args:
        person_days: The actor, ``day`` (a date of the reporting timezone): a row per active day, or several.
        interval: The length of a bucket: a day, a week or a month.
        week_start: The first day of a week.
        actor: Whose buckets.

    Returns:
        The actor, ``bucket``.

    Raises:
        ValueError: The interval is an hour, which days cannot tell.
    """
    days = lazy(person_days).filter(~nw.col(actor).is_null()).select(actor, "day")
    return with_buckets_of_days(days, interval, week_start).select(actor, "bucket").unique()


def bucket_range(
    first: date | datetime, last: date | datetime, interval: Interval, week_start: WeekStart = "monday"
) -> range:
    """The numbers of the buckets from the one of a first day (or time on the zone's clock) to that of a last one.

    Raises:
        ValueError: The last is in a bucket before the first's.
    """
    span = range(bucket_of(first, interval, week_start), bucket_of(last, interval, week_start) + 1)
    if not span:
        msg = f"last {last.isoformat()} is before first {first.isoformat()}: give the earlier one as first"
        raise ValueError(msg)
    return span


def first_open(now: datetime, interval: Interval, zone: ZoneInfo, week_start: WeekStart = "monday") -> int:
    """The first bucket that has not ended at an instant (`calendar.has_ended`).

    Raises:
        ValueError: The instant is naive.
    """
    if now.tzinfo is None:
        msg = f"now {now.isoformat()} has no timezone: give an instant, such as the watermark, in UTC"
        raise ValueError(msg)
    return bucket_of(now.astimezone(zone).replace(tzinfo=None), interval, week_start)


def numbered(name: str, numbers: Iterable[int]) -> pl.DataFrame:
    """One column of numbers (Int64), to build the rows of a summary from."""
    return pl.DataFrame({name: list(numbers)}, schema={name: pl.Int64})
