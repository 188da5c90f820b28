"""The stickiness histogram (semantics 5), by worked examples and against counting each person's intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.person_buckets import of_days
from platform_assets.semantics.specification import EventPredicate
from platform_assets.semantics.stickiness import Stickiness, stickiness, stickiness_of_buckets
from support.acts import Act, act, events_of, histories, persons_of
from support.drawn import drawn
from support.engines import Native

UTC_ZONE = ZoneInfo("UTC")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
BEGIN = datetime(2026, 3, 26, tzinfo=UTC)


def persons(acts: Sequence[Act], first: str, last: str, zone: str = "UTC", **fields: object) -> list[int]:
    spec = Stickiness.model_validate(fields)
    spans = (date.fromisoformat(first), date.fromisoformat(last), ZoneInfo(zone), LATER)
    return stickiness(events_of(acts), spec, *spans)["persons"].to_list()


def test_persons_by_the_number_of_days_they_were_active_on() -> None:
    acts = [act("a", f"2026-01-{day:02}T08:00") for day in (1, 2, 4)]
    acts += [act("b", "2026-01-02T08:00"), act("b", "2026-01-02T09:00"), act("c", "2026-01-05T08:00")]
    assert persons(acts, "2026-01-01", "2026-01-04") == [1, 0, 1, 0]


def test_weeks_and_months_are_whole() -> None:
    # The 1st of January 2026 is a Thursday; of the weeks from Sunday it is in the one from 28 December.
    acts = [act("a", "2025-12-28T08:00"), act("a", "2026-01-04T08:00")]
    assert persons(acts, "2026-01-01", "2026-01-04", interval="week", week_start="sunday") == [0, 1]
    assert persons(acts, "2026-01-01", "2026-01-04", interval="week") == [1]
    assert persons(acts, "2026-01-31", "2026-02-01", interval="month") == [1, 0]


def test_days_are_those_of_the_zone_however_long() -> None:
    # In Berlin 29 March 2026 is the 23 hours from 23:00 UTC on the 28th.
    acts = [act("a", "2026-03-28T22:59"), act("a", "2026-03-28T23:00"), act("b", "2026-03-29T22:00")]
    assert persons(acts, "2026-03-28", "2026-03-29", "Europe/Berlin") == [0, 1]


def test_a_window_is_compared_with_another() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-02T08:00"), act("a", "2026-01-03T08:00")]
    now = datetime(2026, 1, 3, 12, tzinfo=UTC)
    table = stickiness(
        events_of(acts),
        Stickiness(),
        date(2026, 1, 3),
        date(2026, 1, 4),
        UTC_ZONE,
        now,
        compared_with=(date(2026, 1, 1), date(2026, 1, 2)),
    )
    assert table.rows() == [
        ("current", 1, 1, False),
        ("current", 2, 0, False),
        ("previous", 1, 0, True),
        ("previous", 2, 1, True),
    ]


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="last 2026-01-01 is before first 2026-01-02"):
        persons([], "2026-01-02", "2026-01-01")


@drawn(150)
@given(
    acts=histories(BEGIN, 40 * 24),
    interval=st.sampled_from(["hour", "day", "week", "month"]),
    week_start=st.sampled_from(["monday", "sunday"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    span=st.tuples(st.integers(0, 120), st.integers(0, 50)),
)
def test_the_histogram_is_what_the_definition_says(
    acts: list[Act], interval: str, week_start: str, zone: str, span: tuple[int, int]
) -> None:
    spec = Stickiness.model_validate(
        {"activity": EventPredicate(event="start"), "interval": interval, "week_start": week_start}
    )
    first = BEGIN.replace(tzinfo=None) + timedelta(hours=span[0])
    last = first + (timedelta(hours=span[1]) if interval == "hour" else timedelta(days=span[1]))
    low, high = (bucket_of(at, spec.interval, spec.week_start) for at in (first, last))
    counts = [0] * (high - low + 1)
    for person in persons_of(acts):
        buckets = {
            bucket_of(at.astimezone(ZoneInfo(zone)).replace(tzinfo=None), spec.interval, spec.week_start)
            for who, at, name, _ in acts
            if who == person and name == "start"
        }
        active = sum(low <= bucket <= high for bucket in buckets)
        if active:
            counts[active - 1] += 1
    table = stickiness(events_of(acts), spec, first, last, ZoneInfo(zone), LATER)
    assert table["persons"].to_list() == counts
    assert table["active_intervals"].to_list() == list(range(1, len(counts) + 1))


def test_every_engine_says_the_same_of_events_and_of_days(native: Native) -> None:
    draw = random.Random(5)
    acts = [(draw.choice("abcdefgh"), BEGIN + timedelta(hours=draw.randrange(40 * 24)), "x", None) for _ in range(80)]
    events = events_of(acts)
    person_days = events.select("person_id", day=pl.col("occurred_at").dt.date())
    for interval in ("day", "week"):
        spec = Stickiness.model_validate({"interval": interval})
        spans = (date(2026, 3, 28), date(2026, 4, 20), UTC_ZONE, LATER)
        wanted = stickiness(events, spec, *spans)
        assert wanted["persons"].sum() > 0
        assert stickiness(native(events), spec, *spans).equals(wanted)
        assert stickiness_of_buckets(of_days(native(person_days), spec.interval), spec, *spans).equals(wanted)
