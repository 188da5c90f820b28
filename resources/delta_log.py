"""What a table's log says: which files a version has, what commits did to the rows, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from resources.lake import STATS_PRECISION, Lake, TableLike, VersionGone

_CHANGING = frozenset({"WRITE", "DELETE", "MERGE", "UPDATE"})
"""The operations that change rows; others move them between files."""


@dataclass(frozen=True)
class Commit:
    """A commit of a table.

    Attributes:
        version: The version that it made.
        at: When, by the clock of the machine that committed, to the millisecond; UTC.
    """

    version: int
    at: datetime


@dataclass(frozen=True)
class Change:
    """What one commit did to a table's rows.

    Attributes:
        version: The version that the commit made.
        added: The rows that came, or came again in a rewritten file.
        removed: The rows that went, or went with a rewritten file.
    """

    version: int
    added: pl.DataFrame
    removed: pl.DataFrame


def changes(lake: Lake, table: TableLike, since: int, until: int, columns: Sequence[str]) -> Iterator[Change]:
    """What the commits after version ``since`` up to ``until`` did to a table's rows, one by one.

    Commits that only move rows between files (compaction, clustering) change nothing and are left out.

    Args:
        lake: The lake.
        table: The table.
        since: The version that is known already.
        until: The last version wanted.
        columns: The columns wanted; partition columns may not be among them.

    Raises:
        VersionGone: Log or files of the span were cleaned up.
    """
    if until <= since:
        return
    newest = lake.open(table)
    operations = {entry["version"]: entry.get("operation", "") for entry in newest.history(newest.version() - since)}
    for version in range(since + 1, until + 1):
        if version not in operations:
            msg = f"{table.name}: what version {version} did can no longer be told (log retention)"
            raise VersionGone(msg)
        if operations[version] not in _CHANGING:
            continue
        before, after = (files_of(lake, table, lake.open(table, v)) for v in (version - 1, version))
        yield Change(
            version=version,
            added=_read_files(lake, sorted(after - before), table, columns),
            removed=_read_files(lake, sorted(before - after), table, columns),
        )


def reached_at(lake: Lake, table: TableLike, app: str, number: int) -> Commit | None:
    """The commit by which a table's progress came to a number, or beyond it; None where it has not.

    Args:
        lake: The lake.
        table: The table.
        app: The name of the progress.
        number: The least that it shall be.

    Raises:
        VersionGone: It came to it so long ago that the log no longer tells when.
    """

    def is_reached(version: int) -> bool | None:
        """None where the log no longer tells."""
        try:
            return (lake.open(table, version).transaction_version(app) or 0) >= number
        except VersionGone:
            return None

    low, high, step = -1, lake.open(table).version(), 1
    if not is_reached(high):
        return None
    while high - step > 0 and is_reached(high - step):  # by longer and longer steps: what is looked for is recent
        high, step = high - step, 2 * step
    low = max(high - step, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_reached(middle) else (middle, high)
    if low >= 0 and is_reached(low) is None:
        msg = f"{table.name} came to {number} of {app} before its log begins (log retention)"
        raise VersionGone(msg)
    return _commit(lake.open(table, high))


def _commit(handle: DeltaTable) -> Commit:
    """The commit that made the version that a handle stands at."""
    return Commit(handle.version(), _instant(handle.history(1)[0]["timestamp"]))


def _instant(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def changed_since(lake: Lake, table: TableLike, version: int) -> datetime | None:
    """When the first commit after a version was made that changed rows, UTC; None where there is none.

    Of commits that the log does not tell any more, nothing is said.
    """
    handle = lake.open(table)
    behind = handle.version() - version
    later = [commit for commit in handle.history(behind) if commit["version"] > version] if behind > 0 else []
    changing = [commit["timestamp"] for commit in later if commit.get("operation") in _CHANGING]
    return _instant(min(changing)) if changing else None


def files_of(lake: Lake, table: TableLike, handle: DeltaTable) -> set[str]:
    """The files of a version. delta-rs's own `file_uris` percent-encodes the lake's path, which then is not found."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    return {f"{lake.uri(table)}/{path}" for path in files["path"]} if not files.is_empty() else set()


def files_near(lake: Lake, table: TableLike, handle: DeltaTable, column: str, instants: pl.Series) -> list[str]:
    """The files of a table that may hold one of some instants in a column, by the files' statistics.

    Args:
        lake: The lake.
        table: The table.
        handle: The version of it to look at.
        column: A column of instants that files carry statistics of.
        instants: The instants looked for, not null.
    """
    if instants.is_empty():
        return []
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return []
    low, high = f"min.{column}", f"max.{column}"
    wanted = instants.unique().sort()
    spans = files.select(
        "path",
        low=pl.col(low) - STATS_PRECISION if low in files.columns else None,
        high=pl.col(high) + STATS_PRECISION if high in files.columns else None,
    )
    first = wanted.search_sorted(spans["low"], side="left") if spans["low"].dtype != pl.Null else None
    last = wanted.search_sorted(spans["high"], side="right") if spans["high"].dtype != pl.Null else None
    if first is None or last is None:
        near = spans
    else:
        near = spans.filter((first < last) | spans["low"].is_null() | spans["high"].is_null())
    return [f"{lake.uri(table)}/{path}" for path in near["path"]]


def _read_files(lake: Lake, files: Sequence[str], table: TableLike, columns: Sequence[str]) -> pl.DataFrame:
    if not files:
        return pl.DataFrame(schema={name: table.schema[name] for name in columns})
    try:
        return lake.read_files(files).select(columns).collect()
    except FileNotFoundError as error:
        msg = f"a file of an older version of {table.name} was vacuumed: {error}"
        raise VersionGone(msg) from error
