"""Retention: PostHog's question as our `Retention`, and our rows in the shape of their results; who is in a cohort."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart, bucket_of, start_of
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.engines import collected
from platform_assets.semantics.retention import Retention, retained, retention
from platform_assets.semantics.specification import EventPredicate
from tests.conformance.insights import dates
from tests.conformance.insights.filters import entity, overall
from tests.conformance.insights.world import Query, World
from tests.conformance.outcome import OutOfScope

_PERIODS: Mapping[str, Interval] = {"Hour": "hour", "Day": "day", "Week": "week", "Month": "month"}
_PAGEVIEW = {"id": "$pageview", "type": "events"}
_PAGE = 100
"""How many persons they list where the query does not say."""

_FLAG = re.compile(r"(hour|day|week|month)_(\d+)")


@dataclass(frozen=True)
class _Asked:
    """What a query asks: the buckets of its cohorts, and as many intervals as are left of them."""

    specification: Retention
    period: str
    buckets: range
    zone: ZoneInfo
    actor: str

    def at(self, bucket: int) -> datetime:
        """The beginning of a bucket on the zone's clock (naive)."""
        return start_of(bucket, self.specification.interval, self.specification.week_start)

    def events(self, world: World) -> pl.DataFrame:
        """The events until the end of the last bucket: later ones are no returns in their table."""
        end = self.at(self.buckets.stop).replace(tzinfo=self.zone)
        return world.events().filter(pl.col("occurred_at") < end.astimezone(UTC))


def answer(world: World, query: Query) -> dict[str, Any]:
    """The results of a retention query, or of one for the persons in one of its cohorts, shaped like theirs.

    Raises:
        OutOfScope: It asks for what is no number of ours.
    """
    if query.runner == "ActorsQueryRunner":
        return _actors(world, query)
    asked = _asked(world, query, query.body if query.legacy is None else _of_the_old_dialect(query.legacy))
    table = retention(
        asked.events(world),
        asked.specification,
        asked.at(asked.buckets[0]),
        asked.at(asked.buckets[-1]),
        asked.zone,
        query.now,
        actor=asked.actor,
    )
    results = []
    for i, (_, row) in enumerate(table.group_by("cohort", maintain_order=True)):
        # Their table ends with the range: of a later cohort it has fewer intervals.
        counts = row["persons"].to_list()[: len(asked.buckets) - i]
        results.append(
            {
                "label": f"{asked.period} {i}",
                "date": _date(asked, asked.buckets[i]),
                "values": [{"count": count, "label": f"{asked.period} {k}"} for k, count in enumerate(counts)],
            }
        )
    return {"results": results}


def _asked(world: World, query: Query, body: Mapping[str, Any]) -> _Asked:
    shown = body.get("retentionFilter") or {}
    period = shown.get("period") or "Day"
    week_start: WeekStart = "monday" if query.week_start == "monday" else "sunday"
    where = overall(world, replace(query, body=body))
    total = int(shown.get("totalIntervals") or 11)
    interval = _PERIODS[period]
    # What names no zone is on the project's clock, but of hours in UTC.
    text = (body.get("dateRange") or {}).get("date_to")
    now = query.now.astimezone(UTC if period == "Hour" else query.zone)
    until = dates.parsed(text, now)[0] if text else now
    last = bucket_of(until.astimezone(query.zone).replace(tzinfo=None), interval, week_start)

    def _events(found: Mapping[str, Any] | None) -> EventPredicate:
        predicate = entity(world, found or _PAGEVIEW)
        return predicate.model_copy(update={"where": (*predicate.where, *where)})

    group = body.get("aggregation_group_type_index")
    return _Asked(
        specification=said_in(
            "posthog",
            Retention,
            start=_events(shown.get("targetEntity")),
            returning=_events(shown.get("returningEntity")),
            interval=interval,
            intervals=total,
            kind="first_time" if shown.get("retentionType") == "retention_first_time" else "recurring",
            counting="unbounded" if shown.get("cumulative") else "on",
            week_start=week_start,
        ),
        period=period,
        buckets=range(last - total + 1, last + 1),
        zone=query.zone,
        actor=world.actor if group is None else f"group_{group}",
    )


def _of_the_old_dialect(legacy: Mapping[str, Any]) -> dict[str, Any]:
    """A query of the old dialect in the words of the new."""

    def _entity(name: str) -> Any:
        found = legacy.get(name)
        return json.loads(found) if isinstance(found, str) else found

    return {
        "dateRange": {"date_to": legacy.get("date_to")},
        "properties": legacy.get("properties"),
        "filterTestAccounts": legacy.get("filter_test_accounts") in (True, "true"),
        "aggregation_group_type_index": legacy.get("aggregation_group_type_index"),
        "retentionFilter": {
            "period": legacy.get("period"),
            "totalIntervals": legacy.get("total_intervals"),
            "retentionType": legacy.get("retention_type"),
            "targetEntity": _entity("target_entity"),
            "returningEntity": _entity("returning_entity"),
        },
    }


def _date(asked: _Asked, bucket: int) -> str:
    at = asked.at(bucket).replace(tzinfo=asked.zone)
    return (at.astimezone(UTC) if asked.specification.interval == "hour" else at).isoformat()


def _actors(world: World, query: Query) -> dict[str, Any]:
    source = query.body.get("source") or {}
    body = source.get("source") or {}
    if body.get("kind") != "RetentionQuery":
        msg = f"lists of the persons of a {body.get('kind')}"
        raise OutOfScope(msg)
    asked = _asked(world, query, body)
    bucket = asked.buckets[int(source.get("interval") or 0)]
    cells = retained(
        asked.events(world), asked.specification, asked.at(bucket), asked.at(bucket), asked.zone, actor=asked.actor
    )
    left = asked.buckets.stop - bucket
    found: dict[str, set[int]] = {}
    for who, interval in collected(cells).select(asked.actor, "interval").rows():
        if asked.specification.counting == "unbounded":
            found.setdefault(who, set()).update(range(min(interval + 1, left)))
        elif interval < left:
            found.setdefault(who, set()).add(interval)
    told = [(who, sorted(seen)) for who, seen in found.items() if _is_found(world, who, query.body.get("search"))]
    if query.body.get("orderBy") == ["length(appearances) DESC", "actor_id"]:
        told.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    start, most = int(query.body.get("offset") or 0), int(query.body.get("limit") or _PAGE)
    rows = [_row(query.body.get("select") or ["actor"], who, seen) for who, seen in told[start : start + most]]
    return {"results": rows, "limit": most, "offset": start, "hasMore": len(told) > start + most}


def _is_found(world: World, who: str, text: str | None) -> bool:
    """Whether a person's name, mail or one of their ids has a text in it."""
    if not text:
        return True
    properties = world.persons.get(who, {})
    ids = [key for key, person in world.person_of.items() if person == who]
    names = [str(properties[key]) for key in ("email", "name") if properties.get(key)]
    return any(text.lower() in name.lower() for name in (*names, *ids))


def _row(selected: Sequence[str], who: str, seen: Sequence[int]) -> list[Any]:
    row: list[Any] = []
    for name in selected:
        flag = _FLAG.fullmatch(name)
        if name in ("person", "group", "actor"):
            row.append({"id": who})
        elif name == "appearances":
            row.append(list(seen))
        elif flag:
            row.append(int(int(flag[2]) in seen))
        else:
            msg = f"lists of persons with {name!r}"
            raise OutOfScope(msg)
    return row
