"""`bronze/client_events`: what web and mobile clients sent, byte for byte."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze.records import INGESTION_DATE, RECORD, with_ingestion_date
from platform_assets.refusal import RebuildRefused
from platform_assets.table import TIMESTAMP, Table
from resources.lake import Lake, retrying
from resources.records import RECORD_SCHEMA, Position, RecordSource, epoch_app, progress_app

TABLE = Table(
    name="bronze/client_events",
    description=(
        "Events of the web and mobile clients as they arrived from Kafka, undecoded. Append-only; each commit "
        "also records the next offset of every topic partition, so a record is here once."
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
)

RETAINED_FROM = "retained_from"
"""The name under which the log records, in µs since 1970, from when on bronze still holds everything."""


def transform(records: pl.DataFrame) -> pl.DataFrame:
    """Records as received to rows of the table."""
    return with_ingestion_date(records).select(TABLE.schema.names())


def rebuild(lake: Lake, source: RecordSource, window: Window) -> None:
    """Read a window's records from Kafka again, and append those that are missing here.

    Bronze is append-only: a record that is here is never changed by this.

    Raises:
        RebuildRefused: Kafka no longer holds all the records that the window holds.
    """

    def attempt() -> None:
        handle = lake.open(TABLE)
        stored = (
            lake.scan(TABLE, window, handle)
            .group_by("topic", "epoch", "partition")
            .agg(first=pl.col("offset").min(), last=pl.col("offset").max())
            .sort("topic", "epoch", "partition")
            .collect()
        )
        missing = [_missing(lake, source, window, *span) for span in stored.iter_rows()]
        rows = transform(pl.concat([pl.DataFrame(schema=RECORD_SCHEMA), *missing]))
        if not rows.is_empty():
            lake.append(TABLE, rows)

    retrying(f"rebuild of {TABLE.name}", attempt)


def _missing(
    lake: Lake, source: RecordSource, window: Window, topic: str, epoch: int, partition: int, first: int, last: int
) -> pl.DataFrame:
    """The records between two offsets that Kafka holds and the table does not."""
    handle = lake.open(TABLE)
    newest_epoch = handle.transaction_version(epoch_app(topic))
    where = f"{topic}, partition {partition}, epoch {epoch}"
    if epoch != newest_epoch:
        msg = (
            f"{TABLE.name} {window.start} to {window.end} holds {where}, offsets {first} to {last}; the topic is now "
            f"in epoch {newest_epoch}: Kafka has nothing left of the earlier one. What is here stays as it is"
        )
        raise RebuildRefused(msg)
    held = source.held(topic, Position(topic, epoch, {partition: last + 1})).get(partition)
    if held is None or held.low > first or held.high <= last:
        now = "is gone" if held is None else f"holds {held.low} to {held.high - 1}"
        msg = (
            f"{TABLE.name} {window.start} to {window.end} holds {where}, offsets {first} to {last}; Kafka now {now}. "
            "What is here stays as it is"
        )
        raise RebuildRefused(msg)
    position = Position(topic, epoch, {partition: first})
    present = (
        lake.scan(TABLE, handle=handle)
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


def refuse_if_gone(lake: Lake, what: str, window: Window) -> None:
    """Assert that bronze still holds everything from a window's start on.

    Raises:
        RebuildRefused: Retention removed records of it.
    """
    retained_from = lake.open(TABLE).transaction_version(RETAINED_FROM)
    if retained_from is None or int(window.start.timestamp() * 1e6) >= retained_from:
        return
    gone = pl.Series([retained_from]).cast(TIMESTAMP)[0]
    msg = (
        f"{what} {window.start} to {window.end} cannot be rebuilt: {TABLE.name} no longer holds records from before "
        f"{gone} (retention). The rows that are there stay as they are"
    )
    raise RebuildRefused(msg)
