"""Keeping the tables quick to read and bounded in size: compaction, clustering, checkpoints, retention.

Nothing here changes a row, but retention, which removes what is older than it says. All of it runs in one slot
(`MAINTENANCE_POOL`): two compactions of the same files at once would double their rows, and Delta would not notice.
"""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from partitions import Window
from platform_assets.bronze import records as received
from platform_assets.followed import ANSWERED
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.silver import events
from platform_assets.streams.advance import CHANGES_POOL, STREAMS_POOL
from platform_assets.streams.stream import EVENT_STREAMS, OLTP_CHANGES, Stream
from platform_assets.table import Table
from platform_assets.tables import TABLES, tables
from resources.lake import WRITER_PROPERTIES, Lake, Writer, retrying

MAINTENANCE_POOL = "maintenance"


FILES_PER_PARTITION = 8
"""A date's partition with more small files than this is compacted."""
TARGET_BYTES = 256 * 2**20
"""The size that compaction aims at; larger files are left alone."""


class DoubleCompaction(RuntimeError):
    """Two compactions ran over the same version of a table: rows may stand twice. Restore the version before."""


def compact(lake: Lake, table: Table) -> dict[str, int]:
    """Merge the small files of every date that has many, beside whoever writes.

    Returns:
        ``partitions compacted``, ``files before``, ``files after``.

    Raises:
        DoubleCompaction: Another compaction ran at the same time, which the pool should have kept out.
    """
    handle = lake.open(table)
    files = _files(handle)
    date_column = table.partition_by[0]
    crowded = (
        files.filter(pl.col("size_bytes") < TARGET_BYTES // 2)
        .group_by(f"partition.{date_column}")
        .len()
        .filter(pl.col("len") > FILES_PER_PARTITION)[f"partition.{date_column}"]
        .sort()
    )
    done = 0
    for day in crowded:
        fresh = lake.open(table)
        try:
            fresh.optimize.compact(
                partition_filters=[(date_column, "=", str(day))],
                target_size=TARGET_BYTES,
                writer_properties=WRITER_PROPERTIES,
            )
        except CommitFailedError:
            continue  # a rewrite of the same date came first; the next run finds what is left
        _assert_alone(fresh)
        done += 1
    return {
        "partitions compacted": done,
        "files before": files.height,
        "files after": _files(lake.open(table)).height,
    }


def cluster(platform: Platform, table: Table) -> list[date]:
    """Sort the rows of each date within its files, once, when the date is closed and a day has passed.

    Returns:
        The dates clustered.
    """
    lake, watermark = platform.lake, platform.watermark()
    if watermark is None:
        return []
    date_column = table.partition_by[0]
    dates = _files(lake.open(table))[f"partition.{date_column}"].unique().sort()
    ledger = lake.scan(computations.TABLE).filter((pl.col("table") == table.name) & (pl.col("upstream") == table.name))
    known = set(ledger.select(pl.col("window_start").dt.date()).collect().to_series())
    clustered = []
    for day in dates:
        window = Window.of_days(day, day, ZoneInfo("UTC"))
        if day in known or watermark < window.end + timedelta(days=1):
            continue
        handle = lake.open(table)
        try:
            handle.optimize.z_order(
                list(table.cluster_by),
                partition_filters=[(date_column, "=", str(day))],
                target_size=TARGET_BYTES,
                writer_properties=WRITER_PROPERTIES,
            )
        except CommitFailedError:
            continue
        _assert_alone(handle)
        platform.record(table, window, table, handle.version(), handle.version(), 0)
        clustered.append(day)
    return clustered


def trim_log(lake: Lake, table: Table) -> None:
    """Write a checkpoint, and drop the log entries behind it that nothing needs any more.

    Every commit lists the log, so its length is paid for by every micro-batch. A table's log is what its followers
    (`ANSWERED`) catch up from, are rebuilt at, and are told to be late by: what came after the version that the last of
    them has taken in stays, and that version itself, however old they are.

    Raises:
        VersionGone: That version is gone already; the table's followers must be rebuilt.
    """
    version = None
    for followed in ANSWERED:
        if table is followed.table:
            taken = (lake.open(follower).transaction_version(followed.app) for follower in followed.followers)
            version = min(number or 0 for number in taken)
    handle = lake.open(table, version)
    handle.create_checkpoint()
    handle.cleanup_metadata()


def vacuum(lake: Lake, table: Table, retention: timedelta) -> int:
    """Delete the files that no version within the retention needs. Returns their number.

    A vacuum of less than 7 days beside a writer can corrupt a table: the setting refuses that, and so does delta-rs.
    """
    hours = int(retention.total_seconds() // 3600)
    return len(lake.open(table).vacuum(retention_hours=hours, dry_run=False))


def retain(platform: Platform, table: Table) -> datetime | None:
    """Remove a bronze table's records older than the retention, whole dates only; remember from when on it is whole.

    Bronze refuses deletes (`delta.appendOnly`), so that no other code can remove a record; this lifts it for one
    commit. The caller holds the streams.

    Returns:
        From when on bronze is whole, if anything was removed.
    """
    lake = platform.lake
    cutoff = (platform.clock() - platform.settings.bronze_retention).date()
    _refuse_deletes(lake, table)  # where a crash left them allowed
    dates = _files(lake.open(table))["partition.ingestion_date"] if _has_files(lake.open(table)) else pl.Series([])
    if dates.is_empty() or min(dates) >= cutoff:
        return None
    since = datetime.combine(cutoff, time(), tzinfo=UTC)
    writer = Writer(lake, table)
    writer.progress(received.RETAINED_FROM)
    # First what a rebuild must know, then the deed: a crash in between only makes rebuilds more careful.
    writer.record({received.RETAINED_FROM: int(since.timestamp() * 1e6)})

    def attempt() -> None:
        handle = lake.open(table)
        handle.alter.set_table_properties({"delta.appendOnly": "false"})
        handle.delete(f"ingestion_date < '{cutoff}'", commit_properties=CommitProperties(max_commit_retries=0))
        _refuse_deletes(lake, table)

    retrying(f"retention of {table.name}", attempt)
    return since


def _refuse_deletes(lake: Lake, table: Table) -> None:
    handle = lake.open(table)
    if handle.metadata().configuration.get("delta.appendOnly") != "true":
        handle.alter.set_table_properties({"delta.appendOnly": "true"})


@dg.op(pool=MAINTENANCE_POOL, description="Compact small files, cluster closed dates, beside the writers.")
def maintain_tables(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Compact every table and cluster the closed dates of those that ask for it."""
    for table, figures in _maintained(platform):
        context.log.info(f"{table.name}: {figures}")
        context.log_event(
            dg.AssetObservation(
                asset_key=table.asset_key, metadata={name: dg.MetadataValue.int(n) for name, n in figures.items()}
            )
        )


@dg.op(pool=MAINTENANCE_POOL, description="Files that were removed from the tables, and are past their retention, go.")
def vacuum_tables(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Vacuum every table."""
    for table in _there(platform.lake):
        files = vacuum(platform.lake, table, platform.settings.file_retention)
        context.log.info(f"{table.name}: {files} files vacuumed")


def retention_op(name: str, streams: Sequence[Stream], pool: str) -> dg.OpDefinition:
    """The op that applies the retention of bronze to the records of streams, and holds these meanwhile."""
    named = " and ".join(stream.table.name for stream in streams)

    @dg.op(name=name, pool=pool, description=f"Records of {named} past their retention go.")
    def retain_records(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        for stream in streams:
            since = retain(platform, stream.table)
            told = "nothing is past its retention" if since is None else f"it holds all records from {since} on"
            context.log.info(f"{stream.table.name}: {told}")

    return retain_records


retain_events = retention_op("retain_events", EVENT_STREAMS, STREAMS_POOL)
retain_changes = retention_op("retain_changes", [OLTP_CHANGES], CHANGES_POOL)


@dg.job(
    executor_def=dg.in_process_executor,
    description="Every ten minutes: compaction, clustering of closed dates, trimming of logs.",
)
def maintain() -> None:
    """Keep the tables quick to read."""
    maintain_tables()


@dg.job(executor_def=dg.in_process_executor, description="Nightly: vacuum, retention.")
def nightly() -> None:
    """Keep the tables bounded."""
    vacuum_tables()
    retain_events()
    retain_changes()


regular_maintenance = dg.ScheduleDefinition(
    job=maintain, cron_schedule="7-59/10 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
nightly_maintenance = dg.ScheduleDefinition(
    job=nightly, cron_schedule="15 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)


def _maintained(platform: Platform) -> Iterator[tuple[Table, dict[str, int]]]:
    for table in _there(platform.lake):
        figures = compact(platform.lake, table)
        if table is events.TABLE:
            figures["dates clustered"] = len(cluster(platform, table))
        trim_log(platform.lake, table)
        yield table, figures


def _there(lake: Lake) -> Iterator[Table]:
    """Every table but those of new metrics that no run has made yet."""
    for table in tables():
        if table in TABLES or lake.exists(table):
            yield table


def _files(handle: DeltaTable) -> pl.DataFrame:
    return pl.DataFrame(handle.get_add_actions(flatten=True))


def _has_files(handle: DeltaTable) -> bool:
    return not _files(handle).is_empty()


def _assert_alone(handle: DeltaTable) -> None:
    """Assert that no other compaction came between what this one read and what it wrote."""
    newest = handle.history(1)[0]
    if newest.get("operation") != "OPTIMIZE":
        return  # there was nothing to do, and so no commit
    read = int(newest.get("readVersion", newest["version"] - 1))
    between = [
        entry
        for entry in handle.history(newest["version"] - read)
        if read < entry["version"] < newest["version"] and entry.get("operation") == "OPTIMIZE"
    ]
    if between:
        msg = f"{handle.table_uri}: versions {[e['version'] for e in between]} and {newest['version']} both compacted"
        raise DoubleCompaction(msg)
