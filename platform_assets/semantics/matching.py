"""Which events a predicate matches, on any engine."""

from __future__ import annotations

from collections.abc import Iterable

import narwhals as nw

from platform_assets.semantics.engines import Frame, property_column, with_properties
from platform_assets.semantics.specification import (
    AllOf,
    Condition,
    EventPredicate,
    Filter,
    Scalar,
)

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def with_matches(events: Frame, predicates: Iterable[tuple[str, EventPredicate]], actor: str = "person_id") -> Frame:
    """Add a column of truth values for each predicate: never null.

    Args:
        events: ``event_name``, ``occurred_at``, the actor, and every column that the predicates name.
        predicates: Names of the new columns, and what they say.
        actor: Whose first event counts where a predicate wants the first ever.

    Raises:
        ValueError: The events lack a column that a predicate names.
    """
    named = dict(predicates)
    events = with_properties(events, (r for p in named.values() for r in p.properties))
    events = events.with_columns(matches(predicate).alias(name) for name, predicate in named.items())
    firsts = [name for name, predicate in named.items() if predicate.first_ever]
    if not firsts:
        return events
    first = {f"{name}_first": nw.when(nw.col(name)).then(nw.col("occurred_at")).min().over(actor) for name in firsts}
    at_first = {name: nw.col(name) & (nw.col("occurred_at") == nw.col(f"{name}_first")) for name in firsts}
    return events.with_columns(**first).with_columns(**at_first).drop(list(first))


def matches(predicate: EventPredicate) -> nw.Expr:
    """Whether an event is one that the predicate counts; on frames that have its properties (`with_properties`).

    ``first_ever`` is not looked at: it takes more than one event to tell (`with_matches`).
    """
    of_name = nw.lit(value=True) if predicate.events is None else nw.col("event_name").is_in(list(predicate.events))
    matched = of_name & holds(AllOf(all=predicate.where))
    if not predicate.any_of:
        return matched
    return matched & nw.any_horizontal(*(matches(part) for part in predicate.any_of), ignore_nulls=True)


def holds(condition: Condition) -> nw.Expr:
    """Whether a condition holds, never null; on frames that have its properties (`with_properties`)."""
    if isinstance(condition, Filter):
        return _filter(condition)
    parts = condition.all if isinstance(condition, AllOf) else condition.any
    if not parts:
        return nw.lit(isinstance(condition, AllOf))
    combine = nw.all_horizontal if isinstance(condition, AllOf) else nw.any_horizontal
    return combine(*(holds(part) for part in parts), ignore_nulls=True)


def number(text: nw.Expr) -> nw.Expr:
    """The number that a text is, else null (Float64)."""
    return nw.when(text.str.contains(_NUMBER)).then(text).otherwise(nw.lit(None, nw.String)).cast(nw.Float64)


def _filter(condition: Filter) -> nw.Expr:
    text = nw.col(property_column(condition.property))
    operator = condition.operator
    if operator == "is_set":
        return ~text.is_null()
    if operator == "is_not_set":
        return text.is_null()
    is_negated = operator.startswith("not_")
    kind = operator.removeprefix("not_")
    found = nw.any_horizontal(*(_compared(text, kind, value) for value in condition.values()), ignore_nulls=True)
    # A missing property compares as null: unknown to the engine, but here it simply does not hold.
    found = nw.when(text.is_null()).then(nw.lit(value=False)).otherwise(found)
    return ~found if is_negated else found


def _compared(text: nw.Expr, operator: str, value: Scalar) -> nw.Expr:
    if operator == "equals":
        if isinstance(value, bool):
            return text.str.to_lowercase() == str(value).lower()
        if isinstance(value, str):
            return text == value
        return (number(text) == float(value)).fill_null(value=False)
    if operator == "contains":
        return text.str.to_lowercase().str.contains(str(value).lower(), literal=True)
    if operator == "matches":
        return text.str.contains(str(value))
    size, limit = number(text), float(value)
    compared = {
        "greater": size > limit,
        "greater_or_equal": size >= limit,
        "less": size < limit,
        "less_or_equal": size <= limit,
    }[operator]
    return compared.fill_null(value=False)
