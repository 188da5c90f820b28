"""Minutes, hours, days, weeks and months of the reporting timezone, as numbers that count up without gaps.

A bucket is the number of its minute, hour, day, week or month since 1970: the bucket *k* later is the number plus *k*,
whatever the engine and however long the months are. `start_of` says which day (or local hour) it begins on.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from platform_assets.semantics.engines import Frame, with_day_number, with_local_time

Interval = Literal["minute", "hour", "day", "week", "month"]
WeekStart = Literal["monday", "sunday"]

_EPOCH = date(1970, 1, 1)
_EPOCH_IN_WEEK = {"monday": 3, "sunday": 4}
"""1970-01-01 was a Thursday: days of its week before it."""


def with_buckets(
    events: Frame,
    interval: Interval,
    zone: ZoneInfo,
    week_start: WeekStart = "monday",
    *,
    instant: str = "occurred_at",
    name: str = "bucket",
) -> Frame:
    """Add the number of the bucket that each instant is in (Int64).

    Args:
        events: Has a column of instants.
        interval: The length of a bucket. Minutes and hours are of the zone's clock: what it shows twice is one.
        zone: The reporting timezone.
        week_start: The first day of a week (a choice: Monday, semantics 5).
        instant: The name of the column of instants.
        name: The name of the new column.
    """
    local, day = nw.col("local_at"), nw.col("day_number").cast(nw.Int64)
    number = {
        "minute": day * 1440 + local.dt.hour().cast(nw.Int64) * 60 + local.dt.minute().cast(nw.Int64),
        "hour": day * 24 + local.dt.hour().cast(nw.Int64),
        "day": day,
        "week": (day + _EPOCH_IN_WEEK[week_start]) // 7,
        "month": (local.dt.year().cast(nw.Int64) - 1970) * 12 + local.dt.month().cast(nw.Int64) - 1,
    }[interval]
    told = with_local_time(events, zone, instant).with_columns(number.cast(nw.Int64).alias(name))
    return told.drop(["local_at", "day_number"])


def with_buckets_of_days(
    days: Frame, interval: Interval, week_start: WeekStart = "monday", *, day: str = "day", name: str = "bucket"
) -> Frame:
    """Add the number of the bucket that each day is in (Int64): as `with_buckets`, of dates.

    Args:
        days: Has a column of dates of the reporting timezone.
        interval: The length of a bucket: a day, a week or a month.
        week_start: The first day of a week.
        day: The name of the column of dates.
        name: The name of the new column.

    Raises:
        ValueError: The interval is an hour or a minute.
    """
    if interval in ("minute", "hour"):
        msg = f"interval {interval!r}: days do not tell it; give events, or an interval of a day, a week or a month"
        raise ValueError(msg)
    told, number, when = with_day_number(days, day, "day_number"), nw.col("day_number"), nw.col(day).dt
    bucket = {
        "day": number,
        "week": (number + _EPOCH_IN_WEEK[week_start]) // 7,
        "month": (when.year().cast(nw.Int64) - 1970) * 12 + when.month().cast(nw.Int64) - 1,
    }[interval]
    return told.with_columns(bucket.cast(nw.Int64).alias(name)).drop("day_number")


def bucket_of(local: datetime | date, interval: Interval, week_start: WeekStart = "monday") -> int:
    """The number of the bucket that a day, or a time on the zone's clock, is in."""
    day = local.date() if isinstance(local, datetime) else local
    number = (day - _EPOCH).days
    if interval in ("minute", "hour"):
        hours = number * 24 + (local.hour if isinstance(local, datetime) else 0)
        return hours if interval == "hour" else hours * 60 + (local.minute if isinstance(local, datetime) else 0)
    if interval == "day":
        return number
    if interval == "week":
        return (number + _EPOCH_IN_WEEK[week_start]) // 7
    return (day.year - 1970) * 12 + day.month - 1


def start_of(bucket: int, interval: Interval, week_start: WeekStart = "monday") -> datetime:
    """The beginning of a bucket on the zone's clock (naive)."""
    if interval == "month":
        return datetime(1970 + bucket // 12, bucket % 12 + 1, 1)  # noqa: DTZ001 (a clock's reading, not an instant)
    passed = {
        "minute": timedelta(minutes=bucket),
        "hour": timedelta(hours=bucket),
        "day": timedelta(days=bucket),
        "week": timedelta(days=bucket * 7 - _EPOCH_IN_WEEK[week_start]),
    }
    return datetime(1970, 1, 1) + passed[interval]  # noqa: DTZ001


def starts(bucket: pl.Expr, interval: Interval, week_start: WeekStart = "monday") -> pl.Expr:
    """The beginnings of buckets: a date, of a minute or hour the time on the zone's clock (naive)."""
    if interval == "month":
        return pl.date(1970 + bucket // 12, bucket % 12 + 1, 1)
    if interval in ("minute", "hour"):
        return pl.datetime(1970, 1, 1) + (
            pl.duration(hours=bucket) if interval == "hour" else pl.duration(minutes=bucket)
        )
    days = bucket if interval == "day" else bucket * 7 - _EPOCH_IN_WEEK[week_start]
    return days.cast(pl.Int32).cast(pl.Date)


def has_ended(bucket: int, interval: Interval, now: datetime, zone: ZoneInfo, week_start: WeekStart = "monday") -> bool:
    """Whether a bucket's end is at or before an instant (of a window that is closed: the watermark, semantics 2)."""
    return start_of(bucket + 1, interval, week_start) <= now.astimezone(zone).replace(tzinfo=None)
