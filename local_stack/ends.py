"""Where a topic really ends: asked by fetching, because the embedded broker tells it wrongly when asked.

tansu answers a request for the end with the first offset of the last batch plus one; a fetch tells it right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from resources.kafka import KafkaSource, KafkaUnreachable
from resources.records import Held, Position

_AT_ONCE = 10_000


def fetched_ends(
    config: Mapping[str, str], topic: str, starts: Mapping[int, int], within: float = 10.0
) -> dict[int, int]:
    """The offset behind the last record of each topic partition.

    Args:
        config: The librdkafka configuration.
        topic: The topic; it must be there.
        starts: Per topic partition, an offset that exists or is the end; what lies behind it is fetched.
        within: Seconds it may take.

    Raises:
        KafkaUnreachable: The topic did not tell in time.
    """
    consumer = Consumer(
        {
            **config,
            "group.id": "headwater-ends",  # librdkafka wants one; it is never joined
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": "100",
            "log_level": "0",
        }
    )
    ends: dict[int, int] = {}
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
        deadline = time.monotonic() + within
        while len(ends) < len(starts):
            if time.monotonic() > deadline:
                msg = f"{topic}: partitions {sorted(set(starts) - set(ends))} did not tell their end in {within:g} s"
                raise KafkaUnreachable(msg)
            for message in consumer.consume(_AT_ONCE, timeout=0.25):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ends[cast("int", message.partition())] = cast("int", message.offset())
        return ends
    except KafkaException as error:
        msg = f"Kafka does not answer for topic {topic!r}: {error.args[0].str()}"
        raise KafkaUnreachable(msg) from error
    finally:
        consumer.close()


class EmbeddedSource(KafkaSource):
    """The embedded broker as a source of records, whose ends are right: a reader of it misses no last record."""

    def __init__(self, config: Mapping[str, str]) -> None:
        super().__init__(config)
        self._asking = dict(config)

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        """See `RecordSource.held`."""
        told = super().held(topic, position)
        ends = fetched_ends(self._asking, topic, {p: max(held.low, held.high - 1) for p, held in told.items()})
        return {partition: Held(held.low, ends[partition]) for partition, held in told.items()}
