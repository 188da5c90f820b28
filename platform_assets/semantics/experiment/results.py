"""What came of an experiment: each variant against the control, by metric (semantics 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from platform_assets.semantics.engines import collected, lazy
from platform_assets.semantics.experiment import inference
from platform_assets.semantics.experiment.covariates import AdjustedMeanStatistic, AdjustedRatioStatistic, adjusted
from platform_assets.semantics.experiment.effects import Problem
from platform_assets.semantics.experiment.inference import Comparison, Plan
from platform_assets.semantics.experiment.moments import (
    MeanStatistic,
    ProportionStatistic,
    RatioStatistic,
    Single,
    Statistic,
)
from platform_assets.semantics.experiment.result import Result, Results
from platform_assets.semantics.experiment.specification import MULTIPLE, Experiment, Measure, Metric


def results(statistics: object, experiment: Experiment) -> Results:
    """Each variant against the control, by metric.

    Args:
        statistics: As of `sufficient_statistics`, of any engine; rows of other experiments are passed over.
        experiment: The same.

    Raises:
        ValueError: Where a metric of the experiment is not in the statistics, or is there twice.
    """
    sums: dict[tuple[str, str], Mapping[str, Any]] = {}
    for told in collected(lazy(statistics)).iter_rows(named=True):
        if told["experiment"] != experiment.name:
            continue
        key = told["metric"], told["variant"]
        if key in sums:
            raise ValueError(f"statistics has two rows of metric {key[0]!r} and variant {key[1]!r}: add them up first")
        sums[key] = told
    missing = {metric.name for metric in experiment.metrics} - {metric for metric, _ in sums}
    if missing and sums:
        raise ValueError(
            f"statistics has no rows of metrics {sorted(missing)}: make them with the same experiment as the results"
        )
    assigned = {
        variant: row["units"] for (metric, variant), row in sums.items() if metric == experiment.metrics[0].name
    }
    units = {variant: int(assigned.get(variant, 0)) for variant in experiment.variants}
    weights = experiment.weights or (1.0,) * len(experiment.variants)
    p_value = inference.sample_ratio_p_value(list(units.values()), weights)
    is_alarm = p_value < experiment.sample_ratio_alarm
    rows = []
    for metric in experiment.metrics:
        for variant in experiment.variants:
            if variant == experiment.control:
                continue
            row = Result(
                experiment=experiment.name,
                metric=metric.name,
                variant=variant,
                units=units[variant],
                control_units=units[experiment.control],
                sample_ratio_p_value=p_value,
                is_sample_ratio_alarm=is_alarm,
            )
            if is_alarm:
                rows.append(replace(row, problem=Problem.SAMPLE_RATIO.value))
                continue
            pair = (sums.get((metric.name, experiment.control)), sums.get((metric.name, variant)))
            rows.append(_compared(row, metric, experiment, pair))
    return Results(
        rows=tuple(rows),
        units=units,
        multiple_units=int(assigned.get(MULTIPLE, 0)),
        unknown_units=sum(int(n) for v, n in assigned.items() if v not in units and v != MULTIPLE),
        sample_ratio_p_value=p_value,
        is_sample_ratio_alarm=is_alarm,
    )


def _compared(
    row: Result,
    metric: Metric,
    experiment: Experiment,
    sums: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
) -> Result:
    control, treatment = sums
    if control is None or treatment is None:
        return replace(row, problem=Problem.NO_VARIANCE.value)
    plain = (_statistic(metric, control), _statistic(metric, treatment))
    row = replace(row, control_mean=plain[0].value, mean=plain[1].value)
    absolute = Plan(difference="absolute", alpha=experiment.alpha)
    relative = replace(absolute, difference="relative")
    difference, lift = inference.compare([plain], absolute), inference.compare([plain], relative)
    if difference.problem is not None:
        return replace(row, problem=difference.problem.value)
    tuning = experiment.sequential_tuning
    row = replace(
        row,
        **_figures("difference", difference),
        **_figures("lift", lift),
        p_value=difference.p_value,
        **_ends("sequential_difference", inference.compare([plain], _always_valid(absolute, tuning))),
        **_ends("sequential_lift", inference.compare([plain], _always_valid(relative, tuning))),
        sequential_p_value=inference.compare([plain], _always_valid(absolute, tuning)).p_value,
    )
    if not experiment.covariate_days:
        return row
    cuped = (_adjusted(metric, control), _adjusted(metric, treatment))
    if not isinstance(adjusted(*cuped)[0], AdjustedMeanStatistic | AdjustedRatioStatistic):
        return row
    difference = inference.compare([cuped], absolute)
    return replace(
        row,
        **_figures("cuped_difference", difference),
        **_figures("cuped_lift", inference.compare([cuped], relative)),
        cuped_p_value=difference.p_value,
    )


def _always_valid(plan: Plan, tuning: float) -> Plan:
    return replace(plan, is_sequential=True, sequential_tuning=tuning)


def _figures(name: str, comparison: Comparison) -> dict[str, Any]:
    return {name: comparison.estimate} | _ends(name, comparison)


def _ends(name: str, comparison: Comparison) -> dict[str, Any]:
    return {f"{name}_low": comparison.low, f"{name}_high": comparison.high}


def _statistic(metric: Metric, row: Mapping[str, Any]) -> Statistic:
    numerator = _single(metric.measure, row, "numerator")
    if metric.denominator is None:
        return numerator
    denominator = _single(metric.denominator, row, "denominator")
    return RatioStatistic(row["units"], numerator, denominator, row["numerator_denominator_sum_products"])


def _adjusted(metric: Metric, row: Mapping[str, Any]) -> Statistic:
    after, before = (_single(metric.measure, row, f"numerator{when}") for when in ("", "_before"))
    if metric.denominator is None:
        return AdjustedMeanStatistic(row["units"], after, before, row["numerator_numerator_before_sum_products"])
    return AdjustedRatioStatistic(
        n=row["units"],
        numerator_after=after,
        denominator_after=_single(metric.denominator, row, "denominator"),
        numerator_before=before,
        denominator_before=_single(metric.denominator, row, "denominator_before"),
        numerator_after_denominator_after=row["numerator_denominator_sum_products"],
        numerator_after_numerator_before=row["numerator_numerator_before_sum_products"],
        numerator_after_denominator_before=row["numerator_denominator_before_sum_products"],
        denominator_after_numerator_before=row["denominator_numerator_before_sum_products"],
        denominator_after_denominator_before=row["denominator_denominator_before_sum_products"],
        numerator_before_denominator_before=row["numerator_before_denominator_before_sum_products"],
    )


def _single(measure: Measure, row: Mapping[str, Any], variable: str) -> Single:
    if measure.aggregation == "converted":
        return ProportionStatistic(row["units"], row[f"{variable}_sum"])
    return MeanStatistic(row["units"], row[f"{variable}_sum"], row[f"{variable}_sum_squares"])
