"""Values framed as Confluent's serializers frame them: a magic byte 0, the schema's id, and what it describes.

Protobuf values tell before the message which of the schema's messages it is. A value that begins otherwise is not
framed. The framing with a schema's GUID (magic byte 1) is known and refused.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import cast

import polars as pl

from resources.schemas import Schemas, UnsupportedSchema, WriterSchema
from resources.wire import avro_values, protobuf_values

_HEADER = 5
_GUID = 1


@dataclass(frozen=True)
class Rows:
    """Values of one writer's schema, as columns.

    Attributes:
        indexes: Of the values, among all.
        frame: A row a value; columns as the writer's schema has them.
        schema: The writer's.
        aliases: Other names of the columns, by alias.
    """

    indexes: list[int]
    frame: pl.DataFrame
    schema: WriterSchema
    aliases: dict[str, str]


@dataclass(frozen=True)
class Unframed:
    """Values told apart; each is in one of the three.

    Attributes:
        plain: By index: the values that are not framed, and the JSON of those framed with a JSON schema.
        rows: What was decoded with its writer's schema.
        undecodable: By index, why not.
    """

    plain: dict[int, bytes | None] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)
    undecodable: dict[int, list[str]] = field(default_factory=dict)


def has_framed(values: pl.Series) -> bool:
    """Whether any of some values is framed."""
    return bool((values.bin.starts_with(b"\x00") | values.bin.starts_with(b"\x01")).any())


def unframed(values: pl.Series, schemas: Schemas) -> Unframed:
    """Decode the framed ones of some values, schema by schema.

    Args:
        values: Binary.
        schemas: Tells the schema of an id.

    Returns:
        Where a framed value does not decode, one of: ``framing:<why>``, ``unknown_schema:<id>``,
        ``unsupported_schema:<id> <why>``, ``not_avro:schema <id>``, ``not_protobuf:schema <id>``.

    Raises:
        RegistryUnavailable: A schema cannot be told now.
    """
    found = Unframed()
    has_magic, has_guid = (values.bin.starts_with(magic).fill_null(value=False) for magic in (b"\x00", b"\x01"))
    is_framed = has_magic & (values.bin.size() >= _HEADER).fill_null(value=False)
    is_odd = (has_magic | has_guid) & ~is_framed
    plain = (~is_framed & ~is_odd).arg_true()
    found.plain.update(zip(plain.to_list(), values.gather(plain).to_list(), strict=True))
    for index in is_odd.arg_true():
        is_guid = values[index][0] == _GUID
        why = "with a GUID, which is not supported" if is_guid else "shorter than a schema id"
        found.undecodable[index] = [f"framing:{why}"]
    framed = pl.DataFrame({"index": pl.int_range(len(values), eager=True, dtype=pl.UInt32), "value": values})
    by_head = framed.filter(is_framed).with_columns(head=pl.col("value").bin.slice(1, _HEADER - 1))
    for (head,), rows in by_head.group_by("head", maintain_order=True):
        _take_schema(found, schemas, int.from_bytes(cast("bytes", head), "big"), rows)
    return found


def _take_schema(found: Unframed, schemas: Schemas, schema_id: int, rows: pl.DataFrame) -> None:
    """Decode the values of one schema, ``index`` and ``value``, into what was found."""
    indexes = rows["index"].to_list()
    schema = schemas.get(schema_id)
    if schema is None:
        found.undecodable.update({index: [f"unknown_schema:{schema_id}"] for index in indexes})
        return
    payloads = rows["value"].bin.slice(_HEADER)
    if schema.kind == "JSON":
        found.plain.update(zip(indexes, payloads.to_list(), strict=True))
    elif schema.kind == "AVRO":
        _take(found, schema, None, indexes, payloads.to_list())
    elif payloads.bin.starts_with(b"\x00").all():  # short for the first message
        _take(found, schema, (0,), indexes, payloads.bin.slice(1).to_list())
    else:
        _take_messages(found, schema, indexes, payloads.to_list())


def _take_messages(found: Unframed, schema: WriterSchema, indexes: list[int], payloads: list[bytes]) -> None:
    """Tell Protobuf payloads apart by the message that they hold, and decode them."""
    by_message: dict[tuple[int, ...], list[tuple[int, bytes]]] = defaultdict(list)
    for index, payload in zip(indexes, payloads, strict=True):
        split = _message_path(payload)
        if split is None:
            found.undecodable[index] = ["framing:no message indexes"]
        else:
            by_message[split[0]].append((index, payload[split[1] :]))
    for path, messages in by_message.items():
        _take(found, schema, path, [index for index, _ in messages], [payload for _, payload in messages])


def _take(
    found: Unframed, schema: WriterSchema, path: tuple[int, ...] | None, indexes: list[int], payloads: list[bytes]
) -> None:
    """Decode payloads of one record, or of one message of a schema, into what was found."""
    try:
        if path is None:
            good, parts = avro_values.decode(schema.text, payloads)
            aliases = avro_values.aliases(schema.text)
        else:
            good, parts = protobuf_values.decode(schema, path, payloads)
            aliases = protobuf_values.aliases(schema, path)
    except UnsupportedSchema as error:
        found.undecodable.update({index: [f"unsupported_schema:{schema.schema_id} {error}"] for index in indexes})
        return
    if parts:
        rows = parts[0] if len(parts) == 1 else pl.concat(parts)
        found.rows.append(Rows([indexes[place] for place in good], rows, schema, aliases))
    if len(good) < len(indexes):
        taken = set(good)
        what = f"not_{schema.kind.lower()}:schema {schema.schema_id}"
        found.undecodable.update({index: [what] for place, index in enumerate(indexes) if place not in taken})


def _message_path(payload: bytes) -> tuple[tuple[int, ...], int] | None:
    """Which message a Protobuf payload holds, and where it begins: zigzag varints, a count before the indexes."""
    if payload[:1] == b"\x00":  # short for the first message
        return (0,), 1
    numbers: list[int] = []
    place, wanted = 0, 1
    while len(numbers) < wanted:
        number, shift = 0, 0
        while True:
            if place >= len(payload) or shift > 28:
                return None
            byte = payload[place]
            number |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        signed = (number >> 1) ^ -(number & 1)
        if signed < 0 or signed > 1000:
            return None
        if not numbers:
            wanted = signed + 1
        numbers.append(signed)
    return tuple(numbers[1:]), place
