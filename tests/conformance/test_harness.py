"""The harness itself: that a wrong answer fails, whatever way a case refers to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from platform_assets.semantics.specification import AllOf, AnyOf, EventPredicate, Filter
from tests.conformance.__main__ import main
from tests.conformance.insights import dates
from tests.conformance.insights.asserts import check, contradictions, resolved
from tests.conformance.insights.filters import conditions, entity
from tests.conformance.insights.world import Query, World
from tests.conformance.outcome import OutOfScope

ANSWERS: dict[int, Any] = {
    1: {
        "results": [
            {"breakdown_value": "b", "data": [3, 1.5], "steps": [{"name": "x", "count": 2}]},
            {"breakdown_value": "a", "data": [1, 2], "steps": [{"name": "y", "count": 1}]},
        ]
    },
    2: {"actor_ids": ["person:1", "person:2"]},
    3: [["q", "p"], ["r"]],
}


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ('results[0]["data"][-1]', 1, 1.5),
        ('.results[0]["data"][:1]', 1, [3]),
        ("len(.results)", 1, 2),
        ('sum(results[0]["data"])', 1, 4.5),
        ('sorted(results)[0]["breakdown_value"]', 1, "a"),
        ('sum(sorted(results)[0]["data"])', 1, 3),
        ('["results"][*].steps[*].count', 1, [[2], [1]]),
        ("sorted(results[*])", 3, [["p", "q"], ["r"]]),
        ("len(actor_ids)", 2, 2),
        ('results[0]["breakdown_value"].replace()', 1, "b"),
    ],
)
def test_references_find_what_they_say(text: str, query: int, expected: Any) -> None:
    assert resolved({"$ref": text, "query": query}, ANSWERS) == expected
    assert resolved([{"$ref": text, "query": query}], ANSWERS) == (expected if "[*]" in text else [expected])


def test_a_reference_to_nothing_is_a_failure() -> None:
    for text in ("results[2]", 'results[0]["count"]', "results[0].data.x"):
        with pytest.raises(AssertionError, match="the answer has no"):
            resolved({"$ref": text, "query": 1}, ANSWERS)


def asserted(kind: str, actual: Any, expected: Any, **more: Any) -> None:
    check({"kind": kind, "actual": {"$ref": "results", "query": 1}, "expected": expected, **more}, {1: actual})


@pytest.mark.parametrize(
    ("kind", "actual", "right", "wrong"),
    [
        ("equal", [1, 2.0], [1.0, 2], [1, 3]),
        ("equal", [True], [True], [1]),
        ("equal", [{"count": 1, "action": 5}], [{"count": 1, "action": None}], [{"count": 2, "action": 5}]),
        ("equal", [], [], [0]),
        ("not_equal", [1], [2], [1]),
        ("equal_unordered", [1, 2, 2], [2, 1, 2], [1, 1, 2]),
        ("equal_unordered", [1], [1], [1, 1]),
        ("funnel_results_equal", [{"name": "a", "count": 1}], [{"name": "a", "count": 1}], [{"name": "a", "count": 2}]),
        ("funnel_results_equal", [{"name": "a", "count": 1}], [{"name": "a", "count": 1}], []),
        (
            "funnel_results_equal",
            [{"name": "a", "count": 1, "average_conversion_time": 5}],
            [{"name": "a", "count": 1, "average_conversion_time": None}],
            [{"name": "a", "count": 1, "average_conversion_time": 6}],
        ),
        (
            "lifecycle_status_data_equal",
            [{"status": "new", "data": [1]}, {"status": "dormant", "data": [0]}],
            [{"status": "dormant", "data": [0]}, {"status": "new", "data": [1.0]}],
            [{"status": "dormant", "data": [1]}, {"status": "new", "data": [1]}],
        ),
    ],
)
def test_a_wrong_answer_fails(kind: str, actual: Any, right: Any, wrong: Any) -> None:
    asserted(kind, actual, right)
    with pytest.raises(AssertionError, match=kind):
        asserted(kind, actual, wrong)


def test_parts_and_nearly() -> None:
    step = {"actual": {"$ref": "results[0]", "query": 1}}
    check(step | {"kind": "dict_contains_subset", "expected": {"a": 1}}, {1: [{"a": 1, "b": 2}]})
    with pytest.raises(AssertionError):
        check(step | {"kind": "dict_contains_subset", "expected": {"c": 1}}, {1: [{"a": 1}]})
    check(step | {"kind": "almost_equal", "expected": 10, "delta": 0.5, "places": None}, {1: [10.4]})
    with pytest.raises(AssertionError):
        check(step | {"kind": "almost_equal", "expected": 10, "delta": 0.5, "places": None}, {1: [10.6]})
    with pytest.raises(AssertionError):
        check(step | {"kind": "almost_equal", "expected": 10, "delta": None, "places": 1}, {1: [10.2]})
    with pytest.raises(OutOfScope, match="'near'"):
        check(step | {"kind": "near", "expected": 10}, {1: [10]})


def test_a_list_that_the_test_sorted() -> None:
    step = {"kind": "equal", "actual": [{"$ref": "results[*].v", "query": 1}]}
    answers = {1: [{"v": "b"}, {"v": "a"}]}
    check(step | {"expected": ["a", "b"]}, answers)
    check(step | {"expected": ["b", "a"]}, answers)
    for wrong in (["a", "c"], ["c", "a"], ["b"]):
        with pytest.raises(AssertionError):
            check(step | {"expected": wrong}, answers)
    of_some = {"kind": "equal", "actual": {"$ref": "results[*].v", "query": 1}}
    check(of_some | {"expected": "a"}, answers)
    with pytest.raises(AssertionError):
        check(of_some | {"expected": "c"}, answers)


def test_contradictions_are_seen() -> None:
    def asked(n: int) -> dict[str, Any]:
        return {"op": "query", "n": n, "runner": "r", "query": {"a": 1}, "timezone": "UTC"}

    def told(n: int, expected: int) -> dict[str, Any]:
        return {"op": "assert", "kind": "equal", "actual": {"$ref": "len(results)", "query": n}, "expected": expected}

    assert contradictions([asked(1), told(1, 1), asked(2), told(2, 2)])
    assert not contradictions([asked(1), told(1, 1), asked(2), told(2, 1)])
    assert not contradictions([asked(1), told(1, 1), {"op": "event"}, asked(2), told(2, 2)])


def query(asked: dict[str, Any], now: str = "2020-03-12T10:20:30", timezone: str = "UTC") -> Query:
    return Query.of({"n": 1, "runner": "r", "query": {"dateRange": asked}, "now": now, "timezone": timezone})


WINDOWS = {
    ("", "", "day"): ("2020-03-05", "2020-03-13"),
    ("-14d", "", "day"): ("2020-02-27", "2020-03-13"),
    ("-14d", "", "week"): ("2020-02-27", "2020-03-13"),
    ("dStart", "", "hour"): ("2020-03-12", "2020-03-12T11"),
    ("-1dStart", "-1dEnd", "hour"): ("2020-03-11", "2020-03-12"),
    ("-1d", "-1d", "day"): ("2020-03-11", "2020-03-12"),
    ("mStart", "", "month"): ("2020-03-01", "2020-03-13"),
    ("-1mStart", "-1mEnd", "day"): ("2020-02-01", "2020-03-01"),
    ("yStart", "", "month"): ("2020-01-01", "2020-03-13"),
    ("-48h", "", "hour"): ("2020-03-10T10", "2020-03-12T11"),
    ("-1h", "", "minute"): ("2020-03-12T09:20", "2020-03-12T10:21"),
    ("2020-1-3", "2020-01-05", "day"): ("2020-01-03", "2020-01-06"),
    ("2020-01-03T00:00:00Z", "2020-01-05T00:00:00Z", "day"): ("2020-01-03", "2020-01-06"),
    ("all", "2020-01-05", "month"): ("2020-01-02", "2020-01-06"),
}


@pytest.mark.parametrize(("start", "end", "interval"), WINDOWS)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_ranges_are_windows(start: str, end: str, interval: str, zone: str) -> None:
    world = World()
    world.play({"op": "event", "event": "x", "distinct_id": "a", "timestamp": "2020-01-02T12:00:00"})
    now = "2020-03-12T10:20:30" if zone == "UTC" else "2020-03-12T01:20:30"
    asked = {key: value for key, value in (("date_from", start), ("date_to", end)) if value}
    found = dates.window(world, query(asked, now, zone), interval)
    told = tuple(datetime.fromisoformat(text) for text in WINDOWS[start, end, interval])
    if start.endswith("Z"):  # instants: in Tokyo they are nine hours later on the clock
        assert found.start == datetime(2020, 1, 3, tzinfo=UTC)
        return
    assert (found.start, found.end) == tuple(at.replace(tzinfo=ZoneInfo(zone)) for at in told)


def test_dates_that_are_none() -> None:
    with pytest.raises(OutOfScope, match="'last tuesday'"):
        dates.window(World(), query({"date_from": "last tuesday"}), "day")


def test_filters_are_conditions() -> None:
    world = World()
    world.play({"op": "cohort", "id": 1, "groups": [{"properties": [{"key": "plan", "value": "pro"}]}]})
    is_pro = Filter(property="person.plan", value="pro")
    assert conditions(world, [{"key": "n", "operator": "gt", "value": 3}]) == (
        Filter(property="properties.n", operator="greater", value=3),
    )
    assert conditions(world, {"n__icontains": "x"}) == (
        Filter(property="properties.n", operator="contains", value="x"),
    )
    assert conditions(world, [{"type": "cohort", "key": "id", "value": 1}]) == (AnyOf(any=(AllOf(all=(is_pro,)),)),)
    assert conditions(world, [{"type": "cohort", "key": "id", "value": 1, "operator": "not_in"}]) == (
        AllOf(all=(AnyOf(any=(Filter(property="person.plan", operator="not_equals", value="pro"),)),)),
    )
    grouped = {"type": "OR", "values": [{"type": "AND", "values": [{"key": "a", "value": ["1", "2"]}]}]}
    assert conditions(world, grouped) == (
        AnyOf(any=(AllOf(all=(Filter(property="properties.a", value=("1", "2")),)),)),
    )
    for kind in ("hogql", "element", "static-cohort"):
        with pytest.raises(OutOfScope, match="filters on"):
            conditions(world, [{"type": kind, "key": "x", "value": 1}])


def test_actions_are_any_of_their_steps() -> None:
    world = World()
    steps = [{"event": "a", "properties": [{"key": "n", "value": 1}]}, {"event": None, "url": "/x"}]
    world.play({"op": "action", "id": 7, "name": "did", "steps_json": steps})
    world.play({"op": "action", "id": 8, "name": "clicked", "steps_json": [{"event": "a", "tag_name": "button"}]})
    found = entity(world, {"kind": "ActionsNode", "id": 7})
    assert found == EventPredicate(
        name="did",
        any_of=(
            EventPredicate(event="a", where=(Filter(property="properties.n", value=1),)),
            EventPredicate(where=(Filter(property="properties.$current_url", operator="contains", value="/x"),)),
        ),
    )
    with pytest.raises(OutOfScope, match="autocapture"):
        entity(world, {"type": "actions", "id": 8})
    with pytest.raises(OutOfScope, match="action 9 was never told"):
        entity(world, {"type": "actions", "id": 9})


def test_the_world_is_what_was_told() -> None:
    world = World()
    for step in (
        {"op": "person", "person": "person:1", "distinct_ids": ["a", "b"], "properties": {"plan": "pro"}},
        {"op": "person", "person": "person:2", "distinct_ids": ["c"], "properties": {}},
        {"op": "group", "group_type_index": 0, "group_key": "g", "properties": {"size": 3}},
        {"op": "event", "event": "x", "distinct_id": "b", "timestamp": "2020-01-01T01:00:00+01:00"},
        {"op": "event", "event": "y", "distinct_id": "z", "timestamp": "2020-01-01", "properties": {"$group_0": "g"}},
        {"op": "event", "event": "z", "distinct_id": "c", "timestamp": "2020-01-02", "other_team": True},
    ):
        world.play(step)
    frame = world.events()
    assert frame["person_id"].to_list() == ["person:1", "anonymous:z"]
    assert frame["occurred_at"].to_list() == [datetime(2020, 1, 1, tzinfo=UTC)] * 2
    assert [None if text is None else json.loads(text) for text in frame["person"]] == [{"plan": "pro"}, None]
    assert frame["group_0"].to_list() == [None, "g"]
    assert [None if text is None else json.loads(text) for text in frame["group_0_properties"]] == [None, {"size": 3}]
    assert world.events(of_persons_only=True)["person_id"].to_list() == ["person:1"]
    world.play({"op": "person_override", "from_distinct_id": "a", "to_distinct_id": "c"})
    assert world.events()["person_id"].to_list() == ["person:2", "anonymous:z"]


def test_the_command_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "product_insights"
    folder.mkdir()
    steps = [
        {"op": "event", "event": "x", "distinct_id": "a", "timestamp": "2020-01-02T12:00:00"},
        {
            "op": "query",
            "n": 1,
            "runner": "TrendsQueryRunner",
            "query": {"legacy_filter": {"events": [{"id": "x"}]}},
            "now": "2020-01-03T00:00:00",
            "timezone": "UTC",
        },
    ]

    def case(name: str, expected: int) -> str:
        wanted = {"op": "assert", "kind": "equal", "actual": {"$ref": 'results[0]["count"]', "query": 1}}
        told = [*steps, wanted | {"expected": expected}]
        return json.dumps({"suite": "trends", "case": name, "complete": name != "cut", "steps": told})

    (folder / "trends.jsonl").write_text("\n".join([case("right", 1), case("wrong", 2), case("cut", 3)]))
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "product_insights: 1 passed, 1 failed, 1 out of scope" in shown
    assert "out of scope 1: cases that were cut short" in shown
    assert "FAILED trends:wrong: AssertionError" in shown
    assert main([str(tmp_path), "--match", "right"]) == 0
    assert main([str(tmp_path / "nothing")]) == 2
