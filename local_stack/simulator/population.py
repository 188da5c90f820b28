"""Who and what there is in the simulated world: persons, their devices, products, campaigns, experiments.

All of it is fixed before the first event and follows from the seed alone, so that two worlds with one seed
have the same persons, whatever their dates. What changes with time belongs in `world`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Kind = Literal["human", "bot", "test"]


@dataclass(frozen=True, slots=True)
class Device:
    """A phone or a browser. `anonymous_id` is what the platform sees of it."""

    anonymous_id: str
    source: Literal["web", "ios", "android"]
    device_type: str
    os: str
    app_version: str

    @property
    def is_phone(self) -> bool:
        """Whether it runs the app: it gets pushes, and can be offline for days."""
        return self.source != "web"


@dataclass(frozen=True, slots=True)
class Country:
    """Where a person lives; one zone and one currency per country, without daylight saving."""

    code: str
    locale: str
    currency: str
    utc_offset_minutes: int


@dataclass(frozen=True, slots=True)
class Product:
    """`price_cents` in hundredths of the buyer's currency."""

    product_id: str
    category: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """What the `utm_*` fields of a landing say."""

    source: str
    medium: str
    name: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """`order_lift`: the true relative change of the share of checkouts that order, by the treatment."""

    name: str
    order_lift: float

    VARIANTS = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class Person:
    """One true person.

    `joins` and `churns` place the person in the world's time: 0 is its start, 1 its end. Below 0 they were
    there before it; above 1 they are still there after it.
    """

    person_id: str
    user_id: str
    kind: Kind
    country: Country
    devices: tuple[Device, ...]
    sessions_per_day: float
    joins: float
    churns: float
    opens_account: bool
    variants: tuple[str, ...]


COUNTRIES = (
    Country("US", "en-US", "USD", -300),
    Country("DE", "de-DE", "EUR", 60),
    Country("GB", "en-GB", "GBP", 0),
    Country("IN", "en-IN", "INR", 330),
    Country("BR", "pt-BR", "BRL", -180),
)
COUNTRY_SHARES = (0.4, 0.2, 0.15, 0.15, 0.1)

CAMPAIGNS = (
    Campaign("google", "cpc", "brand"),
    Campaign("google", "cpc", "autumn_sale"),
    Campaign("newsletter", "email", "weekly"),
    Campaign("instagram", "social", "creators"),
)
REFERRERS = (None, None, "https://www.google.com/", "https://news.ycombinator.com/")

EXPERIMENTS = (Experiment("one_page_checkout", order_lift=0.15), Experiment("home_feed", order_lift=0.0))
CHECKOUT, HOME = range(2)

_CATEGORIES = ("shoes", "shirts", "bags", "toys", "books")


def products(seed: int, count: int = 60) -> list[Product]:
    """The catalogue, the same for one seed."""
    rng = Random(f"{seed}/products")
    return [Product(f"sku-{n:04d}", rng.choice(_CATEGORIES), rng.randrange(499, 19_999)) for n in range(count)]


def population(seed: int, count: int, *, existing: float, bots: float, tests: float) -> list[Person]:
    """`count` persons.

    Args:
        seed: Of the world.
        count: Number of persons, bots and testers included.
        existing: Share that is there before the world's start; the others join evenly over its time.
        bots: Share of bots.
        tests: Share of testers.
    """
    persons: list[Person] = []
    for number in range(count):
        rng = Random(f"{seed}/person/{number}")
        draw = rng.random()
        kind: Kind = "bot" if draw < bots else "test" if draw < bots + tests else "human"
        devices = _devices(rng, kind)
        if kind == "human" and persons and persons[-1].kind == "human" and rng.random() < 0.06:
            devices = (*devices, persons[-1].devices[0])  # a household's tablet: two persons, one id
        joins = -1.0 if rng.random() < existing else rng.random()
        stays = rng.random() < 0.4
        persons.append(
            Person(
                person_id=f"p-{number:06d}",
                user_id=f"user-{number:06d}",
                kind=kind,
                country=rng.choices(COUNTRIES, COUNTRY_SHARES)[0],
                devices=devices,
                # Few use it daily, most now and then; bots come all the time.
                sessions_per_day=8.0 if kind == "bot" else min(4.0, rng.lognormvariate(-1.3, 0.9)),
                joins=joins,
                churns=2.0 if stays else max(joins, 0.0) + rng.expovariate(2.0),
                opens_account=kind != "bot" and rng.random() < 0.6,
                variants=tuple(rng.choice(Experiment.VARIANTS) for _ in EXPERIMENTS),
            )
        )
    return persons


def _devices(rng: Random, kind: Kind) -> tuple[Device, ...]:
    count = 1 if kind == "bot" else rng.choices((1, 2, 3), (0.65, 0.28, 0.07))[0]
    return tuple(_device(rng, web_only=kind == "bot") for _ in range(count))


def _device(rng: Random, *, web_only: bool) -> Device:
    anonymous_id = f"{rng.getrandbits(64):016x}"
    draw = 0.0 if web_only else rng.random()
    if draw < 0.5:
        return Device(anonymous_id, "web", "desktop", rng.choice(("Windows", "macOS", "Linux")), "web-7")
    version = rng.choice(("5.1.0", "5.2.0", "5.2.1"))
    if draw < 0.75:
        return Device(anonymous_id, "ios", "phone", "iOS", version)
    return Device(anonymous_id, "android", "phone", "Android", version)
