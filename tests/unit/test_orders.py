"""Orders as entries of revenue (semantics 9), against the changes applied one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.changes import dimensions
from platform_assets.changes.dimension import SourceColumn, scd1
from platform_assets.semantics.orders import entries
from platform_assets.table import MONEY, TIMESTAMP, Column
from support.drawn import drawn

START = datetime(2026, 5, 1, tzinfo=UTC)
SCHEMA = {
    "lsn": pl.Int64,
    "sequence": pl.Int64,
    "op": pl.String,
    "changed_at": TIMESTAMP,
    "order_id": pl.String,
    "user_id": pl.String,
    "status": pl.String,
    "amount": MONEY,
    "currency": pl.String,
    "ordered_at": TIMESTAMP,
}
ORDERED = -30


@dataclass(frozen=True)
class Change:
    """A change event of an order; time in minutes."""

    lsn: int
    op: str
    minute: int
    status: str | None = "placed"
    amount: str | None = "10.50"
    order: str | None = "o1"
    ordered: int | None = ORDERED
    sequence: int = 0

    def row(self) -> tuple[object, ...]:
        head = (self.lsn, self.sequence, self.op, at(self.minute), self.order)
        if self.op in "dt":
            return (*head, None, None, None, None, None)
        amount = None if self.amount is None else Decimal(self.amount)
        ordered = None if self.ordered is None else at(self.ordered)
        return (*head, "anna", self.status, amount, "EUR", ordered)


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def found(changes: Sequence[Change]) -> list[tuple[str, str, str | None, float]]:
    """(order, entry, amount, minute)."""
    frame = pl.LazyFrame([change.row() for change in changes], schema=SCHEMA, orient="row")
    rows = entries(frame).collect()
    assert rows.schema["amount"] == MONEY
    assert set(rows["user_id"]) <= {"anna"}
    assert set(rows["currency"]) <= {"EUR"}
    return [
        (row["order_id"], row["entry"], told(row["amount"]), (row["entry_at"] - START) / timedelta(minutes=1))
        for row in rows.to_dicts()
    ]


def told(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.2f}"


def sale(
    amount: str | None = "10.50", minute: float = ORDERED, order: str = "o1"
) -> tuple[str, str, str | None, float]:
    return (order, "sale", amount, minute)


def refund(minute: float, amount: str | None = "-10.50", order: str = "o1") -> tuple[str, str, str | None, float]:
    return (order, "refund", amount, minute)


def test_a_sale_has_the_amount_as_it_stands_at_the_time_of_the_order() -> None:
    assert found([Change(1, "c", 0), Change(2, "u", 5, amount="12.00")]) == [sale("12.00")]


def test_a_refund_is_at_the_change_that_made_it_and_sums_to_nothing() -> None:
    changes = [Change(1, "c", 0), Change(2, "u", 5, "refunded"), Change(3, "u", 9, "refunded", "8.00")]
    assert found(changes) == [refund(5, "-8.00"), sale("8.00")]


def test_of_several_refunds_the_one_that_stands_counts() -> None:
    first = [Change(1, "c", 0), Change(2, "u", 5, "refunded"), Change(3, "u", 7, "placed")]
    assert found(first) == [sale()]
    assert found([*first, Change(4, "u", 9, "refunded"), Change(5, "u", 11, "refunded")]) == [refund(9), sale()]


def test_a_deleted_order_has_no_entries_and_one_that_comes_again_begins_anew() -> None:
    gone = [Change(1, "c", 0), Change(2, "u", 5, "refunded"), Change(3, "d", 7)]
    assert found(gone) == []
    assert found([*gone, Change(4, "c", 9, "placed", "3.00")]) == [sale("3.00")]
    assert found([*gone, Change(4, "c", 9, "refunded")]) == [refund(9), sale()]


def test_a_truncation_deletes_every_order_there_is() -> None:
    changes = [Change(1, "c", 0), Change(2, "t", 5, order=None), Change(3, "c", 6, order="o2")]
    assert found(changes) == [sale(order="o2")]


def test_a_snapshot_taken_anew_moves_no_refund() -> None:
    changes = [Change(1, "c", 0), Change(2, "u", 5, "refunded"), Change(3, "t", 9, order=None)]
    assert found([*changes, Change(3, "r", 9, "refunded", sequence=1)]) == [refund(5), sale()]


def test_what_the_source_does_not_say() -> None:
    changes = [Change(1, "c", 3, None, None, ordered=None), Change(2, "u", 5, "refunded", None, ordered=None)]
    assert found(changes) == [refund(5, None), sale(None, 3)]


def test_a_clock_that_was_set_back() -> None:
    assert found([Change(1, "c", 5), Change(2, "u", 3, "refunded")]) == [refund(5), sale()]


def brute_force(changes: Sequence[Change]) -> list[tuple[str, str, str | None, float]]:
    """The changes applied one by one; what an instant leaves behind is what it says."""
    made = []
    for order in ("o1", "o2"):
        states: list[tuple[float, Change | None]] = []
        clock = -1e9
        for change in changes:
            if (change.op == "t" and not states) or change.order not in {order, None}:
                continue
            clock = max(clock, change.minute)
            states = [state for state in states if state[0] < clock]
            states.append((clock, None if change.op in "dt" else change))
        while None in [state for _, state in states]:
            states.pop(0)
        life = [(minute, state) for minute, state in states if state is not None]
        if not life:
            continue
        last = life[-1][1]
        since = None
        for minute, state in life:
            since = None if state.status != "refunded" else minute if since is None else since
        if since is not None:
            made.append(refund(since, None if last.amount is None else f"-{last.amount}", order))
        made.append(sale(last.amount, life[0][0] if last.ordered is None else last.ordered, order))
    return made


change_rows = st.lists(
    st.tuples(
        st.sampled_from("cuuurdt"),
        st.integers(0, 8),
        st.sampled_from([None, "placed", "refunded", "refunded"]),
        st.sampled_from([None, "1.00", "2.50"]),
        st.sampled_from(["o1", "o2"]),
        st.sampled_from([None, -5, 20]),
    ),
    max_size=12,
)


@drawn(150)
@given(change_rows, st.randoms(use_true_random=False))
def test_entries_are_what_the_changes_say_from_any_order(
    rows: list[tuple[str, int, str | None, str | None, str, int | None]], rng: random.Random
) -> None:
    changes = [
        Change(n // 2, op, minute, status, amount, None if op == "t" else order, ordered, n % 2)
        for n, (op, minute, status, amount, order, ordered) in enumerate(rows)
    ]
    shuffled = [*changes, *changes[:3]]
    rng.shuffle(shuffled)
    assert found(shuffled) == found(changes) == brute_force(changes)


def test_two_tables_of_one_source_table_take_the_same_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dimensions.by_source()["orders"].table.name == "silver/orders"
    key = SourceColumn(Column("order_id", pl.String(), "The id."))
    other = scd1("silver/other", "Others.", "orders", ("order_id",), (key,))
    monkeypatch.setattr(dimensions, "DIMENSIONS", (*dimensions.DIMENSIONS, other))
    with pytest.raises(ValueError, match="silver/orders and silver/other are of one table, orders"):
        dimensions.by_source()
