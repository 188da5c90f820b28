"""Whatever comes to orders: the days told stale are those that a computation of everything differs in."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from platform_assets.gold import orders, revenue, revenue_by_slice
from platform_assets.gold.order_numbers import OrderNumber
from support.sales import START, Shop

NAMES = st.sampled_from(["o1", "o2", "o3", "o4"])
USERS = st.sampled_from(["anna", "ben", "carl"])
DAYS = st.sampled_from([-35.0, -10.5, -0.01, 0.0, 0.99, 1.0, 25.0])
"""Of two months' ends, and about midnight."""

ACTS = st.one_of(
    st.tuples(
        st.just("order"),
        NAMES,
        DAYS,
        st.sampled_from(["10", "0.01", "99.999999"]),
        st.none() | USERS,
        st.sampled_from(["EUR", "EUR", "USD"]),
    ),
    st.tuples(st.just("refund"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("merge"), USERS, USERS),
    st.tuples(st.just("account"), USERS, st.sampled_from(["DE", "FR"]), st.sampled_from(["free", "pro"])),
    st.tuples(st.just("touch")),
    st.tuples(st.just("compute"), st.integers(-36, 26)),
    st.tuples(st.just("settle")),
)


ZONES = st.sampled_from(["UTC", "America/St_Johns"])
NUMBERS = st.sampled_from([revenue.NUMBER, revenue_by_slice.NUMBER])


def act(shop: Shop, what: str, *how: Any) -> None:
    if what == "compute":
        shop.compute(START.date() + timedelta(days=how[0]))
    elif what == "settle":
        shop.compute()
    elif what != "merge" or how[0] != how[1]:
        getattr(shop, what)(*how)


def differing(shop: Shop, zone: ZoneInfo) -> list[date]:
    """The days in which the table is not what plain loops over all orders make of them."""
    return sorted({row[0] for row in shop.stored() ^ shop.wanted(zone)})


def check(acts: list[tuple[Any, ...]], zone: str, number: OrderNumber, folder: Path) -> None:
    shop = Shop.begin(folder, zone, number)
    for what, *how in [*acts, ("settle",)]:
        shop.now += timedelta(hours=7)
        act(shop, what, *how)
        assert shop.stale() == differing(shop, ZoneInfo(zone))
    assert shop.stored() == shop.wanted(ZoneInfo(zone))
    assert shop.stale() == []


LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}


@settings(max_examples=3, **LIMITS)  # type: ignore[arg-type]
@given(st.lists(ACTS, max_size=7), ZONES, NUMBERS)
def test_stale_days_are_those_that_differ(acts: list[tuple[Any, ...]], zone: str, number: OrderNumber) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(acts, zone, number, Path(folder))


@pytest.mark.slow
@settings(max_examples=10, **LIMITS)  # type: ignore[arg-type]
@given(st.lists(ACTS, max_size=10), ZONES, NUMBERS)
def test_stale_days_are_those_that_differ_at_length(
    acts: list[tuple[Any, ...]], zone: str, number: OrderNumber
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(acts, zone, number, Path(folder))


def test_a_cohort_that_moves_reaches_every_day_of_its_buyer(tmp_path: Path) -> None:
    shop = Shop.begin(tmp_path)
    shop.order("o1", 0)
    shop.order("o2", 25)
    shop.order("other", 25, user="ben")
    shop.compute()
    assert shop.stale() == []
    shop.order("earlier", -35)
    assert shop.stale() == [START.date() + timedelta(days=days) for days in (-35, 0, 25)]


def test_another_plan_reaches_what_is_sold_and_refunded_from_then_on(tmp_path: Path) -> None:
    shop = Shop.begin(tmp_path, number=revenue_by_slice.NUMBER)
    shop.account("anna", "DE", "free")
    shop.order("before", -1)
    shop.order("o1", 1)
    shop.order("o2", 3)
    shop.compute()
    shop.now += timedelta(days=2)
    shop.account("anna", "DE", "pro")
    assert shop.stale() == [START.date() + timedelta(days=3)]
    shop.now += timedelta(days=2)
    shop.refund("o1")
    shop.compute()
    assert shop.stored() == shop.wanted(ZoneInfo("UTC"))
    plans = {((row[0] - START.date()).days, row[3]) for row in shop.stored() if row[2] == "plan"}
    assert plans == {(-1, "free"), (1, "free"), (3, "pro"), (4, "pro")}, "before all as it was first known"


def test_orders_are_read_only_where_something_changed(tmp_path: Path) -> None:
    shop = Shop.begin(tmp_path)
    shop.order("o1", 0)
    shop.compute()
    shop.order("o2", 1)
    told = shop.stale()
    files = [*(tmp_path / "lake" / orders.TABLE.name).rglob("*.parquet")]
    for file in files:
        file.rename(file.with_suffix(".away"))
    assert shop.stale() == told == [START.date() + timedelta(days=1)]
    shop.touch()
    assert shop.stale() == told, "another version of the same orders is nothing new"
    with pytest.raises(FileNotFoundError):
        shop.compute()
