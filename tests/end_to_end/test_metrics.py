"""Metrics of YAML files through Dagster's own API: a file is an asset, and its days follow what they read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from partitions import Window
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_files import MetricFileError, load
from platform_assets.gold.metric_numbers import numbers
from platform_assets.gold.published_numbers import explained
from sensors.restatement import fact_restatements
from support.platforms import Run
from support.records import at, encoded, event

FUNNEL = """
metric: funnel
description: From a view to an order.
steps:
  - event: product_viewed
    where: [{property: properties.category, value: hats}]
  - event: order_completed
window: 2d
breakdown:
  properties: [platform]
"""
DAY = 24 * 60
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HATS = {"category": "hats"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two people view hats on the first day; one of them orders the day after, anonymously."""
    folder = tmp_path_factory.mktemp("hats")
    made = Run.over(folder, [], NOW)
    made.measure(numbers(load(written(folder, FUNNEL))))
    act(
        made,
        event("v1", 10, anonymous_id="a", user_id="anna", event_name="product_viewed", properties=HATS, platform="ios"),
        event("v2", 20, anonymous_id="b", user_id=None, event_name="product_viewed", properties=HATS, platform="ios"),
        event("v3", 30, anonymous_id="c", user_id="carl", event_name="product_viewed", properties={"category": "caps"}),
        event("o2", DAY, anonymous_id="b", user_id=None, event_name="order_completed", platform="ios"),
    )
    follow(made)
    made.execute("publish_numbers")
    return made


@pytest.fixture
def run(measured: Run, tmp_path: Path) -> Run:
    return measured.copied(tmp_path)


def written(folder: Path, text: str, name: str = "hats") -> Path:
    files = folder / "metrics"
    files.mkdir(exist_ok=True)
    (files / f"{name}.yaml").write_text(text)
    return files


def act(run: Run, *events: dict[str, object], days: float = 1.5) -> None:
    """Let events arrive so many days after the start, and be taken in."""
    run.send([(encoded(fields), at(int(days * DAY))) for fields in events])
    run.drain()


def follow(run: Run) -> list[tuple[str, str, str]]:
    """Let everything follow; says which days of metrics were computed."""
    run.restate()
    run.restate(fact_restatements)
    return run.restate(run.sensor("number_restatements"))


def persons(run: Run) -> dict[tuple[date, str | None], list[int]]:
    """Persons of each step by day and platform."""
    rows = run.lake.scan(run.numbers[0].table).sort("day", "breakdown", "step").collect()
    told: dict[tuple[date, str | None], list[int]] = {}
    for day, value, count in rows.select("day", "breakdown", "persons").iter_rows():
        told.setdefault((day, value), []).append(count)
    return told


FIRST = at(0).date()


def test_a_file_is_an_asset_with_partitions_checks_and_freshness(run: Run) -> None:
    (table,) = (number.table for number in run.numbers)
    assert table.name == "gold/funnels/hats"
    spec = run.defs.resolve_asset_graph().get(table.asset_key)
    assert spec.partitions_def == run.platform.partitions.daily
    assert spec.description is not None
    assert spec.description.startswith("From a view to an order.")
    checks = {key.name for key in run.defs.resolve_asset_graph().asset_check_keys if key.asset_key == table.asset_key}
    assert {"contract", "unique_key"} <= checks


def test_days_have_those_who_entered_on_them(run: Run) -> None:
    assert persons(run) == {(FIRST, "ios"): [2, 1]}
    assert run.restate(run.sensor("number_restatements")) == []


def test_a_late_event_restates_the_days_that_read_it_and_no_others(run: Run) -> None:
    run.now += timedelta(days=1)
    act(run, event("o1", 2 * DAY, anonymous_id="a", user_id="anna", event_name="order_completed"), days=3.5)
    computed = follow(run)
    assert persons(run) == {(FIRST, "ios"): [2, 2]}
    run.execute("publish_numbers")
    window = Window.of_days(FIRST, FIRST, ZoneInfo("UTC"))
    told = explained(run.platform, "funnels.hats.persons", window, "breakdown=ios,step=2")
    assert [(float(entry["value"]), entry["causes"]) for entry in told.entries.iter_rows(named=True)] == [
        (1.0, ["first publication"]),
        (2.0, ["new events"]),
    ]
    days = {day for _, first, last in computed for day in (first, last)}
    # Two days before the first one are closed by now; what is before them and after the event's own day stays.
    assert min(days) >= f"{FIRST - timedelta(days=2):%Y-%m-%d}"
    assert max(days) == f"{FIRST + timedelta(days=2):%Y-%m-%d}"


TREND = """
metric: trend
description: Who viewed or ordered within two days.
series:
  - events: {event: [product_viewed, order_completed]}
    measure: {kind: actors, within_days: 2}
breakdowns: [{property: platform}]
"""
STICKINESS = "metric: stickiness\ndescription: On how many days.\nintervals: 3\n"
EVER = """
metric: cohort
description: Who ever viewed something, but never ordered.
of:
  all:
    - {did: {event: product_viewed}}
    - {did: {event: order_completed}, exactly: 0}
"""


