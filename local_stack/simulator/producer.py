"""Writes deliveries to Kafka: a history at full speed, or live traffic on the wall clock."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

import msgspec
from msgspec.structs import replace

from local_stack.simulator.corrupt import Channel, Corruption, Delivery, Transmission
from local_stack.simulator.formats import Formats
from local_stack.simulator.world import HOUR, SECOND, Order, TrueEvent, World
from local_stack.sink import Sink

_TICK_SECONDS = 0.02
# For a tape of some thousand events, of persons that can be made in about a second.
_TAPE_PERSONS = 30_000

_encode = msgspec.json.Encoder().encode


@dataclass
class Produced:
    """What was produced so far."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Records by `Delivery.kind`."""
    seconds: float = 0.0
    """Wall time."""
    behind_seconds: float = 0.0
    """Live only: how far the schedule was behind the wall clock, when the latest event was handed over."""

    @property
    def records(self) -> int:
        """Records of all kinds."""
        return self.kinds.total()


def produce_history(
    config: Mapping[str, str],
    topic: str,
    deliveries: Iterable[Delivery],
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Produced, Delivery], None] | None = None,
) -> Produced:
    """Write deliveries as fast as Kafka takes them.

    Args:
        config: librdkafka configuration.
        topic: The topic; it must be there.
        deliveries: In order of their record time (`history`).
        stop: Ends early, with everything written so far flushed, once it is set.
        on_progress: Is called every few thousand records with what was produced and the latest record.

    Raises:
        DeliveryFailed: Kafka did not take all records.
    """
    produced, started = Produced(), time.monotonic()
    with Sink(config, topic) as sink:
        for delivery in deliveries:
            sink.send(delivery)
            produced.kinds[delivery.kind] += 1
            if sink.sent % 5_000 == 0:
                produced.seconds = time.monotonic() - started
                if on_progress is not None:
                    on_progress(produced, delivery)
                if stop is not None and stop.is_set():
                    break
    produced.seconds = time.monotonic() - started
    return produced


def live(
    config: Mapping[str, str],
    topic: str,
    rate: float,
    seconds: float | None = None,
    *,
    seed: int = 1,
    corruption: Corruption | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Produced], None] | None = None,
    formats: Formats | None = None,
) -> Produced:
    """Produce `rate` true events per second on the wall clock, evenly.

    The load is open: events happen on schedule, whether or not Kafka keeps up, and each is stamped when it is
    handed to the producer. So `client_sent_at`, `received_at` and the record's timestamp are the true time of
    sending, and `received_at` of a record subtracted from the time a reader sees it is a true latency.

    Args:
        config: librdkafka configuration.
        topic: The topic; it must be there.
        rate: True events per second; repeats and garbage come on top.
        seconds: How long; None for until `stop`.
        seed: Of the persons; event ids differ from run to run.
        corruption: What goes wrong; None for the default rates. Phones that were offline before the run come
            back during it, with old events. Repeats and garbage due after the run's end never come.
        stop: Ends early, with everything written so far flushed, once it is set.
        on_progress: Is called about once a second.
        formats: Puts some of the events into other formats than JSON, and on other topics.

    Raises:
        DeliveryFailed: Kafka did not take all records.
        ValueError: `rate` is not above 0.
    """
    if rate <= 0:
        msg = f"rate is {rate:g} events per second; it must be above 0"
        raise ValueError(msg)
    corruption = corruption or Corruption()
    stop = stop or threading.Event()
    tape = Tape(rate, seed, corruption)
    channel = Channel(dataclasses.replace(corruption, offline_rate=0.0), seed)  # the tape has them
    under_way: list[Transmission] = []
    produced, done, reported = Produced(), 0, 0.0
    with ExitStack() as stack:
        sinks: dict[str, Sink] = {}

        def send(transmission: Transmission) -> None:
            delivery = channel.deliver(transmission._replace(arrives_at=_now()))
            where, record = (topic, delivery) if formats is None else formats.route(delivery)
            if where not in sinks:
                sinks[where] = stack.enter_context(Sink(config, where))
            sinks[where].send(record)
            produced.kinds[delivery.kind] += 1

        started, started_at = time.monotonic(), _now()
        while not stop.is_set():
            produced.seconds = time.monotonic() - started
            if seconds is not None and produced.seconds >= seconds:
                break
            due = int(produced.seconds * rate)
            for number in range(done, due):
                event = tape.event(number, started_at + int(number / rate * SECOND))
                for transmission in channel.plan(event):
                    heappush(under_way, transmission)
            done = due
            while under_way and under_way[0].arrives_at <= _now():
                send(heappop(under_way))
            produced.behind_seconds = time.monotonic() - started - done / rate
            if on_progress is not None and produced.seconds - reported >= 1:
                reported = produced.seconds
                on_progress(produced)
            stop.wait(_TICK_SECONDS)
        # Devices send what they still collect; what was to be repeated later is left out.
        for transmission in sorted(under_way):
            if transmission.role == "first":
                send(transmission)
    produced.seconds = time.monotonic() - started
    return produced


