"""Whatever the order of events, changes, rebuilds and restatements, the facts are those of all of them.

Events of two users and two products, and changes of these, late ones among them, taken in by any slices; facts and
dimensions computed anew in between, files compacted. What is wanted is computed here by plain Python.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.changes.following import rebuild as rebuild_dimension
from platform_assets.gold import fact_events
from platform_assets.silver import events, products, users
from resources.lake import Lake
from support.changes import change, user
from support.facts import ALL, HOURS, act, assert_level, facts, follow, new_lake, platform, settle, tell
from support.records import at, event

MINUTES = HOURS * 60
NAMES = {"users": ("user_id", "plan"), "products": ("product_id", "category")}
COMPACTED = (fact_events.TABLE, users.DIMENSION.table, events.TABLE)


@dataclass(frozen=True)
class Told:
    """A change of a row; an attribute of None is a deletion."""

    table: str
    key: str
    lsn: int
    minute: int
    value: str | None

    def wire(self) -> dict[str, Any]:
        name, attribute = NAMES[self.table]
        if self.value is None:
            return change(self.table, "d", self.lsn, self.minute, before={name: self.key})
        row = user(self.key) if self.table == "users" else {name: self.key, "price": "1.00", "currency": "EUR"}
        return change(self.table, "u", self.lsn, self.minute, after={**row, attribute: self.value})


@dataclass(frozen=True)
class Happened:
    """An event."""

    number: int
    minute: int
    user: str | None
    product: str | None
    is_bot: bool

    def wire(self) -> dict[str, object]:
        properties = {} if self.product is None else {"product_id": self.product}
        return event(f"e{self.number:02}", self.minute, user_id=self.user, properties=properties, is_bot=self.is_bot)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Told], list[Happened]]:
    """Changes in the order in which they arrive, and events in theirs."""
    minutes = sorted(draw(st.lists(st.integers(0, MINUTES - 1), min_size=1, max_size=8)))
    told = [
        Told(table, key, lsn, minute, draw(st.sampled_from([None, "a", "b", "c"])))
        for lsn, minute in enumerate(minutes, start=1)
        for table, key in [draw(st.sampled_from([("users", "anna"), ("users", "ben"), ("products", "p1")]))]
    ]
    happened = [
        Happened(number, minute, *draw(st.tuples(*WHO)))
        for number, minute in enumerate(draw(st.lists(st.integers(0, MINUTES - 1), min_size=1, max_size=8)))
    ]
    return draw(st.permutations(told)), happened


WHO = (
    st.sampled_from([None, "anna", "ben"]),
    st.sampled_from([None, "p1", "p2"]),
    st.sampled_from([False, False, True]),
)

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(1, 4)),
        st.tuples(st.just("tell"), st.integers(1, 4)),
        st.tuples(st.just("compute"), st.integers(0, HOURS - 1)),
        st.tuples(st.just("compact"), st.integers(0, len(COMPACTED) - 1)),
        st.tuples(st.sampled_from(["follow", "settle", "rebuild dimensions"]), st.just(0)),
    ),
    max_size=8,
)


def play(lake: Lake, told: list[Told], happened: list[Happened], script: list[tuple[str, int]]) -> None:
    """Let a script happen, then all that is left."""
    sent = heard = 0
    for what, number in [*script, ("act", len(happened)), ("tell", len(told)), ("follow", 0), ("settle", 0)]:
        if what == "act":
            sent = min(len(happened), sent + number)
            act(lake, [one.wire() for one in happened[:sent]])
        elif what == "tell" and heard < len(told):
            tell(lake, *(one.wire() for one in told[heard : heard + number]))
            heard += number
        elif what == "compute":
            fact_events.rebuild(platform(lake), Window(at(number * 60), at(number * 60 + 120)))
        elif what == "compact":
            lake.open(COMPACTED[number]).optimize.compact()
        elif what == "rebuild dimensions":
            for dimension in (users.DIMENSION, products.DIMENSION):
                rebuild_dimension(dimension, platform(lake))
        elif what == "follow":
            follow(lake)
        elif what == "settle":
            settle(lake)


def as_of(told: list[Told], table: str, key: str | None, minute: int) -> str | None:
    """An attribute at a time: of the changes up to then, the last."""
    mine = [one for one in told if (one.table, one.key) == (table, key) and one.minute <= minute]
    return max(mine, key=lambda one: one.lsn).value if mine else None


def check(told: list[Told], happened: list[Happened], script: list[tuple[str, int]], folder: Path) -> None:
    lake = new_lake(folder / "lake")
    play(lake, told, happened, script)
    columns = ("event_id", "user_id", "product_id", "user_plan", "product_category")
    wanted = [
        (
            f"e{one.number:02}",
            one.user,
            one.product,
            as_of(told, "users", one.user, one.minute),
            as_of(told, "products", one.product, one.minute),
        )
        for one in happened
        if not one.is_bot
    ]
    assert facts(lake).select(columns).rows() == wanted
    assert_level(lake)
    assert fact_events.joined_facts(platform(lake), ALL).collect().height == len(wanted)


LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}


@settings(max_examples=12, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts)
def test_facts_are_those_of_all_events_and_changes(
    world: tuple[list[Told], list[Happened]], script: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(*world, script, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=120, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts)
def test_facts_are_those_of_all_events_and_changes_at_length(
    world: tuple[list[Told], list[Happened]], script: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(*world, script, Path(folder))
