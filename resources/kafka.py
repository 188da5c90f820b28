"""Kafka as a source of records: read by explicit offsets, without a consumer group.

Progress lives in the lake (`resources.lake.Writer`), so nothing is committed to Kafka. Watermarks are
compared with the progress before every read: a seek past the end of a topic gives no error, it hangs.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from operator import methodcaller
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
_LEADER_MOVES = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


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
        # Its requests do not queue behind a reader's fetches, which wait for records on the same connection.
        self._asker = Consumer({**config, "group.id": "headwater"})
        self._patience = patience
        self._readers: dict[str, _TopicReader] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> KafkaSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster."""
        for reader in self._readers.values():
            reader.close()
        self._asker.close()

    def held(self, topic: str, position: Position | None = None) -> dict[int, Held]:
        """See `RecordSource.held`. An end below the position is believed only when a fetch confirms it.

        Some brokers tell the end of a topic as the first offset of its last batch plus one.

        Raises:
            TopicMissing: There is no such topic.
            KafkaUnreachable: No broker answered.
        """
        try:
            listed = self._asker.list_topics(topic, timeout=_TIMEOUT).topics[topic]
            if listed.error is not None or not listed.partitions:
                msg = f"the cluster has no topic {topic!r} ({listed.error}); create it, or set its name"
                raise TopicMissing(msg)
            held = {partition: self._watermarks(topic, partition) for partition in sorted(listed.partitions)}
            return held if position is None else self._reader(topic).confirmed(position, held)
        except KafkaException as error:
            msg = f"Kafka does not answer for topic {topic!r}: {error.args[0].str()}"
            raise KafkaUnreachable(msg) from error

    def _watermarks(self, topic: str, partition: int) -> Held:
        """The watermarks of a topic partition; asked again while its leader moves."""
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                return Held(*self._asker.get_watermark_offsets(TopicPartition(topic, partition), _TIMEOUT))
            except KafkaException as error:
                if error.args[0].code() not in _LEADER_MOVES or time.monotonic() > deadline:
                    raise
                self._asker.list_topics(topic, timeout=_TIMEOUT)  # who leads it now

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
        return self._reader(position.topic).read(position, goal, max_records, max_bytes) if goal else None

    def _reader(self, topic: str) -> _TopicReader:
        with self._lock:  # a source is asked by the readers of several topics at once
            if topic not in self._readers:
                self._readers[topic] = _TopicReader(self._config, self._patience)
            return self._readers[topic]


