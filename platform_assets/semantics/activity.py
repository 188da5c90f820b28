"""Active persons: the 28-bit history, and DAU, WAU, MAU out of it (semantics 5).

Bit 0 of a history is the day itself, bit *k* the day *k* days before. A person has a row on a day when any
bit is set, that is when they were active on it or on one of the 27 days before.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

HISTORY_DAYS = 28
"""Days in a history, and in a month of monthly actives (a choice: 28, not 30)."""

_MASK = (1 << HISTORY_DAYS) - 1


def is_activity(passive_events: frozenset[str]) -> pl.Expr:
    """Whether an event makes its person active: neither bot nor test, nor on the passive list."""
    is_excluded = pl.col("is_bot").fill_null(value=False) | pl.col("is_test").fill_null(value=False)
    return ~is_excluded & ~pl.col("event_name").is_in(sorted(passive_events))


def history_before(active_days: pl.LazyFrame, day: date) -> pl.LazyFrame:
    """The histories on the day before ``day``, from the days that persons were active.

    Args:
        active_days: ``person_id``, ``day`` (a row per active day; repeated rows are one).
        day: The day after.

    Returns:
        ``person_id``, ``history`` (Int32).
    """
    ago = (pl.lit(day) - timedelta(days=1) - pl.col("day")).dt.total_days()
    return (
        active_days.filter(ago.is_between(0, HISTORY_DAYS - 1))
        .select("person_id", bit=ago.cast(pl.Int32))
        .unique()
        .group_by("person_id")
        .agg(history=(pl.lit(1, pl.Int32) * pl.lit(2, pl.Int32).pow(pl.col("bit"))).sum().cast(pl.Int32))
    )


def next_day(history: pl.LazyFrame, active: pl.LazyFrame) -> pl.LazyFrame:
    """The histories one day later.

    Args:
        history: ``person_id``, ``history`` on the day before.
        active: ``person_id`` of those active on the day (repeated rows are one).

    Returns:
        ``person_id``, ``history`` on the day; persons whose last activity is 28 days past are gone.
    """
    shifted = history.select("person_id", history=(pl.col("history") * 2) & _MASK)
    today = active.select("person_id", history=pl.lit(1, pl.Int32)).unique()
    return (
        pl.concat([shifted, today])
        .group_by("person_id")
        .agg(pl.col("history").sum().cast(pl.Int32))  # bit 0 is free after the shift: a sum is a union
        .filter(pl.col("history") > 0)
    )


def was_active_within(days: int) -> pl.Expr:
    """Whether a history has a bit among its last ``days`` days, today included."""
    return (pl.col("history") & ((1 << days) - 1)) > 0


def active_users(person_days: pl.LazyFrame) -> pl.LazyFrame:
    """Daily, weekly and monthly active users of each day.

    Args:
        person_days: ``day``, ``person_id``, ``history``; one row per person and day.

    Returns:
        ``day``, ``dau``, ``wau``, ``mau`` (Int64, persons), ``stickiness`` (DAU / MAU; null without any).
    """
    return (
        person_days.group_by("day")
        .agg(
            dau=was_active_within(1).sum().cast(pl.Int64),
            wau=was_active_within(7).sum().cast(pl.Int64),
            mau=was_active_within(HISTORY_DAYS).sum().cast(pl.Int64),
        )
        .with_columns(stickiness=pl.when(pl.col("mau") > 0).then(pl.col("dau") / pl.col("mau")))
    )
