"""The embedded broker, alone and under the simulator: it starts, keeps records and their times, says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from local_stack.broker import Broker, create_topic, free_port
from local_stack.process import LOOPBACK, ProcessFailed
from local_stack.simulator import Corruption, World, history, live, produce_history
from local_stack.sink import DeliveryFailed
from resources.envelope import WireEvent

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(free_port(), tmp_path_factory.mktemp("broker") / "broker.log") as running:
        yield running


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def consumed(broker: Broker, topic: str, partitions: int = 4) -> list[Message]:
    """All records of a topic; fetched to each partition's end, because the broker misstates the end when asked."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "enable.partition.eof": True}
    )
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        messages: list[Message] = []
        open_partitions = set(range(partitions))
        deadline = time.monotonic() + 20
        while open_partitions:
            assert time.monotonic() < deadline, f"no end of partitions {open_partitions}"
            for message in consumer.consume(1_000, timeout=0.2):
                error = message.error()
                if error is None:
                    messages.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF
                    open_partitions.discard(message.partition())
        return messages
    finally:
        consumer.close()


def test_records_come_back_with_their_historical_timestamps(broker: Broker) -> None:
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "events", partitions=4)
    first_ms = 1_700_000_000_000
    sent = {(b"k%d" % (n % 50), b"v%d" % n, first_ms + n * 60_000) for n in range(1_000)}

    producer = Producer({**config, "compression.type": "lz4", "enable.idempotence": True})
    for key, value, timestamp in sent:
        producer.produce("events", value, key, timestamp=timestamp)
    assert producer.flush(10) == 0

    messages = consumed(broker, "events")
    assert {(message.key(), message.value(), message.timestamp()[1]) for message in messages} == sent
    partitions_of: dict[bytes, set[int]] = defaultdict(set)
    for message in messages:
        partitions_of[message.key()].add(message.partition())
    assert all(len(partitions) == 1 for partitions in partitions_of.values())


def test_asked_for_its_end_the_broker_tells_the_last_batchs_first_record(broker: Broker) -> None:
    """A fault of tansu 0.6 to work round: the end is the first offset of the last batch plus one.

    Only a fetch tells the true end: the error of a partition's end, and the watermarks cached from it.
    """
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "misstated", partitions=1)
    producer = Producer({**config, "linger.ms": 50})
    for _ in range(2):
        for _ in range(100):
            producer.produce("misstated", b"value")
        assert producer.flush(10) == 0
    partition = TopicPartition("misstated", 0, 200)
    consumer = Consumer({**config, "group.id": "test", "enable.partition.eof": True})
    try:
        assert consumer.get_watermark_offsets(partition, timeout=5) == (0, 101)
        consumer.assign([partition])
        message = consumer.poll(10)
        assert message is not None
        error = message.error()
        assert error is not None
        assert error.code() == KafkaError._PARTITION_EOF
        assert message.offset() == 200
        assert consumer.get_watermark_offsets(partition, cached=True) == (0, 200)
    finally:
        consumer.close()


def test_creating_a_topic_twice_changes_nothing(broker: Broker) -> None:
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "twice", partitions=4)
    create_topic(config, "twice", partitions=4)
    topics = AdminClient(config).list_topics("twice", timeout=5).topics
    assert sorted(topics["twice"].partitions) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 partitions, not 8"):
        create_topic(config, "twice", partitions=8)


def test_it_stops_and_starts_again_and_has_forgotten_everything(tmp_path: Path) -> None:
    broker = Broker(free_port(), tmp_path / "broker.log")
    config = {"bootstrap.servers": broker.bootstrap_servers}
    with broker:
        create_topic(config, "forgotten")
        assert broker.running
    assert not broker.running
    assert not accepts_connections(broker.port)
    broker.stop()
    with broker:
        assert "forgotten" not in AdminClient(config).list_topics(timeout=5).topics