@pytest.mark.slow
def test_late_events_and_a_login_restate_trends_stickiness_and_cohorts_of_all_history(run: Run, tmp_path: Path) -> None:
    for name, text in {"seen": TREND, "days": STICKINESS, "lookers": EVER}.items():
        files = written(tmp_path, text, name)
    run.measure(numbers(load(files)))
    act(run, event("v4", 5 * DAY, anonymous_id="d", user_id="dora", event_name="product_viewed"), days=5.2)
    run.now += timedelta(days=5)
    run.execute("take_in_firsts")
    follow(run)
    before = {number.table.name: rows_of(run, number) for number in run.numbers}
    assert not any(rows.is_empty() for rows in before.values())
    # Carl ordered long before what is known of him, and what an anonymous device did was Anna's.
    act(run, event("o0", DAY, anonymous_id="c", user_id="carl", event_name="order_completed"), days=5.3)
    act(run, event("l", DAY + 60, anonymous_id="b", user_id="anna", event_name="logged_in"), days=5.3)
    run.now += timedelta(hours=2)
    run.execute("take_in_firsts")
    follow(run)
    for number in run.numbers:
        restated = rows_of(run, number)
        assert not restated.equals(before[number.table.name])
        for day in restated["day"].unique():
            number.rebuild(run.platform, Window.of_days(day, day, ZoneInfo("UTC")))
        assert rows_of(run, number).equals(restated), number.table.name
    assert run.restate(run.sensor("number_restatements")) == []


def rows_of(run: Run, number: DailyNumber) -> pl.DataFrame:
    """What a table says, without what tells how it came about."""
    table = number.table
    return run.lake.scan(table).select(*table.substance).sort(*table.key).collect()


@pytest.mark.slow
def test_a_login_makes_two_persons_one(run: Run) -> None:
    run.now += timedelta(days=1)
    act(run, event("l", DAY + 60, anonymous_id="b", user_id="anna", event_name="logged_in"))
    follow(run)
    assert persons(run) == {(FIRST, "ios"): [1, 1]}


@pytest.mark.slow
def test_another_definition_restates_every_day(run: Run, tmp_path: Path) -> None:
    run.now += timedelta(days=1)
    run.measure(numbers(load(written(tmp_path, FUNNEL.replace("2d", "12h")))))
    assert run.restate(run.sensor("number_restatements"))
    assert persons(run) == {(FIRST, "ios"): [2, 0]}


@pytest.mark.slow
def test_a_day_ripens_when_nobody_can_get_through_any_more(run: Run) -> None:
    def is_closed() -> list[bool]:
        return (
            run.lake.scan(run.numbers[0].table).filter(day=FIRST).select("is_closed").collect()["is_closed"].to_list()
        )

    assert is_closed() == [False, False]
    run.now += timedelta(days=5)
    act(run, event("later", 4 * DAY, anonymous_id="d", user_id="dora"), days=4)
    follow(run)
    assert is_closed() == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: []", "hats.yaml:1: metric: is missing; there are"),
        ("description: d\nmetric: funel", "hats.yaml:2: metric: 'funel' is unknown; there are"),
        ("metric: funnel\nsteps: [{event: a}]", "hats.yaml:1: description: say it in words"),
        (
            "metric: funnel\ndescription: d\nsteps:\n  - event: a\n  - evnt: b\n",
            "hats.yaml:5: steps.1.evnt: Extra inputs are not permitted, got 'b'",
        ),
        (
            "metric: funnel\ndescription: d\nwindow: soon\nsteps:\n  - event: a\n",
            "hats.yaml:3: window: 'soon' is no length of time",
        ),
        (
            "metric: funnel\ndescription: d\nsteps:\n- event: a\n  where:\n  - property: p\n\n    operator: like\n",
            "hats.yaml:8: steps.0.where.0.operator: Input should be 'equals'",
        ),
        (
            "metric: funnel\ndescription: d\nsteps: [{event: a, first_ever: true}, {event: b}]",
            "hats.yaml:3: first_ever: a day",
        ),
        (
            "metric: funnel\ndescription: plan\nsteps:\n- event: plan\n- where: [{property: plan, value: pro}]",
            "hats.yaml:5: property 'plan' is none of gold/fact_events",
        ),
        ("metric: funnel\n  description: d", "hats.yaml:2: not YAML"),
        ("metric: funnel\ndescription: d\nsteps: [{event: a}]", "hats.yaml:3: steps: a funnel has two steps or more"),
        ("metric: funnel\ndescription: d\nsteps:\n- {event: a}\n- {}", "hats.yaml:5: steps.1: says nothing; say which"),
        (
            "metric: funnel\ndescription: d\nsteps: [{event: a}, {event: b}]\nexclusions: [{after: 1, before: 2}]",
            "hats.yaml:4: exclusions.0: says nothing",
        ),
        (
            "metric: funnel\ndescription: d\nsteps: [{event: a}, {event: []}]",
            "hats.yaml:3: steps.1.event: names no event",
        ),
        (
            "metric: funnel\ndescription: d\nsteps: [{event: ' '}, {event: b}]",
            "hats.yaml:3: steps.0.event: names no event, got ' '",
        ),
        ("- a", "hats.yaml:1: a metric is a mapping"),
    ],
)
def test_a_wrong_file_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MetricFileError) as said:
        numbers(load(written(tmp_path, text)))
    assert str(said.value).startswith(message)
    assert str(said.value).count("hats.yaml") == 1


def test_the_name_of_a_file_is_the_name_of_a_metric(tmp_path: Path) -> None:
    with pytest.raises(MetricFileError, match="a metric is named by small letters"):
        load(written(tmp_path, FUNNEL, name="Hats-2"))
