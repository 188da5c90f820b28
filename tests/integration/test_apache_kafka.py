"""Apache Kafka itself, where the embedded broker cannot stand for it.

It keeps its records across starts, knows topics by id, and forgets ranges when asked. What clients see of
that is pinned here, so that an upgrade of Kafka or of librdkafka that changes it says so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from local_stack import apache_kafka
from local_stack.apache_kafka import KAFKA_VERSION, ApacheKafka
from local_stack.broker import create_topic
from local_stack.process import ProcessFailed, free_port

REPOSITORY = Path(__file__).parents[2]
JARS = REPOSITORY / "var" / "apache-kafka"
PARTITIONS = 4
PARTITION_OF_KEY = -1
FIRST_MS = 1_500_000_000_000
ONE_DAY_MS = 86_400_000


class Stored(NamedTuple):
    """One record as a consumer gets it."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    missing = apache_kafka.unavailable()
    if missing is not None:
        pytest.skip(missing)
    with ApacheKafka(JARS, free_port(), data=tmp_path_factory.mktemp("kafka")) as running:
        yield running


def real(test: Callable[..., None]) -> Callable[..., None]:
    """A test that starts Kafka; the first of them brings the jars, within a time of its own."""
    for mark in (pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(900)):
        test = mark(test)
    return test


def client(kafka: ApacheKafka, **more: str) -> dict[str, str | int | float | bool]:
    return {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, **more}


def create(kafka: ApacheKafka, topic: str) -> None:
    create_topic({"bootstrap.servers": kafka.bootstrap_servers, "log_level": "0"}, topic, PARTITIONS)


def produce(kafka: ApacheKafka, topic: str, count: int, partition: int = PARTITION_OF_KEY) -> None:
    """Idempotent and lz4, as the platform's producers are; record n is n days after `FIRST_MS`."""
    producer = Producer(client(kafka, **{"enable.idempotence": "true", "compression.type": "lz4"}))
    failed: list[KafkaError] = []
    for n in range(count):
        producer.produce(
            topic,
            b"value %d" % n,
            b"key %d" % (n % 100),
            partition,
            lambda error, _: None if error is None else failed.append(error),
            timestamp=FIRST_MS + n * ONE_DAY_MS,
        )
    assert producer.flush(30) == 0
    assert failed == []


def stored(message: Message[bytes, bytes]) -> Stored:
    error, key, value = message.error(), message.key(), message.value()
    if error is not None:
        raise KafkaException(error)
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    assert key is not None
    assert value is not None
    return Stored(partition, offset, key, value, message.timestamp()[1])


def read(kafka: ApacheKafka, starts: Sequence[TopicPartition], count: int) -> list[Stored]:
    """The first `count` records from `starts`; a `KafkaException` where Kafka no longer holds a start."""
    consumer = Consumer(
        client(kafka, **{"group.id": "test", "auto.offset.reset": "error", "enable.auto.commit": "false"})
    )
    consumer.assign(list(starts))
    records: list[Stored] = []
    deadline = time.monotonic() + 30
    try:
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records in time"
            for message in consumer.consume(count - len(records), timeout=0.5):
                records.append(stored(message))
    finally:
        consumer.close()
    return records


def read_all(kafka: ApacheKafka, topic: str, count: int) -> list[Stored]:
    return sorted(read(kafka, [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)], count))


def watermarks(kafka: ApacheKafka, topic: str, partition: int = 0) -> tuple[int, int]:
    consumer = Consumer(client(kafka, **{"group.id": "test"}))
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    finally:
        consumer.close()
    return low, high


def delete_before(kafka: ApacheKafka, topic: str, offset: int) -> int:
    """Delete partition 0's records before `offset`; returns its new low watermark."""
    admin = AdminClient(client(kafka))
    (future,) = admin.delete_records([TopicPartition(topic, 0, offset)]).values()
    low: int = future.result(20).low_watermark
    return low


def topic_id(kafka: ApacheKafka, topic: str) -> str:
    """The id, as text; asked again while the broker has not yet heard of a topic just created."""
    admin = AdminClient(client(kafka))
    deadline = time.monotonic() + 10
    while True:
        try:
            return str(admin.describe_topics(TopicCollection([topic]))[topic].result(10).topic_id)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@real
def test_records_come_back_with_their_historical_timestamps(kafka: ApacheKafka) -> None:
    create(kafka, "events")
    produce(kafka, "events", 1_000)

    records = read_all(kafka, "events", 1_000)
    assert {(record.key, record.value, record.timestamp_ms) for record in records} == {
        (b"key %d" % (n % 100), b"value %d" % n, FIRST_MS + n * ONE_DAY_MS) for n in range(1_000)
    }
    assert {record.partition for record in records} == set(range(PARTITIONS))
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in records if record.partition == partition]
        assert watermarks(kafka, "events", partition) == (0, len(offsets))
        assert offsets == list(range(len(offsets)))


@real
@pytest.mark.parametrize("end", [ApacheKafka.stop, ApacheKafka.kill], ids=["stopped", "killed"])
def test_a_restart_keeps_records_and_topic_id(kafka: ApacheKafka, end: Callable[[ApacheKafka], None]) -> None:
    topic = f"kept-{end.__name__}"
    create(kafka, topic)
    produce(kafka, topic, 1_000)
    before, id_before = read_all(kafka, topic, 1_000), topic_id(kafka, topic)

    end(kafka)
    assert not kafka.running
    kafka.start()

    assert read_all(kafka, topic, 1_000) == before
    assert topic_id(kafka, topic) == id_before


