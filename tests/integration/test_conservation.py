"""A check of conservation holds while the platform goes on, and fails when a table is tampered with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from partitions import Window
from platform_assets.changes.following import Dimensions
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    live_metrics,
    orders,
    person_day_slices,
    person_days,
    revenue,
    revenue_by_slice,
    sessions,
)
from platform_assets.platform import Platform
from platform_assets.quality.check import EVER, Check, judge_each
from platform_assets.quality.checks import checks_of, whole_checks_of
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import activity_hours, events, outcomes, products, touched_hours
from platform_assets.silver import orders as standing_orders
from platform_assets.silver.judgement import judge
from platform_assets.table import Table
from resources.lake import Lake, Writer
from support import facts
from support.changes import change
from support.journeys import Happened, act, compute_hours, platform
from support.records import RULES, START, event, frame, record
from support.sales import Shop

DAY = START.date() + timedelta(days=1)
FIRST_HOUR = Window.of_hour(START)
HOURS = Window(START, START + timedelta(days=2))
DAYS = Window.of_days(START.date(), DAY, facts.SETTINGS.zone)

BOUGHT = {"properties": {"order_id": "o1", "amount": "10.00", "currency": "EUR"}}
HAPPENED = (
    Happened(0, 0, "d1", None, more={"utm_source": "news", "utm_medium": "cpc", "platform": "web"}),
    Happened(1, 5, "d1", None, more={"utm_source": "search", "utm_medium": "cpc", "platform": "web"}),
    Happened(2, 5, "d1", None, "push_received"),
    Happened(3, 6, "d2", None, more={"is_bot": True}),
    Happened(4, 70, "d1", "anna"),
    Happened(5, 75, "d1", "anna", "order_completed", BOUGHT),
    Happened(6, 200, "d3", "ben", more={"platform": "ios"}),
    Happened(7, 1500, "d3", "ben", more={"platform": "ios"}),
)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A few events over two days, and all that is computed from them."""
    where = platform(tmp_path_factory.mktemp("settled"))
    act(where, HAPPENED)
    compute_hours(where)
    for day in (START.date(), DAY):
        window = Window.of_days(day, day, where.settings.zone)
        for module in (sessions, conversions, person_days, active_users, person_day_slices, active_users_by_slice):
            module.rebuild(where, window)
    return where


@pytest.fixture
def where(settled: Platform, tmp_path: Path) -> Platform:
    """The same, to be tampered with."""
    shutil.copytree(settled.lake.url, tmp_path / "lake")
    return replace(settled, lake=Lake(str(tmp_path / "lake")))


def check_of(table: Table, name: str = "conservation") -> Check:
    made = checks_of([table]) + whole_checks_of([table])
    return next(check for check in made if check.table is table and check.name == name)


def judged(where: Platform, table: Table, window: Window) -> Verdict:
    return check_of(table).judge(where, table, window)


CASES = (
    (fact_events.TABLE, HOURS, "event_id = 'e0004'", "7 events above, 7 told; 0 hours differ"),
    (activity_hours.TABLE, HOURS, "raw_id = 'u:anna'", "6 events above, 6 told; 0 hours differ"),
    (live_metrics.TABLE, HOURS, "platform = 'ios'", "7 events above, 7 told; 0 minutes differ"),
    (active_users.TABLE, DAYS, None, "3 persons of 2 days told; 0 days differ"),
    (active_users_by_slice.TABLE, DAYS, "value = 'ios'", None),
    (conversions.TABLE, DAYS, "model = 'linear' AND touch = 1", "1 orders; of 0 a model gives more or less than all"),
)


@pytest.mark.parametrize(("table", "window", "rows", "told"), CASES, ids=lambda case: getattr(case, "name", None))
def test_what_is_taken_away_is_missed(
    where: Platform, table: Table, window: Window, rows: str | None, told: str | None
) -> None:
    whole = judged(where, table, window)
    assert whole.passed, whole
    assert told is None or whole.description == told
    handle = where.lake.open(table)
    if rows is not None:
        handle.delete(rows)
    else:
        handle.update({"mau": "mau + 1"}, predicate=f"day = '{DAY}'")
    assert not judged(where, table, window).passed


