"""The writer of a stream's bronze table: its epoch, how far it has read, and what a table below it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from platform_assets.bronze import records as received
from platform_assets.streams import epochs
from platform_assets.streams.reading import Reading
from platform_assets.table import Table
from resources.lake import Lake, Writer
from resources.records import (
    RECORD_SCHEMA,
    Batch,
    Position,
    RecordSource,
    check_identity,
    identity_app,
    in_ranges,
    partitions_app,
    start_app,
)
from resources.settings import StartAt


class TableAhead(RuntimeError):
    """A table has taken in more than the one above it holds: the lake was damaged, and nothing is read."""


class StreamWriter:
    """What the writers of all streams share: they read ahead and are context managers, or `close` them.

    Args:
        reading: Reads the stream.
        bronze: Writes what was read.
    """

    def __init__(self, reading: Reading, bronze: TopicWriter) -> None:
        self._reading = reading
        self._bronze = bronze

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; call before the source is closed. What was committed stays, and nothing else matters."""
        self._reading.close()

    def position(self) -> Position:
        """How far bronze has read, new topic partitions included."""
        return self._bronze.position()


class TopicWriter:
    """The one writer of a topic's records into bronze; opens the first epoch of a topic that was never read.

    Make it after the writers of the tables below bronze: were it older than they are, catching up would take their
    progress back.

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
