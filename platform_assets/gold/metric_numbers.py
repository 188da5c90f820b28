"""From the metrics of `gold/metrics` to tables by the day."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from platform_assets.gold import cohorts, experiment_results, funnels, lifecycle, retention, stickiness, trends
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_files import Metric, MetricFileError, load
from platform_assets.semantics.cohorts import Cohort
from platform_assets.semantics.experiment.specification import DatedExperiment
from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.lifecycle import Lifecycle
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.stickiness import RollingStickiness
from platform_assets.semantics.trends import Trend


def number(metric: Metric) -> DailyNumber:
    """The table of a metric.

    Raises:
        MetricFileError: It asks for what the lake does not have.
    """
    match metric.specification:
        case Funnel() as funnel:
            return funnels.number(metric, funnel)
        case Retention() as retained:
            return retention.number(metric, retained)
        case Lifecycle() as lived:
            return lifecycle.number(metric, lived)
        case DatedExperiment() as experiment:
            return experiment_results.number(metric, experiment)
        case Cohort() as cohort:
            return cohorts.number(metric, cohort)
        case Trend() as trend:
            return trends.number(metric, trend)
        case RollingStickiness() as histogram:
            return stickiness.number(metric, histogram)
        case _:
            msg = f"{metric.name}.yaml: metric: {metric.kind!r} has no table"
            raise MetricFileError(msg)


def numbers(metrics: Iterable[Metric]) -> tuple[DailyNumber, ...]:
    """The tables of some metrics, in their order.

    Raises:
        MetricFileError: One of them asks for what the lake does not have.
    """
    return tuple(number(metric) for metric in metrics)


@cache
def own_numbers() -> tuple[DailyNumber, ...]:
    """The tables of the project's own metrics; their files are read once.

    Raises:
        MetricFileError: A file is wrong.
    """
    return numbers(load())
