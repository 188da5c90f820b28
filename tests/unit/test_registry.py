"""The schema registry's own rules: ids, versions, levels of compatibility, deletions, and the journal."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker
from avro.schema import parse as parse_avro
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from local_stack.schema_formats import parse
from local_stack.subjects import Compatibility, Journal, JournalBroken, Reference, Refused, Registry, Schema

SUBJECT = "orders-value"
Open = Callable[[], Registry]
Json = dict[str, Any]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "var" / "registry.jsonl"


@pytest.fixture
def registry(journal: Path) -> Registry:
    return Registry(Journal(journal))


@pytest.fixture
def reopened(journal: Path) -> Open:
    """Opens the registry anew, as after a restart."""
    opened: list[Journal] = []

    def again() -> Registry:
        for before in opened:
            before.close()
        opened.append(Journal(journal))
        return Registry(opened[-1])

    return again


def field(name: str, kind: Any, **more: Any) -> Json:
    return {"name": name, "type": kind, **more}


def record(*fields: Json, name: str = "Order", **more: Any) -> Json:
    return {"type": "record", "name": name, "namespace": "shop", "fields": list(fields), **more}


def avro(schema: Any, *references: Reference) -> Schema:
    return Schema(json.dumps(schema), "AVRO", references)


ID = field("id", "string")
BASE = record(ID, field("amount", "int"))


def refusal(action: Callable[[], object]) -> int:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code


# Ids and versions.


def test_ids_begin_at_one_and_versions_in_every_subject(registry: Registry) -> None:
    assert registry.register(SUBJECT, avro(BASE)) == 1
    assert registry.register("other", avro(record(ID))) == 2
    assert registry.register(SUBJECT, avro(record(ID))) == 2
    assert registry.versions(SUBJECT) == [1, 2]
    assert registry.versions("other") == [1]
    assert registry.subjects() == [SUBJECT, "other"]
    assert [(use.subject, use.version) for use in registry.uses(2)] == [(SUBJECT, 2), ("other", 1)]


def test_the_same_schema_has_the_same_id_however_it_is_written(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    spaced = Schema(json.dumps(dict(reversed(BASE.items())), indent=4))
    full_name = avro({**record({**ID, "type": {"type": "string"}}, field("amount", "int")), "name": "shop.Order"})
    assert registry.register(SUBJECT, spaced) == 1
    assert registry.register(SUBJECT, full_name) == 1
    assert registry.versions(SUBJECT) == [1]
    assert registry.lookup(SUBJECT, spaced).version == 1
    assert registry.schema(1) == avro(BASE)


def test_the_order_of_properties_makes_no_other_schema(registry: Registry) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2, "unit": "EUR"}
    assert registry.register("one", avro(decimal)) == 1
    assert registry.register("two", avro(dict(reversed(decimal.items())))) == 1


@pytest.mark.parametrize(
    "other",
    [
        record(ID, field("amount", "int", default=0)),
        record(ID, field("amount", "int", default=0, aliases=["sum"])),
        record(ID, field("amount", "int"), aliases=["Purchase"]),
        record(ID, field("amount", {"type": "int", "logicalType": "date"})),
        record(ID, field("amount", "int", doc="in cents")),
    ],
    ids=["default", "alias of a field", "alias of a type", "logical type", "doc"],
)
def test_what_the_parsing_canonical_form_leaves_out_makes_another_schema(registry: Registry, other: Json) -> None:
    assert registry.register("one", avro(BASE)) == 1
    assert registry.register("two", avro(other)) == 2


def test_what_is_not_there_is_refused_with_its_code(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    assert refusal(lambda: registry.versions("nobody")) == 40401
    assert refusal(lambda: registry.lookup("nobody", avro(BASE))) == 40401
    assert refusal(lambda: registry.version(SUBJECT, "2")) == 40402
    assert refusal(lambda: registry.problems(SUBJECT, avro(BASE), "2")) == 40402
    assert refusal(lambda: registry.schema(2)) == 40403
    assert refusal(lambda: registry.uses(2)) == 40403
    assert refusal(lambda: registry.lookup(SUBJECT, avro(record(ID)))) == 40403
    assert refusal(lambda: registry.compatibility(SUBJECT)) == 40408
    assert refusal(lambda: registry.set_compatibility("SIDEWARD")) == 42203


@pytest.mark.parametrize("version", ["0", "-2", "newest", "1.0", "", "\u0661"])
def test_what_is_no_version_is_refused(registry: Registry, version: str) -> None:
    registry.register(SUBJECT, avro(BASE))
    assert refusal(lambda: registry.version(SUBJECT, version)) == 42202
    assert registry.version(SUBJECT, "-1") == registry.version(SUBJECT, "latest") == registry.version(SUBJECT, "1")


def test_threads_that_register_at_once_get_one_id_for_one_schema(registry: Registry) -> None:
    registry.set_compatibility("NONE")
    schemas = [avro(record(ID, name=f"R{n}")) for n in range(10)]
    told: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: told.append([registry.register(SUBJECT, schema) for schema in schemas]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert all(ids == told[0] for ids in told)
    assert sorted(told[0]) == registry.versions(SUBJECT) == list(range(1, 11))


# Compatibility of Avro schemas.

CHANGES: dict[str, tuple[Json, Json, set[str]]] = {
    "a field added with a default": (BASE, record(*BASE["fields"], field("note", "string", default="")), {"B", "F"}),
    "a field added without a default": (BASE, record(*BASE["fields"], field("note", "string")), {"F"}),
    "a field without a default removed": (BASE, record(ID), {"B"}),
    "an optional field removed": (
        record(ID, field("note", ["null", "string"], default=None)),
        record(ID),
        {"B", "F"},
    ),
    "a widened number": (BASE, record(ID, field("amount", "long")), {"B"}),
    "a narrowed number": (record(ID, field("amount", "long")), BASE, {"F"}),
    "a field made optional": (BASE, record(ID, field("amount", ["null", "int"])), {"B"}),
    "a field renamed by an alias": (BASE, record(ID, field("sum", "int", aliases=["amount"])), {"B"}),
    "a field renamed without one": (BASE, record(ID, field("sum", "int")), set()),
    "a type renamed by an alias": (BASE, {**BASE, "name": "Purchase", "aliases": ["shop.Order"]}, {"B"}),
    "a type renamed by an alias without a namespace": (BASE, {**BASE, "name": "Purchase", "aliases": ["Order"]}, {"B"}),
    "a type renamed by another namespace's alias": (BASE, {**BASE, "name": "Purchase", "aliases": ["x.Order"]}, set()),
    "a type changed": (BASE, record(ID, field("amount", "boolean")), set()),
    "a string that becomes bytes": (BASE, record(field("id", "bytes"), field("amount", "int")), {"B", "F"}),
    "a symbol added": (
        record(field("plan", {"type": "enum", "name": "Plan", "symbols": ["FREE"]})),
        record(field("plan", {"type": "enum", "name": "Plan", "symbols": ["FREE", "PRO"]})),
        {"B"},
    ),
    "a type changed two levels below": (
        record(field("lines", {"type": "array", "items": record(field("n", "int"), name="Line")})),
        record(field("lines", {"type": "array", "items": record(field("n", "string"), name="Line")})),
        set(),
    ),
    "a type that holds itself": (
        record(field("next", ["null", "shop.Order"]), field("n", "int")),
        record(field("next", ["null", "shop.Order"]), field("n", "long")),
        {"B"},
    ),
}


@pytest.mark.parametrize("level", list(Compatibility))
@pytest.mark.parametrize("change", CHANGES)
def test_a_level_accepts_what_it_promises_and_nothing_else(registry: Registry, level: str, change: str) -> None:
    old, new, holds = CHANGES[change]
    promised = {"NONE": set(), "BACKWARD": {"B"}, "FORWARD": {"F"}, "FULL": {"B", "F"}}
    is_accepted = promised[level.removesuffix("_TRANSITIVE")] <= holds
    registry.set_compatibility(level)
    registry.register(SUBJECT, avro(old))
    assert (registry.problems(SUBJECT, avro(new)) == []) is is_accepted
    assert (registry.problems(SUBJECT, avro(new), "latest") == []) is is_accepted
    if is_accepted:
        assert registry.register(SUBJECT, avro(new)) == 2
    else:
        assert refusal(lambda: registry.register(SUBJECT, avro(new))) == 409
        assert registry.versions(SUBJECT) == [1]


@pytest.mark.parametrize("kind", ["BACKWARD", "FORWARD", "FULL"])
def test_only_a_transitive_level_looks_behind_the_latest_version(registry: Registry, kind: str) -> None:
    """The field comes back with another type, between versions that have none."""
    versions = [record(ID, field("note", kind, default=default)) for kind, default in (("int", 0), ("string", ""))]
    for subject, level, code in (("direct", kind, None), ("transitive", f"{kind}_TRANSITIVE", 409)):
        registry.set_compatibility(level, subject)
        registry.register(subject, avro(versions[0]))
        registry.register(subject, avro(record(ID)))
        if code is None:
            assert registry.register(subject, avro(versions[1])) == 3
        else:
            assert refusal(lambda: registry.register("transitive", avro(versions[1]))) == code
            assert registry.problems("transitive", avro(versions[1]), "2") == []
            assert registry.problems("transitive", avro(versions[1]), "1") != []


def test_a_problem_says_where_it_is_and_who_cannot_read(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    (problem,) = registry.problems(SUBJECT, avro(record(ID, field("amount", "boolean"))))
    assert problem.startswith("version 1: the new schema cannot read the old one's records: ")
    assert "type_mismatch at /fields/1/type: reader type: boolean not compatible with writer type: int" in problem


def test_a_subject_has_its_own_level_or_that_of_all(registry: Registry) -> None:
    changed = avro(record(ID, field("amount", "boolean")))
    assert registry.compatibility() == "BACKWARD"
    assert registry.compatibility("free", or_default=True) == "BACKWARD"
    registry.set_compatibility("NONE", "free")
    for subject in ("free", "strict"):
        registry.register(subject, avro(BASE))
    assert registry.register("free", changed) == 2
    assert refusal(lambda: registry.register("strict", changed)) == 409
    assert registry.unset_compatibility("free") == "NONE"
    assert refusal(lambda: registry.register("free", avro(record(field("id", "int"))))) == 409
    registry.set_compatibility("NONE")
    assert registry.register("strict", changed) == 2


def test_a_first_version_is_compatible_with_nothing_there(registry: Registry) -> None:
    assert registry.problems("new", avro(BASE)) == registry.problems("new", avro(BASE), "latest") == []


# What the package `avro` does not do, and what is done about it.


def test_the_package_takes_an_alias_without_a_namespace_for_a_full_name() -> None:
    """Why aliases are written out; once this fails, they need not be."""
    renamed = {**BASE, "name": "Purchase", "aliases": ["Order"]}
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(parse_avro(json.dumps(renamed)), parse_avro(json.dumps(BASE)))
    assert found.compatibility.value == "incompatible"


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("int", "x"),
        ("int", 1 << 31),
        ("int", True),
        ("long", 1 << 63),
        ("long", 1.5),
        ("double", "1"),
        ("boolean", 0),
        ("null", 0),
        ("string", None),
        ("bytes", "€"),
        (["null", "string"], 1),
        ({"type": "array", "items": "int"}, [1, "x"]),
        ({"type": "map", "values": "int"}, {"a": "x"}),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 2}, "abc"),
        (record(ID, name="Inner"), {}),
    ],
)
def test_a_default_that_is_no_value_of_its_type_is_refused(registry: Registry, kind: Any, default: Any) -> None:
    """The package accepts it, and says that the field may be added."""
    schema = record(field("it", kind, default=default))
    parse_avro(json.dumps(schema))
    assert refusal(lambda: registry.register(SUBJECT, avro(schema))) == 42201


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: {"type": "array", "items": inner},
        lambda inner: {"type": "map", "values": inner},
        lambda inner: ["null", inner],
        lambda inner: record(field("inner", inner), name="Outer"),
    ],
    ids=["array", "map", "union", "record"],
)
def test_a_default_is_looked_at_wherever_it_stands(registry: Registry, around: Callable[[Json], Any]) -> None:
    assert registry.register("right", avro(around(record(field("it", "int", default=0))))) == 1
    wrong = avro(around(record(field("it", "int", default="x"))))
    assert refusal(lambda: registry.register("wrong", wrong)) == 42201


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("int", -(1 << 31)),
        ("long", (1 << 63) - 1),
        ("float", 1),
        ("bytes", "\u00ff"),
        (["null", "string"], None),
        (["null", "string"], "of the second branch"),
        ({"type": "array", "items": "int"}, []),
        ({"type": "map", "values": "int"}, {"a": 1}),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A"),
        ({"type": "fixed", "name": "F", "size": 2}, "ab"),
        ({"type": "long", "logicalType": "timestamp-millis"}, 0),
        (record(field("id", "string", default=""), name="Inner"), {}),
    ],
)
def test_a_default_of_its_type_is_taken(registry: Registry, kind: Any, default: Any) -> None:
    registry.register(SUBJECT, avro(record()))
    assert registry.register(SUBJECT, avro(record(field("it", kind, default=default)))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[" * 100_000,
        "3",
        "{}",
        '"shop.Order"',
        '{"type": "record", "name": "R"}',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Nowhere"}]}',
        '{"type": "record", "name": "R", "fields": [{"name": "a-b", "type": "int"}]}',
        '{"type": "record", "name": "R", "aliases": "Q", "fields": []}',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "aliases": "b"}]}',
        '{"type": "error", "name": "E", "fields": []}',
        '{"type": "bytes", "logicalType": ["decimal"]}',
        '{"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}',
    ],
)
def test_what_is_no_avro_schema_is_refused(registry: Registry, text: str) -> None:
    assert refusal(lambda: registry.register(SUBJECT, Schema(text))) == 42201
    assert registry.subjects() == []


def test_logical_types_are_not_compared(registry: Registry) -> None:
    """As in Confluent's registry: the change of a decimal's scale passes, and is for the reader to see."""

    def money(scale: int) -> Schema:
        return avro(record(field("m", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale})))

    registry.register(SUBJECT, money(2))
    assert registry.register(SUBJECT, money(4)) == 2


# References.


def test_a_reference_is_resolved_and_keeps_what_it_refers_to(registry: Registry) -> None:
    address = record(field("city", "string"), name="Address")
    order = record(ID, field("to", "shop.Address"))
    reference = Reference("shop.Address", "address", 1)
    assert refusal(lambda: registry.register(SUBJECT, avro(order, reference))) == 42201
    registry.register("address", avro(address))
    assert refusal(lambda: registry.register(SUBJECT, avro(order))) == 42201
    assert refusal(lambda: registry.register(SUBJECT, Schema("{}", "JSON", (reference,)))) == 42201
    assert registry.register(SUBJECT, avro(order, reference)) == 2
    assert registry.schema(2).references == (reference,)
    assert refusal(lambda: registry.delete_subject("address")) == 42206
    assert refusal(lambda: registry.delete_version("address", "1")) == 42206
    registry.delete_subject(SUBJECT)
    assert registry.delete_subject("address") == [1]


def test_a_reference_may_refer_to_others(registry: Registry) -> None:
    city = record(field("name", "string"), name="City")
    address = record(field("city", "shop.City"), name="Address")
    registry.register("city", avro(city))
    registry.register("address", avro(address, Reference("shop.City", "city", 1)))
    order = record(ID, field("to", "shop.Address"))
    assert registry.register(SUBJECT, avro(order, Reference("shop.Address", "address", 1))) == 3


def test_other_references_make_another_schema(registry: Registry) -> None:
    registry.register("part", Schema('{"title": "part"}', "JSON"))
    text = '{"properties": {"part": {"$ref": "part.json"}}}'
    assert registry.register("with", Schema(text, "JSON", (Reference("part.json", "part", 1),))) == 2
    assert registry.register("without", Schema(text, "JSON")) == 3


def test_what_a_reference_refers_to_is_compared_too(registry: Registry) -> None:
    registry.set_compatibility("NONE", "address")
    for kind in ("string", "int"):
        registry.register("address", avro(record(field("city", kind), name="Address")))
    order = record(ID, field("to", "shop.Address"))
    registry.register(SUBJECT, avro(order, Reference("shop.Address", "address", 1)))
    assert refusal(lambda: registry.register(SUBJECT, avro(order, Reference("shop.Address", "address", 2)))) == 409


# Deletions.


def test_a_deleted_version_is_out_of_sight_and_its_schema_is_not(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    registry.register(SUBJECT, avro(record(ID)))
    assert registry.delete_version(SUBJECT, "latest") == 2
    assert registry.versions(SUBJECT) == [1]
    assert registry.versions(SUBJECT, deleted=True) == [1, 2]
    assert registry.version(SUBJECT, "latest").version == 1
    assert refusal(lambda: registry.version(SUBJECT, "2")) == 40402
    assert registry.version(SUBJECT, "2", deleted=True).schema_id == 2
    assert refusal(lambda: registry.lookup(SUBJECT, avro(record(ID)))) == 40403
    assert registry.lookup(SUBJECT, avro(record(ID)), deleted=True).version == 2
    assert registry.schema(2) == avro(record(ID))
    assert registry.uses(2) == []
    assert refusal(lambda: registry.delete_version(SUBJECT, "2")) == 40406
    assert registry.register(SUBJECT, avro(record(ID))) == 2
    assert registry.versions(SUBJECT) == [1, 3]
    assert registry.lookup(SUBJECT, avro(record(ID)), deleted=True).version == 3
    assert registry.delete_version(SUBJECT, "latest") == 3
    assert registry.delete_version(SUBJECT, "latest") == 1


def test_a_deleted_version_binds_nobody(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    changed = avro(record(ID, field("amount", "boolean")))
    assert refusal(lambda: registry.register(SUBJECT, changed)) == 409
    registry.delete_version(SUBJECT, "1")
    assert registry.register(SUBJECT, changed) == 2


def test_a_deleted_subject_loses_its_level_and_no_id_is_given_again(registry: Registry) -> None:
    registry.set_compatibility("NONE", SUBJECT)
    registry.register(SUBJECT, avro(BASE))
    assert refusal(lambda: registry.delete_subject(SUBJECT, permanent=True)) == 40405
    assert registry.delete_subject(SUBJECT) == [1]
    assert registry.subjects() == []
    assert registry.subjects(deleted=True) == [SUBJECT]
    assert refusal(lambda: registry.compatibility(SUBJECT)) == 40408
    assert refusal(lambda: registry.delete_subject(SUBJECT)) == 40404
    assert refusal(lambda: registry.delete_subject("nobody")) == 40401
    assert registry.delete_subject(SUBJECT, permanent=True) == [1]
    assert registry.subjects(deleted=True) == []
    assert registry.schema(1) == avro(BASE)
    assert registry.register(SUBJECT, avro(record(ID))) == 2


def test_one_version_may_be_forgotten(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    registry.register(SUBJECT, avro(record(ID)))
    assert refusal(lambda: registry.delete_version(SUBJECT, "1", permanent=True)) == 40407
    registry.delete_version(SUBJECT, "1")
    assert registry.delete_version(SUBJECT, "1", permanent=True) == 1
    assert registry.versions(SUBJECT, deleted=True) == [2]


# Protobuf and JSON.


def message(name: str, *fields: tuple[str, int, str], nested: Sequence[DescriptorProto] = ()) -> DescriptorProto:
    """A message; a field is a name, a number, and a type (`int32`, `repeated int32`, `.shop.Line`)."""
    made = DescriptorProto(name=name, nested_type=nested)
    for called, number, kind in fields:
        added = made.field.add(name=called, number=number)
        is_repeated, word = kind.startswith("repeated "), kind.removeprefix("repeated ")
        added.label = FieldDescriptorProto.LABEL_REPEATED if is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
        if word.startswith("."):
            added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, word
        else:
            added.type = FieldDescriptorProto.Type.Value(f"TYPE_{word.upper()}")
    return made


def proto(*messages: DescriptorProto, imports: Sequence[str] = ()) -> Schema:
    file = FileDescriptorProto(
        name="order.proto", package="shop", syntax="proto3", message_type=messages, dependency=imports
    )
    return Schema(base64.b64encode(file.SerializeToString()).decode(), "PROTOBUF")


ORDER = message("Order", ("id", 1, "string"), ("amount", 2, "int32"))


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        (proto(message("Order", ("id", 1, "string"), ("amount", 2, "int32"), ("note", 3, "string"))), None),
        (proto(message("Order", ("id", 1, "string"))), None),
        (proto(message("Order", ("key", 1, "bytes"), ("amount", 2, "int64"))), None),
        (proto(ORDER, message("Line")), None),
        (proto(message("Purchase", ("id", 1, "string"))), "the reader has no message shop.Order"),
        (
            proto(message("Order", ("id", 1, "string"), ("amount", 2, "sint32"))),
            "field 2 of shop.Order is a varint when written and a zigzag varint when read",
        ),
        (
            proto(message("Order", ("id", 1, ".shop.Key"))),
            "field 1 of shop.Order is a string when written and message .shop.Key when read",
        ),
        (
            proto(message("Order", ("id", 1, "string"), ("amount", 2, "repeated int32"))),
            "field 2 of shop.Order is repeated when read, and singular else",
        ),
    ],
    ids=[
        "field added",
        "field removed",
        "same on the wire",
        "message added",
        "message removed",
        "type",
        "kind",
        "label",
    ],
)
def test_protobuf_is_compared_by_messages_types_and_labels(
    registry: Registry, new: Schema, problem: str | None
) -> None:
    registry.register(SUBJECT, proto(ORDER))
    found = registry.problems(SUBJECT, new)
    if problem is None:
        assert found == []
    else:
        assert found == [f"version 1: the new schema cannot read the old one's records: {problem}"]


def test_protobuf_messages_within_messages_are_compared(registry: Registry) -> None:
    def schema(kind: str) -> Schema:
        return proto(message("Order", ("line", 1, ".shop.Order.Line"), nested=[message("Line", ("n", 1, kind))]))

    registry.register(SUBJECT, schema("int32"))
    assert registry.problems(SUBJECT, schema("int64")) == []
    (problem,) = registry.problems(SUBJECT, schema("double"))
    assert "field 1 of shop.Order.Line is a varint when written and double when read" in problem


def test_the_same_descriptor_has_the_same_id_however_it_is_serialised(registry: Registry) -> None:
    name = FileDescriptorProto(name="order.proto").SerializeToString()
    messages = FileDescriptorProto(message_type=[ORDER]).SerializeToString()
    for serialised in (name + messages, messages + name):
        text = base64.b64encode(serialised).decode()
        assert registry.register(SUBJECT, Schema(text, "PROTOBUF")) == 1


def test_a_protobuf_message_that_is_added_is_not_forward_compatible(registry: Registry) -> None:
    """As in Confluent's registry: the old schema lacks what the new one writes."""
    registry.set_compatibility("FORWARD")
    registry.register(SUBJECT, proto(ORDER))
    assert refusal(lambda: registry.register(SUBJECT, proto(ORDER, message("Line")))) == 409


