"""Cases of gbstats, GrowthBook's statistics: a case's statistics and configuration as ours, and the results compared.

A case holds two results: `expected`, to five decimals, and `gbstats_result_full_precision`, what gbstats gives for
the case's very statistics and configuration. Rules:

- Both must be what we get, to five decimals.
- Where the two contradict each other, `expected` is of another configuration that the authors' test went on to, over
  the same strata or over statistics that the case does not hold. The full result decides; and `expected` has to be
  one of our results over the same strata, by absolute or relative difference, post-stratified or not. Where it is none
  of those, the case says nothing of where `expected` comes from, and that part is out of scope.
- Where there is no result, theirs is full of zeros, ours of nulls: the reasons are compared.
- A one-sided always-valid p-value is, for them, the middle of the last bracket of a bisection that has already stopped;
  up to a few 0.0001 beside the root, which is ours, and it knows no strata. Their bisection is repeated here, over our
  intervals.
- The cases of always-valid intervals were kept without their tuning parameter. Where the default does not give the full
  result's interval, the parameter is solved for; it has to come out whole, as a person would have set it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isclose
from pathlib import Path
from typing import Any

from scipy import optimize

from platform_assets.semantics.experiment import covariates, inference, moments
from platform_assets.semantics.experiment.effects import Effect, Pair, Problem
from platform_assets.semantics.experiment.inference import Plan, Posterior, Prior
from tests.conformance.outcome import OutOfScope

FAMILY = "experiment_statistics"

HALF = 0.5e-5 + 1e-9
"""Half a unit of the fifth decimal."""

ALTERNATIVES = {"TwoSided": "two-sided", "OneSidedTreatmentGreater": "greater", "OneSidedTreatmentLesser": "less"}

REASONS = {
    # A relative difference to nothing has no variance either, for them.
    "ZERO_NEGATIVE_VARIANCE": {Problem.NO_VARIANCE, Problem.NO_BASELINE},
    "ZERO_NEGATIVE_BASELINE_VARIATION": {Problem.NO_BASELINE},
    "ZERO_SCALED_VARIATION_WEIGHT": {Problem.NO_TRAFFIC},
    "NO_UNITS_IN_VARIATION": {Problem.NO_UNITS},
    "ALPHA_GREATER_THAN_0.5_FOR_SEQUENTIAL_ONE_SIDED_TEST": {Problem.ALPHA_TOO_LARGE},
}


@dataclass(frozen=True)
class Case:
    """A case as it stands in its file."""

    told: Mapping[str, Any]


def cases(folder: Path) -> Iterator[tuple[str, Case]]:
    """The cases of every file in the folder, by name."""
    for path in sorted(folder.glob("*.json")):
        for number, told in enumerate(json.loads(path.read_text())):
            yield f"{path.stem}[{number}] {told['case'].removeprefix('tests.')}", Case(told)


def run(case: Case) -> None:
    """Compare.

    Raises:
        AssertionError: Where we differ.
        OutOfScope: Where a rule says so (see the module).
    """
    told = case.told
    pairs = [(_statistic(a), _statistic(b)) for a, b in told["stats"]]
    expected, full = told["expected"], told.get("gbstats_result_full_precision")
    plan = _plan(told)
    if full is not None and plan.is_sequential and "sequential_tuning_parameter" not in told["config"]:
        plan = _tuned(plan, pairs, full)
    ours = _result(told, pairs, plan)
    if full is None:
        _same(ours, expected, "expected")
        return
    _same(ours, full, "the full result")
    if _difference(_flat(full), expected) is None:
        _same(ours, expected, "expected")
        return
    for difference in ("absolute", "relative"):
        for is_stratified in (False, True):
            other = replace(plan, difference=difference, is_stratified=is_stratified)
            if _difference(_result(told, pairs, other), expected) is None:
                return
    raise OutOfScope("expected contradicts the case's own full result and comes of statistics that it does not hold")


def _same(ours: Mapping[str, object], theirs: Mapping[str, Any], name: str) -> None:
    difference = _difference(ours, theirs)
    assert difference is None, f"{name}: {difference}"


def _difference(ours: Mapping[str, object], theirs: Mapping[str, Any]) -> str | None:
    """The first figure in which they differ; of those that theirs leave out, none."""
    theirs = _flat(theirs)
    reason = theirs.get("problem")
    problem = ours.get("problem")
    if reason or problem:
        agree = problem in REASONS[str(reason)] if reason in REASONS else bool(reason) and bool(problem)
        return None if agree else f"problem is {problem} for {reason}"
    for name, value in theirs.items():
        if value is not None and not _is_close(ours.get(name), value):
            return f"{name} is {ours.get(name)} for {value}"
    return None


def _is_close(ours: object, theirs: object) -> bool:
    if isinstance(theirs, str) or isinstance(ours, bool | str):
        return ours == theirs
    # Figures in the thousands have fewer than five decimals of a double's digits to spare.
    return isinstance(ours, int | float) and isclose(ours, float(theirs), abs_tol=HALF, rel_tol=1e-9)  # type: ignore[arg-type]


def _flat(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Their result by our names; an infinite end as a number."""
    if "point_estimate" in theirs:
        return {
            "problem": theirs["error_message"],
            "estimate": theirs["point_estimate"],
            "standard_error": theirs["standard_error"],
            "n": theirs["pairwise_sample_size"],
            "is_stratified": theirs["post_stratification_applied"],
        }
    if "expected" not in theirs:
        return dict(theirs)
    risk = theirs.get("risk") or (None, None)
    return {
        "problem": theirs.get("errorMessage") or theirs.get("pValueErrorMessage"),
        "estimate": theirs["expected"],
        "standard_error": theirs["uplift"]["stddev"],
        "low": None if theirs["ci"][0] is None else float(theirs["ci"][0]),
        "high": None if theirs["ci"][1] is None else float(theirs["ci"][1]),
        "p_value": theirs.get("pValue"),
        "chance_to_win": theirs.get("chanceToWin"),
        "risk_of_control": risk[0],
        "risk_of_treatment": risk[1],
    }


