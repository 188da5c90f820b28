"""Lifecycle (semantics 5): every status by a worked example, and all of them against a walk over each person's life."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.lifecycle import STATUSES, Lifecycle, lifecycle, lifecycle_of_buckets, statuses
from platform_assets.semantics.person_buckets import of_days
from platform_assets.semantics.specification import EventPredicate
from support.acts import Act, act, events_of, histories, persons_of
from support.drawn import drawn
from support.engines import Native

UTC_ZONE = ZoneInfo("UTC")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
BEGIN = datetime(2026, 3, 26, tzinfo=UTC)


def told(table: pl.DataFrame) -> dict[str, list[int | None]]:
    """The persons of each status, bucket by bucket."""
    return {status: table.filter(status=status)["persons"].to_list() for status in STATUSES}


def days(acts: Sequence[Act], first: str, last: str, now: datetime = LATER, **fields: object) -> dict[str, list]:
    spec = Lifecycle.model_validate({"interval": "day", **fields})
    return told(lifecycle(events_of(acts), spec, date.fromisoformat(first), date.fromisoformat(last), UTC_ZONE, now))


def test_a_life() -> None:
    acts = [act("a", f"2026-01-{day:02}T08:00") for day in (2, 3, 5)] + [act("a", "2026-01-03T20:00")]
    assert days(acts, "2026-01-01", "2026-01-07") == {
        "new": [0, 1, 0, 0, 0, 0, 0],
        "returning": [0, 0, 1, 0, 0, 0, 0],
        "resurrecting": [0, 0, 0, 0, 1, 0, 0],
        "dormant": [0, 0, 0, -1, 0, -1, 0],
    }


def test_one_bucket_before_the_range_is_looked_at() -> None:
    acts = [
        act("a", "2026-01-01T08:00"),
        act("a", "2026-01-03T08:00"),
        act("a", "2026-01-04T08:00"),
        act("b", "2026-01-03T08:00"),
    ]
    assert days(acts, "2026-01-04", "2026-01-04") == {
        "new": [0],
        "returning": [1],
        "resurrecting": [0],
        "dormant": [-1],
    }


def test_whoever_was_seen_before_is_not_new() -> None:
    acts = [act("a", "2026-01-01T08:00", "other"), act("a", "2026-01-03T08:00", "start")]
    seen = {"activity": {"event": "start"}}
    assert days(acts, "2026-01-03", "2026-01-03", **seen)["resurrecting"] == [1]
    assert days(acts, "2026-01-03", "2026-01-03", **seen, new_by="activity")["new"] == [1]


def test_firsts_that_the_lake_keeps_stand_for_all_history() -> None:
    events = events_of([act("a", "2026-01-03T08:00"), act("b", "2026-01-03T08:00")])
    firsts = pl.DataFrame(
        {
            "person_id": ["a", "b"],
            "first_at": [datetime(2025, 6, 1, tzinfo=UTC), datetime(2026, 1, 3, 8, tzinfo=UTC)],
        }
    )
    day = date(2026, 1, 3)
    table = lifecycle(events, Lifecycle(interval="day"), day, day, UTC_ZONE, LATER, firsts=firsts)
    assert told(table) == {"new": [1], "returning": [0], "resurrecting": [1], "dormant": [0]}


def test_a_bucket_that_has_not_ended_is_null() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("b", "2026-01-02T08:00")]
    now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    # That somebody is dormant on the 2nd, nobody knows before its end.
    assert days(acts, "2026-01-01", "2026-01-02", now) == {
        "new": [1, None],
        "returning": [0, None],
        "resurrecting": [0, None],
        "dormant": [0, None],
    }
    so_far = days(acts, "2026-01-01", "2026-01-02", now, incomplete="count")
    assert so_far == {"new": [1, 1], "returning": [0, 0], "resurrecting": [0, 0], "dormant": [0, -1]}
    table = lifecycle(events_of(acts), Lifecycle(interval="day"), date(2026, 1, 1), date(2026, 1, 2), UTC_ZONE, now)
    assert table["is_complete"].to_list() == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("week_start", "first_day", "expected"),
    [
        ("monday", date(2026, 1, 5), {"new": [1, 0], "returning": [0, 0], "resurrecting": [0, 0], "dormant": [0, -1]}),
        ("sunday", date(2026, 1, 4), {"new": [1, 0], "returning": [0, 1], "resurrecting": [0, 0], "dormant": [0, 0]}),
    ],
)
def test_weeks_begin_on_the_day_that_is_said(week_start: str, first_day: date, expected: dict[str, list[int]]) -> None:
    # 10 January 2026 is a Saturday, the 11th a Sunday.
    acts = [act("a", "2026-01-10T08:00"), act("a", "2026-01-11T08:00")]
    spec = Lifecycle.model_validate({"week_start": week_start})
    table = lifecycle(events_of(acts), spec, date(2026, 1, 10), date(2026, 1, 17), UTC_ZONE, LATER)
    assert table["bucket"][0] == first_day
    assert told(table) == expected


def test_months_are_as_long_as_they_are() -> None:
    acts = [act("a", "2026-01-01T00:00"), act("a", "2026-02-28T23:59"), act("b", "2026-01-31T23:59")]
    spec = Lifecycle(interval="month")
    table = lifecycle(events_of(acts), spec, date(2026, 1, 15), date(2026, 3, 1), UTC_ZONE, LATER)
    assert table["bucket"].unique().sort().to_list() == [date(2026, month, 1) for month in (1, 2, 3)]
    assert told(table) == {
        "new": [2, 0, 0],
        "returning": [0, 1, 0],
        "resurrecting": [0, 0, 0],
        "dormant": [0, -1, -1],
    }


def test_days_are_those_of_the_zone_however_long() -> None:
    # In Berlin 29 March 2026 is the 23 hours from 23:00 UTC on the 28th.
    acts = [act("a", "2026-03-28T22:59"), act("a", "2026-03-28T23:00"), act("a", "2026-03-29T22:00")]
    spec, berlin = Lifecycle(interval="day"), ZoneInfo("Europe/Berlin")
    table = lifecycle(events_of(acts), spec, date(2026, 3, 28), date(2026, 3, 31), berlin, LATER)
    assert told(table) == {
        "new": [1, 0, 0, 0],
        "returning": [0, 1, 1, 0],
        "resurrecting": [0, 0, 0, 0],
        "dormant": [0, 0, 0, -1],
    }


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="last 2026-01-01 is before first 2026-01-02"):
        days([], "2026-01-02", "2026-01-01")


def expected_statuses(
    acts: Sequence[Act], spec: Lifecycle, buckets: range, zone: ZoneInfo
) -> set[tuple[str, int, str]]:
    """Each person's life, from their first bucket on."""
    found = set()
    for person in persons_of(acts):
        active = {
            bucket_of(at.astimezone(zone).replace(tzinfo=None), spec.interval, spec.week_start)
            for who, at, name, _ in acts
            if who == person and name == "start"
        }
        seen = [
            bucket_of(at.astimezone(zone).replace(tzinfo=None), spec.interval, spec.week_start)
            for who, at, name, _ in acts
            if who == person and (name == "start" or spec.new_by == "any_event")
        ]
        for bucket in buckets:
            if bucket in active:
                status = "new" if bucket == min(seen) else "returning" if bucket - 1 in active else "resurrecting"
                found.add((person, bucket, status))
            elif bucket - 1 in active:
                found.add((person, bucket, "dormant"))
    return found


