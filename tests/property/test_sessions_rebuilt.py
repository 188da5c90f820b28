"""Whatever the order of events, logins, rebuilds and restatements, the sessions are those of one batch.

Events of a few devices over some days, with runs that go on for longer than one, taken in by any slices; days of
sessions computed in any order in between. What is wanted is `semantics.sessions` over all facts at once.
"""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.gold import fact_events, sessions
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.semantics.engines import collected
from platform_assets.semantics.sessions import sessions as sessions_of
from platform_assets.table import contract
from support.journeys import DAYS, END, LAST_DAY, Happened, act, compute_facts, compute_hours, platform
from support.records import START, at

ZONES = ("UTC", "Asia/Kolkata")


def stale(where: Platform) -> list[date]:
    return sorted(sessions.stale(where, where.lake.scan(computations.TABLE).collect(), LAST_DAY))


def compute_days(where: Platform, days: list[date]) -> None:
    for day in days:
        sessions.rebuild(where, Window.of_days(day, day, where.settings.zone))


def settle(where: Platform) -> list[date]:
    """Compute what is stale, until nothing is. Returns the days computed."""
    compute_hours(where)
    days = stale(where)
    compute_days(where, days)
    assert stale(where) == [], "stale after having been computed"
    return days


def stored(where: Platform) -> pl.DataFrame:
    rows = where.lake.scan(sessions.TABLE).collect().sort("session_id")
    assert not rows["session_id"].is_duplicated().any()
    return contract(sessions.TABLE).validate(rows)


def of_one_batch(where: Platform) -> pl.DataFrame:
    facts = fact_events.joined_facts(where, Window(START - timedelta(days=1), END + timedelta(days=1)))
    acted = facts.filter(pl.col("event_name") != "push_received").select(
        *("person_id", "anonymous_id", "occurred_at", "event_id", "source", "client_occurred_at", "event_name"),
        *("page_url", "referrer", "utm_source", "utm_medium", "utm_campaign"),
    )
    ties = ("event_id", "source", "client_occurred_at")
    rows = collected(sessions_of(acted, sessions.SPEC, where.settings.zone, ties=ties))
    day = pl.col("started_at").dt.convert_time_zone(where.settings.reporting_timezone).dt.date()
    return rows.with_columns(day=day).drop("day_number").sort("session_id")


def assert_one_batch(where: Platform) -> pl.DataFrame:
    found, wanted = stored(where), of_one_batch(where)
    assert found.equals(wanted), (found.join(wanted, on=found.columns, how="anti", nulls_equal=True), wanted)
    return found


@st.composite
def worlds(draw: st.DrawFn) -> list[Happened]:
    """Runs of events with pauses near the gap, in any order of arrival."""
    made: list[Happened] = []
    for _ in range(draw(st.integers(1, 4))):
        device, user = draw(
            st.sampled_from([("d1", None), ("d1", "anna"), ("d2", None), ("d2", "ben"), (None, "anna")])
        )
        minute, pause = draw(st.integers(0, DAYS * 24 * 60 - 1)), draw(st.sampled_from([29, 30, 31]))
        length = draw(st.sampled_from([1, 3, 60, 120]))
        dropped = draw(st.integers(0, length - 1))
        for number in range(length):
            happens = minute + number * pause
            if happens < DAYS * 24 * 60 and (number != dropped or length < 3):
                name = draw(st.sampled_from(["page_viewed"] * 5 + ["push_received"])) if length < 4 else "page_viewed"
                made.append(Happened(len(made), happens, device, user, name))
        if length >= 3 and minute + dropped * pause < DAYS * 24 * 60 and draw(st.booleans()):
            made.append(Happened(len(made), minute + dropped * pause, device, user))  # comes late, and joins two
    return made


scripts = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(1, 150)),
        st.tuples(st.just("compute"), st.integers(0, DAYS)),
        st.tuples(st.sampled_from(["facts", "hours", "settle"]), st.just(0)),
    ),
    max_size=7,
)


def check(happened: list[Happened], script: list[tuple[str, int]], zone: str, folder: Path) -> None:
    where, sent = platform(folder, zone), 0
    for what, number in [*script, ("act", len(happened)), ("settle", 0)]:
        if what == "act":
            sent = min(len(happened), sent + number)
            act(where, happened[:sent])
        elif what == "compute":
            compute_days(where, [START.date() + timedelta(days=number)])
        elif what == "facts":
            compute_facts(where)
        elif what == "hours":
            compute_hours(where)
        else:
            settle(where)
    found = assert_one_batch(where)
    days = sorted(found["day"].unique(), reverse=True)
    compute_days(where, days)  # the last first, and nothing is different
    assert stored(where).equals(found)


LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}
LONG = [Happened(number, number * 30, "d1", None) for number in range(200)]
"""A run of four days, with its events in order."""


@settings(max_examples=2, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts, st.sampled_from(ZONES))
@example([Happened(0, 0, "d1", None), Happened(1, DAYS * 24 * 60 - 6, "d1", None)], [], "Asia/Kolkata")
@example([*LONG[1:], LONG[0]], [("act", 199), ("settle", 0)], "UTC")  # an event at the beginning moves every session
@example([*LONG[:20], *LONG[21:], LONG[20]], [("act", 199), ("settle", 0)], "Asia/Kolkata")
def test_sessions_are_those_of_one_batch(happened: list[Happened], script: list[tuple[str, int]], zone: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(happened, script, zone, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=6, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts, st.sampled_from(ZONES))
def test_sessions_are_those_of_one_batch_at_length(
    happened: list[Happened], script: list[tuple[str, int]], zone: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(happened, script, zone, Path(folder))


@pytest.fixture
def where(tmp_path: Path) -> Platform:
    return platform(tmp_path / "lake")


def day(number: int) -> date:
    return START.date() + timedelta(days=number)


def test_a_late_event_joins_two_sessions_and_restates_their_day_only(where: Platform) -> None:
    noon = 2 * 60 + 12 * 60  # of the second day
    early = [Happened(0, noon, "d1", None), Happened(1, noon + 50, "d1", None)]
    others = [Happened(2 + number, noon + (number - 1) * 24 * 60, "d2", None) for number in range(3)]
    act(where, [*early, *others])
    settle(where)
    assert where.lake.scan(sessions.TABLE).filter(anonymous_id="d1").collect().height == 2
    act(where, [*early, *others, Happened(9, noon + 25, "d1", None)])
    assert settle(where) == [day(1)]
    (one,) = where.lake.scan(sessions.TABLE).filter(anonymous_id="d1").collect().to_dicts()
    assert (one["started_at"], one["events"]) == (at(noon), 3)
    assert one["session_id"] == f"a:d1|a:d1|{int(at(noon).timestamp()) * 1_000_000}|e0000"
    assert_one_batch(where)


def test_an_event_restates_every_day_that_its_run_goes_through(where: Platform) -> None:
    act(where, LONG[1:])
    settle(where)
    act(where, [*LONG[1:], LONG[0]])
    assert settle(where) == [day(number) for number in range(6)]
    found = assert_one_batch(where)
    assert found.select("started_at", "events").sort("started_at").rows() == [
        (at(number * 49 * 30), 49) for number in range(4)
    ] + [(at(4 * 49 * 30), 4)]
    assert set(found["run_started_at"]) == {START}


def test_a_login_restates_the_days_of_the_device(where: Platform) -> None:
    minutes = (3 * 60, 27 * 60, 51 * 60)
    act(where, [Happened(number, minute, "d1", None) for number, minute in enumerate(minutes)])
    settle(where)
    assert set(stored(where)["person_id"]) == {"a:d1"}
    login = Happened(9, 75 * 60, "d1", "anna")
    act(where, [*(Happened(number, minute, "d1", None) for number, minute in enumerate(minutes)), login])
    assert settle(where) == [day(number) for number in (1, 2, 3, 4)]
    assert set(stored(where)["person_id"]) == {"u:anna"}


def test_what_happens_to_a_person_is_no_visit(where: Platform) -> None:
    act(where, [Happened(0, 200, "d1", None), Happened(1, 210, "d1", None, "push_received")])
    settle(where)
    assert stored(where)["events"].to_list() == [1]


def test_what_prolongs_a_session_over_midnight_restates_the_day_that_it_started_on(where: Platform) -> None:
    minutes = (100, 125, 150, 175)  # midnight is 120 minutes after the start
    happened = [Happened(number, minute, "d1", None) for number, minute in enumerate(minutes)]
    act(where, happened)
    settle(where)
    act(where, [*happened, Happened(8, 204, "d1", None)])
    assert settle(where) == [day(0), day(1)]
    assert assert_one_batch(where).select("ended_at", "events").rows() == [(at(204), 5)]
    act(where, [*happened, Happened(8, 204, "d1", None), Happened(9, 240, "d1", None)])
    assert settle(where) == [day(1)]
    assert assert_one_batch(where)["events"].sort().to_list() == [1, 5]
