"""When a run is requested: pure decisions over what was seen."""

from datetime import UTC, datetime, timedelta

import pytest

from resources.records import Held, Position, TopicRecreated
from sensors.micro_batches import SUCCESSOR_BEFORE, Attempt, Reach, digest, request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=5)
POSITION = Position("t", 1, {0: 10, 1: 20})
NEW = {0: Held(0, 11), 1: Held(0, 20)}
OLD = {0: Held(0, 10), 1: Held(0, 20)}


def attempt(*, is_alive: bool, age: timedelta = timedelta(0), position: Position = POSITION) -> Attempt:
    return Attempt("r1", digest([position]), is_alive, NOW - age)


def test_something_new_asks_for_a_run_and_nothing_new_does_not() -> None:
    assert request([Reach(POSITION, NEW)], [], NOW, LEASE) == (f"{digest([POSITION])}-0", digest([POSITION]))
    assert request([Reach(POSITION, OLD)], [], NOW, LEASE) is None
    assert request([Reach(POSITION, {**OLD, 2: Held(0, 3)})], [], NOW, LEASE) is not None  # a partition was added


def test_a_topic_never_read_asks_for_a_run() -> None:
    assert request([Reach(None, OLD)], [], NOW, LEASE) == ("nothing-read-0", "nothing-read")


def test_one_run_at_a_time() -> None:
    assert request([Reach(POSITION, NEW)], [attempt(is_alive=True)], NOW, LEASE) is None


def test_a_failed_attempt_at_the_same_position_gets_another_key() -> None:
    failed = [attempt(is_alive=False), attempt(is_alive=False)]
    found = request([Reach(POSITION, NEW)], failed, NOW, LEASE)
    assert found is not None
    assert found[0].endswith("-2")


def test_the_next_lease_is_asked_for_before_the_last_one_ends_and_only_once() -> None:
    ending = attempt(is_alive=True, age=LEASE - SUCCESSOR_BEFORE)
    assert request([Reach(POSITION, OLD)], [ending], NOW, LEASE) == ("after-r1", digest([POSITION]))
    assert request([Reach(POSITION, NEW)], [ending, attempt(is_alive=True)], NOW, LEASE) is None


def test_what_is_gone_is_no_run_but_an_error() -> None:
    with pytest.raises(TopicRecreated):
        request([Reach(POSITION, {0: Held(0, 3), 1: Held(0, 20)})], [], NOW, LEASE)


def test_a_position_has_one_digest_whatever_the_order() -> None:
    assert digest([Position("t", 1, {1: 20, 0: 10})]) == digest([POSITION])
    assert digest([Position("t", 2, {0: 10, 1: 20})]) != digest([POSITION])


def test_what_a_replay_let_in_asks_for_a_run_though_kafka_is_quiet() -> None:
    assert request([Reach(POSITION, OLD, has_admissions=True)], [], NOW, LEASE) is not None


def test_what_a_kill_left_asks_for_a_run_though_kafka_is_quiet() -> None:
    assert request([Reach(POSITION, OLD, is_uneven=True)], [], NOW, LEASE) is not None
    assert request([Reach(POSITION, OLD, is_uneven=True)], [attempt(is_alive=True)], NOW, LEASE) is None


def test_one_run_holds_several_streams() -> None:
    other = Position("b", 1, {0: 5})
    quiet = Reach(other, {0: Held(0, 5)})
    found = request([quiet, Reach(POSITION, NEW)], [], NOW, LEASE)
    assert found is not None
    assert found[1] == digest([other, POSITION]) != digest([POSITION])
    assert request([quiet, Reach(POSITION, OLD)], [], NOW, LEASE) is None