@pytest.mark.parametrize(
    "text",
    ['syntax = "proto3"; message Order {}', "", "AAAA", base64.b64encode(b"no descriptor").decode(), "bWVo"],
)
def test_what_is_no_serialised_descriptor_is_refused(registry: Registry, text: str) -> None:
    assert refusal(lambda: registry.register(SUBJECT, Schema(text, "PROTOBUF"))) == 42201


def test_proto_text_is_told_what_to_do(registry: Registry) -> None:
    with pytest.raises(Refused, match=r"takes no \.proto text, register the serialised descriptor"):
        registry.register(SUBJECT, Schema('syntax = "proto3"; message Order {}', "PROTOBUF"))


def test_an_import_must_be_a_reference_or_well_known(registry: Registry) -> None:
    assert registry.register("known", proto(ORDER, imports=["google/protobuf/timestamp.proto"])) == 1
    importing = proto(message("Basket"), imports=["order.proto"])
    assert refusal(lambda: registry.register(SUBJECT, importing)) == 42201
    with_reference = Schema(importing.schema, "PROTOBUF", (Reference("order.proto", "known", 1),))
    assert registry.register(SUBJECT, with_reference) == 2


def test_json_schemas_are_the_same_or_refused(registry: Registry) -> None:
    first, second = (Schema(json.dumps({"type": "object", "title": title}), "JSON") for title in ("a", "b"))
    assert registry.register(SUBJECT, first) == 1
    assert registry.register(SUBJECT, Schema('{ "title": "a", "type": "object" }', "JSON")) == 1
    with pytest.raises(Refused, match="does not compare JSON schemas"):
        registry.register(SUBJECT, second)
    registry.set_compatibility("NONE", SUBJECT)
    assert registry.register(SUBJECT, second) == 2
    assert refusal(lambda: registry.register(SUBJECT, Schema("[]", "JSON"))) == 42201


