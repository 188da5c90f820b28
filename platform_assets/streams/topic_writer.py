"""The writers of bronze tables: their epochs, how far they have read, and what a table below them lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

import polars as pl

from platform_assets.bronze import records as received
from platform_assets.semantics.watermark import Newest, watermark
from platform_assets.silver import admissions
from platform_assets.silver.judgement import Judgement, Rules
from platform_assets.streams import epochs
from platform_assets.streams.judging import Admitted, Judging
from platform_assets.streams.reading import Reading
from platform_assets.streams.stream import Stream
from platform_assets.table import Table
from resources.lake import Lake, Writer, retrying
from resources.records import (
    RECORD_SCHEMA,
    Batch,
    Position,
    RecordSource,
    check_identity,
    identity_app,
    in_ranges,
    partitions_app,
    sql_coordinates,
    start_app,
)
from resources.settings import Settings, StartAt


class TableAhead(RuntimeError):
    """A table has taken in more than the one above it holds: the lake was damaged, and nothing is read."""


class Inlet:
    """A stream on its way into the tables below its bronze table: read, judged, and kept as received.

    Make it after the writers of the tables below bronze: were it older than they are, catching up would take their
    progress back.

    Args:
        lake: The lake; the tables must exist.
        source: Where records come from.
        settings: Topic, sizes, and where a topic that was never read begins.
        stream: The stream.
        rules: What records are judged by.
    """

    def __init__(self, lake: Lake, source: RecordSource, settings: Settings, stream: Stream, rules: Rules) -> None:
        self._settings = settings
        self.stream = stream
        self.judging = Judging(lake, stream, rules)
        self.bronze = TopicWriter(lake, stream.table, source, stream.required_topic(settings), settings.start_at)
        self.reading = Reading(source, settings, self.judging.first)
        self._admissions = lake.open(admissions.TABLE)

    @property
    def topic_partitions(self) -> list[tuple[str, int, int]]:
        """(topic, epoch, partition) of every topic partition of every epoch that bronze has read."""
        return self.bronze.partitions()

    def lacking(self, writer: Writer) -> Iterator[tuple[Judgement, Batch]]:
        """What a table below bronze has not taken in, judged as it was judged; take each in before the next."""
        for batch in self.bronze.lacking(writer, self._settings.micro_batch_records):
            yield self.judging.again(batch.records, self._level(writer)), batch

    def admitted(self, writer: Writer) -> Iterator[tuple[Admitted, dict[str, int]]]:
        """What was admitted and a table has not taken in, with the progress to record; take each in before the next."""
        while self.has_admissions(writer):
            level = self._level(writer)
            yield self.judging.admitted(level, level + 1), {admissions.taken_in(self.stream.name): level + 1}

    def has_admissions(self, *writers: Writer) -> bool:
        """Whether something was admitted that one of some tables has not taken in. Costs a look at one log."""
        self._admissions.update_incremental()
        return min(map(self._level, writers)) < admissions.level(self._admissions, self.stream.name)

    def _level(self, writer: Writer) -> int:
        return writer.progress(admissions.taken_in(self.stream.name)) or 0


class StreamWriter:
    """What the writers of all streams share: they read ahead and are context managers, or `close` them.

    Args:
        inlets: The streams.
        refusals: The writers of the tables of refusals.
        settings: For the watermark.
    """

    def __init__(self, inlets: Sequence[Inlet], refusals: Sequence[Writer], settings: Settings) -> None:
        self._inlets = tuple(inlets)
        self._refusals = tuple(refusals)
        self._settings = settings
        self._is_level = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; call before the source is closed. What was committed stays, and nothing else matters."""
        for inlet in self._inlets:
            inlet.reading.close()

    def position(self, topic: str | None = None) -> Position:
        """How far bronze has read a topic (the first stream's), new topic partitions included."""
        inlet = next(inlet for inlet in self._inlets if topic in {None, inlet.bronze.topic})
        return inlet.bronze.position()

    def _take(self, rows: Callable[[Judgement], pl.DataFrame], writer: Writer, inlet: Inlet) -> None:
        """Bring a table that has a row, or none, for each record to where bronze is."""
        for judgement, batch in inlet.lacking(writer):
            writer.append(rows(judgement), batch.next_position.transactions())

    def _let_in(self, rows: Callable[[Judgement], pl.DataFrame], writer: Writer, inlet: Inlet) -> None:
        """Let a table of valid records take in what was admitted."""
        for admitted, progress in inlet.admitted(writer):
            writer.append(rows(admitted.judgement), progress)

    def _let_out(self, inlet: Inlet) -> None:
        """Take what was admitted out of the tables of refusals. Call after it was let in."""
        for writer in self._refusals:
            for admitted, progress in inlet.admitted(writer):
                _remove(writer, admitted.let_in, progress)

    def _watermark(self, writer: Writer, accepted: pl.DataFrame, event_time: str = "occurred_at") -> dict[str, int]:
        """What the watermark and the newest seen of each topic partition become with a batch, as a table records them.

        Args:
            writer: The table's.
            accepted: What is valid of the batch.
            event_time: The column of event time.
        """
        seen = (
            accepted.lazy()
            .group_by("topic", "partition")
            .agg(pl.col(event_time, "ingested_at").max().dt.timestamp("us"))
            .collect()
        )
        came = {(topic, partition): (event, record) for topic, partition, event, record in seen.iter_rows()}
        newest: dict[tuple[str, int], Newest] = {}
        progress: dict[str, int] = {}
        for key, names in self._newest_apps():
            then = [writer.progress(name) for name in names]
            known = [value for value in (*then, *came.get(key, ())) if value is not None]
            if not known:
                continue
            event, record = (
                max(value for value in pair if value is not None)
                for pair in zip(then, came.get(key, (None, None)), strict=True)
            )
            progress |= {names[0]: event, names[1]: record}
            newest[key] = Newest(epochs.instant(event), epochs.instant(record))
        before = writer.progress(epochs.WATERMARK_APP)
        now = watermark(
            newest,
            self._settings.expected_disorder,
            self._settings.idle_after,
            None if before is None else epochs.instant(before),
        )
        return progress if now is None else {**progress, epochs.WATERMARK_APP: epochs.microseconds(now)}

    def _newest_apps(self) -> Iterator[tuple[tuple[str, int], tuple[str, str]]]:
        """The topic partitions, each with the names of its newest event and record."""
        for inlet in self._inlets:
            topic, epoch = inlet.bronze.topic, inlet.bronze.epoch
            for partition in inlet.bronze.position().offsets:
                yield (topic, partition), epochs.newest_apps(topic, epoch, partition)

    def _has_admissions(self) -> bool:
        """Whether a replay let something in that is not taken in yet."""
        return any(inlet.has_admissions(*self._refusals) for inlet in self._inlets)


