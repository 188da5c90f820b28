"""Kafka records as a frame, and how far a stream of them was read.

A *stream* is one topic. Its *progress* is, per topic partition, the next offset to read. An *epoch* is one
life of the topic: where a topic was recreated, or what it held was lost, offsets begin anew, and a new
epoch, opened explicitly, says so. `FrameSource` serves records from memory: replays and tests read it as
they would read Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import polars as pl

RECORD_SCHEMA = pl.Schema(
    {
        "topic": pl.String(),
        "epoch": pl.Int32(),
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "ingested_at": pl.Datetime("us", "UTC"),
        "key": pl.Binary(),
        "value": pl.Binary(),
        "headers": pl.List(pl.Struct({"key": pl.String(), "value": pl.Binary()})),
    }
)
"""A record as it was received; ``ingested_at`` is the record's timestamp."""

COORDINATES = ("topic", "epoch", "partition", "offset")
"""What identifies a record."""

ARRIVAL_ORDER = ("ingested_at", *COORDINATES)
"""The order of arrival (semantics 2)."""


class ContinuityBroken(RuntimeError):
    """What comes next in a topic is not there any more: nothing is read until a person decides."""


class RecordsGone(ContinuityBroken):
    """Retention deleted records that were never read."""


class TopicRecreated(ContinuityBroken):
    """The topic ends before the recorded progress: it was deleted and made again."""


class TopicMissing(RuntimeError):
    """The cluster has no such topic."""


@dataclass(frozen=True)
class Held:
    """The offsets that a topic partition holds: from ``low`` up to but not including ``high``."""

    low: int
    high: int


@dataclass(frozen=True)
class Position:
    """How far one epoch of a topic was read: the next offset per topic partition."""

    topic: str
    epoch: int
    offsets: Mapping[int, int]

    def app(self, partition: int) -> str:
        """The name under which a partition's progress is recorded."""
        return progress_app(self.topic, self.epoch, partition)

    def keyed(self) -> dict[tuple[str, int, int], int]:
        """The next offset by (topic, epoch, partition)."""
        return {(self.topic, self.epoch, partition): offset for partition, offset in self.offsets.items()}

    def transactions(self) -> dict[str, int]:
        """The progress as names and numbers."""
        return {self.app(partition): offset for partition, offset in self.offsets.items()}


def progress_app(topic: str, epoch: int, partition: int) -> str:
    """The name under which the progress of a topic partition is recorded in a table's log."""
    return f"{topic}/{epoch}/{partition}"


def epoch_app(topic: str) -> str:
    """The name under which a topic's epoch is recorded in bronze's log."""
    return f"{topic}/epoch"


def identity_app(topic: str, epoch: int) -> str:
    """The name under which the identity of a topic in an epoch is recorded in bronze's log."""
    return f"{topic}/{epoch}/identity"


def partitions_app(topic: str, epoch: int) -> str:
    """The name under which the number of topic partitions is recorded in bronze's log."""
    return f"{topic}/{epoch}/partitions"


def start_app(topic: str, epoch: int, partition: int) -> str:
    """The name under which the first offset of a topic partition in an epoch is recorded."""
    return f"{progress_app(topic, epoch, partition)}/start"


@dataclass(frozen=True)
class Batch:
    """Consecutive records of a topic: everything from ``position`` up to ``next_position``.

    Attributes:
        records: Rows of `RECORD_SCHEMA`. Offsets may have gaps (transactions, compaction); the range has none.
        position: Where the batch begins.
        next_position: Where the next one begins.
        has_more: Whether the source held records behind the batch when it was read.
    """

    records: pl.DataFrame
    position: Position
    next_position: Position
    has_more: bool = False

    def ingestion_hours(self) -> dict[datetime, int]:
        """The number of records by the UTC hour of their timestamp."""
        return dict(self.records.group_by(pl.col("ingested_at").dt.truncate("1h")).agg(pl.len()).iter_rows())


