"""From the metrics of `gold/metrics` to tables by the day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from platform_assets.gold import cohorts, experiment_results, funnels, lifecycle, retention, stickiness, trends
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_files import FOLDER, Metric, MetricFileError, WrongFile, kind_of, paths, read
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


@dataclass(frozen=True)
class Survey:
    """What a folder of metrics has.

    Attributes:
        numbers: The tables of the files that are right.
        wrong: The files that are not.
        metrics: What the files say that are right; in the order of ``numbers``.
    """

    numbers: tuple[DailyNumber, ...] = ()
    wrong: tuple[WrongFile, ...] = ()
    metrics: tuple[Metric, ...] = ()

    @property
    def faults(self) -> str:
        """Every fault of every file, one a line; empty where there is none."""
        return "\n".join(file.faults for file in self.wrong)


def survey(folder: Path = FOLDER) -> Survey:
    """What a folder's ``*.yaml`` have, by name: a file that is wrong keeps no other from being a metric."""
    found: list[tuple[DailyNumber, Metric]] = []
    wrong: list[WrongFile] = []
    for path in paths(folder):
        try:
            metric = read(path)
            found.append((number(metric), metric))
        except MetricFileError as error:
            wrong.append(WrongFile(path.stem, kind_of(path), str(error)))
    return Survey(tuple(made for made, _ in found), tuple(wrong), tuple(metric for _, metric in found))


@cache
def own_metrics() -> Survey:
    """The project's own metrics; their files are read once."""
    return survey()


def own_numbers() -> tuple[DailyNumber, ...]:
    """The tables of the project's own metrics whose files are right."""
    return own_metrics().numbers
