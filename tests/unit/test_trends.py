"""Trends say what counting by hand says, on every engine, and refuse what makes no sense."""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from pydantic import ValidationError

from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.specification import EventPredicate, Filter
from platform_assets.semantics.trends import (
    Actors,
    Breakdown,
    DistinctValues,
    Events,
    EventsPerActor,
    Measure,
    OfProperty,
    Series,
    Trend,
    Window,
    bin_edges,
    parsed_formula,
    previous,
    trend,
)
from support.drawn import drawn
from support.engines import Native

BERLIN = ZoneInfo("Europe/Berlin")
MARCH = Window(datetime(2026, 3, 2, tzinfo=BERLIN), datetime(2026, 4, 13, tzinfo=BERLIN))
ANY = EventPredicate()


def frame(rows: Sequence[tuple[str | None, datetime, str, Mapping[str, Any]]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(who, at, name, properties.get("session"), json.dumps(properties)) for who, at, name, properties in rows],
        schema={
            "person_id": pl.String,
            "occurred_at": pl.Datetime("us", "UTC"),
            "event_name": pl.String,
            "session_id": pl.String,
            "properties": pl.String,
        },
        orient="row",
    )


def one(measure: Measure, **more: Any) -> Trend:
    return Trend(series=(Series(events=ANY, measure=measure),), zone=BERLIN, **more)


def told(found: pl.DataFrame) -> dict[Any, list[float | None]]:
    """The values of each breakdown, in order."""
    lines: dict[Any, list[float | None]] = {}
    for row in found.iter_rows(named=True):
        key = "other" if row["is_other"] else tuple(row["breakdown"])
        lines.setdefault((row["period"], row["series"], key), []).append(row["value"])
    return lines


# --- by hand -----------------------------------------------------------------------------------------------------


def by_hand(rows: Sequence[Any], asked: Trend, window: Window) -> dict[Any, list[float | None]]:
    lines = {}
    for index, series in enumerate(asked.series):
        matched = [row for row in rows if _matches(row, series.events, rows)]
        for key, values in _line(matched, asked, series.measure, window).items():
            lines["current", index, key] = values
    return lines


def _matches(row: Any, predicate: EventPredicate, rows: Sequence[Any]) -> bool:
    if predicate.events is not None and row[2] not in predicate.events:
        return False
    same = [r[1] for r in rows if r[0] == row[0] and (predicate.events is None or r[2] in predicate.events)]
    return not predicate.first_ever or row[1] == min(same)


def _line(rows: Sequence[Any], asked: Trend, measure: Measure, window: Window) -> dict[Any, list[float | None]]:
    first, last = (_bucket(at, asked) for at in (window.start, window.end - timedelta(microseconds=1)))
    buckets = [first] if asked.whole else list(range(first, last + 1))
    looked_back = measure.within_days if isinstance(measure, Actors) else None
    since = window.start - timedelta(days=looked_back + 31 if looked_back else 0)
    rows = [row for row in rows if since <= row[1] < window.end]
    keyed = [(_key(row, asked), row) for row in rows]
    by_key: dict[Any, list[Any]] = defaultdict(list)
    for key, row in keyed:
        by_key[key].append(row)
    if not asked.breakdowns:
        by_key.setdefault((), [])
    values = {key: _values(found, asked, measure, window, buckets) for key, found in by_key.items()}
    return {key: line for key, line in values.items() if not (looked_back and asked.breakdowns and not any(line))}


def _values(
    rows: Sequence[Any], asked: Trend, measure: Measure, window: Window, buckets: Sequence[int]
) -> list[float | None]:
    values: list[float | None] = []
    for bucket in buckets:
        if isinstance(measure, Actors) and measure.within_days:
            end = _local(window.end - timedelta(microseconds=1), asked)
            if not asked.whole:
                end = min(end, start_of(bucket + 1, asked.interval, asked.week_start) - timedelta(microseconds=1))
                if measure.as_of == "start":
                    end = start_of(bucket, asked.interval, asked.week_start)
            days = {end.date() - timedelta(days=back) for back in range(measure.within_days)}
            values.append(_value([row for row in rows if _local(row[1], asked).date() in days], measure))
            continue
        within = [
            row
            for row in rows
            if asked.whole or _bucket(row[1], asked) == bucket or (asked.cumulative and _bucket(row[1], asked) < bucket)
        ]
        values.append(_value(within, measure))
    return values


