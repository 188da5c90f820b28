"""Trends: PostHog's question as our `Trend`, and our rows in the shape of their results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from platform_assets.semantics import trends
from platform_assets.semantics.activity import ActiveUsers
from platform_assets.semantics.calendar import Interval, bucket_of, start_of
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.specification import Condition, EventPredicate, properties_of
from platform_assets.semantics.trends import (
    Actors,
    Breakdown,
    DistinctValues,
    Events,
    EventsPerActor,
    Measure,
    OfProperty,
    Series,
    Trend,
)
from tests.conformance.insights import dates
from tests.conformance.insights.filters import conditions, entities, entity, overall, reference
from tests.conformance.insights.world import Query, World, sessions_were_written_down
from tests.conformance.outcome import OutOfScope

MISSING = "$$_posthog_breakdown_null_$$"
OTHER = "$$_posthog_breakdown_other_$$"

_ACTIVE = said_in("posthog", ActiveUsers)
_OF_THE_WHOLE = ("ActionsTable", "ActionsPie", "BoldNumber", "ActionsBarValue", "WorldMap")
_AGGREGATES: Mapping[str, trends.Aggregate] = {
    "sum": "sum",
    "avg": "average",
    "min": "minimum",
    "max": "maximum",
    "median": "median",
    "p75": "p75",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
}


@dataclass(frozen=True)
class _Asked:
    """A query of either dialect, its words found."""

    interval: Interval
    display: str
    formula: str | None
    smoothing: int
    compare: bool
    compare_to: str | None
    breakdown: Mapping[str, Any]


def answer(world: World, query: Query) -> dict[str, Any]:
    """The results of a trends query, shaped like theirs.

    Raises:
        OutOfScope: It asks for what is no number of ours.
    """
    asked = _asked(query)
    drawn = [_series(world, found, predicate) for found, predicate in entities(world, query)]
    if not drawn:
        return {"results": []}
    labels, series = [label for label, _ in drawn], [one for _, one in drawn]
    window = dates.window(world, query, asked.interval)
    compared = dates.compared_with(query, window, asked.interval, asked.compare_to) if asked.compare else None
    where = overall(world, query)
    said: dict[str, Any] = {
        "series": tuple(series),
        "interval": asked.interval,
        "whole": asked.display in _OF_THE_WHOLE,
        "cumulative": _is_cumulative(asked, series),
        "smoothed_over": 1 if asked.display in _OF_THE_WHOLE else asked.smoothing,
        "where": where,
        "formula": asked.formula,
        "zone": query.zone,
        "week_start": "monday" if query.week_start == "monday" else "sunday",
    }
    if asked.breakdown.get("breakdown_limit"):
        said["breakdown_limit"] = int(asked.breakdown["breakdown_limit"])
    if asked.breakdown.get("breakdown_hide_other_aggregation"):
        said["other"] = "left_out"
    results: list[dict[str, Any]] = []
    for cohort, specification in _cohorts(world, asked, said):
        _in_scope(world, specification)
        rows = trends.trend(
            # An event outside of sessions has a session all the same in their store: the one without a name.
            world.events().with_columns(pl.col("session_id").fill_null("")),
            specification,
            _widened(window, specification, query),
            _widened(compared, specification, query) if compared else None,
            world.actor,
        )
        results += _results(rows, specification, asked, labels, cohort)
    if len({one["compare_label"] for one in results}) > 1:
        results.sort(key=lambda one: one["compare_label"] != "current")
    return {"results": results}


def _asked(query: Query) -> _Asked:
    legacy = query.legacy
    if legacy is not None:
        breakdown = {key: value for key, value in legacy.items() if key.startswith("breakdown")}
        return _Asked(
            interval=_interval(legacy.get("interval")),
            display=legacy.get("display") or "ActionsLineGraph",
            formula=legacy.get("formula"),
            smoothing=int(legacy.get("smoothing_intervals") or 1),
            compare=legacy.get("compare") in (True, "true"),
            compare_to=legacy.get("compare_to"),
            breakdown=breakdown,
        )
    shown = query.body.get("trendsFilter") or {}
    compare = query.body.get("compareFilter") or {}
    return _Asked(
        interval=_interval(query.body.get("interval")),
        display=shown.get("display") or "ActionsLineGraph",
        formula=shown.get("formula"),
        smoothing=int(shown.get("smoothingIntervals") or 1),
        compare=bool(compare.get("compare")),
        compare_to=compare.get("compare_to"),
        breakdown=query.body.get("breakdownFilter") or {},
    )


def _interval(found: str | None) -> Interval:
    known: dict[str, Interval] = {"minute": "minute", "hour": "hour", "day": "day", "week": "week", "month": "month"}
    if (found or "day") not in known:
        msg = f"the interval {found!r}"
        raise OutOfScope(msg)
    return known[found or "day"]


def _series(world: World, found: Mapping[str, Any], predicate: EventPredicate) -> tuple[str, Series]:
    asked = found.get("math") or "total"
    label = predicate.name or "All events"
    if asked == "first_time_for_user":
        # Theirs is the first event of the name; the filters are then on that one.
        first = entity(world, found, with_properties=False).model_copy(update={"first_ever": True})
        where = conditions(world, found.get("properties"))
        return label, Series(events=first, where=where, measure=Actors())
    return label, Series(events=predicate, measure=_measure(found, asked))


def _measure(found: Mapping[str, Any], asked: str) -> Measure:
    simple: Mapping[str, Measure] = {
        "total": Events(),
        "dau": Actors(),
        "weekly_active": Actors(within_days=_ACTIVE.weekly),
        "monthly_active": Actors(within_days=_ACTIVE.monthly),
        "unique_session": DistinctValues(property="session_id"),
    }
    if asked in simple:
        return simple[asked]
    if asked == "unique_group":
        return Actors(actor=f"group_{found.get('math_group_type_index') or 0}")
    if asked.endswith("_count_per_actor"):
        group = found.get("math_group_type_index")
        actor = None if group is None else f"group_{group}"
        return EventsPerActor(aggregate=_AGGREGATES[asked.removesuffix("_count_per_actor")], actor=actor)
    if asked not in _AGGREGATES:
        msg = f"the measure {asked!r}"
        raise OutOfScope(msg)
    name = found.get("math_property")
    if name is None:
        msg = "measures of a property without saying of which"
        raise OutOfScope(msg)
    if name == "$session_duration":
        return OfProperty(property=reference(name, "session"), aggregate=_AGGREGATES[asked], once_per="session_id")
    kind = {"person_properties": "person"}.get(str(found.get("math_property_type")), "event")
    return OfProperty(property=reference(name, kind), aggregate=_AGGREGATES[asked])


def _is_cumulative(asked: _Asked, series: Sequence[Series]) -> bool:
    if asked.display != "ActionsLineGraphCumulative":
        return False
    if not all(trends.adds_up(one.measure) for one in series):
        msg = "running totals of what does not add up"
        raise OutOfScope(msg)
    return True


def _in_scope(world: World, specification: Trend) -> None:
    """By the rules of the cases' README, and what the cases lack."""
    rolling = {one.measure.within_days for one in specification.series if isinstance(one.measure, Actors)} - {None}
    if rolling and specification.interval in ("minute", "hour"):
        msg = "actives of the last days in buckets of an hour"
        raise OutOfScope(msg)
    if 7 in rolling and specification.interval == "week":
        msg = "weekly actives in buckets of a week"
        raise OutOfScope(msg)
    looked_at = {
        *properties_of(specification.where),
        *(breakdown.property for breakdown in specification.breakdowns),
        *(one.measure.property for one in specification.series if isinstance(one.measure, OfProperty)),
        *(name for one in specification.series for name in (*one.events.properties, *properties_of(one.where))),
    }
    if any(name.startswith("session.") for name in looked_at) and not sessions_were_written_down(world):
        msg = "sessions whose ids were random when the case was written down"
        raise OutOfScope(msg)