class RecordSource(Protocol):
    """Something that holds the records of topics by partition and offset."""

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        """What each topic partition holds now.

        Args:
            topic: The topic.
            position: How far it was read; where the source doubts an end that lies below it, it makes sure.

        Raises:
            TopicMissing: There is no such topic.
        """
        ...

    def identity(self, topic: str) -> int | None:
        """A number that a topic deleted and made again does not keep; None where the source has none."""
        ...

    def read(self, position: Position, max_records: int, max_bytes: int) -> Batch | None:
        """The next records after a position, cut at one record time across topic partitions; None if none.

        Raises:
            ContinuityBroken: The records at the position are gone.
        """
        ...


def check_continuity(position: Position, held: Mapping[int, Held]) -> None:
    """Assert that a topic still holds what comes next.

    Args:
        position: The recorded progress.
        held: What the topic partitions hold.

    Raises:
        RecordsGone: The oldest record held is newer than the next one wanted.
        TopicRecreated: The topic ends before the recorded progress, or has fewer partitions than it had.
    """
    for partition, offset in sorted(position.offsets.items()):
        where = f"{position.topic}, partition {partition}, epoch {position.epoch}"
        if partition not in held:
            msg = f"{where}: the partition is gone; it was read up to offset {offset}. {_WAY_ON}"
            raise TopicRecreated(msg)
        if held[partition].low > offset:
            msg = (
                f"{where}: offsets {offset} to {held[partition].low - 1} are gone (retention); the topic begins "
                f"at {held[partition].low}. They were never read. {_WAY_ON}"
            )
            raise RecordsGone(msg)
        if held[partition].high < offset:
            msg = (
                f"{where}: read up to offset {offset}, but the topic ends at {held[partition].high}: "
                f"it was deleted and made again, or its data was lost. {_WAY_ON}"
            )
            raise TopicRecreated(msg)


def check_identity(topic: str, epoch: int, recorded: int | None, found: int | None) -> None:
    """Assert that a topic is the one that its epoch began with, where both identities are known.

    Raises:
        TopicRecreated: It is another one of the same name, whatever its offsets.
    """
    if recorded is not None and found is not None and recorded != found:
        msg = f"{topic}, epoch {epoch}: the topic was deleted and made again since it was last read. {_WAY_ON}"
        raise TopicRecreated(msg)


_WAY_ON = (
    "Nothing is read until you decide: `headwater new-epoch` goes on from what the topic holds now and keeps "
    "all that was read (docs/operations.md, 'A new epoch')."
)


def cut_at_one_time(records: pl.DataFrame, waiting: Iterable[int], last: Mapping[int, int]) -> pl.DataFrame:
    """Cut records at one record time, so that no topic partition runs ahead of another.

    The cut is the least, over the partitions that hold more, of the newest record time read of them. Of every
    partition a prefix is kept: the records before its first one after the cut.

    Args:
        records: Rows of `RECORD_SCHEMA`, in offset order within a partition.
        waiting: The partitions that hold more than was read.
        last: Per partition that was read, the greatest record time read, in µs since 1970.

    Returns:
        The rows to take now; at least one where there was one.
    """
    ends = [last[partition] for partition in waiting if partition in last]
    if not ends:
        return records
    cut = min(ends)
    beyond = pl.col("ingested_at").dt.timestamp("us") > cut
    return records.filter(beyond.cum_sum().over("partition") == 0)


