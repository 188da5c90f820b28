"""PostHog's property filters, actions, cohorts and entities as our conditions and predicates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from platform_assets.semantics.specification import AllOf, AnyOf, Condition, EventPredicate, Filter, Operator
from tests.conformance.outcome import OutOfScope

if TYPE_CHECKING:
    from tests.conformance.insights.world import Query, Step, World

_OPERATORS: Mapping[str, Operator] = {
    "exact": "equals",
    "is_not": "not_equals",
    "icontains": "contains",
    "not_icontains": "not_contains",
    "regex": "matches",
    "not_regex": "not_matches",
    "gt": "greater",
    "gte": "greater_or_equal",
    "min": "greater_or_equal",
    "lt": "less",
    "lte": "less_or_equal",
    "max": "less_or_equal",
    "is_set": "is_set",
    "is_not_set": "is_not_set",
}

_NEGATIONS: Mapping[Operator, Operator] = {
    "equals": "not_equals",
    "contains": "not_contains",
    "matches": "not_matches",
    "is_set": "is_not_set",
}

_NOT_OURS: Mapping[str, str] = {
    "hogql": "expressions of their query language",
    "element": "the elements of a page that autocapture saw",
    "precalculated-cohort": "cohorts that were computed before and stored",
    "static-cohort": "static cohorts: their members are not in the case",
    "feature": "feature flags",
    "recording": "recordings",
    "log_entry": "console logs",
    "data_warehouse": "tables of a warehouse",
}

_ONLY_A_PROPERTY = re.compile(r"(person\.)?properties\.([$\w]+)")
"""An expression of their query language that says no more than a property."""

_TEST_ACCOUNTS = [{"key": "email", "value": "@posthog.com", "operator": "not_icontains", "type": "person"}]
"""Who is a test account in the project that their tests are in; the cases do not tell it."""

_OF_THE_PAGE = ("tag_name", "text", "href", "selector")
"""What an action's step can ask of the clicked element."""

_URL_MATCHING: Mapping[str | None, Operator] = {
    None: "contains",
    "contains": "contains",
    "exact": "equals",
    "regex": "matches",
}


def conditions(world: World, found: Any) -> tuple[Condition, ...]:
    """The conditions that must hold all: of a list of filters, a group (``{type: AND, values}``), or the oldest form.

    Raises:
        OutOfScope: A filter looks at what is no property of events, persons or groups.
    """
    if not found:
        return ()
    if isinstance(found, Mapping):
        if "values" in found:
            return (_group(world, found),)
        return tuple(_oldest(key, value) for key, value in found.items())
    return tuple(_either(world, one) for one in found)


def condition(world: World, found: Mapping[str, Any]) -> Condition:
    """The condition of one filter.

    Raises:
        OutOfScope: It looks at what is no property of events, persons or groups.
    """
    kind = found.get("type") or "event"
    if kind in _NOT_OURS:
        msg = f"filters on {_NOT_OURS[kind]}"
        raise OutOfScope(msg)
    if kind == "cohort":
        is_out = found.get("operator") == "not_in" or found.get("negation") is True
        members = world.cohort(found["value"])
        return negated(members) if is_out else members
    if str(found["key"]).startswith("$elements_chain"):
        msg = f"filters on {_NOT_OURS['element']}"
        raise OutOfScope(msg)
    return _filter(reference(found["key"], kind, found.get("group_type_index")), found)


def reference(key: str, kind: str | None, group_type_index: int | None = None) -> str:
    """How we call a property: of events (the default), persons, groups or sessions.

    Raises:
        OutOfScope: It is a property of something else.
    """
    columns = {
        "event": "properties",
        "person": "person",
        "session": "session",
        "group": f"group_{group_type_index or 0}_properties",
    }
    kind = kind or "event"
    only_a_property = _ONLY_A_PROPERTY.fullmatch(key) if kind == "hogql" else None
    if only_a_property:
        kind, key = "person" if only_a_property[1] else "event", only_a_property[2]
    if kind in _NOT_OURS:
        msg = f"properties that are {_NOT_OURS[kind]}"
        raise OutOfScope(msg)
    if kind not in columns:
        msg = f"properties of the kind {kind!r}"
        raise OutOfScope(msg)
    return f"{columns[kind]}.{key}"


def negated(condition: Condition) -> Condition:
    """The condition that holds where another does not.

    Raises:
        OutOfScope: The negation of a comparison by size.
    """
    if isinstance(condition, AllOf):
        return AnyOf(any=tuple(negated(part) for part in condition.all))
    if isinstance(condition, AnyOf):
        return AllOf(all=tuple(negated(part) for part in condition.any))
    opposites = {**_NEGATIONS, **{there: back for back, there in _NEGATIONS.items()}}
    if condition.operator not in opposites:
        msg = f"the negation of {condition.operator!r}"
        raise OutOfScope(msg)
    return Filter(property=condition.property, operator=opposites[condition.operator], value=condition.value)


def cohort_condition(world: World, cohort: Step) -> Condition:
    """Which events are of a cohort's persons: by their properties.

    Raises:
        OutOfScope: The cohort is static, or made of what persons did.
    """
    if cohort.get("is_static"):
        msg = f"filters on {_NOT_OURS['static-cohort']}"
        raise OutOfScope(msg)
    parts = []
    for group in cohort.get("groups") or []:
        if not group.get("properties"):
            msg = "cohorts of what persons did"
            raise OutOfScope(msg)
        parts.append(AllOf(all=tuple(_as_persons(world, group["properties"]))))
    return AnyOf(any=tuple(parts))


