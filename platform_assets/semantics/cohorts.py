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

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias, TypeGuard
from zoneinfo import ZoneInfo

import narwhals as nw
from pydantic import Field, model_validator

from platform_assets.semantics.calendar import bucket_of, start_of, with_buckets
from platform_assets.semantics.engines import Frame, lazy, with_properties
from platform_assets.semantics.funnels import Funnel, Step, attempts
from platform_assets.semantics.matching import holds, matches, with_matches
from platform_assets.semantics.specification import Duration, EventPredicate, Filter, Specification

_DAY = "cohort_day"
"""The number of the day of an event: under a name that events' own columns leave free."""

_ANY_TIME = timedelta(days=200 * 366)
"""Longer than any history."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """Did some things one after the other within the last days: went through them as through an ordered funnel.

    Attributes:
        sequence: What, in order, others in between allowed. Things done at one instant may be taken in either order,
            and one event is never two of them (semantics 7).
        within: How long after the first of them the last may be, inclusive; any time where it is left out.
        days: The length of the window, as for `Did`, in which all of them lie. All history where it is left out.
    """

    sequence: tuple[EventPredicate, ...] = Field(min_length=2)
    within: Duration | None = None
    days: int | None = Field(default=None, ge=1)

    @property
    def funnel(self) -> Funnel:
        """The funnel that those who did it went through."""
        steps = tuple(Step.model_validate(dict(predicate)) for predicate in self.sequence)
        return Funnel(steps=steps, window=_ANY_TIME if self.within is None else self.within)

    @model_validator(mode="after")
    def _is_a_funnel(self) -> DidInSequence:
        self.funnel  # noqa: B018 (what is wrong with the funnel is wrong with the sequence)
        return self


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
    events: Any,
    persons: Any,
    cohort: Cohort,
    as_of: date,
    zone: ZoneInfo,
    *,
    firsts: Any = None,
    actor: str = "person_id",
) -> Frame:
    """Who is in a cohort at the end of a day.

    Args:
        events: The actor, ``occurred_at`` (UTC), ``event_name``, and what the cohort's predicates name. Those after the
            day are not looked at, so that the answer for a day that is over does not change by what came later.
            `FirstDid`, and what has no `days`, needs all history, unless firsts tell it.
        persons: The actor, once each, and what the cohort's filters name (as of that day, where they change): everybody
            there is. Who is not among them is no member, whatever they did.
        cohort: The cohort.
        as_of: The last day of every window, in the reporting timezone.
        zone: The reporting timezone.
        firsts: The actor, ``event_name``, ``first_at`` (UTC), once each pair: when they did something for the first
            time ever, where the lake keeps it. What it can tell (`told_by_firsts`) is not looked for in the events.
        actor: Of whom the set is.

    Returns:
        The actor, once each.

    Raises:
        ValueError: The events, the firsts or the persons lack a column that the cohort names.
    """
    parts = list(leaves(cohort))
    acts = [leaf for leaf in parts if not isinstance(leaf, Filter)]
    known = with_properties(lazy(persons), (leaf.property for leaf in parts if isinstance(leaf, Filter)))
    known_first = {i: act for i, act in enumerate(acts) if firsts is not None and told_by_firsts(act)}
    if known_first:
        known = known.join(_of_firsts(firsts, known_first, as_of, zone, actor), on=actor, how="left")
    if len(known_first) < len(acts):
        dated = _dated(events, as_of, zone, actor)
        alone = {i: act for i, act in enumerate(acts) if i not in known_first and not isinstance(act, DidInSequence)}
        if alone:
            known = known.join(_times(dated, alone, as_of, actor), on=actor, how="left")
        for i, act in enumerate(acts):
            if isinstance(act, DidInSequence):
                known = known.join(_in_sequence(dated, act, i, as_of, zone, actor), on=actor, how="left")
    return known.filter(_is_member(cohort.of, iter(range(len(acts))))).select(actor)


def told_by_firsts(act: Did | FirstDid | DidInSequence) -> TypeGuard[Did | FirstDid]:
    """Whether somebody's first event of each name tells if they are in a set.

    It does where only names are asked for: of what was done for the first time, and of what was ever done, or never.
    """
    if isinstance(act, DidInSequence):
        return False
    predicate = act.did if isinstance(act, Did) else act.first_did
    if predicate.first_ever or not _asks_for_names_only(predicate):
        return False
    return isinstance(act, FirstDid) or (act.days is None and act.times in ((1, None), (0, 0)))


def _asks_for_names_only(predicate: EventPredicate) -> bool:
    if predicate.where or (predicate.event is not None and predicate.any_of):
        return False
    return all(_asks_for_names_only(part) for part in predicate.any_of)


def leaves(cohort: Cohort) -> Iterator[Did | FirstDid | DidInSequence | Filter]:
    """What a cohort asks for, without how it is combined, from left to right."""
    return _leaves(cohort.of)


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


def _dated(events: Any, as_of: date, zone: ZoneInfo, actor: str) -> Frame:
    """The events up to a day, with the number of theirs: what came later could be somebody's first ever."""
    dated = with_buckets(lazy(events), "day", zone, name=_DAY)
    return dated.filter(nw.col(_DAY) <= bucket_of(as_of, "day"), ~nw.col(actor).is_null())


