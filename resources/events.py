"""Records of a topic of events decoded in bulk, whatever wire format each has.

A value is a JSON object, or framed with the id of an Avro, Protobuf or JSON schema (`resources.wire.framing`); one
topic may hold all of them. What cannot be decoded at all is dead-lettered; what decodes but has a wrong shape is
quarantined (semantics 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
import xxhash

from resources import json_events
from resources.records import RECORD_SCHEMA
from resources.schemas import Schemas
from resources.typed_events import conform
from resources.wire.framing import Unframed, has_framed, unframed

REFUSED_SCHEMA = pl.Schema({**RECORD_SCHEMA, "reasons": pl.List(pl.String())})
"""A refused record, as it was received, with every reason."""

_COORDINATES = ("topic", "epoch", "partition", "offset", "ingested_at")


@dataclass(frozen=True)
class Decoded:
    """What a batch of records holds.

    Attributes:
        events: `resources.envelope.EVENT_FIELDS`, the record's coordinates and time, ``key_hash`` (Int64, a stable
            hash of the duplicate key) and ``bad_timestamps`` (the fields that hold no timestamp).
        malformed: Records that decode but have missing or wrongly typed fields.
        undecodable: Records that hold no event that can be read.
    """

    events: pl.DataFrame
    malformed: pl.DataFrame
    undecodable: pl.DataFrame


def decode(records: pl.DataFrame, schemas: Schemas, aliases: Mapping[str, str] | None = None) -> Decoded:
    """Decode a frame of records (`RECORD_SCHEMA`); every record is in exactly one of the three results.

    Args:
        records: The records.
        schemas: Tells writers' schemas.
        aliases: The envelope's names of fields that writers' schemas name otherwise.

    Raises:
        RegistryUnavailable: The schema of a record cannot be told now.
    """
    values = records["value"]
    framed = unframed(values, schemas) if has_framed(values) else Unframed(dict(enumerate(values.to_list())))
    places = list(framed.plain)
    parsed = json_events.parse(list(framed.plain.values()))
    malformed = {places[row]: why for row, why in parsed.malformed.items()}
    undecodable = {places[row]: why for row, why in parsed.undecodable.items()} | framed.undecodable
    events = [_located(parsed.events, records[[places[row] for row in parsed.rows]])]
    for rows in framed.rows:
        conformed = conform(rows, aliases or {})
        is_good = conformed.reasons.list.len() == 0
        indexes = pl.Series(rows.indexes, dtype=pl.UInt32)
        events.append(_located(conformed.events.filter(is_good), records[indexes.filter(is_good)]))
        by = f"schema:{rows.schema.schema_id}"  # whose fault it is: all that this producer sends may be so
        wrong = zip(indexes.filter(~is_good), conformed.reasons.filter(~is_good).to_list(), strict=True)
        malformed.update({index: [*why, by] for index, why in wrong})
    return Decoded(pl.concat(events), refused(records, malformed), refused(records, undecodable))


def refused(records: pl.DataFrame, why: Mapping[int, list[str]]) -> pl.DataFrame:
    """Records as they were received, with every reason why they were refused (``reasons``).

    Args:
        records: Rows of `RECORD_SCHEMA`.
        why: The reasons by index.
    """
    rows = records.select(RECORD_SCHEMA.names())[sorted(why)]
    return rows.with_columns(reasons=pl.Series([why[index] for index in sorted(why)], dtype=pl.List(pl.String)))


def _located(events: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Events with the coordinates of their records and the hash of their keys."""
    located = pl.concat([events.drop("bad_timestamps"), records.select(_COORDINATES)], how="horizontal")
    return located.with_columns(key_hash=_key_hash(events), bad_timestamps=events["bad_timestamps"])


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
