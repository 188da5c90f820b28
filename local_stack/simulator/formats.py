"""Some of the traffic in other wire formats than JSON: the backend's in Protobuf, on its own topic; Android's in Avro.

Both are framed with the ids of schemas in the registry. What went wrong on the way, and is no event any more, stays
as it is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import fastavro
import msgspec
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from local_stack.simulator.corrupt import Delivery
from resources.envelope import TIMESTAMPS, WireEvent

_TEXTS = tuple(field.name for field in msgspec.structs.fields(WireEvent) if field.type in {str, str | None})
_REQUIRED_TEXTS = ("event_id", "source", "event_name", "schema_ref")
_TIMESTAMP_FILE = timestamp_pb2.DESCRIPTOR.name


def backend_log() -> descriptor_pb2.FileDescriptorProto:
    """The file of the backend's message, `shop.BackendLog`: the envelope, with properties as a map of texts."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="shop/backend_log.proto", package="shop", syntax="proto3", dependency=[_TIMESTAMP_FILE]
    )
    message = file.message_type.add(name="BackendLog")

    def add(name: str, kind: Any, label: Any = kinds.LABEL_OPTIONAL, type_name: str | None = None) -> None:
        message.field.add(name=name, number=len(message.field) + 1, type=kind, label=label, type_name=type_name)

    for name in _TEXTS:
        if name not in TIMESTAMPS:
            add(name, kinds.TYPE_STRING)
    for name in TIMESTAMPS:
        add(name, kinds.TYPE_MESSAGE, type_name=f".{timestamp_pb2.Timestamp.DESCRIPTOR.full_name}")
    for name in ("is_bot", "is_test"):
        add(name, kinds.TYPE_BOOL)
    add("consent", kinds.TYPE_STRING, kinds.LABEL_REPEATED)
    entry = message.nested_type.add(name="PropertiesEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    add("properties", kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, ".shop.BackendLog.PropertiesEntry")
    return file


def message_class(file: descriptor_pb2.FileDescriptorProto) -> Any:
    """The class of a file's first message, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{file.message_type[0].name}"))


def message_of(kind: Any, told: Mapping[str, Any]) -> Any:
    """An event of JSON as a message of such a class."""
    message = kind()
    for name, value in told.items():
        if value is None:
            continue
        if name in TIMESTAMPS:
            getattr(message, name).FromDatetime(datetime.fromisoformat(value))
        elif name == "properties":
            message.properties.update({key: _text(part) for key, part in value.items()})
        elif name == "consent":
            message.consent.extend(value)
        elif name in message.DESCRIPTOR.fields_by_name:
            setattr(message, name, value)
    return message


def client_event() -> dict[str, Any]:
    """The Avro schema of a client's event, `shop.ClientEvent`: the envelope, with properties as JSON."""
    instant = {"type": "long", "logicalType": "timestamp-micros"}
    types: dict[str, Any] = {
        **dict.fromkeys(_TEXTS, "string"),
        **dict.fromkeys(TIMESTAMPS, instant),
        "utc_offset_minutes": "int",
        "session_seq": "long",
        "is_bot": "boolean",
        "is_test": "boolean",
        "consent": {"type": "array", "items": "string"},
        "properties": "string",
    }
    required = {*_REQUIRED_TEXTS, "client_occurred_at", "received_at", "properties"}
    fields = [
        {"name": name, "type": dtype} if name in required else {"name": name, "type": ["null", dtype], "default": None}
        for name, dtype in types.items()
    ]
    return {"type": "record", "name": "ClientEvent", "namespace": "shop", "fields": fields}


class Routed(NamedTuple):
    """A record on its way."""

    topic: str
    delivery: Delivery


class Formats:
    """Puts deliveries into their wire formats, and says which topic they go to.

    Args:
        client: Of the registry; the schemas are registered with it.
        client_topic: Topic of the clients' events.
        backend_topic: Topic of the backend's.
    """

    def __init__(self, client: SchemaRegistryClient, client_topic: str, backend_topic: str) -> None:
        self._client_topic = client_topic
        self._backend_topic = backend_topic
        file = backend_log()
        stamp = base64.b64encode(timestamp_pb2.DESCRIPTOR.serialized_pb).decode()
        client.register_schema(_TIMESTAMP_FILE, Schema(stamp, "PROTOBUF"))
        reference = SchemaReference(
            _TIMESTAMP_FILE, _TIMESTAMP_FILE, client.get_latest_version(_TIMESTAMP_FILE).version
        )
        text = base64.b64encode(file.SerializeToString()).decode()
        logged = client.register_schema(f"{backend_topic}-value", Schema(text, "PROTOBUF", [reference]))
        self._log_frame = _frame(logged) + b"\x00"  # the file's first message
        self._log_class = message_class(file)
        schema = client_event()
        sent = client.register_schema(f"{client_topic}-value", Schema(msgspec.json.encode(schema).decode(), "AVRO"))
        self._avro_frame = _frame(sent)
        self._avro_schema = fastavro.parse_schema(schema)

    def route(self, delivery: Delivery) -> Routed:
        """A delivery in its format, and its topic."""
        told = _told(delivery.value)
        if told is not None and told["source"] == "backend":
            value = self._log_frame + bytes(message_of(self._log_class, told).SerializeToString())
            return Routed(self._backend_topic, msgspec.structs.replace(delivery, value=value))
        if told is not None and told["source"] == "android":
            return Routed(self._client_topic, msgspec.structs.replace(delivery, value=self._as_avro(told)))
        return Routed(self._client_topic, delivery)

    def _as_avro(self, told: Mapping[str, Any]) -> bytes:
        row = {field["name"]: told.get(field["name"]) for field in client_event()["fields"]}
        row |= {name: datetime.fromisoformat(told[name]) for name in TIMESTAMPS if told.get(name) is not None}
        row["properties"] = msgspec.json.encode(told.get("properties") or {}).decode()
        out = io.BytesIO(self._avro_frame)
        out.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(out, self._avro_schema, row)
        return out.getvalue()


def _told(value: bytes | None) -> dict[str, Any] | None:
    """What a value tells, where it is an event that another format can carry."""
    try:
        event = msgspec.json.decode(value or b"", type=WireEvent)
        for name in TIMESTAMPS:
            when = getattr(event, name)
            if when is not None and datetime.fromisoformat(when).tzinfo is None:
                return None
        told: dict[str, Any] = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError):
        return None
    return told


def _frame(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big")


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
