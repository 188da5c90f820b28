"""ClickHouse's tests of `windowFunnel`: how far each user gets, in its modes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.engines import collected
from platform_assets.semantics.funnels import Funnel, Step, attempts, furthest
from tests.conformance.outcome import OutOfScope

FAMILY = "window_funnel"

_SCHEMA: dict[str, pl.DataType] = {
    "person_id": pl.String(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "event_name": pl.String(),
}
_ONCE = "one event that fills several steps, which it does there without strict_once: semantics 7 lets it fill one"
_REENTRY = "allow_reentry, where an event of the first step does not end a strict attempt: in semantics 7 it does"
_REPEATED = "strict_deduplication without strict_order, where a step done again ends everything: no choice of ours"
_APART = "strict_increase together with strict_order"
_AGAIN = (
    "strict_order of users who do a step again: some of its releases look at the first attempt only, or pass over a "
    "step done before; semantics 7 tries every attempt, and ends it at any event that is not the next step"
)


@dataclass(frozen=True)
class Case:
    """One test of theirs; times are in seconds."""

    name: str
    events: Sequence[Mapping[str, Any]]
    steps: Sequence[str]
    window: int
    modes: frozenset[str]
    levels: Mapping[str, int]

    def __str__(self) -> str:
        return self.name


def cases(folder: Path) -> Iterator[Case]:
    """The cases of every `*.json` in a folder."""
    for path in sorted(folder.glob("*.json")):
        for told in json.loads(path.read_text()):
            yield Case(
                name=told["case"],
                events=told["events"],
                steps=told["steps"],
                window=told["window_seconds_inclusive"],
                modes=frozenset(told["modes"]),
                levels=told["expected_level_per_user"],
            )


def run(case: Case) -> None:
    """Hold a case against our funnel.

    Of a strict one, every user is held against it but those whom semantics 7 decides otherwise for; where there are
    such, the case is out of scope once the others agree.

    Raises:
        AssertionError: A user gets further or less far than they expect.
        OutOfScope: Semantics 7 decides otherwise, or knows no such mode.
    """
    funnel = _funnel(case)
    otherwise = {user for user in case.levels if funnel.order == "strict" and _does_a_step_again(case, user)}
    rows = [(str(e["user"]), datetime.fromtimestamp(e["ts"], UTC), e["event"]) for e in case.events]
    events = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    counted = collected(furthest(attempts(events, funnel), ["person_id"]))
    found = dict(counted.select("person_id", "reached").iter_rows())
    told = {user: found.get(user, 0) for user in case.levels if user not in otherwise}
    expected = {user: level for user, level in case.levels.items() if user not in otherwise}
    assert told == expected, f"levels {told} instead of {expected}"
    if otherwise:
        raise OutOfScope(_AGAIN)


def _funnel(case: Case) -> Funnel:
    unknown = case.modes - {"strict_order", "strict_deduplication", "strict_increase", "strict_once", "allow_reentry"}
    if unknown:
        msg = f"the mode {min(unknown)}"
        raise OutOfScope(msg)
    is_strict, is_apart = "strict_order" in case.modes, "strict_increase" in case.modes
    if "allow_reentry" in case.modes:
        raise OutOfScope(_REENTRY)
    if "strict_deduplication" in case.modes and not is_strict:
        raise OutOfScope(_REPEATED)
    if is_strict and is_apart:
        raise OutOfScope(_APART)
    # Where times must increase, one event cannot fill two steps there either.
    if len(set(case.steps)) < len(case.steps) and not case.modes & {"strict_once", "strict_increase"}:
        raise OutOfScope(_ONCE)
    mode = "_strict_order" if is_strict else "_strict_increase" if is_apart else ""
    steps = tuple(Step(event=name) for name in case.steps)
    return said_in(f"clickhouse{mode}", Funnel, steps=steps, window=timedelta(seconds=case.window))


def _does_a_step_again(case: Case, user: str) -> bool:
    """Whether a user begins again after something else, or, where it is no matter there, does a later step twice."""
    told = sorted((e["ts"], e["event"]) for e in case.events if str(e["user"]) == user)
    names = [name for _, name in told]
    first = case.steps[0]
    if first not in names:
        return False
    since = names[names.index(first) :]
    begins_again = any(name == first and before != first for before, name in pairwise(since))
    later = [name for name in since if name in case.steps and name != first]
    return begins_again or ("strict_deduplication" not in case.modes and len(set(later)) < len(later))
