"""The same metric before the exposure as a covariate: CUPED (semantics 10).

Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment
data" (WSDM 2013). How the coefficient is pooled over the variants, and CUPED of ratios, are as GrowthBook's statistics
define them (docs.growthbook.io/statistics/cuped; its package gbstats, MIT).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from platform_assets.semantics.experiment.moments import (
    Array,
    MeanStatistic,
    ProportionStatistic,
    RatioStatistic,
    Single,
    Statistic,
    covariance,
    ratio,
)

_NO_CORRELATION = 1e-8
"""A coefficient of ratios below this is none: it is a quotient of rounding errors."""


@dataclass(frozen=True)
class AdjustedMeanStatistic(Statistic):
    """A value per unit after the exposure, and the same before it: CUPED.

    `sum_products`: of the value after and before. `theta`: the coefficient, one for both variants; None is not yet
    known (`adjusted` finds it), and is computed with as zero.
    """

    n: int
    after: Single
    before: Single
    sum_products: float
    theta: float | None = None

    def __post_init__(self) -> None:
        if type(self.after) is not type(self.before):
            raise TypeError(
                f"after is a {type(self.after).__name__} and before a {type(self.before).__name__}: "
                "the covariate is the same metric before the exposure, so give both as one kind"
            )

    @property
    @override
    def value(self) -> float:
        return self.after.value - (self.theta or 0.0) * self.before.value

    @property
    @override
    def gradient(self) -> Array:
        return np.array([1.0, -(self.theta or 0.0)])

    @property
    @override
    def unadjusted_value(self) -> float:
        return self.after.value

    @property
    @override
    def unadjusted_gradient(self) -> Array:
        return np.array([1.0, 0.0])

    @property
    @override
    def means(self) -> Array:
        return np.array([self.after.value, self.before.value])

    @property
    @override
    def covariances(self) -> Array:
        between = covariance(self.n, self.after, self.before, self.sum_products)
        return np.array([[self.after.covariances[0, 0], between], [between, self.before.covariances[0, 0]]])

    @property
    def products(self) -> Array:
        """Sums of squares and products of the two values, in the order of `means`."""
        between = self.sum_products
        return np.array([[self.after.products[0, 0], between], [between, self.before.products[0, 0]]])

    def unadjusted(self) -> Single:
        """The same without the covariate."""
        return self.after

    def __add__(self, other: AdjustedMeanStatistic) -> AdjustedMeanStatistic:
        return AdjustedMeanStatistic(
            self.n + other.n,
            self.after + other.after,
            self.before + other.before,
            self.sum_products + other.sum_products,
        )


@dataclass(frozen=True)
class AdjustedRatioStatistic(Statistic):
    """A ratio after the exposure, and the same ratio before it: CUPED for ratios.

    The sums of products are of a unit's numerator and denominator, each after or before. `theta` as for a mean.
    """

    n: int
    numerator_after: Single
    denominator_after: Single
    numerator_before: Single
    denominator_before: Single
    numerator_after_denominator_after: float
    numerator_after_numerator_before: float
    numerator_after_denominator_before: float
    denominator_after_numerator_before: float
    denominator_after_denominator_before: float
    numerator_before_denominator_before: float
    theta: float | None = None

    def __post_init__(self) -> None:
        for name in ("numerator", "denominator"):
            after, before = getattr(self, f"{name}_after"), getattr(self, f"{name}_before")
            if type(after) is not type(before):
                raise TypeError(
                    f"{name}_after is a {type(after).__name__} and {name}_before a {type(before).__name__}: "
                    "the covariate is the same metric before the exposure, so give both as one kind"
                )

    @property
    @override
    def value(self) -> float:
        if self.denominator_after.sum == 0 or self.denominator_before.sum == 0:
            return 0.0
        return self.unadjusted_value - (self.theta or 0.0) * ratio(self.means[2:])[0]

    @property
    @override
    def gradient(self) -> Array:
        if self.denominator_after.sum == 0 or self.denominator_before.sum == 0:
            return np.zeros(4)
        return np.concatenate([ratio(self.means[:2])[1], -(self.theta or 0.0) * ratio(self.means[2:])[1]])

    @property
    @override
    def unadjusted_value(self) -> float:
        return ratio(self.means[:2])[0]

    @property
    @override
    def unadjusted_gradient(self) -> Array:
        return np.concatenate([ratio(self.means[:2])[1], np.zeros(2)])

    @property
    def _parts(self) -> tuple[Single, Single, Single, Single]:
        return self.numerator_after, self.denominator_after, self.numerator_before, self.denominator_before

    @property
    @override
    def means(self) -> Array:
        return np.array([part.value for part in self._parts])

    @property
    @override
    def covariances(self) -> Array:
        parts, products = self._parts, self.products
        return np.array([[covariance(self.n, parts[i], parts[j], products[i, j]) for j in range(4)] for i in range(4)])

    @property
    def products(self) -> Array:
        """Sums of squares and products of the four values, in the order of `means`."""
        after, before = self.numerator_after_denominator_after, self.numerator_before_denominator_before
        nn, nd = self.numerator_after_numerator_before, self.numerator_after_denominator_before
        dn, dd = self.denominator_after_numerator_before, self.denominator_after_denominator_before
        squares = [float(part.products[0, 0]) for part in self._parts]
        return np.array(
            [
                [squares[0], after, nn, nd],
                [after, squares[1], dn, dd],
                [nn, dn, squares[2], before],
                [nd, dd, before, squares[3]],
            ]
        )

    def unadjusted(self) -> RatioStatistic:
        """The same without the covariate."""
        return RatioStatistic(
            self.n, self.numerator_after, self.denominator_after, self.numerator_after_denominator_after
        )

    def __add__(self, other: AdjustedRatioStatistic) -> AdjustedRatioStatistic:
        return AdjustedRatioStatistic(
            self.n + other.n,
            self.numerator_after + other.numerator_after,
            self.denominator_after + other.denominator_after,
            self.numerator_before + other.numerator_before,
            self.denominator_before + other.denominator_before,
            self.numerator_after_denominator_after + other.numerator_after_denominator_after,
            self.numerator_after_numerator_before + other.numerator_after_numerator_before,
            self.numerator_after_denominator_before + other.numerator_after_denominator_before,
            self.denominator_after_numerator_before + other.denominator_after_numerator_before,
            self.denominator_after_denominator_before + other.denominator_after_denominator_before,
            self.numerator_before_denominator_before + other.numerator_before_denominator_before,
        )


def adjusted(a: Statistic, b: Statistic) -> tuple[Statistic, Statistic]:
    """The pair with one CUPED coefficient; the pair without a covariate where that explains nothing.

    The coefficient is the slope of the value on its covariate over both variants together; of ratios, of their
    linearised values, the variants weighing the same. Pairs of other statistics, or with a coefficient, stay.
    """
    if isinstance(a, AdjustedMeanStatistic) and isinstance(b, AdjustedMeanStatistic):
        if a.theta is not None and b.theta is not None:
            return a, b
        theta = _mean_theta(a, b)
        if theta == 0:
            return a.unadjusted(), b.unadjusted()
        return replace(a, theta=theta), replace(b, theta=theta)
    if isinstance(a, AdjustedRatioStatistic) and isinstance(b, AdjustedRatioStatistic):
        if a.theta is not None and b.theta is not None:
            return a, b
        theta = _ratio_theta(a, b)
        if abs(theta) < _NO_CORRELATION:
            return a.unadjusted(), b.unadjusted()
        return replace(a, theta=theta), replace(b, theta=theta)
    return a, b


def _mean_theta(a: AdjustedMeanStatistic, b: AdjustedMeanStatistic) -> float:
    after, before = _pooled(a.after, b.after), _pooled(a.before, b.before)
    joint = AdjustedMeanStatistic(a.n + b.n, after, before, a.sum_products + b.sum_products).covariances
    return 0.0 if joint[0, 0] == 0 or joint[1, 1] == 0 else float(joint[0, 1] / joint[1, 1])


def _pooled(a: Single, b: Single) -> Single:
    if isinstance(a, ProportionStatistic) and isinstance(b, ProportionStatistic):
        return ProportionStatistic(a.n + b.n, a.sum + b.sum)
    if isinstance(a, MeanStatistic) and isinstance(b, MeanStatistic):
        return a + b
    raise TypeError(
        f"one variant has a {type(a).__name__}, the other a {type(b).__name__}: a metric has one kind in all variants"
    )


def _ratio_theta(a: AdjustedRatioStatistic, b: AdjustedRatioStatistic) -> float:
    explained = spread = 0.0
    for statistic in (a, b):
        if statistic.denominator_after.sum == 0 or statistic.denominator_before.sum == 0:
            continue
        after, before = ratio(statistic.means[:2])[1], ratio(statistic.means[2:])[1]
        explained += float(before @ statistic.covariances[2:, :2] @ after)
        spread += float(before @ statistic.covariances[2:, 2:] @ before)
    return explained / spread if spread else 0.0
