"""Experiments: who is a unit, what counts, and what comes of it (semantics 10); on every engine."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy import stats

from platform_assets.semantics.engines import collected
from platform_assets.semantics.experiment.results import Results, results
from platform_assets.semantics.experiment.specification import MULTIPLE, Experiment, Exposure, Measure, Metric
from platform_assets.semantics.experiments import exposures, sufficient_statistics, unit_metrics
from platform_assets.semantics.specification import EventPredicate, Filter
from platform_assets.table import MONEY, TIMESTAMP
from support.engines import Native

START = datetime(2026, 5, 1, tzinfo=UTC)
SCHEMA = {
    "person_id": pl.String,
    "occurred_at": TIMESTAMP,
    "event_name": pl.String,
    "properties": pl.String,
    "amount": MONEY,
}
ORDERS = EventPredicate(event="order_completed")
CONVERSION = Metric(name="conversion", measure=Measure(events=ORDERS))
REVENUE = Metric(name="revenue", measure=Measure(events=ORDERS, aggregation="sum", value="amount"))
PER_VISIT = Metric(
    name="revenue_per_visit",
    measure=Measure(events=ORDERS, aggregation="sum", value="amount"),
    denominator=Measure(events=EventPredicate(event="page_viewed"), aggregation="count"),
)
PLAN = Experiment(
    name="blue", variants=("grey", "blue"), control="grey", metrics=(CONVERSION, REVENUE, PER_VISIT), covariate_days=7
)


@dataclass(frozen=True)
class Event:
    """An event at an hour from the start."""

    person: str | None
    hour: float
    name: str = "order_completed"
    amount: str | None = None
    experiment: str | None = None
    variant: str | None = None

    def row(self) -> tuple[object, ...]:
        said = {"experiment": self.experiment, "variant": self.variant}
        amount = None if self.amount is None else Decimal(self.amount)
        return (self.person, at(self.hour), self.name, json.dumps(said), amount)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def seen(person: str | None, hour: float, variant: str | None = "blue", experiment: str | None = "blue") -> Event:
    return Event(person, hour, "experiment_viewed", experiment=experiment, variant=variant)


def log(events: Sequence[Event]) -> pl.DataFrame:
    return pl.DataFrame([event.row() for event in events], schema=SCHEMA, orient="row")


def exposed(events: Sequence[Event]) -> set[tuple[object, ...]]:
    return set(collected(exposures(log(events))).rows())


def measured(events: Sequence[Event], plan: Experiment = PLAN) -> dict[str, dict[str, Any]]:
    frame = log(events)
    return {row["person_id"]: row for row in collected(unit_metrics(exposures(frame), frame, plan)).to_dicts()}


def told(events: Sequence[Event], plan: Experiment = PLAN) -> Results:
    frame = log(events)
    return results(sufficient_statistics(unit_metrics(exposures(frame), frame, plan), plan), plan)


def drawn(seed: int, persons: int, blue: float = 0.5) -> list[Event]:
    draw = random.Random(seed)
    events = []
    for number in range(persons):
        person = f"p{number}"
        hour = draw.randrange(100)
        variant = "blue" if draw.random() < blue else "grey"
        events += [seen(person, hour + later, variant) for later in range(draw.randrange(1, 3))]
        if draw.random() < 0.03:
            events.append(seen(person, hour + 5, "grey" if variant == "blue" else "blue"))
        keen = draw.randrange(4)
        for _ in range(4 * keen):
            amount = f"{draw.randrange(1000, 5000) / 100:.2f}"
            events.append(Event(person, hour + draw.randrange(-300, 300), "order_completed", amount))
        for _ in range(keen + 3):
            events.append(Event(person, hour + draw.randrange(-300, 300), "page_viewed"))
    draw.shuffle(events)
    return events


# Units


def test_the_first_exposure_counts() -> None:
    assert exposed([seen("a", 3), seen("a", 1), seen("a", 2), seen("b", 4, "grey")]) == {
        ("blue", "a", "blue", at(1)),
        ("blue", "b", "grey", at(4)),
    }


def test_a_person_is_a_unit_of_each_experiment() -> None:
    assert exposed([seen("a", 3), seen("a", 1, "on", "other")]) == {
        ("blue", "a", "blue", at(3)),
        ("other", "a", "on", at(1)),
    }


def test_who_saw_several_variants_is_of_none() -> None:
    assert exposed([seen("a", 3), seen("a", 1, "grey")]) == {("blue", "a", MULTIPLE, at(1))}


@pytest.mark.parametrize(
    "event", [seen(None, 1), seen("a", 1, None), seen("a", 1, experiment=None), Event("a", 1, "page_viewed")]
)
def test_what_lacks_a_part_is_no_exposure(event: Event) -> None:
    assert exposed([event, seen("b", 1)]) == {("blue", "b", "blue", at(1))}


def test_exposures_can_be_another_event_with_columns_of_its_own() -> None:
    frame = log([Event("a", 1, "flag_read")]).with_columns(flag=pl.lit("blue"), answer=pl.lit("grey"))
    exposure = Exposure(events=EventPredicate(event="flag_read"), experiment="flag", variant="answer")
    assert collected(exposures(frame, exposure)).rows() == [("blue", "a", "grey", at(1))]


# What counts


def test_events_count_from_the_very_exposure_on() -> None:
    events = [seen("a", 1), Event("a", 0.99, amount="4"), Event("a", 1, amount="2"), Event("a", 900, amount="1.50")]
    assert measured(events)["a"]["m1_numerator"] == 3.5


def test_the_conversion_window_is_half_open() -> None:
    plan = PLAN.model_copy(update={"conversion_window": timedelta(hours=2)})
    events = [seen("a", 1), Event("a", 2.999, amount="4"), Event("a", 3, amount="2")]
    assert measured(events, plan)["a"]["m1_numerator"] == 4


def test_the_covariates_window_is_half_open() -> None:
    week = 7 * 24
    events = [
        seen("a", 0),
        Event("a", -week - 0.001, amount="1"),
        Event("a", -week, amount="2"),
        Event("a", -0.001, amount="4"),
        Event("a", 0, amount="8"),
    ]
    row = measured(events)["a"]
    assert (row["m1_numerator_before"], row["m1_numerator"]) == (6, 8)


def test_a_unit_that_did_nothing_has_zeros() -> None:
    row = measured([seen("a", 1), seen("b", 1), Event("b", 2, amount="3")])["a"]
    assert [row[name] for name in row if name.startswith("m")] == [0.0] * 8


def test_a_conversion_is_one_however_often_and_a_count_is_each() -> None:
    plan = PLAN.model_copy(
        update={"metrics": (CONVERSION, Metric(name="n", measure=Measure(events=ORDERS, aggregation="count")))}
    )
    row = measured([seen("a", 1), Event("a", 2), Event("a", 3)], plan)["a"]
    assert (row["m0_numerator"], row["m1_numerator"]) == (1, 2)


def test_events_are_chosen_by_what_they_carry_and_values_read_from_json() -> None:
    large = EventPredicate(where=(Filter(property="properties.size", operator="greater", value=2),))
    measure = Measure(events=large, aggregation="sum", value="properties.size")
    plan = PLAN.model_copy(update={"metrics": (Metric(name="size", measure=measure),)})
    frame = log([seen("a", 1), Event("a", 2), Event("a", 3), Event("a", 4)]).with_columns(
        properties=pl.when(pl.col("event_name") == "order_completed")
        .then(pl.Series(["", '{"size": 2}', '{"size": 2.5}', '{"size": 4}']))
        .otherwise("properties")
    )
    assert collected(unit_metrics(exposures(frame), frame, plan))["m0_numerator"].to_list() == [6.5]


def test_without_days_of_covariates_there_are_none() -> None:
    plan = PLAN.model_copy(update={"covariate_days": 0})
    events = drawn(3, 60)
    assert not [name for name in next(iter(measured(events, plan).values())) if name.endswith("_before")]
    rows = told(events, plan).rows
    assert {row.cuped_lift for row in rows} == {None}
    assert None not in {row.lift for row in rows}


# Sums, on every engine


def reference(events: Sequence[Event]) -> dict[tuple[str, str], tuple[int, dict[str, float]]]:
    """Units and sums by (variant, metric), person by person."""
    variants, start = defaultdict(set), dict[str, float]()
    for event in events:
        if event.name == "experiment_viewed" and event.person is not None and event.variant is not None:
            variants[event.person].add(event.variant)
            start[event.person] = min(event.hour, start.get(event.person, event.hour))
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for person, names in variants.items():
        done: dict[str, float] = defaultdict(float)
        for event in events:
            since = event.hour - start[person]
            if event.person != person or since < -168:
                continue
            when = "" if since >= 0 else "_before"
            if event.name == "order_completed":
                done["conversion" + when] = 1
                done["revenue" + when] += float(event.amount or 0)
            if event.name == "page_viewed":
                done["visits" + when] += 1
        variant = names.pop() if len(names) == 1 else MULTIPLE
        for metric, numerator, denominator in (
            ("conversion", "conversion", None),
            ("revenue", "revenue", None),
            ("revenue_per_visit", "revenue", "visits"),
        ):
            unit = {"numerator": done[numerator], "numerator_before": done[numerator + "_before"]}
            if denominator:
                unit |= {"denominator": done[denominator], "denominator_before": done[denominator + "_before"]}
            found[variant, metric].append(unit)
    return {key: (len(units), _summed(units)) for key, units in found.items()}


def _summed(units: Sequence[dict[str, float]]) -> dict[str, float]:
    names = [n for n in ("numerator", "denominator", "numerator_before", "denominator_before") if n in units[0]]
    sums = {f"{a}_sum": sum(unit[a] for unit in units) for a in names}
    sums |= {f"{a}_sum_squares": sum(unit[a] ** 2 for unit in units) for a in names}
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return sums | {f"{a}_{b}_sum_products": sum(unit[a] * unit[b] for unit in units) for a, b in pairs}


def test_every_engine_sums_what_a_loop_over_persons_sums(native: Native) -> None:
    events = drawn(5, 120)
    frame = native(log(events))
    statistics = collected(sufficient_statistics(unit_metrics(exposures(frame), frame, PLAN), PLAN))
    found = {
        (row["variant"], row["metric"]): (
            row["units"],
            {name: row[name] for name in row if "_sum" in name and row[name] is not None},
        )
        for row in statistics.to_dicts()
    }
    expected = reference(events)
    assert MULTIPLE in {variant for variant, _ in expected}
    assert found.keys() == expected.keys()
    for key, (units, sums) in expected.items():
        assert found[key] == (units, pytest.approx(sums)), key


# Results


def values(events: Sequence[Event], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Control's and treatment's, by unit."""
    rows = sorted(measured(events).values(), key=lambda row: row["person_id"])
    grey, blue = (np.array([row[column] for row in rows if row["variant"] == v]) for v in ("grey", "blue"))
    return grey, blue


