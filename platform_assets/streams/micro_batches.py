"""The one writer of a stream: Kafka → bronze → silver → what follows silver, batch by batch.

Every table has its own progress. In the common case a batch passes through all of them in memory. After a crash
each catches up from the one above, from the lake, so no two tables need one commit, and a kill at any point
loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from platform_assets.bronze import client_events, dead_letters
from platform_assets.semantics.watermark import Newest, watermark
from platform_assets.silver import events, late_arrivals, quarantine
from platform_assets.silver.judgement import Judgement
from platform_assets.streams import epochs
from platform_assets.streams.followers import Followers, SilverStep
from platform_assets.streams.reading import Reading
from platform_assets.streams.stream import CLIENT_EVENTS
from platform_assets.streams.topic_writer import StreamWriter, TopicWriter
from resources.lake import Change, Lake, Writer, retrying
from resources.records import Batch, RecordSource
from resources.settings import Settings

_EPOCH_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """What one micro-batch brought.

    Attributes:
        records: Number of records consumed.
        ingestion_hours: Records by the UTC hour of their timestamp.
        event_hours: Rows of silver that came, by the UTC hour of their event time.
        kept: Rows that silver gained.
        duplicates: Deliveries of events that arrived earlier.
        displaced: Rows of silver that gave way to an earlier arrival.
        quarantined: Records that break the contract.
        dead_lettered: Records that cannot be decoded.
        has_more: Whether more records waited when these were read.
    """

    records: int
    ingestion_hours: dict[datetime, int]
    event_hours: dict[datetime, int]
    kept: int
    duplicates: int
    displaced: int
    quarantined: int
    dead_lettered: int
    has_more: bool


class MicroBatches(StreamWriter):
    """The writer of the client events' stream and of all that is fed by it.

    Args:
        lake: The lake; the tables must exist (`definitions.create_tables`).
        source: Where records come from.
        settings: Topic, sizes, allowed lateness, watermark.

    Raises:
        Fenced: From any method: another writer took over; stop.
        ContinuityBroken: From `step`: the records that come next are gone.
    """

    def __init__(self, lake: Lake, source: RecordSource, settings: Settings) -> None:
        self._lake = lake
        self._source = source
        self._settings = settings
        self._dead_letters = Writer(lake, dead_letters.TABLE)
        self._quarantine = Writer(lake, quarantine.TABLE)
        self._late_arrivals = Writer(lake, late_arrivals.TABLE)
        self._silver = Writer(lake, events.TABLE)
        self._followers = Followers(lake, settings.allowed_lateness)
        topic = TopicWriter(lake, client_events.TABLE, source, settings.client_events_topic, settings.start_at)
        super().__init__(Reading(source, settings, CLIENT_EVENTS.judge), topic)
        self._is_level = False
        self._key_hashes = events.KeyHashes(lake)

    def catch_up(self) -> None:
        """Bring every table to where the one above it is, and take up new topic partitions. Call before `step`."""
        self._reading.forget()
        self._bronze.add_partitions()
        for writer, take in self._judged_tables():
            self._catch_up(writer, take)
        self._catch_up(self._silver, lambda judgement, batch: _ignore(self._take_into_silver(judgement, batch)))
        self._followers.catch_up(self._silver.version, self._bronze.partitions())
        self._is_level = True

    def step(self) -> Step | None:
        """Take in the next micro-batch; None where there is nothing new."""
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
        for writer, take in self._judged_tables():
            self._bronze.behind(writer)  # reads the progress, so that a rival is noticed
            take(judgement, batch)
        before = self._silver.version
        result = self._take_into_silver(judgement, batch)
        if self._silver.version == before + 1:
            self._followers.follow(SilverStep(result.change, judgement))
        else:  # a rebuild or a compaction came in between: its log says what it did
            self._followers.catch_up(self._silver.version, self._bronze.partitions())
        self._is_level = True
        return Step(
            records=batch.records.height,
            ingestion_hours=batch.ingestion_hours(),
            event_hours=_by_event_hour(result.change.added),
            kept=result.change.added.height,
            duplicates=judgement.accepted.height - result.change.added.height,
            displaced=result.change.removed.height,
            quarantined=judgement.quarantined.height,
            dead_lettered=judgement.dead_lettered.height,
            has_more=batch.has_more,
        )

    def _judged_tables(self) -> tuple[tuple[Writer, Callable[[Judgement, Batch], None]], ...]:
        """The tables that are functions of each record alone, and how each takes a batch in."""

        def into(writer: Writer, rows: Callable[[Judgement], pl.DataFrame]) -> Callable[[Judgement, Batch], None]:
            return lambda judgement, batch: _ignore(writer.append(rows(judgement), batch.next_position.transactions()))

        return (
            (self._dead_letters, into(self._dead_letters, lambda j: j.dead_lettered)),
            (self._quarantine, into(self._quarantine, lambda j: j.quarantined)),
            (self._late_arrivals, into(self._late_arrivals, lambda j: late_arrivals.transform(j.accepted))),
        )

    def _catch_up(self, writer: Writer, take: Callable[[Judgement, Batch], None]) -> None:
        for batch in self._bronze.lacking(writer, self._settings.micro_batch_records):
            take(CLIENT_EVENTS.judge(batch.records, self._settings), batch)

    def _take_into_silver(self, judgement: Judgement, batch: Batch) -> SilverStep:
        self._bronze.behind(self._silver)
        progress = {**batch.next_position.transactions(), **self._watermark(judgement)}
        rows = events.transform(judgement.accepted)

        def attempt() -> SilverStep:
            self._silver.refresh()
            found = events.arrivals(self._lake, self._silver.handle, rows, known=self._key_hashes)
            predicate = None
            if not found.displaced.is_empty():
                predicate = f"({events.sql_displaced(found.displaced)}) OR ({_sql_range(batch)})"
            version = self._silver.commit(found.kept, progress, predicate=predicate)
            change = Change(version, found.kept.select(events.FOLLOWED), found.displaced.select(events.FOLLOWED))
            return SilverStep(change, judgement)

        return retrying(f"append to {events.TABLE.name}", attempt)

    def _watermark(self, judgement: Judgement) -> dict[str, int]:
        """What the stream's watermark and the newest seen of each partition become with a batch."""
        seen = (
            judgement.accepted.lazy()
            .group_by("partition")
            .agg(pl.col("occurred_at", "ingested_at").max().dt.timestamp("us"))
            .collect()
        )
        came = {partition: (event, record) for partition, event, record in seen.iter_rows()}
        newest: dict[int, Newest] = {}
        progress: dict[str, int] = {}
        for partition in self.position().offsets:
            names = epochs.newest_apps(self._bronze.topic, self._bronze.epoch, partition)
            then = [self._silver.progress(name) for name in names]
            known = [value for value in (*then, *came.get(partition, ())) if value is not None]
            if not known:
                continue
            event, record = (
                max(value for value in pair if value is not None)
                for pair in zip(then, came.get(partition, (None, None)), strict=True)
            )
            progress |= {names[0]: event, names[1]: record}
            newest[partition] = Newest(_instant(event), _instant(record))
        name = epochs.watermark_app(self._bronze.topic)
        before = self._silver.progress(name)
        now = watermark(
            newest,
            self._settings.expected_disorder,
            self._settings.idle_after,
            None if before is None else _instant(before),
        )
        return progress if now is None else {**progress, name: _microseconds(now)}


def _sql_range(batch: Batch) -> str:
    position = batch.position
    return " OR ".join(
        f"(topic = '{position.topic}' AND epoch = {position.epoch} AND partition = {partition} "
        f"AND offset >= {offset} AND offset < {batch.next_position.offsets[partition]})"
        for partition, offset in position.offsets.items()
    )


def _by_event_hour(rows: pl.DataFrame) -> dict[datetime, int]:
    return dict(rows.group_by(pl.col("occurred_at").dt.truncate("1h")).agg(pl.len()).iter_rows())


def _instant(microseconds: int) -> datetime:
    return _EPOCH_ZERO + timedelta(microseconds=microseconds)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH_ZERO) // timedelta(microseconds=1)


def _ignore(_: object) -> None:
    """Drop a result that the caller has no use for."""
