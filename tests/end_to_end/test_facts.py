"""Facts through Dagster's own API: attributes as of the event, and restatement of what a change of them touches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from partitions import Window
from platform_assets.changes.following import rebuild as rebuild_dimension
from platform_assets.gold import fact_events
from platform_assets.ops import computations
from platform_assets.silver import dimension_changes, persons, users
from sensors.restatement import fact_restatements, restate_facts
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
        change("users", "c", 10, -60, user("anna")),
        change("products", "c", 20, -60, product("p1", "hats", "9.50")),
        change("users", "u", 30, PLAN_CHANGES, user("anna", "plus")),
        change("devices", "c", 40, 0, {"anonymous_id": "a0", "device_type": "phone", "app_version": "7"}),
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
    change_rows(run, change("products", "u", 50, 600, product("p1", "caps", "11.00")))
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


def hour(number: int) -> str:
    return f"{at(number * 60):%Y-%m-%d-%H:00}"


def computed_since(run: Run, count: int) -> set[datetime]:
    """The hours of facts that were computed after so many entries of the ledger."""
    ledger = run.lake.scan(computations.TABLE).filter(table=fact_events.TABLE.name).sort("computed_at").collect()
    spans = ledger[count:].select("window_start", "window_end").rows()
    return {at(n * 60) for n in range(14) for start, end in spans if start <= at(n * 60) < end}


def entries(run: Run) -> int:
    return run.lake.scan(computations.TABLE).filter(table=fact_events.TABLE.name).collect().height


def contents(run: Run) -> pl.DataFrame:
    return run.lake.scan(fact_events.TABLE).sort("event_id").collect()


def test_new_hours_are_asked_for_beside_the_chain_of_days(run: Run) -> None:
    assert [request.job_name for request in run.requested()] == ["restate_hours"]
    assert run.restate(fact_restatements) == [("restate_facts", hour(0), hour(3))]
    assert plans(run)["anna-2"] == "plus"
    act(run, event("anna-5", 310, user_id="anna"))
    run.now += timedelta(days=1)
    assert run.restate(fact_restatements) == [("restate_facts", hour(5), hour(5))]
    assert plans(run)["anna-5"] == "plus"
    assert [request.job_name for request in run.requested()] == ["restate_hours"]


def test_a_late_change_restates_the_hours_that_it_touches_and_no_other(run: Run) -> None:
    act(run, event("ben-1", 80, user_id="ben"))
    run.restate(fact_restatements)
    run.now += timedelta(days=1)
    before, count = contents(run), entries(run)
    change_rows(run, change("users", "u", 24, 72, user("anna", "trial")))  # until the 90th minute: no event of hers
    assert run.requested(fact_restatements) == []
    change_rows(run, change("users", "u", 22, 30, user("anna", "trial")))
    requests = run.requested(fact_restatements)
    assert [list(request.tags.values()) for request in requests] == [[hour(1), hour(1)]]
    assert run.restate(fact_restatements) == [("restate_facts", hour(1), hour(1))]
    assert computed_since(run, count) == {at(60)}
    assert plans(run)["anna-1"] == "trial"
    told = run.lake.scan(dimension_changes.TABLE).filter(dimension="silver/users").sort("change").collect()
    assert told["event_hours"].to_list()[-2:] == [[], [at(60)]]
    assert told.select("since", "until").rows()[-1] == (at(30), at(72))
    unlike = contents(run).join(before, on=before.columns, how="anti", nulls_equal=True)
    assert unlike["event_id"].to_list() == ["anna-1"]


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


def test_a_dimension_computed_anew_restates_what_it_touches(run: Run) -> None:
    run.restate(fact_restatements)
    run.now += timedelta(days=1)
    wanted = contents(run)
    run.lake.open(users.DIMENSION.table).delete("plan = 'plus'")
    fact_events.rebuild(run.platform, ALL)
    assert plans(run)["anna-3"] is None
    run.now += timedelta(days=1)
    assert run.requested(fact_restatements) == []
    count = entries(run)
    rebuild_dimension(users.DIMENSION, run.platform)
    assert run.restate(fact_restatements) == [("restate_facts", hour(1), hour(3))]
    assert computed_since(run, count) == {at(60), at(120), at(180)}
    assert contents(run).equals(wanted)
    rebuild_dimension(users.DIMENSION, run.platform)
    run.now += timedelta(days=1)
    assert run.requested(fact_restatements) == []


def test_facts_are_asked_for_once_at_a_time(run: Run) -> None:
    assert len(run.requested(fact_restatements)) == 1
    run.instance.add_run(dg.DagsterRun(job_name=restate_facts.name, status=dg.DagsterRunStatus.STARTED))
    assert run.requested(fact_restatements) == []
