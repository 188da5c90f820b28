"""Retention (semantics 6): every rule by a worked example, and all against a plain reading of the definition."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from platform_assets.gold.retention import last_days
from platform_assets.semantics.breakdowns import OTHER
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.retention import Retention, retention, retention_of_days
from platform_assets.semantics.specification import EventPredicate
from support.acts import Act, act, events_of, histories, persons_of
from support.drawn import drawn
from support.engines import Native

UTC_ZONE = ZoneInfo("UTC")
START, BACK = EventPredicate(event="start"), EventPredicate(event="back")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
LENGTHS = {"hour": 1, "day": 24, "week": 168, "month": 720}
WINDOW = (datetime(2026, 3, 27, tzinfo=UTC), 40 * 24)
"""The clocks of Berlin change on 29 March 2026, those of Auckland on 5 April."""


def spec_of(**fields: object) -> Retention:
    return Retention.model_validate({"start": START, "returning": BACK, **fields})


def cells(table: pl.DataFrame, column: str = "persons") -> list[list[int | None]]:
    """The table's rows, a list per cohort."""
    return [part[column].to_list() for part in table.partition_by("cohort", maintain_order=True)]


def days(
    acts: Sequence[Act], first: str, last: str, now: datetime = LATER, zone: str = "UTC", **fields: object
) -> list:
    spec = spec_of(**fields)
    return cells(
        retention(events_of(acts), spec, date.fromisoformat(first), date.fromisoformat(last), ZoneInfo(zone), now)
    )


def test_every_start_opens_a_cohort() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-02T08:00"), act("a", "2026-01-03T08:00", "back")]
    assert days(acts, "2026-01-01", "2026-01-03", intervals=3) == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_only_the_first_start_of_all_history_opens_one() -> None:
    acts = [
        act("a", "2025-06-01T08:00"),  # long before the range: not in it for the first time
        act("a", "2026-01-01T08:00"),
        act("b", "2026-01-01T09:00"),
        act("b", "2026-01-02T09:00"),
        act("b", "2026-01-02T10:00", "back"),
    ]
    assert days(acts, "2026-01-01", "2026-01-02", intervals=2, kind="first_time") == [[1, 1], [0, 0]]


def test_firsts_that_the_lake_keeps_stand_for_all_history() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("b", "2026-01-01T08:00"), act("b", "2026-01-02T10:00", "back")]
    firsts = pl.DataFrame(
        {
            "person_id": ["a", "b"],
            "first_at": [datetime(2025, 6, 1, tzinfo=UTC), datetime(2026, 1, 1, 8, tzinfo=UTC)],
        }
    )
    for windows in ("calendar", "24_hour"):
        spec = spec_of(kind="first_time", intervals=2, windows=windows)
        table = retention(events_of(acts), spec, date(2026, 1, 1), date(2026, 1, 1), UTC_ZONE, LATER, firsts=firsts)
        assert cells(table) == [[1, 1]]


def test_firsts_that_would_not_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="kind 'recurring' takes no firsts"):
        retention(events_of([]), spec_of(), date(2026, 1, 1), date(2026, 1, 1), UTC_ZONE, LATER, firsts=events_of([]))


def test_interval_0_is_the_size_of_the_cohort_whoever_returned_in_it() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("b", "2026-01-01T08:00"), act("b", "2026-01-01T09:00", "back")]
    table = retention(events_of(acts), spec_of(intervals=2), date(2026, 1, 1), date(2026, 1, 1), UTC_ZONE, LATER)
    assert cells(table) == [[2, 0]]
    assert table["cohort_size"].to_list() == [2, 2]
    assert table["share"].to_list() == [1.0, 0.0]


def test_who_is_nobody_is_not_counted() -> None:
    frame = events_of([act("a", "2026-01-01T08:00")])
    nobody = frame.with_columns(person_id=pl.lit(None, pl.String))
    table = retention(
        pl.concat([frame, nobody]), spec_of(intervals=1), date(2026, 1, 1), date(2026, 1, 1), UTC_ZONE, LATER
    )
    assert cells(table) == [[1]]


