"""Experiments: who saw which variant, and what they did from then on, as sums (semantics 10).

The unit is the person. Frames are of any engine (`engines`). Whether variants differ, `experiment.results` says of the
few rows of `sufficient_statistics`.

Money is decimal everywhere else; here values become floats, because variances are no amounts of money.
"""

from __future__ import annotations

import narwhals as nw

from platform_assets.semantics.engines import Frame, lazy, property_column, with_properties
from platform_assets.semantics.experiment.specification import MULTIPLE, Experiment, Exposure, Measure
from platform_assets.semantics.matching import number, with_matches

VARIABLES = ("numerator", "denominator", "numerator_before", "denominator_before")
"""What is known of a unit by metric; `…_before` is the same before the exposure."""

_PAIRS = [(a, b) for i, a in enumerate(VARIABLES) for b in VARIABLES[i + 1 :]]
SUMS = (
    *(f"{variable}_sum" for variable in VARIABLES),
    *(f"{variable}_sum_squares" for variable in VARIABLES),
    *(f"{a}_{b}_sum_products" for a, b in _PAIRS),
)
"""What is known of a variant by metric, besides its units."""


def exposures(events: object, exposure: Exposure | None = None) -> Frame:
    """The first exposure of each person to each experiment.

    Args:
        events: ``person_id``, ``occurred_at`` (UTC), ``event_name``, and what the exposure names; a frame of any
            engine. An exposure without a person, an experiment or a variant is none.
        exposure: Which events, and where they say experiment and variant.

    Returns:
        ``experiment``, ``person_id``, ``variant`` (`MULTIPLE` where there is more than one), ``exposed_at`` (UTC).

    Raises:
        ValueError: The events lack a column that the exposure names.
    """
    named = exposure or Exposure()
    frame = with_matches(lazy(events), [("is_exposure", named.events)])
    frame = with_properties(frame.filter(nw.col("is_exposure")), [named.experiment, named.variant])
    experiment, variant = (nw.col(property_column(name)) for name in (named.experiment, named.variant))
    first = (
        frame.select("person_id", "occurred_at", experiment=experiment, variant=variant)
        .filter(*(~nw.col(name).is_null() for name in ("person_id", "experiment", "variant")))
        .group_by("experiment", "person_id")
        .agg(
            exposed_at=nw.col("occurred_at").min(),
            variant=nw.col("variant").min(),
            other=nw.col("variant").max(),
        )
    )
    # The other way around (where they are equal, the variant) Sail takes the column for one without nulls, and fails.
    found = nw.when(nw.col("variant") != nw.col("other")).then(nw.lit(MULTIPLE)).otherwise(nw.col("variant"))
    return first.select("experiment", "person_id", found.alias("variant"), "exposed_at")


def unit_metrics(exposed: object, events: object, experiment: Experiment) -> Frame:
    """What each unit of the experiment did: one row per person, one to four columns per metric.

    The metric at place *i* of the experiment has ``m<i>_numerator`` (all kinds), ``m<i>_denominator`` (ratios), and of
    both ``…_before``, where there are days of covariates. A unit that did nothing has zeros. Events count from the
    instant of the exposure on, and before it those at or after `covariate_days` earlier.

    The events are read once, however many metrics there are.

    Args:
        exposed: As of `exposures`.
        events: ``person_id``, ``occurred_at`` (UTC), ``event_name``, and what the measures name.
        experiment: Whose units and metrics.

    Returns:
        ``experiment``, ``person_id``, ``variant``, ``exposed_at``, and the metrics' columns (Float64).

    Raises:
        ValueError: The events lack a column that a measure names.
    """
    units = lazy(exposed).filter(nw.col("experiment") == experiment.name)
    columns = _columns(experiment)
    measures = list(dict.fromkeys(measure for measure, _ in columns.values()))
    values = [f"value_{i}" for i in range(len(measures))]
    happened = _valued(lazy(events), dict(zip(values, measures, strict=True)))
    at, start = nw.col("occurred_at"), nw.col("exposed_at")
    is_after = at >= start
    if experiment.conversion_window is not None:
        is_after &= at < start.dt.offset_by(f"{int(experiment.conversion_window.total_seconds())}s")
    is_before = (at < start) & (at >= start.dt.offset_by(f"-{24 * experiment.covariate_days}h"))
    parts, sums = {}, []
    for name, (measure, before) in columns.items():
        value = nw.col(values[measures.index(measure)])
        parts[name] = nw.when(is_before if before else is_after).then(value).otherwise(nw.lit(0.0))
        sums.append(nw.col(name).max() if measure.aggregation == "converted" else nw.col(name).sum())
    done = (
        units.select("person_id", "exposed_at")
        .join(happened, on="person_id", how="inner")
        .filter(is_after | is_before if experiment.covariate_days else is_after)
        .select("person_id", **parts)
        .group_by("person_id")
        .agg(*sums)
    )
    return units.join(done, on="person_id", how="left").select(
        "experiment", "person_id", "variant", "exposed_at", *(nw.col(name).fill_null(0.0) for name in columns)
    )


