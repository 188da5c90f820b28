"""The way from a device to Kafka, with everything that goes wrong on it, and the truth about what arrived.

Three rules keep the truth countable:

- The network takes no time on an event's first way: `received_at` is the true time of sending, so that the
  event time derived from the first arrival is the true time, to the microsecond. Repeats take some
  milliseconds more, so the event times derived from them are off by as much.
- Garbage is always an *additional* record; the event that it was made from arrives unharmed.
- A record's timestamp is its `received_at`, cut to the millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Literal, NamedTuple, Self
from zlib import crc32

import msgspec
from msgspec.structs import replace

from local_stack.simulator.world import DAY, HOUR, MINUTE, PASSIVE, SECOND, TrueEvent, World, rfc3339
from resources.envelope import REQUIRED, TIMESTAMPS, WireEvent

Kind = Literal[
    "first",
    "duplicate",
    "too_late",
    "tombstone",
    "empty",
    "malformed_json",
    "truncated",
    "bad_utf8",
    "not_an_object",
    "missing_field",
    "missing_id",
    "wrong_type",
    "bad_timestamp",
    "from_the_future",
]
"""What a delivery is. The first three carry a true event; `too_late`: beyond the allowed lateness."""

UNDECODABLE: tuple[Kind, ...] = (
    "tombstone",
    "empty",
    "malformed_json",
    "truncated",
    "bad_utf8",
    "not_an_object",
)
"""Garbage that is no JSON object at all."""

BREAKS_CONTRACT: tuple[Kind, ...] = (
    "missing_field",
    "missing_id",
    "wrong_type",
    "bad_timestamp",
    "from_the_future",
)
"""Garbage that is a JSON object, but no valid event."""

GARBAGE = UNDECODABLE + BREAKS_CONTRACT

ALLOWED_LATENESS = timedelta(days=7)
"""The same as the default of the setting `allowed_lateness`."""

_PHONES = frozenset({"ios", "android"})
_UNKNOWN_FIELDS = b',"sdk":{"name":"shop-js","build":77},"flags":["dark_mode",null]}'
_WRONG_TYPES = (
    ("event_name", 42),
    ("session_seq", "xx"),
    ("utc_offset_minutes", 1.7),
    ("is_bot", "yes"),
    ("consent", "all"),
    ("client_occurred_at", 1_700_000_000),
)
_SKEWS = (7 * MINUTE, 61 * MINUTE, 3 * DAY, 6 * 365 * DAY)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """How often what goes wrong. Rates and shares are between 0 and 1."""

    batching: timedelta = timedelta(seconds=3)
    """Longest time that a device collects events before it sends them: a slight disorder."""
    duplicate_rate: float = 0.01
    """Share of events that are sent again, once or twice, within a minute."""
    late_duplicate_share: float = 0.2
    """Share of the repeats that come 1 to 48 hours later instead."""
    offline_rate: float = 0.02
    """Share of phone sessions whose events are all sent when the phone is online again: 1 hour to 4 days."""
    too_late_share: float = 0.1
    """Share of those that take 7.5 to 20 days, beyond the allowed lateness."""
    skewed_clock_rate: float = 0.03
    """Share of devices whose clock is wrong by a constant: minutes, days, or years."""
    unknown_field_rate: float = 0.01
    """Share of deliveries with fields that the envelope does not name; they are no error."""
    garbage_rate: float = 0.004
    """Additional garbage records per true event, of all kinds alike."""

    @classmethod
    def none(cls) -> Self:
        """Every event arrives once, unharmed, when it happens."""
        zero = {field.name: 0.0 for field in fields(cls) if field.name != "batching"}
        return cls(batching=timedelta(0), **zero)


class Delivery(msgspec.Struct, gc=False, frozen=True):
    """One Kafka record. `event` is the true event that it carries, or that garbage was made from."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    kind: Kind
    event: TrueEvent


class TruthRow(msgspec.Struct, gc=False, frozen=True):
    """What is true of one event that arrived at least once; unique by `source` and `event_id`.

    `occurred_at`, `client_occurred_at` are in microseconds, `first_arrival_ms` (the record time of the
    first delivery) in milliseconds since 1970 UTC. Silver has a row for it, unless `is_too_late`.
    """

    person_id: str
    event_id: str
    source: str
    event_name: str
    anonymous_id: str | None
    user_id: str | None
    occurred_at: int
    client_occurred_at: int
    first_arrival_ms: int
    is_bot: bool
    is_test: bool
    is_passive: bool
    is_too_late: bool
    deliveries: int
    order_id: str | None
    amount: str | None
    currency: str | None
    experiment: str | None
    variant: str | None