def test_what_is_there_twice_is_told_with_its_hour(where: Platform) -> None:
    twice = where.lake.scan(fact_events.TABLE, FIRST_HOUR).collect().head(1)
    where.lake.append(fact_events.TABLE, twice)
    windows = {str(hour): Window.of_hour(START + timedelta(hours=hour)) for hour in range(3)}
    verdicts = judge_each(where, check_of(fact_events.TABLE), windows)
    assert [verdict.passed for verdict in verdicts.values()] == [False, True, True]
    assert verdicts["0"].description == "3 events above, 4 told; 1 hours differ"


def test_one_hour_does_not_make_up_for_another(where: Platform) -> None:
    table = outcomes.TABLE
    row = where.lake.scan(table).filter(pl.col("records") > 0).sort("ingestion_hour").collect().row(0, named=True)
    later = row["ingestion_hour"] + timedelta(hours=1)
    moved = [{**row, "records": -1}, {**row, "records": 1, "ingestion_hour": later, "ingestion_date": later.date()}]
    whole = Window(row["ingestion_hour"], later + timedelta(hours=1))
    assert judged(where, table, whole).passed
    rows = [{**told, "silver_version": 10**6} for told in moved]
    where.lake.append(table, pl.DataFrame(rows, schema=table.schema))
    assert not judged(where, table, whole).passed


def test_what_is_on_its_way_is_no_loss(where: Platform) -> None:
    """Events that no table below has taken in yet, and hours that wait to be computed, fail no check."""
    late = Happened(8, 10, "d1", None)
    act(where, [*HAPPENED, late])
    verdict = judged(where, fact_events.TABLE, HOURS)
    assert verdict.passed
    assert verdict.description == "4 events above, 4 told; 0 hours differ; 1 hours wait to be computed"
    assert judged(where, live_metrics.TABLE, HOURS).passed

    fact_events.rebuild(where, FIRST_HOUR)
    assert judged(where, fact_events.TABLE, HOURS).description.startswith("8 events above, 8 told; 0 hours differ")


def test_an_event_that_the_ledger_does_not_tell_yet_is_no_loss(where: Platform) -> None:
    """Between the commit of silver and that of `silver/touched_hours`."""
    lake = where.lake
    accepted = judge(frame([record(1, 0, 7000, event("new", 10))]), RULES).accepted
    lake.append(events.TABLE, events.transform(accepted))
    assert (lake.open(touched_hours.TABLE).transaction_version(events.FOLLOWS) or 0) < lake.open(events.TABLE).version()
    assert judged(where, fact_events.TABLE, HOURS).passed
    assert judged(where, activity_hours.TABLE, HOURS).passed
    act(where, HAPPENED)  # a writer catches up before it reads on
    assert judged(where, fact_events.TABLE, HOURS).description.endswith("1 hours wait to be computed")


def test_numbers_are_compared_with_what_they_were_counted_from(where: Platform) -> None:
    """Histories that are other ones by now are due to be counted again: the numbers are not wrong."""
    where.lake.open(person_days.TABLE).delete("person_id = 'u:ben'")
    assert judged(where, active_users.TABLE, DAYS).passed
    active_users.rebuild(where, DAYS)
    assert judged(where, active_users.TABLE, DAYS).description == "2 persons of 2 days told; 0 days differ"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop.begin(tmp_path)
    made.order("o1", 0, "10")
    made.order("o2", 1, "20", user="ben")
    made.order("o3", 1, "5", user=None, currency="USD")
    made.refund("o1")
    made.compute()
    return made


def money(shop: Shop, table: Table = revenue.TABLE) -> Verdict:
    zone = shop.platform.settings.zone
    return judged(shop.platform, table, Window.of_days(date(2026, 1, 10), date(2026, 1, 31), zone))


def test_revenue_is_that_of_the_orders(shop: Shop) -> None:
    assert money(shop).description == "3 orders told; 0 days differ"
    shop.lake.open(revenue.TABLE).update({"sales": "sales + 1"}, predicate="currency = 'USD'")
    assert money(shop).description == "3 orders told; 1 days differ"


def test_revenue_by_slice_is_that_of_the_orders_by_each_dimension(shop: Shop) -> None:
    shop.number = revenue_by_slice.NUMBER
    shop.account("ben", "DE", "pro")
    shop.compute()
    assert money(shop, revenue_by_slice.TABLE).description == "3 orders told; 0 days differ"
    shop.lake.open(revenue_by_slice.TABLE).delete("dimension = 'plan' AND currency = 'USD'")
    assert not money(shop, revenue_by_slice.TABLE).passed


