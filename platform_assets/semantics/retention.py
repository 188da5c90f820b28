"""Retention: of those who started in a day, week or month, how many came back in each interval after it (semantics 6).

Everything rests on two things per person: the cohorts they are in, and the intervals in which they returned. Over
calendar buckets both need only the buckets in which a person started and returned, so the same core serves events
(`retention`) and person-days (`retention_of_days`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
from pydantic import Field, model_validator

from platform_assets.semantics.breakdowns import OTHER
from platform_assets.semantics.calendar import (
    Interval,
    WeekStart,
    start_of,
    starts,
    with_buckets,
    with_buckets_of_days,
)
from platform_assets.semantics.engines import (
    Frame,
    collected,
    lazy,
    property_column,
    with_microseconds,
    with_properties,
)
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.person_buckets import bucket_range, first_open, numbered
from platform_assets.semantics.specification import EventPredicate, Specification

BREAKDOWN = "breakdown"
"""The column of the value that a cohort is broken down by."""

_LENGTHS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
"""The lengths of windows that are counted from a person's own start."""


class Retention(Specification):
    """Who is in a cohort, what is a return, and how intervals are counted.

    Attributes:
        start: What puts a person in a cohort.
        returning: What counts as a return.
        interval: The length of a cohort's bucket, and of an interval.
        intervals: How many intervals there are, the cohort itself (interval 0) among them. Of brackets, they say.
        kind: `recurring`: every start puts the person in the cohort of its bucket, so that a person is in many cohorts.
            `first_time`: only their first start ever does.
        counting: In interval *k* counts who returned *on* it; `unbounded`: in it or any later one (also one beyond
            the last that is shown, or that has not ended yet: such a number can still grow); `bracket`: in a range of
            intervals.
        brackets: The ranges of intervals, in order and apart from one another: ``(1,)`` is the first interval,
            ``(2, 6)`` those from the second to the sixth.
        windows: `calendar`: an interval is a bucket of the reporting timezone (a choice, semantics 6). `24_hour`: it is
            so many hours from the person's own start, the first in the cohort's bucket: 24 of a day, 1 of an hour,
            7 × 24 of a week, 30 × 24 of a month.
        week_start: The first day of a week (a choice: Monday, semantics 5).
        breakdown: A property to tell cohorts apart by, as `Filter.property`: its value on the person's first start in
            the cohort's bucket (a choice, as in semantics 7), so that a person counts once in a cohort. Of several
            starts at that instant, the least value.
        breakdown_limit: How many values are told apart: those with the most persons in their cohorts, all added up, of
            as many the lesser text, a missing one first. The rest is one value, `breakdowns.OTHER`.
        incomplete: What is shown of a cell whose interval has not ended yet: `null` (a choice, semantics 6), or the
            `count` so far, as PostHog has it.
    """

    start: EventPredicate = EventPredicate()
    returning: EventPredicate = EventPredicate()
    interval: Interval = "day"
    intervals: int = Field(default=11, ge=1)
    kind: Literal["recurring", "first_time"] = "recurring"
    counting: Literal["on", "unbounded", "bracket"] = "on"
    brackets: tuple[tuple[int] | tuple[int, int], ...] = ()
    windows: Literal["calendar", "24_hour"] = "calendar"
    week_start: WeekStart = "monday"
    breakdown: str | None = None
    breakdown_limit: int = Field(default=25, ge=1)
    incomplete: Literal["null", "count"] = "null"

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The first and the last interval of each column of the table, interval 0 first."""
        if self.counting == "bracket":
            return ((0, 0), *((bracket[0], bracket[-1]) for bracket in self.brackets))
        return tuple((k, k) for k in range(self.intervals))

    @property
    def reach(self) -> int:
        """The last interval that is looked at."""
        return self.ranges[-1][1]

    @model_validator(mode="after")
    def _has_brackets_that_fit(self) -> Retention:
        if (self.counting == "bracket") != bool(self.brackets):
            msg = f"counting {self.counting!r} and brackets {self.brackets}: counting 'bracket' needs some, others none"
            raise ValueError(msg)
        if self.brackets and "intervals" in self.model_fields_set:
            msg = f"intervals {self.intervals}: the brackets {self.brackets} say how far it goes; leave intervals out"
            raise ValueError(msg)
        before = 0
        for start, end in self.ranges[1:]:
            if not before < start <= end:
                msg = (
                    f"brackets {self.brackets}: ({start}, {end}) must begin after interval {before} and not end before"
                )
                raise ValueError(msg)
            before = end
        return self


def retained(
    events: Any,
    specification: Retention,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> Frame:
    """Which persons are in which cells of the table.

    Args:
        events: As for `retention`.
        specification: What is counted.
        first: As for `retention`.
        last: As for `retention`.
        zone: The reporting timezone.
        firsts: As for `retention`.
        actor: Whose retention.

    Returns:
        The actor, ``bucket`` (the number of the cohort's bucket, `calendar`), ``interval``, and `BREAKDOWN` if there
        is one: a row for interval 0, and one for every interval in which the person returned; of brackets their first
        interval. Counting `unbounded`, only the last interval in which they returned: they are in all before it, too.

    Raises:
        ValueError: As for `retention`.
    """
    spec = specification
    buckets = bucket_range(first, last, spec.interval, spec.week_start)
    _check_firsts(spec, firsts)
    references = [] if spec.breakdown is None else [spec.breakdown]
    acts = with_matches(lazy(events), [("is_start", spec.start), ("is_return", spec.returning)], actor)
    acts = acts.filter((nw.col("is_start") | nw.col("is_return")) & ~nw.col(actor).is_null())
    kinds = [nw.col(property_column(reference)).alias(BREAKDOWN) for reference in references]
    # Only what is needed: the names of the columns added must be free.
    acts = with_properties(acts, references).select(actor, "occurred_at", "is_start", "is_return", *kinds)
    acts = with_buckets(with_microseconds(acts), spec.interval, zone, spec.week_start)
    began = None
    if firsts is not None:
        known = lazy(firsts).select(actor, "first_at", *([] if spec.breakdown is None else [BREAKDOWN]))
        began = with_buckets(
            with_microseconds(known, "first_at"), spec.interval, zone, spec.week_start, instant="first_at"
        )
    return _cells(acts, spec, buckets, began, actor)


def retained_of_days(
    person_days: Any,
    specification: Retention,
    first: date,
    last: date,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> Frame:
    """`retained`, of person-days: see `retention_of_days`."""
    spec = specification
    if spec.windows != "calendar" or spec.breakdown is not None:
        msg = f"windows {spec.windows!r}, breakdown {spec.breakdown!r}: days know calendar windows only; give events"
        raise ValueError(msg)
    buckets = bucket_range(first, last, spec.interval, spec.week_start)
    _check_firsts(spec, firsts)
    days = lazy(person_days).filter(~nw.col(actor).is_null()).select(actor, "day", "is_start", "is_return")
    began = None
    if firsts is not None:
        began = with_buckets_of_days(
            lazy(firsts).select(actor, "first_day"), spec.interval, spec.week_start, day="first_day"
        )
    return _cells(with_buckets_of_days(days, spec.interval, spec.week_start), spec, buckets, began, actor)


def retention(
    events: Any,
    specification: Retention,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    now: datetime,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> pl.DataFrame:
    """The table of cohorts and intervals.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the specification names: from the first
            cohort on; of kind `first_time` without firsts, all history. Who is null is nobody.
        specification: What is counted.
        first: A day of the first cohort, in the reporting timezone; of hours, a time on its clock (naive).
        last: The same of the last cohort.
        zone: The reporting timezone.
        now: The instant up to which events are known: the watermark (semantics 2).
        firsts: Of kind `first_time`: the actor, ``first_at`` (UTC), once each, and `BREAKDOWN` if there is one: the
            first start ever, where the lake keeps it.
        actor: Whose retention: a person's, or a group's.

    Returns:
        `BREAKDOWN` if there is one, ``cohort`` (the first day of its bucket; of hours its time on the zone's clock),
        ``interval`` (of brackets their first), ``persons``, ``cohort_size``, ``share`` (persons / cohort_size; null of
        an empty cohort), ``is_complete`` (whether the interval has ended by now; counted from the person's own start,
        that of whoever started last in the bucket). A row for every cohort, empty ones too, and every interval, in this
        order. Interval 0 is the cohort's size. What is not complete is null, unless the specification says `count`.

    Raises:
        ValueError: The last is before the first, ``now`` is naive, the events lack a column, or firsts are given that
            are not used.
    """
    cells = retained(events, specification, first, last, zone, firsts=firsts, actor=actor)
    return _table(cells, specification, first, last, zone, now)


def retention_of_days(
    person_days: Any,
    specification: Retention,
    first: date,
    last: date,
    zone: ZoneInfo,
    now: datetime,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> pl.DataFrame:
    """`retention`, of person-days rather than events: calendar windows of days, weeks and months without a breakdown.

    Args:
        person_days: The actor, ``day`` (a date of the reporting timezone), ``is_start``, ``is_return`` (whether they
            did on that day what starts and what returns; never null). The predicates of the specification are not
            looked at.
        specification: What is counted.
        first: A day of the first cohort.
        last: A day of the last cohort.
        zone: The reporting timezone.
        now: The instant up to which days are known.
        firsts: Of kind `first_time`: the actor, ``first_day``, once each: the first start ever.
        actor: Whose retention.

    Returns:
        As `retention`.

    Raises:
        ValueError: As for `retention`, or the specification asks for what days cannot tell.
    """
    cells = retained_of_days(person_days, specification, first, last, firsts=firsts, actor=actor)
    return _table(cells, specification, first, last, zone, now)


def _check_firsts(spec: Retention, firsts: Any) -> None:
    if firsts is not None and spec.kind != "first_time":
        msg = f"kind {spec.kind!r} takes no firsts: leave them out, or ask for 'first_time'"
        raise ValueError(msg)


def _cells(acts: Frame, spec: Retention, buckets: range, began: Frame | None, actor: str) -> Frame:
    """The core: `retained`, from the actor, ``bucket``, ``is_start``, ``is_return``.

    Where windows are counted from the person's own start, or there is a breakdown, ``at`` (microseconds) and
    `BREAKDOWN` are there, too; so they are in ``began``, the first starts that the caller knows.
    """
    by_clock = spec.windows == "calendar"
    acts = _within_reach(acts, spec, buckets)
    if is_once := by_clock and spec.breakdown is None:
        acts = _once_a_bucket(acts, actor)
    members = _members(acts.filter(nw.col("is_start")), spec, buckets, began, actor).rename({"bucket": "cohort"})
    columns = [actor, "cohort", *([] if spec.breakdown is None else [BREAKDOWN])]
    zero = nw.lit(0, nw.Int64)
    if is_once and began is None and spec.counting != "unbounded":
        # Who started has a row in that very bucket, so that one join of the acts with themselves finds all.
        came = acts.select(actor, nw.col("bucket").alias("came"), "is_return")
        since = nw.col("came") - nw.col("cohort")
        later = nw.when((since >= 1) & nw.col("is_return")).then(_interval_of(since, spec))
        interval = nw.when(since == 0).then(zero).otherwise(later)
        pairs = members.join(came, on=actor, how="inner").with_columns(interval.alias("interval"))
        cells = pairs.filter(~nw.col("interval").is_null()).select(*columns, "interval")
        return (cells.unique() if spec.counting == "bracket" else cells).rename({"cohort": "bucket"})
    joined = members.select(*columns).with_columns(zero.alias("interval"))
    if spec.reach == 0:
        return joined.rename({"cohort": "bucket"})
    returns = acts.filter(nw.col("is_return"))
    column, anchor = ("bucket", "cohort") if by_clock else ("at", "anchor")
    length = 1 if by_clock else _LENGTHS[spec.interval] // timedelta(microseconds=1)
    if spec.counting == "unbounded":
        # Whoever returned last in interval k returned in every earlier one or later: one row per person will do.
        came = returns.group_by(actor).agg(nw.col(column).max().alias("came"))
    else:
        came = returns.select(actor, nw.col(column).alias("came")).unique()
    since = ((nw.col("came") - nw.col(anchor)) // length).cast(nw.Int64)
    pairs = members.join(came, on=actor, how="inner")
    pairs = pairs.with_columns(since.alias("since")).filter(nw.col("since") >= 1)
    interval = _interval_of(nw.col("since"), spec)
    came_back = pairs.with_columns(interval.alias("interval")).filter(~nw.col("interval").is_null())
    return nw.concat([joined, came_back.select(*columns, "interval").unique()]).rename({"cohort": "bucket"})


def _within_reach(acts: Frame, spec: Retention, buckets: range) -> Frame:
    """The acts that start or return where it counts, by ``is_start`` and ``is_return``."""
    bucket = nw.col("bucket")
    is_start, is_return = nw.col("is_start"), nw.col("is_return") & (bucket >= buckets.start)
    if spec.kind == "recurring":
        is_start &= bucket.is_between(buckets.start, buckets.stop - 1)
    if spec.counting != "unbounded":
        # Windows from a person's own start end up to two buckets later than those of the calendar.
        is_return &= bucket < buckets.stop + spec.reach + (0 if spec.windows == "calendar" else 2)
    flagged = acts.with_columns(is_start=is_start, is_return=is_return)
    return flagged.filter(nw.col("is_start") | nw.col("is_return"))


def _once_a_bucket(acts: Frame, actor: str) -> Frame:
    """The actor, ``bucket``, ``is_start``, ``is_return``: a row for all that they did in a bucket."""
    flags = {name: nw.col(name).cast(nw.Int64).max() for name in ("is_start", "is_return")}
    # What starts and what returns are both asked for both flags: else each would be grouped by itself.
    done = acts.group_by(actor, "bucket").agg(**flags).with_columns(done=nw.col("is_start") + nw.col("is_return") * 2)
    return done.with_columns(is_start=nw.col("done") % 2 == 1, is_return=nw.col("done") > 1).drop("done")


def _members(began_acts: Frame, spec: Retention, buckets: range, began: Frame | None, actor: str) -> Frame:
    """Who is in which cohort, once each: the actor, ``bucket``; ``anchor`` and `BREAKDOWN` where they are needed."""
    with_time = spec.windows != "calendar" or spec.breakdown is not None
    ends = nw.col("bucket").is_between(buckets.start, buckets.stop - 1)
    times = [nw.col("at").min().alias("anchor")] if with_time else []
    if began is not None:
        known = began.filter(ends & ~nw.col(actor).is_null())
        kept = [nw.col("at").alias("anchor")] if with_time else []
        return known.select(actor, "bucket", *kept, *([] if spec.breakdown is None else [BREAKDOWN]))
    if spec.kind == "first_time":
        members = began_acts.group_by(actor).agg(nw.col("bucket").min(), *times).filter(ends)
    elif with_time:
        members = began_acts.group_by(actor, "bucket").agg(*times)
    else:
        members = began_acts.select(actor, "bucket")
    if spec.breakdown is None:
        return members
    at_anchor = began_acts.select(actor, "bucket", BREAKDOWN, nw.col("at").alias("anchor"))
    values = at_anchor.group_by(actor, "bucket", "anchor").agg(nw.col(BREAKDOWN).min())
    return members.join(values, on=[actor, "bucket", "anchor"], how="left")


def _interval_of(since: nw.Expr, spec: Retention) -> nw.Expr:
    """The interval that a return so many intervals after the start counts in; null if in none."""
    if spec.counting == "unbounded":
        return nw.when(since < spec.reach).then(since).otherwise(nw.lit(spec.reach, nw.Int64))
    if spec.counting == "on":
        return nw.when(since <= spec.reach).then(since)
    interval = nw.lit(None, nw.Int64)
    for start, end in spec.ranges[1:]:
        interval = nw.when(since.is_between(start, end)).then(nw.lit(start, nw.Int64)).otherwise(interval)
    return interval


def _table(
    cells: Frame, spec: Retention, first: date | datetime, last: date | datetime, zone: ZoneInfo, now: datetime
) -> pl.DataFrame:
    """The counts of the cells, in a table without gaps."""
    buckets = bucket_range(first, last, spec.interval, spec.week_start)
    kinds = [] if spec.breakdown is None else [BREAKDOWN]
    ended = _ended(spec, buckets, zone, now)
    counts = collected(cells.group_by(*kinds, "bucket", "interval").agg(nw.len().alias("persons")))
    grid = ended
    if kinds:
        counts = _limited(counts, spec.breakdown_limit)
        grid = counts.select(BREAKDOWN).unique().sort(BREAKDOWN, nulls_last=True).join(grid, how="cross")
    cohort = [*kinds, "bucket"]
    persons = pl.col("persons").fill_null(0).cast(pl.Int64)
    table = grid.join(
        counts, on=[*cohort, "interval"], how="left", nulls_equal=True, maintain_order="left"
    ).with_columns(persons)
    if spec.counting == "unbounded":
        # Persons were counted in the last interval in which they returned; interval 0 is the cohort itself.
        so_far = pl.col("persons").cum_sum(reverse=True).over(cohort)
        table = table.with_columns(pl.when(pl.col("interval") == 0).then("persons").otherwise(so_far).alias("persons"))
    table = table.with_columns(cohort_size=pl.col("persons").first().over(cohort))
    if spec.incomplete == "null":
        shown = pl.when("is_complete").then("persons")
        size = pl.when(pl.col("is_complete").first().over(cohort)).then("cohort_size")
        table = table.with_columns(persons=shown, cohort_size=size)
    share = pl.when(pl.col("cohort_size") > 0).then(pl.col("persons") / pl.col("cohort_size"))
    return table.select(
        *kinds,
        starts(pl.col("bucket"), spec.interval, spec.week_start).alias("cohort"),
        "interval",
        "persons",
        "cohort_size",
        share.alias("share"),
        "is_complete",
    )


def _limited(counts: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The counts with the values beyond the limit as one. A person has one value in a cohort, so they add up."""
    sizes = counts.filter(pl.col("interval") == 0).group_by(BREAKDOWN).agg(pl.col("persons").sum())
    kept = sizes.sort("persons", BREAKDOWN, descending=[True, False], nulls_last=False)[BREAKDOWN].head(limit)
    is_kept = pl.col(BREAKDOWN).is_in(kept.implode(), nulls_equal=True)
    value = pl.when(is_kept).then(BREAKDOWN).otherwise(pl.lit(OTHER))
    return counts.group_by(value.alias(BREAKDOWN), "bucket", "interval").agg(pl.col("persons").sum())


def _ended(spec: Retention, buckets: range, zone: ZoneInfo, now: datetime) -> pl.DataFrame:
    """Every cohort and interval, in order: ``bucket``, ``interval``, ``is_complete``."""
    still_open = first_open(now, spec.interval, zone, spec.week_start)
    columns = pl.DataFrame(spec.ranges, schema={"interval": pl.Int64, "through": pl.Int64}, orient="row")
    grid = numbered("bucket", buckets).join(columns, how="cross")
    ended = pl.col("bucket") + pl.col("through") < still_open
    if spec.windows == "24_hour":
        # The one who started last in the bucket starts their interval last: just before the bucket's end.
        ends = [start_of(b + 1, spec.interval, spec.week_start).replace(tzinfo=zone).astimezone(UTC) for b in buckets]
        reached = [(now - end) // _LENGTHS[spec.interval] for end in ends]
        grid = grid.join(
            numbered("bucket", buckets).with_columns(reached=pl.Series(reached, dtype=pl.Int64)), on="bucket"
        )
        own = pl.col("through") + 1 <= pl.col("reached")
        ended = pl.when(pl.col("interval") == 0).then(ended).otherwise(own)
    return grid.select("bucket", "interval", is_complete=ended)
