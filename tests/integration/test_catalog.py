"""The lake asked by SQL: the same rows, of the newest versions, while others write."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from threading import Thread

import duckdb
import polars as pl
import pytest

from platform_assets.serving.catalog import Catalog, NotReadable, UnknownTable
from platform_assets.table import MONEY, TIMESTAMP, Column, Table
from resources.lake import Lake

FIRST = date(2026, 3, 1)

TABLE = Table(
    name="gold/sums/of_things",
    description="Things by the day.",
    grain="day × kind",
    key=("day", "kind"),
    columns=(
        Column("kind", pl.String(), "What."),
        Column("at", TIMESTAMP, "When."),
        Column("sum", MONEY, "How much.", nullable=True),
        Column("causes", pl.List(pl.String()), "Why."),
        Column("bucket", pl.Int32(), "Which."),
        Column("day", pl.Date(), "Day."),
    ),
    partition_by=("day", "bucket"),
    window_on="day",
    partitions="day",
    cluster_by=("kind",),
    update="rebuild",
    service_level=timedelta(hours=1),
    stats=("day",),
)


def rows(days: int, kind: str = "it's") -> pl.DataFrame:
    """One thing a day."""
    return pl.DataFrame(
        {
            "kind": [kind] * days,
            "at": [datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)] * days,
            "sum": [Decimal("1.000001"), None] * (days // 2) + [Decimal(2)] * (days % 2),
            "causes": [["late events", "backfill"]] * days,
            "bucket": [n % 2 for n in range(days)],
            "day": [FIRST + timedelta(days=n) for n in range(days)],
        },
        schema=TABLE.schema,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """With the table, which is empty."""
    made = Lake(str(tmp_path / "lake"))
    made.create(TABLE)
    return made


@pytest.fixture(params=[0, 2**20], ids=["by files", "held in memory"])
def held(request: pytest.FixtureRequest) -> int:
    """How large a table is held in memory."""
    assert isinstance(request.param, int)
    return request.param


def test_the_rows_are_the_tables_with_its_types(lake: Lake, held: int) -> None:
    with Catalog(lake, [TABLE], held_bytes=held) as catalog:
        assert catalog.sql("FROM gold.sums_of_things").schema == TABLE.schema
        lake.append(TABLE, rows(5))
        found = catalog.sql("SELECT * FROM gold.sums_of_things ORDER BY day")
        assert found.schema == TABLE.schema
        assert found.equals(rows(5))
        assert catalog.version("gold.sums_of_things") == lake.open(TABLE).version()


def test_values_are_given_beside_the_query(lake: Lake) -> None:
    lake.append(TABLE, rows(5))
    with Catalog(lake, [TABLE]) as catalog:
        told = catalog.sql("SELECT count(*) AS n FROM gold.sums_of_things WHERE day >= ? AND kind = ?", [FIRST, "it's"])
        assert told.item() == 5
        named = "SELECT count(*) AS n FROM gold.sums_of_things WHERE day > $day"
        assert catalog.sql(named, {"day": FIRST}).item() == 4
        with pytest.raises(duckdb.Error):
            catalog.sql("SELECT nothing FROM gold.sums_of_things")


def test_readers_see_whole_commits_while_days_are_replaced(lake: Lake, held: int) -> None:
    """Each commit replaces all ten days by one kind: who sees two kinds, or fewer days, saw half of one."""
    lake.append(TABLE, rows(10, "0"))

    def write() -> None:
        for number in range(1, 12):
            handle = lake.open(TABLE)
            lake.replace_days(TABLE, handle, rows(10, str(number)), FIRST, FIRST + timedelta(days=9))

    seen: list[tuple[int, int, str]] = []
    with Catalog(lake, [TABLE], held_bytes=held) as catalog:
        writer = Thread(target=write)
        writer.start()
        while writer.is_alive() or not seen or seen[-1][2] != "11":
            query = "SELECT count(*) AS n, count(DISTINCT kind) AS kinds, max(kind) AS kind FROM gold.sums_of_things"
            seen.append(catalog.sql(query).row(0))
        writer.join()
    assert {told[:2] for told in seen} == {(10, 1)}
    assert [int(told[2]) for told in seen] == sorted(int(told[2]) for told in seen)


def test_what_is_held_goes_on_as_the_table_does(lake: Lake) -> None:
    """What a later version has no more is gone from memory; and a table that grows too large is read by its files."""
    lake.append(TABLE, rows(4))
    room = int(pl.DataFrame(lake.open(TABLE).get_add_actions(flatten=True))["size_bytes"].sum()) * 3 // 2
    with Catalog(lake, [TABLE], held_bytes=room) as catalog:
        everything = "SELECT * FROM gold.sums_of_things ORDER BY day, kind"
        assert catalog.sql(everything).equals(rows(4))
        other = rows(2, "other")
        lake.replace_days(TABLE, lake.open(TABLE), other, FIRST, FIRST + timedelta(days=1))
        assert catalog.sql(everything).equals(pl.concat([other, rows(4)[2:]]))
        assert catalog.sql('SELECT count(DISTINCT file_of_row) FROM held."gold.sums_of_things"').item() == 4
        lake.append(TABLE, rows(4))
        assert catalog.sql(everything).height == 8
        with pytest.raises(UnknownTable):
            catalog.sql('FROM held."gold.sums_of_things"')


def memory_of(catalog: Catalog) -> int:
    found = catalog.sql("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()").item()
    assert isinstance(found, int)
    return found


def test_what_is_held_is_no_more_than_the_table_however_often_it_changes(lake: Lake) -> None:
    lake.append(TABLE, rows(1, "0" * 2**20))
    with Catalog(lake, [TABLE], held_bytes=2**24) as catalog:
        for number in range(1, 7):
            assert catalog.sql("SELECT length(kind) FROM gold.sums_of_things").item() == 2**20
            lake.replace_days(TABLE, lake.open(TABLE), rows(1, str(number) * 2**20), FIRST, FIRST)
        assert catalog.sql("SELECT left(kind, 1) FROM gold.sums_of_things").item() == "6"
        assert memory_of(catalog) < 3 * 2**20


def test_a_lake_that_is_made_anew_is_read_anew(lake: Lake, held: int, tmp_path: Path) -> None:
    """Fewer versions than before, then as many, then more: no row of the lake that was deleted comes back."""
    for _ in range(3):
        lake.append(TABLE, rows(2, "old"))
    with Catalog(lake, [TABLE], held_bytes=held) as catalog:
        query = "SELECT kind, count(*) AS n FROM gold.sums_of_things GROUP BY kind"
        assert catalog.sql(query).rows() == [("old", 6)]
        rmtree(tmp_path / "lake")
        with pytest.raises(FileNotFoundError, match="gold/sums/of_things does not exist"):
            catalog.sql(query)
        lake.create(TABLE)
        for made in range(1, 6):
            lake.append(TABLE, rows(1, "new"))
            assert catalog.sql(query).rows() == [("new", made)]
            assert catalog.version("gold.sums_of_things") == made


@pytest.mark.parametrize(
    "query",
    [
        "FROM gold.sums_of_things",
        "FROM memory.gold.sums_of_things",
        'FROM "memory" . GOLD . "Sums_Of_Things"',
        "FROM gold /* its layer */ . -- and\n sums_of_things",
        "SELECT '--', * FROM gold.sums_of_things",
        "WITH sums_of_things AS (FROM gold.sums_of_things) FROM sums_of_things",
        "SUMMARIZE gold.sums_of_things",
        "PIVOT gold.sums_of_things ON kind USING count(*) GROUP BY day",
    ],
)
def test_a_table_is_found_however_it_is_named(lake: Lake, query: str) -> None:
    with Catalog(lake, [TABLE]) as catalog:
        before = catalog.sql(query)
        lake.append(TABLE, rows(2))
        assert not catalog.sql(query).equals(before)


def test_one_statement_is_asked_at_a_time(lake: Lake) -> None:
    with Catalog(lake, [TABLE]) as catalog:
        with pytest.raises(duckdb.Error, match="more than one statement"):
            catalog.sql("USE gold; FROM sums_of_things")
        assert catalog.statements("SELECT ';'; FROM gold.nothing -- ;") == ["SELECT ';'; ", "FROM gold.nothing -- ;"]


def test_a_lake_in_an_object_store_is_refused() -> None:
    with pytest.raises(NotReadable, match="mount it as a folder"):
        Catalog(Lake("s3://bucket/lake"), [TABLE])
