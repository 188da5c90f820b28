"""Small histories of events, written by hand or drawn, for what is counted per person and day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
from hypothesis import strategies as st

Act = tuple[str, datetime, str, str | None]
"""A person, an instant, an event's name, and the value of its property ``plan``."""

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "person_id": pl.String,
    "occurred_at": pl.Datetime("us", "UTC"),
    "event_name": pl.String,
    "plan": pl.String,
}


def events_of(acts: Iterable[Act]) -> pl.DataFrame:
    """A frame of events."""
    return pl.DataFrame(list(acts), schema=SCHEMA, orient="row")


def act(person: str, at: str, name: str = "start", plan: str | None = None) -> Act:
    """One event, at an ISO time in UTC."""
    return person, datetime.fromisoformat(at).replace(tzinfo=UTC), name, plan


@st.composite
def histories(draw: st.DrawFn, first: datetime, hours: int, persons: str = "abcdefghijkl") -> list[Act]:
    """Histories of some persons over some hours, at whole hours, many of them at the same, half in the first five days.

    They are made of a seed: drawing each event would take longer than what is asked about it.
    """
    made = Random(draw(st.integers(0, 2**32)))
    ends = [min(120, hours), hours]
    moments = [made.randint(0, made.choice(ends)) for _ in range(made.choice([3, 12, 60]))]
    return [
        (
            made.choice(persons),
            first + timedelta(hours=made.choice(moments)),
            made.choice(["start", "back", "other"]),
            made.choice(["p", "q", None]),
        )
        for _ in range(draw(st.integers(0, 5 * len(persons))))
    ]


def persons_of(acts: Iterable[Act]) -> list[str]:
    """Everybody who did something."""
    return sorted({person for person, *_ in acts})
