"""A shop's orders in a lake, with what revenue is computed from; and the revenue that they make, in plain Python."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.changes.following import Dimensions
from platform_assets.changes.judgement import bucket_of
from platform_assets.gold import revenue
from platform_assets.gold.order_numbers import OrderNumber
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.semantics.identity import ALIAS
from platform_assets.silver import identity_links, persons, row_changes
from platform_assets.streams.epochs import WATERMARK_APP
from platform_assets.tables import create_tables
from resources.lake import Lake, Writer
from resources.settings import Settings

START = datetime(2026, 1, 10, tzinfo=UTC)
LAST_DAY = date(2026, 12, 31)
Row = tuple[Any, ...]


def on(day: float) -> datetime:
    """So many days after the start."""
    return START + timedelta(days=day)


@dataclass
class Order:
    """An order as it stands."""

    user: str | None
    amount: Decimal
    currency: str
    ordered_at: datetime
    refunded_at: datetime | None = None


@dataclass
class Shop:
    """A lake that the changes of some orders come to, one by one; its clock goes on with them.

    Attributes:
        platform: The platform.
        now: Commit time of the newest change.
        orders: What there is, by id.
        aliases: Users that are another one.
        number: What is computed of them.
        accounts: What was said of each user, in order: when, and the country and the plan.
    """

    platform: Platform
    now: datetime = START
    orders: dict[str, Order] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    number: OrderNumber = revenue.NUMBER
    accounts: dict[str, list[tuple[datetime, Mapping[str, str]]]] = field(default_factory=dict)
    _lsn: int = 0

    @classmethod
    def begin(cls, folder: Path, zone: str = "UTC", number: OrderNumber = revenue.NUMBER) -> Shop:
        lake = Lake(str(folder / "lake"))
        create_tables(lake, ())
        shop = cls.__new__(cls)
        platform = Platform(lake, Settings(reporting_timezone=zone), clock=lambda: shop.now)
        shop.__init__(platform, number=number)  # type: ignore[misc]
        return shop

    @property
    def lake(self) -> Lake:
        return self.platform.lake

    def order(
        self, name: str, day: float, amount: str = "10", user: str | None = "anna", currency: str = "EUR"
    ) -> None:
        """An order is placed, or another one than it was."""
        known = self.orders.get(name)
        refunded_at = None if known is None else known.refunded_at
        self.orders[name] = Order(user, Decimal(amount), currency, on(day), refunded_at)
        self._tell("u" if known else "c", name)

    def refund(self, name: str) -> None:
        """An order is paid back now."""
        if name in self.orders:
            self.orders[name].refunded_at = self.orders[name].refunded_at or self.now
            self._tell("u", name)

    def delete(self, name: str) -> None:
        """An order is gone."""
        if self.orders.pop(name, None) is not None:
            self._tell("d", name)

    def account(self, user: str, country: str, plan: str) -> None:
        """A user's account is opened, or is another one than it was."""
        known = self.accounts.setdefault(user, [])
        known.append((self.now, {"country": country, "plan": plan}))
        row = {"user_id": user, "country": country, "plan": plan}
        self._commit("c" if len(known) == 1 else "u", "users", user, row)

    def touch(self) -> None:
        """Something happens in the database that no order knows of."""
        self._commit("u", "carts", "anna", {})

    def merge(self, former: str, user: str) -> None:
        """A user turns out to be another one."""
        self.aliases[former] = user
        row = {"left": f"u:{former}", "right": f"u:{user}", "kind": ALIAS, "seen_at": self.now}
        links = pl.DataFrame([{**row, "seen_date": self.now.date()}], schema=identity_links.TABLE.schema)
        self.lake.append(identity_links.TABLE, links)
        persons.resolve(self.platform)

    def stale(self) -> list[date]:
        return sorted(self.number.stale(self.platform, self.lake.scan(computations.TABLE).collect(), LAST_DAY))

    def compute(self, *days: date) -> None:
        """Compute some days; all that are stale where none is said."""
        for day in days or self.stale():
            self.number.rebuild(self.platform, self.window(day))

    def window(self, day: date) -> Window:
        return Window.of_days(day, day, self.platform.settings.zone)

    def stored(self) -> set[Row]:
        """The rows of the table."""
        return set(self.lake.scan(self.number.table).collect().rows())

    def wanted(self, zone: ZoneInfo) -> set[Row]:
        """The rows that it should have, computed by loops."""
        entries = [
            (self._person(order.user), order.currency, amount, at.astimezone(zone).date(), is_sale, part)
            for order in self.orders.values()
            for amount, at, is_sale in (
                (order.amount, order.ordered_at, True),
                *([(-order.amount, order.refunded_at, False)] if order.refunded_at else []),
            )
            for part in self._parts(order.user, at)
        ]
        cohorts: dict[str, date] = {}
        for person, _, _, day, is_sale, _ in entries:
            if person is not None and is_sale:
                month = day.replace(day=1)
                cohorts[person] = min(month, cohorts.get(person, month))
        groups = defaultdict(list)
        for person, currency, amount, day, is_sale, part in entries:
            cohort = None if person is None else cohorts[person]
            groups[day, currency, *part, cohort].append((person, amount, is_sale))
        found = set()
        for key, members in groups.items():
            sales = sum((amount for _, amount, is_sale in members if is_sale), Decimal())
            refunds = sum((amount for _, amount, is_sale in members if not is_sale), Decimal())
            placed = sum(is_sale for *_, is_sale in members)
            buyers = {person for person, _, is_sale in members if is_sale and person is not None}
            found.add((*key, sales, refunds, sales + refunds, placed, len(members) - placed, len(buyers)))
        return found

    def _parts(self, user: str | None, at: datetime) -> list[tuple[str | None, ...]]:
        """The slices that an entry is in; nothing to tell where it is in the total."""
        told = self.accounts.get(user or "", [])
        said = [row for number, (since, row) in enumerate(told) if since <= at or not number]
        known = said[-1] if said else {}
        return [(name, known.get(name)) for name in self.number.attributes] or [()]

    def _person(self, user: str | None) -> str | None:
        """The least user of those that are one."""
        if user is None:
            return None
        same, size = {user}, 0
        while len(same) > size:
            size = len(same)
            same |= {one for pair in self.aliases.items() if same & set(pair) for one in pair}
        return min(same)

    def _tell(self, op: str, name: str) -> None:
        row: dict[str, object] = {"order_id": name}
        if op != "d":
            order = self.orders[name]
            row |= {
                "user_id": order.user,
                "status": "refunded" if order.refunded_at else "placed",
                "amount": f"{order.amount:.6f}",
                "currency": order.currency,
                "ordered_at": round(order.ordered_at.timestamp() * 1e6),
            }
        self._commit(op, "orders", name, row)

    def _commit(self, op: str, table: str, name: str, row: dict[str, object]) -> None:
        """Bring a change as far as the dimensions."""
        self._lsn += 1
        key = json.dumps([name])
        told = {
            "topic": "changes",
            "epoch": 1,
            "partition": 0,
            "offset": self._lsn,
            "ingested_at": self.now,
            "source_table": table,
            "op": op,
            "lsn": self._lsn,
            "sequence": self._lsn,
            "changed_at": self.now,
            "row_key": key,
            "row": json.dumps(row),
            "bucket": bucket_of(table, key),
        }
        writer = Writer(self.lake, row_changes.TABLE)
        writer.progress(WATERMARK_APP)
        watermark = round((self.now - timedelta(minutes=15)).timestamp() * 1e6)
        writer.append(pl.DataFrame([told], schema=row_changes.TABLE.schema), {WATERMARK_APP: watermark})
        Dimensions(self.lake).catch_up()
