"""True events: what persons really did, and when.

A pure function of the world's parameters. How events reach Kafka, and what goes wrong on the way, belongs in
`corrupt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from heapq import heappop, heappush
from itertools import accumulate
from random import Random

import msgspec

from local_stack.simulator.population import (
    CAMPAIGNS,
    CHECKOUT,
    EXPERIMENTS,
    HOME,
    REFERRERS,
    Device,
    Experiment,
    Person,
    Product,
    population,
    products,
)
from resources.envelope import WireEvent

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PASSIVE = frozenset({"push_received"})
"""Events that happen *to* a person; the same as the default of the setting `passive_events`."""

# Sessions by local hour and by weekday (Monday first), relative.
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 8, 10, 9, 8, 8, 8, 9, 11, 13, 14, 13, 9, 5)
_HOURS_CUMULATED = tuple(accumulate(_HOURS))
_WEEK = (1.0, 1.0, 1.02, 1.05, 1.15, 0.85, 0.8)

_encode = msgspec.json.Encoder().encode


class Order(msgspec.Struct, gc=False, frozen=True):
    """A planned conversion, or its refund with a negative amount. `amount` is a decimal string."""

    order_id: str
    amount: str
    currency: str


class TrueEvent(msgspec.Struct, gc=False, frozen=True):
    """What happened. `wire` is how it would look, sent and received in the same microsecond.

    An event of the backend has no `client_sent_at`: it is stamped by a clock that is right.
    """

    person_id: str
    occurred_at: int
    wire: WireEvent
    order: Order | None = None
    exposure: tuple[str, str] | None = None
    """(experiment, variant) of an `experiment_exposed`."""


@dataclass(frozen=True)
class World:
    """A shop with its persons over some days.

    Args:
        seed: Persons, products and ids of devices and accounts follow from it alone.
        persons: Their number, bots and testers included; a person makes about 2 events a day.
        start: First instant, with a time zone.
        days: Length.
        existing: Share of persons that were there before `start`; the others join over the world's days.
        bots: Share of persons that are bots.
        tests: Share of persons that are testers.
    """

    seed: int
    persons: int
    start: datetime
    days: float
    existing: float = 0.5
    bots: float = 0.004
    tests: float = 0.004

    @property
    def start_us(self) -> int:
        """`start` in microseconds since 1970 UTC."""
        return (self.start - _EPOCH) // timedelta(microseconds=1)

    @property
    def end_us(self) -> int:
        """The end, exclusive, in microseconds since 1970 UTC."""
        return self.start_us + round(self.days * DAY)

    @cached_property
    def population(self) -> list[Person]:
        """The persons, in the order of their numbers."""
        return population(self.seed, self.persons, existing=self.existing, bots=self.bots, tests=self.tests)

    @cached_property
    def products(self) -> list[Product]:
        """The catalogue."""
        return products(self.seed)

    def events(self) -> Iterator[TrueEvent]:
        """All events of `[start, end)` in order of their true time, produced as they are asked for.

        Two calls give the same events. Memory holds one day's session starts and the sessions under way.
        """
        # Ids of events hold the start too: two runs of one seed at different dates are different events.
        run = _Run(self, Random(f"{self.seed}/{self.start_us}"))
        waiting: list[tuple[int, int, TrueEvent]] = []
        number, end = 0, self.end_us
        for at, person, is_push in self._visits(run.rng):
            while waiting and waiting[0][0] <= at:
                yield heappop(waiting)[2]
            for event in run.push(person, at) if is_push else run.session(person, at):
                number += 1  # keeps a person's order where two events share a microsecond
                heappush(waiting, (event.occurred_at, number, event))
        while waiting and waiting[0][0] < end:
            yield heappop(waiting)[2]

    def _visits(self, rng: Random) -> Iterator[tuple[int, Person, bool]]:
        """(start of a session or time of a push, person, whether it is a push) in order of time."""
        start, end = self.start_us, self.end_us
        span = end - start
        lives = [
            (person, start + round(person.joins * span), start + round(person.churns * span))
            for person in self.population
        ]
        for midnight in range(start - start % DAY, end, DAY):
            factor = _WEEK[(midnight // DAY + 3) % 7]  # 1970-01-01 was a Thursday
            visits: list[tuple[int, int, bool]] = []
            for number, (person, joined, churned) in enumerate(lives):
                if joined >= midnight + DAY or churned <= midnight:
                    continue
                first, last = max(joined, start), min(churned, end)
                if person.joins >= 0 and midnight <= joined:  # who joins, joins by coming
                    visits.append((joined, number, False))
                for _ in range(_poisson(rng, person.sessions_per_day * factor)):
                    at = midnight + _local_time_of_day(rng, person)
                    if first <= at < last:
                        visits.append((at, number, False))
                if person.devices[0].is_phone and rng.random() < 0.2:
                    at = midnight + _local_time_of_day(rng, person)
                    if first <= at < last:
                        visits.append((at, number, True))
            visits.sort()
            for at, number, is_push in visits:
                yield at, self.population[number], is_push


class _Run:
    """What changes while the world runs: who has an account, and who is logged in on which device."""

    def __init__(self, world: World, rng: Random) -> None:
        self.rng = rng
        self.products = world.products
        self.logged_in: dict[str, str] = {}
        self.busy_until: dict[str, int] = {}
        self.accounts: set[str] = set()
        for person in world.population:
            if person.opens_account and person.joins < 0:
                self.accounts.add(person.user_id)
                self.logged_in[person.devices[0].anonymous_id] = person.user_id

    def push(self, person: Person, at: int) -> list[TrueEvent]:
        """A push on the person's first phone."""
        device = person.devices[0]
        visit = _Visit(self.rng, person, device, at, self.logged_in.get(device.anonymous_id))
        visit.session_id = None
        visit.emit("push_received", properties=b'{"template":"back_in_stock"}')
        return visit.events

    def session(self, person: Person, at: int) -> list[TrueEvent]:
        """One session, its order and its refund; empty where the device is in someone's hands already."""
        rng = self.rng
        device = person.devices[0] if rng.random() < 0.7 else rng.choice(person.devices)
        if at < self.busy_until.get(device.anonymous_id, 0):
            return []
        user = self.logged_in.get(device.anonymous_id)
        if user is not None and (user != person.user_id or rng.random() < 0.03):
            # Someone else's login does not speak for this person; and now and then a login expires.
            del self.logged_in[device.anonymous_id]
            user = None
        visit = _Visit(rng, person, device, at, user)
        if person.kind == "bot":
            self._crawl(visit)
        else:
            self._shop(visit)
        self.busy_until[device.anonymous_id] = visit.at
        return visit.events

    def _crawl(self, visit: _Visit) -> None:
        for _ in range(self.rng.randrange(5, 40)):
            self._view_product(visit, self.rng.choice(self.products))
            visit.at += self.rng.randrange(200_000, 2 * SECOND)

    def _shop(self, visit: _Visit) -> None:
        rng = self.rng
        visit.land()
        if rng.random() < 0.4:
            visit.wait(5)
            visit.expose(HOME)
        self._maybe_log_in(visit, 0.3)
        cart: list[Product] = []
        for _ in range(int(rng.expovariate(0.25))):
            visit.wait(35)
            product = rng.choice(self.products)
            self._view_product(visit, product)
            if rng.random() < 0.2:
                visit.wait(15)
                cart.append(product)
                visit.emit("cart_item_added", "/cart", _encode({"product_id": product.product_id}))
        if cart and rng.random() < 0.6:
            self._check_out(visit, cart)

    def _view_product(self, visit: _Visit, product: Product) -> None:
        properties = _encode({"product_id": product.product_id, "category": product.category})
        visit.emit("product_viewed", f"/p/{product.product_id}", properties)

    def _maybe_log_in(self, visit: _Visit, chance: float) -> None:
        person = visit.person
        if visit.user_id is not None or not person.opens_account or self.rng.random() >= chance:
            return
        visit.wait(20)
        visit.user_id = person.user_id
        self.logged_in[visit.device.anonymous_id] = person.user_id
        known = person.user_id in self.accounts
        self.accounts.add(person.user_id)
        visit.emit("logged_in" if known else "signed_up", "/login")

    def _check_out(self, visit: _Visit, cart: list[Product]) -> None:
        rng = self.rng
        visit.wait(10)
        variant = visit.expose(CHECKOUT)
        visit.wait(2)
        visit.emit("checkout_started", "/checkout", _encode({"items": len(cart)}))
        self._maybe_log_in(visit, 0.6)
        lift = EXPERIMENTS[CHECKOUT].order_lift if variant == "treatment" else 0.0
        if rng.random() >= 0.6 * (1 + lift):
            return
        visit.wait(60)
        cents = sum(product.price_cents for product in cart)
        order_id = f"order-{rng.getrandbits(64):016x}"
        currency = visit.person.country.currency
        visit.emit_order("order_completed", visit.at, Order(order_id, _decimal(cents), currency))
        visit.wait(3)
        visit.emit("page_viewed", "/thank-you")
        if rng.random() < 0.04:
            later = visit.at + rng.randrange(DAY, 10 * DAY)
            visit.emit_order("order_refunded", later, Order(order_id, _decimal(-cents), currency))


