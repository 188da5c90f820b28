"""A lake with a past: days of `silver/events` written as years of micro-batches and maintenance would have left them.

A template of judged traffic is written again and again with other times and other hashes. Within a day the files lie
as compaction and clustering leave them: some for the events on time, each with a narrow span of time, and one for the
stragglers. The log is as long as micro-batches would have made it: entries without rows, written by hand.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

from benchmarks.traffic import Deck, Traffic, frame
from platform_assets.silver import events
from platform_assets.silver.judgement import Rules, judge
from platform_assets.table import Table
from resources.lake import Lake
from resources.schemas import NoRegistry

FILES_PER_DAY = 8
"""What compaction leaves of a day (`platform_assets.maintenance.FILES_PER_PARTITION`)."""

_ZSTD = WriterProperties(compression="ZSTD", compression_level=1)
_RULES = Rules(timedelta(days=7), NoRegistry())
_OF_EACH_EVENT = ("client_occurred_at", "client_sent_at", "received_at", "ingested_at")


def template(rows: int) -> pl.DataFrame:
    """That many rows of `silver/events`, on time and straggling, in the order of their event time."""
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    offsets: dict[int, int] = {}
    traffic = Traffic(Deck(), start, duplicate_rate=0.0, garbage_rate=0.0).records()
    judged: list[pl.DataFrame] = []
    for _ in range(0, rows, 50_000):
        records = frame(itertools.islice(traffic, min(50_000, rows)), offsets)
        judged.append(events.transform(judge(records, _RULES).accepted))
    return pl.concat(judged).head(rows).sort("occurred_at")


def stamped(rows: pl.DataFrame, start: datetime, end: datetime, number: int) -> pl.DataFrame:
    """A template's rows as the events between two instants, with hashes that no other number's rows have."""
    began = int(start.timestamp() * 1e6)
    step = (end - start) / timedelta(microseconds=1) / rows.height
    occurred = (pl.int_range(pl.len()) * step + began).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    return rows.with_columns(
        *((occurred + (pl.col(name) - pl.col("occurred_at"))).alias(name) for name in _OF_EACH_EVENT),
        occurred_at=occurred,
        event_date=occurred.dt.date(),
        key_hash=(pl.int_range(pl.len()).cast(pl.UInt64) + (number << 32)).hash(seed=7).reinterpret(signed=True),
        epoch=pl.lit(0, pl.Int32) + 1,
        offset=pl.int_range(pl.len()).cast(pl.Int64) + number * rows.height,
    ).select(events.TABLE.schema.names())


def write_day(lake: Lake, rows: pl.DataFrame, day: date, hours: float, first_number: int, files: int) -> None:
    """Append a day's events to `silver/events`.

    Args:
        lake: The lake.
        rows: The template, of one file on time.
        day: UTC.
        hours: How many of its hours there are.
        first_number: Of the files.
        files: How many, each as many rows as the template.
    """
    handle = lake.open(events.TABLE)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    step = timedelta(hours=hours) / files
    on_time, straggling = rows.filter(~pl.col("is_straggler")), rows.filter("is_straggler")
    for number in range(files):
        _append(
            handle, stamped(on_time, midnight + number * step, midnight + (number + 1) * step, first_number + number)
        )
    whole = pl.concat([straggling] * files)
    _append(handle, stamped(whole, midnight, midnight + timedelta(hours=hours), first_number + (1 << 20)))


def lengthen_log(lake: Lake, table: Table, entries: int) -> None:
    """Make a table's log longer by commits that changed no rows, as of micro-batches, and end it with a checkpoint."""
    handle = lake.open(table)
    log = Path(lake.uri(table)) / "_delta_log"
    info = json.dumps({"commitInfo": {"timestamp": 1_800_000_000_000, "operation": "WRITE", "operationParameters": {}}})
    for version in range(handle.version() + 1, handle.version() + 1 + entries):
        moved = json.dumps({"txn": {"appId": "benchmarks", "version": version, "lastUpdated": 1_800_000_000_000}})
        log.joinpath(f"{version:020}.json").write_text(f"{info}\n{moved}\n", encoding="utf-8")
    lake.open(table).create_checkpoint()


def batches(records: Iterator[tuple[bytes, bytes, int]], size: int, offsets: dict[int, int]) -> Iterator[pl.DataFrame]:
    """Records cut into frames of a size, without end."""
    while True:
        yield frame(itertools.islice(records, size), offsets)  # type: ignore[arg-type]


def _append(handle: DeltaTable, rows: pl.DataFrame) -> None:
    # The transaction makes it the kind of commit that micro-batches make.
    commit = CommitProperties(app_transactions=[Transaction("benchmarks/past", handle.version())])
    write_deltalake(handle, rows, mode="append", writer_properties=_ZSTD, commit_properties=commit)