def _value(rows: Sequence[Any], measure: Measure) -> float | None:
    if isinstance(measure, Events):
        return float(len(rows))
    if isinstance(measure, Actors):
        return float(len({_actor(row, measure) for row in rows} - {None}))
    if isinstance(measure, DistinctValues):
        return float(len({row[3].get("plan") for row in rows} - {None}))
    if isinstance(measure, EventsPerActor):
        each: dict[Any, int] = defaultdict(int)
        for row in rows:
            if _actor(row, measure) is not None:
                each[_actor(row, measure)] += 1
        return _aggregate(list(each.values()), measure.aggregate)
    if measure.once_per is not None:
        sessions: dict[Any, list[float]] = defaultdict(list)
        for row in rows:
            if isinstance(row[3].get("n"), int | float):
                sessions[row[3].get("session")].append(row[3]["n"])
        return _aggregate([max(numbers) for numbers in sessions.values()], measure.aggregate)
    return _aggregate([row[3]["n"] for row in rows if isinstance(row[3].get("n"), int | float)], measure.aggregate)


def _actor(row: Any, measure: Actors | EventsPerActor) -> str | None:
    who: str | None = row[0] if measure.actor is None else row[3].get("session")
    return who


def _aggregate(numbers: Sequence[float], aggregate: str) -> float | None:
    if aggregate == "sum":
        return float(sum(numbers))
    if not numbers:
        return None
    if aggregate == "average":
        return statistics.fmean(numbers)
    if aggregate in ("minimum", "maximum"):
        return float(min(numbers) if aggregate == "minimum" else max(numbers))
    place = (len(numbers) - 1) * {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}[aggregate]
    ordered = sorted(numbers)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return low + (high - low) * (place - int(place))


def _key(row: Any, asked: Trend) -> tuple[Any, ...]:
    return tuple(row[3].get(breakdown.property.removeprefix("properties.")) for breakdown in asked.breakdowns)


def _local(at: datetime, asked: Trend) -> datetime:
    return _in_zone(at, asked.zone)


def _bucket(at: datetime, asked: Trend) -> int:
    return _bucket_of(at, asked.zone, asked.interval, asked.week_start)


@lru_cache(maxsize=1000)
def _in_zone(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=1000)
def _bucket_of(at: datetime, zone: ZoneInfo, interval: Any, week_start: Any) -> int:
    return bucket_of(_in_zone(at, zone), interval, week_start)


def close(found: Mapping[Any, Sequence[float | None]], expected: Mapping[Any, Sequence[float | None]]) -> bool:
    return found.keys() == expected.keys() and all(
        list(found[key]) == pytest.approx(list(expected[key]), nan_ok=False) for key in expected
    )


def drawn_rows(seed: int, count: int = 120) -> list[tuple[str | None, datetime, str, dict[str, Any]]]:
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        at = datetime(2026, 1, 20, tzinfo=UTC) + timedelta(minutes=draw.randrange(100 * 24 * 60))
        properties: dict[str, Any] = {
            "plan": draw.choice(["free", "pro", "team", None, ""]),
            "country": draw.choice(["de", "fr", None]),
            "n": draw.choice([None, "many", 1, 2, 2.5, 10, -3]),
            "session": draw.choice(["s1", "s2", "s3", None]),
        }
        kept = {key: value for key, value in properties.items() if value is not None or draw.random() < 0.5}
        rows.append((draw.choice(["a", "b", "c", "d", None]), at, draw.choice(["viewed", "bought"]), kept))
    return rows


