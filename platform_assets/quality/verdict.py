"""What a check says of one partition, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

SHOWN = 10
"""How many of those things that do not hold are shown."""


@dataclass(frozen=True)
class Finding:
    """What a comparison found.

    Attributes:
        description: What was seen, for people.
        off: A row for each thing that differs; empty where all is well.
    """

    description: str
    off: pl.DataFrame


@dataclass(frozen=True)
class Verdict:
    """What a check says of one partition.

    Partitions that are judged together, and hold, have one verdict: its numbers must be those of each of them.

    Attributes:
        passed: Whether it holds.
        description: What was seen, for people.
        is_told: Whether there was anything to tell it by; else it passes, and says nothing of what came before.
        metadata: What else people should see.
        observed: The number that was judged.
        least: The least that it may be.
        most: The most that it may be.
        unit: Unit of the three.
        rows_failed: How many rows do not hold; None where the check is not about rows.
        sample: Some of what does not hold.
        seconds: How long the judgement took; of partitions judged together, the share of this one.
        table_version: The table's Delta version when it began. Of a table that a stream adds to, a later one may have
            been read.
    """

    passed: bool
    description: str
    is_told: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    observed: float | None = None
    least: float | None = None
    most: float | None = None
    unit: str | None = None
    rows_failed: int | None = None
    sample: str | None = None
    seconds: float | None = None
    table_version: int | None = None

    @classmethod
    def of_wrong(
        cls, found: float, unit: str, description: str, sample: object = None, rows_failed: int | None = None
    ) -> Self:
        """The verdict of a check that nothing may be found by.

        Args:
            found: How much is wrong.
            unit: What of.
            description: What was seen, for people.
            sample: Some of it.
            rows_failed: How many rows are concerned, where it is about rows.
        """
        return cls(
            passed=found == 0,
            description=description,
            observed=found,
            most=0,
            unit=unit,
            rows_failed=rows_failed,
            sample=str(sample) if found and sample is not None else None,
        )

    @classmethod
    def of_finding(cls, finding: Finding, unit: str) -> Self:
        """The verdict of a comparison that nothing may be found by.

        Args:
            finding: What it found.
            unit: What one row of it is.
        """
        return cls.of_wrong(finding.off.height, unit, finding.description, finding.off.head(SHOWN).to_dicts())