def test_an_interval_that_has_not_ended_is_null() -> None:
    acts = [
        act("a", "2026-01-01T08:00"),
        act("a", "2026-01-02T08:00", "back"),
        act("a", "2026-01-03T08:00"),
        act("a", "2026-01-03T09:00", "back"),
    ]
    first, last, now = date(2026, 1, 1), date(2026, 1, 3), datetime(2026, 1, 3, 12, tzinfo=UTC)
    table = retention(events_of(acts), spec_of(intervals=3), first, last, UTC_ZONE, now)
    assert cells(table) == [[1, 1, None], [0, None, None], [None, None, None]]
    assert cells(table, "is_complete") == [[True, True, False], [True, False, False], [False, False, False]]
    assert cells(table, "share") == [[1.0, 1.0, None], [None, None, None], [None, None, None]]
    assert cells(table, "cohort_size") == [[1, 1, 1], [0, 0, 0], [None, None, None]]

    so_far = retention(events_of(acts), spec_of(intervals=3, incomplete="count"), first, last, UTC_ZONE, now)
    assert cells(so_far) == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert so_far["is_complete"].to_list() == table["is_complete"].to_list()


def test_an_interval_is_complete_at_its_end_in_the_reporting_timezone() -> None:
    midnight = datetime(2026, 1, 2, 18, 30, tzinfo=UTC)  # in Kolkata the 3rd begins
    acts = [act("a", "2026-01-01T20:00")]  # there the 2nd
    at_end = days(acts, "2026-01-02", "2026-01-02", midnight, "Asia/Kolkata", intervals=2)
    before = days(acts, "2026-01-02", "2026-01-02", midnight - timedelta(microseconds=1), "Asia/Kolkata", intervals=2)
    assert (at_end, before) == ([[1, None]], [[None, None]])


def test_days_are_those_of_the_zone_however_long() -> None:
    # In Berlin 29 March 2026 has 23 hours: it begins at 23:00 UTC on the 28th and ends at 22:00 UTC on the 29th.
    acts = [
        act("a", "2026-03-28T22:59"),
        act("b", "2026-03-28T23:00"),
        act("a", "2026-03-29T21:59", "back"),
        act("b", "2026-03-29T22:00", "back"),
    ]
    assert days(acts, "2026-03-28", "2026-03-29", zone="Europe/Berlin", intervals=2) == [[1, 1], [1, 1]]
    assert days(acts, "2026-03-28", "2026-03-29", intervals=2) == [[2, 2], [0, 0]]


def test_weeks_begin_on_the_day_that_is_said() -> None:
    # 2026-01-04 is a Sunday.
    acts = [act("a", "2026-01-03T08:00"), act("a", "2026-01-04T08:00", "back"), act("a", "2026-01-05T08:00", "back")]
    table = retention(
        events_of(acts),
        spec_of(interval="week", intervals=2, week_start="sunday"),
        date(2026, 1, 3),
        date(2026, 1, 3),
        UTC_ZONE,
        LATER,
    )
    assert table["cohort"].to_list() == [date(2025, 12, 28)] * 2
    assert cells(table) == [[1, 1]]
    assert days(acts[:2], "2026-01-03", "2026-01-03", interval="week", intervals=2) == [[1, 0]]


def test_months_are_as_long_as_they_are() -> None:
    acts = [act("a", "2026-01-31T08:00"), act("a", "2026-02-28T23:59", "back"), act("a", "2026-03-01T00:00", "back")]
    assert days(acts, "2026-01-01", "2026-02-01", interval="month", intervals=3) == [[1, 1, 1], [0, 0, 0]]
    # The month of February has ended when March begins, though 30 days have not passed since it began.
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert days(acts, "2026-01-01", "2026-01-01", now, interval="month", intervals=3) == [[1, 1, None]]


def test_unbounded_counts_any_later_interval() -> None:
    acts = [act("a", "2026-01-01T08:00"), act("a", "2026-01-03T08:00", "back"), act("b", "2026-01-01T08:00")]
    assert days(acts, "2026-01-01", "2026-01-01", intervals=4, counting="unbounded") == [[2, 1, 1, 0]]
    # Also one that is not shown.
    assert days(acts, "2026-01-01", "2026-01-01", intervals=2, counting="unbounded") == [[2, 1]]
    assert days(acts, "2026-01-01", "2026-01-01", intervals=1, counting="unbounded") == [[2]]


