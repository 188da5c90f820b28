"""JSON records decoded in bulk, with no record able to spoil its batch.

Each value is decoded by one typed, strict decoder (`msgspec`): 1.7 is no integer and "1" no number. A value
that it refuses is looked at on its own, in plain Python, so that *every* reason is told. What cannot be
decoded at all is dead-lettered; what decodes but has a wrong shape is quarantined (semantics 2).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import polars as pl
import pyarrow as pa
import xxhash

from resources.envelope import REQUIRED, TIMESTAMPS, WireEvent
from resources.records import RECORD_SCHEMA

MAX_EVENT_BYTES = 2**20
"""A value larger than this is no event; it is dead-lettered."""

_ARROW_TYPES = {
    "utc_offset_minutes": pa.int16(),
    "session_seq": pa.int64(),
    "is_bot": pa.bool_(),
    "is_test": pa.bool_(),
    "consent": pa.list_(pa.string()),
    "properties": pa.binary(),
}
_WIRE_COLUMNS = pa.schema([(name, _ARROW_TYPES.get(name, pa.string())) for name in WireEvent.__struct_fields__])
EVENT_FIELDS = pl.Schema(
    {
        **pl.DataFrame(_WIRE_COLUMNS.empty_table()).schema,
        **{name: pl.Datetime("us", "UTC") for name in TIMESTAMPS},
        "properties": pl.String(),
    }
)
"""The envelope's fields as columns. A timestamp that is none is null, and its field is in ``bad_timestamps``."""

REFUSED_SCHEMA = pl.Schema({**RECORD_SCHEMA, "reasons": pl.List(pl.String())})
"""A refused record, as it was received, with every reason."""

_CHUNK = 4096
"""Events turned into columns at a time: few enough to stay in the processor's cache."""

_COORDINATES = ("topic", "epoch", "partition", "offset", "ingested_at")
_DECODER = msgspec.json.Decoder(WireEvent)
_OBJECT_OR_NULL = (b"{", b"n")


@dataclass(frozen=True)
class Decoded:
    """What a batch of records holds.

    Attributes:
        events: `EVENT_FIELDS`, the record's coordinates and time, ``key_hash`` (Int64, a stable hash of the
            duplicate key) and ``bad_timestamps`` (the fields that hold no timestamp).
        malformed: Records that decode but have missing or wrongly typed fields.
        undecodable: Records that hold no JSON object.
    """

    events: pl.DataFrame
    malformed: pl.DataFrame
    undecodable: pl.DataFrame


def decode(records: pl.DataFrame) -> Decoded:
    """Decode a frame of records (`RECORD_SCHEMA`); every record is in exactly one of the three results."""
    decoded: list[WireEvent] = []
    good: list[int] = []
    malformed: list[tuple[int, list[str]]] = []
    undecodable: list[tuple[int, list[str]]] = []
    with _without_collection():
        for row, value in enumerate(records["value"].to_list()):
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
                    (malformed if is_object else undecodable).append((row, reasons))
                    continue
                event = examined
            decoded.append(event)
            good.append(row)
    return Decoded(
        events=_columns(decoded, records[good].select(_COORDINATES)),
        malformed=_refused(records, malformed),
        undecodable=_refused(records, undecodable),
    )


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


def _columns(events: list[WireEvent], coordinates: pl.DataFrame) -> pl.DataFrame:
    with _without_collection():
        batches = [_batch(events[i : i + _CHUNK]) for i in range(0, len(events), _CHUNK)]
    frame = pl.DataFrame(pa.Table.from_batches(batches, schema=_WIRE_COLUMNS)).with_columns(
        pl.col("properties").cast(pl.String)
    )
    parsed = frame.with_columns(
        pl.col(TIMESTAMPS).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False),
        pl.col("properties").replace("null", "{}"),
    )
    # Python, and so whoever reads the lake with it, knows the years 1 to 9999 only.
    parsed = parsed.with_columns(pl.when(pl.col(name).dt.year().is_between(1, 9999)).then(name) for name in TIMESTAMPS)
    faulty = [name for name in TIMESTAMPS if frame[name].null_count() < parsed[name].null_count()]
    bad = pl.concat_list(
        pl.lit([], pl.List(pl.String)),
        *(pl.when(frame[name].is_not_null() & parsed[name].is_null()).then(pl.lit(name)) for name in faulty),
    ).list.drop_nulls()
    return pl.concat([parsed, coordinates], how="horizontal").with_columns(
        key_hash=_key_hash(parsed), bad_timestamps=bad
    )


def _batch(events: list[WireEvent]) -> pa.RecordBatch:
    """Some events as columns. Arrow builds them from Python objects far faster than Polars, lists above all."""
    columns = dict(
        zip(WireEvent.__struct_fields__, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True)
    )
    columns["properties"] = tuple(map(bytes, columns["properties"]))
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in _WIRE_COLUMNS], schema=_WIRE_COLUMNS)


def _key_hash(events: pl.DataFrame) -> pl.Series:
    """A hash of the duplicate key that is the same in every process and release, as Int64."""
    keys = (
        events.select(
            pl.concat_str(
                "source",
                "event_id",
                pl.col("client_occurred_at").dt.timestamp("us"),
                separator="\x00",
                ignore_nulls=True,
            )
        )
        .to_series()
        .cast(pl.Binary)
    )
    return pl.Series([xxhash.xxh3_64_intdigest(key) for key in keys], dtype=pl.UInt64).reinterpret(signed=True)


def _refused(records: pl.DataFrame, rows: list[tuple[int, list[str]]]) -> pl.DataFrame:
    reasons = pl.Series("reasons", [why for _, why in rows], dtype=pl.List(pl.String))
    return records[[row for row, _ in rows]].with_columns(reasons)


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
