"""Decoding: every record ends in exactly one place, and no record harms another."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.events import decode
from resources.json_events import MAX_EVENT_BYTES
from resources.records import RECORD_SCHEMA
from resources.schemas import NoRegistry

GOOD = {
    "event_id": "e1",
    "source": "web",
    "event_name": "page_viewed",
    "schema_ref": "page_viewed/1",
    "client_occurred_at": "2026-01-01T00:00:00.000001Z",
    "received_at": "2026-01-01T02:00:00+02:00",
    "anonymous_id": "a",
    "properties": {"price": "1.50"},
}


def records(values: list[bytes | None]) -> pl.DataFrame:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        [("t", 1, 0, i, at, None, value, None) for i, value in enumerate(values)],
        schema=RECORD_SCHEMA,
        orient="row",
    )


def encoded(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


def test_a_good_event_becomes_columns() -> None:
    decoded = decode(records([encoded(session_seq=7, consent=["ads"], unknown={"x": 1})]), NoRegistry())
    row = decoded.events.row(0, named=True)
    assert row["client_occurred_at"] == datetime(2026, 1, 1, 0, 0, 0, 1, UTC)
    assert row["received_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert row["session_seq"] == 7
    assert row["consent"] == ["ads"]
    assert json.loads(row["properties"]) == {"price": "1.50"}
    assert row["bad_timestamps"] == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b"\xff\xfe", "not_utf8"),
        (encoded().replace(b'"1.50"', b'"\xff"'), "not_utf8"),
        (encoded()[:-9], "not_json"),
        (encoded() + b"x", "not_json"),
        (b"\xef\xbb\xbf" + encoded(), "not_json"),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested_too_deep"),
        (encoded(properties={"x": float("nan")}), "not_json"),
        (encoded(event_id="\ud800"), "not_json"),
        (encoded(properties={"x": "y" * MAX_EVENT_BYTES}), "too_large"),
    ],
)
def test_what_is_no_json_object_is_dead_lettered(value: bytes | None, reason: str) -> None:
    decoded = decode(records([encoded(), value, encoded()]), NoRegistry())
    assert decoded.events["offset"].to_list() == [0, 2]
    assert decoded.malformed.is_empty()
    assert decoded.undecodable["offset"].to_list() == [1]
    assert decoded.undecodable["value"].to_list() == [value]
    assert decoded.undecodable["reasons"][0][0].startswith(reason)


@pytest.mark.parametrize(
    ("value", "reasons"),
    [
        (without("event_id"), ["missing:event_id"]),
        (encoded(event_id=None), ["missing:event_id"]),
        (
            encoded(event_id=5, is_bot="yes", session_seq=1.7),
            ["wrong_type:event_id", "wrong_type:session_seq", "wrong_type:is_bot"],
        ),
        (encoded(session_seq=10**30), ["wrong_type:session_seq"]),
        (encoded(utc_offset_minutes=40_000), ["wrong_type:utc_offset_minutes"]),
        (encoded(properties=[]), ["wrong_type:properties"]),
        (encoded(properties=5), ["wrong_type:properties"]),
        (encoded(consent="ads"), ["wrong_type:consent"]),
        (encoded()[:-1] + b',"event_id":"other"}', ["repeated:event_id"]),
        (b"{}", [f"missing:{name}" for name in list(GOOD)[:6]]),
    ],
)
def test_a_wrong_shape_is_quarantined_with_every_reason(value: bytes, reasons: list[str]) -> None:
    decoded = decode(records([encoded(), value]), NoRegistry())
    assert decoded.events.height == 1
    assert decoded.undecodable.is_empty()
    assert decoded.malformed["reasons"].to_list() == [reasons]


def test_a_field_name_inside_the_properties_is_no_repetition() -> None:
    decoded = decode(records([encoded(properties={"event_id": "inner"}), encoded(properties=None)]), NoRegistry())
    assert decoded.events.height == 2
    assert decoded.events["properties"].to_list() == ['{"event_id": "inner"}', "{}"]


def test_a_timestamp_that_is_none_is_named() -> None:
    decoded = decode(records([encoded(received_at="yesterday", client_sent_at="2026-01-01T00:00:00")]), NoRegistry())
    assert sorted(decoded.events["bad_timestamps"][0]) == ["client_sent_at", "received_at"]


def test_the_key_hash_is_of_the_instant_not_of_its_spelling() -> None:
    spelled = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.000+01:00", "2026-01-01T00:00:01Z"]
    hashes = decode(records([encoded(client_occurred_at=s) for s in spelled]), NoRegistry()).events["key_hash"]
    assert hashes[0] == hashes[1] != hashes[2]
    # The hash is stored: it must be the same in every release.
    assert hashes[0] == KEY_HASH_OF_E1


KEY_HASH_OF_E1 = -8466177276834321287


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.none(),
            st.tuples(st.sampled_from(sorted(GOOD)), json_values).map(lambda kv: encoded(**{kv[0]: kv[1]})),
            st.integers(0, 200).map(lambda n: encoded()[:n]),
            st.just(encoded()),
        ),
        max_size=8,
    )
)
def test_every_record_ends_in_exactly_one_place(values: list[bytes | None]) -> None:
    decoded = decode(records(values), NoRegistry())
    ends = [*decoded.events["offset"], *decoded.malformed["offset"], *decoded.undecodable["offset"]]
    assert sorted(ends) == list(range(len(values)))
    good = [i for i, value in enumerate(values) if value == encoded()]
    assert set(good) <= set(decoded.events["offset"])
    assert all(decoded.malformed["reasons"].list.len() > 0)
    assert all(decoded.undecodable["reasons"].list.len() > 0)
