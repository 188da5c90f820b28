"""`quality/check_results`: every evaluation of a check, with what was observed and what was expected.

The rows are taken from Dagster's event log, in its order. How far is the table's progress, in the commit of the rows: a
process that dies at any point loses nothing, and doubles nothing. A lake that is new has the whole log taken in again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
import polars as pl

from platform_assets.platform import Platform
from platform_assets.quality.evaluations import PILLARS, Evaluation, new_evaluations, progress_in, storage_of
from platform_assets.semantics.privacy import protected_texts
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Writer
from resources.settings import SEVERITIES

TABLE = Table(
    name="quality/check_results",
    description=(
        "Every evaluation of a check: of which partition and version of which table, what was observed, and what was "
        "expected. Of a range of partitions each has a row of its own, and their sum has none. Checks of other people "
        "have rows, too, without what their evaluations do not tell."
    ),
    grain="evaluation of a check",
    key=("event_log", "event"),
    columns=(
        Column("event_log", pl.String(), "Id of the Dagster storage that has the evaluation in its log."),
        Column("event", pl.Int64(), "Number of the evaluation in that log.", minimum=1),
        Column("run_id", pl.String(), "The run that judged; null where none did.", nullable=True),
        Column("asset", pl.String(), "Name of the table judged."),
        Column("partition_key", pl.String(), "The partition judged; null where it was the whole table.", nullable=True),
        Column(
            "table_version",
            pl.Int64(),
            "Delta version of the table when the judgement began; of one that a stream adds to, a later one may have "
            "been read.",
            nullable=True,
            provenance=True,
        ),
        Column("check_name", pl.String(), "Name of the check."),
        Column("pillar", pl.String(), "What the check is about.", nullable=True, accepted=PILLARS),
        Column("severity", pl.String(), "How bad a failure is.", accepted=SEVERITIES),
        Column("passed", pl.Boolean(), "Whether it held."),
        Column("observed", pl.Float64(), "The number that was judged.", nullable=True),
        Column("expected_least", pl.Float64(), "The least that it may be; null where nothing is.", nullable=True),
        Column("expected_most", pl.Float64(), "The most that it may be; null where nothing is.", nullable=True),
        Column("unit", pl.String(), "Unit of `observed` and what was expected.", nullable=True),
        Column(
            "rows_failed",
            pl.Int64(),
            "Rows that do not hold; null where the check is not about rows.",
            unit="rows",
            nullable=True,
            minimum=0,
        ),
        Column("sample", pl.String(), "Some of what does not hold.", nullable=True, personal=True, protected=True),
        Column("description", pl.String(), "What was seen.", personal=True, protected=True),
        Column(
            "duration_seconds",
            pl.Float64(),
            "How long the judgement took; of partitions judged together, the share of this one.",
            unit="seconds",
            nullable=True,
            provenance=True,
        ),
        Column("evaluated_at", TIMESTAMP, "When, by the clock of the machine that judged."),
        Column("evaluated_date", pl.Date(), "UTC date of `evaluated_at`."),
    ),
    partition_by=("evaluated_date",),
    window_on="evaluated_at",
    partitions="day",
    cluster_by=("asset", "check_name", "evaluated_at"),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("evaluated_at", "event"),
    append_only=True,
    steady=False,
)


def transform(evaluations: Sequence[Evaluation], event_log: str) -> pl.DataFrame:
    """Rows of the table.

    Args:
        evaluations: As Dagster's log has them.
        event_log: The id of its storage.
    """
    rows = [
        (
            event_log,
            told.number,
            told.run_id,
            told.table,
            told.partition,
            told.measures.table_version,
            told.check,
            told.measures.pillar,
            told.severity,
            told.passed,
            told.measures.observed,
            told.measures.least,
            told.measures.most,
            told.measures.unit,
            told.measures.rows_failed,
            told.measures.sample,
            told.description,
            told.measures.seconds,
            told.at,
            told.at.date(),
        )
        for told in evaluations
        if not told.is_sum
    ]
    made = pl.DataFrame(rows, schema=TABLE.schema, orient="row")
    return made.with_columns(protected_texts(made[name]).alias(name) for name in ("sample", "description"))


def take_in(platform: Platform, instance: dg.DagsterInstance) -> pl.DataFrame:
    """Append the evaluations that are not in the table yet, some thousands at most.

    Args:
        platform: The platform.
        instance: The Dagster whose evaluations are taken in.

    Returns:
        The rows appended.

    Raises:
        Fenced: Another process takes them in at the same time; it has them.
    """
    writer, progress = Writer(platform.lake, TABLE), progress_in(instance)
    known = writer.progress(progress)
    evaluations, reached = new_evaluations(instance, known)
    rows = transform(evaluations, storage_of(instance))
    if reached > (known or 0):
        writer.append(rows, {progress: reached})
    return rows
