"""Characterization of delta-rs (``deltalake`` 1.6.6): what its commits, predicates and statistics promise.

These test the library, not this project. Each docstring says the behaviour in one sentence, then what
rests on it here, so that a failure after an upgrade reads as "delta-rs changed, look there". Conflicts are
made without races: a *stale handle* is opened first, another handle commits, then the stale one writes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from deltalake.schema import PrimitiveType

DAY_1, DAY_2, DAY_3 = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)
HOUR_0 = "at >= '2026-01-01T00:00:00Z' AND at < '2026-01-01T01:00:00Z'"


def at(hour: int, minute: int = 0, second: int = 0, micro: int = 0) -> datetime:
    return datetime(2026, 1, 1, hour, minute, second, micro, tzinfo=UTC)


def progress(app: str, version: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(app, version)])


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


def table(
    root: Path,
    data: pl.DataFrame,
    *,
    partition_by: list[str] | None = None,
    configuration: Mapping[str, str | None] | None = None,
) -> str:
    """A new table named after nothing but its folder, with ``data`` as its version 0."""
    path = str(root / "table")
    write_deltalake(path, data, partition_by=partition_by, configuration=configuration)
    return path


def append(target: str | DeltaTable, data: pl.DataFrame, properties: CommitProperties | None = None) -> None:
    write_deltalake(target, data, mode="append", commit_properties=properties)


def replace(
    target: str | DeltaTable,
    data: pl.DataFrame,
    predicate: str,
    properties: CommitProperties | None = None,
) -> None:
    write_deltalake(target, data, mode="overwrite", predicate=predicate, commit_properties=properties)


def rows(path: str) -> list[tuple[Any, ...]]:
    return pl.read_delta(path).sort(pl.all()).rows()


def log_names(path: str) -> set[str]:
    return {entry.name for entry in Path(path, "_delta_log").iterdir()}


def log_file(path: str, version: int, suffix: str = "json") -> Path:
    return Path(path, "_delta_log", f"{version:020}.{suffix}")


# --- progress: app_transactions -------------------------------------------------------------------------


def test_app_transactions_are_read_by_transaction_version(tmp_path: Path) -> None:
    """``transaction_version(app)`` is the version of the last commit that named the app, else None.

    The progress of every stream is read this way.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[2]), progress("events-0", 7))

    assert DeltaTable(path).transaction_version("events-0") == 7
    assert DeltaTable(path).transaction_version("events-1") is None


def test_a_repeat_from_a_fresh_handle_writes_twice(tmp_path: Path) -> None:
    """delta-rs never skips a commit whose app and version are already in the log.

    So the lake asserts the recorded progress itself before it writes; idempotence is ours, not delta-rs's.
    """
    path = table(tmp_path, frame(x=[1]))
    append(DeltaTable(path), frame(x=[2]), progress("a", 7))
    append(DeltaTable(path), frame(x=[2]), progress("a", 7))

    assert rows(path) == [(1,), (2,), (2,)]


def test_an_app_transaction_may_go_backwards(tmp_path: Path) -> None:
    """A lower version than the recorded one is accepted and becomes the recorded one.

    Nothing below us stops progress from going back: the lake's own assertion does.
    """
    path = table(tmp_path, frame(x=[1]))
    append(DeltaTable(path), frame(x=[2]), progress("a", 8))
    append(DeltaTable(path), frame(x=[3]), progress("a", 2))

    assert DeltaTable(path).transaction_version("a") == 2


def test_a_stale_handle_with_the_same_app_is_refused(tmp_path: Path) -> None:
    """A commit naming an app that another commit named after the handle was loaded raises CommitFailedError.

    This is the fence between two writers of one stream: refresh, assert, write on that same handle.
    """
    path = table(tmp_path, frame(x=[1]))
    stale = DeltaTable(path)
    append(DeltaTable(path), frame(x=[2]), progress("a", 8))

    with pytest.raises(CommitFailedError, match="Concurrent transaction failed"):
        append(stale, frame(x=[2]), progress("a", 8))
    assert rows(path) == [(1,), (2,)]


def test_a_stale_handle_with_another_app_is_not_refused(tmp_path: Path) -> None:
    """Appends of different apps never conflict, and the handle that wrote moves to its own commit.

    Streams that feed one table are independent; a writer may keep its handle for the next micro-batch.
    """
    path = table(tmp_path, frame(x=[1]))
    stale = DeltaTable(path)
    append(DeltaTable(path), frame(x=[2]), progress("b", 8))
    append(stale, frame(x=[3]), progress("a", 8))

    assert rows(path) == [(1,), (2,), (3,)]
    assert stale.version() == DeltaTable(path).version() == 2


def test_a_refreshed_zombie_is_not_fenced(tmp_path: Path) -> None:
    """After ``update_incremental`` a superseded writer's commit of the same app goes through.

    The zombie hole: hence refresh, then assert that ``transaction_version`` is what *we* committed last.
    The value that the assertion needs is there: the refreshed handle shows the other's progress.
    """
    path = table(tmp_path, frame(x=[0]))
    zombie = DeltaTable(path)
    append(zombie, frame(x=[1]), progress("a", 100))
    append(DeltaTable(path), frame(x=[2]), progress("a", 200))

    zombie.update_incremental()
    assert zombie.transaction_version("a") == 200
    append(zombie, frame(x=[2]), progress("a", 200))
    assert rows(path) == [(0,), (1,), (2,), (2,)]


