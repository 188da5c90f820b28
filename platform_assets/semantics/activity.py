"""Active persons: the 28-bit history, and DAU, WAU, MAU out of it (semantics 5).

Bit 0 of a history is the day itself, bit *k* the day *k* days before. A person has a row on a day when any
bit is set, that is when they were active on it or on one of the 27 days before.

What has a history is a *key*: a person, or a person and a value (their platform, country, plan). Such histories are
*sliced*: a person counts once in each value they had, so slices add up to more than the total.

Functions take frames of any engine (`engines.lazy`). Engines have few operators of bits in common, so bits are read
and moved by arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
from pydantic import Field

from platform_assets.semantics.engines import Frame, collected, lazy, with_day_number, with_local_time
from platform_assets.semantics.events import is_of_people
from platform_assets.semantics.specification import Specification

HISTORY_DAYS = 28
"""Days in a history, and in a month of monthly actives (a choice: 28, not 30)."""

MOST_DAYS = 31
"""The most days that a history can hold: it is stored in 32 bits, with a sign."""


class ActiveUsers(Specification):
    """How far weekly and monthly active users look back.

    Attributes:
        weekly: Days of a week of weekly actives, the day itself included.
        monthly: Days of a month of monthly actives (a choice: 28, not 30): the length of a history.
    """

    weekly: int = Field(default=7, ge=1, le=MOST_DAYS)
    monthly: int = Field(default=HISTORY_DAYS, ge=1, le=MOST_DAYS)

    @property
    def windows(self) -> Mapping[str, int]:
        """Names of the numbers, and the days that each looks back over."""
        return {"dau": 1, "wau": self.weekly, "mau": self.monthly}


WINDOWS = ActiveUsers().windows
"""Names of the numbers of active users, and the days that each looks back over, the day itself included."""

PERSON = ("person_id",)

_BIT, _AT, _NEXT, _UNTIL, _STEP, _NAME = "__bit", "__at", "__next", "__until", "__step", "__name"
"""Columns made on the way; a key or a slice may have any plain name."""


def is_activity(passive_events: frozenset[str]) -> pl.Expr:
    """Whether an event makes its person active: of people (`is_of_people`), and not on the passive list."""
    return is_of_people() & ~pl.col("event_name").is_in(sorted(passive_events))


def active_days(
    events: Any, zone: ZoneInfo, passive_events: frozenset[str] = frozenset(), key: Sequence[str] = PERSON
) -> Frame:
    """The days on which each key was active: the key, ``day`` (Date, of the zone), each once.

    Args:
        events: The key, ``event_name``, ``occurred_at`` (instant, UTC): neither of bots nor of tests.
        zone: The reporting timezone.
        passive_events: Names of events that make nobody active.
        key: What has a history. Its columns may be null; null is a value.
    """
    acted = lazy(events)
    if passive_events:
        acted = acted.filter(~nw.col("event_name").is_in(sorted(passive_events)))
    return with_local_time(acted, zone).select(*key, day=nw.col("local_at").cast(nw.Date)).unique()


def history_on(days: Any, day: date, key: Sequence[str] = PERSON, length: int = HISTORY_DAYS) -> Frame:
    """The histories on a day, from the days of activity. What `next_day` gives a day at a time, at once.

    Args:
        days: The key, ``day`` (Date): a row per active day; repeated rows are one, other days are left out.
        day: The day.
        key: What has a history.
        length: Days in a history.

    Returns:
        The key, ``history`` (Int32, never 0).

    Raises:
        ValueError: The length is not from 1 to `MOST_DAYS`.
    """
    _refuse_length(length)
    number = (day - date(1970, 1, 1)).days
    numbered = with_day_number(lazy(days)).with_columns((nw.lit(number) - nw.col("day_number")).alias(_BIT))
    within = numbered.select(*key, _BIT).filter((nw.col(_BIT) >= 0) & (nw.col(_BIT) < length)).unique()
    # Distinct bits: their sum is their union.
    summed = within.with_columns(history=nw.lit(2) ** nw.col(_BIT)).group_by(*key).agg(nw.col("history").sum())
    return summed.with_columns(nw.col("history").cast(nw.Int32))


def history_before(days: Any, day: date, key: Sequence[str] = PERSON, length: int = HISTORY_DAYS) -> Frame:
    """The histories on the day before ``day``: `history_on` of that day."""
    return history_on(days, day - timedelta(days=1), key, length)


def next_day(history: Any, active: Any, key: Sequence[str] = PERSON, length: int = HISTORY_DAYS) -> Frame:
    """The histories one day later: what a new day costs is its own activity and the day before.

    Args:
        history: The key, ``history`` on the day before.
        active: The key of those active on the day (repeated rows are one).
        key: What has a history.
        length: Days in a history.

    Returns:
        The key, ``history`` (Int32) on the day; who was last active ``length`` days before is gone.

    Raises:
        ValueError: The length is not from 1 to `MOST_DAYS`.
    """
    _refuse_length(length)
    # Without the oldest bit first, so that nothing overflows.
    kept = nw.col("history") % (1 << (length - 1))
    aged = lazy(history).select(*key, history=(kept * 2).cast(nw.Int32)).filter(nw.col("history") > 0)
    today = lazy(active).select(*key).unique().with_columns(history=nw.lit(1, nw.Int32))
    # Bit 0 is free after the ageing: a sum is a union.
    together = nw.concat([aged, today]).group_by(*key).agg(nw.col("history").sum())
    return together.with_columns(nw.col("history").cast(nw.Int32))


def was_active_within(days: int, history: str = "history") -> nw.Expr:
    """Whether a history has a bit among its last ``days`` days, the day itself included."""
    return was_active_between(0, days - 1, history)


def was_active_between(first: int, last: int, history: str = "history") -> nw.Expr:
    """Whether a history has a bit from ``first`` to ``last`` days ago, both included."""
    ago = nw.col(history) if first == 0 else nw.col(history) // (1 << first)
    return ago % (1 << (last - first + 1)) > 0


def active_users(
    histories: Any, by: Sequence[str] = ("day",), windows: Mapping[str, int] = WINDOWS, history: str = "history"
) -> Frame:
    """Daily, weekly and monthly active users.

    Args:
        histories: ``by`` and a history: one row per key and day. Of sliced histories, `by` has the slice, too.
        by: What is counted apart; without any there is one row.
        windows: Names of the numbers, and the days that each looks back over; at most as many as a history has.
        history: The column of the histories.

    Returns:
        ``by``, the numbers (Int64, persons), ``stickiness``: those of the shortest window as a share of those of the
        longest (DAU / MAU; null without any).
    """
    counts = [was_active_within(days, history).cast(nw.Int64).sum().alias(name) for name, days in windows.items()]
    frame = lazy(histories)
    counted = frame.group_by(*by).agg(*counts) if by else frame.select(*counts)
    shortest, longest = min(windows, key=windows.__getitem__), max(windows, key=windows.__getitem__)
    # Whole numbers are divided: Sail divides no others.
    whole = nw.when(nw.col(longest) > 0).then(nw.col(longest))
    return counted.with_columns(nw.col(*windows).cast(nw.Int64)).with_columns(stickiness=nw.col(shortest) / whole)


def active_users_over(
    days: Any,
    first: date,
    last: date,
    by: Sequence[str] = (),
    windows: Mapping[str, int] = WINDOWS,
    key: Sequence[str] = PERSON,
) -> pl.DataFrame:
    """Active users of every day of a range at once: what `active_users` says of each day's histories.

    Each active day covers the days that it counts for: from itself on, up to where the window ends or the next active
    day begins. So a person is one step up and one down per active day, and no history is made.

    Args:
        days: The key, ``by``, ``day`` (Date): a row per active day; repeated rows are one.
        first: The first day wanted. Activity before it counts as far as the windows look back.
        last: The last day wanted.
        by: What is counted apart (a slice).
        windows: As for `active_users`.
        key: Who is counted.

    Returns:
        ``by``, ``day``, the numbers (Int64), ``stickiness``; each day of the range for each slice that has any number
        in it (without slices: each day), in order.
    """
    start, end = ((day - date(1970, 1, 1)).days for day in (first, last))
    reach = max(windows.values()) - 1
    of_key = [*by, *(name for name in key if name not in by)]
    numbered = (
        with_day_number(lazy(days))
        .select(*of_key, nw.col("day_number").alias(_AT))
        .filter((nw.col(_AT) >= start - reach) & (nw.col(_AT) <= end))
        .unique()
        .with_columns(nw.col(_AT).shift(-1).over(*of_key, order_by=_AT).alias(_NEXT))
    )
    steps = []
    for name, length in windows.items():
        ends = nw.col(_AT) + length
        until = nw.when(nw.col(_NEXT) < ends).then(nw.col(_NEXT)).otherwise(ends)
        covers = numbered.with_columns(until.alias(_UNTIL))
        for number, step in ((_AT, 1), (_UNTIL, -1)):
            at = covers.select(*by, nw.col(number).cast(nw.Int32).alias(_AT))
            counted = at.group_by(*by, _AT).agg(nw.len().alias(_STEP))
            signed = (nw.col(_STEP).cast(nw.Int64) * step).alias(_STEP)
            steps.append(counted.select(*by, _AT, signed, nw.lit(name).alias(_NAME)))
    told = collected(nw.concat(steps))
    calendar = pl.DataFrame({_AT: pl.int_range(start - reach, end + 1, dtype=pl.Int32, eager=True)})
    grid = calendar if not by else told.select(by).unique().join(calendar, how="cross").sort(*by, _AT)
    for name in windows:
        net = told.filter(pl.col(_NAME) == name).group_by(*by, _AT).agg(pl.col(_STEP).sum().alias(name))
        grid = grid.join(net, on=[*by, _AT], how="left", nulls_equal=True, maintain_order="left")
    running = [pl.col(name).fill_null(0).cum_sum() for name in windows]
    grid = grid.with_columns(expr.over(by) for expr in running) if by else grid.with_columns(running)
    shortest, longest = min(windows, key=windows.__getitem__), max(windows, key=windows.__getitem__)
    wanted = grid.filter(pl.col(_AT) >= start)
    if by:
        wanted = wanted.filter((pl.col(longest) > 0).any().over(by))
    stickiness = pl.when(pl.col(longest) > 0).then(pl.col(shortest) / pl.col(longest))
    return wanted.select(*by, pl.col(_AT).cast(pl.Date).alias("day"), *windows, stickiness=stickiness)


def _refuse_length(length: int) -> None:
    if not 1 <= length <= MOST_DAYS:
        msg = f"length {length}: a history has from 1 to {MOST_DAYS} days"
        raise ValueError(msg)
