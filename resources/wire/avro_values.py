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

import fastavro
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
        UnsupportedSchema: It is no record, or has a union of several types, or is recursive.
    """
    writer = _writer(text)
    return isolated(payloads, writer.rows, writer.is_good)


def aliases(text: str) -> dict[str, str]:
    """The other names of a record's fields, by alias."""
    schema = json.loads(text)
    return {alias: field["name"] for field in schema.get("fields", []) for alias in field.get("aliases", [])}


class _Writer:
    """A schema, ready to decode what was written with it."""

    def __init__(self, text: str) -> None:
        schema = json.loads(text)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            msg = "the schema is no record"
            raise UnsupportedSchema(msg)
        self._parsed = fastavro.parse_schema(schema)
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

    def is_good(self, payload: bytes) -> bool:
        """Whether one value decodes, and takes all of its bytes."""
        stream = io.BytesIO(payload)
        try:
            fastavro.schemaless_reader(stream, self._parsed, None)
        except (EOFError, ValueError, IndexError, TypeError, OverflowError, KeyError, MemoryError, StopIteration):
            return False
        return stream.tell() == len(payload)

    def _container(self, body: bytes, count: int) -> bytes:
        sync = bytes(16)
        blocks = _long(count) + _long(len(body)) + body + sync if count else b""
        return self._head + sync + blocks


@lru_cache(maxsize=256)
def _writer(text: str) -> _Writer:
    return _Writer(text)


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