@real
def test_the_same_records_on_another_port(kafka: ApacheKafka) -> None:
    create(kafka, "moved")
    produce(kafka, "moved", 100)
    before = read_all(kafka, "moved", 100)
    kafka.stop()
    try:
        with ApacheKafka(JARS, free_port(), data=kafka.data) as moved:
            assert moved.port != kafka.port
            assert read_all(moved, "moved", 100) == before
    finally:
        kafka.start()


@real
def test_a_topic_made_again_has_another_id_and_starts_at_zero(kafka: ApacheKafka) -> None:
    create(kafka, "again")
    produce(kafka, "again", 100)
    first = topic_id(kafka, "again")
    assert re.fullmatch(r"[A-Za-z0-9+/_-]{22}", first)
    assert topic_id(kafka, "again") == first

    admin = AdminClient(client(kafka))
    admin.delete_topics(["again"])["again"].result(20)
    create(kafka, "again")

    assert topic_id(kafka, "again") != first
    assert watermarks(kafka, "again") == (0, 0)


@real
def test_two_uuids_of_one_topic_are_not_equal_but_their_texts_are(kafka: ApacheKafka) -> None:
    """`confluent_kafka.Uuid` compares by identity: an epoch kept as anything but text would always change."""
    create(kafka, "uuid")
    text = topic_id(kafka, "uuid")
    admin = AdminClient(client(kafka))
    one, other = (admin.describe_topics(TopicCollection(["uuid"]))["uuid"].result(10).topic_id for _ in range(2))
    assert one != other
    assert str(one) == str(other) == text


@real
def test_a_deleted_range_is_an_error_to_a_reader_that_asks_for_it(kafka: ApacheKafka) -> None:
    create(kafka, "expired")
    produce(kafka, "expired", 100, partition=0)

    assert delete_before(kafka, "expired", 40) == 40
    assert watermarks(kafka, "expired") == (40, 100)
    with pytest.raises(KafkaException) as gone:
        read(kafka, [TopicPartition("expired", 0, 39)], 1)
    assert gone.value.args[0].code() == KafkaError._AUTO_OFFSET_RESET
    assert [record.offset for record in read(kafka, [TopicPartition("expired", 0, 40)], 60)] == list(range(40, 100))

    assert delete_before(kafka, "expired", 10) == 40, "what is gone stays gone: no error, and nothing to do"
    with pytest.raises(KafkaException) as beyond:
        delete_before(kafka, "expired", 101)
    assert beyond.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE

    kafka.stop()
    kafka.start()
    assert watermarks(kafka, "expired") == (40, 100)

    assert delete_before(kafka, "expired", OFFSET_END) == 100
    assert watermarks(kafka, "expired") == (100, 100)


@real
def test_topics_are_not_created_by_writing_to_them(kafka: ApacheKafka) -> None:
    # A producer waits for a new topic to be heard of, by default for 30 s, before it calls it unknown.
    producer = Producer(client(kafka, **{"topic.metadata.propagation.max.ms": "500"}))
    codes: list[int | None] = []
    producer.produce(
        "misspelt",
        b"value",
        on_delivery=lambda error, _: codes.append(None if error is None else error.code()),
    )
    assert producer.flush(30) == 0
    assert codes == [KafkaError.UNKNOWN_TOPIC_OR_PART]
    assert "misspelt" not in AdminClient(client(kafka)).list_topics(timeout=10).topics


@real
def test_a_taken_port_is_named_in_the_error(kafka: ApacheKafka, tmp_path: Path) -> None:
    second = ApacheKafka(JARS, kafka.port, data=tmp_path)
    with pytest.raises(ProcessFailed, match=rf"(?s)ended with status .*{kafka.port}"):
        second.start()
    assert not second.running
    assert kafka.running


@real
def test_records_have_one_owner_at_a_time(kafka: ApacheKafka) -> None:
    """Kafka locks them too, but only after the second controller has written to the first one's log."""
    settings = (kafka.data / "server.properties").read_bytes()
    with pytest.raises(ProcessFailed, match="another node owns the records"):
        ApacheKafka(JARS, free_port(), data=kafka.data).start()
    assert kafka.running
    assert (kafka.data / "server.properties").read_bytes() == settings
    kafka.stop()
    assert (kafka.data / "log" / ".kafka_cleanshutdown").exists()
    kafka.start()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = apache_kafka.unavailable()
    assert missing is not None
    assert missing.endswith("not found on the path: java, mvn")

    for program in ("java", "mvn"):
        (tmp_path / program).write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apache_kafka.unavailable() == "Apache Kafka needs Java 17 or newer: found 11"


def test_a_failing_maven_shows_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho no such artifact\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(maven.parent))
    with pytest.raises(ProcessFailed, match=r"(?s)Maven failed with status 1:.no such artifact"):
        apache_kafka.bring_jars(tmp_path / "jars")
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["maven.log"]


def test_the_containers_node_is_configured_as_ours(tmp_path: Path) -> None:
    """compose.yaml is not run here; what can be known of it without a container engine is that it agrees."""
    service = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]["kafka"]
    assert service["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert service["ports"] == ["127.0.0.1:9092:9092"]
    theirs = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in service["environment"].items()
        if name.startswith("KAFKA_")
    }
    ours = dict(line.split("=", 1) for line in ApacheKafka(tmp_path, 9092).settings().splitlines())
    addresses = {"listeners", "controller.quorum.voters", "log.dirs"}
    assert {name: ours.get(name) for name in theirs.keys() - addresses} == {
        name: theirs[name] for name in theirs.keys() - addresses
    }
