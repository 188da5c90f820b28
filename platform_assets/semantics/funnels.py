"""Funnels: how far people get through steps, within a time (semantics 7).

A funnel is computed from *attempts*. Each event of the first step begins one; the later steps are taken at the earliest
time that they can be, so an attempt gets as far as it can, as early as it can. Of a person's attempts the furthest
counts, and of those the first.

Nothing here goes event by event. From the last step backwards, each row learns when an attempt that stands before step
*k* there would complete the steps from *k* on: at this row, if it has the step, else as the next row that does. That is
one pass over the person's events for every pair of steps, on any engine.

Events at the same instant may be taken in any order that gets further, and none fills two steps. Where the steps ask
for different event names, an event has one step at most, and sorting by step within an instant does it. Where they do
not, instants are the rows, and by Hall's theorem an instant can fill steps *j* to *k* exactly if every subset of them
is matched by as many events as it has steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import Literal, Self
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
from pydantic import Field, model_validator

from platform_assets.semantics.breakdowns import OTHER, as_one_text
from platform_assets.semantics.calendar import Interval, WeekStart, with_buckets
from platform_assets.semantics.engines import (
    Frame,
    collected,
    lazy,
    property_column,
    with_microseconds,
    with_properties,
)
from platform_assets.semantics.in_order import InOrder
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.specification import Duration, EventPredicate, Specification

MOST_SHARED_STEPS = 6
"""Most steps of a funnel that one event can match: the subsets of such steps are looked at one by one."""

Dropped = Literal["person", "attempt"]

_UTC = ZoneInfo("UTC")
_US = timedelta(microseconds=1)
_NEVER = 2**62
_VALUE, _TURN, _SIZE, _BEGINS, _PLACE = "__value", "__turn", "__size", "__begins", "__place"


class Step(EventPredicate):
    """A step of a funnel.

    Attributes:
        optional: Whether the funnel goes on without it. It counts as taken where an event of it lies between the
            required steps around it; at the very instant of one of these only where no event can match two steps, and
            an instant is not for one step.
    """

    optional: bool = False


class Exclusion(EventPredicate):
    """Events that drop a person from the funnel.

    Attributes:
        after: The number of the step (from 1) that they come after, at a later instant.
        before: The number of the step that they come before, at an earlier instant; where that step is not reached, to
            the window's end.
    """

    after: int = Field(default=1, ge=1)
    before: int = Field(ge=2)


class Breakdown(Specification):
    """The values that a funnel is told by.

    Attributes:
        properties: What is told apart, as in `Filter.property`; several together make one value.
        attribution: Whose value counts: of the person's `first` event of any step that has one, of the `last`, of the
            `step` numbered by ``step`` (a person is in the funnel of each value that they took it with), or of every
            event by itself (`all`: for each value, the funnel of its events alone).
        step: The number of the step, from 1.
        without_step: Where those who never took that step are told: with those whose value there is `null`, or
            nowhere (`left_out`).
        limit: How many values are told apart, of each bucket: those that most persons began with whom no exclusion
            dropped, of as many the lesser text, a missing one first. The rest is one value, `breakdowns.OTHER`, of
            whose attempts a person has one that counts, however many of its values they have. None is no limit.
    """

    properties: tuple[str, ...] = Field(min_length=1)
    attribution: Literal["first", "last", "all", "step"] = "first"
    step: int | None = Field(default=None, ge=1)
    without_step: Literal["null", "left_out"] = "null"
    limit: int | None = Field(default=25, ge=1)

    @model_validator(mode="after")
    def _names_a_step(self) -> Self:
        if (self.attribution == "step") != (self.step is not None):
            msg = f"attribution {self.attribution!r} and step {self.step!r}: attribution 'step' names a step, no other"
            raise ValueError(msg)
        if self.without_step != "null" and self.step is None:
            msg = f"without_step {self.without_step!r}: attribution {self.attribution!r} looks at no step of its own"
            raise ValueError(msg)
        return self


class Funnel(Specification):
    """A funnel (semantics 7).

    Attributes:
        steps: In order. The first is required.
        window: Longest time from the event of the first step to that of the last, inclusive; elapsed time.
        order: `ordered`: each step at or after the one before, other events between allowed. `strict`: an event of the
            person that is no next step ends the attempt. `unordered`: the most steps, in any order, within one window.
        same_instant: Whether events at one instant may be taken in step order (`many_steps`), or one instant is for
            one step, so that times must increase (`one_step`; of ordered funnels only).
        exclusions: What drops a person. Of an unordered funnel, it lies between its first and its last step.
        dropped: What an exclusion drops: the `person`, unless they had completed the funnel before it (semantics 7), or
            the `attempt` that it lies in alone.
        breakdown: By what it is told.
    """

    steps: tuple[Step, ...] = Field(min_length=1)
    window: Duration = timedelta(days=14)
    order: Literal["ordered", "strict", "unordered"] = "ordered"
    same_instant: Literal["many_steps", "one_step"] = "many_steps"
    exclusions: tuple[Exclusion, ...] = ()
    dropped: Dropped = "person"
    breakdown: Breakdown | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for msg in self._faults():
            raise ValueError(msg)
        return self

    @property
    def breakdown_columns(self) -> list[str]:
        """The columns of results that hold the values told apart: texts, null where there is none."""
        return [] if self.breakdown is None else [property_column(name) for name in self.breakdown.properties]

    @property
    def steps_before(self) -> dict[int, int | None]:
        """The (required) step that each step is counted from, by number; None of the first."""
        required = [k for k, step in enumerate(self.steps, 1) if not step.optional]
        return {k: max((r for r in required if r < k), default=None) for k in range(1, len(self.steps) + 1)}

    def _faults(self) -> Iterator[str]:
        count = len(self.steps)
        optional = [k for k, step in enumerate(self.steps, 1) if step.optional]
        if 1 in optional:
            yield "steps: the first step cannot be optional; the window is counted from it"
        if optional and self.order != "ordered":
            yield f"steps: only an ordered funnel has optional steps; this one is {self.order}"
        if self.same_instant != "many_steps" and self.order != "ordered":
            yield f"same_instant: only an ordered funnel takes one step at an instant; this one is {self.order}"
        if self.window <= timedelta(0):
            yield f"window: must be longer than nothing, got {self.window}"
        for exclusion in self.exclusions:
            between = f"exclusions: {exclusion.label!r} lies between steps {exclusion.after} and {exclusion.before}"
            if not exclusion.after < exclusion.before <= count:
                yield f"{between} of {count}: name two of them, in order"
            if exclusion.after in optional or exclusion.before in optional:
                yield f"{between}, of which one is optional: name required steps"
            if self.order == "unordered" and (exclusion.after, exclusion.before) != (1, count):
                yield f"{between}; in an unordered funnel only 1 and {count} are known"
        if self.breakdown is not None and self.breakdown.step is not None and self.breakdown.step > count:
            yield f"breakdown: names step {self.breakdown.step} of {count}"
        largest = max(len(group) for group in _sharing(self.steps))
        if largest > MOST_SHARED_STEPS:
            yield (
                f"steps: one event can match {largest} of them, and at most {MOST_SHARED_STEPS} are supported: "
                "name the events of the steps, so that fewer can share one"
            )


def attempts(
    events: object,
    funnel: Funnel,
    *,
    actor: str = "person_id",
    interval: Interval | None = None,
    zone: ZoneInfo = _UTC,
    week_start: WeekStart = "monday",
) -> Frame:
    """Every attempt at a funnel: one for each event (or instant) that it can begin with.

    Args:
        events: ``occurred_at``, ``event_name``, the actor, and what the predicates name; a frame of any engine.
        funnel: The funnel.
        actor: Who goes through it: the column of persons, or of groups. Events without one do not count.
        interval: Adds ``bucket``, the one that the attempt began in.
        zone: The zone of the buckets.
        week_start: The first day of a week.

    Returns:
        The actor; the breakdown's columns; ``bucket`` where asked for; ``reached``, how many required steps were taken;
        ``step_1_at`` to ``step_n_at``, µs since 1970, null where the step was not taken within the window (of unordered
        funnels: when the *k*-th step was taken, whichever it was); ``excluded_at``, when an exclusion dropped the
        attempt, null where none did.
    """
    rows = lazy(events).filter(~nw.col(actor).is_null())
    steps = {f"s{k}": step for k, step in enumerate(funnel.steps, 1)}
    drops = {f"x{k}": exclusion for k, exclusion in enumerate(funnel.exclusions, 1)}
    rows = with_microseconds(with_matches(rows, {**steps, **drops}.items(), actor))
    kept = [actor, "at", *steps, *drops]
    if interval is not None:
        rows = with_buckets(rows, interval, zone, week_start)
        kept.append("bucket")
    if funnel.breakdown is not None:
        rows = _broken_down(rows, funnel, funnel.breakdown, actor)
    rows = rows.select(*kept, *funnel.breakdown_columns)
    if funnel.order != "strict":
        rows = rows.filter(nw.any_horizontal(*(nw.col(name) for name in (*steps, *drops)), ignore_nulls=True))
    plan = _Plan.of(funnel, (actor, *funnel.breakdown_columns), has_bucket=interval is not None)
    begun = {"ordered": _ordered, "strict": _strict, "unordered": _unordered}[funnel.order](rows, plan)
    tried = _within_window(begun, plan)
    if funnel.order == "strict":
        tried = _furthest_of_instants(tried, plan)
    limit = None if funnel.breakdown is None else funnel.breakdown.limit
    by = [] if interval is None else ["bucket"]
    return tried if limit is None else _limited(tried, funnel.breakdown_columns, limit, by, actor)


def furthest(tried: Frame, by: Sequence[str], *, dropped: Dropped = "person") -> Frame:
    """Of several attempts the one that counts: the furthest, and of those the earliest.

    Args:
        tried: `attempts`.
        by: Whose attempts are compared: the actor, the breakdown's columns, the bucket.
        dropped: As `Funnel.dropped`.
    """
    steps = [name for name in tried.collect_schema().names() if name.startswith("step_")]
    clean = nw.col("excluded_at").is_null()
    if dropped == "person":
        done = nw.when(clean).then(nw.col(steps[-1]))
        tried = tried.with_columns(done.alias("done")).with_columns(
            nw.col("done").min().over(*by).fill_null(_NEVER).alias("done"),
            nw.col("excluded_at").min().over(*by).fill_null(_NEVER).alias("dropped_at"),
        )
        tried = tried.filter(clean, nw.col("done") <= nw.col("dropped_at")).drop(["done", "dropped_at"])
    else:
        tried = tried.filter(clean)
    ranked = tried.with_columns((nw.col("reached") * -1).alias("rank"))
    return ranked.unique(list(by), keep="first", order_by=["rank", *steps]).drop("rank")


def summary(
    counted: Frame, funnel: Funnel, percentiles: Sequence[float] = (0.5, 0.9), by: Sequence[str] = ()
) -> pl.DataFrame:
    """How many took each step, and how long they needed.

    Args:
        counted: One attempt each: `furthest` by the actor and the breakdown's columns.
        funnel: The funnel.
        percentiles: Shares (0 to 1) of those who took a step, whose longest time from the step before is told.
        by: What else is told apart: ``bucket``.

    Returns:
        ``by``; the breakdown's columns; ``step`` (from 1), ``name``; ``persons`` who took it; ``from_first`` and
        ``from_previous``, their share of those who took the first step and the (required) step before, null of none;
        ``mean_seconds`` and ``p<percent>_seconds`` (linear interpolation) from that step before, null for the first.
        By these and the step.
    """
    by, steps = [*by, *funnel.breakdown_columns], range(1, len(funnel.steps) + 1)
    before = funnel.steps_before
    lasted = {
        k: (nw.col(f"step_{k}_at") - nw.col(f"step_{r}_at")).cast(nw.Float64)
        for k, r in before.items()
        if r is not None
    }
    timed = counted.with_columns(value.alias(f"lasted_{k}") for k, value in lasted.items()) if lasted else counted
    told = [(~nw.col(f"step_{k}_at").is_null()).cast(nw.Int64).alias(f"persons_{k}") for k in steps]
    names = {f"p{share * 100:g}_seconds": share for share in percentiles}
    numbers = [nw.col(f"persons_{k}").sum() for k in steps]
    for k in lasted:
        numbers.append(nw.col(f"lasted_{k}").mean().alias(f"mean_seconds_{k}"))
        numbers += [nw.col(f"lasted_{k}").quantile(q, "linear").alias(f"{n}_{k}") for n, q in names.items()]
    timed = timed.with_columns(*told)
    wide = collected(timed.group_by(by).agg(*numbers) if by else timed.select(*numbers))
    times = ["mean_seconds", *names]
    shown = []
    for k in steps:
        persons, first, previous = (pl.col(f"persons_{j}").fill_null(0) for j in (k, 1, before[k] or k))
        shown.append(
            wide.select(
                *by,
                step=pl.lit(k, pl.Int64),
                name=pl.lit(funnel.steps[k - 1].label),
                persons=persons.cast(pl.Int64),
                from_first=pl.when(first > 0).then(persons / first),
                from_previous=pl.when(previous > 0).then(persons / previous),
                **{t: pl.col(f"{t}_{k}") / 1e6 if before[k] else pl.lit(None, pl.Float64) for t in times},
            )
        )
    return pl.concat(shown).sort(*by, "step", nulls_last=True)


def trend(
    tried: Frame, funnel: Funnel, *, actor: str = "person_id", of_steps: tuple[int, int] | None = None
) -> pl.DataFrame:
    """How many of those who began in each bucket got through.

    Args:
        tried: `attempts` with ``bucket``: in each bucket, the furthest attempt that began in it counts.
        funnel: The funnel.
        actor: Who goes through it.
        of_steps: The steps (from 1) that are compared; by default the first and the last.

    Returns:
        ``bucket``; the breakdown's columns; ``entered``, who took the one step; ``converted``, who took the other, too;
        ``share``, null of none. By bucket.
    """
    first, last = of_steps or (1, len(funnel.steps))
    by = ["bucket", *funnel.breakdown_columns]
    counted = furthest(tried, [actor, *by], dropped=funnel.dropped)
    entered, converted = (~nw.col(f"step_{k}_at").is_null() for k in (first, last))
    told = counted.with_columns(
        entered.cast(nw.Int64).alias("entered"), (entered & converted).cast(nw.Int64).alias("converted")
    )
    sums = collected(told.group_by(by).agg(nw.col("entered").sum(), nw.col("converted").sum()))
    share = pl.when(pl.col("entered") > 0).then(pl.col("converted") / pl.col("entered"))
    return sums.with_columns(share=share).sort(*by, nulls_last=True)


@dataclass(frozen=True)
class _Plan:
    """What the passes over the rows need to know of a funnel.

    Attributes:
        funnel: The funnel.
        keys: Whose events are looked at together.
        has_bucket: Whether rows carry ``bucket``.
        groups: Numbers of the steps that an event can match together; a step that shares no event is alone.
        shares: Whether instants are looked at, not events: any event can have more than one step, or be a step and an
            exclusion, or an instant is for one step.
    """

    funnel: Funnel
    keys: tuple[str, ...]
    has_bucket: bool
    groups: tuple[tuple[int, ...], ...]
    shares: bool

    @classmethod
    def of(cls, funnel: Funnel, keys: tuple[str, ...], *, has_bucket: bool) -> _Plan:
        groups = tuple(_sharing(funnel.steps))
        shares = (
            funnel.same_instant == "one_step"
            or any(len(group) > 1 for group in groups)
            or any(exclusion.may_share_events_with(step) for exclusion in funnel.exclusions for step in funnel.steps)
        )
        return cls(funnel, keys, has_bucket, groups, shares)

    @property
    def count(self) -> int:
        return len(self.funnel.steps)

    @property
    def window(self) -> int:
        return self.funnel.window // _US

    @property
    def required(self) -> list[int]:
        """Numbers of the required steps."""
        return [k for k, step in enumerate(self.funnel.steps, 1) if not step.optional]

    @property
    def kept(self) -> list[str]:
        """What attempts keep of the row that they begin at."""
        return [*self.keys, *(["bucket"] if self.has_bucket else [])]

    @property
    def followed(self) -> Mapping[str, int]:
        """Columns of what is looked for from a required step on, optional steps and exclusions, and that step's place.

        The place counts required steps, from 1.
        """
        places = {k: place for place, k in enumerate(self.required, 1)}
        optional = [k for k in range(1, self.count + 1) if k not in places]
        before = {f"s{k}": max(place for r, place in places.items() if r < k) for k in optional}
        return before | {f"x{j}": places[e.after] for j, e in enumerate(self.funnel.exclusions, 1)}

    def subsets(self) -> Iterator[tuple[int, ...]]:
        """The sets of steps that could want the same events."""
        for group in self.groups:
            for size in range(1, len(group) + 1):
                yield from combinations(group, size)


def _sharing(steps: Sequence[EventPredicate]) -> list[tuple[int, ...]]:
    """Numbers of steps, in groups: an event can match two of the same group only."""
    groups: list[set[int]] = []
    for k, step in enumerate(steps, 1):
        joined = [g for g in groups if any(step.may_share_events_with(steps[other - 1]) for other in g)]
        groups = [g for g in groups if g not in joined] + [{k}.union(*joined)]
    return [tuple(sorted(group)) for group in groups]


def _broken_down(rows: Frame, funnel: Funnel, breakdown: Breakdown, actor: str) -> Frame:
    """Rows with the value, or once for each value, that their actor's funnel is told by."""
    columns = funnel.breakdown_columns
    rows = with_properties(rows, breakdown.properties)
    if breakdown.attribution == "all":
        return rows
    is_step = nw.any_horizontal(*(nw.col(f"s{k}") for k in range(1, len(funnel.steps) + 1)), ignore_nulls=True)
    if breakdown.attribution == "step":
        at_step = f"s{breakdown.step}"
        took = {column: f"{column}_taken" for column in columns}
        values = rows.filter(nw.col(at_step)).select(actor, *(nw.col(c).alias(t) for c, t in took.items())).unique()
        same = [
            (nw.col(c) == nw.col(t)).fill_null(value=False) | (nw.col(c).is_null() & nw.col(t).is_null())
            for c, t in took.items()
        ]
        how: Literal["inner", "left"] = "left" if breakdown.without_step == "null" else "inner"
        joined = rows.join(values, on=actor, how=how).with_columns(
            nw.all_horizontal(nw.col(at_step), *same, ignore_nulls=True).alias(at_step)
        )
        return joined.drop(columns).rename({t: c for c, t in took.items()})
    sign = 1 if breakdown.attribution == "first" else -1
    has_value = nw.any_horizontal(*(~nw.col(column).is_null() for column in columns), ignore_nulls=True)
    values = (
        rows.filter(is_step, has_value)
        .with_columns((nw.col("at") * sign).alias("turn"))
        .unique([actor], keep="first", order_by=["turn", *columns])
        .select(actor, *columns)
    )
    return rows.drop(columns).join(values, on=actor, how="left")


