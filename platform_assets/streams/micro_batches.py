"""The one writer of the streams of events: Kafka → bronze → silver → what follows silver, batch by batch.

Every table has its own progress. In the common case a batch passes through all of them in memory. After a crash
each catches up from the one above, from the lake, so no two tables need one commit, and a kill at any point
loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from platform_assets.bronze import dead_letters
from platform_assets.semantics.events import is_canary
from platform_assets.silver import events, late_arrivals, quarantine
from platform_assets.silver.judgement import Judgement
from platform_assets.streams.followers import Followers, SilverStep
from platform_assets.streams.judging import rules_of
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.streams.topic_writer import Inlet, StreamWriter
from resources.delta_log import Change
from resources.lake import Lake, Writer, retrying
from resources.records import Batch, RecordSource, sql_coordinates
from resources.settings import Settings


@dataclass(frozen=True)
class Step:
    """What one micro-batch brought.

    Attributes:
        records: Number of records consumed.
        received: Records by the UTC hour of their timestamp, per bronze table.
        event_hours: Rows of silver that came, by the UTC hour of their event time.
        kept: Rows that silver gained.
        duplicates: Deliveries of events that arrived earlier.
        displaced: Rows of silver that gave way to an earlier arrival.
        quarantined: Records that break the contract.
        dead_lettered: Records that cannot be decoded.
        has_more: Whether more records waited when these were read.
    """

    records: int
    received: Mapping[str, Mapping[datetime, int]]
    event_hours: dict[datetime, int]
    kept: int
    duplicates: int
    displaced: int
    quarantined: int
    dead_lettered: int
    has_more: bool


class MicroBatches(StreamWriter):
    """The writer of the streams of events and of all that is fed by them.

    Args:
        lake: The lake; the tables must exist (`tables.create_tables`).
        source: Where records come from.
        settings: Topics, sizes, allowed lateness, watermark.

    Raises:
        Fenced: From any method: another writer took over; stop.
        ContinuityBroken: From `step`: the records of a stream that come next are gone.
        RegistryUnavailable: From any method: the schema of a record cannot be told now.
    """

    def __init__(self, lake: Lake, source: RecordSource, settings: Settings) -> None:
        self._lake = lake
        self._dead_letters = Writer(lake, dead_letters.TABLE)
        self._quarantine = Writer(lake, quarantine.TABLE)
        self._late_arrivals = Writer(lake, late_arrivals.TABLE)
        self._silver = Writer(lake, events.TABLE)
        self._followers = Followers(lake)
        self._key_hashes = events.KeyHashes(lake)
        rules = rules_of(lake, settings)
        inlets = [
            Inlet(lake, source, settings, stream, rules)
            for stream in EVENT_STREAMS
            if stream.topic(settings) is not None
        ]
        super().__init__(inlets, [self._dead_letters, self._quarantine], settings)

    def catch_up(self) -> None:
        """Bring every table to where the one above it is, and take up new topic partitions. Call before `step`."""
        for inlet in self._inlets:
            inlet.reading.forget()
            inlet.bronze.add_partitions()
        for inlet in self._inlets:
            for writer, rows in self._judged_tables():
                self._take(rows, writer, inlet)
            for judgement, batch in inlet.lacking(self._silver):
                self._take_into_silver(judgement, [(inlet, batch)])
        for inlet in self._inlets:
            self._let_in(_late, self._late_arrivals, inlet)
            for admitted, progress in inlet.admitted(self._silver):
                self._add_to_silver(admitted.judgement, progress)
            self._let_out(inlet)
        self._followers.catch_up(self._silver.version, self._inlets)
        self._is_level = True

    def step(self) -> Step | None:
        """Take in the next micro-batch of each stream; None where there is nothing new."""
        for inlet in self._inlets:
            inlet.bronze.check_identity()
        if not self._is_level or self._has_admissions():  # new, or the last step failed halfway: what lacks comes first
            self.catch_up()
        for inlet in self._inlets:
            inlet.reading.read_ahead(inlet.bronze.position())
        found = [(inlet, inlet.reading.take(inlet.bronze.position())) for inlet in self._inlets]
        taken = [(inlet, batch) for inlet, batch in found if batch is not None]
        if not taken:
            return None
        self._is_level = False
        for inlet, that in taken:
            inlet.bronze.append(that.batch)
        judgement = Judgement.of_all([that.judgement.result() for _, that in taken])
        for inlet, that in taken:
            if that.batch.has_more:
                inlet.reading.read_ahead(that.batch.next_position)
        batches = [(inlet, that.batch) for inlet, that in taken]
        progress = _progress(batches)
        for writer, rows in self._judged_tables():
            for inlet, _ in batches:
                inlet.bronze.behind(writer)  # reads the progress, so that a rival is noticed
            writer.append(rows(judgement), progress)
        before = self._silver.version
        change = self._take_into_silver(judgement, batches)
        if self._silver.version == before + 1:
            self._followers.follow(SilverStep(change, judgement.tallies()))
        else:  # a rebuild or a compaction came in between: its log says what it did
            self._followers.catch_up(self._silver.version, self._inlets)
        self._is_level = True
        return Step(
            records=sum(batch.records.height for _, batch in batches),
            received={inlet.stream.table.name: batch.ingestion_hours() for inlet, batch in batches},
            event_hours=_by_event_hour(change.added),
            kept=change.added.height,
            duplicates=judgement.accepted.height - change.added.height,
            displaced=change.removed.height,
            quarantined=judgement.quarantined.height,
            dead_lettered=judgement.dead_lettered.height,
            has_more=any(batch.has_more for _, batch in batches),
        )

    def _judged_tables(self) -> tuple[tuple[Writer, Callable[[Judgement], pl.DataFrame]], ...]:
        """The tables that are functions of each record alone, and what each takes of a judgement."""
        return (
            (self._dead_letters, lambda judgement: judgement.dead_lettered),
            (self._quarantine, lambda judgement: judgement.quarantined),
            (self._late_arrivals, _late),
        )

    def _take_into_silver(self, judgement: Judgement, batches: Sequence[tuple[Inlet, Batch]]) -> Change:
        for inlet, _ in batches:
            inlet.bronze.behind(self._silver)
        ranges = " OR ".join(_sql_range(batch) for _, batch in batches)
        watermark = self._watermark(self._silver, judgement.accepted.filter(~is_canary()))
        return self._add_to_silver(judgement, {**_progress(batches), **watermark}, ranges)

    def _add_to_silver(self, judgement: Judgement, progress: Mapping[str, int], ranges: str | None = None) -> Change:
        """Add what stands of some valid events, and record progress.

        Args:
            judgement: Has the events.
            progress: Recorded.
            ranges: SQL that selects the events' records; by their coordinates where None.
        """
        rows = events.transform(judgement.accepted)

        def attempt() -> Change:
            self._silver.refresh()
            found = events.arrivals(self._lake, self._silver.handle, rows, known=self._key_hashes)
            predicate = None
            if not found.displaced.is_empty():
                predicate = f"({events.sql_displaced(found.displaced)}) OR ({ranges or sql_coordinates(rows)})"
            version = self._silver.commit(found.kept, progress, predicate=predicate)
            return Change(version, found.kept.select(events.FOLLOWED), found.displaced.select(events.FOLLOWED))

        return retrying(f"append to {events.TABLE.name}", attempt)


def _late(judgement: Judgement) -> pl.DataFrame:
    return late_arrivals.transform(judgement.accepted)


def _progress(batches: Sequence[tuple[Inlet, Batch]]) -> dict[str, int]:
    return {app: offset for _, batch in batches for app, offset in batch.next_position.transactions().items()}


def _sql_range(batch: Batch) -> str:
    position = batch.position
    return " OR ".join(
        f"(topic = '{position.topic}' AND epoch = {position.epoch} AND partition = {partition} "
        f"AND offset >= {offset} AND offset < {batch.next_position.offsets[partition]})"
        for partition, offset in position.offsets.items()
    )


def _by_event_hour(rows: pl.DataFrame) -> dict[datetime, int]:
    return dict(rows.group_by(pl.col("occurred_at").dt.truncate("1h")).agg(pl.len()).iter_rows())
