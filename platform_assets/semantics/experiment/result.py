"""The rows of an experiment's results, as they are told (semantics 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One metric of one variant against the control; nulls where `problem` says why.

    Intervals are of the experiment's confidence. `difference` is in the metric's unit, `lift` in parts of the control's
    absolute mean. The p-value is of the difference (Welch). `cuped_…` are adjusted by the same metric before the
    exposure, and null where that explains nothing or all; `sequential_…` are always valid, and not adjusted.
    """

    experiment: str
    metric: str
    variant: str
    units: int
    control_units: int
    problem: str | None = None
    mean: float | None = None
    control_mean: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    lift: float | None = None
    lift_low: float | None = None
    lift_high: float | None = None
    cuped_difference: float | None = None
    cuped_difference_low: float | None = None
    cuped_difference_high: float | None = None
    cuped_p_value: float | None = None
    cuped_lift: float | None = None
    cuped_lift_low: float | None = None
    cuped_lift_high: float | None = None
    sequential_difference_low: float | None = None
    sequential_difference_high: float | None = None
    sequential_p_value: float | None = None
    sequential_lift_low: float | None = None
    sequential_lift_high: float | None = None
    sample_ratio_p_value: float = 1.0
    is_sample_ratio_alarm: bool = False


@dataclass(frozen=True)
class Results:
    """What came of an experiment.

    Attributes:
        rows: By metric, and by variant but the control, in the experiment's order.
        units: By variant of the experiment.
        multiple_units: Persons who saw more than one variant; left out.
        unknown_units: Persons whose variant is not the experiment's; left out.
        sample_ratio_p_value: How probable it is that units so assigned are at least as far from the weights.
        is_sample_ratio_alarm: Whether that is below the experiment's limit, and the rows are without figures.
    """

    rows: tuple[Result, ...]
    units: Mapping[str, int]
    multiple_units: int
    unknown_units: int
    sample_ratio_p_value: float
    is_sample_ratio_alarm: bool
