"""Kafka as a source of records: read by explicit offsets, without a consumer group.

Progress lives in the lake (`resources.lake.Writer`), so nothing is committed to Kafka. Watermarks are
compared with the progress before every read: a seek past the end of a topic gives no error, it hangs.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import cast

import polars as pl
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from resources.records import (
    RECORD_SCHEMA,
    Batch,
    Held,
    Position,
    TopicMissing,
    advanced,
    check_continuity,
    cut_at_one_time,
)

LAST_MILLISECOND = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: the last record time that a date can be made of; later ones are set to it."""

_TIMEOUT = 10.0
_CONSUME_AT_ONCE = 10_000
_POLL = 0.25
_PROBE = 5.0


class KafkaUnreachable(ConnectionError):
    """The cluster did not answer in time; progress is as it was, try again."""


class KafkaSource:
    """A `resources.records.RecordSource` over a Kafka cluster. Use as a context manager, or `close` it.

    Args:
        config: The librdkafka configuration (`Settings.kafka_config`); holds secrets.
        patience: How long a read waits for records that the topic says it holds.
    """

    def __init__(self, config: Mapping[str, str], patience: timedelta = timedelta(seconds=30)) -> None:
        self._config: dict[str, str | int | float | bool] = dict(config)
        self._consumer = Consumer(
            {
                **config,
                "group.id": "headwater",  # librdkafka wants one; it is never joined
                "enable.auto.commit": "false",
                "enable.auto.offset.store": "false",
                "enable.partition.eof": "true",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": "100",
                "queued.max.messages.kbytes": "131072",
            }
        )
        self._patience = patience
        self._assigned: Position | None = None
        self._received: list[Message] = []
        """Received, and not yet handed out: what lay beyond the last cut."""
        self._last: dict[int, int] = {}
        """Behind the newest message received of a partition."""
        self._ends: dict[int, int] = {}
        """Where a partition was read to its end, and nothing came since."""

    def __enter__(self) -> KafkaSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster."""
        self._consumer.close()

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        """See `RecordSource.held`. An end below the position is believed only when a fetch confirms it.

        Some brokers tell the end of a topic as the first offset of its last batch plus one.

        Raises:
            TopicMissing: There is no such topic.
            KafkaUnreachable: No broker answered.
        """
        try:
            listed = self._consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic]
            if listed.error is not None or not listed.partitions:
                msg = f"the cluster has no topic {topic!r} ({listed.error}); create it, or set its name"
                raise TopicMissing(msg)
            held = {
                partition: Held(*self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _TIMEOUT))
                for partition in sorted(listed.partitions)
            }
            return held if position is None else self._confirmed(position, held)
        except KafkaException as error:
            msg = f"Kafka does not answer for topic {topic!r}: {error.args[0].str()}"
            raise KafkaUnreachable(msg) from error

    def identity(self, topic: str) -> int | None:
        """See `RecordSource.identity`: 63 bits of the topic id that Kafka gives since 2.8; None from older brokers.

        Raises:
            KafkaUnreachable: No broker answered.
        """
        admin = AdminClient({**self._config})  # kept until its future has resolved
        try:
            described = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT)[topic].result()
        except KafkaException as error:
            msg = f"Kafka does not describe topic {topic!r}: {error.args[0].str()}"
            raise KafkaUnreachable(msg) from error
        topic_id = base64.urlsafe_b64decode(f"{described.topic_id}==".replace("+", "-").replace("/", "_"))
        return int.from_bytes(topic_id[:8], "big") >> 1 or None

    def read(self, position: Position, max_records: int, max_bytes: int) -> Batch | None:
        """See `RecordSource.read`.

        Raises:
            ContinuityBroken: The records at the position are gone.
            KafkaUnreachable: The topic holds records, but they did not come in time.
        """
        held = self.held(position.topic, position)
        check_continuity(position, held)
        goal = {p: held[p].high for p, offset in position.offsets.items() if held[p].high > offset}
        if not goal:
            return None
        self._assign(position)
        self._assigned = None  # until the read has succeeded
        self._receive(position, goal, max_records, max_bytes)
        read = _frame(self._received, position.epoch)
        newest = read.group_by("partition").agg(pl.col("ingested_at").max().dt.timestamp("us"))
        waiting = [partition for partition, high in goal.items() if self._reached(partition) < high]
        records = cut_at_one_time(read, waiting, dict(newest.iter_rows()))
        taken = advanced(position, records)
        self._received = [m for m in self._received if _offset(m) >= taken.offsets[_partition(m)]]
        kept = {_partition(m) for m in self._received}
        ends = {p: end for p, end in self._ends.items() if p not in kept and p in position.offsets}
        next_position = advanced(position, records, ends)
        self._assigned = next_position
        return None if next_position == position else Batch(records, position, next_position)

    def _confirmed(self, position: Position, held: dict[int, Held]) -> dict[int, Held]:
        """Where the told end lies below a position: the position, if a fetch there finds the end or more."""
        doubted = {p: offset for p, offset in position.offsets.items() if p in held and held[p].high < offset}
        if self._assigned == position:  # this consumer was at those offsets when it last read
            found = set(doubted)
        else:
            found = self._found(position.topic, doubted) if doubted else set()
        return {p: Held(told.low, doubted[p]) if p in found else told for p, told in held.items()}

    def _found(self, topic: str, offsets: Mapping[int, int]) -> set[int]:
        """The partitions in which an offset exists, or is the end. A fetch beyond the end gets an error or silence."""
        self._assigned = None
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in offsets.items()])
        found: set[int] = set()
        refused: set[int] = set()
        deadline = time.monotonic() + _PROBE
        while found | refused < set(offsets) and time.monotonic() < deadline:
            for message in self._consumer.consume(_CONSUME_AT_ONCE, timeout=_POLL):
                error = message.error()
                is_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                (found if error is None or is_end else refused).add(_partition(message))
        return found - refused

    def _assign(self, position: Position) -> None:
        """Continue where the last read ended, or seek."""
        if self._assigned == position:
            return
        self._received, self._last, self._ends = [], {}, {}
        self._consumer.assign([TopicPartition(position.topic, p, offset) for p, offset in position.offsets.items()])

    def _receive(self, position: Position, goal: Mapping[int, int], max_records: int, max_bytes: int) -> None:
        """Receive until the caps are reached, or all that the topic held when the read began."""
        size = sum(len(m) for m in self._received)
        heard = {_partition(m) for m in self._received}
        deadline = time.monotonic() + self._patience.total_seconds()
        while behind := {p for p, high in goal.items() if self._reached(p) < high}:
            # With a cap reached, go on only until each partition behind was heard: the cut needs its time.
            if (len(self._received) >= max_records or size >= max_bytes) and behind <= heard:
                return
            polled = self._consumer.consume(_CONSUME_AT_ONCE, timeout=_POLL)
            for message in polled:
                error = message.error()
                if error is None:
                    self._received.append(message)
                    self._last[_partition(message)] = _offset(message) + 1
                    self._ends.pop(_partition(message), None)
                    heard.add(_partition(message))
                    size += len(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._ends[_partition(message)] = _offset(message)
                else:
                    msg = f"reading {position.topic}: {error.str()}"
                    raise KafkaUnreachable(msg)
            if polled:
                deadline = time.monotonic() + self._patience.total_seconds()
            elif behind <= set(self._ends):
                return  # an open transaction holds back what the watermark counts already
            elif time.monotonic() > deadline:
                msg = (
                    f"{position.topic}: partitions {sorted(behind)} hold records that did not come in {self._patience}"
                )
                raise KafkaUnreachable(msg)

    def _reached(self, partition: int) -> int:
        """The offset up to which a partition was received."""
        return max(self._last.get(partition, -1), self._ends.get(partition, -1))


def _partition(message: Message) -> int:
    return cast("int", message.partition())


def _offset(message: Message) -> int:
    return cast("int", message.offset())


def _frame(messages: list[Message], epoch: int) -> pl.DataFrame:
    times = []
    for message in messages:
        kind, instant = message.timestamp()
        if kind == TIMESTAMP_NOT_AVAILABLE:
            msg = (
                f"{message.topic()}, partition {message.partition()}, offset {message.offset()} has no timestamp: "
                "its hour cannot be told. Records need message format 1 or later (Kafka 0.10)"
            )
            raise ValueError(msg)
        times.append(min(max(instant, 0), LAST_MILLISECOND))
    frame = pl.DataFrame(
        {
            "topic": [m.topic() for m in messages],
            "epoch": pl.repeat(epoch, len(messages), dtype=pl.Int32, eager=True),
            "partition": [m.partition() for m in messages],
            "offset": [m.offset() for m in messages],
            "ingested_at": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")),
            "key": [_bytes(m.key()) for m in messages],
            "value": [_bytes(m.value()) for m in messages],
            "headers": [_headers(m) for m in messages],
        },
        schema_overrides={k: v for k, v in RECORD_SCHEMA.items() if k != "ingested_at"},
        strict=True,
    )
    return frame.cast({"ingested_at": RECORD_SCHEMA["ingested_at"]}).select(RECORD_SCHEMA.names())


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _headers(message: Message) -> list[dict[str, str | bytes | None]] | None:
    headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return [{"key": key, "value": value} for key, value in headers] if headers else None
