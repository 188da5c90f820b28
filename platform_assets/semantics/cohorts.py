"""Cohorts: saved sets of persons, by what they did and by what they are, as of a day.

A cohort is data (Python or YAML), and its members are a function of the events, the persons and the day::

    name: loyal and quiet
    of:
      all:
        - {did: {event: order_completed}, at_least: 3, days: 90}
        - {none: [{did: {event: page_viewed}, days: 14}]}
        - {property: country, value: [DE, AT]}
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import narwhals as nw
from pydantic import Field, model_validator

from platform_assets.semantics.calendar import bucket_of, with_buckets
from platform_assets.semantics.engines import Frame, lazy, with_microseconds, with_properties
from platform_assets.semantics.matching import holds, with_matches
from platform_assets.semantics.specification import Duration, EventPredicate, Filter, Specification

_DAY = "cohort_day"
"""The number of the day of an event: under a name that events' own columns leave free."""

_NEVER = -(2**62)
"""Before every instant, in microseconds."""


class Did(Specification):
    """Did something so many times within the last days.

    Attributes:
        did: What; each event that it matches is one time.
        at_least: The fewest times; 1 where no number is said.
        at_most: The most times. Of nothing but `at_most` (or `exactly` 0), whoever never did it is a member, too.
        exactly: The number of times; alone.
        days: The length of the window: so many days of the reporting timezone, the last of which is the day that the
            members are asked for (as for DAU, WAU and MAU, semantics 5). All history where it is left out.
    """

    did: EventPredicate
    at_least: int | None = Field(default=None, ge=1)
    at_most: int | None = Field(default=None, ge=0)
    exactly: int | None = Field(default=None, ge=0)
    days: int | None = Field(default=None, ge=1)

    @property
    def times(self) -> tuple[int, int | None]:
        """The fewest and the most times; None where there is no most."""
        if self.exactly is not None:
            return self.exactly, self.exactly
        if self.at_least is None and self.at_most is None:
            return 1, None
        return self.at_least or 0, self.at_most

    @model_validator(mode="after")
    def _asks_for_possible_times(self) -> Did:
        if self.exactly is not None and (self.at_least is not None or self.at_most is not None):
            msg = f"exactly {self.exactly} stands alone: leave at_least and at_most out"
            raise ValueError(msg)
        fewest, most = self.times
        if most is not None and fewest > most:
            msg = f"at_least {fewest} is more than at_most {most}: nobody can be a member"
            raise ValueError(msg)
        return self


class FirstDid(Specification):
    """Did something for the first time ever within the last days.

    Attributes:
        first_did: What.
        days: The length of the window, as for `Did`.
    """

    first_did: EventPredicate
    days: int = Field(ge=1)


class DidInSequence(Specification):
    """Did some things one after the other within the last days, others in between allowed.

    Attributes:
        sequence: What, in order. Each comes at a later instant than the one before (a choice: unlike a funnel's steps,
            semantics 7, those of one instant are in no order).
        within: How long after the first of them the last may be, inclusive; any time where it is left out.
        days: The length of the window, as for `Did`, in which all of them lie. All history where it is left out.
    """

    sequence: tuple[EventPredicate, ...] = Field(min_length=2)
    within: Duration | None = None
    days: int | None = Field(default=None, ge=1)


class InAll(Specification):
    """Members of every one of some sets."""

    all: tuple[Members, ...] = Field(min_length=1)


class InAny(Specification):
    """Members of at least one of some sets."""

    any: tuple[Members, ...] = Field(min_length=1)


class InNone(Specification):
    """Members of none of some sets: with one, all who are not in it."""

    none: tuple[Members, ...] = Field(min_length=1)


_Behaviour: TypeAlias = Did | FirstDid | DidInSequence
Members: TypeAlias = Did | FirstDid | DidInSequence | Filter | InAll | InAny | InNone
for _model in (InAll, InAny, InNone):
    _model.model_rebuild()


class Cohort(Specification):
    """A saved set of persons.

    Attributes:
        name: What it is called.
        of: Who is in it; a `Filter` looks at the columns of the persons, or at keys of a column of JSON texts.
        description: What it is for.
    """

    name: str = Field(min_length=1)
    of: Members
    description: str = ""


def members(
    events: Any, persons: Any, cohort: Cohort, as_of: date, zone: ZoneInfo, *, actor: str = "person_id"
) -> Frame:
    """Who is in a cohort at the end of a day.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the cohort's predicates name. Those after the
            day are not looked at, so that the answer for a day that is over does not change by what came later.
            `FirstDid`, and what has no `days`, needs all history.
        persons: The actor, once each, and what the cohort's filters name (as of that day, where they change): everybody
            there is. Who is not among them is no member, whatever they did.
        cohort: The cohort.
        as_of: The last day of every window, in the reporting timezone.
        zone: The reporting timezone.
        actor: Of whom the set is.

    Returns:
        The actor, once each.

    Raises:
        ValueError: The events or the persons lack a column that the cohort names.
    """
    leaves = list(_leaves(cohort.of))
    acts = [leaf for leaf in leaves if not isinstance(leaf, Filter)]
    known = with_properties(lazy(persons), (leaf.property for leaf in leaves if isinstance(leaf, Filter)))
    if acts:
        told = _told(events, acts, as_of, zone, actor)
        if not all(isinstance(act, DidInSequence) for act in acts):
            known = known.join(_times(told, acts, as_of, actor), on=actor, how="left")
        for i, act in enumerate(acts):
            if isinstance(act, DidInSequence):
                known = known.join(_in_sequence(told, act, i, as_of, actor), on=actor, how="left")
    return known.filter(_is_member(cohort.of, iter(range(len(acts))))).select(actor)


