"""The relational database of the simulated shop: its tables, its first rows, and what goes on in it.

`python -m local_stack.shop`, over the database that the setting `oltp_url` names. The rows are of the same world as the
events: an account's `user_id`, a device's `anonymous_id` and a product's `product_id` are those that events carry.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, LiteralString

import psycopg

from local_stack.simulator.population import EXPERIMENTS, Person, population, products
from resources.settings import Settings

PLANS = ("free", "plus", "pro")
_PLAN_SHARES = (0.8, 0.15, 0.05)
_ORDERS_A_DAY = 2_000
"""Before the database was opened, and since."""
_SHARE_OF_ORDERS = 0.5
"""Of what happens, by the weights in `Shop.happen`."""
_RATE = _ORDERS_A_DAY / 86_400 / _SHARE_OF_ORDERS
_OLDEST_ACCOUNT = timedelta(days=90)
"""How long before that past an account was opened, at most."""

SCHEMA: tuple[LiteralString, ...] = (
    """CREATE TABLE users (
        user_id text PRIMARY KEY, email text NOT NULL, plan text NOT NULL, country text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), last_order_at timestamptz)""",
    """CREATE TABLE devices (
        anonymous_id text PRIMARY KEY, device_type text NOT NULL, os text NOT NULL, app_version text NOT NULL)""",
    """CREATE TABLE products (
        product_id text PRIMARY KEY, category text NOT NULL, price numeric(12, 2) NOT NULL, currency text NOT NULL)""",
    """CREATE TABLE prices (
        product_id text REFERENCES products, valid_from timestamptz DEFAULT now(), price numeric(12, 2) NOT NULL,
        PRIMARY KEY (product_id, valid_from))""",
    """CREATE TABLE experiments (
        experiment text PRIMARY KEY, status text NOT NULL, started_at timestamptz, stopped_at timestamptz)""",
    """CREATE TABLE orders (
        order_id text PRIMARY KEY, user_id text, status text NOT NULL, amount numeric(12, 2) NOT NULL,
        currency text NOT NULL, ordered_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE TABLE carts (user_id text PRIMARY KEY, items int NOT NULL)",
)
"""The tables; `prices` and `carts` are no dimensions of the platform."""


