"""The columnar decoders of Avro and Protobuf, as far as `resources.wire` rests on them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import fastavro
import polars as pl
import ptars
import pytest
from google.protobuf import timestamp_pb2
from polars_avro import AvroError, read_avro
from polars_avro._avro_rs import AvroSource
from polars_avro._source import seekable_factory

from resources.wire.avro_values import _head, _long

SCHEMA: dict[str, Any] = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "string"}]}


def container(body: bytes, count: int, schema: dict[str, Any] = SCHEMA) -> io.BytesIO:
    """Values of a schema as one block of an object container file."""
    sync = bytes(16)
    return io.BytesIO(_head(json.dumps(schema).encode()) + sync + _long(count) + _long(len(body)) + body + sync)


def test_the_first_batch_comes_even_where_its_rows_left_bytes_behind() -> None:
    """Asked for another one, the reader would never return; so it is asked for one, of as many rows as there are."""
    source = AvroSource([seekable_factory(container(b"\x02a\x02b\x00\x00\x00", 2))], strict=False, utf8_view=False)
    first = next(iter(source.batch_iter(2, None)))
    assert pl.DataFrame(first)["x"].to_list() == ["a", "b"]


def test_a_failing_batch_is_told_as_a_system_error_by_the_iterator() -> None:
    source = AvroSource([seekable_factory(container(b"\x02a\x10b", 2))], strict=False, utf8_view=False)
    with pytest.raises((SystemError, AvroError)):
        next(iter(source.batch_iter(2, None)))


def test_a_container_of_ours_is_one_that_others_read() -> None:
    whole = container(b"\x02a\x02b", 2)
    assert list(fastavro.reader(whole)) == [{"x": "a"}, {"x": "b"}]
    whole.seek(0)
    assert read_avro(whole)["x"].to_list() == ["a", "b"]


def test_maps_are_maps_and_become_json_objects_within_a_structure() -> None:
    schema = {**SCHEMA, "fields": [{"name": "m", "type": {"type": "map", "values": "string"}}]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {"m": {'k"': "v"}})
    frame = read_avro(container(out.getvalue(), 1, schema))
    assert frame.schema["m"] == pl.Map(pl.String, pl.String)
    assert frame.select(pl.struct("m").struct.json_encode()).to_series().to_list() == ['{"m":{"k\\"":"v"}}']


def test_a_branch_of_a_union_that_there_is_not_counts_as_the_last_one() -> None:
    """Another decoder refuses it; damage of this kind is not noticed."""
    schema = {**SCHEMA, "fields": [{"name": "x", "type": ["null", "long"]}]}
    assert read_avro(container(b"\x08\x06", 1, schema))["x"].to_list() == [3]


def test_protobuf_timestamps_are_microseconds_where_asked_for() -> None:
    kind = timestamp_pb2.Timestamp
    handler = ptars.HandlerPool([kind.DESCRIPTOR.file], ptars.PtarsConfig(timestamp_unit="us")).get_for_message(
        kind.DESCRIPTOR
    )
    stamp = kind()
    stamp.FromDatetime(datetime(2026, 11, 22, tzinfo=UTC))
    row = pl.DataFrame(handler.list_to_record_batch([stamp.SerializeToString(), b""])).rows()
    assert row == [(int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()), 0), (0, 0)]


def test_one_bad_protobuf_message_fails_all() -> None:
    kind = timestamp_pb2.Timestamp
    handler = ptars.HandlerPool([kind.DESCRIPTOR.file]).get_for_message(kind.DESCRIPTOR)
    with pytest.raises(ValueError, match="failed to decode"):
        handler.list_to_record_batch([kind(seconds=1).SerializeToString(), b"\xff"])