def _result(told: Mapping[str, Any], pairs: Sequence[Pair], plan: Plan) -> dict[str, object]:
    found = inference.measured(pairs, plan)
    result: dict[str, object] = {"n": found.n} if isinstance(found, Effect) else {}
    if "Bayesian" not in told["test_class"]:
        result |= vars(inference.compare(pairs, plan))
        if (
            plan.is_sequential
            and plan.alternative != "two-sided"
            and isinstance(found, Effect)
            and not result["problem"]
        ):
            result["p_value"] = _bisected(pairs, plan, result["p_value"])
        return result
    prior = told["config"].get("prior_effect") or {}
    belief: Posterior = inference.believe(
        pairs,
        plan,
        Prior(
            mean=prior.get("mean", 0.0),
            variance=prior.get("variance", 1.0),
            is_proper=prior.get("proper", False),
            is_relative=told["config"].get("prior_type", "relative") == "relative",
        ),
        is_inverse=told["config"].get("inverse", False),
    )
    return result | vars(belief) | {"estimate": belief.mean, "standard_error": belief.standard_deviation}


def _tuned(plan: Plan, pairs: Sequence[Pair], full: Mapping[str, Any]) -> Plan:
    """The plan with the tuning parameter that the full result's interval comes of."""
    found, theirs = inference.measured(pairs, plan), _flat(full)
    if not isinstance(found, Effect) or theirs["problem"] or plan.difference == "scaled":
        return plan
    is_two_sided = plan.alternative == "two-sided"
    end = theirs["low"] if plan.alternative == "greater" else theirs["high"]

    def excess(tuning: float) -> float:
        rho = inference.sequential_rho(plan.alpha, tuning, is_two_sided=is_two_sided)
        width = inference.sequential_width(found, plan.alpha, rho, is_two_sided=is_two_sided) - abs(
            end - found.estimate
        )
        return float(width)

    if abs(excess(plan.sequential_tuning)) < HALF:
        return plan
    # The width has one minimum: a width comes of two parameters, on either side of it.
    narrowest = optimize.minimize_scalar(lambda power: excess(10**power), bounds=(0, 9), method="bounded").x
    for bounds in ((1, 10**narrowest), (10**narrowest, 1e9)):
        if excess(bounds[0]) * excess(bounds[1]) < 0:
            tuning = optimize.brentq(excess, *bounds, xtol=1e-9)
            if isclose(tuning, round(tuning), abs_tol=1e-4):
                return replace(plan, sequential_tuning=round(tuning))
    return plan