def test_a_bracket_is_a_range_of_intervals() -> None:
    acts = [
        act("a", "2026-01-01T08:00"),
        act("b", "2026-01-01T08:00"),
        act("a", "2026-01-02T08:00", "back"),
        act("a", "2026-01-04T08:00", "back"),
        act("a", "2026-01-05T08:00", "back"),
        act("b", "2026-01-03T08:00", "back"),  # between the brackets
        act("b", "2026-01-07T08:00", "back"),  # after them
    ]
    first = date(2026, 1, 1)
    spec = spec_of(counting="bracket", brackets=((1,), (3, 5)))
    table = retention(events_of(acts), spec, first, first, UTC_ZONE, datetime(2026, 1, 7, tzinfo=UTC))
    assert table["interval"].to_list() == [0, 1, 3]
    assert cells(table) == [[2, 1, 1]]
    # A bracket has ended with its last interval.
    assert cells(retention(events_of(acts), spec, first, first, UTC_ZONE, datetime(2026, 1, 6, tzinfo=UTC))) == [
        [2, 1, None]
    ]


def test_windows_from_the_persons_own_start() -> None:
    acts = [
        act("a", "2026-01-01T20:00"),
        act("a", "2026-01-01T22:00"),  # the first start of the day is what counts
        act("a", "2026-01-02T19:59", "back"),  # the calendar's next day, yet within 24 hours
        act("b", "2026-01-01T20:00"),
        act("b", "2026-01-02T20:00", "back"),  # 24 hours: the next interval has begun
        act("c", "2026-01-01T20:00"),
        act("c", "2026-01-03T20:00", "back"),
    ]
    assert days(acts, "2026-01-01", "2026-01-01", intervals=4, windows="24_hour") == [[3, 1, 1, 0]]
    assert days(acts, "2026-01-01", "2026-01-01", intervals=4) == [[3, 2, 1, 0]]
    # Who starts at the day's very end has their interval 1 until 24 hours after the end of the next day.
    now = datetime(2026, 1, 4, tzinfo=UTC)
    assert days(acts, "2026-01-01", "2026-01-01", now, intervals=4, windows="24_hour") == [[3, 1, None, None]]


def test_windows_from_the_persons_own_start_end_in_later_buckets() -> None:
    acts = [act("a", "2026-01-01T20:00"), act("a", "2026-01-03T19:59", "back")]
    assert days(acts, "2026-01-01", "2026-01-01", intervals=2, windows="24_hour") == [[1, 1]]
    # 30 days from 31 January are over on 2 March, and the next 30 on 1 April.
    acts = [act("a", "2026-01-31T20:00"), act("a", "2026-04-01T19:59", "back")]
    months = {"interval": "month", "windows": "24_hour"}
    assert days(acts, "2026-01-01", "2026-01-01", intervals=2, **months) == [[1, 1]]


def test_values_beyond_the_limit_are_one() -> None:
    acts = [
        *(act(person, "2026-01-01T08:00", plan="pro") for person in "abc"),
        act("d", "2026-01-01T08:00", plan="free"),
        act("e", "2026-01-02T08:00", plan="free"),
        act("f", "2026-01-01T08:00", plan="gift"),
        act("f", "2026-01-02T08:00", "back"),
        act("g", "2026-01-01T08:00"),
        act("g", "2026-01-02T08:00"),
    ]
    spec = spec_of(intervals=2, breakdown="plan", breakdown_limit=2)
    table = retention(events_of(acts), spec, date(2026, 1, 1), date(2026, 1, 2), UTC_ZONE, LATER)
    # Of free and a missing plan, which start as often, the missing one comes first.
    told = {value: cells(part) for (value,), part in table.partition_by("breakdown", as_dict=True).items()}
    assert told == {"pro": [[3, 0], [0, 0]], None: [[1, 0], [1, 0]], OTHER: [[2, 1], [1, 0]]}
    assert table["share"].drop_nulls().max() == 1.0


def test_a_breakdown_is_by_the_first_start_in_the_cohort() -> None:
    acts = [
        act("a", "2026-01-01T08:00", plan="free"),
        act("a", "2026-01-01T09:00", plan="pro"),
        act("a", "2026-01-02T09:00", plan="pro"),
        act("a", "2026-01-02T10:00", "back", plan="other"),
        act("b", "2026-01-01T08:00"),
    ]
    spec = spec_of(intervals=2, breakdown="plan")
    table = retention(events_of(acts), spec, date(2026, 1, 1), date(2026, 1, 2), UTC_ZONE, LATER)
    assert table.columns[0] == "breakdown"
    told = {(r["breakdown"], r["cohort"].day, r["interval"]): r["persons"] for r in table.to_dicts()}
    assert told == {
        ("free", 1, 0): 1,
        ("free", 1, 1): 1,
        ("free", 2, 0): 0,
        ("free", 2, 1): 0,
        ("pro", 1, 0): 0,
        ("pro", 1, 1): 0,
        ("pro", 2, 0): 1,
        ("pro", 2, 1): 0,
        (None, 1, 0): 1,
        (None, 1, 1): 0,
        (None, 2, 0): 0,
        (None, 2, 1): 0,
    }


