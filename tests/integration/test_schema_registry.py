"""The schema registry's process under Confluent's own client and serializers: what they ask for, they get."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from local_stack.process import LOOPBACK, ProcessFailed, free_port
from local_stack.registry import Compatibility, SchemaRegistry


def order(*fields: dict[str, Any]) -> Schema:
    return Schema(json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": fields}), "AVRO")


ID: dict[str, Any] = {"name": "id", "type": "string"}
AMOUNT: dict[str, Any] = {"name": "amount", "type": "long", "default": 0}
NOTE: dict[str, Any] = {"name": "note", "type": "string"}


def client_of(registry: SchemaRegistry, **more: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": registry.url, "max.retries": 0, **more})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    with SchemaRegistry(free_port(), folder / "registry.jsonl", folder / "registry.log") as running:
        yield running


@pytest.fixture
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with client_of(registry) as made:
        yield made


@pytest.fixture
def subject() -> str:
    """A subject of a test's own, with characters that must be escaped in a path."""
    return f"orders/€ {uuid.uuid4().hex[:8]}-value"


def asked(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str, Any]:
    """Status, content type and body of an answer."""
    request = urllib.request.Request(url, body, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return answer.status, answer.headers["Content-Type"], json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], json.load(error)


# The client.


def test_a_schema_is_registered_and_found(client: SchemaRegistryClient, subject: str) -> None:
    schema_id = client.register_schema(subject, order(ID))
    client.clear_caches()
    assert client.register_schema(subject, order(ID), normalize_schemas=True) == schema_id
    client.clear_caches()
    assert client.get_schema(schema_id) == order(ID)
    assert subject in client.get_subjects()
    assert client.get_versions(subject) == [1]
    assert [(use.subject, use.version) for use in client.get_schema_versions(schema_id)] == [(subject, 1)]
    assert client.lookup_schema(subject, order(ID)).version == 1
    second = client.register_schema(subject, order(ID, AMOUNT))
    assert second > schema_id
    for found in (client.get_latest_version(subject), client.get_version(subject, 2)):
        assert (found.subject, found.version, found.schema_id, found.schema) == (subject, 2, second, order(ID, AMOUNT))


def test_compatibility_is_tested_and_set(client: SchemaRegistryClient, subject: str) -> None:
    client.register_schema(subject, order(ID))
    assert client.test_compatibility(subject, order(ID, AMOUNT))
    assert not client.test_compatibility(subject, order(ID, NOTE))
    assert not client.test_compatibility(subject, order(ID, NOTE), version=1, verbose=True)
    assert not client.test_compatibility_all_versions(subject, order(ID, NOTE))
    assert client.get_compatibility() == "BACKWARD"
    assert client.set_compatibility(subject, "forward") == {"compatibility": "FORWARD"}
    assert client.get_compatibility(subject) == "FORWARD"
    assert client.test_compatibility(subject, order(ID, NOTE))
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.NONE))
    assert client.get_config(subject).compatibility_level == "NONE"
    client.delete_config(subject)
    assert not client.test_compatibility(subject, order(ID, NOTE))


def test_an_incompatible_schema_is_a_conflict_that_says_why(client: SchemaRegistryClient, subject: str) -> None:
    client.register_schema(subject, order(ID))
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema(subject, order(ID, NOTE))
    assert (caught.value.http_status_code, caught.value.error_code) == (409, 409)
    assert "reader_field_missing_default_value at /fields/1: note" in caught.value.error_message
    assert client.get_versions(subject) == [1]


def test_errors_have_the_codes_of_confluents_registry(client: SchemaRegistryClient, subject: str) -> None:
    client.register_schema(subject, order(ID))
    failures = [
        (404, 40401, lambda: client.get_latest_version("nobody")),
        (404, 40401, lambda: client.delete_subject("nobody")),
        (404, 40402, lambda: client.get_version(subject, 9)),
        (404, 40403, lambda: client.get_schema(999_999)),
        (404, 40403, lambda: client.lookup_schema(subject, order(ID, NOTE))),
        (404, 40408, lambda: client.get_compatibility("nobody")),
        (422, 42201, lambda: client.register_schema(subject, Schema('{"type": "nonsense"}', "AVRO"))),
        (422, 42201, lambda: client.register_schema(subject, Schema("message Order {}", "PROTOBUF"))),
        (422, 42201, lambda: client.register_schema(subject, Schema("<xml/>", "XML"))),
        (422, 42202, lambda: client.get_version(subject, "newest")),
        (422, 42203, lambda: client.set_compatibility(subject, "SIDEWARD")),
        (404, 404, client.get_contexts),
    ]
    for status, code, failure in failures:
        with pytest.raises(SchemaRegistryError) as caught:
            failure()
        assert (caught.value.http_status_code, caught.value.error_code) == (status, code)