class Transmission(NamedTuple):
    """A planned way of one record to Kafka; tuples compare by arrival, then by number, which is unique."""

    arrives_at: int
    number: int
    role: Literal["first", "repeat", "garbage"]
    event: TrueEvent
    skew: int
    """Microseconds that the device's clock is ahead."""
    latency: int
    """Microseconds from the sending to the arrival."""


class Channel:
    """Plans how events travel and renders them as records; its draws follow from the seed and their order."""

    def __init__(self, corruption: Corruption, seed: int, allowed_lateness: timedelta = ALLOWED_LATENESS) -> None:
        self.corruption = corruption
        self._seed = seed % 2**32
        self._rng = Random(f"{seed}/channel")
        self._allowed_lateness_us = allowed_lateness // timedelta(microseconds=1)
        self._batching_us = corruption.batching // timedelta(microseconds=1)
        self._online_at: dict[str, int] = {}
        self._numbers = count()

    def plan(self, event: TrueEvent) -> list[Transmission]:
        """The transmissions of one event, its first arrival first."""
        rng, corruption = self._rng, self.corruption
        skew = self._skew(event)
        sent_at = self._sent_at(event)
        plan = [Transmission(sent_at, next(self._numbers), "first", event, skew, 0)]
        if rng.random() < corruption.duplicate_rate:
            for _ in range(rng.choice((1, 1, 1, 2))):
                late = rng.random() < corruption.late_duplicate_share
                wait = rng.randrange(HOUR, 48 * HOUR) if late else rng.randrange(SECOND, MINUTE)
                latency = rng.randrange(2_000, 900_000)
                arrives_at = sent_at + wait + latency
                plan.append(Transmission(arrives_at, next(self._numbers), "repeat", event, skew, latency))
        if rng.random() < corruption.garbage_rate:
            arrives_at = sent_at + rng.randrange(SECOND)
            plan.append(Transmission(arrives_at, next(self._numbers), "garbage", event, skew, 0))
        return plan

    def offline_for(self, event: TrueEvent) -> int:
        """Microseconds that a phone is offline from this event on, where it starts a session; mostly 0."""
        rng, corruption = self._rng, self.corruption
        starts_session = event.wire.session_seq == 1 and event.wire.source in _PHONES
        if not starts_session or rng.random() >= corruption.offline_rate:
            return 0
        if rng.random() < corruption.too_late_share:
            return rng.randrange(15 * DAY // 2, 20 * DAY)
        return rng.randrange(HOUR, 4 * DAY)

    def deliver(self, transmission: Transmission) -> Delivery:
        """The record of a transmission."""
        rng, event = self._rng, transmission.event
        wire = _stamped(transmission)
        key = (wire.anonymous_id or wire.user_id or "").encode()
        timestamp_ms = transmission.arrives_at // 1000
        if transmission.role == "garbage":
            garbage = rng.choice(GARBAGE)
            value = _garbage(garbage, wire, transmission.arrives_at, rng)
            return Delivery(None if garbage == "empty" else key, value, timestamp_ms, garbage, event)
        value = _encode(wire)
        if rng.random() < self.corruption.unknown_field_rate:
            value = value[:-1] + _UNKNOWN_FIELDS
        kind: Kind = "first" if transmission.role == "first" else "duplicate"
        if self.is_too_late(transmission):
            kind = "too_late"
        return Delivery(key, value, timestamp_ms, kind, event)

    def is_too_late(self, transmission: Transmission) -> bool:
        """Whether record time minus event time, both as the platform sees them, is beyond the allowed."""
        clocked = transmission.event.wire.client_sent_at is not None
        event_time = transmission.event.occurred_at + (transmission.latency if clocked else 0)
        return transmission.arrives_at // 1000 * 1000 - event_time > self._allowed_lateness_us

    def _sent_at(self, event: TrueEvent) -> int:
        """When it is first sent. The backend sends at once, a device in batches, an offline phone later."""
        if event.wire.client_sent_at is None:
            return event.occurred_at
        batched = event.occurred_at + (self._rng.randrange(self._batching_us) if self._batching_us else 0)
        offline_for = self.offline_for(event)
        session_id = event.wire.session_id
        if session_id is None:
            return batched
        if offline_for:
            self._online_at[session_id] = event.occurred_at + offline_for
        online_at = self._online_at.get(session_id)
        if online_at is None or online_at <= batched:
            return batched
        return online_at + self._rng.randrange(SECOND)

    def _skew(self, event: TrueEvent) -> int:
        """Constant per device: drawn from its id, because a table of live traffic's devices has no bound."""
        device = event.wire.anonymous_id
        if event.wire.client_sent_at is None or device is None:
            return 0
        checksum = crc32(device.encode(), self._seed)
        if checksum >= self.corruption.skewed_clock_rate * 2**32:
            return 0
        rng = Random(checksum)
        return rng.choice((-1, 1)) * rng.choice(_SKEWS) + rng.randrange(MINUTE)


def history(
    world: World,
    corruption: Corruption | None = None,
    *,
    allowed_lateness: timedelta = ALLOWED_LATENESS,
    on_truth: Callable[[TruthRow], None] | None = None,
) -> Iterator[Delivery]:
    """All records of a world that arrive before its end, in order of their record time.

    What would arrive later (a phone still offline at the end) is no record, and has no row of truth.

    Args:
        world: Whose events; they follow from it alone, whatever the corruption.
        corruption: What goes wrong; None for the default rates.
        allowed_lateness: Decides what is marked as too late.
        on_truth: Is called with the row of each event, at its true time: before its delivery is yielded.
    """
    channel = Channel(corruption or Corruption(), world.seed, allowed_lateness)
    end = world.end_us
    under_way: list[Transmission] = []
    for event in world.events():
        # Nothing arrives before it happens: what arrives up to now is complete.
        while under_way and under_way[0].arrives_at < event.occurred_at:
            yield channel.deliver(heappop(under_way))
        arriving = [transmission for transmission in channel.plan(event) if transmission.arrives_at < end]
        for transmission in arriving:
            heappush(under_way, transmission)
        if on_truth is not None and arriving and arriving[0].role == "first":
            on_truth(_truth(arriving, is_too_late=channel.is_too_late(arriving[0])))
    while under_way:
        yield channel.deliver(heappop(under_way))


def _truth(arriving: list[Transmission], *, is_too_late: bool) -> TruthRow:
    first = arriving[0]
    event, wire, order = first.event, first.event.wire, first.event.order
    experiment, variant = event.exposure or (None, None)
    is_bot, is_test = bool(wire.is_bot), bool(wire.is_test)
    return TruthRow(
        person_id=event.person_id,
        event_id=wire.event_id,
        source=wire.source,
        event_name=wire.event_name,
        anonymous_id=wire.anonymous_id,
        user_id=wire.user_id,
        occurred_at=event.occurred_at,
        client_occurred_at=event.occurred_at + first.skew,
        first_arrival_ms=first.arrives_at // 1000,
        is_bot=is_bot,
        is_test=is_test,
        is_passive=wire.event_name in PASSIVE,
        is_too_late=is_too_late,
        deliveries=sum(transmission.role != "garbage" for transmission in arriving),
        order_id=order.order_id if order else None,
        amount=order.amount if order else None,
        currency=order.currency if order else None,
        experiment=experiment,
        variant=variant,
    )


def _stamped(transmission: Transmission) -> WireEvent:
    """The event with the times of this transmission, as the device's clock and the server's show them."""
    wire, skew = transmission.event.wire, transmission.skew
    occurred_at = rfc3339(transmission.event.occurred_at + skew)
    received_at = rfc3339(transmission.arrives_at)
    if wire.client_sent_at is None:
        return replace(wire, client_occurred_at=occurred_at, received_at=received_at)
    ahead = skew - transmission.latency
    sent_at = rfc3339(transmission.arrives_at + ahead) if ahead else received_at
    return replace(wire, client_occurred_at=occurred_at, client_sent_at=sent_at, received_at=received_at)


def _garbage(kind: Kind, wire: WireEvent, arrives_at: int, rng: Random) -> bytes | None:
    value = _encode(wire)
    match kind:
        case "tombstone":
            return None
        case "empty":
            return b""
        case "malformed_json":
            return value.replace(b'":', b'"=', 1)
        case "truncated":
            return value[: rng.randrange(1, len(value) - 1)]
        case "bad_utf8":
            return value.replace(b'"event_name":"', b'"event_name":"\xff\xfe', 1)
        case "not_an_object":
            return rng.choice((b"[1,2,3]", b'"ping"', b"null", b"42"))
    fields_of: dict[str, object] = _decode(value)
    match kind:
        case "missing_field":
            del fields_of[rng.choice(REQUIRED)]
        case "missing_id":
            fields_of["anonymous_id"] = fields_of["user_id"] = None
        case "wrong_type":
            name, wrong = rng.choice(_WRONG_TYPES)
            fields_of[name] = wrong
        case "bad_timestamp":
            fields_of[rng.choice(TIMESTAMPS)] = rng.choice(("yesterday", "2026-02-30T00:00:00Z", ""))
        case "from_the_future":
            # Without a sending time, the device's word is the event time: more than 10 minutes ahead.
            fields_of["client_sent_at"] = None
            fields_of["client_occurred_at"] = rfc3339(arrives_at + rng.randrange(HOUR, 30 * DAY))
        case _:
            msg = f"{kind!r} is no kind of garbage"
            raise ValueError(msg)
    return _encode(fields_of)
