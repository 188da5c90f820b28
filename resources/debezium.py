"""Change events in the Debezium envelope decoded, with no record able to spoil its batch.

A value is JSON, or framed with the id of an Avro, Protobuf or JSON schema (`resources.wire.framing`), whose columns are
told as JSON would tell them. With or without the converter's schema beside the payload
(`{"schema": …, "payload": …}`). Of `source` the platform reads `table`, `lsn`, `sequence` and the commit time (`ts_us`,
else `ts_ms`). Rows stay JSON here: what columns a table has is declared where the table is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import polars as pl

from resources.schemas import Schemas
from resources.wire.framing import has_framed, unframed
from resources.wire.json_text import as_json

Op = Literal["c", "u", "d", "r", "t"]
"""Created, updated, deleted, read by a snapshot, truncated."""


class _Source(msgspec.Struct, gc=False):
    table: str
    lsn: int | None = None
    sequence: str | int | None = None
    ts_us: int | None = None
    ts_ms: int | None = None


class _Envelope(msgspec.Struct, gc=False):
    op: str | None = None
    before: msgspec.Raw = msgspec.Raw(b"null")
    after: msgspec.Raw = msgspec.Raw(b"null")
    source: _Source | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


_READ = ("op", "before", "after", "source", "payload")
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_NULL = msgspec.Raw(b"null")


@dataclass(frozen=True)
class RowChange:
    """What a change event says.

    Attributes:
        index: Of its record, among those decoded.
        source_table: The table that changed.
        op: How.
        lsn: Position in the source's log.
        sequence: Order among the changes of one position; 0 where the source gives none. Debezium's pair of positions
            orders nothing that the position does not.
        changed_at_us: Commit time, µs since 1970.
        before: The row before, as JSON; what the source's replica identity tells of it.
        after: The row after, as JSON.
    """

    index: int
    source_table: str
    op: Op
    lsn: int
    sequence: int
    changed_at_us: int
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Decoded:
    """What a batch of records holds. A tombstone (a record without a value) is in none of the three.

    Attributes:
        changes: In the order of the records.
        malformed: By index, what is wrong with records that are JSON objects but no change events.
        undecodable: By index, why records hold no JSON object.
    """

    changes: list[RowChange]
    malformed: dict[int, list[str]]
    undecodable: dict[int, list[str]]


def decode(records: pl.DataFrame, schemas: Schemas) -> Decoded:
    """Decode a frame of records (`resources.records.RECORD_SCHEMA`).

    Raises:
        RegistryUnavailable: The schema of a record cannot be told now.
    """
    found = Decoded([], {}, {})
    for index, value in _as_json(records["value"], schemas, found):
        if value is None:
            continue
        try:
            envelope = _unwrapped(value)
        except msgspec.ValidationError as error:
            if _is_object(value):
                found.malformed[index] = [f"not_an_envelope:{error}"]
            else:
                found.undecodable[index] = ["not_an_object"]
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.undecodable[index] = [f"not_json:{error}" if value else "empty"]
            continue
        reasons = _reasons(envelope)
        if reasons:
            found.malformed[index] = reasons
        else:
            found.changes.append(_change(index, envelope))
    return found


def _as_json(values: pl.Series, schemas: Schemas, found: Decoded) -> list[tuple[int, bytes | None]]:
    """Values as JSON, by index and in order; what has no JSON is told in what was found."""
    if not has_framed(values):
        return list(enumerate(values.to_list()))
    framed = unframed(values, schemas)
    found.undecodable.update(framed.undecodable)
    texts = dict(framed.plain)
    for rows in framed.rows:
        whole = pl.struct([name for name in _READ if name in rows.frame.columns])
        text = as_json(whole, rows.frame.select(whole.alias("row")).schema["row"])
        if text is None:
            why = f"unsupported_schema:{rows.schema.schema_id} a type that has no JSON"
            found.undecodable.update({index: [why] for index in rows.indexes})
            continue
        told = rows.frame.select(text.alias("row").cast(pl.Binary))["row"]
        texts.update(zip(rows.indexes, told.to_list(), strict=True))
    return sorted(texts.items())


def _unwrapped(value: bytes) -> _Envelope:
    value.decode()  # the decoder passes over what it does not read, bad UTF-8 too
    envelope = _ENVELOPE.decode(value)
    return envelope if envelope.payload == _NULL else _ENVELOPE.decode(envelope.payload)


def _is_object(value: bytes) -> bool:
    return value.lstrip(b" \t\r\n").startswith(b"{")


def _reasons(envelope: _Envelope) -> list[str]:
    source, op = envelope.source, envelope.op
    reasons = []
    if op is None:
        reasons.append("missing:op")
    elif op not in get_args(Op):
        reasons.append(f"unknown:op {op}")
    if source is None:
        return [*reasons, "missing:source"]
    if source.lsn is None:
        reasons.append("missing:source.lsn")
    elif not 0 <= source.lsn < 2**63:
        reasons.append("out_of_range:source.lsn")
    if source.ts_us is None and source.ts_ms is None:
        reasons.append("missing:source.ts_ms")
    elif not 0 <= _microseconds(source) < _LAST_MICROSECOND:
        reasons.append("out_of_range:source.ts_ms")
    if op in {"c", "u", "r"} and envelope.after == _NULL:
        reasons.append("missing:after")
    if op == "d" and envelope.before == _NULL:
        reasons.append("missing:before")
    return reasons


_LAST_MICROSECOND = 253_402_300_800_000_000
"""The year 10000: what comes from then on is no date."""


def _change(index: int, envelope: _Envelope) -> RowChange:
    source = envelope.source
    assert source is not None  # noqa: S101 - `_reasons` said so
    assert source.lsn is not None  # noqa: S101
    return RowChange(
        index=index,
        source_table=source.table,
        op=envelope.op,  # type: ignore[arg-type]  # one of them, as `_reasons` said
        lsn=source.lsn,
        sequence=source.sequence if isinstance(source.sequence, int) else 0,
        changed_at_us=_microseconds(source),
        before=None if envelope.before == _NULL else bytes(envelope.before),
        after=None if envelope.after == _NULL else bytes(envelope.after),
    )


def _microseconds(source: _Source) -> int:
    return source.ts_us if source.ts_us is not None else (source.ts_ms or 0) * 1000