def _limited(tried: Frame, values: Sequence[str], limit: int, by: Sequence[str], actor: str) -> Frame:
    """Attempts with the values beyond the limit as one; all over windows, so that nothing is computed twice."""
    of_value = [*by, _VALUE]
    clean = nw.col("excluded_at").is_null()
    ranked = tried.with_columns(
        as_one_text([nw.col(column) for column in values]).alias(_VALUE),
        nw.when(clean).then(nw.lit(0)).otherwise(nw.lit(1)).alias(_TURN),
    )
    turn = nw.col(_TURN).cum_count().over(actor, *of_value, order_by=[_TURN, "step_1_at"])
    ranked = ranked.with_columns((clean & (turn == 1)).cast(nw.Int64).alias(_SIZE))
    ranked = ranked.with_columns((nw.col(_SIZE).sum().over(*of_value) * -1).alias(_SIZE))
    # A value's place is the number of values that begin up to it.
    ranked = ranked.with_columns(nw.col(_SIZE).cum_count().over(*of_value, order_by="step_1_at").alias(_TURN))
    ranked = ranked.with_columns((nw.col(_TURN) == 1).cast(nw.Int64).alias(_BEGINS))
    ranked = ranked.with_columns(nw.col(_BEGINS).cum_sum().over(*by, order_by=[_SIZE, _VALUE, _TURN]).alias(_PLACE))
    is_beyond = nw.col(_PLACE) > limit
    told = [nw.when(is_beyond).then(nw.lit(OTHER)).otherwise(nw.col(column)).alias(column) for column in values]
    return ranked.with_columns(*told).drop([_VALUE, _TURN, _SIZE, _BEGINS, _PLACE])


