"""Kafka as a sink: one record, acknowledged by all replicas that are in sync."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

_PATIENCE = timedelta(seconds=10)


class NotProduced(RuntimeError):
    """Kafka did not take a record, or did not say so in time; then it may be there all the same."""


def produce(config: Mapping[str, str], topic: str, partition: int, key: bytes, value: bytes) -> int:
    """Send a record, and wait until Kafka has it.

    Args:
        config: The librdkafka configuration of a client.
        topic: The topic; it must exist, else some brokers make it.
        partition: The topic partition.
        key: The record's key; a compacted topic takes none without.
        value: The record's value.

    Returns:
        Its offset.

    Raises:
        NotProduced: Kafka did not take it within ten seconds.
    """
    told: list[tuple[KafkaError | None, Message]] = []
    milliseconds = str(int(_PATIENCE.total_seconds() * 1000))
    # librdkafka types its settings itself, and takes every one as a text.
    own = {"acks": "all", "enable.idempotence": "true", "linger.ms": "0", "message.timeout.ms": milliseconds}
    producer = Producer({**config, **own})
    try:
        producer.produce(
            topic, value, key, partition=partition, on_delivery=lambda error, message: told.append((error, message))
        )
        producer.flush(_PATIENCE.total_seconds() + 1)
    except KafkaException as error:
        msg = f"topic {topic!r}: {error.args[0].str()}"
        raise NotProduced(msg) from error
    if not told or told[0][0] is not None:
        reason = told[0][0].str() if told and told[0][0] is not None else "no word from Kafka in time"
        msg = f"topic {topic!r}: {reason}"
        raise NotProduced(msg)
    return cast("int", told[0][1].offset())
