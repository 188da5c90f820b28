"""Predicates, properties and buckets say the same on every engine, and what is wrong with a specification."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from platform_assets.semantics.calendar import bucket_of, has_ended, start_of, starts, with_buckets
from platform_assets.semantics.engines import UnsupportedEngine, collected, lazy
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.specification import AnyOf, Duration, EventPredicate, Filter
from support.engines import Native

EVENTS = pl.DataFrame(
    {
        "person_id": ["a", "a", "a", "b", "b"],
        "occurred_at": [datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(hours=9 * i) for i in range(5)],
        "event_name": ["x", "y", "z", "x", "z"],
        "is_x": [True, False, None, True, True],
        "n": [1, 2, 3, 4, 5],
        "properties": [
            '{"a":1,"$b c":"q"}',
            '{"a":null,"it\\u0027s":1}',
            '{"a":true,"$b c":"Q\\"uote"}',
            "{}",
            '{"a":"zz"}',
        ],
    }
)


def where(*conditions: Filter | AnyOf) -> EventPredicate:
    return EventPredicate(where=conditions)


CASES = {
    "any event": (EventPredicate(), "11111"),
    "a name": (EventPredicate(event="x"), "10010"),
    "two names": (EventPredicate(event=("x", "y")), "11010"),
    "the first ever": (EventPredicate(event=("x", "z"), first_ever=True), "10010"),
    "the first ever with": (
        EventPredicate(first_ever=True, where=(Filter(property="n", operator="greater", value=1),)),
        "01010",
    ),
    "a number": (where(Filter(property="properties.a", value=1)), "10000"),
    "a number as text": (where(Filter(property="properties.a", value="1")), "10000"),
    "a truth value": (where(Filter(property="properties.a", value=True)), "00100"),
    "a truth column": (where(Filter(property="is_x", value=True)), "10011"),
    "several values": (where(Filter(property="properties.a", value=(1, "zz"))), "10001"),
    "not a value": (where(Filter(property="properties.a", operator="not_equals", value=1)), "01111"),
    "a key with blanks": (where(Filter(property="properties.$b c", value="q")), "10000"),
    "a quote within": (where(Filter(property="properties.$b c", operator="contains", value='Q"U')), "00100"),
    "contains": (where(Filter(property="properties.a", operator="contains", value="Z")), "00001"),
    "not contains": (where(Filter(property="properties.a", operator="not_contains", value="z")), "11110"),
    "matches": (where(Filter(property="properties.a", operator="matches", value="^[0-9]$")), "10000"),
    "not matches": (where(Filter(property="properties.a", operator="not_matches", value="^[0-9]$")), "01111"),
    "greater": (where(Filter(property="n", operator="greater", value=3)), "00011"),
    "at most": (where(Filter(property="n", operator="less_or_equal", value="2.5")), "11000"),
    "texts are no numbers": (where(Filter(property="properties.a", operator="less", value=9)), "10000"),
    "set": (where(Filter(property="properties.a", operator="is_set")), "10101"),
    "not set": (where(Filter(property="properties.a", operator="is_not_set")), "01010"),
    "all": (where(Filter(property="n", operator="greater", value=1), Filter(property="is_x", value=True)), "00011"),
    "any": (where(AnyOf(any=(Filter(property="n", value=1), Filter(property="properties.a", value="zz")))), "10001"),
    "any of none": (where(AnyOf(any=())), "00000"),
    "alternatives": (
        EventPredicate(
            any_of=(EventPredicate(event="y"), EventPredicate(event="x", where=(Filter(property="n", value=4),)))
        ),
        "01010",
    ),
    "alternatives and more": (
        EventPredicate(
            any_of=(EventPredicate(event="x"), EventPredicate(event="z")), where=(Filter(property="is_x", value=True),)
        ),
        "10011",
    ),
    "the first ever of alternatives": (
        EventPredicate(any_of=(EventPredicate(event="y"), EventPredicate(event="z")), first_ever=True),
        "01001",
    ),
}


def test_what_predicates_match(native: Native) -> None:
    named = {f"case_{i}": predicate for i, (predicate, _) in enumerate(CASES.values())}
    told = collected(with_matches(lazy(native(EVENTS)), named.items())).sort("occurred_at")
    found = {case: "".join(str(int(v)) for v in told[column]) for case, column in zip(CASES, named, strict=True)}
    assert found == {case: expected for case, (_, expected) in CASES.items()}


def test_a_column_that_the_events_lack_is_named() -> None:
    with pytest.raises(ValueError, match=r"'person\.plan': the events have no column 'person'"):
        with_matches(lazy(EVENTS), [("m", where(Filter(property="person.plan", value="pro")))])


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Auckland"])
def test_buckets_are_those_of_the_clock(native: Native, zone: str) -> None:
    # Every 7 hours over two changes of the clocks.
    times = [datetime(2025, 9, 20, 0, 30, tzinfo=UTC) + timedelta(hours=7 * i) for i in range(800)]
    frame = lazy(native(pl.DataFrame({"occurred_at": times})))
    for interval in ("minute", "hour", "day", "week", "month"):
        frame = with_buckets(frame, interval, ZoneInfo(zone), "sunday", name=interval)
    told = collected(frame).sort("occurred_at")
    for interval in ("minute", "hour", "day", "week", "month"):
        expected = [bucket_of(t.astimezone(ZoneInfo(zone)), interval, "sunday") for t in times]
        assert told[interval].to_list() == expected


@given(
    day=st.dates(date(1969, 1, 1), date(2100, 1, 1)),
    interval=st.sampled_from(["minute", "hour", "day", "week", "month"]),
    first=st.sampled_from(["monday", "sunday"]),
)
def test_a_bucket_holds_what_begins_in_it(day: date, interval: str, first: str) -> None:
    at = datetime(day.year, day.month, day.day, 13)  # noqa: DTZ001
    bucket = bucket_of(at, interval, first)
    assert start_of(bucket, interval, first) <= at < start_of(bucket + 1, interval, first)
    shown = pl.select(starts(pl.lit(bucket, pl.Int64), interval, first)).item()
    expected = start_of(bucket, interval, first)
    assert shown == (expected if interval in ("minute", "hour") else expected.date())


def test_a_bucket_has_ended_at_its_end() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    end = datetime(2026, 1, 1, 18, 30, tzinfo=UTC)
    bucket = bucket_of(date(2026, 1, 1), "day")
    assert has_ended(bucket, "day", end, zone)
    assert not has_ended(bucket, "day", end - timedelta(microseconds=1), zone)


def test_a_session_of_another_timezone_is_refused() -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        with pytest.raises(UnsupportedEngine, match="'Asia/Tokyo': set its timezone to UTC"):
            lazy(connection.from_arrow(EVENTS.to_arrow()))


def test_an_engine_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnsupportedEngine, match="give one of Polars, DuckDB or Spark Connect"):
        lazy(EVENTS.to_arrow())


def test_lengths_of_time() -> None:
    told = [TypeAdapter(Duration).validate_python(text) for text in ("30m", "12 hours", "14d", "P2W")]
    assert told == [timedelta(minutes=30), timedelta(hours=12), timedelta(days=14), timedelta(weeks=2)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"property": "a", "operator": "is_set", "value": 1}, "is_set takes no value, got 1"),
        ({"property": "a"}, "equals needs a value to compare 'a' with"),
        ({"property": "a", "operator": "less", "value": "soon"}, "less compares numbers; the value 'soon' of 'a'"),
        ({"property": "a", "operator": "like", "value": 1}, "Input should be 'equals'"),
        ({"property": "a", "value": 1, "case": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Filter.model_validate(wrong)


def test_a_wrong_length_of_time_says_what_is_wrong() -> None:
    with pytest.raises(ValidationError, match="'soon' is no length of time"):
        TypeAdapter(Duration).validate_python("soon")


def test_what_alternatives_say_of_themselves() -> None:
    either = EventPredicate(
        any_of=(
            EventPredicate(event="y"),
            EventPredicate(event=("x", "y"), where=(Filter(property="properties.a", value=1),)),
        ),
        where=(Filter(property="n", value=4),),
    )
    assert either.events == ("y", "x")
    assert either.label == "y or x"
    assert either.properties == ("n", "properties.a")
    assert not either.may_share_events_with(EventPredicate(event="z"))
    assert EventPredicate(any_of=(EventPredicate(event="y"), EventPredicate())).events is None
    with pytest.raises(ValidationError, match="say first_ever of the whole"):
        EventPredicate(any_of=(EventPredicate(event="y", first_ever=True),))