def _instants(rows: Frame, plan: _Plan) -> Frame:
    """One row for each actor and instant: ``total`` events, and how many match each set of steps."""
    steps = range(1, plan.count + 1)
    found = {
        _matching(subset): nw.any_horizontal(*(nw.col(f"s{k}") for k in subset), ignore_nulls=True)
        for subset in plan.subsets()
    }
    counted = rows.with_columns(expr.cast(nw.Int64).alias(name) for name, expr in found.items())
    flags = [f"s{k}" for k in steps] + [f"x{j}" for j in range(1, len(plan.funnel.exclusions) + 1)]
    return counted.group_by(*plan.kept, "at").agg(
        nw.len().cast(nw.Int64).alias("total"),
        *(nw.col(name).sum() for name in found),
        *(nw.col(name).max() for name in flags),
    )


def _in_order(rows: Frame, plan: _Plan, *, of_instants: bool) -> InOrder:
    return InOrder.of(rows, plan.keys, ("at",) if of_instants else ("at", "step"))


def _matching(subset: Sequence[int]) -> str:
    return "n_" + "_".join(map(str, subset))


def _fills(plan: _Plan, steps: Sequence[int], begun: int, done: int) -> nw.Expr:
    """Whether an instant's events fill the steps at the places after ``begun`` up to ``done``, one each (Hall)."""
    wanted = set(steps[begun:done])
    enough = [nw.col(_matching(s)) >= len(s) for s in plan.subsets() if wanted.issuperset(s)]
    return nw.all_horizontal(*enough, ignore_nulls=True)


