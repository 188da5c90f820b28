"""JSON events decoded in bulk, with no value able to spoil its batch.

Each value is decoded by one typed, strict decoder (`msgspec`): 1.7 is no integer and "1" no number. A value
that it refuses is looked at on its own, in plain Python, so that *every* reason is told. What cannot be
decoded at all is dead-lettered; what decodes but has a wrong shape is quarantined (semantics 2).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import polars as pl
import pyarrow as pa

from resources.envelope import REQUIRED, WIRE_COLUMNS, WireEvent, with_instants

MAX_EVENT_BYTES = 2**20
"""A value larger than this is no event; it is dead-lettered."""

_CHUNK = 4096
"""Events turned into columns at a time: few enough to stay in the processor's cache."""

_DECODER = msgspec.json.Decoder(WireEvent)
_OBJECT_OR_NULL = (b"{", b"n")


@dataclass(frozen=True)
class Parsed:
    """What some values hold; each is in exactly one of the three.

    Attributes:
        events: `EVENT_FIELDS` and ``bad_timestamps``, a row an event.
        rows: The indexes of the events' values.
        malformed: By index, what is wrong with values that are JSON objects but no events.
        undecodable: By index, why values hold no JSON object.
    """

    events: pl.DataFrame
    rows: list[int]
    malformed: dict[int, list[str]]
    undecodable: dict[int, list[str]]


def parse(values: Sequence[bytes | None]) -> Parsed:
    """Parse values, each on its own."""
    decoded: list[WireEvent] = []
    good: list[int] = []
    malformed: dict[int, list[str]] = {}
    undecodable: dict[int, list[str]] = {}
    with _without_collection():
        for row, value in enumerate(values):
            try:
                if value is None or len(value) > MAX_EVENT_BYTES or value.count(b'"event_id"') > 1:
                    raise _Suspect
                if not value.isascii():
                    value.decode()  # the decoder passes over what it does not read, bad UTF-8 too
                event = _DECODER.decode(value)
                if not bytes(event.properties).startswith(_OBJECT_OR_NULL):
                    raise _Suspect
            except (_Suspect, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                examined, is_object, reasons = _examine(value)
                if examined is None:
                    (malformed if is_object else undecodable)[row] = reasons
                    continue
                event = examined
            decoded.append(event)
            good.append(row)
    return Parsed(_columns(decoded), good, malformed, undecodable)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Hold back the garbage collector: it would walk all the new objects again and again, and they hold no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Suspect(Exception):
    """A value that the fast path may not judge."""


def _columns(events: list[WireEvent]) -> pl.DataFrame:
    with _without_collection():
        batches = [_batch(events[i : i + _CHUNK]) for i in range(0, len(events), _CHUNK)]
    frame = pl.DataFrame(pa.Table.from_batches(batches, schema=WIRE_COLUMNS)).with_columns(
        pl.col("properties").cast(pl.String)
    )
    return with_instants(frame.with_columns(pl.col("properties").replace("null", "{}")))


def _batch(events: list[WireEvent]) -> pa.RecordBatch:
    """Some events as columns. Arrow builds them from Python objects far faster than Polars, lists above all."""
    columns = dict(
        zip(WireEvent.__struct_fields__, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True)
    )
    columns["properties"] = tuple(map(bytes, columns["properties"]))
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in WIRE_COLUMNS], schema=WIRE_COLUMNS)


def _examine(value: bytes | None) -> tuple[WireEvent | None, bool, list[str]]:
    """The careful path: the event if it is one after all, else whether it is a JSON object, and why not."""
    if value is None:
        return None, False, ["tombstone"]
    if not value:
        return None, False, ["empty"]
    if len(value) > MAX_EVENT_BYTES:
        return None, False, [f"too_large:{len(value)} bytes"]
    try:
        whole = json.loads(value.decode(), object_pairs_hook=_Pairs, parse_constant=_no_constant)
        if not isinstance(whole, _Pairs):
            return None, False, ["not_an_object"]
        reasons = _against_the_envelope(whole)
        return (None if reasons else _DECODER.decode(value)), True, reasons
    except UnicodeDecodeError as error:
        return None, False, [f"not_utf8:byte {error.start}"]
    except RecursionError:
        return None, False, ["nested_too_deep"]
    except ValueError as error:  # msgspec's DecodeError too: it refuses half a surrogate pair, json does not
        return None, False, [f"not_json:{error}"]


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a repeated field can be seen."""


def _no_constant(name: str) -> object:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def _against_the_envelope(pairs: _Pairs) -> list[str]:
    names = [name for name, _ in pairs]
    reasons = [f"repeated:{name}" for name in WireEvent.__struct_fields__ if names.count(name) > 1]
    values = dict(pairs)
    for name in WireEvent.__struct_fields__:
        value = values.get(name)
        if name not in values or (value is None and name in REQUIRED):
            if name in REQUIRED:
                reasons.append(f"missing:{name}")
        elif not _fits(name, value):
            reasons.append(f"wrong_type:{name}")
    return reasons


def _fits(name: str, value: object) -> bool:
    if value is None:
        return True
    if name == "properties":
        return isinstance(value, _Pairs)
    if name == "consent":
        return isinstance(value, list) and not isinstance(value, _Pairs) and all(isinstance(v, str) for v in value)
    if name in {"is_bot", "is_test"}:
        return isinstance(value, bool)
    if name in {"utc_offset_minutes", "session_seq"}:
        bits = 15 if name == "utc_offset_minutes" else 63
        return isinstance(value, int) and not isinstance(value, bool) and -(2**bits) <= value < 2**bits
    return isinstance(value, str)
