"""Lifecycle: who is new, returning, resurrecting or dormant in each day, week or month (semantics 5).

A person who is active in a bucket is *new* where it holds their first event ever, *returning* where they were active in
the bucket before, else *resurrecting*. A person who was active in the bucket before and is not in this one is *dormant*
in it, counted -1.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart, starts, with_buckets
from platform_assets.semantics.engines import Frame, collected, lazy
from platform_assets.semantics.person_buckets import bucket_range, first_open, numbered, of_events
from platform_assets.semantics.specification import EventPredicate, Specification

Status = Literal["new", "returning", "resurrecting", "dormant"]
STATUSES: tuple[Status, ...] = ("new", "returning", "resurrecting", "dormant")
"""The statuses, in the order in which they are shown."""


class Lifecycle(Specification):
    """What counts as active, and how long a bucket is.

    Attributes:
        activity: What makes a person active.
        interval: The length of a bucket.
        week_start: The first day of a week (a choice: Monday, semantics 5).
        new_by: Which first event makes a person new where the caller gives no firsts: `any_event`, the first ever of
            any event (a choice, semantics 5: whoever was seen before is not new to the product), or `activity`, the
            first that the activity matches.
        incomplete: What is shown of a bucket that has not ended: `null` (a choice, as in semantics 6: nobody can be
            called dormant in it yet), or the `count` so far.
    """

    activity: EventPredicate = EventPredicate()
    interval: Interval = "week"
    week_start: WeekStart = "monday"
    new_by: Literal["any_event", "activity"] = "any_event"
    incomplete: Literal["null", "count"] = "null"


def statuses(active: Any, firsts: Any, buckets: range, *, actor: str = "person_id") -> Frame:
    """The status of each person in each bucket in which they have one.

    Args:
        active: The actor, ``bucket``, once each (`person_buckets`). Only the buckets asked for and the one before the
            first of them are looked at.
        firsts: The actor, ``bucket`` of their first event ever, once each; of everybody who was active in the buckets
            asked for. Who is not in it is not new.
        buckets: The buckets asked for.
        actor: Whose lifecycle.

    Returns:
        The actor, ``bucket``, ``status``.
    """
    known = lazy(active).select(actor, "bucket")
    known = known.filter(nw.col("bucket") >= buckets.start - 1, nw.col("bucket") < buckets.stop)
    after = known.with_columns((nw.col("bucket") + 1).alias("bucket")).filter(nw.col("bucket") < buckets.stop)
    first = lazy(firsts).select(actor, "bucket").with_columns(is_new=nw.lit(value=True))
    came_back = after.with_columns(was_active=nw.lit(value=True))
    present = (
        known.filter(nw.col("bucket") >= buckets.start)
        .join(first, on=[actor, "bucket"], how="left")
        .join(came_back, on=[actor, "bucket"], how="left")
        .with_columns(
            nw.when(~nw.col("is_new").is_null())
            .then(nw.lit("new"))
            .otherwise(
                nw.when(~nw.col("was_active").is_null()).then(nw.lit("returning")).otherwise(nw.lit("resurrecting"))
            )
            .alias("status")
        )
    )
    gone = after.join(known, on=[actor, "bucket"], how="anti").with_columns(status=nw.lit("dormant"))
    columns = [actor, "bucket", "status"]
    return nw.concat([present.select(columns), gone.select(columns)])


def lifecycle(
    events: Any,
    specification: Lifecycle,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    now: datetime,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> pl.DataFrame:
    """How many persons are new, returning, resurrecting and dormant in each bucket.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the specification names: from the bucket
            before the first one on; where no firsts are given, all history.
        specification: What counts.
        first: A day of the first bucket, in the reporting timezone; of hours, a time on its clock (naive).
        last: The same of the last bucket.
        zone: The reporting timezone.
        now: The instant up to which events are known: the watermark (semantics 2).
        firsts: The actor, ``first_at`` (UTC), once each: the first event ever, where the lake keeps it.
        actor: Whose lifecycle.

    Returns:
        As `lifecycle_of_buckets`.

    Raises:
        ValueError: The last is before the first, ``now`` is naive, or the events lack a column.
    """
    interval, week_start = specification.interval, specification.week_start
    active = of_events(events, specification.activity, interval, zone, week_start, actor=actor)
    if firsts is not None:
        began = with_buckets(lazy(firsts).select(actor, "first_at"), interval, zone, week_start, instant="first_at")
    else:
        by_any = specification.new_by == "any_event"
        acted = of_events(events, EventPredicate(), interval, zone, week_start, actor=actor) if by_any else active
        began = acted.group_by(actor).agg(nw.col("bucket").min())
    return lifecycle_of_buckets(active, began, specification, first, last, zone, now, actor=actor)


def lifecycle_of_buckets(
    active: Any,
    firsts: Any,
    specification: Lifecycle,
    first: date | datetime,
    last: date | datetime,
    zone: ZoneInfo,
    now: datetime,
    *,
    actor: str = "person_id",
) -> pl.DataFrame:
    """`lifecycle`, of the buckets that persons were active in rather than of their events.

    Args:
        active: The actor, ``bucket``, once each: `person_buckets.of_days` makes it from person-days.
        firsts: The actor, ``bucket`` of their first event ever, once each.
        specification: What counts.
        first: As for `lifecycle`.
        last: As for `lifecycle`.
        zone: The reporting timezone.
        now: The instant up to which activity is known.
        actor: Whose lifecycle.

    Returns:
        ``bucket`` (its first day; of hours its time on the zone's clock), ``status``, ``persons`` (Int64; of dormant
        negative; null where the bucket has not ended, unless the specification says `count`), ``is_complete``: a row
        for every bucket and status, in this order, the statuses as in `STATUSES`.

    Raises:
        ValueError: The last is before the first, or ``now`` is naive.
    """
    interval, week_start = specification.interval, specification.week_start
    buckets = bucket_range(first, last, interval, week_start)
    is_complete = pl.col("bucket") < first_open(now, interval, zone, week_start)
    found = statuses(active, firsts, buckets, actor=actor)
    counts = collected(found.group_by("bucket", "status").agg(nw.len().alias("persons")))
    signed = pl.col("persons").cast(pl.Int64).fill_null(0) * pl.when(pl.col("status") == "dormant").then(-1).otherwise(
        1
    )
    shown = signed if specification.incomplete == "count" else pl.when(is_complete).then(signed)
    return (
        numbered("bucket", buckets)
        .join(pl.DataFrame({"status": STATUSES}), how="cross")
        .join(counts, on=["bucket", "status"], how="left", maintain_order="left")
        .select(
            starts(pl.col("bucket"), interval, week_start).alias("bucket"),
            "status",
            persons=shown,
            is_complete=is_complete,
        )
    )
