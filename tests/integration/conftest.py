"""A Kafka for the tests: the embedded broker, or Apache Kafka with `--kafka apache`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from local_stack import apache_kafka
from local_stack.apache_kafka import ApacheKafka
from local_stack.broker import Broker, create_topic
from local_stack.process import free_port
from resources.settings import Settings

JARS = Path(__file__).parents[2] / "var" / "apache-kafka"


@dataclass(frozen=True)
class Topic:
    """A topic of a test's own on a running cluster."""

    bootstrap_servers: str
    name: str
    is_apache: bool

    @property
    def config(self) -> dict[str, str]:
        return {"bootstrap.servers": self.bootstrap_servers}

    def settings(self, **changes: object) -> Settings:
        return Settings.model_validate(
            {"kafka_bootstrap_servers": self.bootstrap_servers, "client_events_topic": self.name, **changes}
        )

    def produce(self, values: list[tuple[int, bytes, datetime]]) -> None:
        """Send (topic partition, value, record time), and wait until all are there."""
        producer = Producer({**self.config, "compression.type": "lz4", "enable.idempotence": "true"})
        for partition, value, at in values:
            producer.produce(self.name, value=value, partition=partition, timestamp=int(at.timestamp() * 1000))
        assert producer.flush(30) == 0

    def delete(self) -> None:
        """Delete the topic."""
        admin = AdminClient(self.config)  # kept until its future has resolved
        admin.delete_topics([self.name])[self.name].result(30)

    def make_again(self) -> None:
        """Delete the topic, and create another one of the same name."""
        self.delete()
        create_topic(self.config, self.name, partitions=4)

    def forget(self, partition: int, before: int) -> None:
        """Let retention take the records before an offset."""
        admin = AdminClient(self.config)
        where = TopicPartition(self.name, partition, before)
        for done in admin.delete_records([where]).values():
            done.result(30)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", choices=["embedded", "apache"], default="embedded", help="which broker to test against")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bool]]:
    """A running cluster: its bootstrap servers, and whether it is Apache Kafka."""
    folder = tmp_path_factory.mktemp("kafka")
    if request.config.getoption("--kafka") == "embedded":
        with Broker(free_port(), folder / "broker.log") as broker:
            yield broker.bootstrap_servers, False
        return
    missing = apache_kafka.unavailable()
    if missing is not None:
        pytest.skip(missing)
    with ApacheKafka(JARS, free_port(), data=folder) as node:
        yield node.bootstrap_servers, True


@pytest.fixture
def topic(cluster: tuple[str, bool]) -> Topic:
    """A new topic with four partitions."""
    made = Topic(cluster[0], f"client_events_{uuid.uuid4().hex[:8]}", cluster[1])
    create_topic(made.config, made.name, partitions=4)
    return made