@drawn(150)
@given(
    acts=histories(BEGIN, 40 * 24),
    interval=st.sampled_from(["hour", "day", "week", "month"]),
    week_start=st.sampled_from(["monday", "sunday"]),
    new_by=st.sampled_from(["any_event", "activity"]),
    incomplete=st.sampled_from(["null", "count"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    span=st.tuples(st.integers(0, 120), st.integers(0, 6)),
    now=st.integers(0, 30 * 24),
)
def test_the_numbers_are_what_the_definition_says(
    acts: list[Act],
    interval: str,
    week_start: str,
    new_by: str,
    incomplete: str,
    zone: str,
    span: tuple[int, int],
    now: int,
) -> None:
    spec = Lifecycle.model_validate(
        {
            "activity": EventPredicate(event="start"),
            "interval": interval,
            "week_start": week_start,
            "new_by": new_by,
            "incomplete": incomplete,
        }
    )
    first = BEGIN.replace(tzinfo=None) + timedelta(hours=span[0])
    last = first + (timedelta(hours=span[1]) if interval == "hour" else timedelta(days=span[1]))
    known, told_zone = BEGIN + timedelta(hours=now), ZoneInfo(zone)
    table = lifecycle(events_of(acts), spec, first, last, told_zone, known)
    buckets = range(
        bucket_of(first, spec.interval, spec.week_start), bucket_of(last, spec.interval, spec.week_start) + 1
    )
    wanted = expected_statuses(acts, spec, buckets, told_zone)
    rows = []
    for bucket in buckets:
        begins = start_of(bucket, spec.interval, spec.week_start)
        ends = start_of(bucket + 1, spec.interval, spec.week_start)
        is_complete = ends <= known.astimezone(told_zone).replace(tzinfo=None)
        for status in STATUSES:
            persons = sum(found[1:] == (bucket, status) for found in wanted) * (-1 if status == "dormant" else 1)
            shown = persons if is_complete or incomplete == "count" else None
            rows.append((begins if interval == "hour" else begins.date(), status, shown, is_complete))
    assert table.rows() == rows


def test_every_engine_says_the_same(native: Native) -> None:
    draw = random.Random(3)
    acts = [
        (
            draw.choice("abcdefgh"),
            BEGIN + timedelta(minutes=draw.randrange(40 * 1440)),
            draw.choice(["start", "x"]),
            None,
        )
        for _ in range(120)
    ]
    events, zone = events_of(acts), ZoneInfo("Europe/Berlin")
    spec = Lifecycle(activity=EventPredicate(event="start"), interval="day")
    spans = (date(2026, 3, 27), date(2026, 4, 20), zone, datetime(2026, 4, 19, tzinfo=UTC))
    assert lifecycle(native(events), spec, *spans).equals(lifecycle(events, spec, *spans))


def test_days_say_the_same_as_events(native: Native) -> None:
    draw = random.Random(4)
    acts = [(draw.choice("abcdefgh"), BEGIN + timedelta(hours=draw.randrange(40 * 24)), "x", None) for _ in range(60)]
    events = events_of(acts)
    person_days = events.select("person_id", day=pl.col("occurred_at").dt.date())
    for interval in ("day", "week", "month"):
        spec = Lifecycle.model_validate({"interval": interval})
        spans = (date(2026, 3, 20), date(2026, 5, 5), UTC_ZONE, LATER)
        active = of_days(native(person_days), spec.interval)
        firsts = of_days(native(person_days.group_by("person_id").agg(pl.col("day").min())), spec.interval)
        assert lifecycle_of_buckets(active, firsts, spec, *spans).equals(lifecycle(events, spec, *spans))


def test_who_has_which_status() -> None:
    active = pl.DataFrame({"person_id": ["a", "a", "b", "c"], "bucket": [4, 5, 5, 6]})
    firsts = pl.DataFrame({"person_id": ["a", "b", "c"], "bucket": [2, 5, 6]})
    found = statuses(active, firsts, range(5, 7)).collect().to_native().sort("bucket", "person_id")
    assert found.rows() == [
        ("a", 5, "returning"),
        ("b", 5, "new"),
        ("a", 6, "dormant"),
        ("b", 6, "dormant"),
        ("c", 6, "new"),  # and not dormant in the bucket after the last that was asked for
    ]
