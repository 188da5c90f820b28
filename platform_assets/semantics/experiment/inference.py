"""How sure a difference is: intervals, p-values, an always-valid interval, the sample-ratio check (semantics 10).

Welch's t over the delta method's standard errors, as in GrowthBook's statistics (docs.growthbook.io/statistics; its
package gbstats, MIT). The always-valid interval is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (arXiv 2103.06476, version
7): it holds at every look at once, so that one may stop at any. Distributions are scipy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import expm1, inf, log, log1p, sqrt
from typing import Literal

import numpy as np
from scipy import optimize, stats

from platform_assets.semantics.experiment.covariates import AdjustedMeanStatistic, adjusted
from platform_assets.semantics.experiment.effects import (
    Effect,
    Pair,
    Problem,
    effect,
    stratified_effect,
    summed,
)
from platform_assets.semantics.experiment.moments import MeanStatistic, ProportionStatistic
from platform_assets.semantics.experiment.specification import SEQUENTIAL_TUNING

Difference = Literal["relative", "absolute", "scaled"]
Alternative = Literal["two-sided", "greater", "less"]

_LEAST_P, _LARGEST_P = 1e-5, 0.4999
"""Ends of what a one-sided always-valid p-value is told as."""

_LARGEST_EXPONENT = 700.0
_MOST_GROWTH = 2.0**27


@dataclass(frozen=True)
class Plan:
    """How a difference is to be told.

    Attributes:
        difference: `absolute`: treatment less control. `relative`: that by the control's absolute value. `scaled`: the
            absolute one times the units a day, if all of the traffic had the treatment.
        alpha: One less the interval's confidence.
        alternative: `greater` asks whether the treatment is greater: its interval is open above.
        null_value: What the difference is compared with.
        is_sequential: Whether the interval is always valid.
        sequential_tuning: The number of units at which the always-valid interval is narrowest.
        rho: The always-valid interval's parameter itself, in place of `sequential_tuning`.
        is_stratified: Whether several pairs are strata for post-stratification; otherwise they are added up. Where the
            strata allow none (see `effects.stratified_effect`), they are added up, and the result says so.
        total_units: Units of the phase, for `scaled`.
        traffic_share: The share of the traffic in the experiment, for `scaled`.
        phase_days: Days of the phase, for `scaled`.
    """

    difference: Difference = "relative"
    alpha: float = 0.05
    alternative: Alternative = "two-sided"
    null_value: float = 0.0
    is_sequential: bool = False
    sequential_tuning: float = SEQUENTIAL_TUNING
    rho: float | None = None
    is_stratified: bool = False
    total_units: int | None = None
    traffic_share: float = 1.0
    phase_days: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}: give one less the confidence, strictly between 0 and 1")
        if self.sequential_tuning <= 0:
            raise ValueError(f"sequential_tuning is {self.sequential_tuning}: give a number of units above 0")


@dataclass(frozen=True)
class Comparison:
    """The difference of a treatment and the control; where there is a problem, nothing but that."""

    problem: Problem | None = None
    estimate: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    is_stratified: bool = False


@dataclass(frozen=True)
class Prior:
    """A normal belief about the effect. `is_relative`: in parts of the control's value, else in its unit."""

    mean: float = 0.0
    variance: float = 1.0
    is_proper: bool = False
    is_relative: bool = True


@dataclass(frozen=True)
class Posterior:
    """The belief about the effect after the data; where there is a problem, nothing but that.

    `risk_of_control` and `risk_of_treatment`: what is lost on average by having that one. They are not scaled.
    """

    problem: Problem | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    low: float | None = None
    high: float | None = None
    chance_to_win: float | None = None
    risk_of_control: float | None = None
    risk_of_treatment: float | None = None


def measured(pairs: Sequence[Pair], plan: Plan) -> Effect | Problem:
    """The effect over all strata, with the CUPED coefficient that the data gives where the statistics have none."""
    is_relative = plan.difference == "relative"
    if plan.is_stratified:
        found = stratified_effect(pairs, is_relative=is_relative)
        if isinstance(found, Effect):
            return found
    return effect(*adjusted(*summed(pairs)), is_relative=is_relative)


