"""The traffic of the benchmarks: the simulator's events, stamped fast enough to need little of the machine.

The simulator makes some ten thousand events a second; the peak to be measured is more than that on a machine whose
cores the platform needs. So a *deck* of its events is encoded once, with gaps where ids and times go, and played over
and over, each time by other persons. What goes wrong is what costs time in a micro-batch: repeats, late events, skewed
clocks, garbage.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
import polars as pl
from msgspec.structs import replace

from local_stack.simulator.corrupt import Corruption
from local_stack.simulator.producer import Tape
from local_stack.simulator.world import rfc3339
from local_stack.sink import Sink
from resources.records import RECORD_SCHEMA

PARTITIONS = 4
RATE = 3_500
"""Events per second of 300 million a day."""
SECOND = 1_000_000
DAY = 86_400 * SECOND

_GAPS = {
    "event_id": "%(event)024x",
    "anonymous_id": "%(device)b",
    "user_id": "user-%(device)b",
    "session_id": "%(session)016x",
    "client_occurred_at": "%(occurred)b",
    "client_sent_at": "%(sent)b",
    "received_at": "%(received)b",
}
_GARBAGE = (b"", b'{"event_id":"', b"[1,2,3]", b'{"event_name":42}', b"\xff\xfe")
_SKEWS = (7 * 60 * SECOND, 61 * 60 * SECOND, 3 * DAY)
_ODD = 0x9E3779B97F4A7C15
_64_BITS = 2**64 - 1
_96_BITS = 2**96 - 1
_encode = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """One Kafka record, as `Sink.send` takes it."""

    key: bytes
    value: bytes
    timestamp_ms: int


class Deck:
    """Some thousand of the simulator's events, ready to be stamped. Which number gets which fate is fixed.

    Args:
        late_share: Of events that come up to 6.9 days late.
        persons: Of the simulator's world.
    """

    def __init__(self, late_share: float = 0.01, persons: int = 20_000) -> None:
        tape = Tape(RATE, 1, Corruption.none(), persons)
        scenes = [tape.event(number, 0).wire for number in range(persons // 12)]
        self._cards: list[tuple[bytes, int, int, int]] = []
        for number, wire in enumerate(scenes):
            gaps = {name: gap for name, gap in _GAPS.items() if getattr(wire, name) is not None}
            plain = _encode(replace(wire, **dict.fromkeys(gaps, "\x01")))
            template = plain.replace(b"%", b"%%")
            for name, gap in gaps.items():
                template = template.replace(f'"{name}":"\\u0001"'.encode(), f'"{name}":"{gap}"'.encode(), 1)
            device = crc32((wire.anonymous_id or wire.user_id or "").encode())
            skew = _SKEWS[number % 3] if wire.client_sent_at is not None and _draw(device) < 0.03 else 0
            self._cards.append((template, device, crc32((wire.session_id or "").encode()), skew))
        self._late_share = late_share

    def lateness(self, number: int) -> int:
        """Microseconds between the event of this number and its first sending; mostly 0."""
        draw = _draw(number * 7 + 3)
        return 0 if draw >= self._late_share else int(draw / self._late_share * 6.9 * DAY)

    def record(self, number: int, first_sent: int, sent: int) -> Record:
        """The record of an event, sent at first or again; times in microseconds since 1970."""
        playing, position = divmod(number, len(self._cards))
        template, device, session, skew = self._cards[position]
        received = _stamp(sent)
        if skew or sent != first_sent or _draw(number * 7 + 3) < self._late_share:
            clocked = _stamp(sent + skew)
            occurred = _stamp(first_sent - self.lateness(number) + skew)
        else:
            clocked = occurred = received
        person = b"%016x" % ((device + (playing << 32)) * _ODD & _64_BITS)
        value = template % {
            b"event": (number * _ODD << 29 | number & 0x1FFFFFFF) & _96_BITS,
            b"device": person,
            b"session": (session + (playing << 32)) * _ODD & _64_BITS,
            b"occurred": occurred,
            b"sent": clocked,
            b"received": received,
        }
        return Record(person, value, sent // 1_000)


class Traffic:
    """A stream of records at an even pace.

    Args:
        deck: What is played.
        start: When number 0 is sent, in microseconds since 1970.
        rate: Events per second; repeats and garbage come on top.
        duplicate_rate: Share of events after which one of the last thousands is sent again.
        garbage_rate: Share of events after which garbage is sent.
    """

    def __init__(
        self, deck: Deck, start: int, rate: float = RATE, *, duplicate_rate: float = 0.02, garbage_rate: float = 0.004
    ) -> None:
        self._deck = deck
        self._start = start
        self._rate = rate
        self._duplicate_rate = duplicate_rate
        self._garbage_rate = garbage_rate

    def at(self, number: int) -> int:
        """When the event of a number is first sent."""
        return self._start + int(number / self._rate * SECOND)

    def records(self, first: int = 0) -> Iterator[Record]:
        """The records from an event's number on, in order of time, without end."""
        for number in itertools.count(first):
            at = self.at(number)
            yield self._deck.record(number, at, at)
            draw = _draw(number * 5 + 1)
            if draw < self._duplicate_rate and number > 0:
                back = 1 + int(draw / self._duplicate_rate * min(number, 20_000) * 0.999)
                yield self._deck.record(number - back, self.at(number - back), at)
            elif draw > 1 - self._garbage_rate:
                yield Record(b"", _GARBAGE[number % len(_GARBAGE)], at // 1_000)


def frame(records: Iterable[Record], offsets: dict[int, int], topic: str = "client_events") -> pl.DataFrame:
    """Records as `resources.kafka` would read them; ``offsets`` holds the next one per partition, and is moved on."""
    rows = []
    for key, value, timestamp_ms in records:
        partition = crc32(key) % PARTITIONS
        offset = offsets.get(partition, 0)
        offsets[partition] = offset + 1
        rows.append((topic, 1, partition, offset, timestamp_ms * 1_000, key, value, None))
    schema = {**RECORD_SCHEMA, "ingested_at": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").cast({"ingested_at": RECORD_SCHEMA["ingested_at"]})


def fill(config: Mapping[str, str], topic: str, records: Iterable[Record]) -> int:
    """Write records to Kafka as fast as it takes them. Returns their number."""
    with Sink(config, topic) as sink:
        for record in records:
            sink.send(record)  # type: ignore[arg-type]  # it reads key, value and time alone
        return sink.sent


def since(start: int, rate: float) -> Iterator[Record]:
    """Traffic from an instant on, with ids that traffic from another second does not have."""
    deck = Deck()
    first = start // SECOND * 100_000
    return Traffic(deck, start - int(first / rate * SECOND), rate).records(first)


def play(
    config: Mapping[str, str], topic: str, rate: float, seconds: float, stop: threading.Event
) -> tuple[int, float]:
    """Send `rate` events a second on the wall clock.

    Returns:
        Records sent, and the most seconds that the schedule was ever behind.
    """
    start = time.time_ns() // 1_000
    records, sent, behind = since(start, rate), 0, 0.0
    end_ms = (start + int(seconds * SECOND)) // 1_000
    with Sink(config, topic) as sink:
        for record in records:
            if record.timestamp_ms >= end_ms or stop.is_set():
                break
            ahead = record.timestamp_ms / 1_000 - time.time()
            if ahead > 0.01:
                time.sleep(ahead)
            elif sent % 1_000 == 0:
                behind = max(behind, -ahead)
            sink.send(record)  # type: ignore[arg-type]
            sent += 1
    return sent, behind


def _draw(number: int) -> float:
    """A number in [0, 1) that follows from another one, and looks random."""
    return (number * _ODD >> 32 & 0xFFFFFFFF) / 2**32


def _stamp(at: int) -> bytes:
    second, rest = divmod(at, SECOND)
    return b"%b%06dZ" % (_to_the_second(second), rest)


@lru_cache(maxsize=1_000)
def _to_the_second(second: int) -> bytes:
    return rfc3339(second * SECOND)[:-7].encode()


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traffic", description="Traffic on the wall clock.")
    parser.add_argument("bootstrap", help="host:port of Kafka")
    parser.add_argument("topic")
    parser.add_argument("rate", type=float, help="events per second")
    parser.add_argument("seconds", type=float)
    parser.add_argument("outcome", type=Path, help="file for what was sent, as JSON")
    options = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = {"bootstrap.servers": options.bootstrap}
    sent, behind = play(config, options.topic, options.rate, options.seconds, stop)
    options.outcome.write_bytes(_encode({"sent": sent, "behind_seconds": round(behind, 3)}))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
