"""What a case expects of an answer: references into it, and the kinds of comparison.

An answer is shaped like PostHog's: ``{"results": …}``, ``{"actor_ids": […]}`` or ``{"actors": […]}``; a list alone is
its results. Persons are their names (`person:x`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.conformance.outcome import OutOfScope

Answers = Mapping[int, Any]

COSMETIC = frozenset(
    {"action", "persons_urls", "filter", "people", "people_url", "converted_people_url", "dropped_people_url"}
)
"""Keys of a result that are links and echoes of the query, no numbers: not compared where a whole result is."""

_CALL = re.compile(r"(\w+)\(")
_PART = re.compile(r"\[\*\]|\[(-?\d*):(-?\d*)\]|\[(-?\d+)\]|\[\"([^\"]*)\"\]|\.replace\(\)|\.?(\w+)")
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "len": len,
    "sum": sum,
    "sorted": lambda found: sorted(found, key=_by),
}


@dataclass(frozen=True)
class Many:
    """The values that a ``[*]`` maps over."""

    values: tuple[Any, ...]


def check(step: Mapping[str, Any], answers: Answers) -> None:
    """Hold an assert of a case against the answers given so far.

    Raises:
        AssertionError: An answer is not what is expected.
        OutOfScope: The assert is of a kind that is unknown.
    """
    kind = step["kind"]
    if kind not in _KINDS:
        msg = f"asserts of the kind {kind!r}"
        raise OutOfScope(msg)
    ignored = set(COSMETIC)
    if "ignoring keys" in str(step.get("note")):
        ignored |= set(str(step["note"]).rsplit("ignoring keys ", 1)[1].split(","))
    is_scalar_of_many = "[*]" in str(step["actual"]) and not isinstance(step["expected"], list | Mapping)
    actual, expected = resolved(step["actual"], answers), resolved(step["expected"], answers)
    if is_scalar_of_many:
        # `for one in results: if …: assertEqual(one[…], 5)`: the condition is not in the case, but one of them is it.
        assert any(same(one, expected) for one in actual), _words(step, actual, expected)
        return
    if kind == "equal" and isinstance(step["actual"], list) and "[*]" in str(step["actual"]):
        # A list that the test made of results, which it may have sorted; that is not in the case.
        assert same(actual, expected) or (_is_sorted(expected) and same(_sorted(actual), expected)), _words(
            step, actual, expected
        )
        return
    assert _KINDS[kind](_without(actual, ignored), _without(expected, ignored), step), _words(step, actual, expected)


def resolved(found: Any, answers: Answers) -> Any:
    """A value of an assert, with its references into answers replaced by what is there.

    Raises:
        AssertionError: There is nothing there.
    """
    if isinstance(found, Mapping):
        if "$ref" in found:
            return _plain(_evaluated(found["$ref"], _rooted(answers[found["query"]])))
        return {key: resolved(value, answers) for key, value in found.items()}
    if isinstance(found, list):
        if len(found) == 1 and isinstance(found[0], Mapping) and "[*]" in str(found[0].get("$ref")):
            return resolved(found[0], answers)
        return [resolved(value, answers) for value in found]
    return found


def same(actual: Any, expected: Any) -> bool:
    """Whether two values are equal; numbers but for the last digits of a float."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(actual, int | float) and isinstance(expected, int | float):
        return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        return actual.keys() == expected.keys() and all(same(actual[key], expected[key]) for key in expected)
    if isinstance(actual, list | tuple) and isinstance(expected, list | tuple):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    return bool(actual == expected)


