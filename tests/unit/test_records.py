"""Progress and continuity of a stream of records."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from resources.records import (
    RECORD_SCHEMA,
    Held,
    Position,
    RecordsGone,
    TopicRecreated,
    check_continuity,
    check_identity,
    cut_at_one_time,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
POSITION = Position("t", 2, {0: 10, 1: 20})


def test_what_comes_next_is_there() -> None:
    check_continuity(POSITION, {0: Held(0, 10), 1: Held(20, 99), 2: Held(0, 5)})


@pytest.mark.parametrize(
    ("held", "error", "told"),
    [
        ({0: Held(11, 30), 1: Held(0, 20)}, RecordsGone, "partition 0, epoch 2: offsets 10 to 10 are gone"),
        ({0: Held(0, 10), 1: Held(0, 19)}, TopicRecreated, "read up to offset 20, but the topic ends at 19"),
        ({0: Held(0, 10)}, TopicRecreated, "partition 1, epoch 2: the partition is gone"),
    ],
)
def test_what_is_gone_is_told_with_the_way_on(held: dict[int, Held], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told) as raised:
        check_continuity(POSITION, held)
    assert "headwater new-epoch" in str(raised.value)


def test_a_topic_of_the_same_name_is_not_the_same_topic() -> None:
    check_identity("t", 1, None, 5)
    check_identity("t", 1, 5, None)
    check_identity("t", 1, 5, 5)
    with pytest.raises(TopicRecreated, match="made again"):
        check_identity("t", 1, 5, 6)


def records(*rows: tuple[int, int, int]) -> pl.DataFrame:
    """Rows of (partition, offset, record time in seconds)."""
    return pl.DataFrame(
        [("t", 1, p, o, AT + timedelta(seconds=s), None, None, None) for p, o, s in rows],
        schema=RECORD_SCHEMA,
        orient="row",
    )


def micros(seconds: int) -> int:
    return int((AT + timedelta(seconds=seconds)).timestamp() * 1_000_000)


def test_no_partition_runs_ahead_of_one_that_holds_more() -> None:
    read = records((0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 3), (1, 2, 2))
    kept = cut_at_one_time(read, waiting=[0], last={0: micros(2), 1: micros(3)})
    # Partition 1 keeps a prefix: its third record is within the cut, but behind one that is not.
    assert kept.select("partition", "offset").rows() == [(0, 0), (0, 1), (1, 0)]


def test_the_slowest_of_those_that_hold_more_decides() -> None:
    read = records((0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 3))
    kept = cut_at_one_time(read, waiting=[0, 1], last={0: micros(2), 1: micros(3)})
    assert kept.select("partition", "offset").rows() == [(0, 0), (0, 1), (1, 0)]


def test_with_everything_read_nothing_is_cut() -> None:
    read = records((0, 0, 1), (1, 0, 9))
    assert cut_at_one_time(read, waiting=[], last={0: micros(1), 1: micros(9)}).equals(read)
