"""Identity (semantics 4): whose an anonymous id is, and when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.engines import collected, lazy
from platform_assets.semantics.events import is_id, raw_id
from platform_assets.semantics.identity import (
    CLAIM,
    LINKS,
    PERSONS,
    impact,
    in_force,
    joined,
    links,
    owned,
    persons,
    thinned,
)
from support.drawn import drawn
from support.engines import Native

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Link:
    """Evidence; times in days."""

    left: str
    right: str
    day: float
    kind: str = "login"


def at(day: float) -> datetime:
    return START + day * DAY


def frame(evidence: Sequence[Link]) -> pl.LazyFrame:
    rows = [(link.left, link.right, link.kind, at(link.day)) for link in evidence]
    return pl.LazyFrame(rows, schema=LINKS, orient="row")


def owners(evidence: Sequence[Link], wanted: Sequence[tuple[str, float]]) -> list[str]:
    """Whose some raw ids are at some days."""
    schema = {"raw_id": pl.String(), "occurred_at": LINKS["seen_at"]}
    rows = pl.LazyFrame([(raw, at(day)) for raw, day in wanted], schema=schema, orient="row").with_row_index()
    return joined(rows, persons(frame(evidence)).lazy()).sort("index").collect()["person_id"].to_list()


def login(anonymous: str, user: str, day: float) -> Link:
    return Link(f"a:{anonymous}", f"u:{user}", day)


def alias(before: str, after: str, day: float = 0) -> Link:
    return Link(f"u:{before}", f"u:{after}", day, "alias")


def unlink(left: str, right: str, day: float) -> Link:
    return Link(left, right, day, "unlink")


NAMED = {
    "a login claims what the device did before": ([login("x", "1", 10)], [("a:x", 5)], ["u:1"]),
    "and what it does after, however long": ([login("x", "1", 10)], [("a:x", 900)], ["u:1"]),
    "but nothing from more than 30 days before": ([login("x", "1", 40)], [("a:x", 9.9), ("a:x", 10)], ["a:x", "u:1"]),
    "a device that nobody logs in on is a person of its own": ([login("x", "1", 1)], [("a:y", 1)], ["a:y"]),
    "one person in two browsers": (
        [login("x", "1", 1), login("y", "1", 2)],
        [("a:x", 0), ("a:y", 0), ("u:1", 0)],
        ["u:1", "u:1", "u:1"],
    ),
    "two persons on one device: the next to log in, else the last": (
        [login("x", "1", 10), login("x", "2", 20)],
        [("a:x", 9), ("a:x", 10), ("a:x", 11), ("a:x", 20), ("a:x", 21)],
        ["u:1", "u:1", "u:2", "u:2", "u:2"],
    ),
    "a long time between two persons: the last one's, until 30 days before the next": (
        [login("x", "1", 10), login("x", "2", 100)],
        [("a:x", 69), ("a:x", 70), ("a:x", 99)],
        ["u:1", "u:2", "u:2"],
    ),
    "sharing a device does not merge users": (
        [login("x", "1", 10), login("x", "2", 20)],
        [("u:1", 15), ("u:2", 15)],
        ["u:1", "u:2"],
    ),
    "an alias merges users, whichever came first": (
        [alias("2", "3"), alias("2", "1"), login("x", "3", 5)],
        [("u:1", 0), ("u:2", 0), ("u:3", 0), ("a:x", 4)],
        ["u:1"] * 4,
    ),
    "a merge that arrives late joins a device's two users": (
        [login("x", "1", 10), login("x", "2", 20), alias("1", "2", 300)],
        [("a:x", 5), ("a:x", 15)],
        ["u:1", "u:1"],
    ),
    "an unlink takes back the logins before it": (
        [login("x", "1", 10), unlink("a:x", "u:1", 11)],
        [("a:x", 9), ("a:x", 12)],
        ["a:x", "a:x"],
    ),
    "but not those after it": (
        [login("x", "1", 10), unlink("a:x", "u:1", 11), login("x", "1", 50)],
        [("a:x", 9), ("a:x", 30)],
        ["a:x", "u:1"],
    ),
    "an unlink takes back an alias": ([alias("2", "1", 5), unlink("u:1", "u:2", 6)], [("u:2", 0)], ["u:2"]),
    "two logins at one instant: the least person": (
        [login("x", "2", 10), login("x", "1", 10)],
        [("a:x", 9), ("a:x", 11)],
        ["u:1", "u:1"],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_whose(name: str) -> None:
    evidence, wanted, expected = NAMED[name]
    assert owners(evidence, wanted) == expected


def test_an_id_with_too_many_partners_links_nobody() -> None:
    kiosk = [login("kiosk", f"{n}", n / 10) for n in range(4)]
    evidence = frame([*kiosk, login("mine", "1", 1)])
    assert set(persons(evidence, most_links=4)["raw_id"]) == {"a:kiosk", "a:mine"}
    assert set(persons(evidence, most_links=3)["raw_id"]) == {"a:mine"}


@pytest.mark.parametrize("value", [None, "", " ", "NULL", "'null'", '"None"', "undefined", "[object Object]", "0"])
def test_values_that_are_no_ids(value: str | None) -> None:
    assert pl.DataFrame({"id": [value]}, schema={"id": pl.String}).select(is_id("id")).item() is False


@pytest.mark.parametrize("value", ["00", "nully", "12", "true-north"])
def test_values_that_are_ids(value: str) -> None:
    assert pl.DataFrame({"id": [value]}).select(is_id("id")).item() is True


def test_what_events_say() -> None:
    events = pl.LazyFrame(
        [
            ("page_viewed", "x", "1", "{}"),
            ("page_viewed", "x", None, "{}"),
            ("page_viewed", "null", "1", "{}"),
            ("page_viewed", "x", "Guest", '{"previous_id":"2"}'),
            ("alias", None, "1", '{"previous_id":"2"}'),
            ("alias", "x", "1", '{"previous_id":"2"}'),
            ("alias", "x", "1", "{}"),
            ("alias", "x", "1", '{"previous_id":"undefined"}'),
            ("alias", "x", "1", '{"previous_id":"1"}'),
            ("unlink", None, "1", '{"previous_id":"2"}'),
            ("unlink", "x", "1", "{}"),
        ],
        schema=["event_name", "anonymous_id", "user_id", "properties"],
        orient="row",
    ).with_columns(occurred_at=pl.lit(START, LINKS["seen_at"]))
    found = links(events).collect()
    assert found.schema == LINKS
    assert found.drop("seen_at").rows() == [
        *[("a:x", "u:1", "login")] * 5,
        ("a:x", "u:1", "unlink"),
        ("u:2", "u:1", "alias"),
        ("u:2", "u:1", "alias"),
        ("u:2", "u:1", "unlink"),
    ]


def test_the_impact_of_a_merge_is_known_before_it_is_applied() -> None:
    evidence = [login("x", "1", 10)]
    schema = {"raw_id": pl.String(), "occurred_at": LINKS["seen_at"]}
    rows = [("u:1", at(1)), ("u:2", at(1)), ("u:2", at(2)), ("u:3", at(3)), ("a:x", at(2))]
    activity = pl.LazyFrame(rows, schema=schema, orient="row").with_columns(day=pl.col("occurred_at").dt.date())
    before = persons(frame(evidence)).lazy()
    after = persons(frame([*evidence, alias("2", "1", 99)])).lazy()
    found = impact(activity, before, after)
    assert found.days.rows() == [(date(2026, 3, 2), 2, 1), (date(2026, 3, 3), 2, 1)]
    assert (found.merged, found.created) == (1, 0)
    assert impact(activity, before, before).days.is_empty()


def brute_force(evidence: Sequence[Link], raw: str, when: float) -> str:
    """The definition, word by word."""
    links_in_force = [
        link
        for link in evidence
        if link.kind != "unlink"
        and not any(
            other.kind == "unlink" and {other.left, other.right} == {link.left, link.right} and other.day >= link.day
            for other in evidence
        )
    ]

    def person(user: str) -> str:
        component = {user}
        while True:
            more = {
                end
                for link in links_in_force
                if link.kind == "alias" and {link.left, link.right} & component
                for end in (link.left, link.right)
            } - component
            if not more:
                return min(component)
            component |= more

    if raw.startswith("u:"):
        return person(raw)
    logins = [(link.day, person(link.right)) for link in links_in_force if link.kind == "login" and link.left == raw]
    coming = [one for one in logins if one[0] >= when]
    if coming and timedelta(days=min(coming)[0] - when) <= CLAIM:
        return min(coming)[1]
    past = [one for one in logins if one[0] < when]
    if past:
        newest = max(day for day, _ in past)
        return min(who for day, who in past if day == newest)
    return raw


times = st.sampled_from([0.0, 1.0, 2.0, 15.0, 31.0, 32.0, 61.0, 62.0, 100.0])
user = st.sampled_from(["u:1", "u:2", "u:3", "u:4"])
evidences = st.lists(
    st.one_of(
        st.builds(Link, st.sampled_from(["a:x", "a:y"]), user, times),
        st.builds(Link, st.sampled_from(["a:x", "a:y"]), user, times),
        st.builds(Link, user, user, times, st.just("alias")).filter(lambda link: link.left != link.right),
        st.builds(Link, st.sampled_from(["a:x", "a:y"]), user, times, st.just("unlink")),
        st.builds(Link, user, user, times, st.just("unlink")).filter(lambda link: link.left != link.right),
    ),
    max_size=12,
)
MOMENTS = [-1, 0, 0.5, 1, 1.5, 2, 14.9, 15, 16, 30.9, 31, 31.5, 32, 60.9, 61, 61.5, 62, 69.9, 70, 99, 100, 200]


@drawn(60)
@given(st.lists(evidences, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_persons_are_as_defined_from_any_order_and_slicing(worlds: list[list[Link]], rng: random.Random) -> None:
    # Worlds side by side have no id in common, so that each must come out as if it were alone.
    apart = [
        [Link(f"{link.left}.{i}", f"{link.right}.{i}", link.day, link.kind) for link in world]
        for i, world in enumerate(worlds)
    ]
    evidence = [link for world in apart for link in world]
    found = persons(frame(evidence))
    assert found.schema == PERSONS
    shuffled = [*evidence, *evidence[:3]]
    rng.shuffle(shuffled)
    cut = rng.randint(0, len(shuffled))
    sliced = pl.concat([frame(shuffled[:cut]), frame(shuffled[cut:])])
    assert persons(sliced).equals(found)

    next_from = pl.col("valid_from").shift(-1).over("raw_id")
    next_person = pl.col("person_id").shift(-1).over("raw_id")
    assert found.filter(pl.col("valid_from") >= pl.col("valid_to")).is_empty()
    assert found.filter(next_from < pl.col("valid_to")).is_empty(), "intervals overlap"
    assert found.filter((next_from == pl.col("valid_to")) & (next_person == pl.col("person_id"))).is_empty()

    ids = ("a:x", "a:y", "a:z", "u:1", "u:2", "u:3", "u:4")
    wanted = [(i, f"{raw}.{i}", day) for i in range(len(apart)) for raw in ids for day in MOMENTS]
    told = owners(evidence, [(raw, day) for _, raw, day in wanted])
    assert told == [brute_force(apart[i], raw, day) for i, raw, day in wanted]


@given(evidences, st.randoms(use_true_random=False))
def test_what_is_left_out_of_a_span_says_nothing(evidence: list[Link], rng: random.Random) -> None:
    # Many within an hour, so that there is something between.
    crowded = [Link(link.left, link.right, int(link.day) + rng.randint(0, 5) / 240, link.kind) for link in evidence]
    hourly = thinned(frame(crowded), pl.col("seen_at").dt.truncate("1h"))
    assert persons(hourly).equals(persons(frame(crowded)))


def test_between_the_first_and_the_last_of_a_row_nothing_is_kept() -> None:
    logins = [login("x", user, minute / 1440) for user, minute in (("1", 0), ("1", 1), ("1", 2), ("2", 3), ("1", 4))]
    kept = thinned(frame(logins), pl.col("seen_at").dt.truncate("1h")).collect()
    assert sorted(kept["seen_at"]) == [at(minute / 1440) for minute in (0, 2, 3, 4)]
    with_unlink = frame([*logins, unlink("a:x", "u:1", 30 / 1440)])
    assert thinned(with_unlink, pl.col("seen_at").dt.truncate("1h")).collect().height == 6


@pytest.mark.parametrize(
    ("anonymous", "user", "told"),
    [
        ("x", "1", "u:1"),
        ("x", "null", "a:x"),
        ("x", None, "a:x"),
        (None, "guest", "u:guest"),
        ("nan", "guest", "u:guest"),
    ],
)
def test_the_raw_id_of_an_event(anonymous: str | None, user: str | None, told: str) -> None:
    schema = {"anonymous_id": pl.String, "user_id": pl.String}
    frame = pl.DataFrame([{"anonymous_id": anonymous, "user_id": user}], schema=schema)
    assert frame.select(raw_id()).item() == told


def test_an_unlink_before_its_link_takes_nothing_back() -> None:
    found = in_force(frame([unlink("a:x", "u:1", 1), login("x", "1", 2), login("x", "1", 1)])).collect()
    assert found["seen_at"].to_list() == [at(2)]


def test_every_engine_joins_persons_as_of_a_time(native: Native) -> None:
    ends = [at(day) for day in (2, 5, 5, 9, 12, 9000)]
    whose = pl.DataFrame(
        [
            ("a:1", ends[0], ends[1], "u:x"),
            ("a:1", ends[2], ends[3], "u:y"),
            ("a:1", ends[4], ends[5], "u:x"),  # after a time in which it was nobody's
            ("a:2", ends[0], ends[3], "u:z"),
        ],
        schema=PERSONS,
        orient="row",
    )
    times = [(raw_id, at(day + off)) for raw_id in ("a:1", "a:2", "u:x") for day in range(15) for off in (0, 1e-9)]
    rows = pl.DataFrame(times, schema={"raw_id": pl.String, "occurred_at": LINKS["seen_at"]}, orient="row")
    wanted = joined(rows.lazy(), whose.lazy()).collect().sort(pl.all())
    found = collected(owned(lazy(native(rows)), lazy(native(whose)))).select(wanted.columns)
    assert set(wanted["person_id"]) == {"a:1", "a:2", "u:x", "u:y", "u:z"}
    assert found.sort(pl.all()).equals(wanted)
