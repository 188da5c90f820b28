"""The same work by the bare libraries: what the platform's stages are measured against.

Nothing here is safe: no value is suspected, no progress recorded, no rival noticed, nothing looked up that is not in
memory. It is the least that the machine has to do for the same rows.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from datetime import timedelta

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable, WriterProperties, write_deltalake

from resources.envelope import WireEvent
from resources.records import RECORD_SCHEMA

_ZSTD = WriterProperties(compression="ZSTD", compression_level=1)
_ARROW = {
    "utc_offset_minutes": pa.int16(),
    "session_seq": pa.int64(),
    "is_bot": pa.bool_(),
    "is_test": pa.bool_(),
    "consent": pa.list_(pa.string()),
    "properties": pa.binary(),
}
_DUCKDB = {
    "utc_offset_minutes": "SMALLINT",
    "session_seq": "BIGINT",
    "is_bot": "BOOLEAN",
    "is_test": "BOOLEAN",
    "consent": ["VARCHAR"],
    "properties": "JSON",
}
_DECODER = msgspec.json.Decoder(WireEvent)
_COORDINATES = ("topic", "epoch", "partition", "offset", "ingested_at")
_INSTANT = pl.Datetime("us", "UTC")

Message = tuple[bytes | None, bytes | None, int, int, int]
"""Key, value, partition, offset, time in ms."""


class Reader:
    """A consumer of a whole topic from its beginning."""

    def __init__(self, config: Mapping[str, str], topic: str, partitions: int) -> None:
        self._consumer = Consumer(
            {
                **config,
                "group.id": "bare",
                "enable.auto.commit": "false",
                "fetch.wait.max.ms": "100",
                "queued.max.messages.kbytes": "131072",
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])

    def read(self, records: int) -> list[Message]:
        """So many messages, or some thousand more."""
        messages: list[Message] = []
        while len(messages) < records:
            messages += [
                (m.key(), m.value(), m.partition() or 0, m.offset() or 0, m.timestamp()[1])
                for m in self._consumer.consume(10_000, 0.25)
            ]
        return messages

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Messages as rows of bronze."""
    key, value, partition, offset, time = zip(*messages, strict=True)
    columns = {"key": key, "value": value, "partition": partition, "offset": offset, "ingested_at": time}
    instant = pl.col("ingested_at").cast(pl.Datetime("ms", "UTC")).cast(_INSTANT)
    return (
        pl.DataFrame(columns, schema_overrides={n: RECORD_SCHEMA[n] for n in columns if n != "ingested_at"})
        .with_columns(
            topic=pl.lit("client_events"), epoch=pl.lit(1, pl.Int32), ingested_at=instant,
            headers=pl.lit(None, RECORD_SCHEMA["headers"]),
        )
        .select(*RECORD_SCHEMA, ingestion_date=pl.col("ingested_at").dt.date())
    )  # fmt: skip


def append(handle: DeltaTable, rows: pl.DataFrame) -> None:
    """One commit."""
    write_deltalake(handle, rows, mode="append", writer_properties=_ZSTD)


def decode(values: Sequence[bytes | None]) -> tuple[pa.Table, list[int]]:
    """Values as columns, and which of them could be decoded."""
    decoded, good = [], []
    gc.disable()  # it would walk all the new objects again and again
    for row, value in enumerate(values):
        try:
            decoded.append(_DECODER.decode(value or b""))
        except msgspec.DecodeError:
            continue
        good.append(row)
    gc.enable()
    names = WireEvent.__struct_fields__
    columns = dict(zip(names, zip(*map(msgspec.structs.astuple, decoded), strict=True), strict=True))
    columns["properties"] = tuple(map(bytes, columns["properties"]))
    return pa.table({name: pa.array(columns[name], _ARROW.get(name, pa.string())) for name in names}), good


def duckdb_connection(threads: int = 2) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET preserve_insertion_order = true")
    return connection


def decode_by_duckdb(connection: duckdb.DuckDBPyConnection, values: pl.Series) -> pa.Table:
    """UTF-8 values as columns, where they are JSON; what has a wrong type is null, or rounded."""
    chunks = [values.slice(start, 20_000).to_arrow() for start in range(0, len(values), 20_000)]
    connection.register("given", pa.table({"value": pa.chunked_array(chunks).cast(pa.string())}))
    shape = msgspec.json.encode({name: _DUCKDB.get(name, "VARCHAR") for name in WireEvent.__struct_fields__}).decode()
    query = f"SELECT unnest(json_transform(value, '{shape}')) FROM given WHERE json_valid(value)"
    return connection.sql(query).to_arrow_table()


