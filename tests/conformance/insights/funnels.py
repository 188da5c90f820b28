"""Funnels: PostHog's question as our `Funnel`, and our attempts in the shape of their results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import narwhals as nw
import polars as pl

from platform_assets.semantics.calendar import Interval, bucket_of, start_of
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.engines import collected, lazy, property_column, with_properties
from platform_assets.semantics.funnels import Breakdown, Exclusion, Funnel, Step, attempts, furthest, summary
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.specification import Condition, EventPredicate, Filter
from tests.conformance.insights import dates
from tests.conformance.insights.filters import entities, entity, overall, reference
from tests.conformance.insights.world import Query, World
from tests.conformance.outcome import OutOfScope

MISSING = ""
OTHER = "Other"

_ALL_COHORT = 0
"""How their questions for persons call the cohort of everyone, which their breakdowns call `all`."""

_UNITS: Mapping[str, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
}
_ATTRIBUTIONS: Mapping[str, Literal["first", "last", "all", "step"]] = {
    "first_touch": "first",
    "last_touch": "last",
    "all_events": "all",
    "step": "step",
}
_ORDERS: Mapping[str, Literal["ordered", "strict", "unordered"]] = {
    "ordered": "ordered",
    "strict": "strict",
    "unordered": "unordered",
}
_MOST_BINS_ASKED, _MOST_BINS = 90, 60


@dataclass(frozen=True)
class _Asked:
    """A query of either dialect, its words found; steps count from 1.

    Attributes:
        shown: What of the funnel is asked for: `steps`, `trends` or `time_to_convert`.
        group: The type of the groups that are counted, where it is not persons.
        counted: What is counted otherwise, as an expression of theirs.
    """

    shown: str
    interval: Interval
    order: Literal["ordered", "strict", "unordered"]
    window: timedelta
    exclusions: Sequence[Mapping[str, Any]]
    breakdown: Mapping[str, Any]
    attribution: str
    attribution_step: int
    from_step: int
    to_step: int
    bins: int | None
    group: int | None
    counted: str | None


@dataclass(frozen=True)
class _Step:
    """How their results tell a step."""

    id: Any
    name: str | None
    custom_name: str | None
    kind: str


@dataclass(frozen=True)
class _Part:
    """The funnel of all, or of one cohort of a breakdown by cohorts, and how their results call that."""

    funnel: Funnel
    where: tuple[Condition, ...]
    value: Any = None
    name: str | None = None


@dataclass(frozen=True)
class _Counted:
    """The attempts that count of a part: in what ``labels`` says, `MISSING` and `OTHER` included."""

    part: _Part
    labels: list[str]
    rows: pl.DataFrame


def answer(world: World, query: Query) -> dict[str, Any]:
    """The results of a funnel, or the persons in a part of it, shaped like theirs.

    Raises:
        OutOfScope: It asks for what is no number of ours.
    """
    found = entities(world, query)
    asked = _asked(query, len(found))
    if asked.shown != "trends" and query.runner == "FunnelTrendsActors":
        asked = replace(asked, shown="trends")
    if not found:
        return {"results": []}
    actor = _actor(world, asked)
    events, steps = _events(world, query, asked, found)
    counted = [_counted(events, part, asked, query, actor) for part in _parts(world, asked, steps)]
    if query.runner in ("FunnelActors", "FunnelTrendsActors"):
        return _actors(world, query, asked, counted, actor)
    if asked.shown == "trends":
        return {"results": _trends(world, query, asked, counted)}
    if asked.shown == "time_to_convert":
        return {"results": _times(asked, counted)}
    told = [_told(one) for one, _ in found]
    split = [results for part in counted for results in _results(asked, told, part)]
    return {"results": split if asked.breakdown else split[0]}


def _asked(query: Query, count: int) -> _Asked:
    legacy = query.legacy
    if legacy is not None:
        asked: Mapping[str, Any] = legacy
        breakdown = {key: value for key, value in legacy.items() if key.startswith("breakdown")}
        group = legacy.get("aggregation_group_type_index")
    else:
        asked = {_snake(key): value for key, value in (query.body.get("funnelsFilter") or {}).items()}
        asked = {**asked, "interval": query.body.get("interval")}
        breakdown = query.body.get("breakdownFilter") or {}
        group = query.body.get("aggregation_group_type_index")
    if breakdown.get("breakdown") is None and not breakdown.get("breakdowns"):
        breakdown = {}
    interval, order = asked.get("interval") or "day", asked.get("funnel_order_type") or "ordered"
    known: dict[str, Interval] = {"minute": "minute", "hour": "hour", "day": "day", "week": "week", "month": "month"}
    if interval not in known:
        msg = f"the interval {interval!r}"
        raise OutOfScope(msg)
    return _Asked(
        shown=asked.get("funnel_viz_type") or "steps",
        interval=known[interval],
        order=_ORDERS[order],
        window=_window(asked),
        exclusions=asked.get("exclusions") or [],
        breakdown=breakdown,
        attribution=asked.get("breakdown_attribution_type") or "first_touch",
        attribution_step=int(asked.get("breakdown_attribution_value") or 0) + 1,
        from_step=int(asked.get("funnel_from_step") or 0) + 1,
        to_step=count if asked.get("funnel_to_step") is None else int(asked["funnel_to_step"]) + 1,
        bins=asked.get("bin_count"),
        group=group,
        counted=asked.get("funnel_aggregate_by_hogql") or asked.get("funnel_aggregate_by_hog_q_l"),
    )


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _window(asked: Mapping[str, Any]) -> timedelta:
    """Of 14 days where nothing is said; what is said with a unit comes before what is said in days."""
    if asked.get("funnel_window_interval"):
        return int(asked["funnel_window_interval"]) * _UNITS[asked.get("funnel_window_interval_unit") or "day"]
    return int(asked.get("funnel_window_days") or 14) * _UNITS["day"]


def _actor(world: World, asked: _Asked) -> str:
    if asked.group is not None:
        return f"group_{asked.group}"
    if asked.counted in (None, "person_id"):
        return world.actor
    return asked.counted if asked.counted == "distinct_id" else property_column(reference(asked.counted, "hogql"))


def _events(
    world: World, query: Query, asked: _Asked, found: Sequence[tuple[Mapping[str, Any], EventPredicate]]
) -> tuple[pl.DataFrame, list[Step]]:
    """The events that count, and the steps over them: outside of the range there is nothing, but the first times."""
    steps: list[Step] = []
    firsts: dict[str, EventPredicate] = {}
    for number, (one, predicate) in enumerate(found, 1):
        says = dict(predicate)
        if one.get("math") == "first_time_for_user":
            # Theirs is the first event of the name; the filters are then on that one.
            name = f"is_first_{number}"
            firsts[name] = entity(world, one, with_properties=False).model_copy(update={"first_ever": True})
            says["where"] = (*predicate.where, Filter(property=name, value=True))
        steps.append(Step(**says, optional=bool(one.get("optionalInFunnel"))))
    events = lazy(world.events())
    if asked.group is None and asked.counted not in (None, "person_id", "distinct_id"):
        events = with_properties(events, [reference(asked.counted, "hogql")])
    events = with_matches(events, [*firsts.items(), ("_counts", EventPredicate(where=overall(world, query)))])
    window = dates.window(world, query, asked.interval)
    start, end = window.start.astimezone(UTC), window.end.astimezone(UTC)
    in_range = (nw.col("occurred_at") >= start) & (nw.col("occurred_at") < end)
    events = events.filter(in_range, nw.col("_counts")).with_columns(nw.col(name).cast(nw.String) for name in firsts)
    return collected(events), steps


def _parts(world: World, asked: _Asked, steps: Sequence[Step]) -> Iterator[_Part]:
    """The funnels to tell: one, with its breakdown, or one for each cohort of a breakdown by cohorts."""
    said: dict[str, Any] = {
        "steps": tuple(steps),
        "window": asked.window,
        "order": asked.order,
        "exclusions": tuple(_exclusions(world, asked)),
    }
    common = said_in("posthog", Funnel, **said)
    if asked.shown == "time_to_convert" or not asked.breakdown:
        yield _Part(common, ())
    elif asked.breakdown.get("breakdown_type") == "cohort":
        for cohort in _listed(asked.breakdown["breakdown"]):
            if cohort == "all":
                yield _Part(common, (), "all", "all users")
            else:
                yield _Part(common, (world.cohort(cohort),), int(cohort), world.cohorts[int(cohort)].get("name"))
    else:
        properties = tuple(_properties(asked.breakdown))
        attribution = _ATTRIBUTIONS[asked.attribution]
        step = asked.attribution_step if attribution == "step" else None
        if step is not None and asked.order == "unordered":
            # A step's number is a place in theirs: of the orders that the steps could be taken in, each has its own.
            msg = "unordered funnels by the value on a numbered step, which is a place in each order of the steps there"
            raise OutOfScope(msg)
        # Their other has a person once for each of its values: `_limited`.
        breakdown = Breakdown(properties=properties, attribution=attribution, step=step, limit=None)
        yield _Part(said_in("posthog", Funnel, **said, breakdown=breakdown), ())


def _exclusions(world: World, asked: _Asked) -> Iterator[Exclusion]:
    for one in asked.exclusions:
        told = {_snake(key): value for key, value in one.items()}
        after, before = int(told["funnel_from_step"]) + 1, int(told["funnel_to_step"]) + 1
        yield Exclusion(**dict(entity(world, one)), after=after, before=before)


def _properties(found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("breakdowns"):
        for one in found["breakdowns"]:
            yield reference(one["property"], one.get("type"), one.get("group_type_index"))
        return
    for name in _listed(found["breakdown"]):
        yield reference(name, found.get("breakdown_type"), found.get("breakdown_group_type_index"))


def _listed(found: Any) -> list[Any]:
    if isinstance(found, str) and found.startswith("["):
        found = json.loads(found)
    return list(found) if isinstance(found, list) else [found]


def _counted(events: pl.DataFrame, part: _Part, asked: _Asked, query: Query, actor: str) -> _Counted:
    funnel, interval = part.funnel, asked.interval if asked.shown == "trends" else None
    # A person is of a cohort with all of their events.
    kept = with_matches(lazy(events), [("_is_of_it", EventPredicate(where=part.where))]).filter(nw.col("_is_of_it"))
    tried = attempts(
        kept,
        funnel,
        actor=actor,
        interval=interval,
        zone=query.zone,
        week_start="monday" if query.week_start == "monday" else "sunday",
    )
    # A missing value is their empty one.
    labels = funnel.breakdown_columns
    tried = tried.with_columns(nw.col(column).fill_null(MISSING) for column in labels) if labels else tried
    by = [actor, *labels, *(["bucket"] if interval else [])]
    rows = collected(furthest(tried, by, dropped=funnel.dropped))
    return _Counted(part, labels, _limited(rows, labels, int(asked.breakdown.get("breakdown_limit") or 25)))


def _limited(rows: pl.DataFrame, labels: list[str], limit: int) -> pl.DataFrame:
    """The values that most entered with, the others as one; who is in two of those counts twice in it, as there."""
    if not labels:
        return rows
    steps = sorted((name for name in rows.columns if name.startswith("step_")), key=lambda s: int(s.split("_")[1]))
    by_size = [pl.col(name).count().alias(f"persons_{name}") for name in steps]
    values = rows.group_by(labels).agg(by_size)
    sizes = [f"persons_{name}" for name in steps]
    kept = values.sort([*sizes, *labels], descending=[True] * len(sizes) + [False] * len(labels)).head(limit)
    is_kept = rows.join(kept.select(labels).with_columns(is_kept=True), on=labels, how="left")
    first, *rest = labels
    is_other = pl.col("is_kept").is_null()
    return is_kept.with_columns(
        pl.when(is_other).then(pl.lit(OTHER)).otherwise(pl.col(first)).alias(first),
        *(pl.when(is_other).then(None).otherwise(pl.col(label)).alias(label) for label in rest),
    ).drop("is_kept")


def _told(found: Mapping[str, Any]) -> _Step:
    is_action = found.get("kind") == "ActionsNode" or found.get("type") == "actions"
    event = found.get("id") if is_action or "kind" not in found else found.get("event")
    return _Step(event, None if is_action else event, found.get("custom_name"), "actions" if is_action else "events")


def _results(asked: _Asked, told: Sequence[_Step], counted: _Counted) -> Iterator[list[dict[str, Any]]]:
    """Their list of steps, for each value of a breakdown: the step's count, and the times from the step before."""
    funnel, labels = counted.part.funnel, counted.labels
    if asked.breakdown and counted.rows.is_empty():
        return
    found = summary(lazy(counted.rows), funnel, (0.5,))
    lines = found.group_by(labels, maintain_order=True) if labels else [((), found)]
    for value, line in lines:
        shown: dict[str, Any] = {}
        if labels:
            parts = [part for part in value if part is not None]
            shown = {"breakdown": parts, "breakdown_value": parts}
        elif counted.part.name is not None:
            shown = {"breakdown": counted.part.name, "breakdown_value": counted.part.value}
        yield [
            {
                "action_id": told[at].id,
                "name": _name(asked, funnel, told[at], at),
                "custom_name": told[at].custom_name,
                "order": at,
                "people": [],
                "count": row["persons"],
                "type": told[at].kind,
                "average_conversion_time": row["mean_seconds"],
                "median_conversion_time": row["p50_seconds"],
                **shown,
            }
            for at, row in enumerate(line.sort("step").iter_rows(named=True))
        ]


