"""Revenue and conversions in the ledger: what was said by currency and channel, and why it is another now."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from local_stack.why import answer
from partitions import Window
from platform_assets.gold import conversions, revenue, revenue_by_slice, sessions
from platform_assets.gold.published_numbers import TABLE, explained, history, publish
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.metadata import partition_metadata, whole_metadata
from platform_assets.semantics.conversions import MODELS
from platform_assets.silver import persons
from platform_assets.tables import RESTATED
from support.journeys import LAST_DAY, Happened, act, compute_hours, platform
from support.records import START as FIRST_EVENT
from support.sales import START, Shop

EUROS = "currency=EUR"
FIRST = START.date()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Two orders of the first day in euros, of buyers of two cohorts, and one in dollars; told on that day."""
    made = Shop.begin(tmp_path)
    made.order("before", -35, user="ben")
    made.now = START + timedelta(hours=12)
    made.order("o1", 0.25, "10")
    made.order("o2", 0.3, "20.50", user="ben")
    made.order("o3", 0.3, "7", currency="USD")
    follow(made)
    return made


def follow(shop: Shop) -> None:
    """Compute what is stale or has ripened, and publish it."""
    (restated,) = (one for one in RESTATED if one.table is shop.number.table)
    assert restated.publishes is not None
    ledger = shop.lake.scan(computations.TABLE).collect()
    shop.compute(*sorted({*shop.stale(), *restated.ripened(shop.platform, ledger)}))
    publish(shop.platform, restated.publishes)


def told(shop: Shop, column: str, day: date = FIRST, slices: str = EUROS) -> list[tuple[Decimal, list[str]]]:
    table = shop.number.table.name.removeprefix("gold/")
    rows = history(shop.platform, f"{table}.{column}", shop.window(day), slices)
    return rows.select("value", "causes").rows()


def test_cohorts_of_a_day_are_one_number_by_currency(shop: Shop) -> None:
    assert shop.lake.scan(revenue.TABLE).filter(day=FIRST, currency="EUR").collect().height == 2
    first = ["first publication"]
    said = {column: told(shop, column) for column in ("net", "sales", "refunds", "orders", "buyers")}
    assert said == {
        "net": [(Decimal("30.5"), first)],
        "sales": [(Decimal("30.5"), first)],
        "refunds": [(0, first)],
        "orders": [(2, first)],
        "buyers": [(2, first)],
    }
    assert told(shop, "net", slices="currency=USD") == [(7, first)]
    (row,) = history(shop.platform, "revenue.net", shop.window(FIRST), EUROS).iter_rows(named=True)
    assert row["watermark"] == START + timedelta(hours=11, minutes=45), "that of the changes; there is no event"
    assert (row["is_closed"], row["is_final"], row["is_person_final"]) == (False, False, False)
    assert row["expected_late_share"] is None
    assert row["definition_version"] == "1"
    assert set(json.loads(row["source_versions"])) == {"gold/revenue", "gold/orders", "silver/persons"}


def test_each_change_has_its_cause(shop: Shop) -> None:
    day = timedelta(days=1)
    shop.now = START + 14 * day / 24
    shop.order("o4", 0.55, "1")
    follow(shop)
    shop.now = START + 40 * day
    shop.touch()
    follow(shop)
    shop.order("late", 0.9, "100", user="carl")
    follow(shop)
    shop.order("o1", 0.25, "12")
    follow(shop)
    shop.refund("o2")
    follow(shop)
    shop.delete("o4")
    follow(shop)
    shop.order("late", 0.9, "100", user="dora", currency="USD")
    follow(shop)
    changed = ["dimension change"]
    assert told(shop, "net") == [
        (Decimal("30.5"), ["first publication"]),
        (Decimal("31.5"), ["new events"]),
        (Decimal("31.5"), ["finality"]),
        (Decimal("131.5"), ["late events"]),
        (Decimal("133.5"), changed),
        (Decimal("132.5"), changed),
        (Decimal("32.5"), changed),
    ]
    assert told(shop, "net", slices="currency=USD")[-1] == (107, changed)
    assert told(shop, "net", shop.now.date()) == [(Decimal("-20.5"), ["first publication"])], "a refund is of its day"
    assert told(shop, "orders")[-1] == (2, changed)
    last = history(shop.platform, "revenue.net", shop.window(FIRST), EUROS).row(-1, named=True)
    assert (last["is_closed"], last["is_final"], last["is_person_final"]) == (True, False, False)
    sentence = explained(shop.platform, "revenue.net", shop.window(FIRST), EUROS).sentence
    assert sentence.startswith("revenue.net of 2026-01-10 (currency=EUR) was first published as 30.5 ")
    assert sentence.endswith("32.5 now. Its window is closed; the database may change it at any time.")