MEASURES: dict[str, Measure] = {
    "events": Events(),
    "actors": Actors(),
    "weekly": Actors(within_days=7),
    "monthly": Actors(within_days=28),
    "weekly as of the start": Actors(within_days=7, as_of="start"),
    "sum": OfProperty(property="properties.n"),
    "average": OfProperty(property="properties.n", aggregate="average"),
    "least": OfProperty(property="properties.n", aggregate="minimum"),
    "greatest": OfProperty(property="properties.n", aggregate="maximum"),
    "median": OfProperty(property="properties.n", aggregate="median"),
    "p90": OfProperty(property="properties.n", aggregate="p90"),
    "a session's": OfProperty(property="properties.n", aggregate="average", once_per="session_id"),
    "each": EventsPerActor(),
    "each at most": EventsPerActor(aggregate="maximum"),
    "each p75": EventsPerActor(aggregate="p75"),
    "sessions, weekly": Actors(within_days=7, actor="session_id"),
    "each session": EventsPerActor(actor="session_id", aggregate="minimum"),
    "plans": DistinctValues(property="properties.plan"),
}


@drawn(60, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking a seed says nothing
@given(
    seed=st.integers(0, 10**6),
    measure=st.sampled_from(sorted(MEASURES)),
    interval=st.sampled_from(["hour", "day", "week", "month"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]),
    week_start=st.sampled_from(["monday", "sunday"]),
    breakdowns=st.sampled_from([(), ("plan",), ("plan", "country")]),
    mode=st.sampled_from(["buckets", "whole", "cumulative"]),
    event=st.sampled_from([None, "viewed"]),
    first_ever=st.booleans(),
)
def test_trends_are_what_counting_by_hand_says(
    seed: int,
    measure: str,
    interval: Any,
    zone: str,
    week_start: Any,
    breakdowns: tuple[str, ...],
    mode: str,
    event: str | None,
    first_ever: bool,
) -> None:
    chosen = MEASURES[measure]
    if interval == "hour" and isinstance(chosen, Actors) and chosen.within_days:
        interval = "day"
    if mode == "cumulative" and not (
        isinstance(chosen, Events | DistinctValues) or chosen in (Actors(), MEASURES["sum"])
    ):
        mode = "buckets"
    asked = Trend(
        series=(Series(events=EventPredicate(event=event, first_ever=first_ever), measure=chosen), Series(events=ANY)),
        interval=interval,
        zone=ZoneInfo(zone),
        week_start=week_start,
        breakdowns=tuple(Breakdown(property=f"properties.{name}") for name in breakdowns),
        whole=mode == "whole",
        cumulative=mode == "cumulative",
        breakdown_limit=1000,
    )
    window = Window(datetime(2026, 2, 20, 7, tzinfo=UTC), datetime(2026, 3, 31, 22, 30, tzinfo=UTC))
    # Nobody's first event is no one's: an event without a person is never the first ever.
    rows = [row for row in drawn_rows(seed) if row[0] is not None or not first_ever]
    found, expected = told(trend(frame(rows).lazy(), asked, window)), by_hand(rows, asked, window)
    assert close(found, expected), (found, expected)


SPECIFICATIONS: dict[str, Trend] = {
    **{name: one(measure, interval="week") for name, measure in MEASURES.items()},
    "hourly, monthly": one(Actors(within_days=1), interval="hour"),
    "months by plan and country, cumulative": one(
        Actors(),
        interval="month",
        cumulative=True,
        breakdowns=(Breakdown(property="properties.plan"), Breakdown(property="properties.country")),
    ),
    "the most and other": one(Actors(), breakdowns=(Breakdown(property="properties.plan"),), breakdown_limit=1),
    "ranges": one(Events(), whole=True, breakdowns=(Breakdown(property="properties.n", bins=4),)),
    "trimmed": one(Events(), whole=True, breakdowns=(Breakdown(property="properties.plan", trim_url=True),)),
    "empty is missing": one(
        Events(), whole=True, breakdowns=(Breakdown(property="properties.plan", empty_is_missing=True),)
    ),
    "first ever, calculated": Trend(
        series=(
            Series(events=EventPredicate(event="bought", first_ever=True), measure=Actors()),
            Series(events=ANY, where=(Filter(property="properties.n", operator="greater", value=1),)),
        ),
        where=(Filter(property="properties.country", operator="is_set"),),
        formula="A / B",
        interval="month",
    ),
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_engine_says_the_same(name: str, native: Native) -> None:
    events, asked = frame(drawn_rows(7, 300)), SPECIFICATIONS[name]
    before = previous(MARCH, asked)
    expected = trend(events.lazy(), asked, MARCH, before)
    found = trend(native(events), asked, MARCH, before)
    assert found.drop("value").equals(expected.drop("value"))
    assert close(told(found), told(expected))
    assert expected["value"].drop_nulls().len() > 0


# --- single points -----------------------------------------------------------------------------------------------


def at(day: int, hour: int = 12, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def test_rows_have_every_bucket_and_their_beginnings() -> None:
    window = Window(datetime(2026, 3, 28, tzinfo=BERLIN), datetime(2026, 3, 31, tzinfo=BERLIN))
    found = trend(frame([("a", at(28, 22), "x", {}), ("a", at(28, 23), "x", {})]).lazy(), one(Events()), window)
    assert found["starts"].to_list() == [date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30)]
    assert found["value"].to_list() == [1.0, 1.0, 0.0]  # 23:00 in UTC is the next day in Berlin
    assert found["bucket"].to_list() == [bucket_of(day, "day") for day in found["starts"]]
    empty = trend(frame([]).lazy(), one(Events()), window)
    assert empty["value"].to_list() == [0.0, 0.0, 0.0]
    assert trend(frame([]).lazy(), one(Events(), breakdowns=(Breakdown(property="person_id"),)), window).is_empty()


def test_a_person_counts_once_in_other_or_once_a_value() -> None:
    rows = [("a", at(3), "x", {"p": plan}) for plan in ("1", "1", "1", "2", "3")] + [("b", at(3), "x", {"p": "2"})]
    asked = {"breakdowns": (Breakdown(property="properties.p"),), "breakdown_limit": 1, "whole": True}
    by = {
        other: told(trend(frame(rows).lazy(), one(Actors(), other=other, **asked), MARCH))
        for other in ("counted", "summed", "left_out")
    }
    # Counted: "1" has the most events. Summed: "2" has the most persons; "1" and "3" have one each, the same.
    assert by["counted"] == {("current", 0, ("1",)): [1.0], ("current", 0, "other"): [2.0]}
    assert by["summed"] == {("current", 0, ("2",)): [2.0], ("current", 0, "other"): [2.0]}
    assert by["left_out"] == {("current", 0, ("2",)): [2.0]}


def test_the_most_come_first_then_the_missing_then_other() -> None:
    values = ["b", "b", "a", "a", "a", None, None, None, None, "c"]
    rows = [("x", at(3), "x", {} if value is None else {"p": value}) for value in values]
    asked = one(Events(), whole=True, breakdowns=(Breakdown(property="properties.p"),), breakdown_limit=3)
    found = trend(frame(rows).lazy(), asked, MARCH)
    assert found["breakdown"].to_list() == [["a"], ["b"], [None], None]
    assert found["is_other"].to_list() == [False, False, False, True]
    assert found["value"].to_list() == [3.0, 2.0, 4.0, 1.0]
    assert found["rank"].to_list() == [0, 1, 2, 3]


def test_numbers_fall_into_ranges() -> None:
    rows = [("x", at(3), "x", {"p": value}) for value in (10, 10, 17.5, 25, 40, "none", None)]
    asked = one(Events(), whole=True, breakdowns=(Breakdown(property="properties.p", bins=4),))
    found = trend(frame(rows).lazy(), asked, MARCH)
    assert dict(zip((b[0] for b in found["breakdown"]), found["value"], strict=True)) == {
        "[10,17.5)": 2.0,
        "[17.5,25)": 1.0,
        "[25,32.5)": 1.0,
        "[32.5,40]": 1.0,
        None: 2.0,
    }
    same = trend(frame([("x", at(3), "x", {"p": 5})]).lazy(), asked, MARCH)
    assert same["breakdown"].to_list() == [["[5,5]"]]
    none = trend(frame([("x", at(3), "x", {"p": "no"})]).lazy(), asked, MARCH)
    assert none["breakdown"].to_list() == [[None]]


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), bins=st.integers(1, 100))
def test_ranges_cover_what_is_between_their_ends(low: float, width: float, bins: int) -> None:
    edges = bin_edges(low, low + width, bins)
    assert (edges[0], edges[-1]) == (low, low + width)
    assert len(edges) == bins + 1
    assert list(edges) == sorted(edges)


