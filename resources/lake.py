"""The lake: Delta tables read and written by rules that lose nothing.

A thin layer over `deltalake` and `polars`; the rules are the ones that experiments showed to be needed:

- A table is created before it is written, and a replacing write always carries a predicate.
- The types of a frame equal the table's exactly before a write (Delta stores 1.7 in an integer as 1).
- Rows and the *progress* that they stand for are one commit (`Writer.commit`). A writer refreshes its
  handle, asserts that the progress recorded is what it committed last, and writes on that same handle: a
  rival that took over in between is noticed (`Fenced`), whatever it wrote.
- A window is replaced on the handle it was read from (`Lake.replace`): a row appended meanwhile is a
  conflict, never a loss.
- A commit conflict is retried from a fresh handle, by the caller's own step, a bounded number of times.

delta-rs's runtime does not survive `fork`: processes that use this module are spawned.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pydantic
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from partitions import Window
from resources.settings import Settings

T = TypeVar("T")

WRITER_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=1)
CHECKPOINT_EVERY = 100
"""Commits between two checkpoints of a table's log."""

LOG_RETENTION_HOURS = 2
"""How long log entries stay behind a checkpoint. Every commit lists the log: at 40,000 entries one takes a second."""

STATS_PRECISION = timedelta(milliseconds=1)
"""Delta writes the minimum and maximum of an instant cut to the millisecond."""


