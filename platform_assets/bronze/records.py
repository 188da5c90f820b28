"""Tables of received records: what they are, and how a window of one is read from Kafka again."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.refusal import RebuildRefused
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake, retrying
from resources.records import RECORD_SCHEMA, Position, RecordSource, epoch_app, progress_app

COORDINATES = (
    Column("topic", pl.String(), "Kafka topic."),
    Column("epoch", pl.Int32(), "Life of the topic: grows when its offsets begin anew.", minimum=1),
    Column("partition", pl.Int32(), "Topic partition.", minimum=0),
    Column("offset", pl.Int64(), "Offset in the topic partition.", minimum=0),
)
"""What identifies a record."""

INGESTED_AT = Column("ingested_at", TIMESTAMP, "Ingestion time: the Kafka record's timestamp.")

RECORD = (
    *COORDINATES,
    INGESTED_AT,
    Column("key", pl.Binary(), "The record's key, as received.", nullable=True, personal=True),
    Column("value", pl.Binary(), "The record's value, as received.", nullable=True, personal=True),
    Column("headers", RECORD_SCHEMA["headers"], "The record's headers, as received.", nullable=True),
)
"""A record as it was received."""

REASONS = Column("reasons", pl.List(pl.String()), "Every reason why it was refused, `what:where`.")

INGESTION_DATE = Column("ingestion_date", pl.Date(), "UTC date of `ingested_at`.")


RETAINED_FROM = "retained_from"
"""The name under which the log of such a table records, in µs since 1970, from when on it still holds everything."""


def with_ingestion_date(records: pl.DataFrame) -> pl.DataFrame:
    """Add the partition column of tables laid out by ingestion."""
    return records.with_columns(ingestion_date=pl.col("ingested_at").dt.date())


def received(name: str, description: str, *, steady: bool = True) -> Table:
    """The declaration of a table that holds a topic's records as they were received.

    Args:
        name: Of the table.
        description: What the records are, a plural.
        steady: Whether every hour brings some.
    """
    return Table(
        name=name,
        description=(
            f"{description} as they arrived from Kafka, undecoded. Append-only; each commit also records the next "
            "offset of every topic partition, so a record is here once."
        ),
        grain="one Kafka record",
        key=("topic", "epoch", "partition", "offset"),
        columns=(*RECORD, INGESTION_DATE),
        partition_by=("ingestion_date",),
        window_on="ingested_at",
        partitions="hour",
        cluster_by=("partition", "offset"),
        update="append",
        service_level=timedelta(minutes=15),
        stats=("ingested_at", "epoch", "partition", "offset"),
        append_only=True,
        steady=steady,
    )


def transform(records: pl.DataFrame) -> pl.DataFrame:
    """Records as received to rows of such a table."""
    return with_ingestion_date(records).select(*RECORD_SCHEMA.names(), INGESTION_DATE.name)


def rebuild(lake: Lake, table: Table, source: RecordSource, window: Window) -> None:
    """Read a window's records from Kafka again, and append those that are missing.

    Such a table is append-only: a record that is there is never changed by this.

    Raises:
        RebuildRefused: Kafka no longer holds all the records that the window holds.
    """

    def attempt() -> None:
        handle = lake.open(table)
        stored = (
            lake.scan(table, window, handle)
            .group_by("topic", "epoch", "partition")
            .agg(first=pl.col("offset").min(), last=pl.col("offset").max())
            .sort("topic", "epoch", "partition")
            .collect()
        )
        missing = [_missing(lake, table, source, window, *span) for span in stored.iter_rows()]
        rows = transform(pl.concat([pl.DataFrame(schema=RECORD_SCHEMA), *missing]))
        if not rows.is_empty():
            lake.append(table, rows)

    retrying(f"rebuild of {table.name}", attempt)


def _missing(
    lake: Lake,
    table: Table,
    source: RecordSource,
    window: Window,
    topic: str,
    epoch: int,
    partition: int,
    first: int,
    last: int,
) -> pl.DataFrame:
    """The records between two offsets that Kafka holds and the table does not."""
    handle = lake.open(table)
    newest_epoch = handle.transaction_version(epoch_app(topic))
    where = f"{topic}, partition {partition}, epoch {epoch}"
    if epoch != newest_epoch:
        msg = (
            f"{table.name} {window.start} to {window.end} holds {where}, offsets {first} to {last}; the topic is now "
            f"in epoch {newest_epoch}: Kafka has nothing left of the earlier one. What is here stays as it is"
        )
        raise RebuildRefused(msg)
    held = source.held(topic, Position(topic, epoch, {partition: last + 1})).get(partition)
    if held is None or held.low > first or held.high <= last:
        now = "is gone" if held is None else f"holds {held.low} to {held.high - 1}"
        msg = (
            f"{table.name} {window.start} to {window.end} holds {where}, offsets {first} to {last}; Kafka now {now}. "
            "What is here stays as it is"
        )
        raise RebuildRefused(msg)
    position = Position(topic, epoch, {partition: first})
    present = (
        lake.scan(table, handle=handle)
        .filter(
            (pl.col("topic") == topic)
            & (pl.col("epoch") == epoch)
            & (pl.col("partition") == partition)
            & pl.col("offset").is_between(first, last)
        )
        .select("offset")
        .collect()["offset"]
    )
    missing = []
    while position.offsets[partition] <= last:
        batch = source.read(position, 50_000, 128 * 2**20)
        if batch is None:
            break
        wanted = batch.records.filter((pl.col("offset") <= last) & ~pl.col("offset").is_in(present.implode()))
        missing.append(wanted)
        position = batch.next_position
    return pl.concat([pl.DataFrame(schema=RECORD_SCHEMA), *missing])


def progress_of(handle: DeltaTable, records: pl.DataFrame) -> dict[tuple[str, int, int], int]:
    """How far a table has taken in the topic partitions of some records: next offset, 0 where it never did.

    Args:
        handle: A table below bronze.
        records: Rows with ``topic``, ``epoch``, ``partition``.
    """
    return {
        (topic, epoch, partition): handle.transaction_version(progress_app(topic, epoch, partition)) or 0
        for topic, epoch, partition in records.select("topic", "epoch", "partition").unique().iter_rows()
    }


def refuse_if_gone(lake: Lake, table: Table, what: str, window: Window) -> None:
    """Assert that a table of received records still holds everything from a window's start on.

    Raises:
        RebuildRefused: Retention removed records of it.
    """
    retained_from = lake.open(table).transaction_version(RETAINED_FROM)
    if retained_from is None or int(window.start.timestamp() * 1e6) >= retained_from:
        return
    gone = pl.Series([retained_from]).cast(TIMESTAMP)[0]
    msg = (
        f"{what} {window.start} to {window.end} cannot be rebuilt: {table.name} no longer holds records from before "
        f"{gone} (retention). The rows that are there stay as they are"
    )
    raise RebuildRefused(msg)
