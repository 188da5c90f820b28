"""What has to be known of a variant: units, sums, sums of squares and of products (semantics 10).

Every statistic is a smooth function of the means of some values per unit: of one value (a mean, a proportion), of
numerator and denominator (a ratio), of a value and the same value before the exposure (CUPED), or of all four. So each
says its means, their covariances and its gradient, and its variance is the delta method's.

Which variance is taken of what (over n - 1, of a proportion over n) and the variance of quantiles are as GrowthBook's
statistics define them (docs.growthbook.io/statistics/details; its package gbstats, MIT). A quantile's variance out of
its order statistics is Deng, Knoblich and Lu, "Applying the delta method in metric analytics" (KDD 2018).
Means and ratios with a covariate are in `covariates`.

A variance out of sums loses digits where the mean is far larger than the spread: a value of 1e9 ± 1 per unit has none
left. Shift such a value before it is summed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from typing_extensions import override

Array = npt.NDArray[np.float64]

_INTERVAL = 0.95
"""The confidence at which the bounds of a quantile's statistic were read off the order statistics."""


class Statistic(ABC):
    """What is known of one variant's metric. `n` is the number of units (of a quantile, of events)."""

    n: int

    @property
    @abstractmethod
    def value(self) -> float:
        """The estimate, adjusted where the statistic has a CUPED coefficient; 0 where there is nothing to divide by."""

    @property
    @abstractmethod
    def means(self) -> Array:
        """The means per unit that the value is a function of."""

    @property
    @abstractmethod
    def covariances(self) -> Array:
        """Covariances of a unit's values, in the order of `means`."""

    @property
    def gradient(self) -> Array:
        """Derivatives of `value` by `means`."""
        return np.ones(1)

    @property
    def unadjusted_value(self) -> float:
        """The estimate without CUPED."""
        return self.value

    @property
    def unadjusted_gradient(self) -> Array:
        """Derivatives of `unadjusted_value` by `means`."""
        return self.gradient

    @property
    def variance(self) -> float:
        """Variance of one unit's part in the value (so that of the value is this / n); 0 for fewer than two units."""
        return 0.0 if self.n <= 1 else float(self.gradient @ self.covariances @ self.gradient)

    @property
    def has_no_variance(self) -> bool:
        """Whether nothing can be inferred."""
        return self.variance <= 0


class _Single(Statistic):
    """One value per unit."""

    sum: float

    @property
    @abstractmethod
    def products(self) -> Array:
        """Sum of the values' squares, as a matrix."""

    @property
    @override
    def value(self) -> float:
        return self.sum / self.n if self.n else 0.0

    @property
    @override
    def means(self) -> Array:
        return np.array([self.value])

    @property
    @override
    def covariances(self) -> Array:
        return np.array([[covariance(self.n, self, self, self.products[0, 0])]])

    def __add__(self, other: _Single) -> MeanStatistic:
        """Of two groups of units together; of proportions a mean, as gbstats has it."""
        squares = float(self.products[0, 0] + other.products[0, 0])
        return MeanStatistic(self.n + other.n, self.sum + other.sum, squares)


@dataclass(frozen=True)
class MeanStatistic(_Single):
    """A value per unit: `n` units, `sum` and `sum_squares` of their values."""

    n: int
    sum: float
    sum_squares: float

    @property
    @override
    def products(self) -> Array:
        return np.array([[self.sum_squares]])


@dataclass(frozen=True)
class ProportionStatistic(_Single):
    """Zero or one per unit: `sum` of `n` units have one."""

    n: int
    sum: float

    @property
    @override
    def products(self) -> Array:
        return np.array([[self.sum]])


Single = MeanStatistic | ProportionStatistic


def covariance(n: int, a: _Single, b: _Single, sum_products: float) -> float:
    """Covariance of two values of a unit: over n - 1, and over n between proportions, whose variance is p(1 - p)."""
    if n <= 1:
        return 0.0
    centred = sum_products - a.sum * b.sum / n
    both = isinstance(a, ProportionStatistic) and isinstance(b, ProportionStatistic)
    return centred / n if both else centred / (n - 1)


