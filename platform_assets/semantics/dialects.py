"""Dialects: what other tools mean by the same words, by name.

Where tools disagree, the choice is a field of a specification whose default is ours. A dialect is a set of choices:
they take the place of our defaults, and what is said itself comes before them::

    said_in("posthog", Retention, start={"event": "signed_up"}, interval="week")

A metric's file says ``dialect: posthog``. What a dialect has of a kind of number is listed whole, also where it is the
same as ours: it stays what it is when our defaults change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import EllipsisType, MappingProxyType
from typing import Any, TypeVar

from platform_assets.semantics.activity import ActiveUsers
from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.lifecycle import Lifecycle
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.sessions import Sessions
from platform_assets.semantics.specification import Specification
from platform_assets.semantics.stickiness import Stickiness
from platform_assets.semantics.trends import Trend

OURS = "headwater"
"""The dialect of our defaults, of every kind of number."""

S = TypeVar("S", bound=Specification)


@dataclass(frozen=True)
class Choice:
    """The value of a field where nothing is said of it.

    Attributes:
        field: Its name, after the names of the fields that it is in; of a list, in each of its members.
        value: The value.
        where: What has to be said beside it, of fields of the same part: values, or ``...`` for any.
    """

    field: str
    value: object
    where: Mapping[str, object | EllipsisType] = dataclasses.field(default_factory=dict)


DIALECTS: Mapping[str, Mapping[type[Specification], tuple[Choice, ...]]] = MappingProxyType(
    {
        OURS: {Specification: ()},
        "posthog": {
            Funnel: (
                Choice("window", timedelta(days=14)),
                Choice("dropped", "attempt", where={"order": "unordered"}),
                Choice("breakdown.without_step", "left_out", where={"attribution": "step"}),
                Choice("breakdown.limit", 25),
            ),
            Retention: (
                Choice("incomplete", "count"),
                Choice("windows", "calendar"),
                Choice("week_start", "sunday"),
                Choice("breakdown_limit", 25),
            ),
            Lifecycle: (
                Choice("incomplete", "count"),
                Choice("new_by", "any_event"),
                Choice("week_start", "sunday"),
            ),
            Stickiness: (Choice("week_start", "sunday"),),
            Trend: (
                Choice("nothing_is_zero", value=True),
                Choice("breakdown_limit", 25),
                Choice("other", "summed"),
                Choice("breakdowns.empty_is_missing", value=True),
                Choice("series.measure.as_of", "start", where={"within_days": ...}),
                Choice("week_start", "sunday"),
            ),
            Sessions: (Choice("gap", timedelta(minutes=30)), Choice("longest", timedelta(hours=24))),
            ActiveUsers: (Choice("weekly", 7), Choice("monthly", 30)),
        },
        "amplitude_24h": {Retention: (Choice("windows", "24_hour"),)},
        "clickhouse": {Funnel: (Choice("order", "ordered"), Choice("same_instant", "many_steps"))},
        "clickhouse_strict_increase": {Funnel: (Choice("order", "ordered"), Choice("same_instant", "one_step"))},
        "clickhouse_strict_order": {Funnel: (Choice("order", "strict"), Choice("same_instant", "many_steps"))},
        "mozilla": {ActiveUsers: (Choice("weekly", 7), Choice("monthly", 28))},
        "snowplow": {Sessions: (Choice("longest", timedelta(days=3)), Choice("attention", timedelta(seconds=10)))},
        "google_analytics": {
            Sessions: (
                Choice("longest", None),
                Choice("cut_on_new_day", value=True),
                Choice("cut_on_new_campaign", value=True),
            ),
        },
    }
)
"""Of each dialect its choices, by the kind of number. `posthog`: the queries behind its insights. `amplitude_24h`: its
retention in windows of 24 hours. `clickhouse`: `windowFunnel` without a mode and with the mode that the name has.
`mozilla`: bigquery-etl's tables of clients. `snowplow`: its web models (up to three days, a heartbeat of ten seconds).
`google_analytics`: Universal Analytics (a new day or a new campaign cuts, nothing else does)."""


def said_in(dialect: str, kind: type[S], /, **said: Any) -> S:
    """A specification in a dialect.

    Args:
        dialect: A name of `DIALECTS`.
        kind: What is specified.
        said: Its fields; those that are said come before the dialect's.

    Raises:
        ValueError: There is no such dialect of that kind, or the fields do not fit.
    """
    return kind.model_validate(completed(dialect, kind, said))


def completed(dialect: str, kind: type[Specification], said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a specification with what a dialect has for those that are not said.

    Args:
        dialect: A name of `DIALECTS`.
        kind: What is specified.
        said: Its fields, as data or as specifications; what is neither is left as it is.

    Raises:
        ValueError: There is no such dialect of that kind.
    """
    told: Any = dict(said)
    for choice in _choices(dialect, kind):
        *path, name = choice.field.split(".")
        told = _chosen(told, path, name, choice)
    return dict(told)


def _choices(dialect: str, kind: type[Specification]) -> tuple[Choice, ...]:
    for base in kind.__mro__:
        if base in DIALECTS.get(dialect, {}):
            return DIALECTS[dialect][base]
    having = [name for name, kinds in DIALECTS.items() if any(base in kinds for base in kind.__mro__)]
    msg = f"{dialect!r} is no dialect of {kind.__name__}; there are {', '.join(having)}"
    raise ValueError(msg)


def _chosen(said: Any, path: list[str], name: str, choice: Choice) -> Any:
    """What is said with a choice made in the part that a path leads to, where there is such a part."""
    if isinstance(said, list | tuple):
        return tuple(_chosen(part, path, name, choice) for part in said)
    if isinstance(said, Specification):
        parts: Mapping[str, Any] = {field: getattr(said, field) for field in said.model_fields_set}
    elif isinstance(said, Mapping):
        parts = said
    else:
        return said
    if path:
        update = {path[0]: _chosen(parts[path[0]], path[1:], name, choice)} if path[0] in parts else {}
    else:
        fits = all(key in parts and value in (..., parts[key]) for key, value in choice.where.items())
        update = {name: choice.value} if fits and name not in parts else {}
    return said.model_copy(update=update) if isinstance(said, Specification) else {**said, **update}
