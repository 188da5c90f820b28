"""How a variant differs from the control, and how surely: estimate and standard error (semantics 10).

All variances are the delta method's: the estimate's derivatives by the means, times the means' covariances. The
relative difference divides by the control's absolute, unadjusted value.

Strata (groups of units known before the exposure) are put together by post-stratification: each stratum's difference,
weighed with its share of the units, with the shares' own randomness in the variance. The formulas are those of
GrowthBook's statistics (docs.growthbook.io/statistics/post-stratification; its package gbstats, MIT), after Miratrix,
Sekhon and Yu, "Adjusting treatment effect estimates by post-stratification in randomized experiments" (JRSS B 2013);
with covariates, the strata's values are a regression's on treatment and covariates, both variants together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import numpy as np
from scipy import linalg

from platform_assets.semantics.experiment.covariates import AdjustedMeanStatistic, AdjustedRatioStatistic, adjusted
from platform_assets.semantics.experiment.moments import (
    Array,
    MeanStatistic,
    ProportionStatistic,
    RatioStatistic,
    Statistic,
    ratio,
)

Pair = tuple[Statistic, Statistic]
"""Control and treatment."""

_SUMMABLE = (MeanStatistic, ProportionStatistic, RatioStatistic, AdjustedMeanStatistic, AdjustedRatioStatistic)
_LEAST_UNITS_OF_RATIO = 7
"""Units of a stratum below which the regression of a ratio has no degree of freedom left."""


class Problem(StrEnum):
    """Why there is no result."""

    NO_VARIANCE = "no_variance"
    """A variant has no units, or all its units have one value."""
    NO_BASELINE = "no_baseline"
    """The control's value is zero, so that nothing can be said in relation to it."""
    NO_TRAFFIC = "no_traffic"
    """To be scaled to a day, an effect needs the phase's length and its share of the traffic, both above zero."""
    NO_UNITS = "no_units"
    """To be scaled to a day, an effect needs the number of units."""
    NOT_SCALABLE = "not_scalable"
    """Ratios and quantiles are no totals: there is no effect a day."""
    ALPHA_TOO_LARGE = "alpha_too_large"
    """The one-sided always-valid interval is defined for an alpha below one half."""
    SAMPLE_RATIO = "sample_ratio"
    """The variants' units are not in the ratio they were assigned in, so that the result is hidden."""


@dataclass(frozen=True)
class Effect:
    """The treatment's value less the control's (or that by the control's), with its standard error."""

    estimate: float
    standard_error: float
    n: int
    is_stratified: bool = False


def summed(pairs: Sequence[Pair]) -> Pair:
    """The strata's statistics added up; the pair itself where there is one.

    Raises:
        ValueError: Without a pair, or with quantiles in several strata, which do not add up.
    """
    if not pairs:
        raise ValueError("pairs is empty: give the statistics of control and treatment, a pair for each stratum")
    if len(pairs) == 1:
        return pairs[0]
    return _sum([control for control, _ in pairs]), _sum([treatment for _, treatment in pairs])


def _sum(statistics: Sequence[Statistic]) -> Statistic:
    return reduce(_add, statistics)


def _add(a: Statistic, b: Statistic) -> Statistic:
    if isinstance(a, MeanStatistic | ProportionStatistic) and isinstance(b, MeanStatistic | ProportionStatistic):
        return a + b
    if isinstance(a, RatioStatistic) and isinstance(b, RatioStatistic):
        return a + b
    if isinstance(a, AdjustedMeanStatistic) and isinstance(b, AdjustedMeanStatistic):
        return a + b
    if isinstance(a, AdjustedRatioStatistic) and isinstance(b, AdjustedRatioStatistic):
        return a + b
    raise ValueError(
        f"a {type(a).__name__} and a {type(b).__name__} do not add up over strata: "
        "give strata of one metric that is a mean, a proportion or a ratio"
    )


