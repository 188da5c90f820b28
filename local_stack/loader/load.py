"""A load: a file goes into a topic, and where it ends early the next call goes on.

The file is read twice: once for the `Survey`, which is held against the topic's settings; then row by row, into the
topic. The state keeps the line up to which Kafka has acknowledged everything. What is sent twice after a kill is
removed downstream: an `event_id` depends on nothing but the file and the line.
"""

from __future__ import annotations

import threading
import time
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from local_stack.loader.mapping import Mapping
from local_stack.loader.records import Converter, Record, Unfit
from local_stack.loader.retention import objection, topic_settings
from local_stack.loader.rows import rows
from local_stack.loader.state import LoadRefused, State, default_state_file, taken_up
from local_stack.loader.survey import Survey, survey
from resources.kafka import KafkaSource
from resources.records import Position

_CHECKPOINT_ROWS = 10_000
"""After so many the load waits for Kafka and notes how far it is."""

_CALLBACKS_EVERY = 1_000
_PRODUCER = {
    "enable.idempotence": True,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # Java's, as all of the platform's producers
    "linger.ms": 20,
    "message.timeout.ms": 60_000,
    "queue.buffering.max.kbytes": 64 * 1024,  # bounds the memory of large events
}


class BadRowFound(ValueError):
    """A strict load met a row that is no event; everything before it was delivered."""


class DeliveryFailed(RuntimeError):
    """Kafka did not take all records; the message says how many, the first reason, and how far the load is."""


@dataclass(frozen=True)
class BadRow:
    """A row that makes no event."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        """As compilers name a place, so that editors find it."""
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Loaded:
    """How far a load is, the number of the file's rows, and how many records this call delivered."""

    state: State
    rows: int
    delivered: int


@dataclass(frozen=True)
class Watcher:
    """What is called while a load runs.

    Attributes:
        note: With a remark, one line.
        bad: With each bad row; after a kill, one may come again.
        progress: With what was done, whenever Kafka has acknowledged everything so far.
    """

    note: Callable[[str], None] = lambda _: None
    bad: Callable[[BadRow], None] = lambda _: None
    progress: Callable[[Loaded], None] = lambda _: None


def load(
    path: Path,
    mapping: Mapping,
    config: abc.Mapping[str, str],
    topic: str,
    *,
    state_file: Path | None = None,
    strict: bool = False,
    ignore_retention: bool = False,
    restart: bool = False,
    stop: threading.Event | None = None,
    watcher: Watcher | None = None,
) -> Loaded | None:
    """Put a file through Kafka; goes on where an earlier call ended. None where it was stopped before the first row.

    ``config`` is librdkafka's, `Settings.kafka_config`; the topic must be there. ``strict`` stops at the first bad
    row, ``restart`` forgets what an earlier call did; ``stop``, once set, ends the load with everything noted.

    Raises:
        MappingInvalid: The mapping does not fit the file.
        LoadRefused: Going on would lose or double events.
        BadRowFound: A bad row, where ``strict``.
        DeliveryFailed: Kafka did not take all records; what it took is noted.
        TopicMissing: There is no such topic.
        KafkaUnreachable: No broker answered.
        OSError: The file cannot be read.
    """
    stop, watcher, state_file = stop or threading.Event(), watcher or Watcher(), state_file or default_state_file(path)
    found = None if restart else State.read(state_file)
    with KafkaSource(config) as source:
        held = source.held(topic, None if found is None else Position(topic, 1, found.offsets))
    seen = survey(path, mapping, stop)
    if seen is None:
        return None
    state = taken_up(found, State(seen.sha256, mapping.sha256, topic), held, state_file)
    if state.complete:
        watcher.note(f"every line was delivered to {topic!r} before ({state_file}); --restart makes only duplicates")
        return Loaded(state, seen.rows, 0)
    _ask_the_topic(config, topic, seen, watcher, ignore_retention=ignore_retention)
    state.write(state_file)
    with Producer({**_PRODUCER, **config}) as producer:
        return _Load(path, mapping, seen, producer, state, state_file, stop, watcher).run(strict=strict)