class _TopicReader:
    """The consumer of one topic, which goes on where its last read ended."""

    def __init__(self, config: Mapping[str, str | int | float | bool], patience: timedelta) -> None:
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
        self._kept = pl.DataFrame(schema=RECORD_SCHEMA)
        """Received, and not yet handed out: what lay beyond the last cut."""
        self._last: dict[int, int] = {}
        """Behind the newest message received of a partition."""
        self._ends: dict[int, int] = {}
        """Where a partition was read to its end."""

    def close(self) -> None:
        """Leave the cluster."""
        self._consumer.close()

    def read(self, position: Position, goal: Mapping[int, int], max_records: int, max_bytes: int) -> Batch | None:
        """The next records after a position; see `RecordSource.read`.

        Args:
            position: Where to begin.
            goal: Where the partitions that hold more end.
            max_records: See `RecordSource.read`.
            max_bytes: See `RecordSource.read`.
        """
        self._assign(position)
        self._assigned = None  # until the read has succeeded
        read = self._receive(position, goal, max_records, max_bytes)
        newest = read.group_by("partition").agg(pl.col("ingested_at").max().dt.timestamp("us"))
        waiting = [partition for partition, high in goal.items() if self._reached(partition) < high]
        records = cut_at_one_time(read, waiting, dict(newest.iter_rows()))
        taken = advanced(position, records)
        is_beyond = pl.col("offset") >= pl.col("partition").replace_strict(taken.offsets, return_dtype=pl.Int64)
        self._kept = read.filter(is_beyond)
        kept = set(self._kept["partition"].unique())
        ends = {p: end for p, end in self._ends.items() if p not in kept and p in position.offsets}
        next_position = advanced(position, records, ends)
        self._assigned = next_position
        has_more = any(next_position.offsets[partition] < high for partition, high in goal.items())
        return None if next_position == position else Batch(records, position, next_position, has_more)

    def confirmed(self, position: Position, held: dict[int, Held]) -> dict[int, Held]:
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
                (found if error is None or is_end else refused).add(cast("int", message.partition()))
        return found - refused

    def _assign(self, position: Position) -> None:
        """Continue where the last read ended, or seek."""
        if self._assigned == position:
            return
        self._kept, self._last, self._ends = self._kept.clear(), {}, {}
        self._consumer.assign([TopicPartition(position.topic, p, offset) for p, offset in position.offsets.items()])

    def _receive(self, position: Position, goal: Mapping[int, int], max_records: int, max_bytes: int) -> pl.DataFrame:
        """Receive until the caps are reached, or all that the topic held when the read began."""
        frames = [self._kept]
        count, size = self._kept.height, int(self._kept["value"].bin.size().sum() or 0)
        heard = set(self._kept["partition"].unique())
        deadline = time.monotonic() + self._patience.total_seconds()
        while behind := {p for p, high in goal.items() if self._reached(p) < high}:
            # With a cap reached, go on only until each partition behind was heard: the cut needs its time.
            if (count >= max_records or size >= max_bytes) and behind <= heard:
                break
            polled = self._consumer.consume(_CONSUME_AT_ONCE, timeout=_POLL)
            errors = list(map(_ERROR, polled))
            told = [message for message, error in zip(polled, errors, strict=True) if error is not None]
            received = [m for m, error in zip(polled, errors, strict=True) if error is None] if told else polled
            if received:
                frame = _frame(received, position.epoch)
                frames.append(frame)
                count, size = count + frame.height, size + sum(map(len, received))
                last = dict(frame.group_by("partition").agg(pl.col("offset").max() + 1).iter_rows())
                self._last |= last
                heard |= last.keys()
            self._take_notice(position.topic, told)
            if polled:
                deadline = time.monotonic() + self._patience.total_seconds()
            elif behind <= self._ends.keys():
                break  # an open transaction holds back what the watermark counts already
            elif time.monotonic() > deadline:
                msg = (
                    f"{position.topic}: partitions {sorted(behind)} hold records that did not come in {self._patience}"
                )
                raise KafkaUnreachable(msg)
        return pl.concat(frames)

    def _take_notice(self, topic: str, events: list[Message]) -> None:
        """Remember where partitions end; everything else that the client tells is an error."""
        for event in events:
            error = event.error()
            if error is None or error.code() != KafkaError._PARTITION_EOF:
                msg = f"reading {topic}: {error.str() if error is not None else 'no error told'}"
                raise KafkaUnreachable(msg)
            self._ends[cast("int", event.partition())] = cast("int", event.offset())

    def _reached(self, partition: int) -> int:
        """The offset up to which a partition was received."""
        return max(self._last.get(partition, -1), self._ends.get(partition, -1))


_PARTITION, _OFFSET, _TIMESTAMP = methodcaller("partition"), methodcaller("offset"), methodcaller("timestamp")
_ERROR = methodcaller("error")
_KEY, _VALUE, _HEADERS = methodcaller("key"), methodcaller("value"), methodcaller("headers")


def _frame(messages: list[Message], epoch: int) -> pl.DataFrame:
    """Messages of one topic as rows of `RECORD_SCHEMA`; column by column, for each call per message counts."""
    kinds, times = zip(*map(_TIMESTAMP, messages), strict=True)
    if TIMESTAMP_NOT_AVAILABLE in kinds:
        message = messages[kinds.index(TIMESTAMP_NOT_AVAILABLE)]
        msg = (
            f"{message.topic()}, partition {message.partition()}, offset {message.offset()} has no timestamp: "
            "its hour cannot be told. Records need message format 1 or later (Kafka 0.10)"
        )
        raise ValueError(msg)
    headers = list(map(_HEADERS, messages))
    if any(headers):
        headers = [[{"key": key, "value": value} for key, value in pairs] if pairs else None for pairs in headers]
    return pl.DataFrame(
        {
            "topic": pl.repeat(messages[0].topic(), len(messages), dtype=pl.String, eager=True),
            "epoch": pl.repeat(epoch, len(messages), dtype=pl.Int32, eager=True),
            "partition": list(map(_PARTITION, messages)),
            "offset": list(map(_OFFSET, messages)),
            "ingested_at": pl.Series(times, dtype=pl.Int64).clip(0, LAST_MILLISECOND).cast(pl.Datetime("ms", "UTC")),
            "key": pl.Series(list(map(_KEY, messages)), dtype=pl.Binary),
            "value": pl.Series(list(map(_VALUE, messages)), dtype=pl.Binary),
            "headers": pl.Series(headers, dtype=RECORD_SCHEMA["headers"]),
        },
        schema_overrides={"partition": pl.Int32, "offset": pl.Int64},
    ).cast({"ingested_at": RECORD_SCHEMA["ingested_at"]})
