"""Change events judged one by one: what becomes a row change, what is refused, and why."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import polars as pl
import pytest

from platform_assets.changes.dimension import BUCKETS, SourceColumn, scd1
from platform_assets.changes.judgement import bucket_of, judge_changes
from platform_assets.streams.stream import STREAMS, named
from platform_assets.table import Column
from resources.settings import Settings
from support.changes import change, records, user
from support.records import RULES, at, frame

ORDER = {"order_id": "o1", "user_id": "u1", "status": "placed", "amount": "12.50", "currency": "EUR"}


def judged(*values: dict[str, Any] | bytes | None) -> tuple[list[dict[str, Any]], list[list[str]], list[list[str]]]:
    """Row changes, reasons of quarantine, reasons of dead letters."""
    found = judge_changes(frame(records(values)), RULES)
    return (
        found.accepted.sort("offset").to_dicts(),
        found.quarantined.sort("offset")["reasons"].to_list(),
        found.dead_lettered.sort("offset")["reasons"].to_list(),
    )


def row_of(*values: dict[str, Any] | bytes | None) -> dict[str, Any]:
    (accepted,), quarantined, dead = judged(*values)
    assert (quarantined, dead) == ([], [])
    row: dict[str, Any] = json.loads(accepted["row"])
    return row


def test_a_change_event_is_decoded() -> None:
    (row,), quarantined, dead = judged(change("users", "c", 17, 3, user("u1", "pro", "DE")))
    assert (quarantined, dead) == ([], [])
    assert (row["source_table"], row["op"], row["lsn"], row["sequence"]) == ("users", "c", 17, 0)
    assert row["changed_at"] == at(3)
    assert (row["row_key"], row["bucket"]) == ('["u1"]', bucket_of("users", '["u1"]'))
    assert json.loads(row["row"]) == {
        "user_id": "u1",
        "email_hash": hashlib.sha256(b"u1@example.org").hexdigest(),
        "plan": "pro",
        "country": "DE",
        "created_at": None,
    }


def test_the_converters_schema_may_stand_beside_the_payload() -> None:
    event = change("users", "c", 17, 3, user("u1"))
    assert row_of({"schema": {"type": "struct"}, "payload": event}) == row_of(event)


def test_the_commit_time_may_be_in_milliseconds() -> None:
    event = change("users", "c", 17, 3, user("u1"))
    event["source"]["ts_ms"] = event["source"].pop("ts_us") // 1000
    assert judged(event)[0][0]["changed_at"] == at(3)


def test_an_integer_sequence_orders_the_changes_of_one_position() -> None:
    event = change("users", "c", 17, 3, user("u1"))
    event["source"]["sequence"] = 4
    assert judged(event)[0][0]["sequence"] == 4


def test_an_email_address_is_hashed_whatever_its_case() -> None:
    one, other = (row_of(change("users", "c", 1, 0, user("u1") | {"email": e})) for e in ("A@X.org ", "a@x.org"))
    assert one == other
    assert "@" not in json.dumps(one)


def test_of_a_deleted_row_the_key_is_kept() -> None:
    assert row_of(change("users", "d", 1, 0, before=user("u1"))) == {"user_id": "u1"}


def test_a_truncation_has_no_row_and_a_tombstone_is_nothing() -> None:
    (row,), quarantined, dead = judged(change("users", "t", 1, 0), None)
    assert (row["row_key"], row["row"], quarantined, dead) == (None, None, [], [])


def test_of_a_table_that_is_no_dimension_only_that_it_changed_is_kept() -> None:
    (row,), quarantined, dead = judged(change("sessions", "c", 1, 0, {"token": "secret"}))
    assert (row["source_table"], row["row_key"], row["row"], quarantined, dead) == ("sessions", None, None, [], [])


def test_values_are_exact() -> None:
    row = row_of(change("orders", "c", 1, 0, ORDER | {"ordered_at": "2026-11-20T23:30:00.000001+01:00"}))
    assert row["amount"] == "12.500000"
    assert row["ordered_at"] == 1_763_677_800_000_001 + 365 * 86_400_000_000
    assert row_of(change("orders", "c", 1, 0, ORDER | {"ordered_at": row["ordered_at"]})) == row


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        ({"plan": 3}, ["wrong_type:users.plan"]),
        ({"plan": 3, "country": ["DE"]}, ["wrong_type:users.plan", "wrong_type:users.country"]),
        ({"user_id": None}, ["missing:users.user_id"]),
        ({"created_at": "2026-11-20T10:00:00"}, ["wrong_type:users.created_at"]),
        ({"created_at": "noon"}, ["wrong_type:users.created_at"]),
        ({"created_at": 10**18}, ["wrong_type:users.created_at"]),
        ({"country": "__debezium_unavailable_value"}, ["unavailable:users.country"]),
    ],
)
def test_a_row_that_does_not_fit_its_table_is_quarantined(after: dict[str, Any], reasons: list[str]) -> None:
    assert judged(change("users", "c", 1, 0, user("u1") | after)) == ([], [reasons], [])


@pytest.mark.parametrize("amount", [12.5, "12,50", "1e3", "NaN", "1.0000001", "1234567890123", True])
def test_an_amount_that_is_not_exact_is_quarantined(amount: object) -> None:
    event = change("orders", "c", 1, 0, ORDER | {"amount": amount})
    assert judged(event) == ([], [["wrong_type:orders.amount"]], [])


def test_a_key_may_not_change_by_an_update() -> None:
    event = change("users", "u", 1, 0, user("u2"), before=user("u1"))
    assert judged(event) == ([], [["key_changed:users"]], [])
    assert row_of(change("users", "u", 1, 0, user("u1", "pro"), before=user("u1")))["plan"] == "pro"


@pytest.mark.parametrize(
    ("event", "reasons"),
    [
        ({}, ["missing:op", "missing:source"]),
        (change("users", "m", 1, 0), ["unknown:op m"]),
        (change("users", "c", 1, 0), ["missing:after"]),
        (change("users", "d", 1, 0), ["missing:before"]),
        (change("users", "c", -1, 0, user("u1")), ["out_of_range:source.lsn"]),
        ({"op": "c", "after": {}, "source": {"table": "users"}}, ["missing:source.lsn", "missing:source.ts_ms"]),
    ],
)
def test_what_is_no_change_event_is_quarantined(event: dict[str, Any], reasons: list[str]) -> None:
    assert judged(event) == ([], [reasons], [])


@pytest.mark.parametrize(
    "event", [{"op": 1}, {"op": "c", "source": []}, {"op": "c", "source": {"table": 3}}, {"payload": []}]
)
def test_an_envelope_of_wrong_types_is_quarantined(event: dict[str, Any]) -> None:
    accepted, (reasons,), dead = judged(event)
    assert (accepted, dead) == ([], [])
    assert reasons[0].startswith("not_an_envelope:")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"", "empty"), (b"{", "not_json"), (b"\xff", "not_json"), (b"[]", "not_an_object"), (b"7", "not_an_object")],
)
def test_what_is_no_json_object_is_dead_lettered(value: bytes, reason: str) -> None:
    accepted, quarantined, (reasons,) = judged(value)
    assert (accepted, quarantined) == ([], [])
    assert reasons[0].split(":")[0] == reason


@pytest.mark.parametrize(
    "value",
    [
        b'{"op":"c","source":{"table":"users","lsn":1,"ts_ms":1},"after":{"user_id":"\\ud800"}}',
        b'{"op":"c","source":{"table":"users","lsn":1,"ts_ms":1},"after":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"op":"c","source":{"table":"users","lsn":1,"ts_ms":1},"after":"u1"}',
        b'{"op":"c","source":{"table":"users","lsn":99999999999999999999,"ts_ms":1},"after":{"user_id":"u1"}}',
        b'{"op":"c","source":{"table":"users","lsn":1,"ts_ms":9223372036854775807},"after":{"user_id":"u1"}}',
    ],
)
def test_one_bad_record_spoils_no_other(value: bytes) -> None:
    accepted, quarantined, dead = judged(change("users", "c", 1, 0, user("u1")), value)
    assert len(accepted) == 1
    assert len(quarantined) + len(dead) == 1


def test_buckets_never_change() -> None:
    """They are in the lake: a release that computed others would leave rows in two buckets."""
    assert [bucket_of("users", f'["u{n}"]') for n in range(6)] == BUCKETS_OF_SIX
    assert all(0 <= bucket_of("t", str(n)) < BUCKETS for n in range(100))


BUCKETS_OF_SIX = [4, 2, 2, 15, 6, 7]


def test_a_dimension_must_take_its_key() -> None:
    with pytest.raises(ValueError, match="the key column 'a' must be taken, as String or Int64"):
        scd1("silver/x", "X.", "x", ("a",), (SourceColumn(Column("a", pl.Boolean(), "A.")),))


def test_streams_are_found_by_name() -> None:
    assert [named(stream.name) for stream in STREAMS] == list(STREAMS)
    with pytest.raises(ValueError, match="'orders' is no stream; there are client_events, backend_logs, oltp_changes"):
        named("orders")
    with pytest.raises(ValueError, match="HEADWATER_OLTP_CHANGES_TOPIC"):
        named("oltp_changes").required_topic(Settings())