def _next(rows: InOrder, columns: Sequence[str], *, later: bool) -> InOrder:
    """Columns, each with its first value from this row on; with ``later``, behind this row."""
    same = {name: name for name in columns}
    rows = rows.coming(**same)
    return rows.behind(**same) if later else rows


def _followed(rows: InOrder, plan: _Plan, *, later: bool) -> InOrder:
    """Add, for optional steps and exclusions, when the next one is: ``next_<column>``."""
    columns = list(plan.followed)
    if not columns:
        return rows
    rows = rows.with_columns(*(nw.when(nw.col(c)).then(nw.col("at")).alias(f"next_{c}") for c in columns))
    return _next(rows, [f"next_{c}" for c in columns], later=later)


def _chain(plan: _Plan, begun: int, done: int) -> dict[str, nw.Expr]:
    """What an attempt gets that takes the required steps after place ``begun`` up to ``done`` at this row."""
    told: dict[str, nw.Expr] = {}
    for place in range(begun + 1, len(plan.required) + 1):
        name = f"t{place}"
        told[name] = nw.col("at") if place <= done else nw.col(_ahead(done, name))
    for name, place in plan.followed.items():
        if place > begun:
            told[name] = nw.col(f"next_{name}") if place <= done else nw.col(_ahead(done, name))
    return told


