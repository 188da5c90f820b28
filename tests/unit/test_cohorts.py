"""Cohorts as saved sets of persons: each rule by a worked example, and all of them against one person at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from platform_assets.semantics.cohorts import (
    Cohort,
    Did,
    DidInSequence,
    FirstDid,
    InAll,
    InAny,
    InNone,
    Members,
    leaves,
    members,
    told_by_firsts,
)
from platform_assets.semantics.engines import collected
from platform_assets.semantics.specification import EventPredicate, Filter
from support.acts import Act, act, events_of, histories
from support.drawn import drawn
from support.engines import Native

UTC_ZONE = ZoneInfo("UTC")
BEGIN = datetime(2026, 3, 26, tzinfo=UTC)
START, BACK, OTHER = (EventPredicate(event=name) for name in ("start", "back", "other"))
PERSONS = pl.DataFrame({"person_id": ["a", "b", "c"], "country": ["DE", "FR", None]})


def who(acts: Sequence[Act], of: Members, as_of: str, zone: str = "UTC") -> str:
    found = members(events_of(acts), PERSONS, Cohort(name="some", of=of), date.fromisoformat(as_of), ZoneInfo(zone))
    return "".join(sorted(collected(found)["person_id"]))


def firsts_of(acts: Sequence[Act]) -> pl.DataFrame:
    return events_of(acts).group_by("person_id", "event_name").agg(first_at=pl.col("occurred_at").min())


ONCE_TWICE = [
    act("a", "2026-01-01T08:00"),
    act("a", "2026-01-02T08:00"),
    act("b", "2026-01-02T08:00"),
    act("b", "2026-01-02T08:00", "other"),
]


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (Did(did=START), "ab"),
        (Did(did=START, at_least=2), "a"),
        (Did(did=START, exactly=1), "b"),
        (Did(did=START, exactly=0), "c"),
        (Did(did=START, at_most=1), "bc"),
        (Did(did=START, at_least=1, at_most=1), "b"),
        (Did(did=START, exactly=1, days=1), "ab"),
        (Did(did=EventPredicate(), at_least=2), "ab"),
        (FirstDid(first_did=START, days=1), "b"),
        (FirstDid(first_did=START, days=2), "ab"),
        (Filter(property="country", value=("DE", "FR")), "ab"),
        (Filter(property="country", operator="is_not_set"), "c"),
        (InNone(none=(Did(did=START, at_least=2),)), "bc"),
        (InAll(all=(Did(did=START), Filter(property="country", value="FR"))), "b"),
        (InAny(any=(Did(did=START, at_least=2), Filter(property="country", operator="is_not_set"))), "ac"),
        (InNone(none=(Did(did=START, at_least=2), Filter(property="country", operator="is_not_set"))), "b"),
        (InAll(all=(InNone(none=(Did(did=OTHER),)), Did(did=START, at_most=5))), "ac"),
    ],
)
def test_who_is_in(of: Members, expected: str) -> None:
    assert who(ONCE_TWICE, of, "2026-01-02") == expected


def test_what_comes_after_the_day_is_not_looked_at() -> None:
    assert who(ONCE_TWICE, Did(did=START), "2026-01-01") == "a"
    assert who(ONCE_TWICE, Did(did=START), "2025-12-31") == ""
    assert who(ONCE_TWICE, Did(did=START, exactly=0), "2025-12-31") == "abc"


def test_a_window_ends_with_the_day_in_the_reporting_timezone() -> None:
    # In Kolkata it is the 2nd from 18:30 UTC on the 1st.
    acts = [act("a", "2026-01-01T18:29"), act("b", "2026-01-01T18:30"), act("c", "2026-01-02T18:30")]
    assert who(acts, Did(did=START, days=1), "2026-01-02", "Asia/Kolkata") == "b"
    assert who(acts, Did(did=START, days=2), "2026-01-02", "Asia/Kolkata") == "ab"


def test_what_came_first_is_looked_for_in_all_history() -> None:
    acts = [act("a", "2025-01-01T08:00"), act("a", "2026-01-02T08:00"), act("b", "2026-01-02T08:00")]
    assert who(acts, FirstDid(first_did=START, days=1), "2026-01-02") == "b"
    assert who(acts, FirstDid(first_did=START, days=1), "2025-01-01") == "a"


def test_a_predicate_of_the_first_ever_knows_nothing_of_later_days() -> None:
    acts = [act("a", "2026-01-02T08:00", plan="p"), act("a", "2026-01-03T08:00", plan="q")]
    first = EventPredicate(event="start", first_ever=True, where=(Filter(property="plan", value="q"),))
    assert who(acts, Did(did=first), "2026-01-02") == ""
    assert who(acts, Did(did=first, days=1), "2026-01-03") == "a"


def test_one_after_the_other() -> None:
    acts = [
        act("a", "2026-01-01T08:00"),
        act("a", "2026-01-01T09:00", "other"),
        act("a", "2026-01-01T10:00", "back"),
        act("b", "2026-01-01T08:00", "back"),  # the wrong way round
        act("b", "2026-01-01T09:00", "start"),
        act("c", "2026-01-01T08:00", "back"),  # at one instant, either may be taken first
        act("c", "2026-01-01T08:00"),
    ]
    assert who(acts, DidInSequence(sequence=(START, BACK)), "2026-01-01") == "ac"
    assert who(acts, DidInSequence(sequence=(BACK, START)), "2026-01-01") == "bc"
    # One event is never two things.
    assert who(acts, DidInSequence(sequence=(START, OTHER, BACK)), "2026-01-01") == "a"
    assert who(acts, DidInSequence(sequence=(START, BACK, OTHER)), "2026-01-01") == ""
    assert who(acts, DidInSequence(sequence=(EventPredicate(),) * 3), "2026-01-01") == "a"


def test_a_sequence_may_begin_again_later() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-03T08:00"), act("a", "2026-01-03T09:00", "back")]
    hour = timedelta(hours=1)
    assert who(acts, DidInSequence(sequence=(START, BACK), within=hour), "2026-01-03") == "a"
    within = DidInSequence(sequence=(START, BACK), within=hour - timedelta(microseconds=1))
    assert who(acts, within, "2026-01-03") == ""


def test_all_of_a_sequence_lies_in_the_window() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-02T09:00", "back")]
    assert who(acts, DidInSequence(sequence=(START, BACK), days=2), "2026-01-02") == "a"
    assert who(acts, DidInSequence(sequence=(START, BACK), days=1), "2026-01-02") == ""


def test_the_first_ever_of_a_sequence_is_of_all_history() -> None:
    first = EventPredicate(event="start", first_ever=True)
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-02T08:00"), act("a", "2026-01-02T09:00", "back")]
    assert who(acts, DidInSequence(sequence=(first, BACK), days=2), "2026-01-02") == "a"
    assert who(acts, DidInSequence(sequence=(first, BACK), days=1), "2026-01-02") == ""


def test_who_is_not_among_the_persons_is_no_member() -> None:
    assert who([act("z", "2026-01-01T08:00"), act("a", "2026-01-01T08:00")], Did(did=START), "2026-01-01") == "a"


def test_a_cohort_is_written_in_yaml() -> None:
    text = """
    name: loyal and quiet
    of:
      all:
        - {did: {event: start}, at_least: 2, days: 90}
        - {none: [{did: {event: other}, days: 14}, {first_did: {event: start}, days: 1}]}
        - {sequence: [{event: start}, {event: start}], within: 2d}
        - {property: country, value: [DE, AT]}
    """
    cohort = Cohort.model_validate(yaml.safe_load(text))
    assert cohort.of == InAll(
        all=(
            Did(did=START, at_least=2, days=90),
            InNone(none=(Did(did=OTHER, days=14), FirstDid(first_did=START, days=1))),
            DidInSequence(sequence=(START, START), within=timedelta(days=2)),
            Filter(property="country", value=("DE", "AT")),
        )
    )
    found = members(events_of(ONCE_TWICE), PERSONS, cohort, date(2026, 1, 2), UTC_ZONE)
    assert collected(found)["person_id"].to_list() == ["a"]
    assert Cohort.model_validate(yaml.safe_load(yaml.safe_dump(cohort.model_dump(mode="json")))) == cohort


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"did": {"event": "start"}, "exactly": 1, "at_most": 2}, "exactly 1 stands alone"),
        ({"did": {"event": "start"}, "at_least": 3, "at_most": 2}, "at_least 3 is more than at_most 2"),
        ({"did": {"event": "start"}, "days": 0}, "greater than or equal to 1"),
        ({"sequence": [{"event": "start"}]}, "at least 2 items"),
        ({"sequence": [{}] * 7}, "one event can match 7 of them"),
        ({"sequence": [{}, {}], "within": 0}, "must be longer than nothing"),
        ({"all": []}, "at least 1 item"),
        ({"did": {"event": "start"}, "month": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_cohort_says_what_is_wrong(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cohort.model_validate({"name": "wrong", "of": wrong})


def test_a_column_that_the_persons_lack_is_named() -> None:
    with pytest.raises(ValueError, match="property 'plan'"):
        who([], Filter(property="plan", value="pro"), "2026-01-01")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (FirstDid(first_did=START, days=3), True),
        (FirstDid(first_did=EventPredicate(), days=3), True),
        (FirstDid(first_did=EventPredicate(any_of=(START, BACK)), days=3), True),
        (FirstDid(first_did=EventPredicate(any_of=(START,), event="start"), days=3), False),
        (FirstDid(first_did=EventPredicate(where=(Filter(property="plan", value="p"),)), days=3), False),
        (Did(did=START), True),
        (Did(did=START, at_least=1), True),
        (Did(did=START, exactly=0), True),
        (Did(did=START, at_least=2), False),
        (Did(did=START, at_most=1), False),
        (Did(did=START, days=3), False),
        (Did(did=EventPredicate(event="start", first_ever=True)), False),
        (DidInSequence(sequence=(START, BACK)), False),
    ],
)
def test_what_firsts_tell(act: Did | FirstDid | DidInSequence, expected: bool) -> None:
    assert told_by_firsts(act) is expected


PREDICATES = st.sampled_from([START, BACK, OTHER, EventPredicate(), EventPredicate(event=("start", "back"))])
DAYS = st.one_of(st.none(), st.integers(1, 5))
TIMES = st.sampled_from(
    [{}, {"at_least": 2}, {"at_most": 1}, {"exactly": 1}, {"exactly": 0}, {"at_least": 1, "at_most": 2}]
)
BEHAVIOURS = st.one_of(
    st.builds(lambda did, times, days: Did(did=did, days=days, **times), PREDICATES, TIMES, DAYS),
    st.builds(lambda did, days: FirstDid(first_did=did, days=days), PREDICATES, st.integers(1, 5)),
    st.builds(
        lambda steps, within, days: DidInSequence(sequence=tuple(steps), within=within, days=days),
        st.lists(PREDICATES, min_size=2, max_size=3),
        st.one_of(st.none(), st.integers(1, 40).map(lambda hours: timedelta(hours=hours))),
        DAYS,
    ),
    st.sampled_from([Filter(property="country", value="DE"), Filter(property="country", operator="is_set")]),
)
SETS = st.recursive(
    BEHAVIOURS,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(lambda some: InAll(all=tuple(some))),
        st.lists(parts, min_size=1, max_size=3).map(lambda some: InAny(any=tuple(some))),
        st.lists(parts, min_size=1, max_size=3).map(lambda some: InNone(none=tuple(some))),
    ),
    max_leaves=3,
)


def is_member(person: str, acts: Sequence[Act], of: Members, as_of: date, zone: ZoneInfo) -> bool:
    """The definition, for one person."""
    if isinstance(of, InAll):
        return all(is_member(person, acts, part, as_of, zone) for part in of.all)
    if isinstance(of, InAny):
        return any(is_member(person, acts, part, as_of, zone) for part in of.any)
    if isinstance(of, InNone):
        return not any(is_member(person, acts, part, as_of, zone) for part in of.none)
    if isinstance(of, Filter):
        country = dict(PERSONS.rows())[person]
        return country is not None and of.value in (None, country)
    # Days of the reporting timezone, back from the day.
    done = [(at, name, (as_of - at.astimezone(zone).date()).days) for one, at, name, _ in acts if one == person]
    done = [found for found in done if found[2] >= 0]
    near = [found for found in done if of.days is None or found[2] < of.days]

    def matching(predicate: EventPredicate, found: list[tuple[datetime, str, int]]) -> list[datetime]:
        return [at for at, name, _ in found if predicate.events is None or name in predicate.events]

    if isinstance(of, Did):
        fewest, most = of.times
        times = len(matching(of.did, near))
        return fewest <= times and (most is None or times <= most)
    if isinstance(of, FirstDid):
        ever = matching(of.first_did, done)
        return bool(ever) and min(ever) in matching(of.first_did, near)
    # Every way to take events of the window one after the other, none twice.
    steps = [[i for i, found in enumerate(near) if matching(step, [found])] for step in of.sequence]
    chains = [[i] for i in steps[0]]
    for step in steps[1:]:
        chains = [[*chain, i] for chain in chains for i in step if i not in chain and near[i][0] >= near[chain[-1]][0]]
    return any(of.within is None or near[chain[-1]][0] - near[chain[0]][0] <= of.within for chain in chains)


@drawn(150)
@given(
    acts=histories(BEGIN, 6 * 24, "abc"),
    of=SETS,
    day=st.integers(-1, 8),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
def test_members_are_who_the_definition_says(acts: list[Act], of: Members, day: int, zone: str) -> None:
    as_of = BEGIN.date() + timedelta(days=day)
    expected = "".join(person for person in "abc" if is_member(person, acts, of, as_of, ZoneInfo(zone)))
    assert who(acts, of, as_of.isoformat(), zone) == expected
    # The firsts that the lake keeps stand for all that they tell.
    cohort = Cohort(name="some", of=of)
    behaviours = [leaf for leaf in leaves(cohort) if not isinstance(leaf, Filter)]
    events = events_of([] if all(map(told_by_firsts, behaviours)) else acts)
    found = members(events, PERSONS, cohort, as_of, ZoneInfo(zone), firsts=firsts_of(acts))
    assert "".join(sorted(collected(found)["person_id"])) == expected


def test_every_engine_says_the_same(native: Native) -> None:
    draw = random.Random(6)
    names = [f"p{i}" for i in range(30)]
    acts = [
        (
            draw.choice(names),
            BEGIN + timedelta(hours=draw.randrange(200)),
            draw.choice(["start", "back", "other"]),
            None,
        )
        for _ in range(150)
    ]
    persons = pl.DataFrame({"person_id": names, "country": [draw.choice(["DE", "FR", None]) for _ in names]})
    of = InAny(
        any=(
            InAll(all=(DidInSequence(sequence=(START, BACK), within=timedelta(days=1)), Did(did=OTHER, at_least=2))),
            InAll(all=(FirstDid(first_did=START, days=2), Filter(property="country", value="DE"))),
            InNone(none=(Did(did=EventPredicate(), days=4),)),
            InNone(none=(Did(did=BACK),)),
        )
    )
    cohort, spans = Cohort(name="some", of=of), (date(2026, 4, 2), ZoneInfo("Europe/Berlin"))
    wanted = sorted(collected(members(events_of(acts), persons, cohort, *spans))["person_id"])
    assert 0 < len(wanted) < len(names)
    assert sorted(collected(members(native(events_of(acts)), native(persons), cohort, *spans))["person_id"]) == wanted
