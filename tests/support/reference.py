"""What the stream should come to, written down a second time: loops and dictionaries over semantics 1 and 2.

Nothing of `platform_assets` or `resources` is imported here on purpose; it is slow, and sees all records at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from support.records import Record

REQUIRED = ("event_id", "source", "event_name", "schema_ref", "client_occurred_at", "received_at")
TEXTS = (
    *("event_id", "source", "event_name", "schema_ref", "client_occurred_at", "received_at", "client_sent_at"),
    *("anonymous_id", "user_id", "session_id", "app_version", "platform", "device_type", "os", "country", "locale"),
    *("page_url", "referrer", "utm_source", "utm_medium", "utm_campaign"),
)
INTEGERS = {"utc_offset_minutes": 15, "session_seq": 63}
FLAGS = ("is_bot", "is_test")
TIMES = ("client_occurred_at", "client_sent_at", "received_at")
CLOCK_NOISE = timedelta(minutes=10)
HOUR = timedelta(hours=1)

Row = dict[str, Any]
Coordinates = tuple[str, int, int, int]


@dataclass
class Expected:
    """The tables of the stream, as plain values.

    Attributes:
        silver: Rows of `silver/events` by coordinates, all columns but ``key_hash``.
        quarantined: Reasons, sorted, and event time, by coordinates.
        dead_lettered: The kind of the reason by coordinates.
        late: Event time of the valid records that arrived neither in their event's hour nor in the next.
        outcomes: Records by (topic, epoch, partition, ingestion hour, event hour, outcome).
        live: Events by (minute, event name, platform).
    """

    silver: dict[Coordinates, Row] = field(default_factory=dict)
    quarantined: dict[Coordinates, tuple[list[str], datetime | None]] = field(default_factory=dict)
    dead_lettered: dict[Coordinates, str] = field(default_factory=dict)
    late: dict[Coordinates, datetime] = field(default_factory=dict)
    outcomes: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    live: Counter[tuple[Any, ...]] = field(default_factory=Counter)


def expected(records: Iterable[Record], allowed_lateness: timedelta, admitted: Container[Coordinates] = ()) -> Expected:
    """What a set of records comes to, in whatever order they are read; those admitted may be however late."""
    result = Expected()
    first: dict[tuple[Any, ...], Coordinates] = {}

    def count(record: Record, outcome: str, occurred: datetime | None) -> None:
        event_hour = None if occurred is None else _hour(occurred)
        key = (record.topic, record.epoch, record.partition, _hour(record.ingested_at), event_hour, outcome)
        result.outcomes[key] += 1

    for record in sorted(records, key=lambda r: (r.ingested_at, *r.coordinates)):
        where = record.coordinates
        whole = _decoded(record.value)
        if isinstance(whole, str):
            result.dead_lettered[where] = whole
            count(record, "dead_lettered", None)
            continue
        reasons, row = _judged(whole, record, timedelta.max if where in admitted else allowed_lateness)
        occurred = row.get("occurred_at")
        if reasons:
            result.quarantined[where] = (sorted(reasons), occurred)
            count(record, "quarantined", occurred)
            continue
        assert occurred is not None
        if not timedelta(0) <= _hour(record.ingested_at) - _hour(occurred) <= HOUR:
            result.late[where] = occurred
        key = (row["source"], row["event_id"], row["client_occurred_at"])
        if key in first:
            count(record, "duplicate", occurred)
            continue
        first[key] = where
        result.silver[where] = row
        count(record, "silver", occurred)
        if not row["is_bot"] and not row["is_test"]:
            minute = occurred.replace(second=0, microsecond=0)
            result.live[minute, row["event_name"], row["platform"]] += 1
    return result


def _decoded(value: bytes | None) -> dict[str, Any] | str:
    """The JSON object, or why there is none."""
    if value is None:
        return "tombstone"
    if not value:
        return "empty"
    try:
        whole = json.loads(value.decode())
    except UnicodeDecodeError:
        return "not_utf8"
    except ValueError:
        return "not_json"
    return whole if isinstance(whole, dict) else "not_an_object"


def _judged(whole: dict[str, Any], record: Record, allowed_lateness: timedelta) -> tuple[list[str], Row]:
    reasons = [f"missing:{name}" for name in REQUIRED if whole.get(name) is None]
    for name, value in whole.items():
        if value is not None and not _fits(name, value):
            reasons.append(f"wrong_type:{name}")
    if reasons:
        return reasons, {}
    instants = {name: _instant(whole.get(name)) for name in TIMES}
    for name in TIMES:
        if whole.get(name) is not None and instants[name] is None:
            reasons.append(f"not_a_timestamp:{name}")
    for name in ("event_id", "source", "event_name", "schema_ref"):
        if whole[name] == "":
            reasons.append(f"empty:{name}")
    if not whole.get("anonymous_id") and not whole.get("user_id"):
        reasons.append("no_actor")
    received, occurred = instants["received_at"], _event_time(instants)
    if occurred is not None and received is not None and occurred > received + CLOCK_NOISE:
        reasons.append("from_the_future")
    if received is not None and received > record.ingested_at + CLOCK_NOISE:
        reasons.append("received_in_the_future")
    if occurred is not None and record.ingested_at - occurred > allowed_lateness:
        reasons.append("too_late")
    if reasons or occurred is None:
        return reasons, {"occurred_at": occurred}
    row: Row = {name: whole.get(name) for name in (*TEXTS, *INTEGERS, "consent")}
    row |= {name: bool(whole.get(name)) for name in FLAGS}
    row |= instants
    row["properties"] = json.dumps(whole.get("properties") or {})
    row |= dict(zip(("topic", "epoch", "partition", "offset"), record.coordinates, strict=True))
    clock = instants["client_occurred_at"]
    assert clock is not None
    row |= {
        "ingested_at": record.ingested_at,
        "occurred_at": occurred,
        "is_straggler": abs(record.ingested_at - occurred) > HOUR or abs(clock - occurred) > HOUR,
        "event_date": occurred.date(),
    }
    return [], row


def _event_time(instants: dict[str, datetime | None]) -> datetime | None:
    occurred, sent, received = (instants[f"{n}_at"] for n in ("client_occurred", "client_sent", "received"))
    if occurred is None or received is None:
        # Without the arrival nothing is derived, unless nothing need be.
        return occurred if sent is None else None
    derived = occurred if sent is None else received - (sent - occurred)
    return received if received < derived <= received + CLOCK_NOISE else derived


def _fits(name: str, value: object) -> bool:
    if name in TEXTS:
        return isinstance(value, str)
    if name in INTEGERS:
        bits = INTEGERS[name]
        return isinstance(value, int) and not isinstance(value, bool) and -(2**bits) <= value < 2**bits
    if name in FLAGS:
        return isinstance(value, bool)
    if name == "consent":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return name != "properties" or isinstance(value, dict)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found.astimezone(UTC)


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
