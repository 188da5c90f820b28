"""What an experiment is: its variants, who is a unit of it, and what is measured (semantics 10)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from platform_assets.semantics.specification import Duration, EventPredicate, Specification

MULTIPLE = "__multiple__"
"""The variant of a person who saw more than one; left out of the results, and counted."""

SAMPLE_RATIO_ALARM = 0.001
"""The p-value of the sample-ratio check below which a result is hidden."""

SEQUENTIAL_TUNING = 5000.0
"""Units at which the always-valid interval is narrowest."""

Aggregation = Literal["converted", "count", "sum"]


class Exposure(Specification):
    """Which events say that a person saw a variant, and which properties of theirs say the experiment and the variant.

    Properties are as in `Filter.property`.
    """

    events: EventPredicate = EventPredicate(event="experiment_viewed")
    experiment: str = "properties.experiment"
    variant: str = "properties.variant"


class Measure(Specification):
    """What is counted of a unit: 0 or 1 (`converted`), events (`count`), or a property's values added up (`sum`).

    Attributes:
        events: Which events.
        aggregation: How they make one number.
        value: For `sum`: a column of numbers, or a property as in `Filter.property`, whose texts that are no numbers
            add nothing. Nulls add nothing.
    """

    events: EventPredicate
    aggregation: Aggregation = "converted"
    value: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.aggregation == "sum" and self.value is None:
            raise ValueError("value is missing: for aggregation 'sum' name the property that is added up")
        if self.aggregation != "sum" and self.value is not None:
            raise ValueError(
                f"value is {self.value!r}, but aggregation {self.aggregation!r} reads no property: "
                "leave value out, or say aggregation 'sum'"
            )
        return self


class Metric(Specification):
    """A measure per unit, or, with a denominator, its total by the denominator's total."""

    name: str = Field(min_length=1)
    measure: Measure
    denominator: Measure | None = None

    @property
    def kind(self) -> Literal["mean", "proportion", "ratio"]:
        """What statistic it is."""
        if self.denominator is not None:
            return "ratio"
        return "proportion" if self.measure.aggregation == "converted" else "mean"


class Experiment(Specification):
    """An experiment, and how it is told.

    Attributes:
        name: As in the exposures' column of experiments.
        variants: All of them, the control included.
        control: The variant that the others are compared with.
        weights: The parts in which units were assigned, in the order of `variants`; without, equal ones.
        metrics: What is measured.
        alpha: One less the intervals' confidence.
        covariate_days: Days before a unit's exposure, in elapsed hours, that the same metric is taken of for CUPED;
            0 is none.
        conversion_window: How long from a unit's exposure on its events count, half-open; without, for ever.
        sequential_tuning: The number of units at which the always-valid interval is narrowest.
        sample_ratio_alarm: The sample-ratio check's p-value below which the result is hidden.
        exposure: The event that says who saw what.
    """

    name: str = Field(min_length=1)
    variants: tuple[str, ...]
    control: str
    metrics: tuple[Metric, ...]
    weights: tuple[float, ...] | None = None
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    covariate_days: int = Field(default=14, ge=0)
    conversion_window: Duration | None = None
    sequential_tuning: float = Field(default=SEQUENTIAL_TUNING, gt=0)
    sample_ratio_alarm: float = Field(default=SAMPLE_RATIO_ALARM, ge=0, lt=1)
    exposure: Exposure = Exposure()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if len(self.variants) < 2 or len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants is {list(self.variants)}: give at least two, each once")
        if MULTIPLE in self.variants:
            raise ValueError(f"variants has {MULTIPLE!r}, which stands for persons who saw several: name it otherwise")
        if self.control not in self.variants:
            raise ValueError(f"control is {self.control!r}, which is not in variants {list(self.variants)}: add it")
        names = [metric.name for metric in self.metrics]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"metrics has the names {names}: give at least one metric, and each name once")
        if self.weights is not None and len(self.weights) != len(self.variants):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.variants)} variants: give one for each variant"
            )
        if self.weights is not None and min(self.weights) <= 0:
            raise ValueError(f"weights is {list(self.weights)}: give numbers above 0, and leave out unused variants")
        window = self.conversion_window
        if window is not None and (window <= timedelta(0) or window % timedelta(seconds=1)):
            raise ValueError(f"conversion_window is {window}: give whole seconds above 0, or leave it out")
        return self


class DatedExperiment(Experiment):
    """An experiment with its days.

    Attributes:
        first_day: The first day of exposures that counts, in the reporting timezone.
        last_day: The last day that results are told of.
    """

    first_day: date
    last_day: date

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.last_day < self.first_day:
            msg = f"last_day {self.last_day} is before first_day {self.first_day}"
            raise ValueError(msg)
        return self