def test_another_type_of_schema_cannot_follow(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    assert refusal(lambda: registry.register(SUBJECT, proto(ORDER))) == 409
    registry.set_compatibility("NONE", SUBJECT)
    assert registry.register(SUBJECT, proto(ORDER)) == 2


def test_the_same_text_of_another_type_is_another_schema() -> None:
    text = json.dumps(BASE, sort_keys=True)
    assert parse("AVRO", text).type != parse("JSON", text).type


# The journal.


def filled(registry: Registry) -> None:
    registry.register(SUBJECT, avro(BASE))
    registry.register("address", avro(record(field("city", "string"), name="Address")))
    registry.register("to", avro(record(field("to", "shop.Address")), Reference("shop.Address", "address", 1)))
    registry.set_compatibility("NONE", SUBJECT)
    registry.register(SUBJECT, avro(record(field("id", "int"))))
    registry.register("gone", proto(ORDER))
    registry.delete_version(SUBJECT, "1")
    registry.delete_subject("gone")
    registry.delete_subject("gone", permanent=True)
    registry.set_compatibility("FULL")
    registry.set_compatibility("FORWARD", "address")
    registry.unset_compatibility("address")


def seen(registry: Registry) -> object:
    subjects = registry.subjects(deleted=True)
    return (
        [(subject, registry.versions(subject), registry.versions(subject, deleted=True)) for subject in subjects],
        [registry.version(subject, "latest") for subject in subjects],
        [registry.schema(number) for number in range(1, 6)],
        [registry.compatibility(subject, or_default=True) for subject in (None, *subjects)],
    )


def test_all_of_it_survives_a_restart(reopened: Open) -> None:
    registry = reopened()
    filled(registry)
    before = seen(registry)
    again = reopened()
    assert seen(again) == before
    assert again.register("another", avro(record(name="New"))) == 6
    assert again.register("gone", proto(ORDER)) == 5
    assert refusal(lambda: again.schema(7)) == 40403


def test_a_restart_after_any_kill_has_all_that_was_answered(journal: Path, reopened: Open) -> None:
    registry = reopened()
    ends = [0]
    told = []
    for n in range(3):
        told.append(registry.register(f"s{n}", avro(record(name=f"R{n}"))))
        ends.append(journal.stat().st_size)
    whole = journal.read_bytes()
    for size in range(len(whole) + 1):
        journal.write_bytes(whole[:size])
        answered = sum(end <= size for end in ends) - 1
        again = reopened()
        assert again.subjects() == [f"s{n}" for n in range(answered)]
        assert journal.read_bytes() == whole[: ends[answered]]
        # What comes next stands on a line of its own.
        assert again.register("next", avro(record(name="Next"))) == answered + 1
        assert reopened().version("next", "1").schema_id == answered + 1
    assert told == [1, 2, 3]


def test_a_spoilt_line_in_the_middle_is_no_tear(journal: Path, reopened: Open) -> None:
    filled(reopened())
    lines = journal.read_bytes().splitlines(keepends=True)
    for spoilt in (
        b"\x00\n",
        b"3\n",
        b"{}\n",
        b'{"op": "delete", "subject": "x", "versions": [1], "permanent": true}\n',
    ):
        journal.write_bytes(b"".join([lines[0], spoilt, *lines[2:]]))
        with pytest.raises(JournalBroken, match="line 2"):
            reopened()


def test_two_registries_cannot_share_a_journal(journal: Path, registry: Registry) -> None:
    with pytest.raises(OSError, match="another registry has it"):
        Journal(journal)
    assert registry.register(SUBJECT, avro(BASE)) == 1


def test_after_a_failed_write_nothing_is_taken_until_a_restart(reopened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = reopened()
    registry.register(SUBJECT, avro(BASE))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("local_stack.subjects.os.fsync", full)
        assert refusal(lambda: registry.register("b", avro(record(name="B")))) == 50001
    assert refusal(lambda: registry.register("c", avro(record(name="C")))) == 50001
    assert registry.subjects() == [SUBJECT]
    assert registry.schema(1) == avro(BASE)
    again = reopened()
    ids = [again.register("b", avro(record(name="B"))), again.register("c", avro(record(name="C")))]
    assert ids == [2, 3]
