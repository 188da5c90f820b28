"""Schemas and framed values for tests: the envelope in Avro, and in Protobuf."""

from __future__ import annotations

import base64
import io
import json
from datetime import datetime
from typing import Any

import fastavro
from google.protobuf import descriptor_pb2

from local_stack.simulator.formats import backend_log, message_class, message_of
from resources.schemas import WriterSchema
from support.records import event

_INSTANT = {"type": "long", "logicalType": "timestamp-micros"}

EVENT_V1: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        *({"name": n, "type": "string"} for n in ("event_id", "source", "event_name", "schema_ref")),
        *({"name": n, "type": _INSTANT} for n in ("client_occurred_at", "received_at")),
        {"name": "client_sent_at", "type": ["null", _INSTANT], "default": None},
        *(
            {"name": n, "type": ["null", "string"], "default": None}
            for n in ("anonymous_id", "user_id", "session_id", "platform", "country", "page_url")
        ),
        {"name": "session_seq", "type": ["null", "long"], "default": None},
        {"name": "utc_offset_minutes", "type": ["null", "int"], "default": None},
        {"name": "is_bot", "type": ["null", "boolean"], "default": None},
        {"name": "consent", "type": ["null", {"type": "array", "items": "string"}], "default": None},
        {"name": "properties", "type": {"type": "map", "values": "string"}},
    ],
}
"""The envelope, or some of it, as a producer might write it in Avro."""


def filled(schema: dict[str, Any], told: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event of JSON as a producer with an Avro schema has it: instants as instants, None where JSON leaves out."""
    names = {field["name"]: field for field in schema["fields"]}
    row = {name: told.get(name) for name in names}
    for name in ("client_occurred_at", "received_at", "client_sent_at"):
        if isinstance(row.get(name), str):
            row[name] = datetime.fromisoformat(str(row[name]))
    if "properties" in names:
        row["properties"] = told.get("properties", {})
    return {**row, **more}


def typed(schema: dict[str, Any], told: dict[str, Any], **more: Any) -> bytes:
    """An event in Avro, without framing."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), filled(schema, told, **more))
    return out.getvalue()


def avro_event(event_id: str, **fields: Any) -> bytes:
    """An event in Avro by `EVENT_V1`, without framing."""
    return typed(EVENT_V1, event(event_id, **fields))


def framed(schema_id: int, payload: bytes) -> bytes:
    """A payload as Confluent's serializers frame it."""
    return b"\x00" + schema_id.to_bytes(4, "big") + payload


def avro(schema_id: int, schema: dict[str, Any]) -> WriterSchema:
    """An Avro schema under an id."""
    return WriterSchema(schema_id, "AVRO", json.dumps(schema))


class Known:
    """Schemas that are known by heart."""

    def __init__(self, *schemas: WriterSchema) -> None:
        self.by_id = {schema.schema_id: schema for schema in schemas}

    def get(self, schema_id: int) -> WriterSchema | None:
        return self.by_id.get(schema_id)


def _log_file() -> descriptor_pb2.FileDescriptorProto:
    file = backend_log()
    other = file.message_type.add(name="Other")
    kinds = descriptor_pb2.FieldDescriptorProto
    other.field.add(name="text", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    return file


LOG = _log_file()
"""The file of the simulated backend's message; its second message is another one."""


def log_message(told: dict[str, Any]) -> Any:
    """An event as a message of `LOG`."""
    return message_of(message_class(LOG), told)


def log(told: dict[str, Any]) -> bytes:
    """An event in Protobuf by `LOG`, without framing."""
    return bytes(log_message(told).SerializeToString())


def protobuf_schema(schema_id: int) -> WriterSchema:
    """`LOG` under an id."""
    return WriterSchema(schema_id, "PROTOBUF", base64.b64encode(LOG.SerializeToString()).decode())
