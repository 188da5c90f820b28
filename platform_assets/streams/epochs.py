"""The lives of a topic: where each began, and how a new one is opened.

Offsets are only comparable within one life of a topic. When a topic was recreated, or what was never read is
gone, reading stops (`resources.records.ContinuityBroken`) until a person opens a new epoch. All of it is
recorded in bronze's log, by `app_transactions`:

- ``<topic>/epoch``: the current epoch, from 1;
- ``<topic>/<epoch>/identity``: which topic of that name it is, where the broker tells;
- ``<topic>/<epoch>/partitions``: how many topic partitions it has;
- ``<topic>/<epoch>/<partition>/start`` and ``<topic>/<epoch>/<partition>``: first and next offset.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable

from platform_assets.semantics.watermark import Newest, watermark
from platform_assets.table import Table
from resources.lake import Lake, Writer
from resources.records import Position, RecordSource, epoch_app, identity_app, partitions_app, progress_app, start_app
from resources.settings import StartAt

_EPOCH_ZERO = datetime(1970, 1, 1, tzinfo=UTC)

WATERMARK_APP = "watermark"
"""The name under which a log records the watermark of its streams, in µs since 1970: that of `silver/events`, and those
of `silver/row_changes` and of what is computed from it."""


def instant(microseconds: int) -> datetime:
    """What a log records of an instant, in µs since 1970, as one; UTC."""
    return _EPOCH_ZERO + timedelta(microseconds=microseconds)


def microseconds(instant: datetime) -> int:
    """An instant as a log records it: µs since 1970."""
    return (instant - _EPOCH_ZERO) // timedelta(microseconds=1)


def newest_apps(topic: str, epoch: int, partition: int) -> tuple[str, str]:
    """The names of a topic partition's greatest event time and record time seen, in µs since 1970."""
    name = progress_app(topic, epoch, partition)
    return f"{name}/newest_event", f"{name}/newest_record"


def watermark_of(handle: DeltaTable) -> datetime | None:
    """The watermark as a table's log has it, UTC; None where it has none."""
    found = handle.transaction_version(WATERMARK_APP)
    return None if found is None else instant(found)


def come_to(silver: DeltaTable, position: Position, idle_after: timedelta) -> datetime | None:
    """The event time that a topic has come to, by its topic partitions that are not idle beside the others; UTC.

    Args:
        silver: The version of the stream's silver table that tells.
        position: The topic's epoch and topic partitions.
        idle_after: A topic partition whose newest record is older than the topic's by so much is idle.

    Returns:
        None before the first event.
    """
    newest = {}
    for partition in position.offsets:
        seen = [silver.transaction_version(n) for n in newest_apps(position.topic, position.epoch, partition)]
        if None not in seen:
            event, record = (instant(number or 0) for number in seen)
            newest[partition] = Newest(event, record)
    return watermark(newest, timedelta(0), idle_after)


def current(bronze: Writer, source: RecordSource, topic: str, start_at: StartAt) -> int:
    """The current epoch of a topic; opens the first one where the topic was never read."""
    epoch = bronze.progress(epoch_app(topic))
    return epoch if epoch is not None else _open(bronze, source, topic, 1, start_at)


def open_next(lake: Lake, table: Table, source: RecordSource, topic: str, start_at: StartAt) -> int:
    """Open a new epoch: reading goes on from what the topic holds now. What was read before stays.

    The tables below bronze must have caught up with bronze (`catch_up` of the stream's writer), because a table below
    is brought to bronze's progress in the current epoch only.

    Args:
        lake: The lake.
        table: The stream's bronze table.
        source: Where records come from.
        topic: The topic.
        start_at: Where the new epoch begins.

    Returns:
        The new epoch.
    """
    bronze = Writer(lake, table)
    epoch = (bronze.progress(epoch_app(topic)) or 0) + 1
    return _open(bronze, source, topic, epoch, start_at)


def add_partitions(bronze: Writer, source: RecordSource, topic: str, epoch: int) -> None:
    """Take up topic partitions that were added since; they are read from their beginning."""
    known = bronze.progress(partitions_app(topic, epoch)) or 0
    held = source.held(topic)
    added = {partition: offsets for partition, offsets in held.items() if partition >= known}
    if not added:
        return
    progress = {partitions_app(topic, epoch): max(held) + 1}
    for partition, offsets in added.items():
        progress |= {
            start_app(topic, epoch, partition): offsets.low,
            progress_app(topic, epoch, partition): offsets.low,
        }
    _read_all(bronze, progress)
    bronze.record(progress)


def recorded(bronze: DeltaTable, topic: str, epoch: int | None = None) -> Position | None:
    """How far an epoch (the current one) was read, from bronze's log; None where it never was."""
    epoch = epoch if epoch is not None else bronze.transaction_version(epoch_app(topic))
    if epoch is None:
        return None
    partitions = range(bronze.transaction_version(partitions_app(topic, epoch)) or 0)
    found = {p: bronze.transaction_version(progress_app(topic, epoch, p)) for p in partitions}
    return Position(topic, epoch, {p: offset for p, offset in found.items() if offset is not None})


def starts(bronze: DeltaTable, position: Position) -> dict[int, int]:
    """The first offset of each topic partition of an epoch."""
    return {
        partition: bronze.transaction_version(start_app(position.topic, position.epoch, partition)) or 0
        for partition in position.offsets
    }


def _open(bronze: Writer, source: RecordSource, topic: str, epoch: int, start_at: StartAt) -> int:
    held, identity = source.held(topic), source.identity(topic)
    progress = {epoch_app(topic): epoch, partitions_app(topic, epoch): max(held) + 1}
    if identity is not None:
        progress[identity_app(topic, epoch)] = identity
    for partition, offsets in held.items():
        first = offsets.low if start_at == "earliest" else offsets.high
        progress |= {start_app(topic, epoch, partition): first, progress_app(topic, epoch, partition): first}
    _read_all(bronze, progress)
    bronze.record(progress)
    return epoch


def _read_all(bronze: Writer, progress: dict[str, int]) -> None:
    """Read what is about to be written, so that a rival that writes it first is noticed."""
    for name in progress:
        bronze.progress(name)
