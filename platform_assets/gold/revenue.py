"""`gold/revenue`: what was sold and paid back on each day, by currency and by the buyers' first month."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Self
from zoneinfo import ZoneInfo

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import orders
from platform_assets.platform import Platform
from platform_assets.publication import Metric, Publication, Reach
from platform_assets.semantics.calendar import starts
from platform_assets.semantics.engines import collected
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.semantics.revenue import revenue, with_cohorts
from platform_assets.silver import persons
from platform_assets.table import Column, Plot, Table
from resources.lake import Lake, files_of, retrying

_SUM = pl.Decimal(38, 6)

TABLE = Table(
    name="gold/revenue",
    description=(
        "Revenue by day, currency and cohort. Amounts and orders add up over days and cohorts, never over currencies. "
        "Buyers add up over the cohorts of a day and currency, but not over days or currencies. A day is closed when "
        "the database's changes have passed its end; it is never final, because any order may still be changed."
    ),
    grain="day × currency × cohort month",
    key=("day", "currency", "cohort_month"),
    columns=(
        Column("day", pl.Date(), "Day of the sale or of the refund, in the reporting timezone."),
        Column("currency", pl.String(), "ISO 4217 currency; null where the orders say none.", nullable=True),
        Column(
            "cohort_month",
            pl.Date(),
            "First day of the month of the person's first purchase; null where the orders name nobody.",
            nullable=True,
        ),
        Column("sales", _SUM, "Sum of sales.", unit="currency units"),
        Column("refunds", _SUM, "Sum of refunds, negative.", unit="currency units"),
        Column("net", _SUM, "Sales and refunds together.", unit="currency units"),
        Column("orders", pl.Int64(), "Orders placed.", unit="orders", minimum=0),
        Column("refunded_orders", pl.Int64(), "Orders refunded.", unit="orders", minimum=0),
        Column("buyers", pl.Int64(), "Persons with a sale.", unit="persons", minimum=0),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("currency", "cohort_month"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day",),
    steady=False,
    plot=Plot(value="net", by="currency"),
    source="changes",
)

_OWN_DAY = Reach()

PUBLISHES = Publication(
    TABLE,
    metrics=(
        *(
            Metric(column, _OWN_DAY, unmoved_by=(persons.TABLE,))
            for column in ("net", "sales", "refunds", "orders", "refunded_orders")
        ),
        Metric("buyers", _OWN_DAY),
    ),
    slices=("currency",),
    watermark=None,
    definition=None,
    adds_up=True,
    absent=0,
)
"""The numbers that go into `gold/published_numbers`: of each day and currency, all cohorts together."""


def transform(entries: pl.LazyFrame, zone: ZoneInfo) -> pl.DataFrame:
    """Rows of the table, of all days.

    Args:
        entries: All rows of `gold/orders`, with ``person_id``.
        zone: The reporting timezone.
    """
    of_cohorts = with_cohorts(entries, zone, "month")
    found = collected(revenue(of_cohorts, zone, "day", by=("cohort",)))
    return (
        found.with_columns(day=starts(pl.col("bucket"), "day"), cohort_month=starts(pl.col("cohort"), "month"))
        .select(TABLE.schema.names())
        .cast(TABLE.schema)
        .sort(TABLE.key)
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from all of `gold/orders`: whose first purchase was when is known from all only."""
    lake = platform.lake
    days = platform.days(window)
    first, last = min(days), max(days)

    def attempt() -> None:
        handle = lake.open(TABLE)  # before the orders are read: a rival that read later and wrote first is a conflict
        source, whose = lake.open(orders.TABLE), lake.open(persons.TABLE)
        resolution = persons.resolution_of(whose)
        rows = transform(_entries(lake, source, whose), platform.settings.zone).filter(
            pl.col("day").is_between(first, last)
        )
        made = lake.replace_days(TABLE, handle, rows, first, last)
        for day, span in days.items():
            number = rows.filter(day=day).height
            platform.record(TABLE, span, orders.TABLE, source.version(), made, number, known=source)
            platform.record(TABLE, span, persons.TABLE, resolution, made, number, known=source)

    retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose rows are not what the orders and persons of now give.

    One change of an order can move its buyer to another cohort on every day that they ever bought: so all is computed,
    and compared. It costs a pass over `gold/orders` where orders, persons or revenue have other rows than when this
    process last asked, and else a look at three logs.

    Args:
        platform: The platform.
        ledger: `ops/computations`; the rows themselves tell here.
        last_day: The open day; there is nothing after it.
    """
    lake = platform.lake
    held = [_Held.of(lake, table) for table in (orders.TABLE, persons.TABLE, TABLE)]
    return {day for day in _differing(lake, platform.settings.zone, *held) if day <= last_day}


@dataclass(frozen=True)
class _Held:
    """The rows that a version of a table holds: the same where the files are the same, because no file ever changes."""

    files: frozenset[str]
    handle: DeltaTable = field(compare=False)

    @classmethod
    def of(cls, lake: Lake, table: Table) -> Self:
        handle = lake.open(table)
        return cls(frozenset(files_of(lake, table, handle)), handle)


@lru_cache(maxsize=2)
def _differing(lake: Lake, zone: ZoneInfo, source: _Held, whose: _Held, revenues: _Held) -> frozenset[date]:
    """The days whose rows are not what the orders and persons give."""
    wanted = transform(_entries(lake, source.handle, whose.handle), zone)
    stored = lake.scan(TABLE, handle=revenues.handle).collect()
    differing = [
        one.join(other, on=TABLE.schema.names(), how="anti", nulls_equal=True)["day"]
        for one, other in ((wanted, stored), (stored, wanted))
    ]
    return frozenset(pl.concat(differing))


def _entries(lake: Lake, source: DeltaTable, whose: DeltaTable) -> pl.LazyFrame:
    """The orders' entries with the persons; of an order of nobody null."""
    entries = lake.scan(orders.TABLE, handle=source).with_columns(raw_id="u:" + pl.col("user_id"))
    of_somebody = entries.filter(pl.col("raw_id").is_not_null())
    known = joined(of_somebody, lake.scan(persons.TABLE, handle=whose).select(PERSONS.names()), at="entry_at")
    nobody = entries.filter(pl.col("raw_id").is_null()).with_columns(person_id=pl.lit(None, pl.String))
    names = ["order_id", "entry", "person_id", "amount", "currency", "entry_at"]
    return pl.concat([known.select(names), nobody.select(names)])
