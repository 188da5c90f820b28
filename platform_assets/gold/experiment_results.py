"""`gold/experiment_results/…`: an experiment of `gold/metrics`, as it stands at the end of each of its days."""

from __future__ import annotations

from dataclasses import asdict, fields

import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets.gold import fact_events
from platform_assets.gold.daily_numbers import DailyNumber, Reading, daily_table, published
from platform_assets.gold.metric_columns import fact_columns, of_names
from platform_assets.gold.metric_files import Metric
from platform_assets.semantics.experiment.result import Result
from platform_assets.semantics.experiment.specification import DatedExperiment
from platform_assets.semantics.experiments import exposures, sufficient_statistics, unit_metrics
from platform_assets.table import Column, Plot, Table

_FIGURES = tuple(field for field in fields(Result) if field.name not in ("experiment", "metric", "variant"))
_DTYPES = {"int": pl.Int64(), "float": pl.Float64(), "str": pl.String(), "bool": pl.Boolean()}
_MEANINGS = {
    "units": "Persons who saw the variant first, and no other.",
    "control_units": "Persons who saw the control first, and no other.",
    "problem": "Why there are no figures.",
    "mean": "Of the variant's units, in the metric's unit.",
    "control_mean": "Of the control's units.",
    "difference": "Variant less control; its interval is Welch's.",
    "p_value": "Of the difference (Welch).",
    "lift": "Difference in parts of the control's mean (delta method).",
    "cuped_difference": "Adjusted by the same metric before the exposure.",
    "sequential_p_value": "Always valid.",
    "sample_ratio_p_value": "That units so assigned are at least as far from the weights (chi-square).",
    "is_sample_ratio_alarm": "Whether that is so improbable that the figures are hidden.",
}


def table(metric: Metric) -> Table:
    """The declaration of an experiment's table."""
    return daily_table(
        metric,
        says="Each day has the results as of its end, from the first exposure on.",
        grain="day × metric × variant",
        day="Day at whose end the results stand so",
        by=("metric", "variant"),
        columns=(
            Column("metric", pl.String(), "Name of the metric."),
            Column("variant", pl.String(), "The variant that is compared with the control."),
            *(_column(field.name, str(field.type)) for field in _FIGURES),
            Column("multiple_units", pl.Int64(), "Persons who saw several variants: left out.", unit="persons"),
        ),
        steady=False,
        plot=Plot("lift", by="metric", days=90),
    )


def _column(name: str, annotation: str) -> Column:
    plain = annotation.removesuffix(" | None")
    ends = {"_low": "Lower end of the interval of", "_high": "Upper end of the interval of"}
    meaning = next((f"{said} `{name.removesuffix(end)}`." for end, said in ends.items() if name.endswith(end)), None)
    described = _MEANINGS.get(name) or meaning or f"`{name.partition('_')[2]}`, {name.partition('_')[0]}."
    return Column(name, _DTYPES[plain], described, nullable=plain != annotation)


def number(metric: Metric, experiment: DatedExperiment) -> DailyNumber:
    """An experiment as a table by the day.

    Args:
        metric: What its file says.
        experiment: The experiment.

    Raises:
        MetricFileError: It asks for what facts do not have.
    """
    measures = [m for told in experiment.metrics for m in (told.measure, told.denominator) if m is not None]
    predicates = [experiment.exposure.events, *(measure.events for measure in measures)]
    wanted = {reference for predicate in predicates for reference in predicate.properties}
    wanted |= {experiment.exposure.experiment, experiment.exposure.variant}
    wanted |= {measure.value for measure in measures if measure.value is not None}
    made = table(metric)
    back = (experiment.last_day - experiment.first_day).days + experiment.covariate_days + 1
    return DailyNumber(
        table=made,
        source=fact_events.TABLE,
        columns=fact_columns(metric, wanted),
        compute=lambda reading: rows(reading, experiment),
        back=back,
        keep=of_names(predicates),
        within=(experiment.first_day, experiment.last_day),
        publishes=published(made, "lift", ("metric", "variant"), back=back),
    )


def rows(reading: Reading, experiment: DatedExperiment) -> pl.DataFrame:
    """The rows of some days, without those that say how final they are."""
    # scipy takes a second, and of all that loads the definitions only this needs it.
    from platform_assets.semantics.experiment.results import results  # noqa: PLC0415

    begun = Window.of_days(experiment.first_day, experiment.first_day, reading.zone).start
    found = []
    for day in reading.days:
        if not experiment.first_day <= day <= experiment.last_day:
            continue
        known = reading.events.filter(nw.col("occurred_at") < Window.of_days(day, day, reading.zone).end)
        exposed = exposures(known.filter(nw.col("occurred_at") >= begun), experiment.exposure)
        told = results(sufficient_statistics(unit_metrics(exposed, known, experiment), experiment), experiment)
        found += [{"day": day, **asdict(row), "multiple_units": told.multiple_units} for row in told.rows]
    schema = {"day": pl.Date(), "experiment": pl.String(), "metric": pl.String(), "variant": pl.String()}
    schema |= {field.name: _column(field.name, str(field.type)).dtype for field in _FIGURES}
    return pl.DataFrame(found, schema={**schema, "multiple_units": pl.Int64()}).drop("experiment")
