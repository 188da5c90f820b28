"""Protobuf messages decoded in bulk, with the writer's descriptors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache

import polars as pl
import ptars
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from resources.schemas import UnsupportedSchema, WriterSchema
from resources.wire.isolation import isolated

_WELL_KNOWN = (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
_CONFIG = ptars.PtarsConfig(timestamp_unit="us", enum_repr="string")


def decode(
    schema: WriterSchema, path: tuple[int, ...], payloads: Sequence[bytes]
) -> tuple[list[int], list[pl.DataFrame]]:
    """Decode messages of one type.

    Args:
        schema: The writer's.
        path: Which message of the schema's file: indexes, from the outside in.
        payloads: The messages, without framing.

    Returns:
        The indexes of the messages that decode, and their rows, in parts: a column for each field. Enumerations are
        told by name; a field without presence that was not sent has its type's zero.

    Raises:
        UnsupportedSchema: There is no such message, or it holds itself.
    """
    message = _message(schema, path)
    return isolated(payloads, message.rows)


def aliases(schema: WriterSchema, path: tuple[int, ...]) -> dict[str, str]:
    """The other names of a message's fields: what ``json_name`` was set to."""
    fields = _message(schema, path).descriptor.fields
    return {field.json_name: field.name for field in fields if field.json_name != field.name}


class _Message:
    """A message type, ready to decode."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        if _holds_itself(descriptor, ()):
            msg = f"{descriptor.full_name} holds itself"
            raise UnsupportedSchema(msg)
        try:
            pool = ptars.HandlerPool([descriptor.file], _CONFIG)
            self._handler = pool.get_for_message(descriptor)
            pl.DataFrame(self._handler.list_to_record_batch([]))  # are there columns for it?
        except (ValueError, TypeError, pl.exceptions.PanicException) as error:
            msg = f"the decoder has no columns for {descriptor.full_name}: {error}"
            raise UnsupportedSchema(msg) from error

    def rows(self, payloads: Sequence[bytes]) -> pl.DataFrame | None:
        """The messages as rows, or None where one of them does not decode."""
        try:
            return pl.DataFrame(self._handler.list_to_record_batch(list(payloads)))
        except ValueError:
            return None


def _holds_itself(descriptor: Descriptor, within: tuple[str, ...]) -> bool:
    """Whether a message, or one in it, holds itself: it would be columns without end."""
    if descriptor.full_name in within:
        return True
    inner = [field.message_type for field in descriptor.fields if field.message_type is not None]
    return any(_holds_itself(part, (*within, descriptor.full_name)) for part in inner)


@lru_cache(maxsize=256)
def _message(schema: WriterSchema, path: tuple[int, ...]) -> _Message:
    pool = descriptor_pool.DescriptorPool()
    for module in _WELL_KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    try:
        for name, text in schema.references:
            if name not in {module.DESCRIPTOR.name for module in _WELL_KNOWN}:
                _add(pool, text, name)
        name = _add(pool, schema.text, None)
        file = pool.FindFileByName(name)
        types = list(file.message_types_by_name.values())
        found = types[path[0]]
        for index in path[1:]:
            found = found.nested_types[index]
    except (DecodeError, TypeError, KeyError, IndexError, ValueError) as error:
        msg = f"no message {list(path)} in the descriptor: {error}"
        raise UnsupportedSchema(msg) from error
    return _Message(found)


def _add(pool: descriptor_pool.DescriptorPool, text: str, name: str | None) -> str:
    """Add a file to a pool, under the name that others import it by. Returns its name."""
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text))
    if name is not None:
        file.name = name
    pool.Add(file)
    return file.name