def test_hours_of_the_clock() -> None:
    acts = [act("a", "2026-01-01T08:10"), act("a", "2026-01-01T09:59", "back")]
    table = retention(
        events_of(acts),
        spec_of(interval="hour", intervals=3),
        datetime(2026, 1, 1, 8),  # noqa: DTZ001
        datetime(2026, 1, 1, 9),  # noqa: DTZ001
        UTC_ZONE,
        LATER,
    )
    assert table["cohort"].unique().sort().to_list() == [datetime(2026, 1, 1, hour) for hour in (8, 9)]  # noqa: DTZ001
    assert cells(table) == [[1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counting": "bracket"}, "counting 'bracket' needs some"),
        ({"brackets": ((1,),)}, "counting 'on' and brackets"),
        ({"counting": "bracket", "brackets": ((0, 2),)}, r"\(0, 2\) must begin after interval 0"),
        ({"counting": "bracket", "brackets": ((1, 3), (3, 4))}, r"\(3, 4\) must begin after interval 3"),
        ({"counting": "bracket", "brackets": ((4, 2),)}, r"\(4, 2\) must begin"),
        ({"counting": "bracket", "brackets": ((1,),), "intervals": 3}, "leave intervals out"),
        ({"intervals": 0}, "greater than or equal to 1"),
        ({"kind": "rolling"}, "Input should be 'recurring'"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec_of(**fields)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="last 2026-01-01 is before first 2026-01-02"):
        days([], "2026-01-02", "2026-01-01")


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(ValueError, match="has no timezone"):
        days([], "2026-01-01", "2026-01-01", datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("fields", [{"windows": "24_hour"}, {"breakdown": "plan"}, {"interval": "hour"}])
def test_days_do_not_tell_everything(fields: dict[str, object]) -> None:
    frame = pl.DataFrame({"person_id": ["a"], "day": [date(2026, 1, 1)], "is_start": [True], "is_return": [True]})
    with pytest.raises(ValueError, match="give events"):
        retention_of_days(frame, spec_of(**fields), date(2026, 1, 1), date(2026, 1, 1), UTC_ZONE, LATER)


SPECS = st.builds(
    lambda fields, counting: spec_of(**fields, **counting),
    st.fixed_dictionaries(
        {
            "interval": st.sampled_from(["hour", "day", "week", "month"]),
            "kind": st.sampled_from(["recurring", "first_time"]),
            "windows": st.sampled_from(["calendar", "24_hour"]),
            "week_start": st.sampled_from(["monday", "sunday"]),
            "breakdown": st.sampled_from([None, None, "plan"]),
            "incomplete": st.sampled_from(["null", "count"]),
            "returning": st.sampled_from([BACK, START, EventPredicate()]),
        }
    ),
    st.one_of(
        st.fixed_dictionaries({"counting": st.sampled_from(["on", "unbounded"]), "intervals": st.integers(1, 6)}),
        st.sampled_from([((1,), (2, 3)), ((2, 4),), ((1, 2), (5,))]).map(
            lambda brackets: {"counting": "bracket", "brackets": brackets}
        ),
    ),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])


def expected(
    acts: Sequence[Act], spec: Retention, first: datetime, last: datetime, zone: ZoneInfo, now: datetime
) -> list[tuple[object, ...]]:
    """The definition, person by person and cell by cell."""

    def bucket(at: datetime) -> int:
        return bucket_of(at.astimezone(zone).replace(tzinfo=None), spec.interval, spec.week_start)

    def matches(predicate: EventPredicate, name: str) -> bool:
        return predicate.events is None or name in predicate.events

    cohorts = range(
        bucket_of(first, spec.interval, spec.week_start), bucket_of(last, spec.interval, spec.week_start) + 1
    )
    members: dict[tuple[str, int], list[tuple[datetime, str | None]]] = {}
    for person in persons_of(acts):
        started = [(at, plan) for who, at, name, plan in acts if who == person and matches(spec.start, name)]
        if spec.kind == "first_time" and started:
            started = [found for found in started if found[0] == min(started, key=lambda s: s[0])[0]]
        for found in started:
            if bucket(found[0]) in cohorts:
                members.setdefault((person, bucket(found[0])), []).append(found)
    anchors, values = {}, {}
    for key, found in members.items():
        anchors[key] = min(at for at, _ in found)
        plans = [plan for at, plan in found if at == anchors[key] and plan is not None]
        values[key] = min(plans) if plans and spec.breakdown else None

    def came_back(key: tuple[str, int], start: int, end: int) -> bool:
        for who, at, name, _ in acts:
            if who != key[0] or not matches(spec.returning, name):
                continue
            since = bucket(at) - key[1]
            if spec.windows == "24_hour":
                since = (at - anchors[key]) // timedelta(hours=LENGTHS[spec.interval])
            if since >= start and (since <= end or spec.counting == "unbounded"):
                return True
        return False

    rows: list[tuple[object, ...]] = []
    kinds = sorted(set(values.values()), key=lambda v: (v is None, v)) if spec.breakdown else [None]
    for kind in kinds:
        for cohort in cohorts:
            inside = [key for key in members if key[1] == cohort and values[key] == kind]
            for start, end in spec.ranges:
                through = start_of(cohort + end + 1, spec.interval, spec.week_start)
                is_complete = through <= now.astimezone(zone).replace(tzinfo=None)
                if spec.windows == "24_hour" and start > 0:
                    closed = start_of(cohort + 1, spec.interval, spec.week_start).replace(tzinfo=zone)
                    length = timedelta(hours=LENGTHS[spec.interval])
                    is_complete = closed.astimezone(UTC) + (end + 1) * length <= now
                persons = sum(start == 0 or came_back(key, start, end) for key in inside)
                shown = persons if is_complete or spec.incomplete == "count" else None
                begins = start_of(cohort, spec.interval, spec.week_start)
                head = (kind,) if spec.breakdown else ()
                rows.append((*head, begins if spec.interval == "hour" else begins.date(), start, shown, is_complete))
    return rows


def found_rows(table: pl.DataFrame) -> list[tuple[object, ...]]:
    return table.drop("cohort_size", "share").rows()


@drawn(150)
@given(
    acts=histories(*WINDOW),
    spec=SPECS,
    zone=ZONES,
    span=st.tuples(st.integers(0, 120), st.integers(0, 5)),
    now=st.one_of(st.integers(0, 60 * 24), st.just(400 * 24)),
)
def test_the_table_is_what_the_definition_says(
    acts: list[Act], spec: Retention, zone: str, span: tuple[int, int], now: int
) -> None:
    first = WINDOW[0].replace(tzinfo=None) + timedelta(hours=span[0])
    last = first + (timedelta(hours=span[1]) if spec.interval == "hour" else timedelta(days=span[1]))
    known = WINDOW[0] + timedelta(hours=now)
    table = retention(events_of(acts), spec, first, last, ZoneInfo(zone), known)
    assert found_rows(table) == expected(acts, spec, first, last, ZoneInfo(zone), known)
    share = table.filter(pl.col("persons").is_not_null() & (pl.col("cohort_size") > 0))
    assert share["share"].to_list() == [p / n for p, n in zip(share["persons"], share["cohort_size"], strict=True)]


@drawn(30)
@given(acts=histories(*WINDOW), spec=SPECS)
def test_unbounded_is_never_less_and_falls(acts: list[Act], spec: Retention) -> None:
    fields = spec.model_dump(include={"interval", "kind", "windows", "breakdown", "returning"})
    spans = (date(2026, 3, 27), date(2026, 4, 1), UTC_ZONE, LATER)
    on = retention(events_of(acts), spec_of(**fields, intervals=6), *spans)
    unbounded = retention(events_of(acts), spec_of(**fields, intervals=6, counting="unbounded"), *spans)
    assert (unbounded["persons"] >= on["persons"]).all()
    keys = [name for name in unbounded.columns if name in ("breakdown", "cohort")]
    falls = unbounded.select(pl.col("persons").diff().over(keys) <= 0)["persons"]
    assert falls.drop_nulls().all()


@drawn(50)
@given(acts=histories(*WINDOW), spec=SPECS.filter(lambda s: s.interval != "hour"), zone=ZONES)
def test_days_say_the_same_as_events(acts: list[Act], spec: Retention, zone: str) -> None:
    spec = spec.model_copy(update={"windows": "calendar", "breakdown": None})
    first, last, now = date(2026, 3, 27), date(2026, 4, 1), datetime(2026, 4, 9, tzinfo=UTC)
    is_return = (
        pl.lit(value=True) if spec.returning.events is None else pl.col("event_name").is_in(spec.returning.events)
    )
    person_days = (
        events_of(acts)
        .with_columns(day=pl.col("occurred_at").dt.convert_time_zone(zone).dt.date())
        .group_by("person_id", "day")
        .agg(is_start=(pl.col("event_name") == "start").any(), is_return=is_return.any())
    )
    by_days = retention_of_days(person_days, spec, first, last, ZoneInfo(zone), now)
    assert by_days.equals(retention(events_of(acts), spec, first, last, ZoneInfo(zone), now))
    if spec.kind == "first_time":
        firsts = person_days.filter("is_start").group_by("person_id").agg(first_day=pl.col("day").min())
        recent = person_days.filter(pl.col("day") >= first)
        kept = retention_of_days(recent, spec, first, last, ZoneInfo(zone), now, firsts=firsts)
        assert kept.equals(by_days)


def drawn_acts(seed: int, count: int = 400) -> list[Act]:
    draw = random.Random(seed)
    return [
        (
            draw.choice("abcdefghij"),
            WINDOW[0] + timedelta(minutes=draw.randrange(WINDOW[1] * 60)),
            draw.choice(["start", "back", "other", "other"]),
            draw.choice(["p", "q", None]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"counting": "on"},
        {
            "counting": "unbounded",
            "interval": "week",
            "kind": "first_time",
            "week_start": "sunday",
            "breakdown": "plan",
        },
        {"counting": "bracket", "brackets": ((1,), (2, 4)), "windows": "24_hour", "breakdown": "plan"},
        {"counting": "unbounded", "windows": "24_hour", "interval": "month", "kind": "first_time"},
    ],
    ids=["on", "unbounded", "bracket", "24 hours"],
)
def test_every_engine_says_the_same(native: Native, fields: dict[str, object]) -> None:
    frame, spec, zone = events_of(drawn_acts(1)), spec_of(**fields), ZoneInfo("Europe/Berlin")
    spans = (date(2026, 3, 27), date(2026, 4, 5), zone, datetime(2026, 4, 14, tzinfo=UTC))
    assert retention(native(frame), spec, *spans).equals(retention(frame, spec, *spans))


def test_every_engine_says_the_same_of_days(native: Native) -> None:
    person_days = (
        events_of(drawn_acts(2))
        .group_by("person_id", pl.col("occurred_at").dt.date().alias("day"))
        .agg(is_start=(pl.col("event_name") == "start").any(), is_return=(pl.col("event_name") == "back").any())
    )
    for interval in ("day", "week", "month"):
        spec = spec_of(interval=interval, intervals=4, kind="first_time")
        spans = (date(2026, 3, 27), date(2026, 4, 5), UTC_ZONE, datetime(2026, 4, 14, tzinfo=UTC))
        told = retention_of_days(native(person_days), spec, *spans)
        assert told.equals(retention_of_days(person_days, spec, *spans))
        assert told["persons"].sum() > 0


def test_each_interval_of_a_cohort_settles_with_its_own_last_day() -> None:
    months = Retention(interval="month", intervals=3)
    assert last_days(date(2026, 1, 1), months) == {0: date(2026, 1, 31), 1: date(2026, 2, 28), 2: date(2026, 3, 31)}
    assert last_days(date(2026, 1, 2), months) == {}, "no cohort begins on it"
    weeks = Retention(interval="week", counting="bracket", brackets=((1,), (2, 3)), week_start="sunday")
    assert last_days(date(2026, 1, 4), weeks) == {0: date(2026, 1, 10), 1: date(2026, 1, 17), 2: date(2026, 1, 31)}
    later = Retention(interval="day", intervals=3, counting="unbounded")
    first, last = date(2026, 1, 4), date(2026, 1, 6)
    assert last_days(first, later) == {0: first, 1: last, 2: last}, "who returns on the last day counts in those before"
