"""Conversions and their attribution, against hand-worked shares and against fractions shared out one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from platform_assets.semantics.conversions import MODELS, Attribution, attributed, deduplicated
from platform_assets.semantics.engines import collected
from platform_assets.table import MONEY, TIMESTAMP
from support.engines import Native

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CONVERSIONS = pl.Schema({"order_id": pl.String(), "person_id": pl.String(), "converted_at": TIMESTAMP, "amount": MONEY})
TOUCHES = pl.Schema({"touch_id": pl.String(), "person_id": pl.String(), "touched_at": TIMESTAMP})
Conversion = tuple[str, str, float, str | None]
Touch = tuple[str, str, float]


def conversions(rows: Iterable[Conversion]) -> pl.DataFrame:
    """(order, person, day, amount)."""
    made = [(o, p, START + day * DAY, None if a is None else Decimal(a)) for o, p, day, a in rows]
    return pl.DataFrame(made, schema=CONVERSIONS, orient="row")


def touches(rows: Iterable[Touch]) -> pl.DataFrame:
    """(touch, person, day)."""
    return pl.DataFrame([(t, p, START + day * DAY) for t, p, day in rows], schema=TOUCHES, orient="row")


def shares(found: pl.DataFrame) -> dict[str, list[tuple[str | None, str]]]:
    """Of each model (touch, amount), in order of the touches."""
    rows = found.sort("order_id", "touch")
    return {
        model: [(touch, str(amount)) for touch, amount in rows.filter(model=model).select("touch_id", "amount").rows()]
        for model in MODELS
    }


def test_the_models_side_by_side(native: Native) -> None:
    sale = conversions([("o1", "anna", 20, "10.00")])
    seen = touches([("t1", "anna", 6), ("t2", "anna", 13), ("t3", "anna", 20), ("t4", "ben", 19), ("t5", "anna", 20.1)])
    found = collected(attributed(native(sale), native(seen)))
    # 1, 1/2 and 1/4 of 7/4
    assert shares(found) == {
        "first_touch": [("t1", "10.000000"), ("t2", "0.000000"), ("t3", "0.000000")],
        "last_touch": [("t1", "0.000000"), ("t2", "0.000000"), ("t3", "10.000000")],
        "linear": [("t1", "3.333333"), ("t2", "3.333333"), ("t3", "3.333334")],
        "time_decay": [("t1", "1.428571"), ("t2", "2.857142"), ("t3", "5.714287")],
    }
    assert found.schema["amount"] == MONEY
    assert set(found["touches"]) == {3}
    decayed = found.filter(model="time_decay").sort("touch")
    assert decayed["credit"].to_list() == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_what_looks_back_how_far(native: Native) -> None:
    microsecond = timedelta(microseconds=1) / DAY
    sales = conversions([("o1", "anna", 30, "1"), ("o2", "anna", 30 + microsecond, "1"), ("o3", "anna", 0, "1")])
    found = collected(attributed(native(sales), native(touches([("t1", "anna", 0)])), Attribution(models=("linear",))))
    assert found.sort("order_id").select("order_id", "touch_id", "touches", "credit").rows() == [
        ("o1", "t1", 1, 1.0),
        ("o2", None, 0, 1.0),
        ("o3", "t1", 1, 1.0),
    ]
    assert found["amount"].to_list() == [Decimal(1)] * 3


def test_without_a_touch_all_of_it_is_direct(native: Native) -> None:
    found = collected(attributed(native(conversions([("o1", "anna", 3, "9.99")])), native(touches([("t1", "ben", 3)]))))
    assert shares(found) == {model: [(None, "9.990000")] for model in MODELS}


def test_touches_of_one_instant_are_in_order_of_their_ids(native: Native) -> None:
    seen = touches([("t2", "anna", 1), ("t1", "anna", 1), ("t3", "anna", 1)])
    found = collected(attributed(native(conversions([("o1", "anna", 1, "0.000005")])), native(seen)))
    assert shares(found)["linear"] == [("t1", "0.000001"), ("t2", "0.000001"), ("t3", "0.000003")]
    assert shares(found)["last_touch"][-1] == ("t3", "0.000005")


def test_an_amount_that_is_not_known_stays_unknown() -> None:
    found = collected(attributed(conversions([("o1", "anna", 1, None)]), touches([("t1", "anna", 1)])))
    assert found["amount"].to_list() == [None] * 4
    assert found["credit"].to_list() == [1.0] * 4


def shared_out(amount: Decimal, ages: Sequence[timedelta], model: str, spec: Attribution) -> list[Decimal]:
    """The shares of touches, the oldest first, by fractions."""
    last = len(ages) - 1
    weights = {
        "first_touch": [Fraction(number == 0) for number in range(len(ages))],
        "last_touch": [Fraction(number == last) for number in range(len(ages))],
        "linear": [Fraction(1)] * len(ages),
        "time_decay": [Fraction(round(2 ** (-((age - ages[-1]) / spec.half_life)) * 10**6), 10**6) for age in ages],
    }[model]
    millionths = int(amount * 10**6)
    parts = [int(millionths * weight / sum(weights)) for weight in weights]
    parts[-1] += millionths - sum(parts)
    return [Decimal(part) / 10**6 for part in parts]


def check(found: pl.DataFrame, sales: pl.DataFrame, seen: pl.DataFrame, spec: Attribution) -> None:
    wanted: dict[tuple[str, str], list[tuple[str | None, Decimal]]] = {}
    for order, person, at, amount in sales.iter_rows():
        mine = sorted((when, touch) for touch, who, when in seen.iter_rows() if who == person)
        mine = [(when, touch) for when, touch in mine if timedelta(0) <= at - when <= spec.look_back]
        for model in spec.models:
            ages = [at - when for when, _ in mine] or [timedelta(0)]
            parts = shared_out(amount, ages, model, spec)
            wanted[order, model] = list(zip([touch for _, touch in mine] or [None], parts, strict=True))
    told: dict[tuple[str, str], list[Any]] = {}
    for order, model, touch, amount in (
        found.sort("touch").select("order_id", "model", "touch_id", "amount").iter_rows()
    ):
        told.setdefault((order, model), []).append((touch, amount))
    assert told == wanted
    for model in spec.models:
        assert found.filter(model=model)["amount"].sum() == sales["amount"].sum()


days = st.integers(0, 60 * 24).map(lambda hour: hour / 24)
amounts = st.decimals(-(10**11), 10**11, places=6).map(str)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), days, amounts), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from("ab"), days), max_size=15),
    st.sampled_from([Attribution(), Attribution(half_life=timedelta(hours=5)), Attribution(look_back=timedelta(7))]),
)
def test_shares_are_those_of_fractions(
    sold: list[tuple[str, float, str]], seen: list[tuple[str, float]], spec: Attribution
) -> None:
    sales = conversions((f"o{n}", *one) for n, one in enumerate(sold))
    before = touches((f"t{n:02}", *one) for n, one in enumerate(seen))
    check(collected(attributed(sales, before, spec)), sales, before, spec)


def test_every_engine_shares_alike(native: Native) -> None:
    rng = random.Random(3)
    people = [f"p{n}" for n in range(20)]
    sales = conversions(
        (f"o{n}", rng.choice(people), rng.random() * 60, f"{rng.choice([3, 10**6, 10**11]) * rng.random():.6f}")
        for n in range(60)
    )
    before = touches((f"t{n:03}", rng.choice(people), rng.random() * 60) for n in range(300))
    check(collected(attributed(native(sales), native(before))), sales, before, Attribution())


def test_a_conversion_counts_once_by_its_key(native: Native) -> None:
    rows = pl.DataFrame(
        {
            "order_id": ["o1", "o1", "o1", "o2", None],
            "event_id": ["e3", "e2", "e1", "e1", "e9"],
            "occurred_at": [START, START, START + DAY, START, START],
            "amount": ["1", "2", "3", "4", "5"],
        }
    )
    found = collected(deduplicated(native(rows))).sort("order_id")
    assert found.columns == rows.columns
    assert found.select("order_id", "event_id").rows() == [("o1", "e2"), ("o2", "e1")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"half_life": "0d"}, "half_life\n  Input should be greater than 0"),
        ({"models": []}, "models\n  Tuple should have at least 1 item"),
        ({"models": ["shapley"]}, "Input should be 'first_touch', 'last_touch', 'linear' or 'time_decay'"),
    ],
)
def test_a_wrong_attribution_says_what_is_wrong(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Attribution.model_validate(wrong)