class Tape:
    """An hour of a world, played over and over by as many copies of its persons as the rate needs.

    One copy plays the tape from its beginning to its end in about an hour, then again; so sessions keep their
    natural pace whatever the rate. The copies start evenly staggered. With `c` copies, the whole tape is
    therefore played once per `1/c` of an hour, by all copies together, each another `1/c` of it: such a
    *lap* is the tape in the order of each event's offset modulo that time, at an even pace.

    Args:
        rate: True events per second.
        seed: Of the world.
        corruption: Says how many phones come online with the old events of a session.
        persons: Of each copy; 1,000 are enough that something happens in any hour.
    """

    def __init__(self, rate: float, seed: int, corruption: Corruption, persons: int = _TAPE_PERSONS) -> None:
        start = datetime.now(UTC) - timedelta(hours=2)
        # The first of two hours fills the world with sessions under way. A handful of persons join.
        world = World(seed, persons, start, days=2 / 24, existing=0.995)
        begin = world.start_us + HOUR
        hour = [event for event in world.events() if event.occurred_at >= begin]
        self.copies = max(1, round(rate * 3_600 / len(hour)))
        lap = HOUR / self.copies
        channel = Channel(corruption, seed)
        offline_for: dict[str | None, int] = {}
        scenes: list[tuple[float, int, int, int, TrueEvent]] = []
        for number, event in enumerate(hour):
            late = offline_for.setdefault(event.wire.session_id, channel.offline_for(event))
            segment, offset = divmod(event.occurred_at - begin, lap)
            scenes.append((offset, number, int(segment), late, event))
        scenes.sort()  # by offset; numbers are unique, so events are never compared
        self._scenes = [(segment, late, event) for _, _, segment, late, event in scenes]

    def event(self, number: int, at: int) -> TrueEvent:
        """The event of this number (from 0), as if it happened at `at`, or before in an offline session.

        Ids of events, sessions and orders are unique for each playing; those of persons for each copy. The
        times in its `wire` are still the tape's: a channel stamps its own.
        """
        lap, position = divmod(number, len(self._scenes))
        segment, offline_for, scene = self._scenes[position]
        playing = lap - segment + self.copies
        copy = playing % self.copies
        # Copy 0 has the persons of every world of this seed.
        person = f".{copy}" if copy else ""
        wire, order = scene.wire, scene.order
        properties = wire.properties
        if order is not None:
            order = Order(f"{order.order_id}.{playing}", order.amount, order.currency)
            properties = msgspec.Raw(_encode(order))
        wire = replace(
            wire,
            event_id=f"{wire.event_id}.{playing}",
            anonymous_id=wire.anonymous_id and wire.anonymous_id + person,
            user_id=wire.user_id and wire.user_id + person,
            session_id=wire.session_id and f"{wire.session_id}.{playing}",
            properties=properties,
        )
        return TrueEvent(scene.person_id + person, at - offline_for, wire, order, scene.exposure)


def _now() -> int:
    return time.time_ns() // 1_000
