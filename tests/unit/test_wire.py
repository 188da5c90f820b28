"""Framed values: decoded with the writer's schema, in bulk, whatever is among them; conformed to the envelope."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.silver.judgement import Rules, judge
from resources.events import Decoded, decode
from resources.schemas import NoRegistry, Registry, RegistryUnavailable, WriterSchema
from resources.settings import Settings
from resources.wire import avro_values
from support.records import RULES as NOBODY_KNOWS
from support.records import START, Record, at, encoded, event, frame
from support.wire import (
    EVENT_V1,
    LOG,
    Known,
    avro,
    avro_event,
    filled,
    framed,
    log,
    protobuf_schema,
    typed,
)

DATE = {"type": "int", "logicalType": "date"}
PLAIN = (("at", "long"), ("d", "int"))
CONTEXT = SerializationContext("client_events", MessageField.VALUE)


def records(values: Iterable[bytes | None]) -> pl.DataFrame:
    return frame(Record(0, number, at(1), value) for number, value in enumerate(values))


def reasons(refused: pl.DataFrame) -> dict[int, list[str]]:
    return dict(refused.select("offset", "reasons").iter_rows())


def decoded(known: Known, *values: bytes | None) -> Decoded:
    return decode(records(values), known)


def rows(found: Decoded) -> list[dict[str, Any]]:
    return found.events.sort("offset").to_dicts()


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "offset": 0, "properties": json.loads(row["properties"])}


def retyped(**types: Any) -> dict[str, Any]:
    """`EVENT_V1` with other types of some fields."""
    plain = [{"name": field["name"], "type": types.get(field["name"], field["type"])} for field in EVENT_V1["fields"]]
    return {**EVENT_V1, "fields": plain}


# -- Avro ------------------------------------------------------------------------------------------------------------


def test_an_avro_event_is_the_event_that_json_would_tell() -> None:
    known = Known(avro(1, EVENT_V1))
    as_json = event("e1", 0, user_id="u1", session_seq=7, consent=["ads"], properties={"price": "9.90"}, platform="ios")
    found = decoded(known, framed(1, typed(EVENT_V1, as_json)), encoded(as_json))
    first, second = rows(found)
    assert as_told(first) == as_told(second)
    assert (found.malformed.height, found.undecodable.height) == (0, 0)


@pytest.mark.parametrize(
    ("made_bad", "place"),
    [
        (lambda value: value[:-3], 2),
        (lambda value: value + b"\x00\x01\x02\x03\x04\x05\x06\x07", 0),
        (lambda value: value + b"\x00", 4),
        (lambda value: value[:5] + b"\xff" * 40, 1),
        (lambda value: value[:5], 3),
    ],
    ids=["cut short", "longer by eight", "longer by one", "garbage", "empty"],
)
def test_one_bad_value_is_isolated_wherever_it_stands(made_bad: Any, place: int) -> None:
    known = Known(avro(1, EVENT_V1))
    values = [framed(1, avro_event(f"e{n}")) for n in range(5)]
    values[place] = made_bad(values[place])
    found = decoded(known, *values)
    assert [row["event_id"] for row in rows(found)] == [f"e{n}" for n in range(5) if n != place]
    assert reasons(found.undecodable) == {place: ["not_avro:schema 1"]}


def test_many_bad_values_among_many_good_ones_are_each_isolated() -> None:
    known = Known(avro(1, EVENT_V1))
    values = [framed(1, avro_event(f"e{n}")) for n in range(1000)]
    bad = {0, 1, 2, 255, 256, 257, 500, 999}
    for n in bad:
        values[n] = values[n][: 6 + n % 7]
    found = decoded(known, *values)
    assert set(found.events["event_id"]) == {f"e{n}" for n in range(1000) if n not in bad}
    assert set(reasons(found.undecodable)) == bad


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(["cut", "flip", "extend"]), st.binary(min_size=1, max_size=9)),
        max_size=3,
    ),
    st.integers(1, 6),
)
def test_whatever_happens_to_bytes_the_others_are_told_alike(damages: list[tuple[int, str, bytes]], count: int) -> None:
    """What becomes of a value never depends on its neighbours, and what is taken is what another decoder reads."""
    payloads = [avro_event(f"e{n}", properties={"n": "x" * n}) for n in range(count)]
    for number, (place, how, what) in enumerate(damages):
        index = number % count
        value = payloads[index]
        cut = place % (len(value) + 1)
        payloads[index] = {
            "cut": value[:cut],
            "flip": value[:cut] + what + value[cut + len(what) :],
            "extend": value + what,
        }[how]
    good, parts = avro_values.decode(json.dumps(EVENT_V1), payloads)
    alone = [avro_values.decode(json.dumps(EVENT_V1), [payload])[0] == [0] for payload in payloads]
    told = pl.concat(parts)["event_id"].to_list() if parts else []
    assert sorted(good) == [index for index in range(count) if alone[index]]
    for event_id, other in zip(told, (read_alone(payloads[index]) for index in good), strict=True):
        assert other is None or event_id == other["event_id"]
    assert set(range(count)) - {number % count for number in range(len(damages))} <= set(good)


def read_alone(payload: bytes) -> Any:
    """What another decoder makes of it; None where it is stricter (a union's branch that is none of them).

    Instants stay numbers, of which not every one is a date.
    """
    stream = io.BytesIO(payload)
    plain = [{"name": f["name"], "type": without_instants(f["type"])} for f in EVENT_V1["fields"]]
    try:
        found = fastavro.schemaless_reader(stream, fastavro.parse_schema({**EVENT_V1, "fields": plain}), None)
    except (IndexError, ValueError, EOFError, KeyError, TypeError, OverflowError):
        return None
    assert stream.tell() == len(payload)
    return found


def without_instants(dtype: Any) -> Any:
    if isinstance(dtype, list):
        return [without_instants(part) for part in dtype]
    return "long" if isinstance(dtype, dict) and dtype.get("logicalType") else dtype


def test_schemas_of_several_versions_are_each_read_by_their_own() -> None:
    added = {**EVENT_V1, "fields": [*EVENT_V1["fields"], {"name": "referrer", "type": "string", "default": ""}]}
    removed = {**EVENT_V1, "fields": [f for f in EVENT_V1["fields"] if f["name"] != "user_id"]}
    known = Known(avro(1, EVENT_V1), avro(2, added), avro(3, removed))
    told = event("e", user_id="u1")
    found = decoded(
        known,
        framed(1, typed(EVENT_V1, told)),
        framed(2, typed(added, {**told, "referrer": "https://news.example"})),
        framed(3, typed(removed, told)),
        framed(1, typed(EVENT_V1, told)),
    )
    assert [(row["user_id"], row["referrer"]) for row in rows(found)] == [
        ("u1", None),
        ("u1", "https://news.example"),
        (None, None),
        ("u1", None),
    ]


def test_a_renamed_field_is_found_by_the_alias_that_its_schema_declares() -> None:
    fields = [f for f in EVENT_V1["fields"] if f["name"] != "page_url"]
    renamed = {**EVENT_V1, "fields": [*fields, {"name": "url", "aliases": ["page_url"], "type": "string"}]}
    found = decoded(Known(avro(2, renamed)), framed(2, typed(renamed, {**event("e"), "url": "https://shop/x"})))
    assert rows(found)[0]["page_url"] == "https://shop/x"


def test_a_renamed_field_without_an_alias_is_found_by_the_name_that_the_settings_give() -> None:
    fields = [f for f in EVENT_V1["fields"] if f["name"] != "event_id"]
    renamed = {**EVENT_V1, "fields": [*fields, {"name": "id", "type": "string"}]}
    value = framed(2, typed(renamed, {**event("e"), "id": "e17"}))
    assert reasons(decoded(Known(avro(2, renamed)), value).malformed) == {0: ["missing:event_id", "schema:2"]}
    mended = decode(records([value]), Known(avro(2, renamed)), {"id": "event_id"})
    assert rows(mended)[0]["event_id"] == "e17"


def test_a_widened_type_is_taken_and_what_does_not_fit_is_told() -> None:
    narrow = retyped(utc_offset_minutes="int", session_seq="int")
    wide = retyped(utc_offset_minutes="long", session_seq="long")
    known = Known(avro(1, narrow), avro(2, wide))
    told = {**event("e"), "utc_offset_minutes": -60, "session_seq": 5}
    found = decoded(
        known,
        framed(1, typed(narrow, told)),
        framed(2, typed(wide, told)),
        framed(2, typed(wide, {**told, "utc_offset_minutes": 2**40})),
    )
    assert [(row["utc_offset_minutes"], row["session_seq"]) for row in rows(found)] == [(-60, 5), (-60, 5)]
    assert reasons(found.malformed) == {2: ["wrong_type:utc_offset_minutes", "schema:2"]}


def test_an_incompatible_change_that_slipped_through_is_quarantined_with_every_reason() -> None:
    slipped = retyped(event_id="long", received_at="long", source=["null", "string"])
    told = {**event("e"), "event_id": 17, "received_at": 1_790_000_000, "source": None}
    found = decoded(Known(avro(9, slipped)), framed(9, typed(slipped, told)))
    assert {0: sorted(reasons(found.malformed)[0])} == {
        0: ["missing:source", "schema:9", "wrong_type:event_id", "wrong_type:received_at"]
    }


def test_texts_that_are_uuids_enumerations_and_instants_of_milliseconds_are_what_they_mean() -> None:
    schema = retyped(
        event_id={"type": "string", "logicalType": "uuid"},
        platform={"type": "enum", "name": "Platform", "symbols": ["web", "ios"]},
        received_at={"type": "long", "logicalType": "timestamp-millis"},
    )
    told = event("7d444840-9dc0-11d1-b245-5ffdce74fad2", platform="ios")
    (row,) = rows(decoded(Known(avro(1, schema)), framed(1, typed(schema, told))))
    assert (row["event_id"], row["platform"]) == ("7d444840-9dc0-11d1-b245-5ffdce74fad2", "ios")
    assert row["received_at"] == START


def test_properties_may_be_a_text_a_map_or_a_record_and_are_always_a_json_object() -> None:
    record = {
        "type": "record",
        "name": "Properties",
        "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {
                "name": "inner",
                "type": ["null", {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int"}]}],
            },
        ],
    }

    text, made = retyped(properties="string"), retyped(properties=record)
    mapped = retyped(properties={"type": "map", "values": "long"})
    structured = {"price": Decimal("9.90"), "at": START, "tags": ["a", 'b"'], "inner": None}
    known = Known(avro(1, text), avro(2, made), avro(3, mapped))
    found = decoded(
        known,
        framed(1, typed(text, event("e"), properties='{"a": 1}')),
        framed(1, typed(text, event("e"), properties="[1]")),
        framed(2, typed(made, event("e"), properties=structured)),
        framed(3, typed(mapped, event("e"), properties={'k"': 1})),
    )
    assert [json.loads(row["properties"]) for row in rows(found)] == [
        {"a": 1},
        {"price": "9.90", "at": "2026-11-20T22:00:00.000000Z", "tags": ["a", 'b"'], "inner": None},
        {'k"': 1},
    ]
    assert reasons(found.malformed) == {1: ["wrong_type:properties", "schema:1"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "Tree", "fields": [{"name": "child", "type": ["null", "Tree"]}]},
        {"type": "record", "name": "Either", "fields": [{"name": "x", "type": ["null", "string", "long"]}]},
        {"type": "string"},
        {"type": "record", "name": "Empty", "fields": []},
        {"type": "record", "name": "Far", "fields": [{"name": "x", "type": "elsewhere.Thing"}]},
        {"type": "record", "name": "Bomb", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]},
        {"type": "record", "name": "Odd", "fields": [{"name": "x", "type": "string", "aliases": None}, {"name": "x"}]},
    ],
    ids=["recursive", "a union of several types", "no record", "no fields", "a reference", "null items", "broken"],
)
def test_a_schema_without_columns_is_told_and_spoils_nothing(schema: dict[str, Any]) -> None:
    found = decoded(Known(avro(1, EVENT_V1), avro(5, schema)), framed(5, b"\x00"), framed(1, avro_event("e1")))
    assert [row["event_id"] for row in rows(found)] == ["e1"]
    assert reasons(found.undecodable)[0][0].startswith("unsupported_schema:5 ")


def test_instants_that_are_no_dates_spoil_nothing() -> None:
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    inner = {"type": "record", "name": "P", "fields": [{"name": "at", "type": millis}, {"name": "d", "type": DATE}]}
    schema = retyped(received_at=millis, properties=inner)
    plain = retyped(received_at="long", properties={**inner, "fields": [{"name": n, "type": t} for n, t in PLAIN]})
    good = {"at": 0, "d": 0}
    values = [
        typed(plain, {**event("far"), "received_at": None}, received_at=9_223_372_036_854_776, properties=good),
        typed(
            plain, {**event("odd"), "received_at": None}, received_at=0, properties={"at": 2**63 - 1, "d": 2**31 - 1}
        ),
        typed(plain, {**event("ok"), "received_at": None}, received_at=0, properties=good),
    ]
    found = decoded(Known(avro(1, schema)), *(framed(1, value) for value in values))
    assert [(row["event_id"], row["bad_timestamps"]) for row in rows(found)] == [
        ("far", ["received_at"]),
        ("odd", []),
        ("ok", []),
    ]
    assert json.loads(rows(found)[1]["properties"]) == {"at": str(2**63 - 1), "d": str(2**31 - 1)}
    assert json.loads(rows(found)[2]["properties"]) == {"at": "1970-01-01T00:00:00.000000Z", "d": "1970-01-01"}


# -- Protobuf --------------------------------------------------------------------------------------------------------


def test_a_protobuf_event_is_the_event_that_json_would_tell() -> None:
    as_json = event("e1", 0, user_id="u1", source="backend", properties={"order_id": "o1"})
    found = decoded(Known(protobuf_schema(7)), framed(7, b"\x00" + log(as_json)), encoded(as_json))
    first, second = rows(found)
    differs = {name for name, value in as_told(first).items() if value != as_told(second)[name]}
    assert differs == {"is_bot", "is_test", "consent"}  # what has no absence in Protobuf has a zero
    assert (first["is_bot"], first["is_test"], first["consent"]) == (False, False, [])


def test_a_bad_protobuf_message_is_isolated() -> None:
    good = framed(7, b"\x00" + log(event("e1")))
    found = decoded(Known(protobuf_schema(7)), good, good[:-3], framed(7, b"\x00\xff\xff"), framed(7, b""), good)
    assert found.events["offset"].sort().to_list() == [0, 4]
    assert reasons(found.undecodable) == {
        1: ["not_protobuf:schema 7"],
        2: ["not_protobuf:schema 7"],
        3: ["framing:no message indexes"],
    }


def test_the_message_indexes_choose_the_message() -> None:
    told = log(event("e1"))
    known = Known(protobuf_schema(7))
    second = framed(7, b"\x02\x02" + told)  # one index: 1, the second message of the file
    nested = framed(7, b"\x04\x02\x00" + told)  # two: 1, 0
    absent = framed(7, b"\x02\x08" + told)
    found = decoded(known, framed(7, b"\x02\x00" + told), second, nested, absent)
    assert found.events["offset"].to_list() == [0]
    assert reasons(found.malformed).keys() == {1}  # it has none of the envelope's fields
    assert "missing:event_id" in reasons(found.malformed)[1]
    assert {n: why[0].split(" ")[0] for n, why in reasons(found.undecodable).items()} == {
        2: "unsupported_schema:7",
        3: "unsupported_schema:7",
    }


def test_an_empty_protobuf_message_has_empty_fields_and_is_refused_for_them() -> None:
    judged = judge(records([framed(7, b"\x00")]), rules(Known(protobuf_schema(7))))
    assert {"missing:received_at", "missing:client_occurred_at"} <= set(judged.quarantined["reasons"][0])


# -- framing and the registry ----------------------------------------------------------------------------------------


def rules(known: Known) -> Rules:
    return replace(NOBODY_KNOWS, schemas=known)


def test_what_nobody_knows_is_dead_lettered_with_its_id() -> None:
    found = decode(
        records([framed(41, b"x"), b"\x00\x00", b"\x01" + bytes(16) + b"x", encoded(event("e1"))]), NoRegistry()
    )
    assert found.events["event_id"].to_list() == ["e1"]
    assert reasons(found.undecodable) == {
        0: ["unknown_schema:41"],
        1: ["framing:shorter than a schema id"],
        2: ["framing:with a GUID, which is not supported"],
    }


def test_json_framed_with_a_schema_is_json() -> None:
    found = decoded(Known(WriterSchema(3, "JSON", "{}")), framed(3, encoded(event("e1"))), framed(3, b"[1]"))
    assert found.events["event_id"].to_list() == ["e1"]
    assert reasons(found.undecodable) == {1: ["not_an_object"]}


def test_a_real_serializer_and_a_registry_in_memory() -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    serialize = AvroSerializer(client, json.dumps(EVENT_V1))
    value = serialize(as_python(event("e1", user_id="u1")), CONTEXT)
    found = decode(records([value]), Registry({"url": "mock://"}, client))
    assert found.events.select("event_id", "user_id").row(0) == ("e1", "u1")


def as_python(told: dict[str, object]) -> dict[str, Any]:
    """An event as a producer with this schema has it: instants and nothing where JSON leaves out."""
    return filled(EVENT_V1, told)


def test_references_are_told_with_the_schema() -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    stamp = base64.b64encode(timestamp_pb2.DESCRIPTOR.serialized_pb).decode()
    client.register_schema("google/protobuf/timestamp.proto", Schema(stamp, "PROTOBUF"))
    references = [SchemaReference("google/protobuf/timestamp.proto", "google/protobuf/timestamp.proto", 1)]
    text = base64.b64encode(LOG.SerializeToString()).decode()
    schema_id = client.register_schema("logs", Schema(text, "PROTOBUF", references))
    found = Registry({"url": "mock://"}, client).get(schema_id)
    assert found == WriterSchema(schema_id, "PROTOBUF", text, (("google/protobuf/timestamp.proto", stamp),))


def test_a_registry_that_does_not_answer_is_an_error_not_an_unknown_schema() -> None:
    registry = Registry({"url": "http://127.0.0.1:9", "max.retries": 0})
    with pytest.raises(RegistryUnavailable, match=r"http://127.0.0.1:9 does not answer for schema 5"):
        registry.get(5)


def test_the_registry_is_configured_by_the_names_that_users_know() -> None:
    assert Settings().registry_config() is None
    found = Settings(
        schema_registry_url="https://registry.example",
        schema_registry_basic_auth_user_info="me:secret",
        schema_registry_options={"ssl.ca.location": "/ca.pem", "timeout": "5"},
    )
    assert found.registry_config() == {
        "url": "https://registry.example",
        "basic.auth.user.info": "me:secret",
        "ssl.ca.location": "/ca.pem",
        "timeout": 5,
    }
    assert "secret" not in repr(found)