def _name(asked: _Asked, funnel: Funnel, told: _Step, at: int) -> str | None:
    if asked.order == "unordered":
        return f"Completed {at + 1} step{'s' if at else ''}"
    return funnel.steps[at].name if told.kind == "actions" else told.name


def _trends(world: World, query: Query, asked: _Asked, counted: Sequence[_Counted]) -> list[dict[str, Any]]:
    """For each bucket of the range, who entered in it and how many of them got through; values kept alone."""
    if not asked.breakdown:
        return [point for part in counted for point in _points(world, query, asked, part.rows)]
    results = []
    for part in counted:
        lines = part.rows.group_by(part.labels, maintain_order=True) if part.labels else [((), part.rows)]
        for value, line in sorted(lines, key=lambda pair: str(pair[0])):
            if part.labels and value[0] == OTHER:
                continue
            points = list(_points(world, query, asked, line))
            days = [datetime.fromisoformat(point["timestamp"]) for point in points]
            clock = " %H:%M:%S" if asked.interval == "hour" else ""
            results.append(
                {
                    "count": len(points),
                    "data": [point["conversion_rate"] for point in points],
                    "days": [day.strftime(f"%Y-%m-%d{clock}") for day in days],
                    "labels": [f"{day.day}{day.strftime('-%b-%Y' + clock[:6])}" for day in days],
                    "breakdown_value": list(value) if part.labels else part.part.name,
                }
            )
    return results


