"""Small histories of events, written by hand or drawn, for what is counted per person and day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

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


def histories(first: datetime, hours: int, most: int = 14) -> st.SearchStrategy[list[Act]]:
    """Histories of a few persons over some hours, at whole hours, half of them in the first five days."""
    hour = st.one_of(st.integers(0, min(120, hours)), st.integers(0, hours))
    times = hour.map(lambda hour: first + timedelta(hours=hour))
    one = st.tuples(
        st.sampled_from("abc"), times, st.sampled_from(["start", "back", "other"]), st.sampled_from(["p", "q", None])
    )
    return st.lists(one, max_size=most)