def _ask_the_topic(
    config: abc.Mapping[str, str], topic: str, seen: Survey, watcher: Watcher, *, ignore_retention: bool
) -> None:
    if seen.oldest_ms is None or seen.newest_ms is None:
        return
    settings, now_ms = topic_settings(config, topic), time.time_ns() // 1_000_000
    if settings is None:
        watcher.note(f"the cluster does not tell the settings of {topic!r}: its retention was not checked")
    elif why := objection(settings, topic, seen.oldest_ms, seen.newest_ms, now_ms, ignore_retention=ignore_retention):
        raise LoadRefused(why)


@dataclass
class _Load:
    """One load under way: rows go out, and at each checkpoint Kafka's acknowledgements come into the state."""

    path: Path
    mapping: Mapping
    seen: Survey
    producer: Producer
    state: State
    state_file: Path
    stop: threading.Event
    watcher: Watcher
    _offsets: dict[int, int] = field(default_factory=dict)
    _refused: list[str] = field(default_factory=list)
    _bad: list[BadRow] = field(default_factory=list)
    _sent: int = 0

    def run(self, *, strict: bool) -> Loaded:
        self._before, line = self.state.delivered, self.state.line
        converter, already = Converter(self.mapping, self.path, self.seen.sha256), self.state.line
        for line, row in rows(self.path, self.mapping.file):
            if line <= already:
                continue
            if self.stop.is_set():
                return self._checkpoint(line - 1)
            try:
                if isinstance(row, str):
                    raise Unfit(row)
                self._send(converter.record(line, row))
            except Unfit as reason:
                bad = BadRow(str(self.path), line, str(reason))
                if strict:
                    self._checkpoint(line - 1)
                    raise BadRowFound(str(bad)) from reason
                self._bad.append(bad)
            if self._sent + len(self._bad) >= _CHECKPOINT_ROWS:
                self._checkpoint(line)
        return self._checkpoint(line, complete=True)

    def _send(self, record: Record) -> None:
        key, value, at_ms = record
        while True:
            try:
                self.producer.produce(self.state.topic, value, key, timestamp=at_ms, on_delivery=self._delivered)
                break
            except BufferError:
                self.producer.poll(0.1)
            except KafkaException as error:
                reason = error.args[0]
                if reason.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise Unfit(f"its event has {len(value):,} bytes, more than the producer takes") from error
                raise DeliveryFailed(f"the producer failed after line {self.state.line}: {reason.str()}") from error
        self._sent += 1
        if self._sent % _CALLBACKS_EVERY == 0:
            self.producer.poll(0)

    def _checkpoint(self, line: int, *, complete: bool = False) -> Loaded:
        """Wait for Kafka, then note that everything up to a line is done."""
        self.producer.flush()
        if self._refused:
            raise DeliveryFailed(
                f"{len(self._refused):,} records after line {self.state.line} did not reach {self.state.topic!r}: "
                f"{self._refused[0]}. The same command goes on after that line"
            )
        for bad in self._bad:
            self.watcher.bad(bad)
        self.state = msgspec.structs.replace(
            self.state,
            line=line,
            delivered=self.state.delivered + self._sent,
            bad=self.state.bad + len(self._bad),
            offsets=self.state.offsets | self._offsets,
            complete=complete,
        )
        self.state.write(self.state_file)
        self._sent, self._bad = 0, []
        loaded = Loaded(self.state, self.seen.rows, self.state.delivered - self._before)
        self.watcher.progress(loaded)
        return loaded

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(error.str())
            return
        partition, offset = cast("int", message.partition()), cast("int", message.offset())
        self._offsets[partition] = max(offset + 1, self._offsets.get(partition, 0))