def _ahead(place: int, name: str) -> str:
    """The column of what an attempt gets behind a row, if it has the required steps up to a place."""
    return f"ahead_{place}_{name}"


def _ordered(given: Frame, plan: _Plan) -> Frame:
    """Attempts in order: ``t1`` … of the required steps, and what is followed."""
    required, last = plan.required, len(plan.required)
    stepped = _instants(given, plan) if plan.shares else given.with_columns(_only_step(plan).alias("step"))
    rows = _followed(_in_order(stepped, plan, of_instants=plan.shares), plan, later=plan.shares)
    for begun in range(last - 1, -1, -1):
        takes_many = plan.shares and plan.funnel.same_instant == "many_steps"
        ends = range(last, begun, -1) if takes_many else (begun + 1,)
        own: dict[str, nw.Expr] = {}
        for done in reversed(ends):
            can = _fills(plan, required, begun, done) if plan.shares else nw.col("step") == required[begun]
            for name, value in _chain(plan, begun, done).items():
                # The furthest end is asked for last, so it is the outermost: nothing less is taken where it can be had.
                own[name] = nw.when(can).then(value).otherwise(own.get(name, nw.lit(None, nw.Int64)))
        ahead = {name: _ahead(begun, name) for name in own}
        rows = rows.with_columns(*(value.alias(ahead[name]) for name, value in own.items()))
        if begun > 0:
            rows = _next(rows, list(ahead.values()), later=plan.shares)
    return rows.rows.filter(~nw.col(_ahead(0, "t1")).is_null()).select(
        *plan.kept, *(nw.col(_ahead(0, name)).alias(name) for name in own)
    )