def valid_events(decoded: pa.Table, coordinates: pl.DataFrame) -> pl.DataFrame:
    """Decoded columns as rows of silver, by the rules that events on time need."""
    times = ("client_occurred_at", "client_sent_at", "received_at")
    received, sent, occurred = pl.col("received_at"), pl.col("client_sent_at"), pl.col("client_occurred_at")
    derived = pl.when(sent.is_not_null()).then(received - (sent - occurred)).otherwise(occurred)
    late = pl.col("ingested_at") - pl.col("occurred_at")
    return (
        pl.concat([pl.DataFrame(decoded), coordinates.select(_COORDINATES)], how="horizontal")
        .lazy()
        .with_columns(
            pl.col(times).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC"),
            pl.col("properties").cast(pl.String),
            pl.col("is_bot", "is_test").fill_null(value=False),
            key_hash=pl.concat_str("source", "event_id", "client_occurred_at").hash().reinterpret(signed=True),
        )
        .with_columns(occurred_at=derived)
        .with_columns(is_straggler=late > timedelta(hours=1), event_date=pl.col("occurred_at").dt.date())
        .filter(late <= timedelta(days=7), pl.col("anonymous_id").is_not_null() | pl.col("user_id").is_not_null())
        .collect()
    )


def fresh(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The rows whose hash is not among the known ones, each once."""
    return rows.unique("key_hash", keep="first").join(known, on="key_hash", how="anti")


def live_metrics(rows: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """Events per minute, name and platform."""
    return (
        rows.filter(~pl.col("is_bot") & ~pl.col("is_test"))
        .group_by(pl.col("occurred_at").dt.truncate("1m").alias("minute"), "event_name", "platform")
        .agg(events=pl.len().cast(pl.Int64))
        .with_columns(silver_version=pl.lit(silver_version, pl.Int64), event_date=pl.col("minute").dt.date())
    )


def touched_hours(rows: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """Rows per event hour."""
    return (
        rows.group_by(event_hour=pl.col("occurred_at").dt.truncate("1h"))
        .agg(added=pl.len().cast(pl.Int64))
        .select(
            "event_hour",
            pl.lit(silver_version, pl.Int64).alias("silver_version"),
            "added",
            pl.lit(0, pl.Int64).alias("removed"),
            pl.col("event_hour").dt.date().alias("event_date"),
        )
    )


def outcomes(rows: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """Rows per topic partition, ingestion hour and event hour; all of them taken for silver."""
    hours = {"ingestion_hour": "ingested_at", "event_hour": "occurred_at"}
    return (
        rows.group_by(
            "topic", "epoch", "partition", *(pl.col(c).dt.truncate("1h").alias(name) for name, c in hours.items())
        )
        .agg(records=pl.len().cast(pl.Int64))
        .with_columns(
            outcome=pl.lit("silver"),
            silver_version=pl.lit(silver_version, pl.Int64),
            ingestion_date=pl.col("ingestion_hour").dt.date(),
        )
    )


def activity_hours(rows: pl.LazyFrame) -> pl.DataFrame:
    """Events per id, hour, name, platform and country."""
    user = pl.col("user_id")
    return (
        rows.filter(~pl.col("is_bot"), ~pl.col("is_test"), pl.col("event_name") != "push_received")
        .select(
            "event_name",
            "platform",
            "country",
            event_hour=pl.col("occurred_at").dt.truncate("1h"),
            raw_id=pl.when(user != "").then("u:" + user).otherwise("a:" + pl.col("anonymous_id")),
        )
        .group_by("raw_id", "event_hour", "event_name", "platform", "country")
        .len()
        .collect(engine="streaming")
    )


def person_days(history: pl.DataFrame, active: pl.DataFrame) -> pl.DataFrame:
    """The histories a day later."""
    today = active.unique("person_id").select("person_id", today=1)
    rolled = (pl.col("history").fill_null(0) * 2 & (1 << 28) - 1) | pl.col("today").fill_null(0)
    joined = history.join(today, on="person_id", how="full", coalesce=True)
    return joined.select("person_id", history=rolled).filter(pl.col("history") > 0)


def active_users(histories: pl.DataFrame) -> tuple[int, int, int]:
    """DAU, WAU, MAU of one day."""
    history = histories["history"]
    counts = ((history & (1 << days) - 1 > 0).sum() for days in (1, 7, 28))
    dau, wau, mau = (int(count) for count in counts)
    return dau, wau, mau