class _Visit:
    """One person on one device from `at` on: collects the events of a session."""

    def __init__(self, rng: Random, person: Person, device: Device, at: int, user_id: str | None) -> None:
        self.rng = rng
        self.person = person
        self.device = device
        self.at = at
        self.user_id = user_id
        self.session_id: str | None = f"{rng.getrandbits(64):016x}"
        self.events: list[TrueEvent] = []
        self._seq = 0
        # The browsers' collector sets both marks always, the apps' only when they are true.
        unmarked = None if device.is_phone else False
        self._is_bot = True if person.kind == "bot" else unmarked
        self._is_test = True if person.kind == "test" else unmarked

    def wait(self, seconds: float) -> None:
        """Let some time pass: exponential around `seconds`, at least a tenth of one, at most 10 minutes."""
        self.at += min(10 * MINUTE, SECOND // 10 + int(self.rng.expovariate(1 / seconds) * SECOND))

    def land(self) -> None:
        """The first event; in a browser, a third of the visits come from a campaign."""
        if self.device.is_phone:
            self.emit("app_opened")
        elif self.rng.random() < 0.33:
            campaign = self.rng.choice(CAMPAIGNS)
            self.emit("page_viewed", "/", utm=(campaign.source, campaign.medium, campaign.name))
        else:
            self.emit("page_viewed", "/", referrer=self.rng.choice(REFERRERS))

    def expose(self, experiment: int) -> str:
        """Show the person their variant, and in one case of a hundred, by a fault, the other one."""
        name = EXPERIMENTS[experiment].name
        variant = self.person.variants[experiment]
        if self.rng.random() < 0.01:
            variant = next(other for other in Experiment.VARIANTS if other != variant)
        properties = _encode({"experiment": name, "variant": variant})
        self.emit("experiment_exposed", properties=properties, exposure=(name, variant))
        return variant

    def emit(
        self,
        name: str,
        path: str | None = None,
        properties: bytes = b"{}",
        *,
        utm: tuple[str | None, str | None, str | None] = (None, None, None),
        referrer: str | None = None,
        exposure: tuple[str, str] | None = None,
    ) -> None:
        """An event of the device, now."""
        device, country = self.device, self.person.country
        now = rfc3339(self.at)
        if self.session_id is not None:
            self._seq += 1
        wire = WireEvent(
            event_id=f"{self.rng.getrandbits(96):024x}",
            source=device.source,
            event_name=name,
            schema_ref=f"{name}/1",
            client_occurred_at=now,
            received_at=now,
            client_sent_at=now,
            utc_offset_minutes=country.utc_offset_minutes,
            anonymous_id=device.anonymous_id,
            user_id=self.user_id,
            session_id=self.session_id,
            session_seq=self._seq or None,
            app_version=device.app_version,
            platform=device.source,
            device_type=device.device_type,
            os=device.os,
            country=country.code,
            locale=country.locale,
            page_url=None if device.is_phone or path is None else f"https://shop.example{path}",
            referrer=referrer,
            utm_source=utm[0],
            utm_medium=utm[1],
            utm_campaign=utm[2],
            is_bot=self._is_bot,
            is_test=self._is_test,
            consent=_CONSENT,
            properties=msgspec.Raw(properties),
        )
        self.events.append(TrueEvent(self.person.person_id, self.at, wire, None, exposure))

    def emit_order(self, name: str, at: int, order: Order) -> None:
        """An event of the backend at `at`: of the account, or of the device where a guest buys."""
        when = rfc3339(at)
        wire = WireEvent(
            event_id=f"{self.rng.getrandbits(96):024x}",
            source="backend",
            event_name=name,
            schema_ref=f"{name}/2",
            client_occurred_at=when,
            received_at=when,
            anonymous_id=self.device.anonymous_id if self.user_id is None else None,
            user_id=self.user_id,
            country=self.person.country.code,
            is_test=self._is_test,
            properties=msgspec.Raw(_encode(order)),
        )
        self.events.append(TrueEvent(self.person.person_id, at, wire, order))


_CONSENT = ["analytics", "personalization"]


def rfc3339(at: int) -> str:
    """The wire's form of a time, in UTC, to the microsecond.

    >>> rfc3339(1_700_000_000_000_001)
    '2023-11-14T22:13:20.000001Z'
    """
    return f"{_to_the_second(at // SECOND)}.{at % SECOND:06d}Z"


# Formatting times was the greatest cost: live events share their second, those of a history their minute.
@lru_cache(maxsize=4096)
def _to_the_second(second: int) -> str:
    return f"{_to_the_minute(second // 60)}:{second % 60:02d}"


@lru_cache(maxsize=4096)
def _to_the_minute(minute: int) -> str:
    return (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M")


def _decimal(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _poisson(rng: Random, mean: float) -> int:
    """A Poisson draw by Knuth's product of uniforms; fit for small means."""
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def _local_time_of_day(rng: Random, person: Person) -> int:
    """Microseconds after midnight UTC of a moment drawn by the rhythm of the person's local day."""
    hour = rng.choices(range(24), cum_weights=_HOURS_CUMULATED)[0]
    local = hour * HOUR + rng.randrange(HOUR)
    return (local - person.country.utc_offset_minutes * MINUTE) % DAY