class TableLike(Protocol):
    """What the lake needs to know of a table's declaration (`platform_assets.table.Table`)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def schema(self) -> pl.Schema: ...  # noqa: D102
    @property
    def required(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def partition_by(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def window_on(self) -> str: ...  # noqa: D102
    @property
    def stats(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def append_only(self) -> bool: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102


class SchemaMismatch(TypeError):
    """A frame or a stored table does not have the declared columns and types."""


class Fenced(RuntimeError):
    """Another writer moved the progress of a stream that this writer held: stop, and let it work."""


class ConflictNotResolved(RuntimeError):
    """A write met a conflicting commit at every attempt."""


class VersionGone(LookupError):
    """A version of a table can no longer be read: its log or its files were cleaned up."""


class Lake:
    """A folder or bucket of Delta tables, one per declared table.

    Args:
        url: The root: a path, ``s3://…``, ``gs://…``, ``abfss://…``.
        storage_options: The object store's options; secrets, never logged.

    Raises:
        ValueError: A local folder whose path needs escaping in a URL: Polars does not find the files of such a table.
    """

    def __init__(self, url: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        if "://" not in url and quote(str(Path(url).absolute())) != str(Path(url).absolute()):
            msg = (
                f"the lake's folder {Path(url).absolute()} has a space or another character that a URL must escape; "
                "set HEADWATER_LAKE_URL to a folder without one"
            )
            raise ValueError(msg)
        self._options = dict(storage_options or {})

    @classmethod
    def from_settings(cls, settings: Settings) -> Lake:
        """The lake that the settings name; checks the names of the storage options.

        Raises:
            ValueError: A storage option is unknown to its object store, or a required one is missing.
        """
        return cls(settings.lake_url, storage_options(settings.lake_url, settings.storage_options()))

    def __repr__(self) -> str:
        return f"Lake({self.url!r})"

    def uri(self, table: TableLike) -> str:
        """Where a table is."""
        return f"{self.url}/{table.name}"

    def create(self, table: TableLike) -> None:
        """Create a table where it is missing; leave it alone where it exists.

        Raises:
            SchemaMismatch: It exists with other columns or types than declared.
        """
        required = set(table.required)
        arrow = table_to_arrow_schema(table.schema, required)
        handle = DeltaTable.create(
            self.uri(table),
            schema=arrow,
            mode="ignore",
            partition_by=list(table.partition_by),
            name=table.name.replace("/", "_"),
            description=table.description,
            storage_options=self._options,
            configuration={
                "delta.appendOnly": str(table.append_only).lower(),
                "delta.checkpointInterval": str(CHECKPOINT_EVERY),
                "delta.dataSkippingStatsColumns": ",".join(table.stats),
                "delta.logRetentionDuration": f"interval {LOG_RETENTION_HOURS} hours",
                "delta.enableExpiredLogCleanup": "false",
            },
        )
        stored = pl.scan_delta(handle).collect_schema()
        if stored != table.schema:
            raise SchemaMismatch(_difference(f"table {table.name} in {self.url}", stored, table.schema))

    def exists(self, table: TableLike) -> bool:
        """Whether a table was created."""
        return DeltaTable.is_deltatable(self.uri(table), storage_options=self._options)

    def open(self, table: TableLike, version: int | None = None) -> DeltaTable:
        """A fresh handle on a table, at its newest version or at an older one.

        Raises:
            VersionGone: The version's log entries were cleaned up.
            FileNotFoundError: The table was never created.
        """
        try:
            return DeltaTable(self.uri(table), version=version, storage_options=self._options)
        except TableNotFoundError as error:
            if version is not None:
                msg = f"{table.name} has no version {version} any more (log retention)"
                raise VersionGone(msg) from error
            msg = f"table {table.name} does not exist in {self.url}; `make up` creates it"
            raise FileNotFoundError(msg) from error

    def scan(self, table: TableLike, window: Window | None = None, handle: DeltaTable | None = None) -> pl.LazyFrame:
        """A table's rows, lazily: all, or those of a window. Files outside the window are not opened."""
        rows = pl.scan_delta(handle if handle is not None else self.open(table))
        if window is not None:
            rows = rows.filter(within(table, window))
        return rows

    def read_files(self, files: Sequence[str]) -> pl.LazyFrame:
        """The rows of some of a table's files, lazily, without its partition columns."""
        return pl.scan_parquet(list(files), hive_partitioning=False, storage_options=self._options or None)

    def replace(
        self,
        table: TableLike,
        handle: DeltaTable,
        rows: pl.DataFrame,
        window: Window,
        *,
        also_remove: str | None = None,
        metadata: Mapping[str, str] | None = None,
        progress: Mapping[str, int] | None = None,
    ) -> int:
        """Make a window of a table equal to some rows, in one commit on the given handle.

        Args:
            table: The table.
            handle: The handle that the rows were computed from.
            rows: All the rows that the window shall hold.
            window: What is replaced. For a table laid out by days of the reporting timezone, use
                `replace_days`.
            also_remove: A further predicate of rows to remove outside the window (SQL).
            metadata: Written into the commit.
            progress: Progress that the same commit records.

        Returns:
            The version that the commit made.

        Raises:
            CommitFailedError: Another commit touched the window since the handle was read.
            SchemaMismatch: The frame's columns or types are not the table's.
        """
        predicate = sql_within(table, window)
        if also_remove is not None:
            predicate = f"({predicate}) OR ({also_remove})"
        return self.write(table, handle, rows, predicate, progress or {}, metadata)

    def replace_days(
        self,
        table: TableLike,
        handle: DeltaTable,
        rows: pl.DataFrame,
        first: date,
        last: date,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Make the days ``first`` to ``last`` of a table laid out by day equal to some rows; see `replace`."""
        predicate = f"{table.window_on} >= '{first}' AND {table.window_on} <= '{last}'"
        return self.write(table, handle, rows, predicate, {}, metadata)

    def append(self, table: TableLike, rows: pl.DataFrame) -> int:
        """Append rows that stand for no progress (a ledger's); retried on conflict. Returns the version."""

        def attempt() -> int:
            return self.write(table, self.open(table), rows, None, {}, None)

        return retrying(f"append to {table.name}", attempt)

    def write(
        self,
        table: TableLike,
        handle: DeltaTable,
        rows: pl.DataFrame,
        predicate: str | None,
        progress: Mapping[str, int],
        metadata: Mapping[str, str] | None,
    ) -> int:
        """Write rows, progress and metadata in one commit on a handle as it stands. The other writes end here.

        Args:
            table: The table.
            handle: The handle; it stands at the new version afterwards.
            rows: Appended; with a predicate they take the place of the rows that satisfy it.
            predicate: SQL that the new rows satisfy, too; None to append.
            progress: Recorded with the rows.
            metadata: Written into the commit.

        Returns:
            The version that the commit made.

        Raises:
            CommitFailedError: A conflicting commit came first.
            SchemaMismatch: The frame's columns or types are not the table's.
        """
        if rows.schema != table.schema:
            raise SchemaMismatch(_difference(f"frame for {table.name}", rows.schema, table.schema))
        commit = CommitProperties(
            app_transactions=[Transaction(app, version) for app, version in progress.items()],
            custom_metadata=dict(metadata or {}),
            max_commit_retries=0 if progress else None,
        )
        hooks = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
        if predicate is None:
            write_deltalake(
                handle,
                rows,
                mode="append",
                writer_properties=WRITER_PROPERTIES,
                commit_properties=commit,
                post_commithook_properties=hooks,
            )
        else:
            write_deltalake(
                handle,
                rows,
                mode="overwrite",
                predicate=predicate,
                writer_properties=WRITER_PROPERTIES,
                commit_properties=commit,
                post_commithook_properties=hooks,
            )
        return handle.version()


class Writer:
    """A writer of one table that commits rows and progress together, and notices a rival.

    Progress is a mapping from names (*apps*, in Delta's words) to numbers that only grow: the next offset of
    a topic partition, the version of a table that was taken in.

    Raises:
        Fenced: From `commit` and `progress`, when another writer moved a number that this one had read.
    """

    def __init__(self, lake: Lake, table: TableLike) -> None:
        self.lake = lake
        self.table = table
        self.handle = lake.open(table)
        self._seen: dict[str, int | None] = {}
        self._version = self.handle.version()

    @property
    def version(self) -> int:
        """The version of the table that this writer stands on."""
        return self._version

    def progress(self, app: str) -> int | None:
        """The number recorded under a name, or None where there is none yet."""
        if app not in self._seen:
            self._seen[app] = self.handle.transaction_version(app)
        return self._seen[app]

    def refresh(self) -> None:
        """Move the handle to the newest version, and assert that no rival wrote progress.

        Raises:
            Fenced: A rival did.
        """
        self.handle.update_incremental()
        if self.handle.version() == self._version:
            return
        for app, expected in self._seen.items():
            found = self.handle.transaction_version(app)
            if found != expected:
                msg = (
                    f"another writer moved {self.table.name}'s progress of {app} from {expected} to {found}; "
                    "this one stops"
                )
                raise Fenced(msg)
        self._version = self.handle.version()

    def commit(
        self,
        rows: pl.DataFrame,
        progress: Mapping[str, int],
        *,
        predicate: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Write rows and progress in one commit on the handle as it stands; call `refresh` before.

        Args:
            rows: Appended; with a predicate they take the place of the rows that satisfy it.
            progress: Numbers to record; each must have been read with `progress` before.
            predicate: SQL; the new rows must satisfy it too.
            metadata: Written into the commit.

        Returns:
            The version that the commit made.

        Raises:
            CommitFailedError: A conflicting commit came first; refresh, compute again, commit again.
            SchemaMismatch: The frame's columns or types are not the table's.
        """
        unread = [app for app in progress if app not in self._seen]
        if unread:
            msg = f"progress {unread} of {self.table.name} is written without having been read"
            raise ValueError(msg)
        back = [app for app, number in progress.items() if number < (self._seen[app] or number)]
        if back:
            msg = f"progress {back} of {self.table.name} would go back"
            raise ValueError(msg)
        version = self.lake.write(self.table, self.handle, rows, predicate, progress, metadata)
        self._seen.update(progress)
        self._version = version
        return version

    def record(self, progress: Mapping[str, int]) -> int:
        """Record progress that brought no rows. Returns the version."""
        return self.append(pl.DataFrame(schema=self.table.schema), progress)

    def append(self, rows: pl.DataFrame, progress: Mapping[str, int]) -> int:
        """Refresh and commit an append, again on conflict, until it is in. Returns the version."""

        def attempt() -> int:
            self.refresh()
            return self.commit(rows, progress)

        return retrying(f"append to {self.table.name}", attempt)


def retrying(what: str, attempt: Callable[[], T], attempts: int = 20) -> T:
    """Call ``attempt`` until it meets no conflicting commit.

    Raises:
        ConflictNotResolved: It met one at every attempt.
    """
    for number in range(attempts):
        try:
            return attempt()
        except CommitFailedError as error:
            if number == attempts - 1:
                msg = f"{what}: conflicting commits at each of {attempts} attempts; the last: {error}"
                raise ConflictNotResolved(msg) from error
            # Rivals that back off by the same time would meet again.
            time.sleep(random.uniform(0, 0.02 * (number + 1)))  # noqa: S311
    raise AssertionError  # pragma: no cover - the loop returns or raises


def within(table: TableLike, window: Window) -> pl.Expr:
    """Whether a row of a table is in a window; prunes by the table's date, too, where it is laid out by dates."""
    on = pl.col(table.window_on)
    inside = (on >= window.start) & (on < window.end)
    date_column = table.partition_by[0]
    if table.schema[date_column] != pl.Date():
        return inside
    if date_column == table.window_on:
        msg = f"{table.name} is laid out by day: filter its days, not instants"
        raise ValueError(msg)
    return pl.col(date_column).is_between(window.first_date, window.last_date) & inside


def storage_options(url: str, options: Mapping[str, str]) -> dict[str, str]:
    """Check the options of an object store against `dagster_deltalake`'s configuration of it.

    Args:
        url: The lake's URL; its scheme names the store.
        options: Names as in `dagster_deltalake.config` (``access_key_id``, ``region``, ``endpoint``, …).

    Raises:
        ValueError: An option that this store does not have, or a required one that is missing.
    """
    scheme = url.split("://", 1)[0].lower() if "://" in url else "file"
    if scheme == "file":
        if options:
            msg = f"HEADWATER_LAKE_OPTIONS has {sorted(options)}, but the lake {url!r} is a local folder"
            raise ValueError(msg)
        return {}
    # The import costs a second, and a local lake does not need it.
    from dagster_deltalake import config as stores  # noqa: PLC0415

    kinds: dict[str, type[pydantic.BaseModel]] = {
        "s3": stores.S3Config,
        "s3a": stores.S3Config,
        "gs": stores.GcsConfig,
        "az": stores.AzureConfig,
        "abfs": stores.AzureConfig,
        "abfss": stores.AzureConfig,
    }
    if scheme not in kinds:
        msg = f"the lake's URL {url!r} has the scheme {scheme!r}; known are file, {', '.join(kinds)}"
        raise ValueError(msg)
    known = set(kinds[scheme].model_fields) - {"provider"}
    unknown = sorted(set(options) - known)
    if unknown:
        msg = f"HEADWATER_LAKE_OPTIONS has {unknown}; {scheme} knows {sorted(known)}"
        raise ValueError(msg)
    given = kinds[scheme](**options).model_dump(include=set(options))
    return {name: str(value) for name, value in given.items()}


def table_to_arrow_schema(schema: pl.Schema, required: set[str]) -> pa.Schema:
    """The Arrow schema of a declared table, with its required columns not nullable."""
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([field.with_nullable(field.name not in required) for field in arrow])


def disk_usage(handle: DeltaTable) -> dict[str, int]:
    """Files, bytes and rows of a table as its log counts them."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return {"files": 0, "bytes": 0, "rows": 0}
    return {
        "files": files.height,
        "bytes": int(files["size_bytes"].sum()),
        "rows": int(files["num_records"].sum()),
    }


def local_path(lake: Lake, table: TableLike) -> Path | None:
    """The folder of a table in a local lake, or None in an object store."""
    return None if "://" in lake.url else Path(lake.uri(table))


def sql_instant(instant: datetime) -> str:
    """An instant as a SQL literal, to the microsecond."""
    return f"'{instant:%Y-%m-%dT%H:%M:%S.%f}Z'"


def sql_within(table: TableLike, window: Window) -> str:
    """`within`, in SQL."""
    date_column = table.partition_by[0]
    inside = f"{table.window_on} >= {sql_instant(window.start)} AND {table.window_on} < {sql_instant(window.end)}"
    if table.schema[date_column] != pl.Date():
        return inside
    return f"{date_column} >= '{window.first_date}' AND {date_column} <= '{window.last_date}' AND {inside}"


def _difference(what: str, found: Mapping[str, object], declared: Mapping[str, object]) -> str:
    missing = [name for name in declared if name not in found]
    unknown = [name for name in found if name not in declared]
    retyped = [
        f"{name} is {found[name]}, declared {declared[name]}"
        for name in declared
        if name in found and found[name] != declared[name]
    ]
    told = [f"without {', '.join(missing)}"] * bool(missing) + [f"with undeclared {', '.join(unknown)}"] * bool(
        unknown
    ) + retyped or ["columns in another order"]
    return f"{what}: {'; '.join(told)}"