def test_a_merge_moves_buyers_and_no_money(shop: Shop) -> None:
    # Both bought on the first day. What a login or an alias touches is told by days of activity.
    shop.merge("ben", "anna")
    active = pl.DataFrame([(FIRST, 1, 1)], schema=persons.CHANGES.schema, orient="row")
    shop.lake.append(persons.CHANGES, active)
    shop.order("o1", 0.25, "11")
    follow(shop)
    assert told(shop, "buyers")[1:] == [(1, ["identity merge", "dimension change"])]
    assert told(shop, "net")[1:] == [(Decimal("31.5"), ["dimension change"])]


def test_another_plan_moves_money_between_slices(shop: Shop) -> None:
    day = timedelta(days=1)
    shop.number, shop.now = revenue_by_slice.NUMBER, START + day
    shop.account("anna", "DE", "free")
    shop.order("o4", 5, "50")
    shop.order("o5", 5, "1", user="ben")
    follow(shop)
    fifth, first = FIRST + 5 * day, ["first publication"]
    plans = {plan: f"{EUROS},dimension=plan,value{plan}" for plan in ("=free", "=pro", "")}
    assert told(shop, "net", fifth, plans["=free"]) == told(shop, "net", fifth, f"{EUROS},dimension=country,value=DE")
    assert told(shop, "net", fifth, plans["=free"]) == [(50, first)]
    assert told(shop, "net", fifth, plans[""]) == [(1, first)], "nobody knows ben's account"
    shop.now += day
    shop.account("anna", "DE", "pro")
    follow(shop)
    changed = ["dimension change"]
    assert told(shop, "net", fifth, plans["=free"]) == [(50, first), (0, changed)]
    assert told(shop, "net", fifth, plans["=pro"]) == [(50, first)]
    assert told(shop, "net", fifth, f"{EUROS},dimension=country,value=DE") == [(50, first)]
    shop.order("o6", 5, "2")
    follow(shop)
    assert told(shop, "net", fifth, plans["=pro"])[1:] == [(52, ["new events"])]
    rows = history(shop.platform, "revenue_by_slice.net", shop.window(fifth), plans["=pro"])
    read = {"gold/revenue_by_slice", "gold/orders", "silver/persons", "silver/users"}
    assert set(json.loads(rows["source_versions"][-1])) == read


def test_a_row_that_is_only_told_again_is_no_change(shop: Shop) -> None:
    before = shop.lake.scan(TABLE).collect()
    shop.order("o1", 0.25, "10")
    shop.touch()
    assert shop.stale() == []
    shop.compute(FIRST)
    assert publish(shop.platform, revenue.PUBLISHES).is_empty()
    assert shop.lake.scan(TABLE).collect().equals(before)


def test_a_currency_that_goes_is_nothing(shop: Shop) -> None:
    shop.delete("o3")
    follow(shop)
    assert told(shop, "net", slices="currency=USD")[-1] == (0, ["dimension change"])
    assert publish(shop.platform, revenue.PUBLISHES).is_empty()


def said(where: Platform, metric: str, day: date, slices: str = "") -> tuple[int, str]:
    """What `headwater why` says."""
    console = Console(file=StringIO(), width=250, soft_wrap=True)
    status = answer(where.settings.model_copy(update={"lake_url": where.lake.url}), console, metric, day, slices)
    assert isinstance(console.file, StringIO)
    return status, console.file.getvalue()