def compare(pairs: Sequence[Pair], plan: Plan) -> Comparison:
    """Estimate, interval and p-value of treatment against control.

    Args:
        pairs: (control, treatment), one for each stratum.
        plan: How.
    """
    found = measured(pairs, plan)
    if isinstance(found, Problem):
        return Comparison(problem=found)
    if plan.is_sequential:
        if plan.alternative != "two-sided" and plan.alpha >= 0.5:
            return Comparison(problem=Problem.ALPHA_TOO_LARGE)
        width, p_value = _always_valid(found, plan)
    else:
        width, p_value = _welch(found, plan, degrees_of_freedom(*adjusted(*summed(pairs))))
    comparison = Comparison(
        estimate=found.estimate,
        standard_error=found.standard_error,
        low=-inf if plan.alternative == "less" else found.estimate - width,
        high=inf if plan.alternative == "greater" else found.estimate + width,
        p_value=p_value,
        is_stratified=found.is_stratified,
    )
    if plan.difference != "scaled":
        return comparison
    factor = _units_a_day(pairs, plan)
    if isinstance(factor, Problem):
        return Comparison(problem=factor)
    return replace(
        comparison,
        estimate=found.estimate * factor,
        standard_error=found.standard_error * factor,
        low=-inf if plan.alternative == "less" else (found.estimate - width) * factor,
        high=inf if plan.alternative == "greater" else (found.estimate + width) * factor,
    )


def degrees_of_freedom(*pair: *Pair) -> float:
    """Of Welch and Satterthwaite."""
    a, b = (statistic.variance / statistic.n for statistic in pair)
    return (a + b) ** 2 / (a**2 / (pair[0].n - 1) + b**2 / (pair[1].n - 1))


def _welch(found: Effect, plan: Plan, freedom: float) -> tuple[float, float]:
    """Half the interval's width, and the p-value."""
    distance = (found.estimate - plan.null_value) / found.standard_error
    tails = 2 if plan.alternative == "two-sided" else 1
    width = float(stats.t.isf(plan.alpha / tails, freedom)) * found.standard_error
    if plan.alternative == "two-sided":
        return width, 2 * float(stats.t.sf(abs(distance), freedom))
    return width, float(stats.t.sf(distance if plan.alternative == "greater" else -distance, freedom))


def sequential_rho(alpha: float, tuning: float, *, is_two_sided: bool) -> float:
    """The parameter with which the interval is narrowest at `tuning` units (2103.06476v7, equation 161)."""
    level = -2 * log(alpha if is_two_sided else 2 * alpha)
    return sqrt((level + log(level + 1)) / tuning)


def sequential_width(found: Effect, alpha: float, rho: float, *, is_two_sided: bool) -> float:
    """Half the always-valid interval's width (2103.06476v7, equation 9; one-sided equation 134)."""
    spread = found.n * rho**2 + 1
    bound = log(sqrt(spread) / alpha) if is_two_sided else log1p(sqrt(spread) / (2 * alpha))
    return found.standard_error * sqrt(found.n * 2 * spread * bound) / (found.n * rho)


def _always_valid(found: Effect, plan: Plan) -> tuple[float, float]:
    """Half the interval's width, and the p-value: the alpha whose interval has the null value for its end.

    Two-sided it is equation 155; one-sided, equation 134 solved for alpha, and told within 0.00001 and 0.4999.
    """
    is_two_sided = plan.alternative == "two-sided"
    rho = plan.rho or sequential_rho(plan.alpha, plan.sequential_tuning, is_two_sided=is_two_sided)
    width = sequential_width(found, plan.alpha, rho, is_two_sided=is_two_sided)
    spread = found.n * rho**2 + 1
    distance = (found.estimate - plan.null_value) / found.standard_error
    exponent = found.n * rho**2 * distance**2 / (2 * spread)
    if is_two_sided:
        return width, float(min(1.0, np.exp(0.5 * log(spread) - exponent)))
    towards = distance if plan.alternative == "greater" else -distance
    if towards <= 0:
        return width, _LARGEST_P
    p_value = sqrt(spread) / (2 * expm1(exponent)) if exponent < _LARGEST_EXPONENT else 0.0
    return width, min(max(p_value, _LEAST_P), _LARGEST_P)


def _units_a_day(pairs: Sequence[Pair], plan: Plan) -> float | Problem:
    if plan.phase_days == 0 or plan.traffic_share == 0:
        return Problem.NO_TRAFFIC
    scalable = (MeanStatistic, ProportionStatistic, AdjustedMeanStatistic)
    if not all(isinstance(statistic, scalable) for statistic in summed(pairs)):
        return Problem.NOT_SCALABLE
    if not plan.total_units:
        return Problem.NO_UNITS
    return plan.total_units / (plan.traffic_share * plan.phase_days)


