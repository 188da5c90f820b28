"""`gold/revenue`: what was sold and paid back on each day, by currency and by the buyers' first month."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import orders
from platform_assets.platform import Platform
from platform_assets.semantics.calendar import starts
from platform_assets.semantics.engines import Frame, collected, lazy
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.semantics.revenue import revenue, with_cohorts
from platform_assets.silver import persons
from platform_assets.table import Column, Table
from resources.lake import retrying

_SUM = pl.Decimal(38, 6)

TABLE = Table(
    name="gold/revenue",
    description=(
        "Revenue by day, currency and cohort. Amounts and orders add up over days and cohorts, never over currencies. "
        "Buyers add up over the cohorts of a day and currency, but not over days or currencies."
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
)


def transform(entries: Frame, platform: Platform) -> pl.DataFrame:
    """Rows of the table, of all days.

    Args:
        entries: All rows of `gold/orders`, with ``person_id``.
        platform: For the reporting timezone.
    """
    zone = platform.settings.zone
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
        with platform.engine() as engine:
            rows = transform(engine.frame(_entries(platform, source, whose)), platform)
        rows = rows.filter(pl.col("day").is_between(first, last))
        made = lake.replace_days(TABLE, handle, rows, first, last)
        for day, span in days.items():
            number = rows.filter(day=day).height
            platform.record(TABLE, span, orders.TABLE, source.version(), made, number)
            platform.record(TABLE, span, persons.TABLE, resolution, made, number)

    retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose rows are not what the orders and persons of now give.

    One change of an order can move its buyer to another cohort on every day that they ever bought: so all is computed,
    and compared. It costs a pass over `gold/orders`.

    Args:
        platform: The platform.
        ledger: `ops/computations`; the rows themselves tell here.
        last_day: The open day; there is nothing after it.
    """
    lake = platform.lake
    entries = _entries(platform, lake.open(orders.TABLE), lake.open(persons.TABLE))
    wanted = transform(lazy(entries), platform)
    stored = lake.scan(TABLE).collect()
    differing = [
        one.join(other, on=TABLE.schema.names(), how="anti", nulls_equal=True)["day"]
        for one, other in ((wanted, stored), (stored, wanted))
    ]
    return {day for day in pl.concat(differing) if day <= last_day}


def _entries(platform: Platform, source: DeltaTable, whose: DeltaTable) -> pl.LazyFrame:
    """The orders' entries with the persons; of an order of nobody null."""
    lake = platform.lake
    entries = lake.scan(orders.TABLE, handle=source).with_columns(raw_id="u:" + pl.col("user_id"))
    of_somebody = entries.filter(pl.col("raw_id").is_not_null())
    known = joined(of_somebody, lake.scan(persons.TABLE, handle=whose).select(PERSONS.names()), at="entry_at")
    nobody = entries.filter(pl.col("raw_id").is_null()).with_columns(person_id=pl.lit(None, pl.String))
    names = ["order_id", "entry", "person_id", "amount", "currency", "entry_at"]
    return pl.concat([known.select(names), nobody.select(names)])