def _bisected(pairs: Sequence[Pair], plan: Plan, p_value: object) -> float:
    """Their p-value by our intervals; ours has to be within its last bracket, but where theirs knows no strata."""
    found = inference.measured(pairs, replace(plan, is_stratified=False))
    assert isinstance(found, Effect)
    rho = plan.rho or inference.sequential_rho(plan.alpha, plan.sequential_tuning, is_two_sided=False)
    towards = found.estimate if plan.alternative == "greater" else -found.estimate
    low, high = 1e-5, 0.4999

    def excess(alpha: float) -> float:
        return inference.sequential_width(found, alpha, rho, is_two_sided=False) - towards

    if excess(low) < 0:
        return low
    if excess(high) > 0:
        return high
    excesses = [inf]
    while abs(excesses[-1]) >= 1e-6:
        excesses.append(excess((low + high) / 2))
        low, high = ((low + high) / 2, high) if excesses[-1] > 0 else (low, (low + high) / 2)
    assert isinstance(p_value, float)
    assert plan.is_stratified or low - HALF <= p_value <= high + HALF, (
        f"p_value is {p_value}, beside the bracket {low} to {high}"
    )
    return (low + high) / 2


def _plan(told: Mapping[str, Any]) -> Plan:
    config, test = told["config"], str(told["test_class"])
    alternative = test.removeprefix("Sequential").removesuffix("TTest")
    if alternative not in ALTERNATIVES and not test.startswith("Effect"):
        raise OutOfScope(f"{test} is no test of one treatment against the control")
    return Plan(
        difference=config["difference_type"],
        alpha=config.get("alpha", 0.05),
        alternative=ALTERNATIVES.get(alternative, "two-sided"),  # type: ignore[arg-type]
        null_value=config.get("test_value", 0.0),
        is_sequential=test.startswith("Sequential"),
        sequential_tuning=config.get("sequential_tuning_parameter", inference.SEQUENTIAL_TUNING),
        rho=config.get("rho"),
        is_stratified=config.get("post_stratify", "PostStratification" in test),
        total_units=config.get("total_users"),
        traffic_share=config.get("traffic_percentage", 1.0),
        phase_days=config.get("phase_length_days", 1.0),
    )


def _statistic(told: Mapping[str, Any]) -> moments.Statistic:
    match told["$type"]:
        case "SampleMeanStatistic" | "ProportionStatistic":
            return _single(told)
        case "RatioStatistic":
            return moments.RatioStatistic(
                told["n"],
                _single(told["m_statistic"]),
                _single(told["d_statistic"]),
                told["m_d_sum_of_products"],
            )
        case "RegressionAdjustedStatistic":
            return covariates.AdjustedMeanStatistic(
                told["n"],
                _single(told["post_statistic"]),
                _single(told["pre_statistic"]),
                told["post_pre_sum_of_products"],
                told["theta"],
            )
        case "RegressionAdjustedRatioStatistic":
            return covariates.AdjustedRatioStatistic(
                n=told["n"],
                numerator_after=_single(told["m_statistic_post"]),
                denominator_after=_single(told["d_statistic_post"]),
                numerator_before=_single(told["m_statistic_pre"]),
                denominator_before=_single(told["d_statistic_pre"]),
                numerator_after_denominator_after=told["m_post_d_post_sum_of_products"],
                numerator_after_numerator_before=told["m_post_m_pre_sum_of_products"],
                numerator_after_denominator_before=told["m_post_d_pre_sum_of_products"],
                denominator_after_numerator_before=told["m_pre_d_post_sum_of_products"],
                denominator_after_denominator_before=told["d_post_d_pre_sum_of_products"],
                numerator_before_denominator_before=told["m_pre_d_pre_sum_of_products"],
                theta=told["theta"],
            )
        case "QuantileStatistic":
            return moments.QuantileStatistic(**_quantile(told))
        case "QuantileClusteredStatistic":
            return moments.ClusteredQuantileStatistic(
                **_quantile(told),
                below_sum=told["main_sum"],
                below_sum_squares=told["main_sum_squares"],
                events_sum=told["denominator_sum"],
                events_sum_squares=told["denominator_sum_squares"],
                sum_products=told["main_denominator_sum_product"],
                clusters=told["n_clusters"],
            )
        case kind:
            raise OutOfScope(f"a {kind} is no statistic of a metric here")


def _single(told: Mapping[str, Any]) -> moments.Single:
    if told["$type"] == "ProportionStatistic":
        return moments.ProportionStatistic(told["n"], told["sum"])
    return moments.MeanStatistic(told["n"], told["sum"], told["sum_squares"])


def _quantile(told: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "n": "n",
        "bounds_n": "n_star",
        "level": "nu",
        "quantile": "quantile_hat",
        "lower": "quantile_lower",
        "upper": "quantile_upper",
    }
    return {ours: told[theirs] for ours, theirs in names.items()}
