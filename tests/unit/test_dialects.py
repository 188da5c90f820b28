"""Dialects by name, in Python and in a metric's file."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from platform_assets.gold.metric_files import KINDS, MetricFileError, load
from platform_assets.semantics import funnels, trends
from platform_assets.semantics.activity import ActiveUsers, active_users_over
from platform_assets.semantics.dialects import DIALECTS, OURS, said_in
from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.lifecycle import Lifecycle
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.sessions import Sessions
from platform_assets.semantics.specification import EventPredicate, Specification
from platform_assets.semantics.stickiness import RollingStickiness
from platform_assets.semantics.trends import Actors, Series, Trend

STEPS = [{"event": "a"}, {"event": "b"}]
LEAST: dict[type[Specification], dict[str, object]] = {
    Funnel: {"steps": STEPS},
    Trend: {"series": [{"events": {"event": "a"}}]},
}
"""What has to be said of a kind of number."""


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in DIALECTS.items() for kind in kinds if kind is not Specification]
)
def test_every_choice_of_a_dialect_is_a_field_that_gives_way(name: str, kind: type[Specification]) -> None:
    least = LEAST.get(kind, {})
    told = said_in(name, kind, **least)
    for choice in DIALECTS[name][kind]:
        if "." in choice.field or choice.where:
            continue
        assert getattr(told, choice.field) == choice.value
        ours = getattr(said_in(OURS, kind, **least), choice.field)
        assert getattr(said_in(name, kind, **least, **{choice.field: ours}), choice.field) == ours


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind in (Retention, Lifecycle, RollingStickiness)])
def test_ours_are_the_defaults(kind: type[Specification]) -> None:
    assert said_in(OURS, kind) == kind()


def test_a_choice_may_depend_on_what_is_said_beside_it() -> None:
    assert said_in("posthog", Funnel, steps=STEPS).dropped == "person"
    assert said_in("posthog", Funnel, steps=STEPS, order="unordered").dropped == "attempt"
    assert said_in("posthog", Funnel, steps=STEPS, order="unordered", dropped="person").dropped == "person"


@pytest.mark.parametrize("is_data", [True, False])
def test_a_choice_may_lie_within_a_part(is_data: bool) -> None:
    by_step: dict[str, object] = {"properties": ("plan",), "attribution": "step", "step": 2}
    first: dict[str, object] = {"properties": ("plan",)}
    told = [
        said_in("posthog", Funnel, steps=STEPS, breakdown=said if is_data else funnels.Breakdown.model_validate(said))
        for said in (by_step, first, {**by_step, "without_step": "null"})
    ]
    assert [one.breakdown.without_step for one in told if one.breakdown] == ["left_out", "null", "null"]

    predicate = EventPredicate(event="a")
    measures = [{"kind": "actors", "within_days": 7}, {"kind": "actors"}, {"kind": "events"}]
    series: list[object] = [{"events": {"event": "a"}, "measure": measure} for measure in measures]
    breakdowns: list[object] = [{"property": "plan"}, {"property": "os", "empty_is_missing": False}]
    if not is_data:
        series = [Series.model_validate(one) for one in series]
        breakdowns = [trends.Breakdown.model_validate(one) for one in breakdowns]
    trend = said_in("posthog", Trend, series=series, breakdowns=breakdowns)
    assert trend.series[0].measure == Actors(within_days=7, as_of="start")
    assert trend.series[1] == Series(events=predicate, measure=Actors())
    assert [breakdown.empty_is_missing for breakdown in trend.breakdowns] == [True, False]
    assert (trend.other, trend.nothing_is_zero, trend.week_start) == ("summed", True, "sunday")


def test_months_of_active_users_have_28_or_30_days() -> None:
    days = pl.DataFrame({"person_id": ["a"], "day": [date(2026, 1, 1)]})
    told = {}
    for name in (OURS, "mozilla", "posthog"):
        windows = said_in(name, ActiveUsers).windows
        told[name] = active_users_over(days, date(2026, 1, 28), date(2026, 1, 31), windows=windows)["mau"].to_list()
    assert told == {OURS: [1, 0, 0, 0], "mozilla": [1, 0, 0, 0], "posthog": [1, 1, 1, 0]}


def test_what_is_no_dialect_names_those_that_are() -> None:
    with pytest.raises(
        ValueError, match="'snowplow' is no dialect of Funnel; there are headwater, posthog, clickhouse"
    ):
        said_in("snowplow", Funnel, steps=STEPS)
    with pytest.raises(
        ValueError, match="'mixpanel' is no dialect of Sessions; there are headwater, posthog, snowplow"
    ):
        said_in("mixpanel", Sessions)


def test_a_file_says_its_dialect_and_what_it_has_otherwise(tmp_path: Path) -> None:
    text = "metric: retention\ndescription: d\ndialect: posthog\ninterval: week\n"
    (tmp_path / "theirs.yaml").write_text(text)
    (tmp_path / "mixed.yaml").write_text(text + "week_start: monday\n")
    (tmp_path / "same.yaml").write_text(text.replace("dialect: posthog", "week_start: sunday\nincomplete: count"))
    mixed, same, theirs = load(tmp_path)
    assert theirs.specification == Retention(interval="week", week_start="sunday", incomplete="count")
    assert mixed.specification == Retention(interval="week", incomplete="count")
    # A dialect is no more than its choices.
    assert theirs.definition_version == same.definition_version != mixed.definition_version


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("snowplow", "it.yaml:3: dialect: 'snowplow' is no dialect of Retention; there are headwater, posthog"),
        ("[posthog]", "it.yaml:3: dialect: say it in words"),
    ],
)
def test_a_wrong_dialect_of_a_file_says_where(tmp_path: Path, dialect: str, message: str) -> None:
    (tmp_path / "it.yaml").write_text(f"metric: retention\ndescription: d\ndialect: {dialect}\n")
    with pytest.raises(MetricFileError) as said:
        load(tmp_path)
    assert str(said.value).startswith(message)


def test_lengths_of_time_are_those_of_the_dialect() -> None:
    assert said_in("snowplow", Sessions).longest == timedelta(days=3)
    assert said_in("google_analytics", Sessions).longest is None
