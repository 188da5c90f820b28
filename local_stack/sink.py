"""Writes records to a topic, and waits until Kafka has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from confluent_kafka import KafkaError, Message, Producer

_FLUSH_SECONDS = 60.0
_CALLBACKS_EVERY = 1_000


class DeliveryFailed(RuntimeError):
    """Kafka did not take all records; the message says how many, and the first reason."""


class Sendable(Protocol):
    """A record to write."""

    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def timestamp_ms(self) -> int: ...  # noqa: D102


class Sink:
    """A topic to write records to; leaving the context waits until Kafka has all of them.

    The partition follows from the key alone (Java's murmur2), so that the copies of one event keep their
    order. Records are written idempotently, with lz4.

    Args:
        config: librdkafka configuration with at least `bootstrap.servers`; it wins over what is set here.
        topic: The topic; it must be there.
    """

    def __init__(self, config: Mapping[str, str], topic: str) -> None:
        self.topic = topic
        self.sent = 0
        self._failures: Counter[str] = Counter()
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "delivery.report.only.error": True,
                "on_delivery": self._failed,
                **config,
            }
        )

    def send(self, delivery: Sendable) -> None:
        """Hand one record to the producer; waits while its queue is full."""
        # `produce_batch` refuses timestamps of one's own (confluent-kafka 2.16), so one call per record.
        while True:
            try:
                self._producer.produce(self.topic, delivery.value, delivery.key, timestamp=delivery.timestamp_ms)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.sent += 1
        if self.sent % _CALLBACKS_EVERY == 0:
            self._producer.poll(0)

    def flush(self) -> None:
        """Wait until Kafka has all records.

        Raises:
            DeliveryFailed: It refused some, or has not taken all within a minute.
        """
        waiting = self._producer.flush(_FLUSH_SECONDS)
        if waiting or self._failures:
            missing = waiting + self._failures.total()
            reason = next(iter(self._failures), "no answer")
            msg = f"{missing} of {self.sent} records did not reach {self.topic!r}: {reason}"
            raise DeliveryFailed(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        else:
            self._producer.purge()

    def _failed(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failures[str(error)] += 1
