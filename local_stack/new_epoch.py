"""A new epoch: the explicit way on when what comes next in a topic is gone.

What was read stays as it is. Reading goes on from what the topic holds now, under a new epoch number, because
offsets are only comparable within one life of a topic.
"""

from __future__ import annotations

from dataclasses import dataclass

from platform_assets.streams import epochs
from platform_assets.streams.advance import WRITERS
from platform_assets.streams.stream import Stream
from resources.lake import Lake
from resources.records import ContinuityBroken, Held, Position, RecordSource, check_continuity
from resources.settings import Settings, StartAt


@dataclass(frozen=True)
class Situation:
    """How a topic and what was read of it stand to each other.

    Attributes:
        position: How far the current epoch was read.
        starts: Where it began.
        held: What the topic holds now.
        broken: Why reading has stopped; None where it has not.
    """

    position: Position
    starts: dict[int, int]
    held: dict[int, Held]
    broken: ContinuityBroken | None

    @property
    def rows(self) -> list[tuple[int, str, str, str]]:
        """Per topic partition: what was read, what the topic holds, what is gone."""
        partitions = sorted({*self.position.offsets, *self.held})
        return [(p, self._read(p), self._holds(p), self._gone(p)) for p in partitions]

    def _read(self, partition: int) -> str:
        offset = self.position.offsets.get(partition)
        return "nothing" if offset is None else _span(self.starts.get(partition, 0), offset)

    def _holds(self, partition: int) -> str:
        held = self.held.get(partition)
        return "no such partition" if held is None else _span(held.low, held.high)

    def _gone(self, partition: int) -> str:
        offset, held = self.position.offsets.get(partition), self.held.get(partition)
        if offset is None:
            return "nothing"
        if held is None:
            return f"whatever came after {offset - 1:,}"
        if held.low > offset:
            return f"{_span(offset, held.low)}, never read"
        if held.high < offset:
            return f"whatever came after {offset - 1:,} in the topic's former life"
        return "nothing"


def situation(lake: Lake, stream: Stream, source: RecordSource, settings: Settings) -> Situation | None:
    """How things stand with a stream's topic; None where it was never read.

    Raises:
        TopicMissing: There is no such topic.
    """
    bronze, topic = lake.open(stream.table), stream.required_topic(settings)
    position = epochs.recorded(bronze, topic)
    if position is None:
        return None
    held = source.held(topic, position)
    try:
        check_continuity(position, held)
    except ContinuityBroken as error:
        return Situation(position, epochs.starts(bronze, position), held, error)
    return Situation(position, epochs.starts(bronze, position), held, None)


def open_new_epoch(lake: Lake, stream: Stream, source: RecordSource, settings: Settings, start_at: StartAt) -> int:
    """Bring the tables below bronze to where bronze is, then open the next epoch. Returns its number.

    Raises:
        Fenced: A run holds the streams; nothing was opened.
    """
    with WRITERS[stream.name](lake, source, settings) as batches:
        batches.catch_up()
    return epochs.open_next(lake, stream.table, source, stream.required_topic(settings), start_at)


def _span(first: int, end: int) -> str:
    return "nothing" if first >= end else f"{first:,} to {end - 1:,}"