def test_addresses_are_trimmed() -> None:
    urls = ["https://a.b", "https://a.b/", "https://a.b/?#", "/", "/x/", "", None]
    rows = [("x", at(3), "x", {"p": url}) for url in urls]
    asked = one(Events(), whole=True, breakdowns=(Breakdown(property="properties.p", trim_url=True),))
    found = trend(frame(rows).lazy(), asked, MARCH)
    assert dict(zip((b[0] for b in found["breakdown"]), found["value"], strict=True)) == {
        "https://a.b": 3.0,
        "/": 1.0,
        "/x": 1.0,
        "": 1.0,
        None: 1.0,
    }


def test_the_first_ever_event_must_hold_what_is_asked_besides() -> None:
    rows = [
        ("a", at(1, month=1), "bought", {"plan": "pro"}),
        ("a", at(5), "bought", {"plan": "pro"}),
        ("b", at(6), "bought", {"plan": "free"}),
        ("b", at(7), "bought", {"plan": "pro"}),
        ("c", at(8), "viewed", {"plan": "pro"}),
        ("c", at(9), "bought", {"plan": "pro"}),
    ]
    is_pro = (Filter(property="properties.plan", value="pro"),)
    of_that_event = Series(events=EventPredicate(event="bought", first_ever=True), where=is_pro, measure=Actors())
    first_such = Series(events=EventPredicate(event="bought", first_ever=True, where=is_pro), measure=Actors())
    asked = Trend(series=(of_that_event, first_such), whole=True, zone=BERLIN)
    assert trend(frame(rows).lazy(), asked, MARCH)["value"].to_list() == [1.0, 2.0]


