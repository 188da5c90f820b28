"""`gold/revenue_by_slice`: what was sold and paid back on each day, by country and plan of the buyer's account."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.gold import revenue
from platform_assets.gold.order_numbers import OrderNumber
from platform_assets.semantics.engines import Frame, collected
from platform_assets.semantics.revenue import revenue as revenue_by
from platform_assets.semantics.revenue import with_cohorts
from platform_assets.table import Column, Table

DIMENSIONS = ("country", "plan")
"""What the slices are of: columns of `silver/users`."""

TABLE = Table(
    name="gold/revenue_by_slice",
    description=(
        "Revenue by day, currency and cohort, and by the country, or the plan, that the account had which ordered: of "
        "a sale when it was ordered, of a refund when it was made; before the database told of the account, as it was "
        "first known. Amounts and orders of a dimension add up to "
        "`gold/revenue`, over its values; never add those of two dimensions. A person with two plans on one day is a "
        "buyer of both. Closed as `gold/revenue` is, and never final."
    ),
    grain="day × currency × dimension × value × cohort month",
    key=("day", "currency", "dimension", "value", "cohort_month"),
    columns=(
        revenue.DAY,
        revenue.CURRENCY,
        Column("dimension", pl.String(), "What the slices are of.", accepted=DIMENSIONS),
        Column("value", pl.String(), "The slice; null where it, or the account, is not known.", nullable=True),
        revenue.COHORT,
        *revenue.SUMS,
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("dimension", "value"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day", "dimension"),
    steady=False,
    source="changes",
)

PUBLISHES = revenue.published(TABLE, ("currency", "dimension", "value"))
"""The numbers that go into `gold/published_numbers`: of each day, currency and slice."""


def transform(entries: Frame, zone: ZoneInfo) -> pl.DataFrame:
    """Rows of the table, of all days.

    Args:
        entries: All rows of `gold/orders`, with ``person_id`` and `DIMENSIONS`.
        zone: The reporting timezone.
    """
    of_cohorts = with_cohorts(entries, zone, "month")
    found = [
        collected(revenue_by(of_cohorts, zone, "day", by=(name, "cohort")))
        .rename({name: "value"})
        .with_columns(dimension=pl.lit(name))
        for name in DIMENSIONS
    ]
    return revenue.shaped(TABLE, pl.concat(found))


NUMBER = OrderNumber(TABLE, transform, attributes=DIMENSIONS)