def _only_step(plan: _Plan) -> nw.Expr:
    """The number of the one step that a row has, 0 where it has none: exclusions come first within an instant."""
    step: nw.Expr = nw.lit(0)
    for k in range(1, plan.count + 1):
        step = nw.when(nw.col(f"s{k}")).then(nw.lit(k)).otherwise(step)
    return step


def _strict(given: Frame, plan: _Plan) -> Frame:
    """Attempts in which no event comes between: ``t1`` … and what is followed.

    What an instant has beyond the steps may come before the first step or after the last that is reached, within the
    instant; one that lies in between must be used up by steps.
    """
    steps, last = plan.required, plan.count
    rows = _followed(_in_order(_instants(given, plan), plan, of_instants=True), plan, later=True)
    for begun in range(last - 1, 0, -1):
        own: dict[str, nw.Expr] = {}
        for done in range(begun + 1, last + 1):
            goes_on = nw.col("total") == done - begun
            fills = _fills(plan, steps, begun, done)
            for name, value in _chain(plan, begun, done).items():
                place = plan.followed.get(name) or int(name[1:])
                found = value if place <= done else nw.when(goes_on).then(value).otherwise(nw.lit(None, nw.Int64))
                own[name] = nw.when(fills).then(found).otherwise(own.get(name, nw.lit(None, nw.Int64)))
        ahead = {name: _ahead(begun, name) for name in own}
        rows = rows.with_columns(*(value.alias(ahead[name]) for name, value in own.items()))
        rows = rows.behind(**{name: name for name in ahead.values()})
    begun_with = [
        rows.rows.filter(_fills(plan, steps, 0, done)).select(
            *plan.kept, *(value.alias(name) for name, value in _chain(plan, 0, done).items())
        )
        for done in range(1, last + 1)
    ]
    return nw.concat(begun_with)