def _cohorts(world: World, asked: _Asked, said: Mapping[str, Any]) -> Iterator[tuple[Any, Trend]]:
    """The trends to tell: one, with its breakdowns, or one for each cohort of a breakdown by cohorts."""
    if asked.breakdown.get("breakdown_type") == "cohort" and asked.breakdown.get("breakdown"):
        for cohort in _listed(asked.breakdown["breakdown"]):
            members: tuple[Condition, ...] = () if cohort == "all" else (world.cohort(cohort),)
            name = "all users" if cohort == "all" else world.cohorts[int(cohort)].get("name")
            yield (cohort, name), said_in("posthog", Trend, **{**said, "where": said["where"] + members})
    else:
        yield None, said_in("posthog", Trend, **said, breakdowns=tuple(_breakdowns(asked.breakdown)))


def _listed(found: Any) -> list[Any]:
    if isinstance(found, str) and found.startswith("["):
        found = json.loads(found)
    return list(found) if isinstance(found, list) else [found]


def _breakdowns(found: Mapping[str, Any]) -> Iterator[Breakdown]:
    if found.get("breakdowns"):
        for one in found["breakdowns"]:
            yield _breakdown(
                one["property"],
                one.get("type"),
                one.get("group_type_index"),
                one.get("histogram_bin_count"),
                one.get("normalize_url"),
            )
    elif found.get("breakdown") is not None:
        for name in _listed(found["breakdown"]):
            yield _breakdown(
                name,
                found.get("breakdown_type"),
                found.get("breakdown_group_type_index"),
                found.get("breakdown_histogram_bin_count"),
                found.get("breakdown_normalize_url"),
            )


