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
from platform_assets.streams.reading import Reading
from platform_assets.streams.stream import OLTP_CHANGES
from platform_assets.streams.topic_writer import StreamWriter, TopicWriter
from resources.lake import Lake, Writer
from resources.records import RecordSource
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
        self._settings = settings
        self._tables: tuple[tuple[Writer, Callable[[Judgement], pl.DataFrame]], ...] = (
            (Writer(lake, dead_letters.TABLE), lambda judgement: judgement.dead_lettered),
            (Writer(lake, quarantine.TABLE), lambda judgement: judgement.quarantined),
            (Writer(lake, row_changes.TABLE), lambda judgement: judgement.accepted),
        )
        self._dimensions = Dimensions(lake)
        topic = OLTP_CHANGES.required_topic(settings)
        bronze = TopicWriter(lake, OLTP_CHANGES.table, source, topic, settings.start_at)
        super().__init__(Reading(source, settings, OLTP_CHANGES.judge), bronze)
        self._is_level = False

    def catch_up(self) -> None:
        """Bring every table to where the one above it is, and take up new topic partitions."""
        self._reading.forget()
        self._bronze.add_partitions()
        for writer, rows in self._tables:
            for batch in self._bronze.lacking(writer, self._settings.micro_batch_records):
                judgement = OLTP_CHANGES.judge(batch.records, self._settings)
                writer.append(rows(judgement), batch.next_position.transactions())
        self._dimensions.catch_up()
        self._is_level = True

    def step(self) -> ChangeStep | None:
        """Take in the next batch; None where there is nothing new."""
        self._bronze.check_identity()
        if not self._is_level:  # new, or the last step failed halfway: what it left out comes first
            self.catch_up()
        taken = self._reading.take(self.position())
        if taken is None:
            return None
        batch = taken.batch
        self._is_level = False
        self._bronze.append(batch)
        judgement = taken.judgement.result()
        if batch.has_more:
            self._reading.read_ahead(batch.next_position)
        for writer, rows in self._tables:
            self._bronze.behind(writer)  # reads the progress, so that a rival is noticed
            writer.append(rows(judgement), batch.next_position.transactions())
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