def action_predicate(world: World, action: Step) -> EventPredicate:
    """Which events are of an action: those that match any of its steps.

    Raises:
        OutOfScope: A step asks what was clicked, or there is none.
    """
    steps = [_action_step(world, step) for step in action.get("steps_json") or []]
    if not steps:
        msg = "actions without steps"
        raise OutOfScope(msg)
    name = action.get("name") or None
    if len(steps) == 1:
        return steps[0].model_copy(update={"name": name})
    return EventPredicate(any_of=tuple(steps), name=name)


def entities(world: World, query: Query) -> list[tuple[Mapping[str, Any], EventPredicate]]:
    """The series or steps of a query, in order: what was asked for each, and which events it counts.

    Raises:
        OutOfScope: One of them is neither events nor an action.
    """
    legacy = query.legacy
    if legacy is None:
        return [(one, entity(world, one)) for one in query.body.get("series") or []]
    if legacy.get("new_entities"):
        msg = "steps that are still being drawn up (new_entities)"
        raise OutOfScope(msg)
    # As PostHog reads them: actions first, then sorted by their order (a stable sort; no order counts as none, 0).
    found: list[Mapping[str, Any]] = [{**one, "type": "actions"} for one in _listed(legacy.get("actions"))]
    found += [{**one, "type": "events"} for one in _listed(legacy.get("events"))]
    found.sort(key=lambda one: int(one.get("order") or 0))
    return [(one, entity(world, one)) for one in found]


def entity(world: World, found: Mapping[str, Any], *, with_properties: bool = True) -> EventPredicate:
    """Which events one series or step counts; what is special about it (`math`) is for the insight to read.

    Args:
        world: Has the actions and cohorts.
        found: The series or step.
        with_properties: Whether its own filters are conditions of it, or only the event or action is asked for.

    Raises:
        OutOfScope: It is neither events nor an action.
    """
    kind = found.get("kind") or {"actions": "ActionsNode"}.get(str(found.get("type")), "EventsNode")
    asked = (found.get("properties"), found.get("fixedProperties")) if with_properties else ()
    where = tuple(one for some in asked for one in conditions(world, some))
    if kind == "ActionsNode":
        action = world.action(found["id"])
        return EventPredicate(any_of=(action,), where=where, name=action.name) if where else action
    if kind != "EventsNode":
        msg = f"series of the kind {kind!r}"
        raise OutOfScope(msg)
    event = found.get("event") if "kind" in found else found.get("id")
    return EventPredicate(event=event, where=where, name=found.get("custom_name") or found.get("name") or event)


def overall(world: World, query: Query) -> tuple[Condition, ...]:
    """What a query asks of every event: its own filters, and the project's where test accounts are left out.

    Raises:
        OutOfScope: A filter looks at what is no property of events, persons or groups.
    """
    asked = query.body if query.legacy is None else query.legacy
    own = conditions(world, asked.get("properties"))
    if asked.get("filterTestAccounts", asked.get("filter_test_accounts")) not in (True, "true"):
        return own
    if world.cohorts:
        msg = "test accounts that the project tells by a cohort: which is not in the case"
        raise OutOfScope(msg)
    return (*own, *conditions(world, _TEST_ACCOUNTS))


def _listed(found: Any) -> Sequence[Mapping[str, Any]]:
    return list(found or [])


def _group(world: World, found: Mapping[str, Any]) -> Condition:
    parts = tuple(_either(world, one) for one in found["values"])
    return AnyOf(any=parts) if found.get("type") == "OR" and parts else AllOf(all=parts)


def _either(world: World, found: Mapping[str, Any]) -> Condition:
    return _group(world, found) if "values" in found else condition(world, found)


def _oldest(key: str, value: Any) -> Condition:
    """The form ``{"key__operator": value}``."""
    name, _, operator = key.partition("__")
    return _filter(reference(name, "event"), {"operator": operator or "exact", "value": value})


def _filter(property_: str, found: Mapping[str, Any]) -> Filter:
    asked = found.get("operator") or "exact"
    if asked not in _OPERATORS:
        msg = f"the operator {asked!r}"
        raise OutOfScope(msg)
    operator, value = _OPERATORS[asked], found.get("value")
    if operator in ("is_set", "is_not_set"):
        return Filter(property=property_, operator=operator)
    values = tuple(_scalars(value))
    return Filter(property=property_, operator=operator, value=values[0] if len(values) == 1 else values)


def _scalars(value: Any) -> Iterator[bool | int | float | str]:
    for one in value if isinstance(value, list | tuple) else [value]:
        if one is not None:
            yield one if isinstance(one, bool | int | float | str) else str(one)


def _as_persons(world: World, found: Any) -> Iterable[Condition]:
    """A cohort's filters are on persons even where they do not say so."""
    if isinstance(found, Mapping):
        found = found["values"] if "values" in found else [{"key": key, "value": value} for key, value in found.items()]
    for one in found:
        if "values" in one:
            parts = tuple(_as_persons(world, one["values"]))
            yield AnyOf(any=parts) if one.get("type") == "OR" else AllOf(all=parts)
        elif one.get("type") == "behavioral":
            msg = "cohorts of what persons did"
            raise OutOfScope(msg)
        else:
            yield condition(world, {**one, "type": one.get("type") or "person"})


def _action_step(world: World, step: Mapping[str, Any]) -> EventPredicate:
    if any(step.get(name) for name in _OF_THE_PAGE):
        msg = f"actions on {_NOT_OURS['element']}"
        raise OutOfScope(msg)
    where = conditions(world, step.get("properties"))
    if step.get("url"):
        # Their url condition is a LIKE: it minds capitals, as their pages' addresses do.
        operator = _URL_MATCHING[step.get("url_matching")]
        where = (*where, Filter(property="properties.$current_url", operator=operator, value=step["url"]))
    return EventPredicate(event=step.get("event"), where=where)
