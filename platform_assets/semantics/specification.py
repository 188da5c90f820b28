"""What a number is, said as data: the base of every specification, and the predicates over events that they share.

A specification is written in Python or read from YAML (`gold.metrics`), and is checked whole when it is made: a field
that is unknown, missing or wrong is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

Scalar: TypeAlias = bool | int | float | str
Operator = Literal[
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "matches",
    "not_matches",
    "greater",
    "greater_or_equal",
    "less",
    "less_or_equal",
    "is_set",
    "is_not_set",
]

_DURATION = re.compile(r"(\d+)\s*(s|seconds?|m|minutes?|h|hours?|d|days?|w|weeks?)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _duration(value: object) -> object:
    """``14d``, ``30 minutes`` and the like as a timedelta; anything else is left to pydantic (ISO 8601, seconds)."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        if value.startswith(("P", "-P")):
            return value
        msg = f"{value!r} is no length of time: say a number and a unit, like 30m, 12h, 14d, 2w, or ISO 8601 (P14D)"
        raise ValueError(msg)
    return timedelta(**{_UNITS[found[2][0]]: int(found[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A length of time: a `timedelta`, ``14d``, ``30 minutes``, or ISO 8601."""


class Specification(BaseModel):
    """The base of what says what a number is: immutable, and no field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Filter(Specification):
    """A condition on one property.

    Attributes:
        property: A column of the events (``platform``), or a key of a column of JSON texts (``properties.plan``,
            ``person.country``): what follows the first dot is the key.
        operator: How it is compared. A property that is missing or null equals nothing, contains and matches nothing,
            is neither greater nor less; the negations hold for it. `contains` knows no difference between capitals and
            small letters; `matches` is a regular expression found anywhere, in the engine's dialect.
        value: What it is compared with; of several, any (for negations: none). A number is compared as a number, a
            truth value with JSON's ``true`` and ``false``, a text with the text of the property. `is_set` and
            `is_not_set` have none.
    """

    property: str = Field(min_length=1)
    operator: Operator = "equals"
    value: Scalar | tuple[Scalar, ...] | None = None

    def values(self) -> tuple[Scalar, ...]:
        """The values compared with."""
        if self.value is None:
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Filter:
        needs_none = self.operator in ("is_set", "is_not_set")
        if needs_none and self.value is not None:
            msg = f"{self.operator} takes no value, got {self.value!r}"
            raise ValueError(msg)
        if not needs_none and self.value is None:
            msg = f"{self.operator} needs a value to compare {self.property!r} with"
            raise ValueError(msg)
        if self.operator in ("greater", "greater_or_equal", "less", "less_or_equal"):
            for value in self.values():
                if isinstance(value, bool) or not _is_number(value):
                    msg = f"{self.operator} compares numbers; the value {value!r} of {self.property!r} is none"
                    raise ValueError(msg)
        return self


class AllOf(Specification):
    """Every condition holds; of none, it holds."""

    all: tuple[Condition, ...]


class AnyOf(Specification):
    """At least one condition holds; of none, it does not."""

    any: tuple[Condition, ...]


def _kind_of_condition(said: object) -> str:
    """Which condition something means to be, so that what is wrong with it is told of that one alone."""
    for kind in ("all", "any"):
        if kind in said if isinstance(said, dict) else hasattr(said, kind):
            return kind
    return "filter"


Condition: TypeAlias = Annotated[
    Annotated[Filter, Tag("filter")] | Annotated[AllOf, Tag("all")] | Annotated[AnyOf, Tag("any")],
    Discriminator(_kind_of_condition),
]
AllOf.model_rebuild()
AnyOf.model_rebuild()


class EventPredicate(Specification):
    """Which events count: by name, and by what they carry.

    Attributes:
        event: The event's name, or several of which any will do; any event where it is left out.
        where: Conditions that must hold all.
        any_of: Alternatives, of which an event must match at least one besides (an action of several kinds of events,
            each with conditions of its own); none, and there is nothing more to match.
        first_ever: Whether only the person's first event of that name (and with those conditions) over all of the
            given events counts. The first of an alternative alone is not to be had.
        name: What it is called where it is shown; by default the event's name.
    """

    event: str | tuple[str, ...] | None = None
    where: tuple[Condition, ...] = ()
    any_of: tuple[EventPredicate, ...] = ()
    first_ever: bool = False
    name: str | None = None

    @model_validator(mode="after")
    def _alternatives_stand_alone(self) -> EventPredicate:
        for part in self.any_of:
            if part.first_ever:
                msg = f"any_of: the first ever of {part.label!r} alone is not to be had; say first_ever of the whole"
                raise ValueError(msg)
        return self

    @property
    def events(self) -> tuple[str, ...] | None:
        """The names of which any will do; None where any event does."""
        if self.event is not None:
            return (self.event,) if isinstance(self.event, str) else self.event
        names = [part.events for part in self.any_of]
        if not names or None in names:
            return None
        return tuple(dict.fromkeys(name for some in names for name in some or ()))

    @property
    def label(self) -> str:
        """What it is called where it is shown."""
        return self.name or " or ".join(self.events or ("any event",))

    @property
    def properties(self) -> tuple[str, ...]:
        """The properties that it looks at."""
        return (*properties_of(self.where), *(name for part in self.any_of for name in part.properties))

    def may_share_events_with(self, other: EventPredicate) -> bool:
        """Whether an event can match both: not where they ask for different names."""
        return self.events is None or other.events is None or not set(self.events).isdisjoint(other.events)


def properties_of(conditions: tuple[Condition, ...]) -> Iterator[str]:
    """The properties that some conditions look at."""
    for condition in conditions:
        if isinstance(condition, Filter):
            yield condition.property
        else:
            yield from properties_of(condition.all if isinstance(condition, AllOf) else condition.any)


def _is_number(value: Scalar) -> bool:
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True
