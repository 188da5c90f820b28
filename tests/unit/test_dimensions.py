"""Dimensions out of change events (semantics 3), against the changes applied one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.dimensions import END_OF_TIME, as_of, changed_spans, latest, versions
from support.drawn import drawn

START = datetime(2026, 5, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
SCHEMA = {
    "lsn": pl.Int64,
    "sequence": pl.Int64,
    "op": pl.String,
    "changed_at": INSTANT,
    "user_id": pl.String,
    "plan": pl.String,
    "email": pl.String,
}


@dataclass(frozen=True)
class Change:
    """A change event; time in minutes."""

    lsn: int
    op: str
    minute: int
    user: str | None = "anna"
    plan: str | None = None
    email: str | None = None
    sequence: int = 0

    def row(self) -> tuple[object, ...]:
        return (self.lsn, self.sequence, self.op, at(self.minute), self.user, self.plan, self.email)


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def frame(changes: Sequence[Change]) -> pl.LazyFrame:
    return pl.LazyFrame([change.row() for change in changes], schema=SCHEMA, orient="row")


def found(changes: Sequence[Change]) -> list[tuple[str, str | None, float, float | None]]:
    """(user, plan, from, to) in minutes; None where it is open."""
    rows = versions(frame(changes), ["user_id"], ["plan"]).collect()
    minutes = lambda instant: None if instant == END_OF_TIME else (instant - START) / timedelta(minutes=1)  # noqa: E731
    assert [row["is_current"] for row in rows.to_dicts()] == [row["valid_to"] == END_OF_TIME for row in rows.to_dicts()]
    return [
        (row["user_id"], row["plan"], minutes(row["valid_from"]), minutes(row["valid_to"])) for row in rows.to_dicts()
    ]


def test_an_update_of_a_tracked_column_makes_a_version_and_no_other_does() -> None:
    changes = [
        Change(1, "c", 0, plan="free", email="a@x"),
        Change(2, "u", 5, plan="free", email="b@x"),
        Change(3, "u", 9, plan="pro", email="b@x"),
    ]
    assert found(changes) == [("anna", "free", 0, 9), ("anna", "pro", 9, None)]


def test_a_change_that_arrives_late_splits_the_version_that_it_falls_into() -> None:
    first, late, last = Change(1, "c", 0, plan="free"), Change(2, "u", 5, plan="trial"), Change(3, "u", 9, plan="pro")
    assert found([first, last]) == [("anna", "free", 0, 9), ("anna", "pro", 9, None)]
    split = [("anna", "free", 0, 5), ("anna", "trial", 5, 9), ("anna", "pro", 9, None)]
    assert found([first, last, late]) == found([late, first, last, late]) == split


def test_a_deletion_closes_and_another_insert_opens() -> None:
    changes = [Change(1, "c", 0, plan="free"), Change(2, "d", 5), Change(3, "c", 9, plan="free")]
    assert found(changes) == [("anna", "free", 0, 5), ("anna", "free", 9, None)]


def test_a_truncation_closes_every_row_that_there_is() -> None:
    changes = [
        Change(1, "c", 0, plan="free"),
        Change(2, "c", 1, "ben", plan="pro"),
        Change(3, "d", 2, "ben"),
        Change(4, "t", 5, None),
        Change(5, "c", 6, "cleo", plan="free"),
    ]
    assert found(changes) == [("anna", "free", 0, 5), ("ben", "pro", 1, 2), ("cleo", "free", 6, None)]


def test_a_snapshot_read_of_what_is_known_makes_no_version() -> None:
    assert found([Change(1, "c", 0, plan="free"), Change(2, "r", 5, plan="free")]) == [("anna", "free", 0, None)]


def test_one_position_may_hold_several_rows() -> None:
    snapshot = [Change(1, "r", 0, user, "free") for user in ("anna", "ben", "cleo")]
    assert [user for user, *_ in found([*snapshot, *snapshot])] == ["anna", "ben", "cleo"]
    new_key = [Change(2, "d", 5, "anna"), Change(2, "c", 5, "anna-b", "free")]
    assert found([*snapshot[:1], *new_key]) == [("anna", "free", 0, 5), ("anna-b", "free", 5, None)]


def test_columns_of_one_name_are_told_apart_by_a_prefix() -> None:
    dimension = versions(frame([Change(1, "c", 0, plan="free")]), ["user_id"], ["plan"])
    facts = pl.LazyFrame({"user_id": ["anna"], "occurred_at": [at(1)], "plan": ["floor"]}).cast(
        {"occurred_at": INSTANT}
    )
    with pytest.raises(ValueError, match="the facts have the columns plan already"):
        as_of(facts, dimension, ["user_id"], ["plan"])
    row = as_of(facts, dimension, ["user_id"], ["plan"], prefix="user_").collect().row(0, named=True)
    assert (row["plan"], row["user_plan"], row["current_user_plan"]) == ("floor", "free", "free")


def test_null_is_a_value() -> None:
    changes = [Change(1, "c", 0), Change(2, "u", 5, plan="pro"), Change(3, "u", 9)]
    assert found(changes) == [("anna", None, 0, 5), ("anna", "pro", 5, 9), ("anna", None, 9, None)]


def test_of_the_changes_of_one_instant_the_last_counts() -> None:
    changes = [
        Change(1, "c", 0, plan="free"),
        Change(2, "u", 5, plan="trial"),
        Change(2, "u", 5, plan="pro", sequence=1),
        Change(3, "d", 5),
        Change(3, "c", 5, plan="pro", sequence=1),
    ]
    assert found(changes) == [("anna", "free", 0, 5), ("anna", "pro", 5, None)]


def test_a_clock_that_was_set_back_makes_no_overlap() -> None:
    changes = [Change(1, "c", 5, plan="free"), Change(2, "u", 3, plan="pro"), Change(3, "u", 9, plan="free")]
    assert found(changes) == [("anna", "pro", 5, 9), ("anna", "free", 9, None)]


def test_facts_have_the_attributes_of_their_time_and_of_now() -> None:
    dimension = versions(
        frame(
            [
                Change(1, "c", 0, plan="free"),
                Change(2, "u", 5, plan="pro"),
                Change(3, "c", 0, "ben", "pro"),
                Change(4, "d", 4, "ben"),
            ]
        ),
        ["user_id"],
        ["plan"],
    )
    facts = pl.LazyFrame(
        [
            ("anna", at(-1)),
            ("anna", at(0)),
            ("anna", at(4.9)),
            ("anna", at(5)),
            ("ben", at(3)),
            ("ben", at(4)),
            ("x", at(0)),
        ],
        schema={"user_id": pl.String, "occurred_at": INSTANT},
        orient="row",
    )
    joined = as_of(facts, dimension, ["user_id"], ["plan"]).sort("user_id", "occurred_at").collect()
    assert joined.select("plan", "current_plan").rows() == [
        (None, "pro"),
        ("free", "pro"),
        ("free", "pro"),
        ("pro", "pro"),
        ("pro", None),
        (None, None),
        (None, None),
    ]


def test_the_latest_values() -> None:
    changes = [
        Change(3, "d", 9, "ben"),
        Change(2, "u", 5, plan="pro", email="b@x"),
        Change(1, "c", 0, plan="free", email="a@x"),
        Change(1, "c", 0, "ben", plan="free", sequence=1),
    ]
    rows = latest(frame(changes), ["user_id"], ["plan", "email"]).collect().rows()
    assert rows == [
        ("anna", "pro", "b@x", at(0), at(5), False),
        ("ben", "free", None, at(0), at(9), True),
    ]


def brute_force(changes: Sequence[Change], user: str, minute: float) -> tuple[bool, str | None]:
    """Whether a row exists at a time, and its plan: the changes applied one by one."""
    exists, plan, clock = False, None, -1e9
    was_there = False
    for change in sorted({(c.lsn, c.sequence): c for c in changes}.values(), key=lambda c: (c.lsn, c.sequence)):
        if change.op == "t":
            if not was_there:
                continue
        elif change.user != user:
            continue
        was_there = True
        clock = max(clock, change.minute)
        if clock > minute:
            break
        exists, plan = (False, None) if change.op in "dt" else (True, change.plan)
    return exists, plan


minutes = st.integers(0, 8)
change_rows = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from("cuurd"), minutes, st.sampled_from(["anna", "ben"]), st.sampled_from([None, "a", "b"])
        ),
        st.tuples(st.just("t"), minutes, st.none(), st.none()),
    ),
    max_size=10,
)


@drawn(150)
@given(change_rows, st.randoms(use_true_random=False))
def test_versions_are_what_the_changes_say_from_any_order(
    rows: list[tuple[str, int, str | None, str | None]], rng: random.Random
) -> None:
    changes = [
        Change(n // 2, op, minute, user, None if op in "dt" else plan, sequence=n % 2)
        for n, (op, minute, user, plan) in enumerate(rows)
    ]
    shuffled = [*changes, *changes[:2]]
    rng.shuffle(shuffled)
    dimension = versions(frame(shuffled), ["user_id"], ["plan"]).collect()
    assert dimension.equals(versions(frame(changes), ["user_id"], ["plan"]).collect())
    for user in ("anna", "ben"):
        spans = dimension.filter(user_id=user).select("plan", "valid_from", "valid_to").rows()
        assert all(since < until for _, since, until in spans)
        for minute in (n / 2 for n in range(-1, 20)):
            covering = [plan for plan, since, until in spans if since <= at(minute) < until]
            exists, plan = brute_force(changes, user, minute)
            assert covering == ([plan] if exists else [])
        for before, after in pairwise(spans):
            assert before[2] < after[1] or (before[2] == after[1] and before[0] != after[0])


def spans(
    before: Sequence[Change], after: Sequence[Change], attributes: Sequence[str] = ("plan",)
) -> list[tuple[str, float, float | None]]:
    """(user, since, until) in minutes; None where it never ends."""
    old, new = (versions(frame(changes), ["user_id"], attributes) for changes in (before, after))
    rows = changed_spans(old, new, ["user_id"], attributes).collect().rows()
    minutes = lambda instant: None if instant == END_OF_TIME else (instant - START) / timedelta(minutes=1)  # noqa: E731
    return [(user, minutes(since), minutes(until)) for user, since, until in rows]


def test_a_change_touches_the_time_from_then_on() -> None:
    first = [Change(1, "c", 0, plan="free")]
    assert spans([], first) == [("anna", 0, None)]
    assert spans(first, [*first, Change(2, "u", 5, plan="pro")]) == [("anna", 5, None)]
    assert spans(first, [*first, Change(2, "d", 5)]) == [("anna", 5, None)]
    assert spans(first, [*first, Change(2, "u", 5, plan="free", email="b@x")]) == []


def test_a_late_change_touches_the_time_until_the_next() -> None:
    known = [Change(1, "c", 0, plan="free"), Change(3, "u", 9, plan="pro")]
    assert spans(known, [*known, Change(2, "u", 5, plan="trial")]) == [("anna", 5, 9)]
    assert spans(known, [*known, Change(2, "u", 5, plan="pro")]) == [("anna", 5, 9)]
    assert spans(known, known) == []


def test_no_version_says_the_same_as_one_of_nulls() -> None:
    assert spans([], [Change(1, "c", 0)]) == []
    assert spans([Change(1, "c", 0, plan="free")], [Change(1, "c", 0, plan="free"), Change(2, "u", 5)]) == [
        ("anna", 5, None)
    ]


@drawn(100)
@given(change_rows, st.sets(st.integers(0, 9)))
def test_spans_are_where_the_attributes_as_of_then_differ(
    rows: list[tuple[str, int, str | None, str | None]], later: set[int]
) -> None:
    after = [
        Change(n // 2, op, minute, user, None if op in "dt" else plan, sequence=n % 2)
        for n, (op, minute, user, plan) in enumerate(rows)
    ]
    before = [change for n, change in enumerate(after) if n not in later]
    found = spans(before, after)
    for user in ("anna", "ben"):
        for minute in (n / 2 for n in range(-1, 20)):
            covering = [s for s in found if s[0] == user and s[1] <= minute and (s[2] is None or minute < s[2])]
            differs = brute_force(before, user, minute)[1] != brute_force(after, user, minute)[1]
            assert len(covering) == differs