def sufficient_statistics(units: object, experiment: Experiment) -> Frame:
    """The sums of each variant and metric.

    Args:
        units: As of `unit_metrics`.
        experiment: The same.

    Returns:
        ``experiment``, ``variant`` (also `MULTIPLE`, and what the experiment does not know), ``units`` (Int64),
        ``metric``, and `SUMS` (Float64; null where the metric has no such variable).
    """
    known = [_known(experiment, place) for place in range(len(experiment.metrics))]
    sums = {f"m{place}_{name}": sum_ for place, columns in enumerate(known) for name, sum_ in _sums(columns).items()}
    # A row per variant becomes one per variant and metric without another look at the units. (Narwhals' unpivot cannot
    # see a relation of a DuckDB connection other than the default one.)
    metrics = [
        nw.struct(
            metric=nw.lit(metric.name),
            **{
                name: nw.col(f"m{place}_{name}") if f"m{place}_{name}" in sums else nw.lit(None, nw.Float64)
                for name in SUMS
            },
        )
        for place, metric in enumerate(experiment.metrics)
    ]
    long = (
        lazy(units)
        .group_by("experiment", "variant")
        .agg(nw.len().cast(nw.Int64).alias("units"), **sums)
        .select("experiment", "variant", "units", metrics=nw.list(*metrics))
        .explode("metrics", empty_as_null=False, keep_nulls=False)
    )
    fields = {name: nw.col("metrics").struct.field(name) for name in ("metric", *SUMS)}
    return long.select("experiment", "variant", "units", **fields)


def _known(experiment: Experiment, place: int) -> dict[str, nw.Expr]:
    """The columns of a metric in `unit_metrics`, by variable."""
    columns = _columns(experiment)
    return {variable: nw.col(f"m{place}_{variable}") for variable in VARIABLES if f"m{place}_{variable}" in columns}


def _sums(columns: dict[str, nw.Expr]) -> dict[str, nw.Expr]:
    sums = {f"{variable}_sum": column.sum() for variable, column in columns.items()}
    sums |= {f"{variable}_sum_squares": (column * column).sum() for variable, column in columns.items()}
    pairs = [(a, b) for a, b in _PAIRS if a in columns and b in columns]
    return sums | {f"{a}_{b}_sum_products": (columns[a] * columns[b]).sum() for a, b in pairs}


def _columns(experiment: Experiment) -> dict[str, tuple[Measure, bool]]:
    """By column of `unit_metrics`: what is measured, and whether before the exposure."""
    found = {}
    for place, metric in enumerate(experiment.metrics):
        for variable, measure in (("numerator", metric.measure), ("denominator", metric.denominator)):
            if measure is not None:
                found[f"m{place}_{variable}"] = (measure, False)
                if experiment.covariate_days:
                    found[f"m{place}_{variable}_before"] = (measure, True)
    return found


def _valued(events: Frame, measures: dict[str, Measure]) -> Frame:
    """The events that any measure counts, with the value of each for each: null where it does not count."""
    named = {f"is_{name}": measure.events for name, measure in measures.items()}
    matched = with_matches(events, named.items()).filter(nw.any_horizontal(*named, ignore_nulls=True))
    columns = matched.collect_schema().names()
    matched = with_properties(matched, (m.value for m in measures.values() if m.value and m.value not in columns))
    counted = {}
    for name, measure in measures.items():
        value = nw.lit(1.0)
        if measure.value is not None and measure.value in columns:
            value = nw.col(measure.value).cast(nw.Float64)
        elif measure.value is not None:
            value = number(nw.col(property_column(measure.value)))
        counted[name] = nw.when(nw.col(f"is_{name}")).then(value)
    return matched.select("person_id", "occurred_at", **counted)
