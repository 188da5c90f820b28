"""Avro values decoded in bulk, with the writer's schema.

The values are laid one after another into one container in memory, which a columnar reader decodes at once. A value
that is longer or shorter than its schema says would shift all that come after it: so an end mark, random and numbered,
stands behind each, and where one is not found in its place the values are told apart by smaller and smaller parts.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import polars as pl
from polars_avro import AvroError, AvroSpecError

# Of the reader's batches only the first may be asked for: it never returns from a container that holds more bytes than
# its rows took, and its public functions always ask for one more.
from polars_avro._avro_rs import AvroSource
from polars_avro._source import seekable_factory

from resources.schemas import UnsupportedSchema
from resources.wire.isolation import isolated

_MARK = 16


def decode(text: str, payloads: Sequence[bytes]) -> tuple[list[int], list[pl.DataFrame]]:
    """Decode values that were written with one schema.

    Args:
        text: The writer's schema, JSON; a record.
        payloads: The values, without framing.

    Returns:
        The indexes of the values that decode, and their rows, in parts: a column for each field of the writer's.

    Raises:
        UnsupportedSchema: It is no record, or has a union of several types, or a type without bytes, or refers to
            itself or to a schema elsewhere.
    """
    writer = _writer(text)
    return isolated(payloads, writer.rows)


def aliases(text: str) -> dict[str, str]:
    """The other names of a record's fields, by alias."""
    fields = _parsed(text)["fields"]
    return {alias: field["name"] for field in fields for alias in field.get("aliases") or ()}


class _Writer:
    """A schema, ready to decode what was written with it."""

    def __init__(self, text: str) -> None:
        schema = _parsed(text)
        mark = {"type": "fixed", "name": "headwater_mark", "size": _MARK}
        fields = [{"name": "value", "type": _plain(schema)}, {"name": "mark", "type": mark}]
        framed = {"type": "record", "name": "headwater_framed", "fields": fields}
        self._head = _head(json.dumps(framed).encode())
        try:
            source = AvroSource([seekable_factory(io.BytesIO(self._container(b"", 0)))], strict=False, utf8_view=False)
            self._columns = pl.DataFrame(source.schema()).schema
        except (AvroError, AvroSpecError, pl.exceptions.PanicException) as error:
            msg = f"the decoder has no columns for it: {error}"
            raise UnsupportedSchema(msg) from error

    def rows(self, payloads: Sequence[bytes]) -> pl.DataFrame | None:
        """The values as rows, or None where one of them is not as long as it should be, or does not decode."""
        nonce = os.urandom(_MARK - 8)
        marks = [nonce + number.to_bytes(8, "big") for number in range(len(payloads))]
        body = b"".join(part for pair in zip(payloads, marks, strict=True) for part in pair)
        container = seekable_factory(io.BytesIO(self._container(body, len(payloads))))
        try:
            batches = AvroSource([container], strict=False, utf8_view=False).batch_iter(len(payloads), None)
            first = next(iter(batches), None)
        except (AvroError, AvroSpecError, SystemError):  # the last: how a failing batch is told
            return None
        frame = pl.DataFrame(first) if first is not None else pl.DataFrame(schema=self._columns)
        if frame["mark"].to_list() != marks:
            return None
        return frame["value"].struct.unnest()

    def _container(self, body: bytes, count: int) -> bytes:
        sync = bytes(16)
        blocks = _long(count) + _long(len(body)) + body + sync if count else b""
        return self._head + sync + blocks


@lru_cache(maxsize=256)
def _writer(text: str) -> _Writer:
    return _Writer(text)


def _parsed(text: str) -> dict[str, Any]:
    """A record's schema.

    Raises:
        UnsupportedSchema: It is none that the decoder takes.
    """
    try:
        schema = json.loads(text)
        is_record = isinstance(schema, dict) and schema.get("type") == "record" and bool(schema.get("fields"))
        if not is_record or not all(isinstance(field, dict) and "name" in field for field in schema["fields"]):
            msg = "the schema is no record with fields"
            raise UnsupportedSchema(msg)
        if _has_no_bytes(schema):
            msg = "it has a type without bytes: null alone, or a record without fields"
            raise UnsupportedSchema(msg)
    except (ValueError, RecursionError) as error:
        msg = f"the schema cannot be read: {error}"
        raise UnsupportedSchema(msg) from error
    return dict(schema)


def _has_no_bytes(schema: Any) -> bool:
    """Whether some type in a schema takes no bytes: a few bytes could then stand for billions of values."""
    if isinstance(schema, list):
        return any(part != "null" and _has_no_bytes(part) for part in schema)
    if isinstance(schema, Mapping):
        if schema.get("type") == "record" and not schema.get("fields"):
            return True
        if schema.get("type") == "fixed" and not schema.get("size"):
            return True
        inner = [schema.get(name) for name in ("type", "items", "values")]
        inner += [field.get("type") for field in schema.get("fields") or ()]
        return any(_has_no_bytes(part) for part in inner)
    return bool(schema == "null")


def _plain(schema: Any) -> Any:
    """A schema without the logical type of texts that are UUIDs: they stay texts."""
    if isinstance(schema, Mapping):
        return {name: _plain(part) for name, part in schema.items() if (name, part) != ("logicalType", "uuid")}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


def _head(schema: bytes) -> bytes:
    entries = {b"avro.schema": schema, b"avro.codec": b"null"}
    texts = b"".join(_long(len(k)) + k + _long(len(v)) + v for k, v in entries.items())
    return b"Obj\x01" + _long(len(entries)) + texts + _long(0)


def _long(number: int) -> bytes:
    """A whole number that is not negative, as Avro writes it."""
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])
