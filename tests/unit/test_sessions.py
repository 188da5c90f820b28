"""Sessions, against hand-worked ones and against a walk over the events one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.engines import collected
from platform_assets.semantics.sessions import OURS, Sessions, sessions, with_sessions
from support.drawn import drawn
from support.engines import Native

START = datetime(2026, 3, 2, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SCHEMA = pl.Schema(
    {
        "person_id": pl.String(),
        "anonymous_id": pl.String(),
        "occurred_at": pl.Datetime("us", "UTC"),
        "event_id": pl.String(),
        "event_name": pl.String(),
        "page_url": pl.String(),
        "referrer": pl.String(),
        "utm_source": pl.String(),
        "utm_medium": pl.String(),
        "utm_campaign": pl.String(),
    }
)


def event(number: int, minute: float, name: str = "page_viewed", **fields: str | None) -> dict[str, Any]:
    made = dict.fromkeys(SCHEMA) | {"person_id": "u:anna", "anonymous_id": "d1"} | fields
    return made | {
        "occurred_at": START + timedelta(minutes=minute),
        "event_id": f"e{number:04}",
        "event_name": name,
    }


def frame(events: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(events), schema=SCHEMA)


def at_minutes(*minutes: float) -> pl.DataFrame:
    return frame(event(number, minute) for number, minute in enumerate(minutes))


def lengths(events: pl.DataFrame, spec: Sessions = OURS) -> list[int]:
    """The numbers of events of the sessions, in order of their starts."""
    return collected(sessions(events, spec)).sort("started_at")["events"].to_list()


MICROSECOND = 1 / 60_000_000


@pytest.mark.parametrize(
    ("minutes", "wanted"),
    [
        ((0, 30), [2]),
        ((0, 30 + MICROSECOND), [1, 1]),
        ((0, 0, 0), [3]),
        (tuple(range(0, 24 * 60 + 1, 30)), [49]),  # the last one exactly 24 hours after the first
        ((*range(0, 24 * 60, 30), 24 * 60 + MICROSECOND), [48, 1]),
        (tuple(range(0, 50 * 60, 30)), [49, 49, 2]),  # 24:30 begins the next: counted from there, not from 24:00
        ((*range(0, 24 * 60, 30), 24 * 60 + 10, 24 * 60 + 10), [48, 2]),
    ],
)
def test_gaps_and_the_longest(minutes: tuple[float, ...], wanted: list[int]) -> None:
    assert lengths(at_minutes(*minutes)) == wanted


def test_persons_and_devices_have_their_own_sessions(native: Native) -> None:
    events = frame(
        [
            event(0, 0),
            event(1, 1, anonymous_id="d2"),
            event(2, 2, anonymous_id=None),
            event(3, 3, person_id="u:ben"),
            event(4, 29),
            event(5, 31, anonymous_id=None),
            event(6, 32, anonymous_id=""),
        ]
    )
    found = collected(sessions(native(events)))
    rows = sorted(found.select("session_id", "events").rows())
    us = [int((START + timedelta(minutes=m)).timestamp()) * 1_000_000 for m in range(33)]
    assert rows == sorted(
        [
            (f"u:anna|a:d1|{us[0]}|e0000", 2),
            (f"u:anna|a:d2|{us[1]}|e0001", 1),
            (f"u:anna||{us[2]}|e0002", 2),
            (f"u:ben|a:d1|{us[3]}|e0003", 1),
            (f"u:anna|a:|{us[32]}|e0006", 1),
        ]
    )


def test_what_a_session_says(native: Native) -> None:
    events = frame(
        [
            event(0, 22 * 60 + 50, "session_started", referrer="not of a page"),
            event(1, 22 * 60 + 50, page_url="/home", referrer="https://search", utm_source="s", utm_campaign="spring"),
            event(2, 22 * 60 + 51, page_url=None),
            event(3, 22 * 60 + 55, page_url="/cart", utm_source="s", utm_campaign="spring"),
            event(4, 23 * 60 + 5, "order_completed", page_url="/thanks", utm_source="mail", utm_medium=""),
            event(5, 24 * 60 + 30, page_url="/late"),
            event(6, 24 * 60 + 30.1, "scrolled"),
        ]
    )
    first, second = collected(sessions(native(events), zone=BERLIN)).sort("started_at").to_dicts()
    at = {number: events["occurred_at"][number] for number in range(7)}
    assert first | {"session_id": None} == {
        "session_id": None,
        "person_id": "u:anna",
        "anonymous_id": "d1",
        "started_at": at[0],
        "ended_at": at[4],
        "run_started_at": at[0],
        "day_number": (at[0].date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days,
        "events": 5,
        "page_views": 3,
        "conversions": 1,
        "engaged_seconds": 30.0 * 3,  # nothing between the first two, thirty of sixty seconds, and of four minutes, …
        "entry_page": "/home",
        "exit_page": "/cart",
        "landing_referrer": "https://search",
        "utm_source": "s",
        "utm_medium": None,
        "utm_campaign": "spring",
        "campaign_at": at[1],
        "is_bounce": False,
        "has_new_day": True,  # midnight in Berlin is 23:00
        "has_new_campaign": True,
    }
    assert (second["is_bounce"], second["engaged_seconds"], second["entry_page"]) == (True, 6.0, "/late")
    assert (second["campaign_at"], second["has_new_day"], second["has_new_campaign"]) == (None, False, False)
    assert second["day_number"] == first["day_number"] + 1


@pytest.mark.parametrize(
    ("names", "minutes", "is_bounce"),
    [
        (["page_viewed"], [0], True),
        (["page_viewed", "scrolled"], [0, 1 / 6], False),
        (["page_viewed", "scrolled"], [0, 1 / 6 - MICROSECOND], True),
        (["page_viewed", "page_viewed"], [0, 0.01], False),
        (["scrolled"], [0], False),
    ],
)
def test_bounces(names: list[str], minutes: list[float], is_bounce: bool) -> None:
    events = frame(event(n, minute, name) for n, (name, minute) in enumerate(zip(names, minutes, strict=True)))
    assert collected(sessions(events))["is_bounce"].to_list() == [is_bounce]


SPOKEN = {name: said_in(name, Sessions) for name in ("headwater", "snowplow", "google_analytics")}


def test_dialects_cut_otherwise() -> None:
    over_midnight = frame([event(0, -10), event(1, 10)])
    campaigns = frame(
        [
            event(0, 0),
            event(1, 1, utm_source="a"),
            event(2, 2),
            event(3, 3, utm_source="a"),
            event(4, 4, utm_source="b"),
            event(5, 50, utm_source="b"),
        ]
    )
    long = at_minutes(*range(0, 73 * 60, 30))
    found = {
        name: [lengths(events, spec) for events in (over_midnight, campaigns, long)] for name, spec in SPOKEN.items()
    }
    assert found == {
        "headwater": [[2], [5, 1], [49, 49, 48]],
        "snowplow": [[2], [5, 1], [145, 1]],
        "google_analytics": [[1, 1], [4, 1, 1], [48, 48, 48, 2]],
    }


def test_a_run_of_months_is_cut_session_by_session() -> None:
    assert lengths(at_minutes(*range(0, 100 * 24 * 60, 20))) == [73] * 98 + [46]


# A walk over the events, one by one.


@dataclass
class Walked:
    start: datetime
    run: datetime
    events: list[dict[str, Any]] = field(default_factory=list)
    new_days: list[str] = field(default_factory=list)
    new_campaigns: list[str] = field(default_factory=list)


def campaign_of(one: Mapping[str, Any]) -> tuple[str, ...] | None:
    told = tuple(one[name] or "" for name in ("utm_source", "utm_medium", "utm_campaign"))
    return told if any(told) else None


def walked(events: pl.DataFrame, spec: Sessions, zone: ZoneInfo) -> list[Walked]:
    found: list[Walked] = []
    for _, of_device in sorted(
        events.sort("occurred_at", "event_id").partition_by(["person_id", "anonymous_id"], as_dict=True).items(),
        key=repr,
    ):
        last = run = None
        in_run: tuple[str, ...] | None = None
        in_session: tuple[str, ...] | None = None
        for one in of_device.to_dicts():
            at, campaign = one["occurred_at"], campaign_of(one)
            if last is None or at - last > spec.gap:
                run, in_run, cut = at, None, True
            else:
                is_other_day = at.astimezone(zone).date() != last.astimezone(zone).date()
                is_other_campaign = campaign is not None and in_run is not None and campaign != in_run
                cut = (spec.cut_on_new_day and is_other_day) or (spec.cut_on_new_campaign and is_other_campaign)
                cut = cut or (spec.longest is not None and at - found[-1].start > spec.longest)
            if cut:
                assert run is not None
                found.append(Walked(at, run))
                in_session = None
            elif last is not None and at.astimezone(zone).date() != last.astimezone(zone).date():
                found[-1].new_days.append(one["event_id"])
            if campaign is not None and in_session is not None and campaign != in_session:
                found[-1].new_campaigns.append(one["event_id"])
            found[-1].events.append(one)
            last, in_run, in_session = at, campaign or in_run, campaign or in_session
    return found


def told(sessions_: Iterable[Walked]) -> list[tuple[Any, ...]]:
    rows = []
    for one in sessions_:
        names = [row["event_id"] for row in one.events]
        rows.append((names, one.start, one.run, sorted(one.new_days), sorted(one.new_campaigns)))
    return sorted(rows)


def found_in(events: Any, spec: Sessions, zone: ZoneInfo) -> list[tuple[Any, ...]]:
    rows = collected(with_sessions(events, spec, zone))
    grouped = (
        rows.sort("session_event")
        .group_by("session_id")
        .agg(
            pl.col("event_id"),
            pl.col("session_event"),
            pl.col("session_started_at").unique(),
            pl.col("run_started_at").unique(),
            new_days=pl.col("event_id").filter("is_new_day").sort(),
            new_campaigns=pl.col("event_id").filter("is_new_campaign").sort(),
        )
    )
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in grouped["session_event"].to_list())
    return sorted(
        (row["event_id"], *row["session_started_at"], *row["run_started_at"], row["new_days"], row["new_campaigns"])
        for row in grouped.to_dicts()
    )


SPECS = [
    *SPOKEN.values(),
    Sessions(gap=timedelta(minutes=3), longest=timedelta(minutes=7)),
    Sessions(gap=timedelta(minutes=4), longest=timedelta(minutes=9), cut_on_new_campaign=True, cut_on_new_day=True),
]


@st.composite
def drawn_events(draw: st.DrawFn) -> pl.DataFrame:
    minutes = draw(st.lists(st.integers(0, 60), max_size=40))
    around = st.sampled_from([None, "a", "b", ""])
    return frame(
        event(
            number,
            minute + 22.5 * 60,
            person_id=draw(st.sampled_from(["u:anna", "u:ben"])),
            anonymous_id=draw(st.sampled_from([None, "d1"])),
            utm_source=draw(around),
        )
        for number, minute in enumerate(minutes)
    )


@drawn(60)
@given(drawn_events(), st.sampled_from(SPECS))
def test_sessions_are_those_of_a_walk(events: pl.DataFrame, spec: Sessions) -> None:
    assert found_in(events, spec, BERLIN) == told(walked(events, spec, BERLIN))


def busy(seed: int) -> pl.DataFrame:
    """Two hundred events of three persons over four days, with runs over more than one."""
    rng = random.Random(seed)
    made, minute = [], 0.0
    for number in range(400):
        minute += rng.choice([1, 5, 20, 29, 30, 30 if rng.random() < 0.9 else 31])
        made.append(
            event(
                number,
                minute if rng.random() < 0.95 else rng.randrange(6000),
                person_id=rng.choice(["u:anna"] * 8 + ["u:ben", "a:d3"]),
                anonymous_id=rng.choice(["d1"] * 9 + [None]),
                utm_source=rng.choice([None] * 6 + ["a", "b"]),
            )
        )
    return frame(made)


@pytest.mark.parametrize("name", [*SPOKEN])
def test_every_engine_finds_the_sessions_of_a_walk(native: Native, name: str) -> None:
    events = busy(7)
    wanted = told(walked(events, SPOKEN[name], BERLIN))
    assert found_in(native(events), SPOKEN[name], BERLIN) == wanted
    assert len(wanted) > 20


def test_cuts_can_be_bounded_beforehand(native: Native) -> None:
    events = at_minutes(*range(0, 50 * 60, 30))
    enough = collected(sessions(native(events), most_cuts=5)).sort("started_at")["events"].to_list()
    assert enough == lengths(events) == [49, 49, 2]


def test_no_events_have_no_sessions() -> None:
    assert collected(sessions(frame([]))).is_empty()


def test_ids_with_bars_are_told_apart() -> None:
    events = frame([event(0, 0, person_id="a|a:b", anonymous_id="c"), event(0, 0, person_id="a", anonymous_id="b|a:c")])
    assert collected(sessions(events))["session_id"].n_unique() == 2