def _points(world: World, query: Query, asked: _Asked, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    entered, converted = _entered(asked, rows)
    found = {
        bucket: (came, went)
        for bucket, came, went in rows.group_by("bucket")
        .agg(entered.sum().alias("entered"), converted.sum().alias("converted"))
        .rows()
    }
    window = dates.window(world, query, asked.interval)
    first, last = (_bucket(query, asked, at) for at in (window.start, window.end - timedelta(microseconds=1)))
    for bucket in range(first, last + 1):
        came, went = found.get(bucket, (0, 0))
        start = start_of(bucket, asked.interval, "monday" if query.week_start == "monday" else "sunday")
        yield {
            "reached_from_step_count": came,
            "reached_to_step_count": went,
            "conversion_rate": round(100 * went / came, 2) if came else 0.0,
            "timestamp": start.replace(tzinfo=query.zone).isoformat(),
        }


def _entered(asked: _Asked, rows: pl.DataFrame) -> tuple[pl.Expr, pl.Expr]:
    """Who took the step that is counted from; who of them took the one that is counted to."""
    taken = [pl.col(f"step_{step}_at").is_not_null() for step in (asked.from_step, asked.to_step)]
    return taken[0], taken[0] & taken[1]


def _bucket(query: Query, asked: _Asked, at: datetime) -> int:
    local = at.astimezone(query.zone).replace(tzinfo=None)
    return bucket_of(local, asked.interval, "monday" if query.week_start == "monday" else "sunday")


def _times(asked: _Asked, counted: Sequence[_Counted]) -> dict[str, Any]:
    """How long those who got to the one step needed from the other, in bins of equal width."""
    rows = counted[0].rows
    lasted = (pl.col(f"step_{asked.to_step}_at") - pl.col(f"step_{asked.from_step}_at")) / 1e6
    seconds: list[float] = rows.select(lasted.alias("seconds"))["seconds"].drop_nulls().to_list()
    if not seconds:
        return {"average_conversion_time": None, "bins": []}
    low, high = math.floor(min(seconds)), math.ceil(max(seconds))
    auto = min(_MOST_BINS, math.ceil(round(len(seconds) ** (1 / 3), 9)))
    count = max(1, auto if asked.bins is None else min(_MOST_BINS_ASKED, int(asked.bins)))
    width = math.ceil((high - low) / count) or 60
    bins = [[low + at * width, 0] for at in range(count + 1)]
    for one in seconds:
        bins[int((one - low) // width)][1] += 1
    return {"average_conversion_time": round(sum(seconds) / len(seconds), 2), "bins": bins}


def _actors(world: World, query: Query, asked: _Asked, counted: Sequence[_Counted], actor: str) -> dict[str, Any]:
    """Who took the step (``2``), who got just before it and no further (``-2``), or who is in a period's rate."""
    rows = pl.concat([_of_value(part, query.body.get("funnel_step_breakdown")) for part in counted])
    if query.runner == "FunnelTrendsActors":
        entered, converted = _entered(asked, rows)
        at = datetime.fromisoformat(query.body["entrance_period_start"])
        at = at.replace(tzinfo=query.zone) if at.tzinfo is None else at
        rows = rows.filter(pl.col("bucket") == _bucket(query, asked, at))
        rows = rows.filter(entered & ~converted if query.body.get("drop_off") else converted)
    elif query.body.get("funnel_custom_steps"):
        rows = rows.filter(pl.col("reached").is_in([int(step) for step in query.body["funnel_custom_steps"]]))
    else:
        step = int(query.body["funnel_step"])
        is_there = pl.col("reached") >= step if step > 0 else pl.col("reached") == -step - 1
        rows = rows.filter(is_there)
    found = rows[actor].unique().sort().to_list()
    ids = {one: [key for key, person in world.person_of.items() if person == one] for one in found}
    return {"actor_ids": found, "actors": [{"id": one, "distinct_ids": ids[one]} for one in found]}


def _of_value(counted: _Counted, wanted: Any) -> pl.DataFrame:
    """The attempts with one value of the breakdown, or of one cohort."""
    if wanted is None or wanted == []:
        return counted.rows
    if not counted.labels:
        cohort = "all" if wanted in (_ALL_COHORT, "all") else int(wanted)
        return counted.rows if cohort == counted.part.value else counted.rows.clear()
    values = [str(value) for value in _listed(wanted)]
    same = [pl.col(label) == value for label, value in zip(counted.labels, values, strict=False)]
    return counted.rows.filter(pl.all_horizontal(same))
