"""The lake's rules, on real Delta tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError

from partitions import Window
from platform_assets.table import TIMESTAMP, Column, Table, contract, data_dictionary
from resources.delta_log import changes, files_near
from resources.lake import ConflictNotResolved, Fenced, Lake, SchemaMismatch, Writer, retrying

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

TABLE = Table(
    name="silver/things",
    description="Things.",
    grain="thing",
    key=("id",),
    columns=(
        Column("id", pl.Int64(), "Number.", minimum=0),
        Column("at", TIMESTAMP, "When."),
        Column("kind", pl.String(), "What.", nullable=True, accepted=("a", "b")),
        Column("day", pl.Date(), "Date of `at`."),
    ),
    partition_by=("day",),
    window_on="at",
    partitions="hour",
    cluster_by=("at",),
    update="rebuild",
    service_level=HOUR,
    stats=("at", "id"),
)


def rows(*ids: int, kind: str | None = "a") -> pl.DataFrame:
    """A thing per hour."""
    at = [START + n * HOUR for n in ids]
    return pl.DataFrame(
        {"id": ids, "at": at, "kind": [kind] * len(ids), "day": [a.date() for a in at]}, schema=TABLE.schema
    )


@pytest.fixture
def things(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create(TABLE)
    lake.create(TABLE)  # again: nothing happens
    return lake


def ids(lake: Lake) -> list[int]:
    return sorted(lake.scan(TABLE).select("id").collect()["id"])


def test_rows_and_progress_are_one_commit(things: Lake) -> None:
    writer = Writer(things, TABLE)
    assert writer.progress("t") is None
    writer.append(rows(1, 2), {"t": 2})
    fresh = Writer(things, TABLE)
    assert fresh.progress("t") == 2
    assert ids(things) == [1, 2]


def test_a_second_writer_fences_the_first_even_after_a_refresh(things: Lake) -> None:
    first, second = Writer(things, TABLE), Writer(things, TABLE)
    for writer in (first, second):
        writer.progress("t")
    first.append(rows(1), {"t": 1})
    with pytest.raises(Fenced, match="progress of t from None to 1"):
        second.append(rows(1), {"t": 1})
    third = Writer(things, TABLE)
    assert third.progress("t") == 1
    third.append(rows(2), {"t": 2})
    with pytest.raises(Fenced):
        first.append(rows(2), {"t": 2})
    assert ids(things) == [1, 2]


def test_progress_that_was_not_read_is_not_written(things: Lake) -> None:
    with pytest.raises(ValueError, match="without having been read"):
        Writer(things, TABLE).commit(rows(1), {"t": 1})


def test_a_frame_of_other_types_is_refused(things: Lake) -> None:
    for wrong, told in (
        (rows(1).cast({"id": pl.Float64}), "id is Float64, declared Int64"),
        (rows(1).drop("kind"), "without kind"),
        (rows(1).with_columns(more=1), "with undeclared more"),
        (rows(1).select("at", "id", "kind", "day"), "another order"),
    ):
        with pytest.raises(SchemaMismatch, match=told):
            things.append(TABLE, wrong)
    assert ids(things) == []


def test_a_stored_table_of_other_columns_is_refused(things: Lake) -> None:
    other = replace(TABLE, columns=(*TABLE.columns, Column("new", pl.Int64(), "New.")))
    with pytest.raises(SchemaMismatch, match="without new"):
        things.create(other)


def test_a_missing_required_value_is_refused_by_delta(things: Lake) -> None:
    broken = rows(1).with_columns(at=pl.lit(None, TIMESTAMP))
    with pytest.raises(DeltaError, match="1 rows failed validation"):
        things.append(TABLE, broken)


def test_a_window_is_replaced_and_nothing_else(things: Lake) -> None:
    things.append(TABLE, rows(*range(30)))
    window = Window(START + 22 * HOUR, START + 26 * HOUR)  # over a midnight
    things.replace(TABLE, things.open(TABLE), rows(23), window)
    assert ids(things) == [*range(22), 23, *range(26, 30)]
    assert sorted(things.scan(TABLE, window).collect()["id"]) == [23]


def test_a_row_appended_after_the_read_is_a_conflict_not_a_loss(things: Lake) -> None:
    things.append(TABLE, rows(1))
    handle = things.open(TABLE)
    things.append(TABLE, rows(2))
    with pytest.raises(CommitFailedError):
        things.replace(TABLE, handle, rows(1), Window(START, START + 5 * HOUR))
    assert ids(things) == [1, 2]


def test_conflicts_end_in_an_error_that_says_what(things: Lake) -> None:
    def always() -> None:
        raise CommitFailedError("a rival")

    with pytest.raises(ConflictNotResolved, match="rebuild of things: conflicting commits at each of 2 attempts"):
        retrying("rebuild of things", always, attempts=2)


def test_only_files_whose_times_are_near_are_opened(things: Lake) -> None:
    for n in (0, 5, 30):
        things.append(TABLE, rows(n, n + 1))
    handle = things.open(TABLE)

    def near(*instants: datetime) -> int:
        return len(files_near(things, TABLE, handle, "at", pl.Series(instants, dtype=TIMESTAMP)))

    assert near(START + 3 * HOUR) == 0
    assert near(START) == 1
    assert near(START + timedelta(minutes=30)) == 1  # between the two of a file: it may be there
    assert near(START + HOUR, START + 5 * HOUR) == 2
    assert near(START + 31 * HOUR + timedelta(microseconds=999)) == 1  # statistics are cut to the millisecond
    assert near() == 0


def test_changes_tell_what_each_commit_did_and_leave_out_compaction(things: Lake) -> None:
    for n in range(3):
        things.append(TABLE, rows(n))
    things.open(TABLE).optimize.compact()
    things.replace(TABLE, things.open(TABLE), rows(1, kind="b"), Window(START + HOUR, START + 2 * HOUR))
    seen = [
        (c.version, sorted(c.added["id"]), sorted(c.removed["id"]))
        for c in changes(things, TABLE, 1, things.open(TABLE).version(), ["id"])
    ]
    assert seen == [(2, [1], []), (3, [2], []), (5, [0, 1, 2], [0, 1, 2])]


def test_the_contract_and_the_dictionary_come_from_the_declaration() -> None:
    contract(TABLE).validate(rows(1, 2))
    text = data_dictionary([TABLE])
    assert "## silver/things" in text
    assert "One of `a`, `b`." in text
    with pytest.raises(ValueError, match=r"key names \['nothing'\]"):
        replace(TABLE, key=("nothing",))


def test_days_are_replaced_by_day(tmp_path: Path) -> None:
    by_day = replace(TABLE, window_on="day", name="gold/things")
    lake = Lake(str(tmp_path / "lake"))
    lake.create(by_day)
    lake.append(by_day, rows(1, 30, 60))
    lake.replace_days(by_day, lake.open(by_day), rows(31), date(2026, 1, 2), date(2026, 1, 2))
    assert sorted(lake.scan(by_day).collect()["id"]) == [1, 31, 60]


def test_a_folder_that_polars_could_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a space"):
        Lake(str(tmp_path / "my lake"))
