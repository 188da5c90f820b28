"""The formats of schemas that the local registry keeps: when two are the same, and what a reader cannot read.

Avro is judged by the package `avro`, and by what is added here where it says nothing: defaults that are not of their
field's type, names of fields, aliases without a namespace. Of Protobuf three things are compared: messages that are
gone, types of numbers, repeated against singular. JSON schemas are not compared.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.name import Names
from avro.schema import make_avsc_object
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

SchemaType = Literal["AVRO", "PROTOBUF", "JSON"]


class InvalidSchema(ValueError):
    """A text that is no schema of its type; the message says why."""


class Referenced(NamedTuple):
    """A schema that another one refers to.

    Attributes:
        name: What the other one calls it: a full name (Avro), or the path that is imported (Protobuf).
        text: Its own text.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Parsed:
    """A schema that was understood.

    Attributes:
        type: Its format.
        normalised: The same text for the same schema, however it is written.
        form: What the format's comparison works on.
    """

    type: SchemaType
    normalised: str
    form: Any


def parse(schema_type: SchemaType, text: str, referenced: Sequence[Referenced] = ()) -> Parsed:
    """Understand a schema.

    Args:
        schema_type: Its format.
        text: JSON for Avro and JSON, the base64 of a serialised `FileDescriptorProto` for Protobuf.
        referenced: The schemas it refers to, each behind those that it refers to itself.

    Raises:
        InvalidSchema: It is none.
    """
    if schema_type == "AVRO":
        return _parse_avro(text, referenced)
    if schema_type == "PROTOBUF":
        return _parse_protobuf(text, referenced)
    form = _json(text)
    if not isinstance(form, dict):
        msg = "a JSON schema must be a JSON object"
        raise InvalidSchema(msg)
    return Parsed("JSON", json.dumps(form, sort_keys=True), form)


def unreadable(reader: Parsed, writer: Parsed) -> list[str]:
    """What keeps a reader with one schema from reading what was written with another; empty where nothing does."""
    if reader.type != writer.type:
        return [f"the schema's type is {reader.type} for the one and {writer.type} for the other"]
    if reader.type == "AVRO":
        return _unreadable_avro(reader.form, writer.form)
    if reader.type == "PROTOBUF":
        return list(_unreadable_protobuf(reader.form, writer.form))
    if reader.normalised == writer.normalised:
        return []
    return ["the local registry does not compare JSON schemas: set the subject's compatibility to NONE to change one"]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"the schema is no JSON: {error}"
        raise InvalidSchema(msg) from error


def _parse_avro(text: str, referenced: Sequence[Referenced]) -> Parsed:
    names = Names()
    try:
        for each in referenced:
            make_avsc_object(_json(each.text), names)
        schema = make_avsc_object(_json(text), names)
        # Not the parsing canonical form: it leaves out defaults, aliases and logical types.
        normalised = json.dumps(schema.to_json(), sort_keys=True)
        _check_avro(schema, set())
    except (AvroException, TypeError, RecursionError) as error:  # the package lets some of Python's own through
        msg = f"the Avro schema is invalid: {error}"
        raise InvalidSchema(msg) from error
    return Parsed("AVRO", normalised, schema)


def _check_avro(schema: Any, seen: set[int]) -> None:
    """Check what the package does not, and write out the aliases of types, which it compares with full names."""
    if id(schema) in seen:
        return
    seen.add(id(schema))
    if schema.type == "error":
        msg = "an error belongs to a protocol: register a record"
        raise InvalidSchema(msg)
    if schema.type in {"record", "enum", "fixed"}:
        space = f"{schema.namespace}." if schema.namespace else ""
        full = [alias if "." in alias else space + alias for alias in _aliases(schema)]
        schema.set_prop("aliases", full)
    if schema.type == "record":
        for field in schema.fields:
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", field.name):
                msg = f"{field.name!r} is no name of a field"
                raise InvalidSchema(msg)
            _aliases(field)
            _check_avro(field.type, seen)
            if field.has_default and not _is_value(field.type, field.default):
                msg = f"the default {field.default!r} of the field {field.name!r} is no {field.type.type}"
                raise InvalidSchema(msg)
    for inner in _inner(schema):
        _check_avro(inner, seen)


def _aliases(named: Any) -> list[str]:
    aliases = named.props.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        msg = f"the aliases of {named.name!r} must be a list of names"
        raise InvalidSchema(msg)
    return aliases


def _inner(schema: Any) -> list[Any]:
    if schema.type == "array":
        return [schema.items]
    if schema.type == "map":
        return [schema.values]
    return list(schema.schemas) if schema.type == "union" else []


def _is_integer(bits: int) -> Callable[[Any, Any], bool]:
    return lambda _, value: type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1


def _is_number(_: Any, value: Any) -> bool:
    return type(value) in {int, float}


def _is_bytes(_: Any, value: Any) -> bool:
    return isinstance(value, str) and all(ord(character) < 256 for character in value)


