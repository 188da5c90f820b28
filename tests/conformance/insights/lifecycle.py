"""Lifecycle: PostHog's question as our `Lifecycle`, and our rows in the shape of their results."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.lifecycle import STATUSES, Lifecycle, lifecycle
from tests.conformance.insights import dates
from tests.conformance.insights.filters import entities, overall
from tests.conformance.insights.world import Query, World
from tests.conformance.outcome import OutOfScope

_INTERVALS: dict[str, Interval] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}


def answer(world: World, query: Query) -> dict[str, Any]:
    """The results of a lifecycle query, shaped like theirs.

    Raises:
        OutOfScope: It asks for what is no number of ours.
    """
    body = query.body if query.legacy is None else query.legacy
    interval = _INTERVALS[body.get("interval") or "day"]
    week_start: WeekStart = "monday" if query.week_start == "monday" else "sunday"
    predicates = [predicate for _, predicate in entities(world, query)]
    if len(predicates) != 1:
        msg = f"lifecycles of {len(predicates)} series"
        raise OutOfScope(msg)
    where = overall(world, query)
    activity = predicates[0].model_copy(update={"where": (*predicates[0].where, *where)})
    group = body.get("aggregation_group_type_index")
    actor = world.actor if group is None else f"group_{group}"
    window = dates.window(world, query, interval)
    events = world.events()
    first, last = (
        at.astimezone(query.zone).replace(tzinfo=None) for at in (window.start, window.end - timedelta(microseconds=1))
    )
    # Theirs is made of whole buckets, too: a range that ends within the last one does not cut it.
    table = lifecycle(
        events,
        said_in("posthog", Lifecycle, activity=activity, interval=interval, week_start=week_start),
        first,
        last,
        query.zone,
        query.now,
        firsts=_firsts(world, events, actor),
        actor=actor,
    )
    return {"results": [_line(table, status, activity.label, interval) for status in STATUSES]}


def _firsts(world: World, events: pl.DataFrame, actor: str) -> pl.DataFrame:
    """When everybody was first seen.

    A person of theirs is created with their first event. Where that was before the first event of the case, the case
    leaves events out that there were.
    """
    firsts = events.filter(pl.col(actor).is_not_null()).group_by(actor).agg(first_at=pl.col("occurred_at").min())
    if actor != "person_id":
        return firsts
    created = pl.DataFrame(
        list(world.created.items()), schema={"person_id": pl.String, "created": pl.Datetime("us", "UTC")}, orient="row"
    )
    return firsts.join(created, on="person_id", how="left").select(
        "person_id", first_at=pl.min_horizontal("first_at", "created")
    )


def _line(table: pl.DataFrame, status: str, name: str, interval: Interval) -> dict[str, Any]:
    line = table.filter(pl.col("status") == status)
    data = line["persons"].to_list()
    return {
        "data": data,
        "count": sum(data),
        "days": [at.strftime("%Y-%m-%d %H:%M:%S" if interval == "hour" else "%Y-%m-%d") for at in line["bucket"]],
        "labels": [_label(at, interval) for at in line["bucket"]],
        "label": f"{name} - {status}",
        "status": status,
        "action": None,
    }


def _label(at: date | datetime, interval: Interval) -> str:
    return f"{at.day}{at.strftime('-%b-%Y %H:%M' if interval == 'hour' else '-%b-%Y')}"
