"""From the metrics of `gold/metrics` to tables by the day."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from platform_assets.gold import funnels
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_files import Metric, MetricFileError, load
from platform_assets.semantics.funnels import Funnel


def number(metric: Metric) -> DailyNumber:
    """The table of a metric.

    Raises:
        MetricFileError: It asks for what the lake does not have.
    """
    specification = metric.specification
    if isinstance(specification, Funnel):
        return funnels.number(metric, specification)
    msg = f"{metric.name}.yaml: kind: {metric.kind!r} has no table"
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