def _leaves(of: Members) -> Iterator[_Behaviour | Filter]:
    """What is no combination, from left to right."""
    if isinstance(of, InAll | InAny | InNone):
        for part in _parts(of):
            yield from _leaves(part)
    else:
        yield of


def _parts(of: InAll | InAny | InNone) -> tuple[Members, ...]:
    if isinstance(of, InAll):
        return of.all
    return of.any if isinstance(of, InAny) else of.none


def _is_member(of: Members, numbers: Iterator[int]) -> nw.Expr:
    """Whether a person is in a set; `numbers` are those of the behaviours, from left to right as in `_leaves`."""
    if isinstance(of, InAll | InAny | InNone):
        combine = nw.all_horizontal if isinstance(of, InAll) else nw.any_horizontal
        found = combine(*(_is_member(part, numbers) for part in _parts(of)), ignore_nulls=True)
        return ~found if isinstance(of, InNone) else found
    if isinstance(of, Filter):
        return holds(of)
    # Who did nothing at all has no row, and did everything zero times.
    value = nw.col(f"behaviour_{next(numbers)}").fill_null(0)
    fewest, most = of.times if isinstance(of, Did) else (1, None)
    return value >= fewest if most is None else value.is_between(fewest, most)


def _told(events: Any, acts: list[_Behaviour], as_of: date, zone: ZoneInfo, actor: str) -> Frame:
    """The events up to a day that any behaviour asks for: the actor, their day and time, what they match."""
    named = {f"is_{i}_{j}": p for i, act in enumerate(acts) for j, p in enumerate(_predicates(act))}
    # What came after the day goes first, or it could be somebody's first ever.
    dated = with_buckets(lazy(events), "day", zone, name=_DAY)
    dated = dated.filter(nw.col(_DAY) <= bucket_of(as_of, "day"), ~nw.col(actor).is_null())
    told = with_matches(dated, named.items(), actor)
    told = told.filter(nw.any_horizontal(*(nw.col(name) for name in named), ignore_nulls=True))
    return with_microseconds(told.select(actor, "occurred_at", _DAY, *named))


def _times(told: Frame, acts: list[_Behaviour], as_of: date, actor: str) -> Frame:
    """How often each person did what stands alone, not in sequence: the actor, ``behaviour_<number>``.

    Of what must be the first ever, it is 1 or 0.
    """
    counted: dict[str, nw.Expr] = {}
    firsts: dict[str, nw.Expr] = {}
    for i, act in enumerate(acts):
        did, name = nw.col(f"is_{i}_0"), f"behaviour_{i}"
        since = nw.lit(value=True) if act.days is None else nw.col(_DAY) >= _first_day(act.days, as_of)
        if isinstance(act, Did):
            counted[name] = (did & since).cast(nw.Int64)
        elif isinstance(act, FirstDid):
            counted[name] = nw.when(did).then(nw.col(_DAY))
            is_within = (nw.col(name) >= _first_day(act.days, as_of)).fill_null(value=False)
            firsts[name] = is_within.cast(nw.Int64)
    combined = (nw.col(name).min() if name in firsts else nw.col(name).sum() for name in counted)
    found = told.with_columns(**counted).group_by(actor).agg(*combined)
    return found.with_columns(**firsts) if firsts else found


def _in_sequence(told: Frame, act: DidInSequence, i: int, as_of: date, actor: str) -> Frame:
    """Who did some things one after the other: the actor, ``behaviour_<i>`` (1)."""
    steps = [f"is_{i}_{j}" for j in range(len(act.sequence))]
    if act.days is not None:
        told = told.filter(nw.col(_DAY) >= _first_day(act.days, as_of))
    told = told.with_columns(nw.col(step).cast(nw.Int64) for step in steps)
    # A row per instant, so that what is before a row is at an earlier one.
    told = told.group_by(actor, "at").agg(nw.col(step).max() for step in steps)
    # Of the chains that a row can end, the one that began last: none ends sooner after its beginning.
    began = nw.when(nw.col(steps[0]) == 1).then(nw.col("at")).otherwise(nw.lit(_NEVER, nw.Int64))
    told = told.with_columns(began.alias("began"))
    for step in steps[1:]:
        told = told.with_columns(nw.col("began").cum_max().over(actor, order_by=["at"]).alias("latest"))
        told = told.with_columns(nw.col("latest").shift(1).over(actor, order_by=["at"]).alias("before"))
        can_follow = (nw.col(step) == 1) & ~nw.col("before").is_null()
        ends = nw.when(can_follow).then(nw.col("before")).otherwise(nw.lit(_NEVER, nw.Int64))
        told = told.with_columns(ends.alias("began"))
    told = told.filter(nw.col("began") > _NEVER)
    if act.within is not None:
        told = told.filter(nw.col("at") - nw.col("began") <= act.within // timedelta(microseconds=1))
    return told.select(actor).unique().with_columns(nw.lit(1, nw.Int64).alias(f"behaviour_{i}"))


def _predicates(act: _Behaviour) -> tuple[EventPredicate, ...]:
    if isinstance(act, Did):
        return (act.did,)
    return (act.first_did,) if isinstance(act, FirstDid) else act.sequence


def _first_day(days: int, as_of: date) -> int:
    """The number of the first of so many days that end with one."""
    return bucket_of(as_of, "day") - days + 1
