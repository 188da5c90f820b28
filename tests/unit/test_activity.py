"""Histories and active users: the definition by sets, on every engine."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions import Window
from platform_assets.gold import active_users_by_slice, person_day_slices
from platform_assets.restatement import stale_attributes_of_days
from platform_assets.semantics.activity import (
    MOST_DAYS,
    active_days,
    active_users,
    active_users_over,
    history_before,
    history_on,
    is_activity,
    next_day,
    was_active_between,
    was_active_within,
)
from platform_assets.semantics.dimensions import END_OF_TIME
from platform_assets.semantics.engines import collected, lazy
from platform_assets.semantics.events import is_of_people
from platform_assets.table import TIMESTAMP
from support.engines import Native

START = date(2026, 1, 1)
KEY = ("person_id", "value")
Activity = set[tuple[str, str | None, int]]
"""Who was active, with which value, on which day after `START`."""

ACTIVITY = st.sets(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None]), st.integers(0, 70)), max_size=40
)


def on(number: int) -> date:
    return START + timedelta(days=number)


def days_of(activity: Iterable[tuple[str, str | None, int]]) -> pl.DataFrame:
    rows = [(person, value, on(number)) for person, value, number in activity]
    return pl.DataFrame(rows, schema={"person_id": pl.String, "value": pl.String, "day": pl.Date}, orient="row")


def histories_by_definition(activity: Activity, at: int, length: int = 28) -> dict[tuple[str, str | None], int]:
    keys = {(person, value) for person, value, _ in activity}
    whole = {key: sum(1 << k for k in range(length) if (*key, at - k) in activity) for key in keys}
    return {key: history for key, history in whole.items() if history}


def histories(frame: object, key: tuple[str, ...] = KEY) -> dict[tuple[str, str | None], int]:
    told = collected(lazy(frame)).select(*key, "history")
    assert told.schema["history"] == pl.Int32
    assert told.select(key).is_unique().all()
    return {row[:-1]: row[-1] for row in told.iter_rows()}


@given(ACTIVITY, st.integers(0, 70), st.sampled_from([1, 7, 28, 30, MOST_DAYS]))
def test_histories_equal_the_definition(activity: Activity, at: int, length: int) -> None:
    days = days_of(activity)
    expected = histories_by_definition(activity, at, length)
    assert histories(history_on(days, on(at), KEY, length)) == expected
    today = days.filter(pl.col("day") == on(at))
    repeated = pl.concat([today, today])
    before = collected(history_before(days, on(at), KEY, length))
    assert histories(next_day(before, repeated, KEY, length)) == expected


@given(ACTIVITY, st.integers(0, 70))
def test_active_users_count_persons_by_definition(activity: Activity, at: int) -> None:
    people = {(person, None, number) for person, _, number in activity}
    rolled = collected(history_on(days_of(people), on(at))).with_columns(day=pl.lit(on(at)))
    counted = collected(active_users(rolled))
    within = {n: {p for p, _, number in people if at - n < number <= at} for n in (1, 7, 28)}
    if not within[28]:
        assert counted.is_empty()
        return
    dau, wau, mau = (len(within[n]) for n in (1, 7, 28))
    assert counted.rows() == [(on(at), dau, wau, mau, dau / mau)]


@given(ACTIVITY, st.integers(0, 60), st.integers(0, 10))
def test_active_users_of_a_range_are_those_of_each_day(activity: Activity, first: int, more: int) -> None:
    windows = {"one": 1, "three": 3, "thirty": 30}
    days = days_of(activity)
    found = active_users_over(days, on(first), on(first + more), ("value",), windows)
    for (value,), rows in found.group_by("value"):
        assert rows["day"].to_list() == [on(n) for n in range(first, first + more + 1)]
        for number in range(first, first + more + 1):
            numbers = rows.row(number - first, named=True)
            for name, length in windows.items():
                wanted = {p for p, v, n in activity if v == value and number - length < n <= number}
                assert numbers[name] == len(wanted)
            assert numbers["stickiness"] == (numbers["one"] / numbers["thirty"] if numbers["thirty"] else None)
    last_reach = {v for _, v, n in activity if first - 30 < n <= first + more}
    assert set(found["value"]) == last_reach
    whole = active_users_over(days, on(first), on(first + more), windows=windows)
    assert whole.height == more + 1
    assert (whole["three"] <= sum_by_day(found, whole)["three"]).all(), "slices add up to at least the total"


def sum_by_day(found: pl.DataFrame, whole: pl.DataFrame) -> pl.DataFrame:
    return whole.select("day").join(found.group_by("day").agg(pl.col("three").sum()), on="day", how="left").fill_null(0)


def drawn(seed: int) -> Activity:
    rng = random.Random(seed)
    return {(f"p{rng.randrange(9)}", rng.choice(["x", "y", None]), rng.randrange(50)) for _ in range(120)}


def test_engines_say_the_same(native: Native) -> None:
    activity, at = drawn(7), 40
    days = native(days_of(activity))
    before = history_before(days, on(at), KEY)
    assert histories(before) == histories_by_definition(activity, at - 1)
    today = lazy(days).filter(nw.col("day") == on(at))
    rolled = next_day(before, today, KEY)
    expected = histories_by_definition(activity, at)
    assert histories(rolled) == expected

    counted = collected(active_users(rolled, ("value",))).sort("value")
    wanted = {
        value: [len({p for p, v, n in activity if v == value and at - length < n <= at}) for length in (1, 7, 28)]
        for value in ("x", "y", None)
    }
    assert {row[0]: list(row[1:4]) for row in counted.iter_rows()} == wanted
    assert counted["stickiness"].to_list() == [dau / mau for dau, mau in counted.select("dau", "mau").iter_rows()]
    over = active_users_over(days, on(at), on(at), ("value",)).sort("value")
    assert over.drop("day").equals(counted.select(over.drop("day").columns))

    flagged = rolled.with_columns(within=was_active_within(3), between=was_active_between(7, 13))
    for row in collected(flagged).iter_rows(named=True):
        history = expected[row["person_id"], row["value"]]
        assert row["within"] == bool(history & 0b111)
        assert row["between"] == bool(history >> 7 & 0b1111111)


def test_days_are_of_the_zone_and_passive_events_make_nobody_active(native: Native) -> None:
    late = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    events = pl.DataFrame(
        {
            "person_id": ["a", "a", "b", "c"],
            "event_name": ["page_viewed", "page_viewed", "push_received", "push_received"],
            "occurred_at": [late, late + timedelta(minutes=1), late, late],
            "platform": ["web", "web", "ios", None],
        }
    )
    acted = active_days(native(events), ZoneInfo("Europe/Berlin"), frozenset({"push_received"}))
    assert collected(acted).rows() == [("a", date(2026, 1, 2))]
    sliced = active_days(native(events), ZoneInfo("UTC"), key=("person_id", "platform"))
    assert set(collected(sliced).rows()) == {("a", "web", on(0)), ("b", "ios", on(0)), ("c", None, on(0))}


def test_a_late_event_sets_its_bit_in_the_later_days() -> None:
    days = days_of([("a", None, 0)])
    assert histories(history_on(days, on(3)), ("person_id",)) == {("a",): 0b1000}
    with_late = pl.concat([days, days_of([("a", None, 2)])])
    assert histories(history_on(with_late, on(3)), ("person_id",)) == {("a",): 0b1010}


@pytest.mark.parametrize("length", [0, MOST_DAYS + 1])
def test_a_history_that_does_not_fit_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length {length}: a history has from 1 to 31 days"):
        history_on(days_of([]), on(0), length=length)


def test_nobody_at_all() -> None:
    nobody = days_of([]).with_columns(history=pl.lit(0, pl.Int32))
    assert collected(active_users(nobody, by=())).rows() == [(0, 0, 0, None)]
    assert active_users_over(nobody, on(0), on(1)).rows() == [(on(0), 0, 0, 0, None), (on(1), 0, 0, 0, None)]


def test_an_event_without_marks_is_of_people() -> None:
    rows = [
        ("view", None, None),
        ("view", True, None),
        ("view", None, True),
        ("view", False, False),
        ("push", None, False),
    ]
    events = pl.DataFrame(
        rows, schema={"event_name": pl.String, "is_bot": pl.Boolean, "is_test": pl.Boolean}, orient="row"
    )
    assert events.select(is_of_people()).to_series().to_list() == [True, False, False, True, True]
    assert events.select(is_activity(frozenset({"push"}))).to_series().to_list() == [True, False, False, True, False]


def test_values_that_persons_were_active_with() -> None:
    zone = ZoneInfo("Europe/Berlin")
    active = pl.LazyFrame(
        {
            "person_id": ["u:anna", "u:anna", "u:anna", "a:x", "a:anna"],
            "day": [on(0), on(0), on(1), on(1), on(1)],
            "platform": ["web", "ios", "web", None, "web"],
            "country": ["DE", "DE", "DE", "FR", "FR"],
        }
    )
    midnight = datetime(2026, 1, 1, 23, tzinfo=UTC)  # of Berlin: the end of `on(0)`
    versions = pl.LazyFrame(
        {
            "user_id": ["anna", "anna", "x"],
            "plan": ["free", "pro", "never"],
            "valid_from": [midnight - timedelta(hours=1), midnight, midnight],
            "valid_to": [midnight, END_OF_TIME, END_OF_TIME],
        },
        schema_overrides={"valid_from": TIMESTAMP, "valid_to": TIMESTAMP},
    )
    found = set(person_day_slices.transform(active, versions, zone).collect().rows())
    assert found == {
        ("u:anna", "platform", "web", on(0)),
        ("u:anna", "platform", "ios", on(0)),
        ("u:anna", "platform", "web", on(1)),
        ("a:x", "platform", None, on(1)),
        ("a:anna", "platform", "web", on(1)),
        ("u:anna", "country", "DE", on(0)),
        ("u:anna", "country", "DE", on(1)),
        ("a:x", "country", "FR", on(1)),
        ("a:anna", "country", "FR", on(1)),
        ("u:anna", "plan", "free", on(0)),
        ("u:anna", "plan", "pro", on(1)),
        ("a:x", "plan", None, on(1)),
        ("a:anna", "plan", None, on(1)),
    }


def test_numbers_of_slices_say_how_final_they_are() -> None:
    rows = [("a", "plan", "pro", 1, on(0)), ("b", "plan", "pro", 2, on(0)), ("b", "plan", None, 1, on(0))]
    histories = pl.LazyFrame(rows, schema=["person_id", "dimension", "value", "history", "day"], orient="row")
    windows = {on(n): Window.of_days(on(n), on(n), ZoneInfo("UTC")) for n in (0, 1)}
    watermark = windows[on(0)].end
    found = active_users_by_slice.transform(
        histories, windows, watermark, timedelta(days=1), person_day_slices_version=3, computed_at=watermark
    )
    assert found.schema == active_users_by_slice.TABLE.schema
    assert found.select("value", "dau", "wau", "mau", "stickiness", "is_closed", "is_final").rows() == [
        (None, 1, 1, 1, 1.0, True, False),
        ("pro", 1, 2, 2, 0.5, True, False),
    ]


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.integers(1, 9)), max_size=5)


@given(SPANS, st.dictionaries(st.integers(0, 45), st.integers(0, 9), max_size=6), st.integers(20, 45))
def test_days_are_stale_that_reach_a_days_end_in_a_change(
    spans: list[tuple[int, int, int]], done: dict[int, int], last: int
) -> None:
    """Spans are in half days: whether one holds the day's end is what counts."""
    half, zone = timedelta(hours=12), ZoneInfo("Asia/Kolkata")
    origin = Window.of_days(START, START, zone).start
    changes = pl.DataFrame(
        [(change, origin + a * half, origin + (a + n) * half) for a, n, change in spans],
        schema={"change": pl.Int64, "since": TIMESTAMP, "until": TIMESTAMP},
        orient="row",
    )
    windows = {number: Window.of_days(on(number), on(number), zone) for number in done}
    computed = pl.DataFrame(
        [(windows[number].start, windows[number].end, version) for number, version in done.items()],
        schema={"window_start": TIMESTAMP, "window_end": TIMESTAMP, "upstream_version": pl.Int64},
        orient="row",
    )
    expected = [
        on(number)
        for number, version in sorted(done.items())
        if number <= last
        and any(change > version and a <= 2 * (number - ago) + 1 < a + n for a, n, change in spans for ago in range(28))
    ]
    assert stale_attributes_of_days(changes, computed, on(last), zone) == expected