def effect(control: Statistic, treatment: Statistic, *, is_relative: bool) -> Effect | Problem:
    """The difference of two statistics, without strata; CUPED's coefficients as they are in the statistics."""
    if control.has_no_variance or treatment.has_no_variance:
        return Problem.NO_VARIANCE
    baseline = control.unadjusted_value
    if baseline == 0 and is_relative:
        return Problem.NO_BASELINE
    difference = treatment.value - control.value
    # Under random assignment both variants' covariates have one mean, so that the adjusted difference is that of the
    # unadjusted means where a derivative is evaluated; for ratios gbstats takes the adjusted difference.
    evaluated = difference
    if isinstance(control, AdjustedMeanStatistic):
        evaluated = treatment.unadjusted_value - baseline
    by_control, by_treatment = -control.gradient, treatment.gradient
    estimate = difference
    if is_relative:
        estimate, by_treatment = difference / abs(baseline), by_treatment / abs(baseline)
        by_control = by_control / abs(baseline) - _by_baseline(evaluated, baseline) * control.unadjusted_gradient
    variance = float(
        by_control @ control.covariances @ by_control / control.n
        + by_treatment @ treatment.covariances @ by_treatment / treatment.n
    )
    if variance <= 0:
        return Problem.NO_VARIANCE
    if control.value == 0 or baseline == 0:
        return Problem.NO_BASELINE
    return Effect(estimate, float(np.sqrt(variance)), control.n + treatment.n)


def _by_baseline(difference: float, baseline: float) -> float:
    """Minus the derivative of difference / |baseline| by the baseline."""
    return float(np.sign(baseline)) * difference / baseline**2


@dataclass(frozen=True)
class _Stratum:
    """Means of control and treatment, one after the other, and their covariances times the stratum's units."""

    n: int
    means: Array
    covariances: Array


def stratified_effect(pairs: Sequence[Pair], *, is_relative: bool) -> Effect | Problem:
    """The difference by post-stratification, of the pairs of the strata.

    A stratum in which a variant has no variance joins the largest. The regression's assumption is one slope for both
    variants of a stratum.

    Raises:
        ValueError: With statistics that do not add up (quantiles).
    """
    for statistic in (statistic for pair in pairs for statistic in pair):
        if not isinstance(statistic, _SUMMABLE):
            raise ValueError(
                f"a {type(statistic).__name__} cannot be post-stratified: "
                "give strata of a mean, a proportion or a ratio, or ask for no post-stratification"
            )
    strata = _viable(_without_constant_covariates(pairs))
    if len(strata) == 1:
        return effect(*adjusted(*strata[0]), is_relative=is_relative)
    parts = []
    for control, treatment in strata:
        part = _stratum(control, treatment)
        if part is None:
            return Problem.NO_VARIANCE
        parts.append(part)
    return _weighed(parts, is_relative=is_relative)


def _weighed(strata: Sequence[_Stratum], *, is_relative: bool) -> Effect | Problem:
    units = np.array([stratum.n for stratum in strata], dtype=float)
    n = float(units.sum())
    shares = units / n
    columns = np.array([stratum.means for stratum in strata]).T
    between = columns @ (np.diag(shares) - np.outer(shares, shares)) @ columns.T
    within = sum(share * stratum.covariances for share, stratum in zip(shares, strata, strict=True))
    covariances = (between + within) / n
    means = columns @ shares
    values = len(means) // 2
    (control, by_control), (treatment, by_treatment) = ratio(means[:values]), ratio(means[values:])
    if control == 0:
        return Problem.NO_BASELINE
    estimate, gradient = treatment - control, np.concatenate([-by_control, by_treatment])
    if is_relative:
        gradient /= abs(control)
        gradient[:values] -= _by_baseline(estimate, control) * by_control
        estimate /= abs(control)
    variance = float(gradient @ covariances @ gradient)
    if variance <= 0:
        return Problem.NO_VARIANCE
    return Effect(estimate, float(np.sqrt(variance)), int(n), is_stratified=True)


