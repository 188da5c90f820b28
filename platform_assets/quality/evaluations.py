"""What checks said, as Dagster's event log has it: read by a cursor, in one place, for all who ask.

What a check measured stands in the metadata of its evaluation under names that are given here (`Measures`), so that
whoever reads evaluations back has nothing to guess. Checks of other people are read, too; they measured nothing that
we know of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal, Self, get_args

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType

from resources.settings import Severity

Pillar = Literal[
    "schema", "validity", "uniqueness", "completeness", "consistency", "freshness", "volume", "distribution"
]
PILLARS: tuple[Pillar, ...] = get_args(Pillar)
"""What a check is about: the dimensions of data quality (validity, uniqueness, completeness, consistency; timeliness is
here freshness), and what data observability adds to them (schema, volume, distribution).

- *schema*: columns, types and writers' schemas are the declared ones.
- *validity*: values are such as they may be.
- *uniqueness*: what there is one of stands once.
- *completeness*: all that was to come is there.
- *consistency*: two tables, or two columns, that tell the same agree.
- *freshness*: what is owed by now is there.
- *volume*: there are about as many rows as there should be.
- *distribution*: values are spread about as they should be.
"""

DUE = "latest_due_partition"
"""The check that tells whether a table keeps its service level."""

EVALUATIONS_APP = "evaluations"
"""With the id of Dagster's storage the name of a table's progress: up to which event it has evaluations taken in."""

_PAGE = 1_000
_PAGES = 10
_SEVERITY: dict[dg.AssetCheckSeverity, Severity] = {
    dg.AssetCheckSeverity.WARN: "warning",
    dg.AssetCheckSeverity.ERROR: "error",
}
_SUM_OF = "partitions judged"
_ENDS_EARLIER = "earlier partitions are over"
_METADATA: dict[str, tuple[str, type[str] | type[float] | type[int]]] = {
    "pillar": ("pillar", str),
    "observed": ("observed", float),
    "least": ("expected at least", float),
    "most": ("expected at most", float),
    "unit": ("unit", str),
    "rows_failed": ("rows failed", int),
    "sample": ("sample", str),
    "seconds": ("duration in seconds", float),
    "table_version": ("delta version", int),
}
"""Of each measure its name in the metadata of an evaluation, and its type there."""


@dataclass(frozen=True)
class Measures:
    """What an evaluation says in numbers; None where the check does not tell.

    Attributes:
        pillar: What the check is about, one of `PILLARS`.
        observed: The number that was judged.
        least: The least that it may be.
        most: The most that it may be.
        unit: Unit of the three.
        rows_failed: How many rows do not hold; None where the check is not about rows.
        sample: Some of what does not hold.
        seconds: How long the judgement took.
        table_version: The Delta version that the table had when it began.
    """

    pillar: str | None = None
    observed: float | None = None
    least: float | None = None
    most: float | None = None
    unit: str | None = None
    rows_failed: int | None = None
    sample: str | None = None
    seconds: float | None = None
    table_version: int | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, dg.MetadataValue]) -> Self:
        """What the metadata of an evaluation says; what is of another type than ours is somebody else's."""
        found = {}
        for field, (name, kind) in _METADATA.items():
            value = metadata[name].value if name in metadata else None
            if isinstance(value, kind) or (kind is float and isinstance(value, int)):
                found[field] = kind(value)
        if found.get("pillar") not in PILLARS:
            found.pop("pillar", None)
        return cls(**found)  # type: ignore[arg-type]  # of the types that `_METADATA` has

    def metadata(self) -> dict[str, dg.MetadataValue]:
        """The same for an evaluation; without what is not told."""
        made = {str: dg.MetadataValue.text, float: dg.MetadataValue.float, int: dg.MetadataValue.int}
        return {
            name: made[kind](kind(value))  # type: ignore[operator]
            for field in fields(self)
            for name, kind in [_METADATA[field.name]]
            if (value := getattr(self, field.name)) is not None
        }


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a check.

    Attributes:
        number: Of its event in Dagster's log.
        run_id: The run that judged; None where none did.
        table: Name of the table.
        check: Name of the check.
        partition: The partition judged; None for the whole table, or for a range together.
        passed: Whether it held.
        severity: Of the failure.
        description: What was seen.
        at: When.
        measures: The same in numbers.
        is_sum: Whether it only sums up a range, each partition of which has an evaluation of its own.
        ends_earlier: Whether what the check said of earlier partitions is over.
    """

    number: int
    run_id: str | None
    table: str
    check: str
    partition: str | None
    passed: bool
    severity: Severity
    description: str
    at: datetime
    measures: Measures
    is_sum: bool = False
    ends_earlier: bool = False


def end_of_earlier() -> dict[str, dg.MetadataValue]:
    """The metadata that says of an evaluation that nobody asks about earlier partitions any more."""
    return {_ENDS_EARLIER: dg.MetadataValue.bool(True)}


def sum_of(partitions: int) -> dict[str, dg.MetadataValue]:
    """The metadata that says of an evaluation that it sums up those of a range's partitions."""
    return {_SUM_OF: dg.MetadataValue.int(partitions)}


def new_evaluations(
    instance: dg.DagsterInstance, cursor: int | None, not_before: datetime | None = None
) -> tuple[list[Evaluation], int]:
    """The evaluations behind a cursor, in order, and the cursor behind them; some thousands at most.

    Args:
        instance: Dagster's; its event log must have one order (docs/operations.md, "Dagster's storage").
        cursor: The last event taken in; None where none was.
        not_before: The earliest evaluation looked at without a cursor; all where None.
    """
    found: list[Evaluation] = []
    # What is older than asked for is behind the cursor, too: else the next look would take it in.
    newest = None if cursor is not None else instance.event_log_storage.get_maximum_record_id()
    since = None if cursor is not None or not_before is None else not_before.timestamp()
    reached = cursor
    for _ in range(_PAGES):
        records = instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(
                event_type=DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=reached, after_timestamp=since
            ),
            limit=_PAGE,
            ascending=True,
        )
        for record in records:
            event = record.event_log_entry.dagster_event
            told = None if event is None else event.event_specific_data
            if isinstance(told, AssetCheckEvaluation):
                found.append(_evaluation(record, told))
            reached = record.storage_id
        if len(records) < _PAGE:
            break
    return found, reached if reached is not None else newest or 0


def storage_of(instance: dg.DagsterInstance) -> str:
    """The id of Dagster's storage: numbers of events mean something within one only."""
    return str(instance.run_storage.get_run_storage_id())  # type: ignore[attr-defined]  # of each storage that is SQL


def progress_in(instance: dg.DagsterInstance) -> str:
    """The name of a table's progress in this Dagster's log of evaluations."""
    return f"{EVALUATIONS_APP}/{storage_of(instance)}"


def _evaluation(record: dg.EventLogRecord, told: AssetCheckEvaluation) -> Evaluation:
    entry = record.event_log_entry
    return Evaluation(
        number=record.storage_id,
        run_id=entry.run_id or None,
        table="/".join(told.asset_key.path),
        check=told.check_name,
        partition=told.partition,
        passed=told.passed,
        severity=_SEVERITY[told.severity],
        description=told.description or "the check says no more",
        at=datetime.fromtimestamp(entry.timestamp, UTC),
        measures=Measures.of(told.metadata),
        is_sum=_SUM_OF in told.metadata,
        ends_earlier=_ENDS_EARLIER in told.metadata,
    )
