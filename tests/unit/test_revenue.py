"""Revenue by day and cohort, per user and over a lifetime, against hand-worked numbers and plain loops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.gold import orders
from platform_assets.gold import revenue as gold
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.engines import collected
from platform_assets.semantics.revenue import (
    cohort_revenue,
    cohort_sizes,
    lifetime_values,
    per_user,
    revenue,
    with_cohorts,
)
from platform_assets.silver import persons
from platform_assets.table import MONEY, TIMESTAMP, contract
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.settings import Settings
from support.engines import Native

BERLIN = ZoneInfo("Europe/Berlin")
SCHEMA = pl.Schema(
    {
        "order_id": pl.String(),
        "entry": pl.String(),
        "person_id": pl.String(),
        "amount": MONEY,
        "currency": pl.String(),
        "entry_at": TIMESTAMP,
    }
)
Entry = tuple[str, str, str | None, str | None, str | None, datetime]


def at(month: int, day: int, hour: int = 12) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def frame(entries: Iterable[Entry]) -> pl.DataFrame:
    rows = [(o, e, p, None if a is None else Decimal(a), c, t) for o, e, p, a, c, t in entries]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


ENTRIES = frame(
    [
        ("o1", "sale", "anna", "10.10", "EUR", at(1, 31, 23)),  # the first of February in Berlin
        ("o2", "sale", "anna", "0.20", "EUR", at(2, 1)),
        ("o3", "sale", "ben", "5", "EUR", at(2, 1)),
        ("o3", "refund", "ben", "-5", "EUR", at(3, 5)),
        ("o4", "sale", "ben", "7", "USD", at(2, 1)),
        ("o5", "sale", None, "1.000001", "EUR", at(2, 1)),
        ("o6", "sale", "carl", None, "EUR", at(3, 5)),
        ("o7", "sale", "anna", "3", "EUR", at(4, 1)),
    ]
)
FEBRUARY, MARCH, APRIL = (bucket_of(date(2026, month, 1), "month") for month in (2, 3, 4))


def test_revenue_of_days(native: Native) -> None:
    found = collected(revenue(native(ENTRIES), BERLIN)).sort("bucket", "currency")
    days = {month: bucket_of(date(2026, month, day), "day") for month, day in ((2, 1), (3, 5), (4, 1))}
    assert found.rows() == [
        (days[2], "EUR", Decimal("16.300001"), Decimal(0), Decimal("16.300001"), 4, 0, 2),
        (days[2], "USD", Decimal(7), Decimal(0), Decimal(7), 1, 0, 1),
        (days[3], "EUR", Decimal(0), Decimal(-5), Decimal(-5), 1, 1, 1),
        (days[4], "EUR", Decimal(3), Decimal(0), Decimal(3), 1, 0, 1),
    ]
    assert found.schema["net"] == pl.Decimal(38, 6)


def test_revenue_of_cohorts(native: Native) -> None:
    found = collected(cohort_revenue(native(ENTRIES), BERLIN)).sort("cohort", "age", "currency")
    assert found.select("cohort", "age", "currency", "net", "orders", "refunded_orders", "buyers").rows() == [
        (FEBRUARY, 0, "EUR", Decimal("15.3"), 3, 0, 2),
        (FEBRUARY, 0, "USD", Decimal(7), 1, 0, 1),
        (FEBRUARY, 1, "EUR", Decimal(-5), 0, 1, 0),
        (FEBRUARY, 2, "EUR", Decimal(3), 1, 0, 1),
        (MARCH, 0, "EUR", Decimal(0), 1, 0, 1),
    ]
    sizes = collected(cohort_sizes(native(ENTRIES), BERLIN)).sort("cohort")
    assert sizes.rows() == [(FEBRUARY, 2), (MARCH, 1)]


def test_the_timezone_decides_the_cohort() -> None:
    anna = collected(with_cohorts(ENTRIES)).filter(person_id="anna")
    assert anna["cohort"].unique().to_list() == [FEBRUARY - 1]


def test_a_lifetime_goes_on_where_nothing_is_bought() -> None:
    found = lifetime_values(cohort_revenue(ENTRIES, BERLIN), cohort_sizes(ENTRIES, BERLIN), APRIL - 1)
    assert found.select("cohort", "currency", "age", "size", "net", "cumulative_net", "ltv").rows() == [
        (FEBRUARY, "EUR", 0, 2, Decimal("15.3"), Decimal("15.3"), Decimal("7.65")),
        (FEBRUARY, "EUR", 1, 2, Decimal(-5), Decimal("10.3"), Decimal("5.15")),
        (FEBRUARY, "USD", 0, 2, Decimal(7), Decimal(7), Decimal("3.5")),
        (FEBRUARY, "USD", 1, 2, Decimal(0), Decimal(7), Decimal("3.5")),
        (MARCH, "EUR", 0, 1, Decimal(0), Decimal(0), Decimal(0)),
    ]


def test_revenue_per_user() -> None:
    active = pl.DataFrame({"bucket": [FEBRUARY, APRIL], "users": [3, 0]})
    found = per_user(revenue(ENTRIES, BERLIN, "month"), active)
    assert found.rows() == [
        (FEBRUARY, "EUR", Decimal("16.300001"), 2, 3, Decimal("5.433334"), Decimal("8.150000")),
        (FEBRUARY, "USD", Decimal(7), 1, 3, Decimal("2.333333"), Decimal(7)),
        (MARCH, "EUR", Decimal(-5), 1, None, None, Decimal(-5)),
        (APRIL, "EUR", Decimal(3), 1, 0, None, Decimal(3)),
    ]


def looped(entries: pl.DataFrame, zone: ZoneInfo) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What `revenue` of days by cohorts says, by loops."""
    firsts: dict[str, int] = {}
    for one in entries.filter(entry="sale").sort("entry_at").iter_rows(named=True):
        if one["person_id"] is not None:
            firsts.setdefault(one["person_id"], bucket_of(one["entry_at"].astimezone(zone), "month"))
    sums: dict[tuple[Any, ...], list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    buyers: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for one in entries.iter_rows(named=True):
        day = bucket_of(one["entry_at"].astimezone(zone), "day")
        key = (day, one["currency"], firsts.get(one["person_id"]))
        is_refund = one["entry"] == "refund"
        sums[key][is_refund] += one["amount"] or 0
        counts[key][is_refund] += 1
        if not is_refund and one["person_id"] is not None:
            buyers[key].add(one["person_id"])
    return {key: (*sums[key], sum(sums[key]), *counts[key], len(buyers[key])) for key in sums}


entry_lists = st.lists(
    st.tuples(
        st.sampled_from([None, "anna", "ben", "carl"]),
        st.sampled_from([None, "0.01", "19.99", "-3", "100000000000"]),
        st.sampled_from([None, "EUR", "USD"]),
        st.integers(0, 100 * 24),
        st.one_of(st.none(), st.integers(0, 60 * 24)),
    ),
    max_size=25,
)


def drawn(lines: list[tuple[str | None, str | None, str | None, int, int | None]]) -> pl.DataFrame:
    made: list[Entry] = []
    for number, (person, amount, currency, hour, refunded) in enumerate(lines):
        sold = at(1, 1, 0) + timedelta(hours=hour)
        made.append((f"o{number}", "sale", person, amount, currency, sold))
        if refunded is not None:
            back = None if amount is None else str(-Decimal(amount))
            made.append((f"o{number}", "refund", person, back, currency, sold + timedelta(hours=refunded)))
    return frame(made)


@settings(max_examples=60)
@given(entry_lists)
def test_revenue_is_that_of_loops(lines: list[tuple[str | None, str | None, str | None, int, int | None]]) -> None:
    entries = drawn(lines)
    found = collected(revenue(with_cohorts(entries, BERLIN), BERLIN, by=("cohort",)))
    assert {row[:3]: row[3:] for row in found.iter_rows()} == looped(entries, BERLIN)


def test_every_engine_counts_alike(native: Native) -> None:
    lines = [
        ([None, "anna", "ben", "carl"][n % 4], ["0.01", None, "19.99"][n % 3], ["EUR", None][n % 5 == 0], n * 17, n * 3)
        for n in range(80)
    ]
    entries = drawn(lines)  # type: ignore[arg-type]
    found = collected(revenue(with_cohorts(native(entries), BERLIN), BERLIN, by=("cohort",)))
    assert {row[:3]: row[3:] for row in found.iter_rows()} == looped(entries, BERLIN)


# The table.

NOW = at(4, 30)


def told(lake: Lake, entries: pl.DataFrame) -> None:
    """Make `gold/orders` hold some entries."""
    rows = entries.with_columns(user_id="person_id", bucket=pl.lit(0, pl.Int32)).select(orders.TABLE.schema.names())
    lake.write(orders.TABLE, lake.open(orders.TABLE), rows, "bucket >= 0", {}, None)


def settle(where: Platform) -> list[date]:
    days = sorted(gold.NUMBER.stale(where, where.lake.scan(computations.TABLE).collect(), NOW.date()))
    for day in days:
        gold.NUMBER.rebuild(where, Window.of_days(day, day, where.settings.zone))
    assert gold.NUMBER.stale(where, where.lake.scan(computations.TABLE).collect(), NOW.date()) == set(), (
        "stale after having been computed"
    )
    return days


def stored(where: Platform) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = contract(gold.TABLE).validate(where.lake.scan(gold.TABLE).collect())
    return {
        (bucket_of(day, "day"), currency, None if cohort is None else bucket_of(cohort, "month")): tuple(values)
        for day, currency, cohort, *values in rows.iter_rows()
    }


def test_the_table_follows_orders_and_persons(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    for table in (orders.TABLE, gold.TABLE):
        lake.create(table)
    where = Platform(lake, Settings(reporting_timezone="Europe/Berlin"), clock=lambda: NOW)
    told(lake, ENTRIES)
    first, second, third = date(2026, 2, 1), date(2026, 3, 5), date(2026, 4, 1)
    assert settle(where) == [first, second, third]
    assert stored(where) == looped(ENTRIES, BERLIN)
    assert lake.scan(computations.TABLE).filter(table=gold.TABLE.name).collect()["row_count"].sum() == 12

    # Anna's first purchase was earlier than known: she is of another cohort on all her days.
    more = pl.concat([ENTRIES, frame([("o0", "sale", "anna", "1", "EUR", at(1, 5))])])
    told(lake, more)
    assert settle(where) == [date(2026, 1, 5), first, third]
    assert stored(where) == looped(more, BERLIN)

    # Carl turns out to be Ben.
    carl = [("u:carl", at(1, 1), at(12, 1), "u:ben")]
    lake.append(persons.TABLE, persons.transform(pl.DataFrame(carl, schema=_persons(), orient="row")))
    assert settle(where) == [second]
    merged = more.with_columns(pl.col("person_id").replace("carl", "ben"))
    assert stored(where) == looped(merged, BERLIN)


def _persons() -> pl.Schema:
    return pl.Schema({name: persons.TABLE.schema[name] for name in ("raw_id", "valid_from", "valid_to", "person_id")})
