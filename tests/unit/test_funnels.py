"""Funnels (semantics 7), against every way of choosing events, tried one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from random import Random
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from platform_assets.semantics.breakdowns import OTHER
from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.engines import collected
from platform_assets.semantics.funnels import Breakdown, Exclusion, Funnel, Step, attempts, furthest, summary, trend
from support.drawn import drawn
from support.engines import ENGINES, Native, native_frames

START = datetime(2026, 3, 1, tzinfo=UTC)
SCHEMA = {
    "person_id": pl.String,
    "occurred_at": pl.Datetime("us", "UTC"),
    "event_name": pl.String,
    "browser": pl.String,
}


@dataclass(frozen=True)
class Event:
    """An event, its time in minutes."""

    at: int
    name: str


def frame(persons: dict[str, Sequence[tuple[int, str] | tuple[int, str, str | None]]]) -> pl.DataFrame:
    rows = [
        (person, START + timedelta(minutes=event[0]), event[1], event[2] if len(event) > 2 else None)
        for person, events in persons.items()
        for event in events
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def minutes(value: int | None) -> int | None:
    return None if value is None else (value - int(START.timestamp()) * 10**6) // (60 * 10**6)


def counted(events: object, funnel: Funnel, **options: object) -> dict[str, tuple[int | None, ...]]:
    """The minutes at which each person took the steps, in the attempt that counts."""
    found = collected(furthest(attempts(events, funnel), ["person_id"], **options))
    steps = [f"step_{k}_at" for k in range(1, len(funnel.steps) + 1)]
    return {row["person_id"]: tuple(minutes(row[step]) for step in steps) for row in found.iter_rows(named=True)}


# The reference: every sequence of distinct events is tried.


def matching(event: Event, step: Step | Exclusion) -> bool:
    return step.events is None or event.name in step.events


def in_order(
    events: Sequence[Event], steps: Sequence[Step], begun: int, *, apart: bool = False
) -> Iterator[tuple[int, ...]]:
    """The times of every way to take the first steps, or some of them, in order, beginning at a time."""

    def go_on(taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield tuple(events[i].at for i in taken)
        if len(taken) == len(steps):
            return
        for i, event in enumerate(events):
            since = event.at - events[taken[-1]].at
            if i not in taken and since >= apart and matching(event, steps[len(taken)]):
                yield from go_on((*taken, i))

    for i, event in enumerate(events):
        if event.at == begun and matching(event, steps[0]):
            yield from go_on((i,))


def without_gaps(events: Sequence[Event], steps: Sequence[Step], begun: int) -> Iterator[tuple[int, ...]]:
    """The times of every run of neighbours that take the first steps, in any order of those at one instant."""
    by_time: dict[int, list[Event]] = {}
    for event in events:
        by_time.setdefault(event.at, []).append(event)

    def orders(times: Sequence[int]) -> Iterator[list[Event]]:
        if not times:
            yield []
            return
        for head in permutations(by_time[times[0]]):
            for tail in orders(times[1:]):
                yield [*head, *tail]

    times = sorted(time for time in by_time if time >= begun)[: len(steps)]
    for line in orders(times):
        for i, event in enumerate(line):
            run = line[i : i + len(steps)]
            fits = next((k for k, (e, s) in enumerate(zip(run, steps, strict=False)) if not matching(e, s)), len(run))
            if event.at == begun:
                yield from (tuple(e.at for e in run[:k]) for k in range(1, fits + 1))


def one_to_one(events: Sequence[Event], steps: Sequence[Step], begun: int, window: int) -> tuple[int, ...]:
    """When one, two … steps were matched by different events, as early as can be."""

    def most(until: int) -> int:
        inside = [e for e in events if begun <= e.at <= until]
        taken: dict[int, int] = {}

        def place(step: int, tried: set[int]) -> bool:
            for i, event in enumerate(inside):
                if i not in tried and matching(event, steps[step]):
                    tried.add(i)
                    if i not in taken or place(taken[i], tried):
                        taken[i] = step
                        return True
            return False

        return sum(place(step, set()) for step in range(len(steps)))

    sizes = {until: most(until) for until in sorted({e.at for e in events if begun <= e.at <= begun + window})}
    return tuple(min(t for t, size in sizes.items() if size >= k) for k in range(1, max(sizes.values(), default=0) + 1))


def reference(events: Sequence[Event], funnel: Funnel) -> tuple[int | None, ...] | None:
    """The times of the steps in the attempt that counts; None for a person who is not in the funnel."""
    window = funnel.window // timedelta(minutes=1)
    required = [step for step in funnel.steps if not step.optional]
    tried = []
    for begun in sorted({event.at for event in events}):
        if funnel.order == "unordered":
            taken = one_to_one(events, required, begun, window)
            if not taken or taken[0] != begun:
                continue
        else:
            apart = funnel.same_instant == "one_step"
            is_ordered = funnel.order == "ordered"
            ways = (partial(in_order, apart=apart) if is_ordered else without_gaps)(events, required, begun)
            inside = [way for way in ways if way[-1] - begun <= window]
            if not inside:
                continue
            furthest_way = max(map(len, inside))
            taken = min(way for way in inside if len(way) == furthest_way)
        told = list(taken) + [None] * (len(required) - len(taken))
        steps: list[int | None] = []
        places = iter(told)
        for step in funnel.steps:
            steps.append(None if step.optional else next(places))
        for k, step in enumerate(funnel.steps):
            if step.optional:
                steps[k] = between(events, funnel, steps, k, begun + window)
        drops = []
        for exclusion in funnel.exclusions:
            after, before = steps[exclusion.after - 1], steps[exclusion.before - 1]
            until = begun + window + 1 if before is None else before
            drops += [e.at for e in events if after is not None and matching(e, exclusion) and after < e.at < until]
        tried.append((tuple(steps), len(taken), min(drops, default=None)))
    completed = min((t[-1] for t, size, drop in tried if drop is None and t[-1] is not None), default=None)
    dropped = min((drop for _, _, drop in tried if drop is not None), default=None)
    clean = [(steps, size) for steps, size, drop in tried if drop is None]
    if not clean or (dropped is not None and (completed is None or completed > dropped)):
        return None
    return max(clean, key=lambda told: (told[1], -(told[0][0] or 0)))[0]


def between(events: Sequence[Event], funnel: Funnel, steps: Sequence[int | None], k: int, limit: int) -> int | None:
    """When an optional step was taken."""
    order = [i for i, step in enumerate(funnel.steps) if not step.optional]
    before = max(i for i in order if i < k)
    behind = min((i for i in order if i > k), default=None)
    first = steps[before]
    if first is None:
        return None
    predicates_of = (*funnel.steps, *funnel.exclusions)
    shares = funnel.same_instant == "one_step" or any(
        a.may_share_events_with(b) for i, a in enumerate(predicates_of) for b in predicates_of[:i]
    )
    at = min(
        (e.at for e in events if matching(e, funnel.steps[k]) and (e.at > first if shares else e.at >= first)),
        default=None,
    )
    last = limit if behind is None or steps[behind] is None else steps[behind]
    if at is None or at > limit or last is None:
        return None
    if behind is not None and steps[behind] is not None:
        return at if (at < last if shares else at <= last) else None
    return at


predicates = st.sampled_from(["a", "b", "c", "d", ("a", "b"), ("b", "c"), None])


@st.composite
def funnels(draw: st.DrawFn, order: str) -> Funnel:
    plain = draw(st.booleans())
    events = (
        draw(st.permutations(["a", "b", "c", "d"]))[: draw(st.integers(1, 4))]
        if plain
        else draw(st.lists(predicates, min_size=1, max_size=4))
    )
    count = len(events)
    optional = [k > 0 and order == "ordered" and draw(st.integers(0, 4)) == 0 for k in range(count)]
    steps = tuple(Step(event=e, optional=o) for e, o in zip(events, optional, strict=True))
    required = [k for k, o in enumerate(optional, 1) if not o]
    exclusions = []
    if len(required) > 1 and draw(st.booleans()):
        after = draw(st.integers(0, len(required) - 2)) if order != "unordered" else 0
        before = draw(st.integers(after + 1, len(required) - 1)) if order != "unordered" else len(required) - 1
        exclusions.append(
            Exclusion(event=draw(st.sampled_from(["x", "d"])), after=required[after], before=required[before])
        )
    window = timedelta(minutes=draw(st.integers(1, 8)))
    same_instant = "one_step" if order == "ordered" and draw(st.integers(0, 3)) == 0 else "many_steps"
    return Funnel(steps=steps, window=window, order=order, same_instant=same_instant, exclusions=tuple(exclusions))


@st.composite
def people(draw: st.DrawFn, most: int) -> list[list[Event]]:
    """Persons of up to seven events. They are made of a seed: drawing each event would take longer than the funnel."""
    made = Random(draw(st.integers(0, 2**32)))
    return [
        [Event(made.randrange(10), made.choice("abcdx")) for _ in range(made.randrange(8))]
        for _ in range(draw(st.integers(1, most)))
    ]


def compare(told: dict[str, tuple[int | None, ...]], persons: list[list[Event]], funnel: Funnel) -> None:
    expected = {str(i): reference(events, funnel) for i, events in enumerate(persons)}
    assert told == {person: steps for person, steps in expected.items() if steps is not None}


def as_frame(persons: list[list[Event]]) -> pl.DataFrame:
    return frame({str(i): [(e.at, e.name) for e in events] for i, events in enumerate(persons)})


@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@given(data=st.data())
@drawn(40)
def test_as_if_every_way_were_tried(order: str, data: st.DataObject) -> None:
    funnel, persons = data.draw(funnels(order)), data.draw(people(100))
    compare(counted(as_frame(persons), funnel), persons, funnel)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "polars"])
@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@given(data=st.data())
@settings(max_examples=3)
def test_the_same_on_every_engine(order: str, engine: str, data: st.DataObject) -> None:
    funnel, persons = data.draw(funnels(order)), data.draw(people(60))
    with native_frames(engine) as native:
        compare(counted(native(as_frame(persons)), funnel), persons, funnel)


# Worked by hand.

SIGN_UP = (Step(event="a"), Step(event="b"), Step(event="c"))
WINDOW = timedelta(minutes=10)


def test_counts_shares_and_times(native: Native) -> None:
    events = frame({"1": [(0, "a"), (2, "b"), (6, "c")], "2": [(0, "a"), (4, "b")], "3": [(0, "a")], "4": [(0, "b")]})
    funnel = Funnel(steps=SIGN_UP, window=WINDOW)
    told = summary(furthest(attempts(native(events), funnel), ["person_id"]), funnel)
    assert told.select("step", "name", "persons", "from_first", "from_previous").rows() == [
        (1, "a", 3, 1.0, 1.0),
        (2, "b", 2, pytest.approx(2 / 3), pytest.approx(2 / 3)),
        (3, "c", 1, pytest.approx(1 / 3), 0.5),
    ]
    assert told.select("mean_seconds", "p50_seconds", "p90_seconds").rows() == [
        (None, None, None),
        (180.0, 180.0, pytest.approx(228.0)),
        (240.0, 240.0, 240.0),
    ]


def test_nobody_is_zero_persons_and_no_share() -> None:
    funnel = Funnel(steps=SIGN_UP)
    told = summary(furthest(attempts(frame({}), funnel), ["person_id"]), funnel)
    assert told.select("step", "persons", "from_first").rows() == [(1, 0, None), (2, 0, None), (3, 0, None)]


def test_the_window_includes_its_end() -> None:
    events = frame({"in": [(0, "a"), (10, "b")], "out": [(0, "a"), (11, "b")]})
    assert counted(events, Funnel(steps=SIGN_UP[:2], window=WINDOW)) == {"in": (0, 10), "out": (0, None)}


def test_an_instant_can_be_for_one_step(native: Native) -> None:
    events = frame({"1": [(0, "a"), (1, "b"), (1, "c")], "2": [(0, "a"), (0, "b"), (2, "b"), (3, "c")]})
    together = Funnel(steps=SIGN_UP, window=WINDOW)
    assert counted(native(events), together) == {"1": (0, 1, 1), "2": (0, 0, 3)}
    apart = Funnel(steps=SIGN_UP, window=WINDOW, same_instant="one_step")
    assert counted(native(events), apart) == {"1": (0, 1, None), "2": (0, 2, 3)}


def test_a_shorter_way_from_the_same_instant_drops_nobody(native: Native) -> None:
    steps = (Step(event="c"), Step(event=None), Step(event="b"))
    funnel = Funnel(steps=steps, window=WINDOW, order="strict", exclusions=(Exclusion(event="d", after=2, before=3),))
    # Were the first "d" the second step, the next one would lie between it and the third.
    events = frame({"1": [(0, "d"), (0, "c"), (4, "d"), (5, "b")], "2": [(0, "c"), (1, "x"), (4, "d"), (5, "b")]})
    assert counted(native(events), funnel) == {"1": (0, 4, 5)}


def test_the_window_is_elapsed_time_also_over_a_change_of_clocks() -> None:
    begun = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    rows = [("1", begun, "a", None), ("1", begun + timedelta(hours=2), "b", None)]
    events = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    tried = attempts(events, Funnel(steps=SIGN_UP[:2], window="2h"), zone=ZoneInfo("Europe/Berlin"), interval="day")
    assert collected(tried)["reached"].to_list() == [2]


BROWSERS = {
    "1": [(0, "a", None), (1, "a", "Chrome"), (2, "b", "Safari"), (3, "c", "Safari")],
    "2": [(0, "a", "Safari"), (1, "b", "Safari")],
    "3": [(0, "a", None)],
}


@pytest.mark.parametrize(
    ("attribution", "step", "expected"),
    [
        ("first", None, {"Chrome": (1, 1, 1), "Safari": (1, 1, 0), None: (1, 0, 0)}),
        ("last", None, {"Safari": (2, 2, 1), None: (1, 0, 0)}),
        ("all", None, {"Chrome": (1, 0, 0), "Safari": (1, 1, 0), None: (2, 0, 0)}),
        # Person 1 took step 1 with no browser, and with Chrome: they are in the funnel of each.
        ("step", 1, {"Chrome": (1, 1, 1), "Safari": (1, 1, 0), None: (2, 1, 1)}),
        ("step", 2, {"Safari": (2, 2, 1), None: (1, 0, 0)}),
    ],
)
def test_whose_value_counts(
    attribution: str, step: int | None, expected: dict[str | None, tuple[int, ...]], native: Native
) -> None:
    breakdown = Breakdown(properties=("browser",), attribution=attribution, step=step)
    funnel = Funnel(steps=SIGN_UP, window=WINDOW, breakdown=breakdown)
    by = ["person_id", *funnel.breakdown_columns]
    told = summary(furthest(attempts(native(frame(BROWSERS)), funnel), by), funnel)
    found: dict[str | None, tuple[int, ...]] = {}
    for value, persons in told.select(*funnel.breakdown_columns, "persons").rows():
        found[value] = (*found.get(value, ()), persons)
    assert found == expected


def test_who_never_took_the_step_has_no_value_or_is_in_no_funnel(native: Native) -> None:
    found = {}
    for without_step in ("null", "left_out"):
        breakdown = Breakdown(properties=("browser",), attribution="step", step=2, without_step=without_step)
        funnel = Funnel(steps=SIGN_UP[:2], window=WINDOW, breakdown=breakdown)
        events = native(frame({**BROWSERS, "4": [(0, "a", "Chrome"), (1, "b", None)]}))
        told = summary(furthest(attempts(events, funnel), ["person_id", *funnel.breakdown_columns]), funnel)
        found[without_step] = told.select(*funnel.breakdown_columns, "persons").rows()
    assert found["null"] == [("Safari", 2), ("Safari", 2), (None, 2), (None, 1)]
    assert found["left_out"] == [("Safari", 2), ("Safari", 2), (None, 1), (None, 1)]


MANY = {
    "1": [(0, "a", "Chrome"), (1, "b", "Chrome")],
    "2": [(0, "a", "Chrome")],
    "3": [(0, "a", "Edge"), (1, "b", "Edge"), (2, "a", "Opera")],
    "4": [(0, "a", "Edge")],
    "5": [(0, "a", "Opera"), (1, "b", None)],
    "6": [(0, "a", "Safari")],
    "7": [(0, "a", None)],
}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, {"Chrome": (2, 1), "Edge": (2, 1), "Opera": (2, 1), "Safari": (1, 0), None: (1, 0)}),
        (5, {"Chrome": (2, 1), "Edge": (2, 1), "Opera": (2, 1), "Safari": (1, 0), None: (1, 0)}),
        # Of as many, the missing one comes before a text.
        (4, {"Chrome": (2, 1), "Edge": (2, 1), "Opera": (2, 1), None: (1, 0), OTHER: (1, 0)}),
        (2, {"Chrome": (2, 1), "Edge": (2, 1), OTHER: (4, 1)}),
        # Person 3 is in it with two values, and counts once.
        (1, {"Chrome": (2, 1), OTHER: (5, 2)}),
    ],
)
def test_values_beyond_the_limit_are_one(
    limit: int | None, expected: dict[str | None, tuple[int, ...]], native: Native
) -> None:
    breakdown = Breakdown(properties=("browser",), attribution="step", step=1, limit=limit)
    funnel = Funnel(steps=SIGN_UP[:2], window=WINDOW, breakdown=breakdown)
    tried = attempts(native(frame(MANY)), funnel)
    told = summary(furthest(tried, ["person_id", *funnel.breakdown_columns]), funnel)
    found: dict[str | None, tuple[int, ...]] = {}
    for value, persons in told.select(*funnel.breakdown_columns, "persons").rows():
        found[value] = (*found.get(value, ()), persons)
    assert found == expected


def test_each_day_has_the_values_that_most_began_with_on_it(native: Native) -> None:
    day = 24 * 60
    events = frame(
        {
            "1": [(0, "a", "Chrome"), (day, "a", "Edge")],
            "2": [(0, "a", "Chrome"), (day, "a", "Edge")],
            "3": [(0, "a", "Edge"), (day, "a", "Chrome")],
            # Many who were dropped make no value greater.
            **{f"x{k}": [(0, "a", "Opera"), (1, "x", None)] for k in range(4)},
        }
    )
    breakdown = Breakdown(properties=("browser",), attribution="step", step=1, limit=1)
    exclusions = (Exclusion(event="x", before=2),)
    funnel = Funnel(steps=SIGN_UP[:2], window=WINDOW, breakdown=breakdown, exclusions=exclusions)
    told = trend(attempts(native(events), funnel, interval="day"), funnel)
    first = bucket_of(START, "day")
    assert told.select("bucket", *funnel.breakdown_columns, "entered").rows() == [
        (first, OTHER, 1),
        (first, "Chrome", 2),
        (first + 1, OTHER, 1),
        (first + 1, "Edge", 2),
    ]


def test_each_day_counts_those_who_began_on_it(native: Native) -> None:
    day = 24 * 60
    events = frame(
        {
            "1": [(0, "a"), (5, "b"), (day, "a")],
            "2": [(1, "a"), (2, "a"), (day + 1, "b")],
            "3": [(day, "a"), (day + 3, "b")],
        }
    )
    funnel = Funnel(steps=SIGN_UP[:2], window=WINDOW)
    told = trend(attempts(native(events), funnel, interval="day"), funnel)
    first = bucket_of(START, "day")
    assert told.rows() == [(first, 2, 1, 0.5), (first + 1, 2, 1, 0.5)]


def test_an_exclusion_drops_the_person_or_the_attempt() -> None:
    events = frame({"1": [(0, "a"), (1, "x"), (20, "a"), (21, "b")], "2": [(0, "a"), (1, "b"), (20, "a"), (21, "x")]})
    funnel = Funnel(steps=SIGN_UP[:2], window=WINDOW, exclusions=(Exclusion(event="x", before=2),))
    assert counted(events, funnel) == {"2": (0, 1)}
    assert counted(events, funnel, dropped="attempt") == {"1": (20, 21), "2": (0, 1)}


def test_an_exclusion_of_a_strict_funnel_looks_at_the_furthest_way_through_an_instant(native: Native) -> None:
    funnel = Funnel(steps=SIGN_UP, window=WINDOW, order="strict", exclusions=(Exclusion(event="x", before=2),))
    # Were b taken before a, the attempt would stop at step 1, and x come after it.
    events = native(frame({"1": [(0, "a"), (0, "b"), (1, "x")], "2": [(0, "a"), (1, "x"), (1, "b")]}))
    assert counted(events, funnel) == {"1": (0, 0, None), "2": (0, 1, None)}


def test_groups_go_through_funnels_too() -> None:
    events = frame({"1": [(0, "a", "acme")], "2": [(1, "b", "acme"), (2, "c", None)]})
    tried = attempts(events, Funnel(steps=SIGN_UP, window=WINDOW), actor="browser")
    assert collected(tried).select("browser", "reached").rows() == [("acme", 2)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": []}, "at least 1 item"),
        ({"steps": [{"event": "a", "optional": True}]}, "the first step cannot be optional"),
        (
            {"steps": [{"event": "a"}], "order": "strict", "same_instant": "one_step"},
            "only an ordered funnel takes one step at an instant; this one is strict",
        ),
        ({"steps": [{"event": "a"}], "window": "0s"}, "window: must be longer than nothing"),
        ({"steps": [{"evnt": "a"}]}, "Extra inputs are not permitted"),
        (
            {"steps": [{"event": "a"}, {"event": "b"}], "exclusions": [{"event": "x", "before": 3}]},
            "'x' lies between steps 1 and 3 of 2: name two of them, in order",
        ),
        (
            {"steps": [{"event": "a"}], "breakdown": {"properties": ["x"], "attribution": "step"}},
            "attribution 'step' names a step",
        ),
        (
            {"steps": [{"event": "a"}], "breakdown": {"properties": ["x"], "without_step": "left_out"}},
            "attribution 'first' looks at no step of its own",
        ),
        ({"steps": [{}] * 7}, "one event can match 7 of them, and at most 6 are supported"),
    ],
)
def test_a_wrong_funnel_says_what_is_wrong(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Funnel.model_validate(wrong)
