"""PostHog's insight tests: trends, funnels, retention, lifecycle, stickiness."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.insights.asserts import check, contradictions
from tests.conformance.insights.world import Query, Step, World
from tests.conformance.outcome import OutOfScope

FAMILY = "product_insights"

_TRANSLATORS = {
    "TrendsQueryRunner": "trends",
    "FunnelsQueryRunner": "funnels",
    "FunnelActors": "funnels",
    "FunnelTrendsActors": "funnels",
    "RetentionQueryRunner": "retention",
    "ActorsQueryRunner": "retention",
    "LifecycleQueryRunner": "lifecycle",
    "StickinessQueryRunner": "stickiness",
}


@dataclass(frozen=True)
class Case:
    """One test of theirs: what is told, asked and expected, in order."""

    suite: str
    name: str
    complete: bool
    steps: Sequence[Step]

    def __str__(self) -> str:
        return f"{self.suite}:{self.name}"


def cases(folder: Path) -> Iterator[Case]:
    """The cases of every suite in a folder of `*.jsonl`."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as lines:
            for line in lines:
                told = json.loads(line)
                yield Case(told["suite"], told["case"], told["complete"], told["steps"])


def run(case: Case) -> None:
    """Play a case.

    Raises:
        AssertionError: An answer is not what they expect.
        OutOfScope: The case asks for no number of ours, by the rule that the message says.
    """
    if not case.complete:
        msg = "cases that were cut short when they were written down"
        raise OutOfScope(msg)
    if contradictions(case.steps):
        msg = "cases that ask the same twice and expect two answers: what differs was not written down"
        raise OutOfScope(msg)
    # A setting of the project that the steps do not tell; the case's name does.
    world = World(actor="distinct_id") if "aggregate_by_distinct_id" in case.name else World()
    answers: dict[int, Any] = {}
    for step in case.steps:
        if step["op"] == "query":
            query = Query.of(step)
            _in_scope(query)
            answers[query.n] = _answer(query.runner)(world, query)
        elif step["op"] == "assert":
            check(step, answers)
        else:
            world.play(step)


def _in_scope(query: Query) -> None:
    factor = (query.legacy or {}).get("sampling_factor", query.body.get("samplingFactor"))
    if factor not in (None, 1):
        msg = "samples of the persons"
        raise OutOfScope(msg)


def _answer(runner: str) -> Callable[[World, Query], Any]:
    if runner not in _TRANSLATORS:
        msg = f"queries of {runner}"
        raise OutOfScope(msg)
    name = f"tests.conformance.insights.{_TRANSLATORS[runner]}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        msg = f"{_TRANSLATORS[runner]} are not translated yet"
        raise OutOfScope(msg) from None
    answer: Callable[[World, Query], Any] = module.answer
    return answer
