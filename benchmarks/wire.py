"""Framed Avro and Protobuf decoded in bulk, against Confluent's client: `python -m benchmarks.wire [--small]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from benchmarks import report
from benchmarks.timing import Prepared, Spread, in_turn, rate, ratio
from local_stack.simulator.formats import backend_log, client_event, message_class, message_of
from resources.events import decode
from resources.records import RECORD_SCHEMA
from resources.schemas import Registry
from resources.wire.framing import unframed

CONTEXT = SerializationContext("events", MessageField.VALUE)


def told(number: int) -> dict[str, Any]:
    """An event as JSON has it."""
    return {
        "event_id": f"{number:024x}",
        "source": "backend",
        "event_name": "order_completed",
        "schema_ref": "order_completed/2",
        "client_occurred_at": "2026-11-22T10:00:00.123456+00:00",
        "received_at": "2026-11-22T10:00:00.223456+00:00",
        "user_id": f"user-{number % 10_000}",
        "country": "DE",
        "platform": "android",
        "properties": {"order_id": f"order-{number}", "amount": "19.90", "currency": "EUR"},
    }


def avro_row(number: int) -> dict[str, Any]:
    """An event as a producer of Avro has it."""
    event = told(number)
    names = [field["name"] for field in client_event()["fields"]]
    instants = {name: datetime.fromisoformat(event[name]) for name in ("client_occurred_at", "received_at")}
    return {**dict.fromkeys(names), **event, **instants, "properties": json.dumps(event["properties"])}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few values, to see that it runs")
    small = parser.parse_args().small
    count, sample, repetitions = (5_000, 1_000, 2) if small else (200_000, 20_000, 5)
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    registry = Registry({"url": "mock://"}, client)
    kind = message_class(backend_log())
    write_avro = AvroSerializer(client, json.dumps(client_event()))
    write_log = ProtobufSerializer(kind, client, {"use.deprecated.format": False})
    read_avro = AvroDeserializer(client)
    read_log = ProtobufDeserializer(kind, {"use.deprecated.format": False}, client)
    formats: dict[str, tuple[list[bytes], Callable[..., object]]] = {
        "Avro": ([bytes(write_avro(avro_row(n), CONTEXT) or b"") for n in range(sample)], read_avro),
        "Protobuf": ([bytes(write_log(message_of(kind, told(n)), CONTEXT) or b"") for n in range(sample)], read_log),
    }
    rows, measured = [], []
    for name, (written, deserialize) in formats.items():
        values = [written[n % sample] for n in range(count)]
        column = pl.Series(values, dtype=pl.Binary)
        records = pl.DataFrame(
            {
                "topic": "events",
                "epoch": 1,
                "partition": 0,
                "offset": range(count),
                "ingested_at": datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC),
                "key": None,
                "value": column,
                "headers": None,
            },
            schema=RECORD_SCHEMA,
        )

        def bulk(column: pl.Series = column) -> Prepared:
            return lambda: unframed(column, registry)

        def conformed(records: pl.DataFrame = records) -> Prepared:
            return lambda: decode(records, registry)

        def one_by_one(written: list[bytes] = written, read: Callable[..., object] = deserialize) -> Prepared:
            return lambda: [read(value, CONTEXT) for value in written]

        assert sum(part.frame.height for part in unframed(column, registry).rows) == count
        assert decode(records, registry).events.height == count
        contestants = {"bulk": bulk, "to the envelope": conformed, "client": one_by_one}
        seconds = in_turn(contestants, repetitions)
        # The client's time is of a sample; per value, it does not depend on how many there are.
        scaled = Spread(tuple(s * count / sample for s in seconds["client"].values))
        for what in ("bulk", "to the envelope"):
            share = ratio(seconds[what], scaled)
            own = rate(count, seconds[what])
            rows.append([f"{name}, {what}", own.shown(), rate(count, scaled).shown(), share.shown(1)])
            measured.append({"format": f"{name}, {what}", "rate": own.as_json(), "ratio": share.as_json()})
    report.write(
        "wire",
        small=small,
        columns=["format", "values/s", "Confluent's client, values/s", "ratio (1 is as fast)"],
        rows=rows,
        measured={"formats": measured},
        notes=[f"The client decodes {sample:,} of {count:,} values, one by one, into dictionaries or messages."],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
