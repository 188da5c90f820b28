"""`gold/revenue`: what was sold and paid back on each day, by currency and by the buyers' first month."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.gold.order_numbers import OrderNumber
from platform_assets.publication import Metric, Publication, Reach
from platform_assets.semantics.calendar import starts
from platform_assets.semantics.engines import Frame, collected
from platform_assets.semantics.revenue import revenue, with_cohorts
from platform_assets.silver import persons
from platform_assets.table import Column, Plot, Table

_SUM = pl.Decimal(38, 6)

DAY = Column("day", pl.Date(), "Day of the sale or of the refund, in the reporting timezone.")
CURRENCY = Column("currency", pl.String(), "ISO 4217 currency; null where the orders say none.", nullable=True)
COHORT = Column(
    "cohort_month",
    pl.Date(),
    "First day of the month of the person's first purchase; null where the orders name nobody.",
    nullable=True,
)
SUMS = (
    Column("sales", _SUM, "Sum of sales.", unit="currency units"),
    Column("refunds", _SUM, "Sum of refunds, negative.", unit="currency units"),
    Column("net", _SUM, "Sales and refunds together.", unit="currency units"),
    Column("orders", pl.Int64(), "Orders placed.", unit="orders", minimum=0),
    Column("refunded_orders", pl.Int64(), "Orders refunded.", unit="orders", minimum=0),
    Column("buyers", pl.Int64(), "Persons with a sale.", unit="persons", minimum=0),
)

TABLE = Table(
    name="gold/revenue",
    description=(
        "Revenue by day, currency and cohort. Amounts and orders add up over days and cohorts, never over currencies. "
        "Buyers add up over the cohorts of a day and currency, but not over days or currencies. A day is closed when "
        "the database's changes have passed its end; it is never final, because any order may still be changed."
    ),
    grain="day × currency × cohort month",
    key=("day", "currency", "cohort_month"),
    columns=(DAY, CURRENCY, COHORT, *SUMS),
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

_METRICS = (
    # An entry moves its own day alone, and who its buyer turns out to be moves only the buyers.
    *(Metric(column.name, Reach(), unmoved_by=(persons.TABLE,)) for column in SUMS[:-1]),
    Metric(SUMS[-1].name, Reach()),
)


def published(table: Table, slices: tuple[str, ...]) -> Publication:
    """What is published of a table of revenue: all cohorts of a day and slice together."""
    return Publication(table, _METRICS, slices, watermark=None, definition=None, adds_up=True, absent=0)


PUBLISHES = published(TABLE, ("currency",))
"""The numbers that go into `gold/published_numbers`: of each day and currency."""


def transform(entries: Frame, zone: ZoneInfo) -> pl.DataFrame:
    """Rows of the table, of all days.

    Args:
        entries: All rows of `gold/orders`, with ``person_id``.
        zone: The reporting timezone.
    """
    found = revenue(with_cohorts(entries, zone, "month"), zone, "day", by=("cohort",))
    return shaped(TABLE, collected(found))


def shaped(table: Table, found: pl.DataFrame) -> pl.DataFrame:
    """Rows of `semantics.revenue` by day and cohort as those of a table."""
    days = found.with_columns(day=starts(pl.col("bucket"), "day"), cohort_month=starts(pl.col("cohort"), "month"))
    return days.select(table.schema.names()).cast(table.schema).sort(table.key)


NUMBER = OrderNumber(TABLE, transform)
