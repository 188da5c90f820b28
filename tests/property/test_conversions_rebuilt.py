"""Whatever the order of events and rebuilds, conversions are those of one batch, and each order counts once.

Orders whose events are repeated on other days, and campaigns before and after them, taken in by any slices. What was
converted is computed here by plain Python; how it is shared out, by `semantics.conversions` over all at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.gold import conversions, fact_events, sessions
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.semantics.conversions import MODELS, attributed
from platform_assets.semantics.engines import collected
from platform_assets.table import contract
from support.journeys import DAYS, END, LAST_DAY, Happened, act, compute_hours, platform
from support.records import START, at

MINUTES = DAYS * 24 * 60


def order(number: int, minute: int, order_id: str, amount: str = "10.00", device: str = "d1") -> Happened:
    properties = {"order_id": order_id, "amount": amount, "currency": "EUR"}
    return Happened(number, minute, device, None, "order_completed", {"properties": properties})


def touch(number: int, minute: int, source: str, device: str = "d1") -> Happened:
    return Happened(number, minute, device, None, more={"utm_source": source, "utm_medium": "cpc"})


def login(number: int, minute: int, user: str, device: str = "d1") -> Happened:
    return Happened(number, minute, device, user)


def stale(where: Platform, module: Any) -> list[date]:
    return sorted(module.stale(where, where.lake.scan(computations.TABLE).collect(), LAST_DAY))


def compute(where: Platform, module: Any, days: Sequence[date]) -> None:
    for day in days:
        module.rebuild(where, Window.of_days(day, day, where.settings.zone))


def settle(where: Platform) -> list[date]:
    """Compute all that is stale. Returns the days of conversions computed."""
    compute_hours(where)
    compute(where, sessions, stale(where, sessions))
    days = stale(where, conversions)
    compute(where, conversions, days)
    assert (stale(where, sessions), stale(where, conversions)) == ([], []), "stale after having been computed"
    return days


def stored(where: Platform) -> pl.DataFrame:
    rows = where.lake.scan(conversions.TABLE).collect().sort("order_id", "model", "touch")
    assert not rows.select(conversions.TABLE.key).is_duplicated().any()
    return contract(conversions.TABLE).validate(rows)


def amounts(happened: Sequence[Happened]) -> dict[str, Decimal]:
    """What was converted: of each order what its first event says."""
    found: dict[str, Decimal] = {}
    for one in sorted(happened, key=lambda one: (one.minute, one.number)):
        if one.name == "order_completed":
            properties: Any = one.more["properties"]
            found.setdefault(properties["order_id"], Decimal(properties["amount"]))
    return found


def assert_one_batch(where: Platform, happened: Sequence[Happened]) -> pl.DataFrame:
    found, converted = stored(where), amounts(happened)
    for model in MODELS:
        of_model = found.filter(model=model).group_by("order_id").agg(pl.col("amount").sum())
        assert dict(of_model.iter_rows()) == converted
    facts = fact_events.joined_facts(where, Window(START - timedelta(days=1), END + timedelta(days=1)))
    first = (
        facts.filter(event_name="order_completed")
        .sort("occurred_at", "event_id")
        .unique("order_id", keep="first", maintain_order=True)
        .with_columns(amount=pl.col("order_id").replace_strict(converted, return_dtype=pl.Decimal(18, 6)))
    )
    seen = where.lake.scan(sessions.TABLE).filter(pl.col("campaign_at").is_not_null())
    wanted = collected(
        attributed(
            first.rename({"occurred_at": "converted_at"}),
            seen.select("person_id", touch_id="session_id", touched_at="campaign_at"),
        )
    ).with_columns(pl.col("touch").fill_null(0))
    names = ["order_id", "model", "touch", "touches", "person_id", "converted_at", "touched_at", "credit", "amount"]
    assert found.select(names).equals(wanted.select(names).sort("order_id", "model", "touch"))
    days = found["converted_at"].dt.convert_time_zone(where.settings.reporting_timezone).dt.date()
    assert found["day"].equals(days.alias("day"))
    return found


@st.composite
def worlds(draw: st.DrawFn) -> list[Happened]:
    def one(number: int) -> Happened:
        minute = draw(st.integers(0, MINUTES - 1))
        device = draw(st.sampled_from(["d1", "d2"]))
        kind = draw(st.sampled_from(["order", "order", "touch", "touch", "login"]))
        if kind == "order":
            amount = draw(st.sampled_from(["10.00", "0.01", "99.999999"]))
            return order(number, minute, draw(st.sampled_from(["o1", "o'2"])), amount, device)
        if kind == "touch":
            return touch(number, minute, draw(st.sampled_from(["a", "b"])), device)
        return login(number, minute, draw(st.sampled_from(["anna", "ben"])), device)

    return [one(number) for number in range(draw(st.integers(1, 14)))]


scripts = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(1, 8)),
        st.tuples(st.just("sessions"), st.integers(0, DAYS)),
        st.tuples(st.just("conversions"), st.integers(0, DAYS)),
        st.tuples(st.sampled_from(["hours", "settle"]), st.just(0)),
    ),
    max_size=6,
)


def check(happened: list[Happened], script: list[tuple[str, int]], zone: str, folder: Path) -> None:
    where, sent = platform(folder, zone), 0
    for what, number in [*script, ("act", len(happened)), ("settle", 0)]:
        if what == "act":
            sent = min(len(happened), sent + number)
            act(where, happened[:sent])
        elif what == "hours":
            compute_hours(where)
        elif what == "settle":
            settle(where)
        else:
            compute(where, {"sessions": sessions, "conversions": conversions}[what], [day(number)])
    found = assert_one_batch(where, happened)
    compute(where, conversions, sorted(found["day"].unique(), reverse=True))
    assert stored(where).equals(found)


def day(number: int) -> date:
    return START.date() + timedelta(days=number)


LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}


@settings(max_examples=2, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts, st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_conversions_are_those_of_one_batch(happened: list[Happened], script: list[tuple[str, int]], zone: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(happened, script, zone, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=6, **LIMITS)  # type: ignore[arg-type]
@given(worlds(), scripts, st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_conversions_are_those_of_one_batch_at_length(
    happened: list[Happened], script: list[tuple[str, int]], zone: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(happened, script, zone, Path(folder))


NOON = 2 * 60 + 12 * 60
"""Of the second day."""
A_DAY = 24 * 60


@pytest.fixture
def where(tmp_path: Path) -> Platform:
    return platform(tmp_path / "lake")


def test_an_order_moves_to_the_day_of_its_first_event(where: Platform) -> None:
    late, early = order(0, NOON + 2 * A_DAY, "o1", "7.00"), order(1, NOON, "o1", "5.00")
    act(where, [late])
    settle(where)
    assert stored(where)["day"].unique().to_list() == [day(3)]
    act(where, [late, early])
    settle(where)
    found = assert_one_batch(where, [late, early])
    assert found.select("day", "amount", "channel", "currency").unique().rows() == [
        (day(1), Decimal("5.000000"), "direct", "EUR")
    ]


def test_an_order_moves_between_days_that_no_look_back_joins(where: Platform) -> None:
    patient = replace(where, settings=where.settings.model_copy(update={"allowed_lateness": timedelta(days=90)}))
    lake, then = where.lake, day(1 - 40)
    late, early = order(0, NOON, "o1", "7.00"), order(1, NOON - 40 * A_DAY, "o1", "5.00")
    act(patient, [late])
    settle(patient)
    act(patient, [late, early])
    assert settle(patient) == [then]
    assert stored(patient).select("day", "amount").unique().rows() == [(then, Decimal("5.000000"))]

    # The earlier event goes again, as with an erasure.
    span = Window.of_days(then, then, where.settings.zone)
    lake.replace(fact_events.TABLE, lake.open(fact_events.TABLE), fact_events.TABLE.empty(), span)
    conversions.rebuild(patient, span)
    assert stored(patient).select("day", "amount").unique().rows() == [(day(1), Decimal("7.000000"))]


def test_a_late_campaign_restates_the_conversions_after_it(where: Platform) -> None:
    sold = [order(0, NOON, "o1"), order(1, NOON + 2 * A_DAY, "o2")]
    act(where, sold)
    settle(where)
    assert set(stored(where)["channel"]) == {"direct"}
    another = Happened(3, NOON + A_DAY, "d2", None)
    act(where, [*sold, another])
    assert settle(where) == [day(2)]  # a visit without a campaign explains nothing
    everything = [*sold, another, touch(2, NOON + A_DAY, "mail")]
    act(where, everything)
    assert settle(where) == [day(2), day(3)]
    found = assert_one_batch(where, everything).filter(model="last_touch")
    assert found.select("order_id", "channel", "utm_source", "touches", "touched_at").rows() == [
        ("o1", "direct", None, 0, None),
        ("o2", "cpc", "mail", 1, at(NOON + A_DAY)),
    ]


def test_a_campaign_after_the_order_of_its_session_does_not_count(where: Platform) -> None:
    happened = [order(0, NOON, "o1"), touch(1, NOON + 1, "mail"), order(2, NOON + 1, "o2")]
    act(where, happened)
    settle(where)
    assert where.lake.scan(sessions.TABLE).collect().height == 1
    found = assert_one_batch(where, happened).filter(model="linear")
    assert dict(found.select("order_id", "utm_source").iter_rows()) == {"o1": None, "o2": "mail"}