def test_a_deleted_subject_is_gone_and_its_ids_are_not(client: SchemaRegistryClient, subject: str) -> None:
    ids = [client.register_schema(subject, schema) for schema in (order(ID), order(ID, AMOUNT))]
    assert client.delete_version(subject, 1) == 1
    assert client.get_versions(subject) == [2]
    assert client.get_versions(subject, deleted=True) == [1, 2]
    assert client.get_version(subject, 1, deleted=True).schema_id == ids[0]
    assert client.delete_subject(subject) == [2]
    assert subject not in client.get_subjects()
    assert subject in client.get_subjects(deleted=True)
    assert client.delete_subject(subject, permanent=True) == [1, 2]
    assert subject not in client.get_subjects(deleted=True)
    client.clear_caches()
    assert client.get_schema(ids[0]) == order(ID)


def test_a_schema_keeps_its_references(client: SchemaRegistryClient, subject: str) -> None:
    address = Schema('{"type": "record", "name": "shop.Address", "fields": [{"name": "c", "type": "string"}]}', "AVRO")
    client.register_schema(f"address of {subject}", address)
    reference = SchemaReference("shop.Address", f"address of {subject}", 1)
    schema = Schema(order(ID, {"name": "to", "type": "shop.Address"}).schema_str, "AVRO", [reference])
    schema_id = client.register_schema(subject, schema)
    client.clear_caches()
    assert client.get_schema(schema_id).references == [reference]


# The serializers.


def test_avro_goes_there_and_back_over_a_change_of_schema(client: SchemaRegistryClient, subject: str) -> None:
    context = SerializationContext(subject, MessageField.VALUE)
    old = AvroSerializer(client, order(ID).schema_str)
    new = AvroSerializer(client, order(ID, AMOUNT).schema_str)
    written = [old({"id": "a"}, context), new({"id": "b", "amount": 5}, context)]
    client.clear_caches()
    read = AvroDeserializer(client, order(ID, AMOUNT).schema_str)
    assert [read(value, context) for value in written] == [{"id": "a", "amount": 0}, {"id": "b", "amount": 5}]
    assert client.get_versions(f"{subject}-value") == [1, 2]
    found = client.get_schema(int.from_bytes(written[0][1:5], "big"))
    assert found == order(ID)


def test_protobuf_goes_there_and_back_with_its_imports(client: SchemaRegistryClient, subject: str) -> None:
    context = SerializationContext(subject, MessageField.VALUE)
    line = FileDescriptorProto(name=f"{subject}/line.proto", package="shop", syntax="proto3")
    line.message_type.add(name="Line").field.add(
        name="n", number=1, type=FieldDescriptorProto.TYPE_INT32, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    basket = FileDescriptorProto(name="basket.proto", package="shop", syntax="proto3")
    basket.dependency.extend([line.name, "google/protobuf/timestamp.proto"])
    message = basket.message_type.add(name="Basket")
    for number, (name, kind) in enumerate([("lines", ".shop.Line"), ("at", ".google.protobuf.Timestamp")], 1):
        label = FieldDescriptorProto.LABEL_REPEATED if number == 1 else FieldDescriptorProto.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=kind, label=label)
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(line)
    pool.Add(basket)
    made = GetMessageClass(pool.FindMessageTypeByName("shop.Basket"))
    sent = made(lines=[{"n": 3}], at={"seconds": 7})

    written = ProtobufSerializer(made, client)(sent, context)
    client.clear_caches()
    assert ProtobufDeserializer(made, schema_registry_client=client)(written, context) == sent
    found = client.get_latest_version(f"{subject}-value", fmt="serialized").schema
    assert found.schema_type == "PROTOBUF"
    assert [reference.name for reference in found.references or []] == [line.name]
    assert FileDescriptorProto.FromString(base64.b64decode(found.schema_str or "")).message_type == [message]


# HTTP itself.


def test_an_answer_has_the_type_and_the_shape_of_confluents(registry: SchemaRegistry) -> None:
    kind = "application/vnd.schemaregistry.v1+json"
    schema = order(ID, AMOUNT)
    body = json.dumps({"schema": schema.schema_str, "references": None}).encode()
    status, found_kind, told = asked(f"{registry.url}/subjects/shape%2F1/versions?normalize=true", "POST", body)
    assert (status, found_kind, list(told)) == (200, kind, ["id"])
    expected = {"subject": "shape/1", "version": 1, "id": told["id"], "schema": schema.schema_str}
    assert asked(f"{registry.url}/subjects/shape%2F1/versions/latest") == (200, kind, expected)
    assert asked(f"{registry.url}/schemas/ids/{told['id']}?subject=x") == (200, kind, {"schema": schema.schema_str})
    assert asked(f"{registry.url}/") == (200, kind, {})
    assert asked(f"{registry.url}/config/shape%2F1?defaultToGlobal=true")[2] == {"compatibilityLevel": "BACKWARD"}
    status, found_kind, told = asked(f"{registry.url}/subjects/none/versions")
    assert (status, found_kind) == (404, kind)
    assert told == {"error_code": 40401, "message": "Subject 'none' not found."}
    where = f"{registry.url}/compatibility/subjects/shape%2F1/versions/latest"
    wrong = json.dumps({"schema": order({"name": "id", "type": "int"}).schema_str}).encode()
    assert asked(where, "POST", wrong)[2] == {"is_compatible": False}
    (message,) = asked(f"{where}?verbose=true", "POST", wrong)[2]["messages"]
    assert "type_mismatch at /fields/0/type" in message