@dataclass
class FrameSource:
    """Records in memory, served like a topic's; one frame of `RECORD_SCHEMA` a topic, epoch as the reader says.

    Attributes:
        records: All records, any order; `offset` is per topic and partition.
        partitions: The number of partitions of each topic.
        low: The first offset still held, per topic and partition; what is before was deleted.
        topic_identity: See `RecordSource.identity`.
    """

    records: pl.DataFrame
    partitions: Mapping[str, int]
    low: Mapping[tuple[str, int], int] = field(default_factory=dict)
    topic_identity: int | None = None

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        """See `RecordSource.held`."""
        if topic not in self.partitions:
            msg = f"there is no topic {topic!r}"
            raise TopicMissing(msg)
        ends = dict(
            self.records.filter(pl.col("topic") == topic)
            .group_by("partition")
            .agg(pl.col("offset").max() + 1)
            .iter_rows()
        )
        return {
            partition: Held(self.low.get((topic, partition), 0), ends.get(partition, 0))
            for partition in range(self.partitions[topic])
        }

    def identity(self, topic: str) -> int | None:
        """See `RecordSource.identity`."""
        return self.topic_identity if topic in self.partitions else None

    def read(self, position: Position, max_records: int, max_bytes: int) -> Batch | None:
        """See `RecordSource.read`."""
        held = self.held(position.topic)
        check_continuity(position, held)
        starts = pl.DataFrame(
            {"partition": list(position.offsets), "start": list(position.offsets.values())},
            schema={"partition": pl.Int32, "start": pl.Int64},
        )
        wanted = (
            self.records.filter(pl.col("topic") == position.topic)
            .join(starts, on="partition")
            .filter(pl.col("offset") >= pl.col("start"))
            .drop("start")
            .sort("ingested_at", "partition", "offset")
        )
        # Arrival order is not offset order where record times run backwards: take a prefix of each partition.
        size = wanted["value"].bin.size().fill_null(0).cum_sum()
        taken = wanted.head(max_records).filter(size.head(max_records) <= max(max_bytes, int(size.head(1).sum())))
        if taken.is_empty():
            return None
        ends = taken.group_by("partition").agg(end=pl.col("offset").max())
        records = (
            wanted.join(ends, on="partition")
            .filter(pl.col("offset") <= pl.col("end"))
            .drop("end")
            .with_columns(epoch=pl.lit(position.epoch, pl.Int32))
            .sort("partition", "offset")
            .select(RECORD_SCHEMA.names())
        )
        return Batch(records, position, advanced(position, records), has_more=records.height < wanted.height)


def advanced(position: Position, records: pl.DataFrame, ends: Mapping[int, int] | None = None) -> Position:
    """A position moved past some records.

    Args:
        position: Where the records begin.
        records: Rows of `RECORD_SCHEMA`.
        ends: Per partition, an offset up to which there is nothing more (a topic's end behind a gap).
    """
    offsets = dict(position.offsets)
    newest = records.group_by("partition").agg(pl.col("offset").max() + 1)
    for partition, offset in newest.iter_rows():
        offsets[partition] = offset
    for partition, end in (ends or {}).items():
        offsets[partition] = max(offsets[partition], end)
    return Position(position.topic, position.epoch, offsets)


def in_ranges(starts: Mapping[tuple[str, int, int], int], ends: Mapping[tuple[str, int, int], int]) -> pl.Expr:
    """Whether a record is in the range of its (topic, epoch, partition): ``[start, end)``."""
    inside = pl.lit(value=False)
    for key, end in ends.items():
        topic, epoch, partition = key
        inside |= (
            (pl.col("topic") == topic)
            & (pl.col("epoch") == epoch)
            & (pl.col("partition") == partition)
            & (pl.col("offset") >= starts.get(key, 0))
            & (pl.col("offset") < end)
        )
    return inside


def sql_coordinates(records: pl.DataFrame) -> str:
    """A SQL predicate that selects records by their coordinates."""
    clauses = [
        f"(topic = '{topic}' AND epoch = {epoch} AND partition = {partition} "
        f"AND offset IN ({', '.join(map(str, sorted(offsets)))}))"
        for (topic, epoch, partition), offsets in _offsets_by_partition(records).items()
    ]
    return " OR ".join(clauses)


def _offsets_by_partition(records: pl.DataFrame) -> dict[tuple[str, int, int], Sequence[int]]:
    grouped = records.group_by("topic", "epoch", "partition", maintain_order=True).agg("offset")
    return {(topic, epoch, partition): offsets for topic, epoch, partition, offsets in grouped.iter_rows()}
