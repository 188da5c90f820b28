"""Stickiness: PostHog's question as our `Stickiness`, and our rows in the shape of their results."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import narwhals as nw
import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.engines import collected, lazy, property_column, with_properties
from platform_assets.semantics.specification import EventPredicate
from platform_assets.semantics.stickiness import Stickiness, stickiness
from tests.conformance.insights import dates
from tests.conformance.insights.filters import entities, overall, reference
from tests.conformance.insights.world import Query, World

_INTERVALS: dict[str, Interval] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}


def answer(world: World, query: Query) -> dict[str, Any]:
    """The results of a stickiness query, shaped like theirs.

    Raises:
        OutOfScope: It asks for what is no number of ours.
    """
    body = query.body if query.legacy is None else query.legacy
    interval = _INTERVALS[body.get("interval") or "day"]
    where = overall(world, query)
    window = dates.window(world, query, interval)
    windows = [("current", window)]
    compare = body.get("compareFilter") or (query.legacy or {})
    if compare.get("compare") in (True, "true"):
        windows.append(("previous", dates.compared_with(query, window, interval, compare.get("compare_to"))))
    results = []
    for found, predicate in entities(world, query):
        activity = predicate.model_copy(update={"where": (*predicate.where, *where)})
        events, actor = _acting(world, found)
        for period, one in windows:
            result = _result(events, activity, one, query, interval, actor)
            if len(windows) > 1:
                result |= {"compare": True, "compare_label": period}
            results.append(result)
    return {"results": results}


def _acting(world: World, found: Mapping[str, Any]) -> tuple[pl.DataFrame, str]:
    """The events, and the column of whom they count: persons, groups, or the values of a property."""
    math = found.get("math") or "dau"
    if math == "unique_group":
        return world.events(), f"group_{found.get('math_group_type_index') or 0}"
    if math != "hogql":
        return world.events(), world.actor
    # In their language the events may be called `e`.
    name = reference(str(found["math_hogql"]).removeprefix("e."), "hogql")
    valued = with_properties(lazy(world.events()), [name])
    return collected(valued.with_columns(nw.col(property_column(name)).alias("value"))), "value"


def _result(
    events: pl.DataFrame, activity: EventPredicate, window: dates.Window, query: Query, interval: Interval, actor: str
) -> dict[str, Any]:
    week_start: WeekStart = "monday" if query.week_start == "monday" else "sunday"
    table = stickiness(
        events.filter(pl.col("occurred_at") < window.end.astimezone(UTC)),
        said_in("posthog", Stickiness, activity=activity, interval=interval, week_start=week_start),
        _clock(window.start, query),
        _clock(window.end - timedelta(microseconds=1), query),
        query.zone,
        query.now,
        actor=actor,
    )
    days, data = table["active_intervals"].to_list(), table["persons"].to_list()
    return {
        "count": sum(data),
        "data": data,
        "days": days,
        "label": activity.name or "All events",
        "labels": [f"{day} {interval}{'' if day == 1 else 's'}" for day in days],
        "action": None,
    }


def _clock(at: datetime, query: Query) -> datetime:
    return at.astimezone(query.zone).replace(tzinfo=None)
