"""Purchases of real customers and sessions of another tool: cohort revenue by two methods, and the same cuts.

CDNOW: 23,570 customers whose first purchase was in the first quarter of 1997, and all they bought until June 1998. The
sessions of `ecom.csv.gz` are kept by user, whatever the platform: so the platform is no device here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.engines import collected
from platform_assets.semantics.revenue import cohort_revenue, cohort_sizes, lifetime_values
from platform_assets.semantics.sessions import with_sessions
from platform_assets.table import MONEY, TIMESTAMP
from tests.conformance.outcome import shared

JANUARY, FEBRUARY, MARCH = (bucket_of(date(1997, month, 1), "month") for month in (1, 2, 3))
JUNE_1998 = bucket_of(date(1998, 6, 1), "month")


def dataset(name: str) -> Path:
    path = shared() / "datasets" / name
    if not path.exists():
        pytest.skip(f"no data set {path}: it is not part of the project")
    return path


def lines() -> Iterator[tuple[str, date, Decimal]]:
    """(customer, day, amount) of each purchase, by the columns' places."""
    for line in dataset("CDNOW_master.txt").read_text().splitlines()[1:]:
        customer, day, _, amount = line.split()
        yield customer, date(int(day[:4]), int(day[4:6]), int(day[6:])), Decimal(amount)


@pytest.fixture(scope="module")
def purchases() -> pl.DataFrame:
    rows = [(f"o{n}", "sale", customer, amount, "USD", day) for n, (customer, day, amount) in enumerate(lines())]
    texts = dict.fromkeys(("order_id", "entry", "person_id", "amount", "currency"), pl.String())
    frame = pl.DataFrame(rows, schema=pl.Schema({**texts, "amount": MONEY, "entry_at": pl.Date()}), orient="row")
    return frame.with_columns(pl.col("entry_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(TIMESTAMP))


def test_cohort_revenue_is_that_of_plain_loops(purchases: pl.DataFrame) -> None:
    first: dict[str, int] = {}
    for customer, day, _ in sorted(lines()):
        first.setdefault(customer, bucket_of(day, "month"))
    net: dict[tuple[int, int], Decimal] = defaultdict(Decimal)
    orders: dict[tuple[int, int], int] = defaultdict(int)
    buyers: dict[tuple[int, int], set[str]] = defaultdict(set)
    for customer, day, amount in lines():
        cell = (first[customer], bucket_of(day, "month") - first[customer])
        net[cell] += amount
        orders[cell] += 1
        buyers[cell].add(customer)
    found = collected(cohort_revenue(purchases))
    told = {
        (cohort, age): values
        for cohort, age, *values in found.select("cohort", "age", "net", "orders", "buyers").rows()
    }
    assert told == {cell: [net[cell], orders[cell], len(buyers[cell])] for cell in net}
    assert len(told) == 18 + 17 + 16


def test_the_numbers_that_are_known_of_it(purchases: pl.DataFrame) -> None:
    sizes = dict(collected(cohort_sizes(purchases)).rows())
    assert sorted(sizes) == [JANUARY, FEBRUARY, MARCH]
    assert sum(sizes.values()) == 23_570
    found = collected(cohort_revenue(purchases))
    assert found["orders"].sum() == 69_659
    assert found["net"].sum() == purchases["amount"].sum() == sum(amount for _, _, amount in lines())


def test_lifetime_values_end_at_all_that_a_cohort_paid(purchases: pl.DataFrame) -> None:
    sizes = collected(cohort_sizes(purchases))
    found = lifetime_values(cohort_revenue(purchases), sizes, JUNE_1998)
    last = found.filter(pl.col("cohort") + pl.col("age") == JUNE_1998)
    paid: dict[int, Decimal] = defaultdict(Decimal)
    first: dict[str, int] = {}
    for customer, day, amount in sorted(lines()):
        paid[first.setdefault(customer, bucket_of(day, "month"))] += amount
    assert dict(last.select("cohort", "cumulative_net").rows()) == paid
    of = dict(sizes.rows())
    assert dict(last.select("cohort", "ltv").rows()) == {
        cohort: (amount / of[cohort]).quantize(Decimal("0.000001")) for cohort, amount in paid.items()
    }


def test_sessions_are_those_that_another_tool_found() -> None:
    theirs = pl.read_csv(dataset("ecom.csv.gz"), try_parse_dates=True).with_row_index("event_id")
    events = theirs.select(
        pl.col("event_id").cast(pl.String).str.zfill(6),
        person_id="user_id",
        anonymous_id=pl.lit(None, pl.String),
        occurred_at=pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        their_session="session_id",
        **{name: pl.lit(None, pl.String) for name in ("utm_source", "utm_medium", "utm_campaign")},
    )
    found = collected(with_sessions(events))
    pairs = found.select("session_id", "their_session").unique()
    assert found.height == 31_106
    assert pairs["session_id"].n_unique() == pairs["their_session"].n_unique() == pairs.height > 3_000