def test_numbers_are_smoothed_over_the_buckets_before() -> None:
    rows = [("a", at(day), "x", {"p": str(day % 2)}) for day in (2, 2, 2, 2, 3, 4, 4)]
    window = Window(at(2, 0), at(6, 0))
    asked = Trend(series=(Series(events=ANY),), smoothed_over=2)
    assert trend(frame(rows).lazy(), asked, window)["value"].to_list() == [4.0, 2.5, 1.5, 1.0]
    split = asked.model_copy(update={"breakdowns": (Breakdown(property="properties.p"),)})
    assert told(trend(frame(rows).lazy(), split, window)) == {
        ("current", 0, ("0",)): [4.0, 2.0, 1.0, 1.0],
        ("current", 0, ("1",)): [0.0, 0.5, 0.5, 0.0],
    }


def test_the_previous_window_begins_and_ends_alike() -> None:
    # Over the change of clocks at the end of March: days are days of the clock.
    asked = one(Events())
    week = Window(datetime(2026, 3, 30, tzinfo=BERLIN), datetime(2026, 4, 6, tzinfo=BERLIN))
    assert previous(week, asked) == Window(datetime(2026, 3, 23, tzinfo=BERLIN), datetime(2026, 3, 30, tzinfo=BERLIN))
    month = Window(datetime(2026, 3, 1, tzinfo=BERLIN), datetime(2026, 3, 20, 12, tzinfo=BERLIN))
    before = previous(month, one(Events(), interval="month"))
    assert before == Window(datetime(2026, 2, 1, tzinfo=BERLIN), datetime(2026, 2, 20, 12, tzinfo=BERLIN))
    found = trend(frame([("a", at(25), "x", {})]).lazy(), asked, week, previous(week, asked))
    assert told(found) == {
        ("current", 0, ()): [0.0] * 7,
        ("compared", 0, ()): [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    }


FORMULAS = {
    "A + 2 * B": 1 + 2 * 2,
    "-(A - B) ** 2": -1,
    "A / B": 0.5,
    "A % B": 1,
    "A / (B - 2)": None,
    "A % (B - 2)": None,
    "(A - B) ** 0.5": None,
    "1e3 + A": 1001,
    "+A": 1,
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_calculate(formula: str) -> None:
    rows = [("a", at(3), "x", {}), ("a", at(3), "y", {}), ("b", at(3), "y", {})]
    series = tuple(Series(events=EventPredicate(event=name)) for name in ("x", "y"))
    found = trend(frame(rows).lazy(), Trend(series=series, whole=True, formula=formula), MARCH)
    assert found["value"].to_list() == [FORMULAS[formula]]
    zero = trend(frame(rows).lazy(), Trend(series=series, whole=True, formula=formula, nothing_is_zero=True), MARCH)
    assert zero["value"].to_list() == [FORMULAS[formula] or 0.0]


def test_a_formula_takes_a_value_that_a_series_lacks_as_nothing() -> None:
    rows = [("a", at(3), "x", {"p": "1"}), ("a", at(3), "y", {"p": "2"})]
    series = tuple(Series(events=EventPredicate(event=name)) for name in ("x", "y"))
    by = (Breakdown(property="properties.p"),)
    found = trend(frame(rows).lazy(), Trend(series=series, whole=True, formula="A - B", breakdowns=by), MARCH)
    assert told(found) == {("current", 0, ("1",)): [1.0], ("current", 0, ("2",)): [-1.0]}


@pytest.mark.parametrize(
    ("formula", "words"),
    {
        "A + C": "names 'C'; there are the series A, B",
        "A + ": "invalid syntax",
        "__import__('os')": "Call is no arithmetic",
        "exec": "names 'exec'",
        "A.real": "Attribute is no arithmetic",
        "A if B else A": "IfExp is no arithmetic",
        "A + True": "Constant is no arithmetic",
        "A + 'x'": "Constant is no arithmetic",
        "A // B": "FloorDiv is no arithmetic",
        "A < B": "is no arithmetic",
    }.items(),
)
def test_formulas_that_are_no_arithmetic(formula: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed_formula(formula, 2)
    with pytest.raises(ValidationError, match=words.split("'", maxsplit=1)[0].strip()):
        Trend(series=(Series(events=ANY), Series(events=ANY)), formula=formula)


def test_a_trend_is_read_from_plain_data() -> None:
    plain = {
        "series": [
            {
                "events": {
                    "event": "bought",
                    "where": [{"property": "properties.n", "operator": "greater", "value": 1}],
                },
                "measure": {"kind": "property", "property": "properties.n", "aggregate": "median"},
            },
            {"events": {}, "measure": {"kind": "actors", "within_days": 7}},
        ],
        "breakdowns": [{"property": "properties.plan"}],
        "interval": "week",
        "zone": "Europe/Berlin",
    }
    greater = Filter(property="properties.n", operator="greater", value=1)
    median = OfProperty(property="properties.n", aggregate="median")
    assert Trend.model_validate(plain) == Trend(
        series=(
            Series(events=EventPredicate(event="bought", where=(greater,)), measure=median),
            Series(events=ANY, measure=Actors(within_days=7)),
        ),
        breakdowns=(Breakdown(property="properties.plan"),),
        interval="week",
        zone=BERLIN,
    )
    with pytest.raises(ValidationError, match="'events', 'actors', 'property'"):
        Trend.model_validate({"series": [{"events": {}, "measure": {"kind": "many"}}]})


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValidationError, match="this events_per_actor does not"):
        one(EventsPerActor(), cumulative=True)
    with pytest.raises(ValidationError, match="with whole there are none"):
        one(Events(), cumulative=True, whole=True)
    with pytest.raises(ValidationError, match="with whole there are none"):
        one(Events(), smoothed_over=7, whole=True)
    with pytest.raises(ValidationError, match="shortest interval is hour"):
        one(Actors(within_days=7), interval="minute")
    with pytest.raises(ValueError, match="not after its start"):
        Window(at(3), at(3))
    with pytest.raises(ValueError, match="no timezone"):
        Window(datetime(2026, 1, 1), at(3))  # noqa: DTZ001 (what is refused)
    with pytest.raises(ValueError, match="no column 'person'"):
        trend(frame([]).lazy(), one(Events(), breakdowns=(Breakdown(property="person.plan"),)), MARCH)
