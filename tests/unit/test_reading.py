"""Reading ahead changes when a batch is read, never which one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from platform_assets.silver.judgement import judge
from platform_assets.streams.reading import Reading
from resources.records import Batch, FrameSource, Position, RecordsGone
from resources.settings import Settings
from support.records import RULES, TOPIC, Record, at, encoded, numbered, source
from support.records import event as an_event


@dataclass
class Watched(FrameSource):
    """A source that notes from where it was read."""

    reads: list[int] = field(default_factory=list)

    def read(self, position: Position, max_records: int, max_bytes: int) -> Batch | None:
        self.reads.append(position.offsets[0])
        return super().read(position, max_records, max_bytes)


def position(offset: int) -> Position:
    return Position(TOPIC, 1, {0: offset})


@pytest.fixture
def watched() -> Watched:
    records: list[Record] = numbered([(0, at(n), encoded(an_event(f"e{n}", n, n))) for n in range(5)])
    held = source(records, 1)
    return Watched(held.records, held.partitions)


@pytest.fixture
def reading(watched: Watched) -> Iterator[Reading]:
    reading = Reading(watched, Settings(micro_batch_records=2), lambda records: judge(records, RULES))
    yield reading
    reading.close()


def test_what_was_read_ahead_is_taken_and_not_read_again(reading: Reading, watched: Watched) -> None:
    first = reading.take(position(0))
    assert first is not None
    assert first.batch.has_more
    reading.read_ahead(first.batch.next_position)
    second = reading.take(position(2))
    assert second is not None
    assert second.batch.records["offset"].to_list() == [2, 3]
    assert second.judgement.result().accepted["event_id"].to_list() == ["e2", "e3"]
    assert watched.reads == [0, 2]


def test_what_was_read_ahead_from_elsewhere_is_dropped(reading: Reading, watched: Watched) -> None:
    reading.read_ahead(position(2))
    first = reading.take(position(0))
    assert first is not None
    assert first.batch.records["offset"].to_list() == [0, 1]
    assert watched.reads == [2, 0]


def test_the_last_batch_says_so(reading: Reading) -> None:
    last = reading.take(position(4))
    assert last is not None
    assert not last.batch.has_more
    assert reading.take(position(5)) is None


def test_an_error_while_reading_ahead_is_raised_where_the_batch_is_taken(reading: Reading, watched: Watched) -> None:
    watched.low = {(TOPIC, 0): 3}
    reading.read_ahead(position(2))
    with pytest.raises(RecordsGone):
        reading.take(position(2))
    watched.low = {}
    assert reading.take(position(2)) is not None


def test_what_is_forgotten_is_read_again(reading: Reading, watched: Watched) -> None:
    reading.read_ahead(position(2))
    reading.forget()
    assert reading.take(position(2)) is not None
    assert watched.reads == [2, 2]