def _furthest_of_instants(tried: Frame, plan: _Plan) -> Frame:
    """Of the ways to take an instant's events that strict attempts begin with, the one that gets furthest.

    Another way of the same attempt must not have it dropped by what lies after that way's end.
    """
    steps = [f"step_{k}_at" for k in range(1, plan.count + 1)]
    ranked = tried.with_columns((nw.col("reached") * -1).alias(_TURN))
    return ranked.unique([*plan.kept, "step_1_at"], keep="first", order_by=[_TURN, *steps]).drop(_TURN)


def _unordered(given: Frame, plan: _Plan) -> Frame:
    """Windows that begin at an event: ``t1`` … are when one, two … steps have been matched one-to-one."""
    if plan.shares:
        stepped = _instants(given, plan)
    else:
        own = _only_step(plan)
        stepped = given.with_columns(own.alias("step")).with_columns(
            *((nw.col("step") == k).cast(nw.Int64).alias(_matching((k,))) for k in range(1, plan.count + 1))
        )
    rows = _followed(_in_order(stepped, plan, of_instants=plan.shares), plan, later=plan.shares)
    times: list[str] = []
    for group in plan.groups:
        rows = _matched_at(rows, group, plan)
        times += [f"matched_{group[0]}_{size}" for size in range(1, len(group) + 1)]
    is_begun = _least([nw.col(time) for time in times]) == nw.col("at")
    begun = rows.rows.filter(is_begun if plan.shares else is_begun & (nw.col("step") > 0))
    return _sorted(begun, times, [f"t{k}" for k in range(1, plan.count + 1)]).select(
        *plan.kept, *(f"t{k}" for k in range(1, plan.count + 1)), *(nw.col(f"next_{x}").alias(x) for x in plan.followed)
    )


