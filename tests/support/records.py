"""Kafka records for tests: events as JSON, placed on topic partitions at instants of our choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from platform_assets.silver.judgement import Rules
from resources.records import RECORD_SCHEMA, FrameSource
from resources.schemas import NoRegistry

TOPIC = "client_events"
START = datetime(2026, 11, 20, 22, tzinfo=UTC)
"""Two hours before midnight, so that a few hours of events have two dates."""
MINUTE = timedelta(minutes=1)

RULES = Rules(timedelta(days=7), NoRegistry())
"""What records are judged by where nothing else is said: no schema is known."""


@dataclass(frozen=True)
class Record:
    """One Kafka record."""

    partition: int
    offset: int
    ingested_at: datetime
    value: bytes | None
    key: bytes | None = None
    topic: str = TOPIC
    epoch: int = 1

    @property
    def coordinates(self) -> tuple[str, int, int, int]:
        return (self.topic, self.epoch, self.partition, self.offset)


def at(minute: float) -> datetime:
    """An instant, in minutes after `START`."""
    return START + minute * MINUTE


def event(
    event_id: str = "e0",
    occurred: float = 0,
    received: float | None = None,
    sent: float | None = None,
    without: Iterable[str] = (),
    **fields: object,
) -> dict[str, object]:
    """An event as a producer writes it; times in minutes after `START`, received when it occurred by default."""
    whole: dict[str, object] = {
        "event_id": event_id,
        "source": "web",
        "event_name": "page_viewed",
        "schema_ref": "page_viewed/1",
        "client_occurred_at": at(occurred).isoformat(),
        "received_at": at(occurred if received is None else received).isoformat(),
        "anonymous_id": "a0",
    }
    if sent is not None:
        whole["client_sent_at"] = at(sent).isoformat()
    whole |= fields
    return {name: value for name, value in whole.items() if name not in set(without)}


def encoded(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode()


def record(partition: int, offset: int, ingested: float, value: bytes | Mapping[str, object] | None) -> Record:
    """A record; its time in minutes after `START`."""
    payload = encoded(value) if isinstance(value, Mapping) else value
    return Record(partition, offset, at(ingested), payload)


def numbered(values: Iterable[tuple[int, datetime, bytes | None]]) -> list[Record]:
    """Records from (partition, record time, value), with consecutive offsets per partition."""
    ends: dict[int, int] = {}
    made = []
    for partition, instant, value in values:
        offset = ends.get(partition, 0)
        ends[partition] = offset + 1
        made.append(Record(partition, offset, instant, value))
    return made


def frame(records: Iterable[Record]) -> pl.DataFrame:
    """Records as rows of `RECORD_SCHEMA`."""
    rows = [(r.topic, r.epoch, r.partition, r.offset, r.ingested_at, r.key, r.value, None) for r in records]
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")


def source(records: Iterable[Record], partitions: int) -> FrameSource:
    """A topic that holds the records."""
    return FrameSource(frame(records), {TOPIC: partitions})


def traffic(count: int, seed: int, partitions: int = 3) -> list[Record]:
    """Events of about a day with duplicates, late ones, jitter and garbage; the same for the same seed."""
    import random

    rng = random.Random(seed)
    drawn: list[tuple[int, datetime, bytes | None]] = []
    for number in range(count):
        id_ = number if rng.random() < 0.8 else rng.randrange(number + 1)
        occurred = id_ * 3 % 1500
        wait = rng.choice([0, 0, 1, 55, 200])
        jitter = rng.choice([0, 0.5, 2])
        received = occurred + wait + jitter
        fields = event(
            f"e{id_}",
            occurred,
            received,
            rng.choice([None, occurred + wait]),
            platform=rng.choice([None, "web", "ios"]),
            is_bot=rng.random() < 0.1,
            anonymous_id=None if rng.random() < 0.05 else f"a{id_ % 7}",
        )
        value = rng.choice([b"", b"garbage", b"\xff", None]) if rng.random() < 0.05 else encoded(fields)
        drawn.append((rng.randrange(partitions), at(received + rng.choice([0, 0, 0.1, 5])), value))
    return numbered(drawn)