def _without_constant_covariates(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without their covariates, where those are the same for all units of a variant."""
    control, treatment = summed(pairs)
    return [_unadjusted(pair) for pair in pairs] if _is_constant(control, treatment) else list(pairs)


def _is_constant(*statistics: Statistic) -> bool:
    for statistic in statistics:
        if isinstance(statistic, AdjustedMeanStatistic) and statistic.before.has_no_variance:
            return True
        if isinstance(statistic, AdjustedRatioStatistic) and (
            statistic.numerator_before.has_no_variance or statistic.denominator_before.has_no_variance
        ):
            return True
    return False


def _unadjusted(pair: Pair) -> Pair:
    control, treatment = pair
    adjustable = (AdjustedMeanStatistic, AdjustedRatioStatistic)
    if isinstance(control, adjustable) and isinstance(treatment, adjustable):
        return control.unadjusted(), treatment.unadjusted()
    return pair


def _as_mean(statistic: Statistic) -> Statistic:
    """A proportion as a mean, whose variance is over n - 1: so gbstats has it in a stratum without its covariate."""
    if isinstance(statistic, ProportionStatistic):
        return MeanStatistic(statistic.n, statistic.sum, statistic.sum)
    return statistic


def _viable(pairs: Sequence[Pair]) -> list[Pair]:
    first, *others = sorted(pairs, key=lambda pair: pair[0].n + pair[1].n, reverse=True)
    viable = []
    for pair in others:
        control, treatment = pair
        is_small_ratio = isinstance(control, AdjustedRatioStatistic) and control.n + treatment.n < _LEAST_UNITS_OF_RATIO
        if control.has_no_variance or treatment.has_no_variance or is_small_ratio:
            first = summed([first, pair])
        else:
            viable.append(pair)
    return [first, *viable]


def _stratum(control: Statistic, treatment: Statistic) -> _Stratum | None:
    """The means of one stratum; None where they cannot be told."""
    if _is_constant(control, treatment):
        control, treatment = (_as_mean(statistic) for statistic in _unadjusted((control, treatment)))
    if control.has_no_variance or treatment.has_no_variance:
        return None
    if isinstance(control, AdjustedMeanStatistic) and isinstance(treatment, AdjustedMeanStatistic):
        return _regressed(control, treatment, values=1, parameters=3)
    if isinstance(control, AdjustedRatioStatistic) and isinstance(treatment, AdjustedRatioStatistic):
        return _regressed(control, treatment, values=2, parameters=6)
    n = control.n + treatment.n
    covariances = linalg.block_diag(control.covariances * n / control.n, treatment.covariances * n / treatment.n)
    return _Stratum(n, np.concatenate([control.means, treatment.means]), covariances)


def _regressed(
    control: AdjustedMeanStatistic | AdjustedRatioStatistic,
    treatment: AdjustedMeanStatistic | AdjustedRatioStatistic,
    values: int,
    parameters: int,
) -> _Stratum | None:
    """Both variants' values at the mean covariates of all, by least squares on constant, treatment and covariates.

    Args:
        control: Values after the exposure, then as many before it.
        treatment: As `control`.
        values: How many: 1 of a mean, 2 of a ratio.
        parameters: What the residual degrees of freedom are fewer by than the units. (Of a ratio gbstats counts 6.)
    """
    n = control.n + treatment.n
    products = control.products + treatment.products
    treated, sums = treatment.means * treatment.n, control.means * control.n + treatment.means * treatment.n
    responses, covariates = slice(0, values), slice(values, 2 * values)

    design = np.block(
        [
            [
                np.array([[n, treatment.n], [treatment.n, treatment.n]], dtype=float),
                np.array([sums, treated])[:, covariates],
            ],
            [np.array([sums, treated])[:, covariates].T, products[covariates, covariates]],
        ]
    )
    observed = np.vstack([sums[responses], treated[responses], products[covariates, responses]])
    try:
        inverse = linalg.cho_solve(linalg.cho_factor(design), np.eye(len(design)))
    except linalg.LinAlgError:
        return None  # the covariates are one another's multiples, or there are fewer units than parameters
    coefficients = inverse @ observed
    residual = (products[responses, responses] - observed.T @ coefficients) / (n - parameters)

    at = sums[covariates] / n
    spread = (products[covariates, covariates] - n * np.outer(at, at)) / (n - 1) / n
    # At the mean covariates the control is constant + slopes · mean, the treatment that + effect; the mean covariates
    # are themselves of a sample, which adds as much to both.
    points = np.array([[1.0, 0.0, *at], [1.0, 1.0, *at]])
    slopes = coefficients[2:]
    shared = residual * float(np.trace(inverse[2:, 2:] @ spread)) + slopes.T @ spread @ slopes
    covariances = n * (np.kron(points @ inverse @ points.T, residual) + np.kron(np.ones((2, 2)), shared))
    return _Stratum(n, (points @ coefficients).ravel(), covariances)