def test_a_zero_row_append_commits_its_progress(tmp_path: Path) -> None:
    """An append of no rows makes a version that carries its app_transactions.

    A micro-batch whose records are all dead letters still moves on.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[1]).clear(), progress("a", 1))

    assert DeltaTable(path).version() == 1
    assert DeltaTable(path).transaction_version("a") == 1
    assert rows(path) == [(1,)]


def test_a_replacement_that_changes_nothing_commits_its_progress(tmp_path: Path) -> None:
    """An overwrite of no rows whose predicate matches no row still commits, with its app_transactions.

    Rebuilding an empty window records that it was rebuilt.
    """
    path = table(tmp_path, frame(x=[1]))
    replace(path, frame(x=[1]).clear(), "x = 9", progress("a", 1))

    assert DeltaTable(path).transaction_version("a") == 1
    assert rows(path) == [(1,)]


def test_a_delete_that_matches_nothing_drops_its_progress(tmp_path: Path) -> None:
    """DELETE without a match makes no version at all, so its app_transactions are lost.

    Progress never rides on a DELETE (nor on a MERGE, which behaves the same way).
    """
    path = table(tmp_path, frame(x=[1]))
    DeltaTable(path).delete("x = 9", commit_properties=progress("a", 1))

    assert DeltaTable(path).version() == 0
    assert DeltaTable(path).transaction_version("a") is None


def test_400_app_transactions_fit_into_one_commit(tmp_path: Path) -> None:
    """One commit holds hundreds of app_transactions.

    A micro-batch commits one per topic partition and epoch.
    """
    path = table(tmp_path, frame(x=[1]))
    offsets = [Transaction(f"events-{n}", n) for n in range(400)]
    append(path, frame(x=[2]), CommitProperties(app_transactions=offsets))

    handle = DeltaTable(path)
    assert [handle.transaction_version(f"events-{n}") for n in range(400)] == list(range(400))


def test_progress_survives_checkpoint_and_log_cleanup_but_history_does_not(tmp_path: Path) -> None:
    """After a checkpoint and ``cleanup_metadata`` the transactions are still there, history and old versions not.

    Progress may rest on app_transactions for ever; whatever is kept in ``custom_metadata`` (touched dates,
    computed-from versions) must be read before ``delta.logRetentionDuration`` (default 30 days) is over.
    """
    path = table(tmp_path, frame(x=[1]), configuration={"delta.logRetentionDuration": "interval 0 days"})
    append(path, frame(x=[2]), progress("a", 5))
    append(path, frame(x=[3]))
    long_ago = time.time() - 3 * 86400
    for entry in Path(path, "_delta_log").iterdir():
        os.utime(entry, (long_ago, long_ago))

    handle = DeltaTable(path)
    handle.create_checkpoint()
    handle.cleanup_metadata()

    assert log_names(path) == {
        "00000000000000000002.checkpoint.parquet",
        "00000000000000000002.json",
        "_last_checkpoint",
    }
    assert DeltaTable(path).transaction_version("a") == 5
    assert rows(path) == [(1,), (2,), (3,)]
    assert [commit["version"] for commit in DeltaTable(path).history()] == [2]
    with pytest.raises(TableNotFoundError):
        DeltaTable(path, version=1)


def test_checkpoints_come_by_themselves_every_so_many_commits(tmp_path: Path) -> None:
    """``delta.checkpointInterval`` makes the writer itself write checkpoints after its commits.

    No task of ours writes them; the interval is a table property.
    """
    path = table(tmp_path, frame(x=[1]), configuration={"delta.checkpointInterval": "2"})
    for _ in range(3):
        append(DeltaTable(path), frame(x=[1]))

    assert log_file(path, 1, "checkpoint.parquet").exists()
    assert log_file(path, 3, "checkpoint.parquet").exists()


# --- what a commit says about itself --------------------------------------------------------------------


def test_custom_metadata_is_shown_by_history(tmp_path: Path) -> None:
    """``custom_metadata`` comes back in ``history()`` as top-level keys, numbers and lists kept, newest first.

    Restatement reads touched dates and computed-from versions there.
    """
    path = table(tmp_path, frame(x=[1]))
    touched = {"touched": ["2026-01-01"], "read_version": 12}
    append(path, frame(x=[2]), CommitProperties(custom_metadata=touched))

    newest, first = DeltaTable(path).history()
    assert {key: newest[key] for key in touched} == touched
    assert (newest["version"], first["version"]) == (1, 0)
    assert "touched" not in first


def test_custom_metadata_cannot_hide_what_delta_rs_says(tmp_path: Path) -> None:
    """A ``custom_metadata`` key of delta-rs's own (``operation``) raises ValueError.

    So ``history()`` can be trusted to tell our keys from its own.
    """
    path = table(tmp_path, frame(x=[1]))
    with pytest.raises(ValueError, match="generated by delta-rs"):
        append(path, frame(x=[2]), CommitProperties(custom_metadata={"operation": "mine"}))


def test_the_names_of_operations_in_history(tmp_path: Path) -> None:
    """``history()`` names operations CREATE TABLE, WRITE (mode, predicate), DELETE, OPTIMIZE, VACUUM START/END.

    Restatement skips what moved no data (OPTIMIZE, VACUUM) by these names.
    """
    path = str(tmp_path / "table")
    DeltaTable.create(path, schema=Schema([Field("x", PrimitiveType("long"))]))
    append(path, frame(x=[1]))
    append(path, frame(x=[2]))
    replace(path, frame(x=[2]), "x = 2")
    DeltaTable(path).delete("x = 2")
    append(path, frame(x=[3]))
    DeltaTable(path).optimize.compact()
    DeltaTable(path).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    said = [
        (
            commit["operation"],
            commit["operationParameters"].get("mode"),
            commit["operationParameters"].get("predicate"),
        )
        for commit in reversed(DeltaTable(path).history())
    ]
    assert [name for name, _, _ in said] == [
        "CREATE TABLE",
        "WRITE",
        "WRITE",
        "WRITE",
        "DELETE",
        "WRITE",
        "OPTIMIZE",
        "VACUUM START",
        "VACUUM END",
    ]
    assert said[1] == ("WRITE", "Append", None)
    assert said[3] == ("WRITE", "Overwrite", "x = 2")


# --- conflicts ------------------------------------------------------------------------------------------


def test_an_append_beside_a_replacement_of_another_partition_is_refused(tmp_path: Path) -> None:
    """A stale append raises when another commit removed *any* file meanwhile, and passes after a refresh.

    An append counts as having read every file: the writer repeats from a refreshed handle.
    """
    path = table(tmp_path, frame(d=["a", "b"], x=[1, 2]), partition_by=["d"])
    stale = DeltaTable(path)
    replace(path, frame(d=["a"], x=[10]), "d = 'a'")

    with pytest.raises(CommitFailedError, match="deleted data this operation read"):
        append(stale, frame(d=["b"], x=[3]), progress("a", 1))

    stale.update_incremental()
    append(stale, frame(d=["b"], x=[3]), progress("a", 1))
    assert rows(path) == [("a", 10), ("b", 2), ("b", 3)]


def test_no_isolation_level_spares_an_append_that_conflict(tmp_path: Path) -> None:
    """``delta.isolationLevel`` does not change it: the append beside a replacement is refused all the same.

    The error's own advice ("set to Snapshot Isolation") leads nowhere, so we repeat instead.
    """
    snapshot = {"delta.isolationLevel": "SnapshotIsolation"}
    path = table(tmp_path, frame(d=["a", "b"], x=[1, 2]), partition_by=["d"], configuration=snapshot)
    stale = DeltaTable(path)
    replace(path, frame(d=["a"], x=[10]), "d = 'a'")

    with pytest.raises(CommitFailedError):
        append(stale, frame(d=["b"], x=[3]))


def test_a_replacement_beside_an_append_into_its_window_is_refused_given_a_handle(tmp_path: Path) -> None:
    """A replaceWhere on the handle that was read raises when a row of its window was appended since.

    A rebuild reads and writes on one handle.
    """
    path = table(tmp_path, frame(at=[at(0), at(1)], x=[1, 2]))
    read_from = DeltaTable(path)
    append(path, frame(at=[at(0, 30)], x=[3]))

    with pytest.raises(CommitFailedError, match="added new data"):
        replace(read_from, frame(at=[at(0)], x=[9]), HOUR_0)
    assert (at(0, 30), 3) in rows(path)


def test_a_replacement_given_a_path_silently_removes_what_was_appended_meanwhile(tmp_path: Path) -> None:
    """Given a path, replaceWhere reads the newest version itself and removes the concurrent row without a word.

    Why the lake's rebuild takes a handle, never a path.
    """
    path = table(tmp_path, frame(at=[at(0), at(1)], x=[1, 2]))
    computed = pl.scan_delta(DeltaTable(path)).filter(pl.col("at") < at(1)).collect()
    append(path, frame(at=[at(0, 30)], x=[3]))

    replace(path, computed, HOUR_0)
    assert rows(path) == [(at(0), 1), (at(1), 2)]


def test_a_replacement_beside_an_append_elsewhere_passes(tmp_path: Path) -> None:
    """A replaceWhere on a stale handle passes when statistics show the appended file outside its window.

    The window need not be a partition: hourly rebuilds run while the stream writes other hours.
    """
    path = table(tmp_path, frame(at=[at(0), at(1)], x=[1, 2]))
    stale = DeltaTable(path)
    append(path, frame(at=[at(5)], x=[3]))

    replace(stale, frame(at=[at(0)], x=[9]), HOUR_0)
    assert rows(path) == [(at(0), 9), (at(1), 2), (at(5), 3)]


def test_a_file_that_spans_the_window_conflicts_though_no_row_is_in_it(tmp_path: Path) -> None:
    """Conflicts are judged by a file's min and max: an append of 04:00 and 06:00 refuses a rebuild of 05:00.

    Why late rows go into files of their own.
    """
    path = table(tmp_path, frame(at=[at(5)], x=[1]))
    stale = DeltaTable(path)
    append(path, frame(at=[at(4), at(6)], x=[2, 3]))

    with pytest.raises(CommitFailedError, match="added new data"):
        replace(stale, frame(at=[at(5)], x=[9]), "at >= '2026-01-01T05:00:00Z' AND at < '2026-01-01T06:00:00Z'")


def test_replacements_of_different_partitions_do_not_conflict(tmp_path: Path) -> None:
    """Two replaceWheres with literal predicates on different partitions both commit; of the same one, the stale raises.

    Backfills write different windows of one table side by side.
    """
    path = table(tmp_path, frame(d=["a", "b"], x=[1, 2]), partition_by=["d"])
    stale, staler = DeltaTable(path), DeltaTable(path)
    replace(path, frame(d=["a"], x=[10]), "d = 'a'")
    replace(stale, frame(d=["b"], x=[20]), "d = 'b'")
    assert rows(path) == [("a", 10), ("b", 20)]

    with pytest.raises(CommitFailedError):
        replace(staler, frame(d=["a"], x=[11]), "d = 'a'")


def test_bounds_on_whole_milliseconds_see_every_concurrent_append(tmp_path: Path) -> None:
    """An append of the window's last microsecond refuses a replaceWhere whose bounds are whole milliseconds.

    Statistics are cut down to milliseconds; bounds that are whole milliseconds cannot tell the difference.
    """
    path = table(tmp_path, frame(at=[at(5)], x=[1]))
    stale = DeltaTable(path)
    append(path, frame(at=[at(0, 59, 59, 999_999)], x=[2]))

    with pytest.raises(CommitFailedError, match="added new data"):
        replace(stale, frame(at=[at(0)], x=[9]), HOUR_0)


def test_a_bound_finer_than_a_millisecond_misses_a_concurrent_append(tmp_path: Path) -> None:
    """A lower bound with microseconds is above the *cut* maximum of the appended file: no conflict is seen.

    So bounds of windows in predicates are whole milliseconds (hours and days are); a bound taken from data
    is floored first. If this ever raises, the rule can go.
    """
    path = table(tmp_path, frame(at=[at(0)], x=[1]))
    stale = DeltaTable(path)
    append(path, frame(at=[at(0, 59, 59, 999_900)], x=[2]))

    replace(
        stale,
        frame(at=[at(0, 59, 59, 999_600)], x=[9]),
        "at >= '2026-01-01T00:59:59.999500Z' AND at < '2026-01-01T01:00:00Z'",
    )
    assert rows(path) == [(at(0), 1), (at(0, 59, 59, 999_600), 9), (at(0, 59, 59, 999_900), 2)]


def test_an_overwrite_without_a_predicate_keeps_a_concurrent_append(tmp_path: Path) -> None:
    """A whole overwrite on a stale handle removes only the files it knew: the concurrent rows stay beside the new.

    A full rebuild is not a way out of the rule "always a predicate": ``true`` is one, and it raises.
    """
    path = table(tmp_path, frame(x=[1]))
    stale, staler = DeltaTable(path), DeltaTable(path)
    append(path, frame(x=[2]))
    write_deltalake(stale, frame(x=[9]), mode="overwrite")
    assert rows(path) == [(2,), (9,)]

    with pytest.raises(CommitFailedError):
        replace(staler, frame(x=[9]), "true")


# --- predicates of an overwrite -------------------------------------------------------------------------

EVENTS = frame(
    date=[DAY_1, DAY_1, DAY_2, DAY_2], offset=[1, 2, 3, 4], batch=["o", "o", "o", "o"], s=["it's", "b", "c", "d"]
)


@pytest.mark.parametrize("partition_by", [None, ["date"]], ids=["flat", "by date"])
@pytest.mark.parametrize(
    ("predicate", "removed"),
    [
        ("offset IN (1, 3) OR batch = 'n'", {1, 3}),
        ("batch = 'n' OR (date = '2026-01-01' AND offset IN (1))", {1}),
        ("(date = DATE '2026-01-01' AND offset IN (2)) OR (date = '2026-01-03' AND offset IN (9))", {2}),
        ("(date = CAST('2026-01-01' AS DATE) AND offset >= 1 AND offset < 2) OR batch = 'n'", {1}),
        ("((date = '2026-01-01' AND (batch = 'o' AND offset IN (1, 2))) OR offset = 4) OR batch = 'n'", {1, 2, 4}),
        ("offset BETWEEN 1 AND 2 OR batch = 'n'", {1, 2}),
        ("s = 'it''s' OR batch = 'n'", {1}),
        ("\"offset\" = 1 OR `batch` = 'n'", {1}),
        ("offset NOT IN (1)", {2, 3, 4}),
        ("batch = 'n'", set()),
        ("true", {1, 2, 3, 4}),
    ],
)
def test_one_overwrite_moves_a_row_across_dates(
    tmp_path: Path, partition_by: list[str] | None, predicate: str, removed: set[int]
) -> None:
    """An overwrite removes what its predicate matches, in any partition, and adds rows to another, in one commit.

    Any AND/OR/IN/BETWEEN/NOT IN over partition and plain columns is accepted. Silver replaces a row whose
    earlier arrival was read later this way, even when the two lie on different dates.
    """
    path = table(tmp_path, EVENTS, partition_by=partition_by)
    new = frame(date=[DAY_3], offset=[9], batch=["n"], s=["new"])
    replace(DeltaTable(path), new, predicate)

    assert DeltaTable(path).version() == 1
    kept = EVENTS.filter(~pl.col("offset").is_in(list(removed)))
    assert rows(path) == pl.concat([kept, new]).sort(pl.all()).rows()


@pytest.mark.parametrize("partition_by", [None, ["date"]], ids=["flat", "by date"])
def test_new_rows_must_satisfy_the_predicate(tmp_path: Path, partition_by: list[str] | None) -> None:
    """A new row that the predicate does not match fails the whole overwrite with DeltaError; nothing is written.

    So a replacement's predicate is ``<old rows> OR <something true of every new row>`` (a batch id).
    """
    path = table(tmp_path, EVENTS, partition_by=partition_by)
    with pytest.raises(DeltaError, match="1 rows failed validation check"):
        replace(path, frame(date=[DAY_2], offset=[9], batch=["n"], s=["x"]), "offset IN (1, 3)")

    assert DeltaTable(path).version() == 0


def test_a_predicate_that_is_null_keeps_the_old_row_and_refuses_the_new(tmp_path: Path) -> None:
    """Where the predicate is NULL, an existing row stays, a new row fails.

    Columns of predicates may be null in old rows; those of new rows may not.
    """
    old = pl.DataFrame({"offset": [1, None, 3], "batch": ["o", None, "o"]})
    path = table(tmp_path, old)
    replace(path, frame(offset=[1], batch=["n"]), "offset = 1 OR batch = 'n'")
    assert set(pl.read_delta(path).rows()) == {(1, "n"), (None, None), (3, "o")}

    with pytest.raises(DeltaError, match="failed validation check"):
        replace(path, pl.DataFrame({"offset": [None], "batch": ["n"]}, schema=old.schema), "offset = 1")


def test_a_predicate_may_list_thousands_of_values(tmp_path: Path) -> None:
    """``IN`` with 2,000 literals, and 300 ORed ANDs, are parsed and matched exactly.

    One micro-batch may replace many rows in one commit.
    """
    path = table(tmp_path, frame(date=[DAY_1] * 4, offset=[1, 2, 3, 5000], batch=["o"] * 4))
    many = ",".join(str(n) for n in range(2, 2002))
    replace(path, frame(date=[DAY_1], offset=[9], batch=["n"]), f"offset IN ({many}) OR batch = 'n'")
    assert rows(path) == [(DAY_1, 1, "o"), (DAY_1, 9, "n"), (DAY_1, 5000, "o")]

    ored = " OR ".join(f"(date = '2026-01-01' AND offset = {n})" for n in range(300))
    replace(path, frame(date=[DAY_1], offset=[7], batch=["n"]), ored)
    assert rows(path) == [(DAY_1, 7, "n"), (DAY_1, 5000, "o")]


@pytest.mark.parametrize("literal", ["2026-01-01T01:00:00Z", "2026-01-01 01:00:00", "2026-01-01T02:00:00+01:00"])
def test_a_plain_string_compares_with_a_utc_timestamp(tmp_path: Path, literal: str) -> None:
    """A quoted string beside a UTC timestamp column is read as an instant, an offset included, no offset being UTC.

    Windows are written as ``at >= '…Z' AND at < '…Z'``.
    """
    path = table(tmp_path, frame(at=[at(0), at(1), at(2)], x=[0, 1, 2]))
    replace(path, frame(at=[at(1)], x=[9]), f"at >= '{literal}' AND at < '2026-01-01T02:00:00Z'")

    assert [x for _, x in rows(path)] == [0, 9, 2]


def test_a_timestamp_literal_is_refused_beside_a_utc_timestamp(tmp_path: Path) -> None:
    """``TIMESTAMP '…'`` is a naive nanosecond value, which a UTC column cannot be compared with: DeltaError.

    Why windows are plain strings.
    """
    path = table(tmp_path, frame(at=[at(0)], x=[0]))
    with pytest.raises(DeltaError, match="Invalid comparison operation"):
        replace(path, frame(at=[at(1)], x=[9]), "at >= TIMESTAMP '2026-01-01T01:00:00Z'")


@pytest.mark.parametrize("value", ["it's", "a\\b", 'q"q', "ü💥", "a\nb", "--x", "$1", "%", "' OR 'a' = 'a"])
def test_doubling_the_quote_escapes_any_string(tmp_path: Path, value: str) -> None:
    """Inside a quoted literal only the quote needs escaping, by doubling; backslash, newline and ``--`` are themselves.

    Predicates are built from values with that one rule.
    """
    path = table(tmp_path, frame(s=[value, "keep"], x=[0, 1]))
    replace(path, frame(s=[value], x=[9]), "s = '" + value.replace("'", "''") + "'")

    assert set(rows(path)) == {(value, 9), ("keep", 1)}


def test_a_predicate_on_an_unknown_column_is_refused(tmp_path: Path) -> None:
    """A predicate naming a column that is not there raises DeltaError.

    A misspelt window cannot replace the wrong rows.
    """
    path = table(tmp_path, frame(x=[1]))
    with pytest.raises(DeltaError, match="No field named nosuch"):
        replace(path, frame(x=[1]), "nosuch = 1")


def test_a_row_moving_overwrite_conflicts_only_with_appends_that_its_predicate_could_match(tmp_path: Path) -> None:
    """``batch = … OR (date = … AND id IN (…))`` passes beside unrelated appends and is refused beside a matching one.

    Silver's replacing commit survives the other streams' appends.
    """
    path = table(tmp_path, frame(date=[DAY_1, DAY_2], offset=[1, 2], batch=["o", "o"]), partition_by=["date"])
    predicate = "batch = 'n' OR (date = '2026-01-01' AND offset IN (1))"
    stale = DeltaTable(path)
    append(path, frame(date=[DAY_1, DAY_3], offset=[50, 51], batch=["m", "m"]))
    replace(stale, frame(date=[DAY_2], offset=[9], batch=["n"]), predicate)
    assert {offset for _, offset, _ in rows(path)} == {2, 9, 50, 51}

    stale = DeltaTable(path)
    append(path, frame(date=[DAY_1], offset=[1], batch=["m"]))
    with pytest.raises(CommitFailedError, match="added new data"):
        replace(stale, frame(date=[DAY_2], offset=[10], batch=["n"]), predicate)


# --- statistics -----------------------------------------------------------------------------------------


def test_timestamp_statistics_are_cut_down_to_milliseconds(tmp_path: Path) -> None:
    """Min and max of a timestamp in the log lose their microseconds, both rounded *down*; int64 and dates are exact.

    A max from ``get_add_actions`` may be up to 999 µs below the true one: never a watermark, never "nothing
    after this". As a lower bound (min) it is safe.
    """
    big = 2**62
    path = table(
        tmp_path,
        frame(at=[at(0, 0, 0, 123_456), at(1, 0, 0, 999_999)], i=[big + 1, big + 3], d=[DAY_1, DAY_2], b=[b"a", b"z"]),
    )
    stats = pl.DataFrame(DeltaTable(path).get_add_actions(flatten=True)).row(0, named=True)

    assert (stats["min.at"], stats["max.at"]) == (at(0, 0, 0, 123_000), at(1, 0, 0, 999_000))
    assert (stats["min.i"], stats["max.i"]) == (big + 1, big + 3)
    assert (stats["min.d"], stats["max.d"]) == (DAY_1, DAY_2)
    assert (stats["num_records"], stats["null_count.at"]) == (2, 0)
    assert "min.b" not in stats


def test_statistics_of_long_strings_are_cut_but_still_bounds(tmp_path: Path) -> None:
    """Min and max of a string are cut to 64 characters, the max's last one raised so that it stays an upper bound.

    Fit for pruning, never for reading the value back.
    """
    path = table(tmp_path, frame(s=["a" * 100, "z" * 100, "m"]))
    stats = pl.DataFrame(DeltaTable(path).get_add_actions(flatten=True)).row(0, named=True)

    assert stats["min.s"] == "a" * 64
    assert stats["max.s"] == "z" * 63 + "{"
    assert stats["min.s"] <= "a" * 100
    assert stats["max.s"] >= "z" * 100


def test_cut_statistics_hide_no_row_from_overwrite_delete_or_pruning(tmp_path: Path) -> None:
    """A row above the cut maximum is still found by overwrite, by DELETE and by ``file_pruning_predicate``.

    Only the conflict check reads the cut value as exact (see the test of bounds finer than a millisecond).
    """
    last = "at >= '2026-01-01T00:59:59.999500Z' AND at < '2026-01-01T01:00:00Z'"
    path = table(tmp_path, frame(at=[at(0), at(0, 59, 59, 999_900)], x=[1, 2]))
    append(path, frame(at=[at(5)], x=[3]))

    assert len(DeltaTable(path).file_uris(file_pruning_predicate=last)) == 1
    replace(path, frame(at=[at(0, 59, 59, 999_600)], x=[9]), last)
    assert [x for _, x in rows(path)] == [1, 9, 3]
    assert DeltaTable(path).delete(last)["num_deleted_rows"] == 1


def test_only_the_first_32_columns_have_statistics_unless_the_table_names_them(tmp_path: Path) -> None:
    """Statistics cover the first 32 columns; ``delta.dataSkippingStatsColumns`` names others.

    The envelope is wide: its tables name the columns that windows and lookups use.
    """
    wide = pl.DataFrame({f"c{n}": [n] for n in range(40)})

    def columns_with_min(root: Path, configuration: dict[str, str | None] | None) -> set[str]:
        root.mkdir()
        path = table(root, wide, configuration=configuration)
        columns = pl.DataFrame(DeltaTable(path).get_add_actions(flatten=True)).columns
        return {name.removeprefix("min.") for name in columns if name.startswith("min.")}

    assert columns_with_min(tmp_path / "default", None) == {f"c{n}" for n in range(32)}
    named: dict[str, str | None] = {"delta.dataSkippingStatsColumns": "c38,c1"}
    assert columns_with_min(tmp_path / "named", named) == {"c1", "c38"}


# --- types and constraints ------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "stored"), [([1.7], 1), (["12"], 12), ([True], 1)], ids=["float", "string", "bool"])
def test_values_are_cast_to_the_column_silently(tmp_path: Path, given: list[Any], stored: int) -> None:
    """An append casts to the table's type without a word: 1.7 into int64 is stored as 1.

    Why the lake compares dtypes exactly before every write.
    """
    path = table(tmp_path, frame(x=pl.Series([0], dtype=pl.Int64)))
    append(path, frame(x=given))

    assert set(rows(path)) == {(0,), (stored,)}


@pytest.mark.parametrize("data", [frame(x=[1]), frame(x=[1], y=["a"], z=[1])], ids=["missing", "extra"])
def test_a_missing_or_extra_column_is_refused(tmp_path: Path, data: pl.DataFrame) -> None:
    """Without a schema mode an append with other columns than the table's raises SchemaMismatchError.

    A schema change is a deliberate act, never a side effect of a write.
    """
    path = table(tmp_path, frame(x=[0], y=["b"]))
    with pytest.raises(SchemaMismatchError):
        append(path, data)


def test_columns_are_matched_by_name_not_by_order(tmp_path: Path) -> None:
    """An append with its columns in another order lands in the right columns.

    Writers need not reorder.
    """
    path = table(tmp_path, frame(x=[0], y=["b"]))
    append(path, frame(y=["a"], x=[1]))

    assert rows(path) == [(0, "b"), (1, "a")]


def test_every_timestamp_with_a_zone_is_stored_as_utc_microseconds(tmp_path: Path) -> None:
    """Ns and ms become µs, Europe/Berlin becomes UTC; a naive timestamp is refused beside a UTC column.

    The one timestamp type of the lake is µs UTC.
    """
    berlin = pl.Series([at(0)]).dt.convert_time_zone("Europe/Berlin")
    path = table(tmp_path, frame(ns=pl.Series([at(0)]).dt.cast_time_unit("ns"), berlin=berlin))
    utc = pl.Datetime("us", "UTC")

    assert pl.read_delta(path).schema == {"ns": utc, "berlin": utc}
    assert rows(path) == [(at(0), at(0))]
    with pytest.raises(DeltaError, match="TimestampWithoutTimezone"):
        append(path, pl.read_delta(path).with_columns(pl.all().dt.replace_time_zone(None)))


def test_unsigned_integers_come_back_signed(tmp_path: Path) -> None:
    """UInt64 is stored as int64, and a value above its maximum is refused.

    Hash columns are reinterpreted as Int64 before they are written.
    """
    path = table(tmp_path, frame(h=pl.Series([1], dtype=pl.UInt64)))

    assert pl.read_delta(path).schema == {"h": pl.Int64}
    with pytest.raises(DeltaError, match="Can't cast value"):
        append(path, frame(h=pl.Series([2**63], dtype=pl.UInt64)))


def test_append_only_refuses_every_removal_of_data_but_not_compaction(tmp_path: Path) -> None:
    """``delta.appendOnly`` refuses DELETE and replaceWhere, and lets appends and OPTIMIZE through.

    Bronze is append-only; erasing from it is a procedure of its own.
    """
    path = table(tmp_path, frame(x=[1]), configuration={"delta.appendOnly": "true"})
    append(path, frame(x=[2]))
    with pytest.raises(CommitFailedError, match="append-only"):
        DeltaTable(path).delete("x = 1")
    with pytest.raises(CommitFailedError, match="append-only"):
        replace(path, frame(x=[1]), "x = 1")

    assert DeltaTable(path).optimize.compact()["numFilesRemoved"] == 2
    assert rows(path) == [(1,), (2,)]


def test_constraints_and_not_null_are_enforced_on_append(tmp_path: Path) -> None:
    """A row against a CHECK constraint or NOT NULL fails the append with DeltaError.

    Keys and required fields of a declared table are enforced by the table itself.
    """
    path = str(tmp_path / "table")
    DeltaTable.create(path, schema=Schema([Field("x", PrimitiveType("long"), nullable=False)]))
    DeltaTable(path).alter.add_constraint({"positive": "x > 0"})
    append(path, frame(x=[1]))

    with pytest.raises(DeltaError, match="failed validation check"):
        append(path, frame(x=[-1]))
    with pytest.raises(DeltaError, match="failed validation check"):
        append(path, frame(x=pl.Series([None], dtype=pl.Int64)))
    assert rows(path) == [(1,)]


# --- partitions and files -------------------------------------------------------------------------------


def by_day(root: Path) -> str:
    """A table of three files in each of two days."""
    path = table(root, frame(d=[DAY_1, DAY_2], x=[0, 0]), partition_by=["d"])
    for x in (1, 2):
        append(path, frame(d=[DAY_1, DAY_2], x=[x, x]))
    return path


@pytest.mark.parametrize("day", ["2026-01-01", DAY_1], ids=["string", "date"])
def test_date_partitions_round_trip_and_are_compacted_one_by_one(tmp_path: Path, day: str | date) -> None:
    """A Date partition column reads back as Date; ``compact(partition_filters=…)`` takes it as string or date.

    A day is clustered when it closes, and no other day is touched.
    """
    path = by_day(tmp_path)
    done = DeltaTable(path).optimize.compact(partition_filters=[("d", "=", day)])

    assert pl.read_delta(path).schema["d"] == pl.Date
    assert (done["partitionsOptimized"], done["numFilesRemoved"], done["numFilesAdded"]) == (1, 3, 1)
    assert len(DeltaTable(path).file_uris()) == 4
    assert rows(path) == [(d, x) for d in (DAY_1, DAY_2) for x in (0, 1, 2)]


def test_utc_timestamp_partitions_round_trip(tmp_path: Path) -> None:
    """A µs UTC partition column reads back as such, and is replaced and compacted by its instant.

    Bronze may be laid out by ingestion hour.
    """
    path = table(tmp_path, frame(at=[at(0), at(1)], x=[1, 2]), partition_by=["at"])
    append(path, frame(at=[at(1)], x=[3]))
    done = DeltaTable(path).optimize.compact(partition_filters=[("at", "=", "2026-01-01 01:00:00")])
    assert done["numFilesRemoved"] == 2

    replace(path, frame(at=[at(1)], x=[9]), "at = '2026-01-01T01:00:00Z'")
    assert pl.read_delta(path).schema["at"] == pl.Datetime("us", "UTC")
    assert rows(path) == [(at(0), 1), (at(1), 9)]


def test_compaction_filters_files_by_statistics_too(tmp_path: Path) -> None:
    """``partition_filters`` of OPTIMIZE on a plain column is accepted and picks the files that may match.

    It is a filter of files, not of partitions: a misspelt *partition* filter is not caught by its type.
    """
    path = table(tmp_path, frame(x=[1]))
    for x in (0, 1, 2):
        append(path, frame(x=[x]))

    assert DeltaTable(path).optimize.compact(partition_filters=[("x", "=", "1")])["numFilesRemoved"] == 2


def test_file_uris_take_a_pruning_predicate_and_partition_filters_are_deprecated(tmp_path: Path) -> None:
    """``file_uris(file_pruning_predicate=…)`` prunes by partition and by statistics; ``partition_filters`` warns.

    The serving layer hands the files of a window to DuckDB.
    """
    path = by_day(tmp_path)
    handle = DeltaTable(path)

    assert len(handle.file_uris(file_pruning_predicate="d = '2026-01-01'")) == 3
    assert len(handle.file_uris(file_pruning_predicate="d = '2026-01-01' AND x >= 1")) == 2
    with pytest.warns(DeprecationWarning, match="file_pruning_predicate"):
        assert len(handle.file_uris(partition_filters=[("d", ">=", "2026-01-02")])) == 3


def test_file_uris_percent_encode_the_root_of_the_table(tmp_path: Path) -> None:
    """Under a folder with a space (or non-ASCII letter) ``file_uris`` are escaped and no path of the disk.

    The file-list route of the serving layer needs a root of plain ASCII without spaces, or must unquote the root.
    """
    root = tmp_path / "a lake"
    root.mkdir()
    (uri,) = DeltaTable(table(root, frame(x=[1]))).file_uris()

    assert "a%20lake" in uri
    assert not Path(uri).exists()
    assert Path(uri.replace("%20", " ")).exists()


# --- maintenance ----------------------------------------------------------------------------------------


def test_optimize_beside_an_append_conflicts_neither_way(tmp_path: Path) -> None:
    """A stale OPTIMIZE beside an append, and a stale append beside an OPTIMIZE, both commit and lose nothing.

    Compaction may run while the stream writes.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[2]))
    optimizer, appender = DeltaTable(path), DeltaTable(path)
    append(path, frame(x=[3]))
    assert optimizer.optimize.compact()["numFilesRemoved"] == 2
    append(appender, frame(x=[4]), progress("a", 1))

    assert rows(path) == [(1,), (2,), (3,), (4,)]


