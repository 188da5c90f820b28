"""Facts through Dagster's own API: attributes as of the event, and restatement of what a change of them touches."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from partitions import Window
from platform_assets.gold import fact_events
from platform_assets.silver import persons
from support.changes import TOPIC, change, records, user
from support.platforms import Run
from support.records import START, at, encoded, event, frame

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = Window(START, NOW)
PLAN_CHANGES = 90
"""Minutes after `START` at which Anna's plan changes."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Anna buys plus after an hour and a half; a product; events of both, one an hour."""
    made = Run.over(tmp_path, [], NOW, oltp_changes_topic=TOPIC)
    made.source.partitions = {**made.source.partitions, TOPIC: 1}
    change_rows(
        made,
        change("users", "c", 1, -60, user("anna")),
        change("products", "c", 2, -60, product("p1", "hats", "9.50")),
        change("users", "u", 3, PLAN_CHANGES, user("anna", "plus")),
        change("devices", "c", 4, 0, {"anonymous_id": "a0", "device_type": "phone", "app_version": "7"}),
    )
    act(
        made,
        *(event(f"anna-{hour}", hour * 60 + 10, user_id="anna") for hour in range(4)),
        event("anna-then", PLAN_CHANGES, user_id="anna"),
        event("nobody", 20, properties={"product_id": "p1"}, event_name="product_viewed"),
        event("robot", 20, user_id="anna", is_bot=True),
        event("tester", 20, user_id="anna", is_test=True),
    )
    return made


def product(product_id: str, category: str, price: str) -> dict[str, Any]:
    return {"product_id": product_id, "category": category, "price": price, "currency": "EUR"}


def change_rows(run: Run, *values: dict[str, Any]) -> None:
    """Let the database's changes arrive, and be taken in."""
    first = run.source.held(TOPIC)[0].high
    made = frame(records(values)).with_columns(pl.col("offset") + first)
    run.source.records = pl.concat([run.source.records, made])
    run.execute("advance_changes")


def act(run: Run, *events: dict[str, object]) -> None:
    """Let events arrive, and be taken in."""
    run.send([(encoded(fields), at(60 * 12)) for fields in events])
    run.drain()


def plans(run: Run) -> dict[str, str | None]:
    facts = run.lake.scan(fact_events.TABLE).filter(pl.col("user_id") == "anna")
    return dict(facts.select("event_id", "user_plan").sort("event_id").collect().iter_rows())


def test_facts_have_the_attributes_of_their_time(run: Run) -> None:
    fact_events.rebuild(run.platform, ALL)
    assert plans(run) == {"anna-0": "free", "anna-1": "free", "anna-then": "plus", "anna-2": "plus", "anna-3": "plus"}
    viewed = run.lake.scan(fact_events.TABLE).filter(event_id="nobody").collect().row(0, named=True)
    assert (viewed["raw_id"], viewed["product_id"], viewed["product_category"]) == ("a:a0", "p1", "hats")
    assert (viewed["product_price"], viewed["product_currency"]) == (Decimal("9.5"), "EUR")
    assert viewed["user_plan"] is None


def test_persons_and_what_is_known_today_are_joined_late(run: Run) -> None:
    fact_events.rebuild(run.platform, ALL)
    change_rows(run, change("products", "u", 5, 600, product("p1", "caps", "11.00")))
    run.restate()
    assert not run.lake.scan(persons.TABLE).collect().is_empty()
    joined = fact_events.joined_facts(run.platform, ALL).collect()
    assert joined.height == run.lake.scan(fact_events.TABLE).collect().height == 6
    viewed = joined.filter(event_id="nobody").row(0, named=True)
    assert viewed["person_id"] == "u:anna"
    assert (viewed["product_category"], viewed["current_product_category"]) == ("hats", "caps")
    assert (viewed["product_price"], viewed["current_product_price"]) == (Decimal("9.5"), Decimal(11))
    assert (viewed["current_user_plan"], viewed["current_product_currency"]) == (None, "EUR")
    assert (viewed["device_device_type"], viewed["device_app_version"]) == ("phone", "7")
    first = joined.filter(event_id="anna-0").row(0, named=True)
    assert (first["user_plan"], first["current_user_plan"], first["current_user_country"]) == ("free", "plus", "DE")


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("p1", "p1"),
        (7, "7"),
        (None, None),
        ({"id": "p1"}, None),
        (["p1"], None),
        (True, None),
        ("[object Object]", None),
        ("", ""),
    ],
)
def test_a_property_that_is_no_text_and_no_number_is_none(run: Run, value: object, taken: str | None) -> None:
    act(run, event("odd", 30, properties={"product_id": value, "variant": "b", "nested": {"order_id": "o1"}}))
    fact_events.rebuild(run.platform, ALL)
    odd = run.lake.scan(fact_events.TABLE).filter(event_id="odd")
    assert odd.select("product_id", "variant", "order_id").collect().row(0) == (taken, "b", None)


def test_a_day_of_many_events_is_computed_hour_by_hour(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fact_events.rebuild(run.platform, ALL)
    wanted = run.lake.scan(fact_events.TABLE).sort("event_id").collect()
    before = run.lake.open(fact_events.TABLE).version()
    monkeypatch.setattr(fact_events, "_ROWS_AT_ONCE", 6)
    fact_events.rebuild(run.platform, ALL)
    assert run.lake.open(fact_events.TABLE).version() == before + 14
    assert run.lake.scan(fact_events.TABLE).sort("event_id").collect().equals(wanted)