def test_why_and_what_the_ui_shows(shop: Shop) -> None:
    shop.order("o1", 0.25, "12")
    follow(shop)
    status, text = said(shop.platform, "revenue.net", FIRST, EUROS)
    assert (status, "+2 for dimension change" in text) == (0, True)
    status, text = said(shop.platform, "revenue.net", FIRST)
    assert status == 1
    assert "it is published --slice currency=EUR, --slice currency=USD" in text
    shown = whole_metadata(shop.platform, TABLE)["changes"].value
    assert f"revenue.net of {FIRST} (currency=EUR): +2 to 32.5 for dimension change" in str(shown)
    (metadata,) = partition_metadata(shop.platform, revenue.TABLE, [str(FIRST)]).values()
    assert str(metadata["net"].value).startswith("![plot](data:image/png;base64,")
    assert (metadata["closed"].value, metadata["final"].value) == (False, False)


# Conversions.


def order(number: int, minute: int, amount: str | None = "10.00") -> Happened:
    properties = {"order_id": f"o{number}", "amount": amount, "currency": "EUR"} if amount else {"order_id": "free"}
    return Happened(number, minute, "d1", None, "order_completed", {"properties": properties})


def touch(number: int, minute: int, medium: str) -> Happened:
    return Happened(number, minute, "d1", None, more={"utm_source": "s", "utm_medium": medium})


def settle(where: Platform) -> None:
    compute_hours(where)
    modules: tuple[Any, ...] = (sessions, conversions)
    for module in modules:
        for day in sorted(module.stale(where, where.lake.scan(computations.TABLE).collect(), LAST_DAY)):
            module.rebuild(where, Window.of_days(day, day, where.settings.zone))
    publish(where, conversions.PUBLISHES)


def test_conversions_by_model_channel_and_currency(tmp_path: Path) -> None:
    where = platform(tmp_path)
    day = 24 * 60
    happened = [touch(0, 0, "cpc"), touch(1, 300, "email"), order(2, day), order(3, day + 5), order(4, day + 9, None)]
    act(where, happened)
    settle(where)
    second = FIRST_EVENT.date() + timedelta(days=1)
    window = Window.of_days(second, second, where.settings.zone)

    def of(column: str, model: str, channel: str, currency: str = "currency=EUR") -> list[Any]:
        slices = f"channel={channel},{currency},model={model}"
        return history(where, f"conversions.{column}", window, slices).select("value", "causes").rows()

    first = ["first publication"]
    assert of("amount", "last_touch", "email") == [(20, first)]
    assert of("amount", "linear", "cpc") == of("amount", "linear", "email") == [(10, first)]
    assert of("credit", "linear", "cpc") == [(1, first)]
    assert of("credit", "last_touch", "email", "currency") == [(1, first)], "an order without an amount is an order"
    assert of("amount", "last_touch", "email", "currency") == [(None, first)], "what nobody knows is not nothing"
    rows = where.lake.scan(TABLE).filter(metric="conversions.credit", window_start=window.start).collect()
    assert set(rows["slice"].str.extract(r"model=(\w+)")) == set(MODELS)
    by_model = rows.group_by(pl.col("slice").str.extract(r"model=(\w+)")).agg(pl.col("value").sum())
    assert set(by_model["value"]) == {Decimal(3)}, "each model adds up to the orders"

    act(where, [*happened, touch(5, 600, "social")])
    settle(where)
    assert of("amount", "last_touch", "email")[1:] == [(0, ["late events"])]
    assert of("amount", "last_touch", "social") == [(20, first)]
    assert set(where.lake.scan(TABLE).select("source_table").collect()["source_table"]) == {conversions.TABLE.name}
    (metadata,) = partition_metadata(where, conversions.TABLE, [str(second)]).values()
    assert str(metadata["credit"].value).startswith("![plot](data:image/png;base64,")
