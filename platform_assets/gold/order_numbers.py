"""What is computed from all of `gold/orders` at once and kept by day: revenue, in one shape and another.

One change of an order can move its buyer to another cohort on every day that they ever bought, and another plan of a
user every order since. So no log tells which days are stale: all is computed, and compared with what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Self
from zoneinfo import ZoneInfo

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import orders
from platform_assets.platform import Platform
from platform_assets.semantics.dimensions import as_it_was, held_before
from platform_assets.semantics.engines import Frame, lazy
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.silver import persons, users
from platform_assets.table import Table
from resources.delta_log import files_of
from resources.lake import Lake, retrying


@dataclass(frozen=True)
class OrderNumber:
    """A table of numbers by day, of all orders.

    Attributes:
        table: The table; it has a column ``day``.
        transform: Its rows, of all days, from the entries of `gold/orders` and the reporting timezone. The entries
            have ``person_id`` (null of an order of nobody) and the attributes.
        attributes: Columns of `silver/users` that the entries have: of the account that ordered, as of the entry, or
            as it was first known where it was not yet. A database tells of accounts from its first snapshot on, and
            of orders that are older.
    """

    table: Table
    transform: Callable[[Frame, ZoneInfo], pl.DataFrame]
    attributes: tuple[str, ...] = ()

    @property
    def upstream(self) -> tuple[Table, ...]:
        """The tables that it is computed from."""
        return (orders.TABLE, persons.TABLE, *([users.DIMENSION.table] if self.attributes else []))

    def rebuild(self, platform: Platform, window: Window) -> None:
        """Compute days."""
        lake = platform.lake
        days = platform.days(window)
        first, last = min(days), max(days)

        def attempt() -> None:
            handle = lake.open(self.table)  # before all that is read: a rival that read later is a conflict
            read = {table: lake.open(table) for table in self.upstream}
            source = read[orders.TABLE]
            with platform.engine() as engine:
                rows = self.transform(engine.frame(self.entries(lake, read)), platform.settings.zone)
            rows = rows.filter(pl.col("day").is_between(first, last))
            made = lake.replace_days(self.table, handle, rows, first, last)
            for day, span in days.items():
                number = rows.filter(day=day).height
                for table, known in read.items():
                    version = persons.resolution_of(known) if table is persons.TABLE else known.version()
                    platform.record(self.table, span, table, version, made, number, known=source)

        retrying(f"rebuild of {self.table.name}", attempt)

    def stale(self, platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
        """The days up to ``last_day`` whose rows are not what is above them gives now.

        It costs a pass over `gold/orders` where what is above, or the table, has other rows than when this process
        last asked, and else a look at their logs.

        Args:
            platform: The platform.
            ledger: `ops/computations`; the rows themselves tell here.
            last_day: The open day; there is nothing after it.
        """
        lake = platform.lake
        held = tuple(_Held.of(lake, table) for table in (*self.upstream, self.table))
        return {day for day in _differing(self, lake, platform.settings.zone, held) if day <= last_day}

    def entries(self, lake: Lake, read: Mapping[Table, DeltaTable]) -> pl.LazyFrame:
        """The orders' entries with whose they are, and the attributes; of an order of nobody null.

        Args:
            lake: The lake.
            read: A version of each of `upstream`.
        """

        def rows(table: Table) -> pl.LazyFrame:
            return lake.scan(table, handle=read[table])

        entries = rows(orders.TABLE).with_columns(raw_id="u:" + pl.col("user_id"))
        if self.attributes:
            dimension = users.DIMENSION
            versions = held_before(rows(dimension.table), dimension.key)
            entries = as_it_was(entries, versions, dimension.key, self.attributes, at="entry_at")
        of_somebody = entries.filter(pl.col("raw_id").is_not_null())
        known = joined(of_somebody, rows(persons.TABLE).select(PERSONS.names()), at="entry_at")
        nobody = entries.filter(pl.col("raw_id").is_null()).with_columns(person_id=pl.lit(None, pl.String))
        names = ["order_id", "entry", "person_id", "amount", "currency", "entry_at", *self.attributes]
        return pl.concat([known.select(names), nobody.select(names)])


@dataclass(frozen=True)
class _Held:
    """The rows that a version of a table holds: the same where the files are the same, because no file ever changes."""

    table: Table
    files: frozenset[str]
    handle: DeltaTable = field(compare=False)

    @classmethod
    def of(cls, lake: Lake, table: Table) -> Self:
        handle = lake.open(table)
        return cls(table, frozenset(files_of(lake, table, handle)), handle)


@lru_cache(maxsize=4)  # two states of each of the two
def _differing(number: OrderNumber, lake: Lake, zone: ZoneInfo, held: tuple[_Held, ...]) -> frozenset[date]:
    """The days whose rows are not what is above gives."""
    read = {each.table: each.handle for each in held}
    wanted = number.transform(lazy(number.entries(lake, read)), zone)
    stored = lake.scan(number.table, handle=read[number.table]).collect()
    differing = [
        one.join(other, on=number.table.schema.names(), how="anti", nulls_equal=True)["day"]
        for one, other in ((wanted, stored), (stored, wanted))
    ]
    return frozenset(pl.concat(differing))
