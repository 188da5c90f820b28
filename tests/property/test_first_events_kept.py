"""Whatever happened to silver and to those who follow it, the firsts are those of its events.

Few ids and names, whose events come again, late, and on partitions that run at different speeds, so that earlier
arrivals displace; hours computed anew under a shorter lateness, which takes rows out, and under the longer one, which
brings them back; firsts taken in at any moment, killed at any moment, computed anew. What is wanted is computed here
by plain Python.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, events, identity_links, person_firsts, persons, touched_hours
from resources.lake import Lake
from support.lakes import EventfulLake, Killed, die, drain, new_lake, rebuild_silver, stream_settings
from support.records import START, Record, at, encoded, numbered, source
from support.records import event as an_event

PARTITIONS = 2
TABLES = (person_firsts.TABLE, persons.TABLE, persons.CHANGES, identity_links.TABLE, activity_hours.TABLE)
HOURS = 5
WHO: list[dict[str, str | None]] = [
    {"anonymous_id": "x"},
    {"anonymous_id": "y"},
    {"anonymous_id": "x", "user_id": "anna"},
    {"anonymous_id": "x", "user_id": "ben"},
    {"anonymous_id": "y", "user_id": "null"},
    {"anonymous_id": None, "user_id": "anna"},
]
Firsts = dict[tuple[str, str], datetime]


@st.composite
def topics(draw: st.DrawFn) -> list[Record]:
    """Events of some hours; one in three is a delivery that came before, or one of the same id but of another time."""
    placed: list[tuple[int, datetime, bytes | None]] = []
    for number in range(draw(st.integers(1, 16))):
        event_id = draw(st.sampled_from([number, number, draw(st.integers(0, number))]))
        occurred = event_id * 37 % (HOURS * 60) + draw(st.sampled_from([0, 0, 0.5]))
        wait = draw(st.sampled_from([0.0, 0.0, 50.0, 100.0, 190.0]))
        fields = an_event(
            f"e{event_id}",
            occurred,
            occurred + wait,
            event_name=draw(st.sampled_from(["view", "view", "push_received"])),
            is_bot=draw(st.sampled_from([False, False, False, True])),
            is_test=draw(st.sampled_from([False, False, False, True])),
            **draw(st.sampled_from(WHO)),
        )
        delay = draw(st.sampled_from([0.0, 0.0, 3.0, 130.0]))
        placed.append((draw(st.integers(0, PARTITIONS - 1)), at(occurred + wait + delay), encoded(fields)))
    return numbered(placed)


windows = st.builds(
    lambda first, hours: Window(at(first * 60), at((first + hours) * 60)),
    st.sampled_from([0, 0, 1, 2, 3]),
    st.sampled_from([1, 2, HOURS]),
)
LATENESS = {"strict": timedelta(minutes=45), "as ever": timedelta(hours=4)}

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 6)),
        st.tuples(st.just("read"), st.integers(1, 6)),
        st.tuples(st.just("advance"), st.one_of(st.none(), st.integers(1, 14))),
        st.tuples(st.just("advance"), st.none()),
        st.tuples(st.just("strict"), windows),
        st.tuples(st.just("as ever"), windows),
        st.tuples(st.just("rebuild"), st.one_of(st.none(), st.integers(1, 6))),
        st.tuples(st.just("compact"), st.none()),
    ),
    min_size=2,
    max_size=9,
)


def platform(lake: Lake) -> Platform:
    return Platform(lake, stream_settings(), clock=lambda: START)


def raw_id(row: dict[str, Any]) -> str:
    user = row["user_id"] if row["user_id"] != "null" else None
    return f"u:{user}" if user else f"a:{row['anonymous_id']}"


def acted(lake: Lake) -> list[tuple[str, str, datetime]]:
    """Who did what when, at the version of silver that the firsts have taken in."""
    version = lake.open(person_firsts.TABLE).transaction_version(events.FOLLOWS) or 0
    rows = lake.scan(events.TABLE, handle=lake.open(events.TABLE, version)).collect().to_dicts()
    people = [row for row in rows if not row["is_bot"] and not row["is_test"]]
    return [(raw_id(row), row["event_name"], row["occurred_at"]) for row in people]


def wanted(lake: Lake) -> Firsts:
    found: Firsts = {}
    for who, what, when in acted(lake):
        found[who, what] = min(found.get((who, what), when), when)
    return found


def assert_level(lake: Lake) -> None:
    rows = lake.scan(person_firsts.TABLE).collect()
    assert rows.select("raw_id", "event_name").is_unique().all()
    assert {(row[0], row[1]): row[2] for row in rows.iter_rows()} == wanted(lake)
    assert [person_firsts.bucket_of(who) for who in rows["raw_id"]] == rows["bucket"].to_list()


def attempt(lake: Lake, moment: int | None, deed: Callable[[Platform], object]) -> None:
    """Do something, and die at one of its moments."""
    eventful = EventfulLake(lake.url, {moment: die} if moment else {})
    try:
        deed(platform(eventful))
    except Killed:
        event(f"killed: {eventful.moments[-1]}")


def play(lake: Lake, records: list[Record], script: list[tuple[str, Any]]) -> None:
    """Let a script happen, then all that is left; the firsts are level after each step."""
    read = 0
    end: list[tuple[str, Any]] = [("read", len(records)), ("advance", None)]
    for what, how in [*script, *end]:
        if what == "read":
            read = min(len(records), read + how)
            drain(lake, source(records[:read], PARTITIONS), stream_settings(2))
        elif what == "advance":
            attempt(lake, how, person_firsts.advance)
        elif what == "rebuild":
            attempt(lake, how, person_firsts.rebuild)
        elif what == "compact":
            for table in (events.TABLE, person_firsts.TABLE, touched_hours.TABLE):
                lake.open(table).optimize.compact()
        else:
            before = lake.scan(events.TABLE).collect().height
            rebuild_silver(lake, how, LATENESS[what])
            if lake.scan(events.TABLE).collect().height < before:
                event("rows went")
        assert_level(lake)


def owner(whose: list[tuple[str, datetime, datetime, str]], who: str, when: datetime) -> str:
    """The person that an id belonged to at a time."""
    return next((person for i, start, end, person in whose if i == who and start <= when < end), who)


def assert_persons(lake: Lake, links: list[tuple[str, str, float]]) -> None:
    """The firsts of persons, whose evidence is drawn too, are those of all of their events."""
    rows = [
        {
            "left": f"a:{device}",
            "right": f"u:{user}",
            "kind": "login",
            "seen_at": at(minute),
            "seen_date": at(minute).date(),
        }
        for device, user, minute in links
    ]
    lake.append(identity_links.TABLE, pl.DataFrame(rows, schema=identity_links.TABLE.schema))
    persons.resolve(platform(lake))
    whose = lake.scan(persons.TABLE).select("raw_id", "valid_from", "valid_to", "person_id").collect().rows()
    found: Firsts = {}
    for who, what, when in acted(lake):
        key = (owner(whose, who, when), what)
        found[key] = min(found.get(key, when), when)
    told = person_firsts.firsts_of_persons(platform(lake)).collect()
    assert told.columns == ["person_id", "event_name", "first_at"]
    assert told.height == len(found)
    assert {(row[0], row[1]): row[2] for row in told.iter_rows()} == found


CLAIMED = 30 * 24 * 60.0
evidence = st.lists(
    st.tuples(
        st.sampled_from(["x", "y"]),
        st.sampled_from(["anna", "ben"]),
        # logins among the events, and those whose claim begins among them
        st.one_of(st.integers(0, HOURS * 60).map(float), st.integers(0, HOURS * 60).map(lambda m: m + CLAIMED)),
    ),
    max_size=4,
)
LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}


def check(records: list[Record], script: list[tuple[str, Any]], links: list[tuple[str, str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = new_lake(Path(folder) / "lake")
        for table in TABLES:
            lake.create(table)
        play(lake, records, script)
        assert_persons(lake, links)


@settings(max_examples=15, **LIMITS)  # type: ignore[arg-type]
@given(topics(), scripts, evidence)
def test_firsts_are_those_of_all_events(
    records: list[Record], script: list[tuple[str, Any]], links: list[tuple[str, str, float]]
) -> None:
    check(records, script, links)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=150, **LIMITS)  # type: ignore[arg-type]
@given(topics(), scripts, evidence)
def test_firsts_are_those_of_all_events_at_length(
    records: list[Record], script: list[tuple[str, Any]], links: list[tuple[str, str, float]]
) -> None:
    check(records, script, links)