def ratio(means: Array) -> tuple[float, Array]:
    """A mean, or the ratio of two, and its derivatives; both zero where the denominator is."""
    if len(means) == 1:
        return float(means[0]), np.ones(1)
    numerator, denominator = float(means[0]), float(means[1])
    if denominator == 0:
        return 0.0, np.zeros(2)
    return numerator / denominator, np.array([1 / denominator, -numerator / denominator**2])


@dataclass(frozen=True)
class RatioStatistic(Statistic):
    """A sum over a sum, of the same units: revenue per order. `sum_products`: of numerator and denominator."""

    n: int
    numerator: Single
    denominator: Single
    sum_products: float

    @property
    @override
    def value(self) -> float:
        return ratio(self.means)[0]

    @property
    @override
    def gradient(self) -> Array:
        return ratio(self.means)[1]

    @property
    @override
    def means(self) -> Array:
        return np.array([self.numerator.value, self.denominator.value])

    @property
    @override
    def covariances(self) -> Array:
        between = covariance(self.n, self.numerator, self.denominator, self.sum_products)
        return np.array([[self.numerator.covariances[0, 0], between], [between, self.denominator.covariances[0, 0]]])

    def __add__(self, other: RatioStatistic) -> RatioStatistic:
        return RatioStatistic(
            self.n + other.n,
            self.numerator + other.numerator,
            self.denominator + other.denominator,
            self.sum_products + other.sum_products,
        )


@dataclass(frozen=True)
class QuantileStatistic(Statistic):
    """A quantile of `n` events: the sample's `quantile` at `level`, and the bounds of its 95 % interval.

    `lower` and `upper` were read off the order statistics of a sample of `bounds_n` events.
    """

    n: int
    bounds_n: int
    level: float
    quantile: float
    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}: give a quantile's level strictly between 0 and 1")

    @property
    @override
    def value(self) -> float:
        return self.quantile

    @property
    @override
    def means(self) -> Array:
        return np.array([self.quantile])

    @property
    @override
    def covariances(self) -> Array:
        # From a hundred events on a spread of nothing is the resolution's, not the data's.
        spread = self._spread
        return np.array([[spread if self.n < 100 else max(spread, 1e-5)]])

    @property
    def _spread(self) -> float:
        """Variance of one event's part in the quantile, out of the width of the interval."""
        if self.n <= 1:
            return 0.0
        standard_error = (self.upper - self.lower) / (2 * float(stats.norm.ppf((1 + _INTERVAL) / 2)))
        return self.bounds_n / self.n * (self.n - 1) * standard_error**2

    @property
    @override
    def has_no_variance(self) -> bool:
        """Also where the interval would reach past the smallest or largest event, or its bounds are one value."""
        reach = float(stats.norm.ppf((1 + _INTERVAL) / 2)) ** 2
        odds = self.level / (1 - self.level)
        return self.n <= reach * max(odds, 1 / odds) or self._spread <= 0


@dataclass(frozen=True)
class ClusteredQuantileStatistic(QuantileStatistic):
    """A quantile of events, where units with several events each were assigned: events of a unit are not independent.

    Per unit: how many of its events are at or below the quantile (`below_…`), how many it has (`events_…`).
    """

    below_sum: float
    below_sum_squares: float
    events_sum: float
    events_sum_squares: float
    sum_products: float
    clusters: int

    @property
    @override
    def _spread(self) -> float:
        if self.clusters <= 1 or self.events_sum <= 0:
            return 0.0
        share = RatioStatistic(
            self.clusters,
            MeanStatistic(self.clusters, self.below_sum, self.below_sum_squares),
            MeanStatistic(self.clusters, self.events_sum, self.events_sum_squares),
            self.sum_products,
        )
        independent = self.level * (1 - self.level) / self.n
        return super()._spread * (share.variance / self.clusters) / independent