_VALUES: dict[str, Callable[[Any, Any], bool]] = {
    "null": lambda _, value: value is None,
    "boolean": lambda _, value: isinstance(value, bool),
    "int": _is_integer(32),
    "long": _is_integer(64),
    "float": _is_number,
    "double": _is_number,
    "string": lambda _, value: isinstance(value, str),
    "bytes": _is_bytes,
    "fixed": lambda schema, value: _is_bytes(schema, value) and len(value) == schema.size,
    "enum": lambda schema, value: value in schema.symbols,
    "array": lambda schema, value: isinstance(value, list) and all(_is_value(schema.items, item) for item in value),
    "map": lambda schema, value: (
        isinstance(value, dict) and all(_is_value(schema.values, item) for item in value.values())
    ),
    "record": lambda schema, value: (
        isinstance(value, dict)
        and all(
            _is_value(field.type, value[field.name]) if field.name in value else field.has_default
            for field in schema.fields
        )
    ),
    # Any branch since Avro 1.12; it was the first before.
    "union": lambda schema, value: any(_is_value(branch, value) for branch in schema.schemas),
}


def _is_value(schema: Any, value: Any) -> bool:
    """Whether JSON, as a default is written, is a value of an Avro schema."""
    return _VALUES[schema.type](schema, value)


def _unreadable_avro(reader: Any, writer: Any) -> list[str]:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    found = checker.get_compatibility(reader, writer)
    if found.compatibility is SchemaCompatibilityType.compatible:
        return []
    # Kinds, messages and places are not told together.
    kinds = ", ".join(sorted({kind.value for kind in found.incompatibilities}))
    places = ", ".join(sorted(found.locations - {"/"})) or "/"
    return [f"{kinds} at {places}: {'; '.join(sorted(found.messages))}"]


_WELL_KNOWN = ("google/protobuf/", "google/type/", "confluent/")


def _parse_protobuf(text: str, referenced: Sequence[Referenced]) -> Parsed:
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError) as error:
        msg = (
            "the Protobuf schema is not the base64 of a serialised FileDescriptorProto: the local registry takes no "
            ".proto text, register the serialised descriptor as Confluent's Python serializer does"
        )
        raise InvalidSchema(msg) from error
    if not file.message_type and not file.enum_type:
        msg = "the Protobuf schema has neither a message nor an enum"
        raise InvalidSchema(msg)
    known = {each.name for each in referenced}
    for path in file.dependency:
        if path not in known and not path.startswith(_WELL_KNOWN):
            msg = f"the Protobuf schema imports {path!r}, which is none of its references"
            raise InvalidSchema(msg)
    return Parsed("PROTOBUF", base64.b64encode(file.SerializeToString(deterministic=True)).decode(), file)


_VARINT = (
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_INT64,
    FieldDescriptorProto.TYPE_UINT32,
    FieldDescriptorProto.TYPE_UINT64,
    FieldDescriptorProto.TYPE_BOOL,
    FieldDescriptorProto.TYPE_ENUM,
)
# Types that read one another; a type that is in none reads only itself.
_ALIKE = {
    **dict.fromkeys(_VARINT, "a varint"),
    **dict.fromkeys((FieldDescriptorProto.TYPE_SINT32, FieldDescriptorProto.TYPE_SINT64), "a zigzag varint"),
    **dict.fromkeys((FieldDescriptorProto.TYPE_FIXED32, FieldDescriptorProto.TYPE_SFIXED32), "a fixed 32"),
    **dict.fromkeys((FieldDescriptorProto.TYPE_FIXED64, FieldDescriptorProto.TYPE_SFIXED64), "a fixed 64"),
    **dict.fromkeys((FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES), "a string"),
}


def _unreadable_protobuf(reader: FileDescriptorProto, writer: FileDescriptorProto) -> Iterator[str]:
    readers = dict(_messages(reader.package, reader.message_type))
    for name, written in _messages(writer.package, writer.message_type):
        read = readers.get(name)
        if read is None:
            yield f"the reader has no message {name}"
            continue
        fields = {field.number: field for field in read.field}
        for there in written.field:
            here = fields.get(there.number)
            if here is None:
                continue
            which = f"field {there.number} of {name}"
            if _type(here) != _type(there):
                yield f"{which} is {_type(there)} when written and {_type(here)} when read"
            if _is_repeated(here) != _is_repeated(there):
                yield f"{which} is repeated {'when written' if _is_repeated(there) else 'when read'}, and singular else"


def _messages(space: str, messages: Sequence[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    """All messages with their full names, those within others too."""
    for message in messages:
        name = f"{space}.{message.name}" if space else message.name
        yield name, message
        yield from _messages(name, message.nested_type)


def _type(field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return _ALIKE.get(field.type) or f"{kind} {field.type_name}".rstrip()


def _is_repeated(field: FieldDescriptorProto) -> bool:
    return field.label == FieldDescriptorProto.LABEL_REPEATED
