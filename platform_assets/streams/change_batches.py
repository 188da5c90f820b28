"""The one writer of the database's changes: Kafka → bronze → row changes → dimensions, batch by batch.

As in `micro_batches`, every table has its own progress and catches up from the one above it after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from platform_assets.bronze import dead_letters
from platform_assets.changes.following import Dimensions
from platform_assets.silver import quarantine, row_changes
from platform_assets.silver.judgement import Judgement
from platform_assets.streams.judging import rules_of
from platform_assets.streams.stream import OLTP_CHANGES
from platform_assets.streams.topic_writer import Inlet, StreamWriter
from resources.lake import Lake, Writer
from resources.records import Batch, RecordSource
from resources.settings import Settings


@dataclass(frozen=True)
class ChangeStep:
    """What one batch of changes brought.

    Attributes:
        records: Number of records consumed.
        ingestion_hours: Records by the UTC hour of their timestamp.
        changes: Valid changes.
        quarantined: Records that break the contract.
        dead_lettered: Records that cannot be decoded.
        dimensions: The dimensions whose rows changed, by their tables' names.
        has_more: Whether more records waited when these were read.
    """

    records: int
    ingestion_hours: dict[datetime, int]
    changes: int
    quarantined: int
    dead_lettered: int
    dimensions: tuple[str, ...]
    has_more: bool


class ChangeBatches(StreamWriter):
    """The writer of the changes' stream and of the dimensions.

    Args:
        lake: The lake; the tables must exist.
        source: Where records come from.
        settings: Topic and sizes.

    Raises:
        ValueError: At once: the settings name no topic of changes.
        Fenced: From any method: another writer took over; stop.
        ContinuityBroken: From `step`: the records that come next are gone.
    """

    def __init__(self, lake: Lake, source: RecordSource, settings: Settings) -> None:
        refusals = [Writer(lake, dead_letters.TABLE), Writer(lake, quarantine.TABLE)]
        self._row_changes = Writer(lake, row_changes.TABLE)
        self._tables: tuple[tuple[Writer, Callable[[Judgement], pl.DataFrame]], ...] = (
            (refusals[0], lambda judgement: judgement.dead_lettered),
            (refusals[1], lambda judgement: judgement.quarantined),
            (self._row_changes, _accepted),
        )
        self._dimensions = Dimensions(lake)
        self._inlet = Inlet(lake, source, settings, OLTP_CHANGES, rules_of(lake, settings))
        super().__init__([self._inlet], refusals, settings)

    def catch_up(self) -> None:
        """Bring every table to where the one above it is, and take up new topic partitions."""
        self._inlet.reading.forget()
        self._inlet.bronze.add_partitions()
        for writer, rows in self._tables:
            for judgement, batch in self._inlet.lacking(writer):
                writer.append(rows(judgement), self._progress(writer, judgement, batch))
        self._let_in(_accepted, self._row_changes, self._inlet)
        self._let_out(self._inlet)
        self._dimensions.catch_up()
        self._is_level = True

    def step(self) -> ChangeStep | None:
        """Take in the next batch; None where there is nothing new."""
        bronze, reading = self._inlet.bronze, self._inlet.reading
        bronze.check_identity()
        if not self._is_level or self._has_admissions():  # new, or the last step failed halfway: what lacks comes first
            self.catch_up()
        taken = reading.take(bronze.position())
        if taken is None:
            return None
        batch = taken.batch
        self._is_level = False
        bronze.append(batch)
        judgement = taken.judgement.result()
        if batch.has_more:
            reading.read_ahead(batch.next_position)
        for writer, rows in self._tables:
            bronze.behind(writer)  # reads the progress, so that a rival is noticed
            writer.append(rows(judgement), self._progress(writer, judgement, batch))
        changed = self._dimensions.catch_up()
        self._is_level = True
        return ChangeStep(
            records=batch.records.height,
            ingestion_hours=batch.ingestion_hours(),
            changes=judgement.accepted.height,
            quarantined=judgement.quarantined.height,
            dead_lettered=judgement.dead_lettered.height,
            dimensions=tuple(dimension.table.name for dimension in changed),
            has_more=batch.has_more,
        )

    def _progress(self, writer: Writer, judgement: Judgement, batch: Batch) -> dict[str, int]:
        """What a table records with a batch; that of row changes the watermark, too: the newest commit tells it."""
        progress = batch.next_position.transactions()
        if writer is not self._row_changes:
            return progress
        return {**progress, **self._watermark(writer, judgement.accepted, "changed_at")}


def _accepted(judgement: Judgement) -> pl.DataFrame:
    return judgement.accepted