def test_the_difference_is_welchs() -> None:
    events = drawn(7, 300)
    grey, blue = values(events, "m1_numerator")
    row = told(events).rows[1]
    expected = stats.ttest_ind(blue, grey, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (row.mean, row.control_mean) == pytest.approx((blue.mean(), grey.mean()))
    assert row.difference == pytest.approx(blue.mean() - grey.mean())
    assert (row.difference_low, row.difference_high) == pytest.approx((interval.low, interval.high))
    assert row.p_value == pytest.approx(expected.pvalue)
    assert row.lift == pytest.approx((blue.mean() - grey.mean()) / grey.mean())


def test_cuped_is_the_difference_of_what_a_regression_on_the_covariate_leaves() -> None:
    events = drawn(7, 300)
    (grey, blue), (grey_before, blue_before) = values(events, "m1_numerator"), values(events, "m1_numerator_before")
    slope = np.polyfit(np.concatenate([grey_before, blue_before]), np.concatenate([grey, blue]), 1)[0]
    expected = stats.ttest_ind(blue - slope * blue_before, grey - slope * grey_before, equal_var=False)
    interval = expected.confidence_interval(0.95)
    row = told(events).rows[1]
    assert (row.cuped_difference_low, row.cuped_difference_high) == pytest.approx((interval.low, interval.high))
    assert row.cuped_p_value == pytest.approx(expected.pvalue)
    assert interval.high - interval.low < 0.95 * (row.difference_high - row.difference_low)


def test_a_ratio_is_totals_by_totals() -> None:
    events = drawn(7, 300)
    (grey, blue), (visits, blue_visits) = values(events, "m2_numerator"), values(events, "m2_denominator")
    row = told(events).rows[2]
    assert row.control_mean == pytest.approx(grey.sum() / visits.sum())
    assert row.difference == pytest.approx(blue.sum() / blue_visits.sum() - grey.sum() / visits.sum())


def test_the_always_valid_interval_is_the_wider() -> None:
    for row in told(drawn(7, 300)).rows:
        assert row.sequential_difference_low < row.difference_low < row.difference_high < row.sequential_difference_high
        assert row.sequential_lift_low < row.lift_low < row.lift_high < row.sequential_lift_high
        assert row.sequential_p_value >= row.p_value


def test_who_saw_several_or_something_unknown_is_left_out_and_counted() -> None:
    found = told([*drawn(5, 200), seen("x", 1, "green"), seen("y", 1, "green")])
    both = sum(row["variant"] == MULTIPLE for row in measured(drawn(5, 200)).values())
    assert (found.multiple_units, found.unknown_units) == (both, 2)
    assert sum(found.units.values()) + both == 200
    assert {(row.control_units, row.units) for row in found.rows} == {(found.units["grey"], found.units["blue"])}


def test_a_sample_ratio_that_cannot_be_hides_the_result() -> None:
    events = drawn(9, 300, blue=0.65)
    found = told(events)
    expected = stats.binomtest(found.units["blue"], sum(found.units.values())).pvalue
    assert found.sample_ratio_p_value == pytest.approx(expected, rel=0.5)
    assert found.is_sample_ratio_alarm
    shown = {"experiment", "metric", "variant", "units", "control_units", "problem"}
    for row in found.rows:
        assert row.problem == "sample_ratio"
        assert row.is_sample_ratio_alarm
        figures = {field.name for field in fields(row) if getattr(row, field.name) is not None}
        assert figures == shown | {"sample_ratio_p_value", "is_sample_ratio_alarm"}


def test_a_sample_ratio_as_it_was_assigned_is_no_alarm() -> None:
    found = told(drawn(9, 300, blue=0.65), PLAN.model_copy(update={"weights": (0.35, 0.65)}))
    assert not found.is_sample_ratio_alarm
    assert {row.problem for row in found.rows} == {None}


def test_without_units_or_differences_between_them_there_is_no_result() -> None:
    assert {row.problem for row in told([seen("a", 1), seen("b", 1)]).rows} == {"no_variance"}
    nothing = told([seen(f"p{i}", 1, ("grey", "blue")[i % 2]) for i in range(20)])
    assert {row.problem for row in nothing.rows} == {"no_variance"}
    assert {row.lift for row in nothing.rows} == {None}


def test_statistics_of_another_specification_are_refused() -> None:
    frame = log(drawn(5, 20))
    few = PLAN.model_copy(update={"metrics": (CONVERSION,)})
    statistics = collected(sufficient_statistics(unit_metrics(exposures(frame), frame, few), few))
    with pytest.raises(ValueError, match=r"no rows of metrics \['revenue', 'revenue_per_visit'\]"):
        results(statistics, PLAN)
    with pytest.raises(ValueError, match="two rows of metric 'conversion'"):
        results(pl.concat([statistics, statistics]), few)


# Specifications


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": ("grey",)}, r"variants is \['grey'\]: give at least two"),
        ({"variants": ("grey", "blue", "blue")}, "each once"),
        ({"variants": ("grey", MULTIPLE)}, "name it otherwise"),
        ({"control": "green"}, "control is 'green', which is not in variants"),
        ({"metrics": ()}, "give at least one metric"),
        ({"metrics": (CONVERSION, CONVERSION)}, "each name once"),
        ({"weights": (1.0,)}, "weights has 1 numbers for 2 variants"),
        ({"weights": (1.0, 0.0)}, "give numbers above 0"),
        ({"alpha": 0.6}, "alpha"),
        ({"covariate_days": -1}, "covariate_days"),
        ({"conversion_window": timedelta(milliseconds=1)}, "whole seconds above 0"),
        ({"conversion_window": timedelta(0)}, "whole seconds above 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_unsound_experiment_is_refused(change: dict[str, object], words: str) -> None:
    told = dict(PLAN) | change
    with pytest.raises(ValidationError, match=words):
        Experiment(**told)


def test_an_unsound_measure_is_refused() -> None:
    with pytest.raises(ValidationError, match="name the property that is added up"):
        Measure(events=ORDERS, aggregation="sum")
    with pytest.raises(ValidationError, match="aggregation 'count' reads no property"):
        Measure(events=ORDERS, aggregation="count", value="amount")


def test_a_metrics_kind_follows_from_what_is_measured() -> None:
    assert [metric.kind for metric in PLAN.metrics] == ["proportion", "mean", "ratio"]