def believe(pairs: Sequence[Pair], plan: Plan, prior: Prior, *, is_inverse: bool = False) -> Posterior:
    """The posterior of the effect: normal, of a normal prior and the normal likelihood of the measured effect.

    Args:
        pairs: (control, treatment), one for each stratum.
        plan: `difference`, `alpha`, strata and scale; the alternative does not matter.
        prior: The belief before; without a proper one the posterior is the data's.
        is_inverse: Whether less is better.
    """
    found = measured(pairs, plan)
    if isinstance(found, Problem):
        return Posterior(problem=found)
    baseline = abs(summed(pairs)[0].unadjusted_value)
    mean, variance = prior.mean, prior.variance
    if plan.difference == "relative" and not prior.is_relative:
        mean, variance = mean / baseline, variance / baseline**2
    elif plan.difference != "relative" and prior.is_relative:
        mean, variance = mean * baseline, variance * baseline**2
    precision, estimate = 1 / found.standard_error**2, found.estimate
    if prior.is_proper:
        estimate = (estimate * precision + mean / variance) / (precision + 1 / variance)
        precision += 1 / variance
    deviation = sqrt(1 / precision)
    belief = stats.norm(estimate, deviation)
    # The mean of what is positive of a normal variable; of what is negative, that less the mean.
    gain = estimate * float(belief.sf(0)) + deviation * float(stats.norm.pdf(estimate / deviation))
    risks = (max(gain, 0.0), max(gain - estimate, 0.0))
    factor = _units_a_day(pairs, plan) if plan.difference == "scaled" else 1.0
    if isinstance(factor, Problem):
        return Posterior(problem=factor)
    return Posterior(
        mean=estimate * factor,
        standard_deviation=deviation * factor,
        low=float(belief.ppf(plan.alpha / 2)) * factor,
        high=float(belief.isf(plan.alpha / 2)) * factor,
        chance_to_win=float(belief.cdf(0) if is_inverse else belief.sf(0)),
        risk_of_control=risks[1] if is_inverse else risks[0],
        risk_of_treatment=risks[0] if is_inverse else risks[1],
    )


def sample_ratio_p_value(units: Sequence[int], weights: Sequence[float]) -> float:
    """How probable units at least as far from the assigned ratio are; Pearson's chi-square test. 1 without units.

    Raises:
        ValueError: Where weights are not as many as units, or not above zero.
    """
    if len(units) != len(weights):
        raise ValueError(f"weights has {len(weights)} numbers for {len(units)} variants: give one for each variant")
    if any(weight <= 0 for weight in weights):
        raise ValueError(f"weights is {list(weights)}: give numbers above 0, and leave out variants without traffic")
    if not sum(units) or len(units) < 2:
        return 1.0
    expected = np.array(weights, dtype=float) / sum(weights) * sum(units)
    return float(stats.chisquare(np.array(units, dtype=float), expected).pvalue)


def power(found: Effect, plan: Plan, least_effect: float, growth: float = 0.0, tests: int = 1) -> float:
    """The chance to see an effect of `least_effect`, two-sided, after `growth` times the units again as there are.

    Args:
        found: The effect as measured so far; its standard error and units are what matters.
        plan: `alpha`, and whether the interval is always valid.
        least_effect: The effect that one would not want to miss, in the plan's kind of difference.
        growth: Additional units, in parts of those that there are.
        tests: How many tests share alpha (Bonferroni).
    """
    later = Effect(found.estimate, found.standard_error / sqrt(1 + growth), 0)
    alpha = plan.alpha / tests
    width = float(stats.norm.isf(alpha / 2)) * later.standard_error
    if plan.is_sequential:
        later = replace(later, n=round(found.n * (1 + growth)))
        rho = plan.rho or sequential_rho(alpha, plan.sequential_tuning, is_two_sided=True)
        width = sequential_width(later, alpha, rho, is_two_sided=True)
    above = stats.norm.sf((width - abs(least_effect)) / later.standard_error)
    below = stats.norm.sf((width + abs(least_effect)) / later.standard_error)
    return float(above + below)


def additional_units(
    found: Effect, plan: Plan, least_effect: float, wanted_power: float = 0.8, tests: int = 1
) -> int | None:
    """How many more units (of both variants) it takes to see `least_effect` with `wanted_power`.

    Returns:
        0 where there are enough; None where 2^27 times the units would not do.

    Raises:
        ValueError: With a power that is not strictly between 0 and 1.
    """
    if not 0 < wanted_power < 1:
        raise ValueError(f"wanted_power is {wanted_power}: give a probability strictly between 0 and 1")

    def missing(growth: float) -> float:
        return power(found, plan, least_effect, growth, tests) - wanted_power

    if missing(0) >= 0:
        return 0
    if missing(_MOST_GROWTH) < 0:
        return None
    return int(np.ceil(optimize.brentq(missing, 0, _MOST_GROWTH, xtol=1e-9) * found.n))