def _times(dated: Frame, acts: Mapping[int, Did | FirstDid], as_of: date, actor: str) -> Frame:
    """How often each person did what stands alone, not in sequence: the actor, ``behaviour_<number>``.

    Of what must be the first ever, it is 1 or 0.
    """
    named = {f"is_{i}": act.did if isinstance(act, Did) else act.first_did for i, act in acts.items()}
    told = with_matches(dated, named.items(), actor)
    told = told.filter(nw.any_horizontal(*(nw.col(name) for name in named), ignore_nulls=True))
    counted: dict[str, nw.Expr] = {}
    firsts: dict[str, nw.Expr] = {}
    for i, act in acts.items():
        did, name = nw.col(f"is_{i}"), f"behaviour_{i}"
        since = nw.lit(value=True) if act.days is None else nw.col(_DAY) >= _first_day(act.days, as_of)
        if isinstance(act, Did):
            counted[name] = (did & since).cast(nw.Int64)
        else:
            counted[name] = nw.when(did).then(nw.col(_DAY))
            is_within = (nw.col(name) >= _first_day(act.days, as_of)).fill_null(value=False)
            firsts[name] = is_within.cast(nw.Int64)
    combined = (nw.col(name).min() if name in firsts else nw.col(name).sum() for name in counted)
    found = told.with_columns(**counted).group_by(actor).agg(*combined)
    return found.with_columns(**firsts) if firsts else found


def _of_firsts(firsts: Any, acts: Mapping[int, Did | FirstDid], as_of: date, zone: ZoneInfo, actor: str) -> Frame:
    """Whether each person did what stands alone, as of a day: the actor, ``behaviour_<number>`` (1 or 0)."""
    dated = with_buckets(lazy(firsts), "day", zone, instant="first_at", name=_DAY)
    counted, told = {}, {}
    for i, act in acts.items():
        predicate, name = (act.did if isinstance(act, Did) else act.first_did), f"behaviour_{i}"
        counted[name] = nw.when(matches(EventPredicate(event=predicate.events))).then(nw.col(_DAY))
        is_within = nw.col(name) <= bucket_of(as_of, "day")
        if isinstance(act, FirstDid):
            is_within &= nw.col(name) >= _first_day(act.days, as_of)
        told[name] = is_within.fill_null(value=False).cast(nw.Int64)
    first = dated.with_columns(**counted).group_by(actor).agg(*(nw.col(name).min() for name in counted))
    return first.with_columns(**told)


def _in_sequence(dated: Frame, act: DidInSequence, i: int, as_of: date, zone: ZoneInfo, actor: str) -> Frame:
    """Who did some things one after the other: the actor, ``behaviour_<i>`` (1)."""
    through = attempts(dated.drop(_DAY), act.funnel, actor=actor)
    through = through.filter(nw.col("reached") == len(act.sequence))
    if act.days is not None:
        # What comes first lies in the window, so all do: it is of all history, for a step can be a first ever.
        since = start_of(_first_day(act.days, as_of), "day").replace(tzinfo=zone)
        through = through.filter(nw.col("step_1_at") >= (since - _EPOCH) // timedelta(microseconds=1))
    return through.select(actor).unique().with_columns(nw.lit(1, nw.Int64).alias(f"behaviour_{i}"))


def _first_day(days: int, as_of: date) -> int:
    """The number of the first of so many days that end with one."""
    return bucket_of(as_of, "day") - days + 1