def test_revenue_that_waits_for_new_orders_is_not_wrong(shop: Shop) -> None:
    shop.order("o4", 1, "7")
    assert money(shop).passed
    shop.lake.open(revenue.TABLE).delete("currency = 'EUR' AND day = '2026-01-11'")
    assert not money(shop).passed
    shop.compute()
    assert money(shop).description == "4 orders told; 0 days differ"


def test_every_order_has_its_sale(shop: Shop) -> None:
    shop.delete("o2")
    check = check_of(orders.TABLE)
    verdict = check.judge(shop.platform, orders.TABLE, EVER)
    assert verdict.description == "2 orders above, 2 sales; 0 rows have no counterpart"
    shop.lake.open(orders.TABLE).delete("order_id = 'o3'")
    verdict = check.judge(shop.platform, orders.TABLE, EVER)
    assert (verdict.passed, verdict.description) == (
        False,
        "2 orders above, 1 sales; 1 rows have no counterpart",
    )


def test_orders_are_compared_as_of_one_version(shop: Shop) -> None:
    """`silver/orders` is brought up to date before `gold/orders`: in between it is looked at as it was."""
    lake, there = shop.lake, standing_orders.DIMENSION.table
    writer = Writer(lake, there)
    writer.progress("silver/row_changes")
    rows = lake.scan(there).filter(pl.col("order_id") == "o1").collect().with_columns(order_id=pl.lit("o9"))
    level = lake.open(there).transaction_version("silver/row_changes")
    assert level is not None
    writer.commit(rows, {"silver/row_changes": level + 1})
    check = check_of(orders.TABLE)
    assert check.judge(shop.platform, orders.TABLE, EVER).description.startswith("3 orders above, 3 sales; 0 rows")


def test_a_reference_is_judged_by_what_is_there(tmp_path: Path) -> None:
    lake = facts.new_lake(tmp_path / "lake")
    viewed = {"event_name": "product_viewed"}
    named = [f"p{number}" for number in (1, 1, 1, 2)]
    sent = [event(f"e{n}", n, properties={"product_id": product}, **viewed) for n, product in enumerate(named)]
    facts.act(lake, [*sent, event("other", 5)])
    facts.settle(lake)
    where, check = facts.platform(lake), check_of(fact_events.TABLE, "references")
    nobody = check.judge(where, fact_events.TABLE, facts.ALL)
    assert nobody.passed
    assert "product_id → silver/products: it has no rows, not judged" in nobody.description

    product = {"product_id": "p1", "category": "hats", "price": "9.50", "currency": "EUR"}
    facts.tell(lake, change("products", "c", 10, -60, product))
    Dimensions(lake).catch_up()
    assert lake.scan(products.DIMENSION.table).collect().height == 1
    verdict = check.judge(where, fact_events.TABLE, facts.ALL)
    assert not verdict.passed
    assert "product_id → silver/products: 1 of 4 rows refer to nothing" in verdict.description
    assert "'refers_to': 'p2', 'rows': 1" in (verdict.sample or "")
    assert check.severity.value == "WARN"

    assert check.one_by_one, "a share may be wrong: of a range, one hour would make up for another"
    tolerant = replace(fact_events.TABLE, references=(replace(fact_events.TABLE.references[0], share=0.25),))
    assert check.judge(where, tolerant, facts.ALL).passed


def test_keys_of_a_dimension_are_judged(shop: Shop) -> None:
    table = standing_orders.DIMENSION.table
    check = check_of(table, "unique_key")
    assert check.judge(shop.platform, table, EVER).passed
    shop.lake.append(table, shop.lake.scan(table).collect().head(1))
    assert not check.judge(shop.platform, table, EVER).passed


def test_a_wrong_table_that_is_rebuilt_stops_what_comes_after() -> None:
    blocking = {c.table.name: c.blocking for c in checks_of([c[0] for c in CASES]) if c.name == "conservation"}
    assert {name for name, stops in blocking.items() if stops} >= {
        "gold/fact_events",
        "silver/activity_hours",
        "gold/active_users",
        "gold/active_users_by_slice",
        "gold/conversions",
    }
    assert not blocking["gold/live_metrics"], "the stream is never stopped by a check"