def _breakdown(name: str, kind: Any, group: Any, bins: Any, trim: Any) -> Breakdown:
    return Breakdown(property=reference(name, kind, group), bins=bins or None, trim_url=bool(trim))


def _widened(window: dates.Window, specification: Trend, query: Query) -> trends.Window:
    """Theirs begins with the bucket that the range begins in, unless the range is explicit."""
    if dates.range_of(query).get("explicitDate"):
        return trends.Window(window.start, window.end)
    local = window.start.astimezone(specification.zone).replace(tzinfo=None)
    bucket = bucket_of(local, specification.interval, specification.week_start)
    start = start_of(bucket, specification.interval, specification.week_start).replace(tzinfo=specification.zone)
    return trends.Window(start, window.end)


def _results(
    rows: pl.DataFrame, specification: Trend, asked: _Asked, labels: Sequence[str], cohort: tuple[Any, str] | None
) -> Iterator[dict[str, Any]]:
    by = ["period", "series", "rank"]
    for (period, series, _), line in rows.group_by(by, maintain_order=True):
        values = [0 if value is None else value for value in line["value"]]
        if specification.smoothed_over > 1:
            values = [math.floor(value) for value in values]
        result: dict[str, Any] = {
            "data": values,
            "count": sum(values),
            "days": [_day(at, asked.interval) for at in line["starts"]],
            "labels": [_label(at, asked.interval) for at in line["starts"]],
            "label": f"Formula ({asked.formula})" if asked.formula else labels[int(str(series))],
            "action": None,
            "compare_label": None,
        }
        if asked.compare:
            result["compare"] = True
            result["compare_label"] = "current" if period == "current" else "previous"
            result["labels"] = [f"{asked.interval} {at}" for at in range(len(values))]
        if specification.whole:
            result |= {"aggregated_value": values[0], "count": 0, "days": [], "labels": []}
            result["data"] = None if asked.formula else []
        shown, value = _split(line, specification, asked, cohort)
        if value is not None:
            result["breakdown_value"] = value
            if not asked.formula:
                result["label"] = f"{result['label']} - {shown}" if len(labels) > 1 else shown
        yield result


def _split(line: pl.DataFrame, specification: Trend, asked: _Asked, cohort: tuple[Any, str] | None) -> tuple[str, Any]:
    """What a value of a breakdown is called, and the value as they tell it."""
    if cohort is not None:
        return cohort[1], cohort[0]
    if not specification.breakdowns:
        return "", None
    if line["is_other"][0]:
        parts = [OTHER] * len(specification.breakdowns)
    else:
        told = line["breakdown"][0].to_list()
        parts = [
            MISSING if text is None else _their_range(text) if breakdown.bins else text
            for text, breakdown in zip(told, specification.breakdowns, strict=True)
        ]
    return "::".join(parts), parts if asked.breakdown.get("breakdowns") else parts[0]


def _their_range(text: str) -> str:
    """Our ``[10,25)`` is their ``[10,25]``; the last one ends a little later: ``[25,40]``, ``[25,40.01]``."""
    low, high = text[1:-1].split(",")
    return f"[{low},{high}]" if text.endswith(")") else f"[{low},{float(high) + 0.01:.12g}]"


def _day(at: date | datetime, interval: Interval) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S" if interval in ("hour", "minute") else "%Y-%m-%d")


def _label(at: date | datetime, interval: Interval) -> str:
    if interval == "month":
        return at.strftime("%b %Y")
    return f"{at.day}{at.strftime('-%b-%Y %H:%M' if interval in ('hour', 'minute') else '-%b-%Y')}"