class Shop:
    """A shop's database, changed by what its customers and its staff do.

    Args:
        connection: Of the database, in autocommit mode.
        seed: Of the world and of what happens; new ids are never those of another run.
        persons: Of the world.
    """

    def __init__(self, connection: psycopg.Connection[Any], seed: int = 1, persons: int = 10_000) -> None:
        self._connection = connection
        self._rng = Random(f"{seed}/shop")  # noqa: S311 - a simulation, no secrets
        self._population = population(seed, persons, existing=0.5, bots=0.004, tests=0.004)
        self._accounts = [person for person in self._population if person.opens_account]
        self._products = products(seed)

    def open(self, since: datetime | None = None) -> bool:
        """Make the tables and their first rows, in one transaction, where they are not there. Whether it did.

        Args:
            since: When the shop's past begins: rows tell that accounts are older, and that orders came since. None for
                a shop that is opened now. What plan an account had in that past no row tells.
        """
        if self._connection.execute("SELECT to_regclass('public.users')").fetchone() != (None,):
            return False
        with self._connection.transaction():
            for statement in SCHEMA:
                self._connection.execute(statement)
            now = datetime.now(UTC)
            self._fill(
                "COPY users (user_id, email, plan, country, created_at) FROM STDIN",
                ((*self._user(person), self._opened_at(since or now)) for person in self._accounts),
            )
            devices = {device.anonymous_id: device for person in self._population for device in person.devices}
            self._fill(
                "COPY devices FROM STDIN",
                ((d.anonymous_id, d.device_type, d.os, d.app_version) for d in devices.values()),
            )
            catalogue = [(p.product_id, p.category, p.price_cents / 100, "EUR") for p in self._products]
            self._fill("COPY products FROM STDIN", catalogue)
            self._fill("COPY prices (product_id, price) FROM STDIN", ((row[0], row[2]) for row in catalogue))
            self._fill("COPY experiments FROM STDIN", ((e.name, "running", now, None) for e in EXPERIMENTS))
            if since is not None:
                self._fill(
                    "COPY orders (order_id, user_id, status, amount, currency, ordered_at) FROM STDIN",
                    self._past_orders(since, now),
                )
        return True

    def happen(self) -> str:
        """Let one thing happen, in one transaction. Returns what."""
        happenings: tuple[tuple[Callable[[], None], float], ...] = (
            (self.order, 10),
            (self.change_plan, 4),
            (self.refund, 1),
            (self.update_app, 2),
            (self.move_house, 0.5),
            (self.change_price, 1),
            (self.sign_up, 1),
            (self.close_account, 0.2),
            (self.reset_device, 0.2),
            (self.empty_carts, 0.1),
        )
        chosen = self._rng.choices([act for act, _ in happenings], [weight for _, weight in happenings])[0]
        with self._connection.transaction():
            chosen()
        return chosen.__name__

    def order(self) -> None:
        """Somebody orders: a new row, and one changed in a column that makes no version."""
        user, order = self._anybody(), f"order-{uuid.uuid4().hex[:16]}"
        product = self._rng.choice(self._products)
        self._run(
            "INSERT INTO orders (order_id, user_id, status, amount, currency) VALUES (%s, %s, 'placed', %s, 'EUR')",
            order,
            user,
            product.price_cents / 100,
        )
        self._run("UPDATE users SET last_order_at = now() WHERE user_id = %s", user)
        self._run("INSERT INTO carts VALUES (%s, 1) ON CONFLICT (user_id) DO UPDATE SET items = carts.items + 1", user)

    def change_plan(self) -> None:
        """Somebody takes another plan."""
        self._run("UPDATE users SET plan = %s WHERE user_id = %s", self._plan(), self._anybody())

    def move_house(self) -> None:
        """Somebody moves to another country."""
        country = self._rng.choice(self._population).country.code
        self._run("UPDATE users SET country = %s WHERE user_id = %s", country, self._anybody())

    def refund(self) -> None:
        """The oldest order that was not refunded is."""
        self._run(
            "UPDATE orders SET status = 'refunded' WHERE order_id = "
            "(SELECT order_id FROM orders WHERE status <> 'refunded' ORDER BY ordered_at LIMIT 1)"
        )

    def update_app(self) -> None:
        """A phone gets another version of the app."""
        version = f"5.{self._rng.randrange(3, 9)}.0"
        self._run("UPDATE devices SET app_version = %s WHERE anonymous_id = %s", version, self._device())

    def change_price(self) -> None:
        """A product gets another price: two tables in one transaction."""
        product = self._rng.choice(self._products).product_id
        price = self._rng.randrange(499, 19_999) / 100
        self._run("UPDATE products SET price = %s WHERE product_id = %s", price, product)
        self._run("INSERT INTO prices (product_id, price) VALUES (%s, %s) ON CONFLICT DO NOTHING", product, price)

    def sign_up(self) -> None:
        """Somebody new opens an account."""
        user = f"user-new-{uuid.uuid4().hex[:12]}"
        self._run(
            "INSERT INTO users (user_id, email, plan, country) VALUES (%s, %s, 'free', 'DE')",
            user,
            f"{user}@shop.example",
        )

    def close_account(self) -> None:
        """Somebody leaves."""
        self._run("DELETE FROM users WHERE user_id = %s", self._anybody())

    def reset_device(self) -> None:
        """A device gets another id: its key changes."""
        fresh = uuid.uuid4().hex[:16]
        self._run("UPDATE devices SET anonymous_id = %s WHERE anonymous_id = %s", fresh, self._device())

    def empty_carts(self) -> None:
        """All carts are emptied: a truncation."""
        self._run("TRUNCATE carts")

    def _anybody(self) -> str:
        return self._rng.choice(self._accounts).user_id

    def _device(self) -> str:
        return self._rng.choice(self._population).devices[0].anonymous_id

    def _plan(self) -> str:
        return self._rng.choices(PLANS, _PLAN_SHARES)[0]

    def _user(self, person: Person) -> tuple[str, ...]:
        return (person.user_id, f"{person.user_id}@shop.example", self._plan(), person.country.code)

    def _opened_at(self, by: datetime) -> datetime:
        return by - self._rng.random() * _OLDEST_ACCOUNT

    def _past_orders(self, since: datetime, until: datetime) -> Iterable[Sequence[object]]:
        """Orders that were placed between two instants, evenly."""
        for _ in range(round((until - since) / timedelta(days=1) * _ORDERS_A_DAY)):
            product = self._rng.choice(self._products)
            ordered_at = since + self._rng.random() * (until - since)
            order = f"order-{uuid.uuid4().hex[:16]}"
            yield order, self._anybody(), "placed", product.price_cents / 100, "EUR", ordered_at

    def _run(self, query: LiteralString, *arguments: object) -> None:
        self._connection.execute(query, arguments or None)

    def _fill(self, copying: LiteralString, rows: Iterable[Sequence[object]]) -> None:
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            for row in rows:
                copy.write_row(row)


def main(arguments: list[str] | None = None) -> int:
    """Let things happen until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"transactions a second (default: {_RATE:.2g}, {_ORDERS_A_DAY:,} orders a day)"
    parser.add_argument("--rate", type=float, default=_RATE, help=told)
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    url = Settings().oltp_url
    if url is None:
        parser.error("set HEADWATER_OLTP_URL")
    with psycopg.connect(url.get_secret_value(), autocommit=True) as connection:
        shop = Shop(connection)
        shop.open()
        while not ended.wait(1 / options.rate):
            shop.happen()
    return 0


if __name__ == "__main__":
    sys.exit(main())