def _remove(writer: Writer, rows: pl.DataFrame, progress: dict[str, int]) -> None:
    """Remove records from a table of refusals, and record the progress, in one commit."""
    if rows.is_empty():
        writer.record(progress)
        return
    dates = ", ".join(f"'{day}'" for day in rows["ingestion_date"].unique().sort())
    predicate = f"ingestion_date IN ({dates}) AND ({sql_coordinates(rows)})"

    def attempt() -> int:
        writer.refresh()
        return writer.commit(pl.DataFrame(schema=writer.table.schema), progress, predicate=predicate)

    retrying(f"removal from {writer.table.name}", attempt)


class TopicWriter:
    """The one writer of a topic's records into bronze; opens the first epoch of a topic that was never read.

    Args:
        lake: The lake; the table must exist.
        table: The bronze table.
        source: Where records come from.
        topic: The topic.
        start_at: Where a topic that was never read begins.

    Raises:
        Fenced: From any method that writes: another writer took over; stop.
    """

    def __init__(self, lake: Lake, table: Table, source: RecordSource, topic: str, start_at: StartAt) -> None:
        self._lake = lake
        self._table = table
        self._source = source
        self._writer = Writer(lake, table)
        self._is_identified = False
        self.topic = topic
        self.epoch = epochs.current(self._writer, source, topic, start_at)

    def position(self) -> Position:
        """How far bronze has read, new topic partitions included."""
        offsets = {}
        for partition in range(self._partitions(self.epoch)):
            offset = self._writer.progress(f"{self.topic}/{self.epoch}/{partition}")
            if offset is not None:
                offsets[partition] = offset
        return Position(self.topic, self.epoch, offsets)

    def behind(self, writer: Writer) -> Position:
        """Where a table below bronze is. Reads its progress, so that a rival of its writer is noticed."""
        offsets = {}
        for partition in self.position().offsets:
            offset = writer.progress(f"{self.topic}/{self.epoch}/{partition}")
            start = self._writer.progress(start_app(self.topic, self.epoch, partition)) or 0
            offsets[partition] = start if offset is None else offset
        return Position(self.topic, self.epoch, offsets)

    def partitions(self) -> list[tuple[str, int, int]]:
        """(topic, epoch, partition) of every topic partition of every epoch that bronze has read."""
        return [
            (self.topic, epoch, partition)
            for epoch in range(1, self.epoch + 1)
            for partition in range(self._partitions(epoch))
        ]

    def check_identity(self) -> None:
        """Once, before the first read: a topic made again may hold more records than were read of its forerunner.

        Raises:
            TopicRecreated: It was made again.
        """
        if not self._is_identified:
            recorded = self._writer.progress(identity_app(self.topic, self.epoch))
            check_identity(self.topic, self.epoch, recorded, self._source.identity(self.topic))
            self._is_identified = True

    def add_partitions(self) -> None:
        """Take up topic partitions that were added since."""
        epochs.add_partitions(self._writer, self._source, self.topic, self.epoch)

    def append(self, batch: Batch) -> None:
        """Take a batch's records and its progress into bronze, in one commit."""
        self._writer.append(received.transform(batch.records), batch.next_position.transactions())

    def lacking(self, writer: Writer, most_records: int) -> Iterator[Batch]:
        """What a table below bronze has not taken in, in bites; take each in before asking for the next.

        Args:
            writer: The table's.
            most_records: Most offsets of a bite.

        Raises:
            TableAhead: It has taken in more than bronze holds.
        """
        goal = self.position()
        while (position := self.behind(writer)) != goal:
            if any(position.offsets[p] > goal.offsets[p] for p in goal.offsets):
                msg = (
                    f"{writer.table.name} has taken in {position.offsets}, but {self._table.name} only holds up "
                    f"to {goal.offsets}: bronze lost a commit (a power loss?). Run `headwater doctor`"
                )
                raise TableAhead(msg)
            bite = max(1, most_records // len(goal.offsets))
            ends = {p: min(offset + bite, goal.offsets[p]) for p, offset in position.offsets.items()}
            next_position = Position(self.topic, self.epoch, ends)
            records = (
                self._lake.scan(self._table, handle=self._writer.handle)
                .filter(in_ranges(position.keyed(), next_position.keyed()))
                .select(RECORD_SCHEMA.names())
                .collect()
            )
            yield Batch(records, position, next_position)

    def _partitions(self, epoch: int) -> int:
        return self._writer.progress(partitions_app(self.topic, epoch)) or 0