def contradictions(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a case asks the same twice and expects two answers: then what differs is not in the case."""
    world = 0
    asked: dict[int, tuple[int, str]] = {}
    expected: dict[Any, Any] = {}
    for step in steps:
        if step["op"] == "query":
            question = {
                key: step.get(key) for key in ("runner", "query", "timezone", "week_start_day", "limit_context")
            }
            asked[step["n"]] = (world, json.dumps(question, sort_keys=True))
        elif step["op"] != "assert":
            world += 1
        elif step["kind"] == "equal" and isinstance(step["actual"], Mapping) and "query" in step["actual"]:
            if "[*]" in step["actual"]["$ref"] or "$ref" in str(step["expected"]):
                continue
            about = (asked.get(step["actual"]["query"]), step["actual"]["$ref"])
            if not same(expected.setdefault(about, step["expected"]), step["expected"]):
                return True
    return False


def _is_sorted(found: Any) -> bool:
    return isinstance(found, list) and same(_sorted(found), found)


def _sorted(found: Sequence[Any]) -> list[Any]:
    return sorted(found, key=str)


def _rooted(answer: Any) -> Any:
    return answer if isinstance(answer, Mapping) else {"results": answer}


def _evaluated(text: str, root: Any) -> Any:
    called = _CALL.match(text)
    if called and called[1] in _FUNCTIONS:
        end = _closing(text, called.end() - 1)
        value = _mapped(_FUNCTIONS[called[1]], _evaluated(text[called.end() : end], root))
        return _followed(value, text[end + 1 :])
    return _followed(root, text)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    msg = f"the reference {text!r} has no end"
    raise OutOfScope(msg)


def _followed(value: Any, path: str) -> Any:
    at = 0
    while at < len(path):
        part = _PART.match(path, at)
        if part is None:
            msg = f"the reference {path!r}"
            raise OutOfScope(msg)
        value = _mapped(partial(_taken, part), value)
        at = part.end()
    return value


def _taken(part: re.Match[str], value: Any) -> Any:
    low, high, index, key, name = part.groups()
    if part[0] == "[*]":
        return Many(tuple(value))
    if part[0] == ".replace()":
        return value
    try:
        if index is not None:
            return value[int(index)]
        if low is not None:
            return value[int(low) if low else None : int(high) if high else None]
        return value[key if key is not None else name]
    except (KeyError, IndexError, TypeError) as missing:
        msg = f"the answer has no {part[0]}: {missing!r} in {str(value)[:300]}"
        raise AssertionError(msg) from missing


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    return Many(tuple(_mapped(function, one) for one in value.values)) if isinstance(value, Many) else function(value)


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value.values] if isinstance(value, Many) else value


def _by(value: Any) -> Any:
    """What results are sorted by: their breakdown."""
    if isinstance(value, Mapping) and "breakdown_value" in value:
        return str(value["breakdown_value"])
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return str(value[0].get("breakdown"))
    return value


def _without(value: Any, keys: Iterable[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: one for key, one in value.items() if key not in keys}
    return [_without(one, keys) for one in value] if isinstance(value, list) else value


def _unordered(actual: Any, expected: Any, _: Mapping[str, Any]) -> bool:
    rest = list(actual)
    for one in expected:
        found = next((i for i, other in enumerate(rest) if same(other, one)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


def _funnels(actual: Any, expected: Any, _: Mapping[str, Any]) -> bool:
    """Name and count of each step, and the times where both tell them."""
    times = ("average_conversion_time", "median_conversion_time")

    def _step(told: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        keys = ["name", "count", *(key for key in times if wanted.get(key) is not None)]
        return all(same(told.get(key), wanted.get(key)) for key in keys)

    return len(actual) == len(expected) and all(map(_step, actual, expected))


def _lifecycles(actual: Any, expected: Any, _: Mapping[str, Any]) -> bool:
    def _told(results: Sequence[Mapping[str, Any]]) -> list[Any]:
        return sorted(([one["status"], list(one["data"])] for one in results), key=lambda pair: str(pair[0]))

    return same(_told(actual), _told(expected))


def _subset(actual: Any, expected: Any, _: Mapping[str, Any]) -> bool:
    return all(key in actual and same(actual[key], value) for key, value in expected.items())


def _almost(actual: Any, expected: Any, step: Mapping[str, Any]) -> bool:
    if step.get("delta") is not None:
        return bool(abs(actual - expected) <= step["delta"])
    places = 7 if step.get("places") is None else int(step["places"])
    return bool(round(abs(actual - expected), places) == 0)


_KINDS: Mapping[str, Callable[[Any, Any, Mapping[str, Any]], bool]] = {
    "equal": lambda actual, expected, _: same(actual, expected),
    "not_equal": lambda actual, expected, _: not same(actual, expected),
    "equal_unordered": _unordered,
    "funnel_results_equal": _funnels,
    "lifecycle_status_data_equal": _lifecycles,
    "dict_contains_subset": _subset,
    "almost_equal": _almost,
}


def _words(step: Mapping[str, Any], actual: Any, expected: Any) -> str:
    return f"{step['kind']} {step['actual']}: {str(actual)[:600]} instead of {str(expected)[:600]}"