@pytest.mark.parametrize(
    "body",
    [b"", b"no JSON", b"[]", b"{}", b'{"schema": 3}', b'{"schema": "\\"int\\"", "metadata": {"properties": {}}}'],
)
def test_a_body_without_a_schema_that_can_be_kept_is_refused(registry: SchemaRegistry, body: bytes) -> None:
    status, _, told = asked(f"{registry.url}/subjects/spoilt/versions", "POST", body)
    assert (status, told["error_code"]) == (422, 42201)


def test_a_connection_is_kept_after_a_refusal(registry: SchemaRegistry) -> None:
    """The refused request's body is no part of the next one."""
    body = b'{"schema": "GET / HTTP/1.1"}'
    head = f"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    last = b"GET /schemas/types HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((LOOPBACK, registry.port), timeout=10) as connection:
        connection.sendall(head + body + last)
        told = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert told.count(b"HTTP/1.1 ") == 2
    assert told.startswith(b"HTTP/1.1 404 ")
    assert told.endswith(b'["AVRO","JSON","PROTOBUF"]')


# The process.


def test_ids_survive_a_kill(tmp_path: Path) -> None:
    registry = SchemaRegistry(free_port(), tmp_path / "registry.jsonl", tmp_path / "registry.log")
    with registry, client_of(registry) as client:
        ids = [client.register_schema("orders", schema) for schema in (order(ID), order(ID, AMOUNT))]
        client.set_compatibility("orders", "FULL")
        assert registry.pid is not None
        os.kill(registry.pid, signal.SIGKILL)
        registry.kill()
        assert not registry.running
        registry.start()
        client.clear_caches()
        assert [client.get_schema(number) for number in ids] == [order(ID), order(ID, AMOUNT)]
        assert client.get_versions("orders") == [1, 2]
        assert client.get_compatibility("orders") == "FULL"
        assert client.register_schema("others", order(NOTE)) == max(ids) + 1


def test_it_stops_in_order_and_starts_again(tmp_path: Path) -> None:
    registry = SchemaRegistry(free_port(), tmp_path / "registry.jsonl", tmp_path / "registry.log")
    with registry, client_of(registry) as client:
        assert client.register_schema("orders", order(ID)) == 1
        with pytest.raises(ProcessFailed, match="runs already"):
            registry.start()
    assert not registry.running
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, registry.port)) != 0
    with registry, client_of(registry) as client:
        assert client.get_schema(1) == order(ID)


def test_only_who_has_the_credentials_is_let_in(tmp_path: Path) -> None:
    registry = SchemaRegistry(
        free_port(), tmp_path / "registry.jsonl", tmp_path / "registry.log", user="reader:pass:wörd"
    )
    with registry:
        with client_of(registry, **{"basic.auth.user.info": "reader:pass:wörd"}) as client:
            assert client.register_schema("orders", order(ID)) == 1
        for wrong in ({}, {"basic.auth.user.info": "reader:other"}):
            with client_of(registry, **wrong) as client, pytest.raises(SchemaRegistryError) as caught:
                client.get_subjects()
            assert (caught.value.http_status_code, caught.value.error_code) == (401, 401)


def test_the_level_by_default_is_an_option(tmp_path: Path) -> None:
    registry = SchemaRegistry(
        free_port(), tmp_path / "registry.jsonl", tmp_path / "registry.log", compatibility=Compatibility.NONE
    )
    with registry, client_of(registry) as client:
        assert client.get_compatibility() == "NONE"
        client.set_compatibility(level="FULL")
    with registry, client_of(registry) as client:
        assert client.get_compatibility() == "FULL"


def test_a_port_in_use_is_a_clear_error(registry: SchemaRegistry, tmp_path: Path) -> None:
    second = SchemaRegistry(registry.port, tmp_path / "registry.jsonl", tmp_path / "second.log")
    with pytest.raises(ProcessFailed, match=rf"cannot listen on 127\.0\.0\.1:{registry.port}"):
        second.start()
    assert registry.running


def test_a_journal_in_use_or_spoilt_is_a_clear_error(registry: SchemaRegistry, tmp_path: Path) -> None:
    second = SchemaRegistry(free_port(), registry.file, tmp_path / "second.log")
    with pytest.raises(ProcessFailed, match="another registry has it"):
        second.start()
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text("no JSON\n")
    with pytest.raises(ProcessFailed, match=r"spoilt\.jsonl cannot be used: line 1"):
        SchemaRegistry(free_port(), spoilt, tmp_path / "third.log").start()
