"""First-ever events, as functions of frames."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import polars as pl

from platform_assets.semantics.firsts import compared, firsts, handed_over, of_people
from platform_assets.semantics.identity import ALWAYS, PERSONS
from platform_assets.silver import person_firsts
from platform_assets.table import TIMESTAMP
from support.records import at

EVENTS = {
    "event_name": pl.String,
    "anonymous_id": pl.String,
    "user_id": pl.String,
    "occurred_at": TIMESTAMP,
    "is_bot": pl.Boolean,
    "is_test": pl.Boolean,
}
FIRSTS = {"raw_id": pl.String, "event_name": pl.String, "first_at": TIMESTAMP}


def known(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame([(who, what, at(minute)) for who, what, minute in rows], schema=FIRSTS, orient="row")


def hours(*starts: int) -> pl.Series:
    return pl.Series([at(hour * 60) for hour in starts], dtype=TIMESTAMP)


def outcome(stored: pl.DataFrame, found: pl.DataFrame, lost: pl.Series) -> list[tuple[Any, ...]]:
    return compared(stored.lazy(), found, lost).sort("raw_id", "event_name").rows()


def test_bots_and_tests_have_no_first_and_what_is_passive_has() -> None:
    rows = [
        ("view", "x", None, at(5), False, False),
        ("view", "x", None, at(3), False, False),
        ("view", "x", None, at(1), True, False),
        ("view", "x", None, at(2), False, True),
        ("view", "x", "anna", at(4), False, False),
        ("push_received", "x", "null", at(9), False, False),
    ]
    found = firsts(of_people(pl.LazyFrame(rows, schema=EVENTS, orient="row"))).sort("raw_id", "event_name").collect()
    assert found.rows() == [("a:x", "push_received", at(9)), ("a:x", "view", at(3)), ("u:anna", "view", at(4))]


def test_where_rows_were_only_added_the_least_stands() -> None:
    stored = known(("a:x", "view", 70), ("a:y", "view", 70), ("a:z", "view", 70))
    found = known(("a:x", "view", 80), ("a:y", "view", 10), ("a:new", "view", 5))
    assert outcome(stored, found, hours()) == [
        ("a:new", "view", None, at(5), False),
        ("a:x", "view", at(70), at(70), False),
        ("a:y", "view", at(70), at(10), False),
    ]


def test_a_first_is_gone_only_where_its_own_hour_lost_it() -> None:
    stored = known(("a:gone", "view", 70), ("a:kept", "view", 70), ("a:later", "view", 70), ("a:other", "view", 10))
    found = known(("a:kept", "view", 70), ("a:later", "view", 75), ("a:other", "view", 75))
    assert outcome(stored, found, hours(1)) == [
        ("a:gone", "view", at(70), None, True),
        ("a:kept", "view", at(70), at(70), False),
        ("a:later", "view", at(70), at(75), True),
        ("a:other", "view", at(10), at(10), False),
    ]


def test_an_earlier_event_stands_for_one_that_is_gone() -> None:
    assert outcome(known(("a:x", "view", 70)), known(("a:x", "view", 65)), hours(1)) == [
        ("a:x", "view", at(70), at(65), False)
    ]


def intervals(raw_id: str, *turns: tuple[datetime, str]) -> pl.LazyFrame:
    ends = [*turns, (ALWAYS[1], "")]
    rows = [(raw_id, start, end, person) for (start, person), (end, _) in pairwise(ends)]
    return pl.LazyFrame(rows, schema=PERSONS, orient="row")


def test_an_id_is_handed_over_where_another_has_it_after_its_first() -> None:
    stored = known(("a:x", "view", 30), ("a:x", "buy", 90), ("a:x", "late", 200), ("a:y", "view", 0)).lazy()
    whose = intervals("a:x", (at(60), "u:anna"), (at(120), "u:ben"))
    found = handed_over(stored, whose).sort("event_name").collect()
    assert found.rows() == [("a:x", "buy", at(120)), ("a:x", "view", at(60))]
    assert handed_over(stored, intervals("a:x", (ALWAYS[0], "u:anna"))).collect().is_empty()


def test_a_bucket_is_the_same_for_good() -> None:
    assert [person_firsts.bucket_of(raw_id) for raw_id in ("a:x", "u:anna", "u:Zoë")] == [13, 14, 15]
    made = person_firsts.transform(known(("u:anna", "view", 1), ("u:anna", "buy", 2)))
    assert made.schema == person_firsts.TABLE.schema
    assert made["bucket"].to_list() == [person_firsts.bucket_of("u:anna")] * 2