def test_a_port_in_use_is_a_clear_error(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=f"port {broker.port} on 127.0.0.1 is in use"):
        Broker(broker.port, tmp_path / "second.log").start()
    assert broker.running


def test_a_process_that_ends_at_its_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "broken"
    binary.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setattr("local_stack.broker.resolve_broker_bin", lambda: str(binary))
    broker = Broker(free_port(), tmp_path / "broker.log")
    with pytest.raises(ProcessFailed, match="out of luck"):
        broker.start()
    assert not broker.running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel feature is Linux's")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import pathlib, signal; from local_stack.broker import Broker\n"
        f"Broker({port}, pathlib.Path({str(tmp_path / 'broker.log')!r})).start()\n"
        "print('up', flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    assert accepts_connections(port)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while accepts_connections(port):
        assert time.monotonic() < deadline, "the broker outlived its parent"


def test_a_history_arrives_as_it_was_simulated(broker: Broker) -> None:
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "history")
    world = World(seed=5, persons=60, start=datetime(2026, 10, 1, tzinfo=UTC), days=7)
    corruption = Corruption(garbage_rate=0.05, duplicate_rate=0.1)
    produced = produce_history(config, "history", history(world, corruption))
    expected = list(history(world, corruption))
    assert produced.kinds == Counter(delivery.kind for delivery in expected)
    # Kafka's clients make no difference between an empty key and none.
    assert Counter(
        (message.key() or None, message.value(), message.timestamp()[1]) for message in consumed(broker, "history")
    ) == Counter((delivery.key, delivery.value, delivery.timestamp_ms) for delivery in expected)


def test_live_traffic_keeps_its_rate_and_tells_the_true_time_of_sending(broker: Broker) -> None:
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "live")
    before = time.time_ns() // 1_000_000
    produced = live(config, "live", rate=200, seconds=2, corruption=Corruption.none())
    after = time.time_ns() // 1_000_000
    assert 300 <= produced.records <= 400
    messages = consumed(broker, "live")
    assert len(messages) == produced.records
    for message in messages:
        wire = msgspec.json.decode(message.value(), type=WireEvent)
        assert before <= message.timestamp()[1] <= after
        assert wire.client_sent_at in {None, wire.received_at}
        received_at = datetime.fromisoformat(wire.received_at).timestamp() * 1_000
        assert int(received_at) == message.timestamp()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_ends_cleanly_on_a_signal(broker: Broker, number: signal.Signals) -> None:
    topic = f"signal-{number.name}"
    create_topic({"bootstrap.servers": broker.bootstrap_servers}, topic)
    command = [sys.executable, "-m", "local_stack.simulator", "live", "--rate", "500"]
    process = subprocess.Popen(
        [*command, "--bootstrap", broker.bootstrap_servers, "--topic", topic], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while not consumed(broker, topic):
            assert time.monotonic() < deadline, "no record came"
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    records = len(consumed(broker, topic))
    assert f"{records:,} records in".encode() in said


def test_a_history_with_its_truth_from_the_command_line(broker: Broker, tmp_path: Path) -> None:
    create_topic({"bootstrap.servers": broker.bootstrap_servers}, "cli")
    truth = tmp_path / "truth.parquet"
    command = [sys.executable, "-m", "local_stack.simulator", "history", "--days", "3", "--persons", "100"]
    where = ["--bootstrap", broker.bootstrap_servers, "--topic", "cli", "--truth", str(truth), "--clean"]
    subprocess.run([*command, *where], check=True, capture_output=True)
    assert pl.read_parquet(truth).height == len(consumed(broker, "cli")) > 100


def test_records_that_do_not_arrive_are_an_error(tmp_path: Path) -> None:
    broker = Broker(free_port(), tmp_path / "broker.log")
    config = {"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": "500", "log_level": "0"}
    world = World(seed=5, persons=20, start=datetime(2026, 10, 1, tzinfo=UTC), days=2)
    with pytest.raises(DeliveryFailed, match="did not reach 'nowhere'"):
        produce_history(config, "nowhere", history(world))