def test_two_optimizes_of_the_same_files_double_every_row(tmp_path: Path) -> None:
    """A stale OPTIMIZE beside an OPTIMIZE of the same partition commits, and each row is there twice. No error.

    CORRUPTION: maintenance of a table has exactly one slot (a pool), takes a fresh handle, and is verified
    afterwards (another OPTIMIZE between its ``readVersion`` and its own version is the sign). Of *different*
    partitions it is harmless. If this raises one day, the verification can go.
    """
    path = by_day(tmp_path)
    other_day, same_day = DeltaTable(path), DeltaTable(path)
    DeltaTable(path).optimize.compact(partition_filters=[("d", "=", DAY_1)])
    other_day.optimize.compact(partition_filters=[("d", "=", DAY_2)])
    assert len(rows(path)) == 6

    same_day.optimize.compact(partition_filters=[("d", "=", DAY_1)])
    newest = DeltaTable(path).history(1)[0]
    assert (newest["readVersion"], newest["version"]) == (2, 5)
    assert rows(path) == [(DAY_1, x) for x in (0, 0, 1, 1, 2, 2)] + [(DAY_2, x) for x in (0, 1, 2)]


def test_optimize_drops_app_transactions(tmp_path: Path) -> None:
    """OPTIMIZE writes its ``custom_metadata`` but not its ``app_transactions``.

    So two OPTIMIZEs cannot be fenced through the log; a lock outside has to do it.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[2]))
    told = CommitProperties(app_transactions=[Transaction("maintenance", 1)], custom_metadata={"by": "me"})
    DeltaTable(path).optimize.compact(commit_properties=told)

    newest = DeltaTable(path).history(1)[0]
    assert (newest["operation"], newest["by"]) == ("OPTIMIZE", "me")
    assert newest["readVersion"] == 1
    assert DeltaTable(path).transaction_version("maintenance") is None


def test_optimize_and_replacements_exclude_each_other(tmp_path: Path) -> None:
    """A stale OPTIMIZE beside a replaceWhere raises, even of another partition; so does a stale replaceWhere of the
    compacted partition; a stale replaceWhere of another partition passes.

    Maintenance repeats after a refresh; it can slow a rebuild, never undo it.
    """
    path = by_day(tmp_path)
    optimizer = DeltaTable(path)
    replace(path, frame(d=[DAY_1], x=[9]), "d = '2026-01-01'")
    with pytest.raises(CommitFailedError, match="deleted data"):
        optimizer.optimize.compact(partition_filters=[("d", "=", DAY_2)])

    same_day, other_day = DeltaTable(path), DeltaTable(path)
    DeltaTable(path).optimize.compact(partition_filters=[("d", "=", DAY_2)])
    with pytest.raises(CommitFailedError, match="added new data"):
        replace(same_day, frame(d=[DAY_2], x=[8]), "d = '2026-01-02'")
    replace(other_day, frame(d=[DAY_1], x=[7]), "d = '2026-01-01'")
    assert rows(path) == [(DAY_1, 7)] + [(DAY_2, x) for x in (0, 1, 2)]


def test_vacuum_refuses_a_short_retention_unless_told_not_to(tmp_path: Path) -> None:
    """Below 168 h ``vacuum`` raises; with ``enforce_retention_duration=False`` it lists, and removes only when not dry.

    A full vacuum keeps 168 h or more; only a test may turn that off.
    """
    path = table(tmp_path, frame(x=[1]))
    replace(path, frame(x=[2]), "true")
    with pytest.raises(DeltaError, match="168 hours"):
        DeltaTable(path).vacuum(retention_hours=1)

    assert DeltaTable(path).vacuum() == []
    doomed = DeltaTable(path).vacuum(retention_hours=0, enforce_retention_duration=False)
    assert [Path(path, name).exists() for name in doomed] == [True]


# --- creating, opening, versions ------------------------------------------------------------------------


def test_create_ignore_leaves_an_existing_table_as_it_is(tmp_path: Path) -> None:
    """``create(mode="ignore")`` on an existing table makes no version and keeps its schema, whatever it is given.

    Ensuring a table is idempotent; comparing the schema afterwards is the lake's business.
    """
    path = str(tmp_path / "table")
    declared = Schema([Field("x", PrimitiveType("long"))])
    DeltaTable.create(path, schema=declared, mode="ignore")
    append(path, frame(x=[1]))
    again = DeltaTable.create(path, schema=Schema([Field("y", PrimitiveType("string"))]), mode="ignore")

    assert again.version() == 1
    assert again.schema() == declared
    assert rows(path) == [(1,)]
    assert DeltaTable.is_deltatable(path)
    with pytest.raises(DeltaError, match="already exists"):
        DeltaTable.create(path, schema=declared)


def test_opening_what_is_no_table_raises(tmp_path: Path) -> None:
    """A path without a log raises TableNotFoundError, and ``is_deltatable`` says False.

    The lake tells "not written yet" from every other failure by this type.
    """
    assert not DeltaTable.is_deltatable(str(tmp_path / "nothing"))
    with pytest.raises(TableNotFoundError):
        DeltaTable(str(tmp_path / "nothing"))


def replace_days(path: str, days: Sequence[date], ready: Any) -> None:
    """What one worker of the race below does: ensure the table, then replace its own days, repeating on conflict."""
    ready.wait()
    schema = Schema([Field("d", PrimitiveType("date")), Field("x", PrimitiveType("long"))])
    DeltaTable.create(path, schema=schema, partition_by=["d"], mode="ignore")
    for day in days:
        for _ in range(20):
            try:
                replace(DeltaTable(path), frame(d=[day], x=[day.day]), f"d = '{day.isoformat()}'")
                break
            except CommitFailedError:
                continue


def test_racing_processes_that_create_then_replace_lose_nothing(tmp_path: Path) -> None:
    """Two spawned processes that ensure the same new table, then always write by predicate, keep every day.

    "Predicate only if the table exists" lost data in 6 of 8 races; this order is how every table is written.
    """
    path = str(tmp_path / "table")
    days = [date(2026, 1, n) for n in range(1, 9)]
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(2)
    workers = [spawn.Process(target=replace_days, args=(path, days[n::2], ready)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert rows(path) == [(day, day.day) for day in days]


FORK = """
import os, signal, sys
import polars as pl
from deltalake import write_deltalake
write_deltalake(sys.argv[1], pl.DataFrame({"x": [1]}))
child = os.fork()
if child == 0:
    signal.alarm(20)
    write_deltalake(sys.argv[1], pl.DataFrame({"x": [2]}), mode="append")
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_panics(tmp_path: Path) -> None:
    """A process forked after delta-rs was used cannot use it: PanicException, which is no ``Exception``.

    Every worker process is spawned.
    """
    path = str(tmp_path / "table")
    forked = subprocess.run([sys.executable, "-c", FORK, path], capture_output=True, text=True, timeout=60, check=False)

    assert forked.returncode == 1
    assert "PanicException: Forked process detected" in forked.stderr
    assert DeltaTable(path).version() == 0