def _matched_at(rows: InOrder, group: Sequence[int], plan: _Plan) -> InOrder:
    """Add when 1, 2, … steps of a group are matched by events from this row on: ``matched_<first step>_<size>``.

    By Hall's theorem (with deficiency), *k* of *n* steps are matched as soon as every set of *s* steps has met
    *k* - *n* + *s* events of its own.
    """
    subsets = [subset for subset in plan.subsets() if set(subset) <= set(group)]
    for most in range(1, len(group) + 1):  # the time of the first event of each set, of the second, …
        wanted = [subset for subset in subsets if len(subset) >= most]
        own = {}
        for subset in wanted:
            met = nw.col(_matching(subset))
            value: nw.Expr = nw.when(met >= most).then(nw.col("at"))
            for fewer in range(1, most):
                behind = nw.col(f"{_nth(subset, most - fewer)}_behind")
                value = nw.when(met == fewer).then(behind).otherwise(value)
            own[_nth(subset, most)] = value
        rows = rows.with_columns(*(value.alias(name) for name, value in own.items()))
        rows = rows.coming(**{name: name for name in own})
        if most < len(group):
            rows = rows.behind(**{f"{name}_behind": name for name in own})
    count = len(group)
    reached = {
        size: [nw.col(_nth(s, size - count + len(s))).fill_null(_NEVER) for s in subsets if size - count + len(s) >= 1]
        for size in range(1, count + 1)
    }
    return rows.with_columns(*(_greatest(ts).alias(f"matched_{group[0]}_{size}") for size, ts in reached.items()))


def _least(values: Sequence[nw.Expr]) -> nw.Expr:
    # Spark has no least of one.
    return values[0] if len(values) == 1 else nw.min_horizontal(*values)


def _greatest(values: Sequence[nw.Expr]) -> nw.Expr:
    return values[0] if len(values) == 1 else nw.max_horizontal(*values)


def _nth(subset: Sequence[int], number: int) -> str:
    return f"met_{number}_{'_'.join(map(str, subset))}"


def _sorted(rows: Frame, columns: Sequence[str], names: Sequence[str]) -> Frame:
    """Add the values of some columns, from the least to the greatest (odd-even transposition)."""
    rows = rows.with_columns(nw.col(column).alias(name) for column, name in zip(columns, names, strict=True))
    for turn in range(len(names)):
        pairs = [(names[i], names[i + 1]) for i in range(turn % 2, len(names) - 1, 2)]
        swapped = [
            expr
            for low, high in pairs
            for expr in (nw.min_horizontal(low, high).alias(low), nw.max_horizontal(low, high).alias(high))
        ]
        rows = rows.with_columns(*swapped) if swapped else rows
    return rows


def _within_window(begun: Frame, plan: _Plan) -> Frame:
    """What lies within the window of each attempt, by the names that results have."""
    places = {k: place for place, k in enumerate(plan.required, 1)}
    limit = nw.col("t1") + plan.window
    inside = {k: nw.when(nw.col(f"t{place}") <= limit).then(nw.col(f"t{place}")) for k, place in places.items()}
    rows = begun.with_columns(value.alias(f"step_{k}_at") for k, value in inside.items())
    optional = {}
    for k in (k for k in range(1, plan.count + 1) if k not in places):
        before, behind = max(r for r in places if r < k), min((r for r in places if r > k), default=None)
        at = nw.col(f"s{k}")
        fits = (at <= limit) & ~nw.col(f"step_{before}_at").is_null()
        if behind is not None:
            bound = nw.col(f"step_{behind}_at").fill_null(_NEVER)
            fits &= at < bound if plan.shares else at <= bound
        optional[k] = nw.when(fits).then(at)
    if optional:
        rows = rows.with_columns(value.alias(f"step_{k}_at") for k, value in optional.items())
    dropped = []
    for j, exclusion in enumerate(plan.funnel.exclusions, 1):
        at, until = nw.col(f"x{j}"), nw.col(f"step_{exclusion.before}_at").fill_null(_NEVER)
        reached = ~nw.col(f"step_{exclusion.after}_at").is_null()
        dropped.append(nw.when(reached & (at < until) & (at <= limit)).then(at))
    excluded = _least(dropped) if dropped else nw.lit(None, nw.Int64)
    reached = nw.sum_horizontal(*((~nw.col(f"step_{k}_at").is_null()).cast(nw.Int64) for k in places))
    return rows.select(
        *plan.kept,
        reached.alias("reached"),
        *(f"step_{k}_at" for k in range(1, plan.count + 1)),
        excluded.alias("excluded_at"),
    )