def test_a_handle_moves_between_versions(tmp_path: Path) -> None:
    """``load_as_version`` goes back, ``update_incremental`` forth to the newest; a version to come raises.

    Rebuilds read at the version that silver's progress names; pollers refresh their handle.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[2]))
    handle = DeltaTable(path)

    handle.load_as_version(0)
    assert (handle.version(), handle.count()) == (0, 1)
    handle.update_incremental()
    assert (handle.version(), handle.count()) == (1, 2)
    handle.update_incremental()
    assert handle.version() == 1
    with pytest.raises(DeltaError):
        handle.load_as_version(99)


def test_a_handle_loaded_at_an_older_version_still_appends_to_the_newest(tmp_path: Path) -> None:
    """An append on a handle of an older version is rebased onto the newest; it does not go back.

    Reading at a pinned version cannot fork a table.
    """
    path = table(tmp_path, frame(x=[1]))
    append(path, frame(x=[2]))
    append(DeltaTable(path, version=0), frame(x=[3]))

    assert DeltaTable(path).version() == 2
    assert rows(path) == [(1,), (2,), (3,)]


def test_a_handle_does_not_pickle(tmp_path: Path) -> None:
    """A DeltaTable cannot be pickled.

    Workers are given a table's location and open it themselves.
    """
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(DeltaTable(table(tmp_path, frame(x=[1]))))


# --- damage ---------------------------------------------------------------------------------------------


def three_commits(root: Path) -> str:
    path = table(root, frame(x=[1]))
    append(path, frame(x=[2]))
    append(path, frame(x=[3]))
    return path


def test_a_zero_byte_last_commit_opens_silently_without_its_rows(tmp_path: Path) -> None:
    """An empty last log file counts as a version without actions, and the next commit builds upon it.

    Power loss can leave it, delta-rs calls no fsync: ``doctor`` looks for empty log files.
    """
    path = three_commits(tmp_path)
    log_file(path, 2).write_bytes(b"")

    assert DeltaTable(path).version() == 2
    assert rows(path) == [(1,), (2,)]
    append(path, frame(x=[4]))
    assert DeltaTable(path).version() == 3
    assert rows(path) == [(1,), (2,), (4,)]


def test_a_torn_or_missing_commit_is_an_error(tmp_path: Path) -> None:
    """A log file cut in the middle, or missing between others, makes the table unreadable (DeltaError).

    Only the empty file is silent.
    """
    path = three_commits(tmp_path)
    whole = log_file(path, 2).read_bytes()
    log_file(path, 2).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeltaError):
        DeltaTable(path)

    log_file(path, 2).write_bytes(whole)
    log_file(path, 1).unlink()
    with pytest.raises(DeltaError, match="found gap"):
        DeltaTable(path)


def test_a_corrupt_checkpoint_is_mended_by_removing_it_and_the_pointer_to_it(tmp_path: Path) -> None:
    """A corrupt checkpoint makes the table unreadable until it *and* ``_last_checkpoint`` are removed.

    ``doctor`` removes both (either alone leaves an error); then an older checkpoint or the JSON log is used.
    """
    path = table(tmp_path, frame(x=[1]))
    DeltaTable(path).create_checkpoint()
    append(path, frame(x=[2]))
    DeltaTable(path).create_checkpoint()
    append(path, frame(x=[3]))
    checkpoint, pointer = log_file(path, 1, "checkpoint.parquet"), Path(path, "_delta_log", "_last_checkpoint")
    assert json.loads(pointer.read_text())["version"] == 1

    checkpoint.write_bytes(checkpoint.read_bytes()[:50])
    with pytest.raises(DeltaError, match="Corrupt footer"):
        DeltaTable(path)
    checkpoint.unlink()
    with pytest.raises(DeltaError, match="_last_checkpoint"):
        DeltaTable(path)
    pointer.unlink()
    assert rows(path) == [(1,), (2,), (3,)]


def test_a_rubbish_pointer_is_ignored(tmp_path: Path) -> None:
    """An empty or unparsable ``_last_checkpoint`` is ignored and the log is listed instead.

    Emptying the pointer is as good as removing it.
    """
    path = three_commits(tmp_path)
    DeltaTable(path).create_checkpoint()
    for rubbish in ("", "{"):
        Path(path, "_delta_log", "_last_checkpoint").write_text(rubbish)
        assert rows(path) == [(1,), (2,), (3,)]
