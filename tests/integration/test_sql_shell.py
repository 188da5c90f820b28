"""`headwater sql`: statements over several lines, words with a dot, and what is said to who errs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from rich.console import Console

from local_stack.sql_shell import respond, shell
from local_stack.stack import ROOT
from platform_assets.serving.catalog import Catalog, UnknownTable, View
from platform_assets.serving.views import VIEWS
from platform_assets.table import Column, Table
from platform_assets.tables import create_tables, tables
from resources.lake import Lake

TABLE = Table(
    name="gold/funnels/checkout",
    description="From cart to order. By day.",
    grain="day",
    key=("day",),
    columns=(Column("persons", pl.Int64(), "Who did it.", unit="persons"), Column("day", pl.Date(), "Day.")),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("day",),
    update="rebuild",
    service_level=timedelta(hours=1),
    stats=("day",),
)
VIEW = View(
    "gold.twice", "Two of each.", {"n": "Number."}, (TABLE,), "SELECT 2 * persons AS n FROM gold.funnels_checkout"
)
ENDLESS = "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range * b.range % 7 = 3"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    lake = Lake(str(tmp_path / "lake"))
    lake.create(TABLE)
    lake.append(TABLE, pl.DataFrame({"persons": [7], "day": [date(2026, 3, 1)]}))
    with Catalog(lake, [TABLE], [VIEW]) as made:
        yield made


def talk(catalog: Catalog, *typed: str | type[BaseException], width: int = 100) -> str:
    """What a shell prints while lines, or keys, are typed; then the input ends."""
    keys = iter(typed)
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, force_terminal=True, color_system=None)

    def read(_prompt: str) -> str:
        key = next(keys, EOFError)
        if isinstance(key, str):
            return key
        raise key

    assert shell(catalog, console, read) == 0
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_statement_goes_on_until_its_semicolon(catalog: Catalog) -> None:
    assert "│ 14" in talk(catalog, "SELECT persons * 2 AS n", "FROM gold.funnels_checkout", ";")
    assert "│ 14" not in talk(catalog, "SELECT persons * 2 AS n", "FROM gold.funnels_checkout")
    assert "│ 14" in talk(catalog, "FROM gold.twice;", ".quit", "never asked;")
    assert "│ 15" in talk(catalog, "SELECT n + 1, 'ä; -- a text;", "'", "AS said -- a comment;", "FROM gold.twice;")


def test_ctrl_c_drops_what_was_typed(catalog: Catalog) -> None:
    assert "│ 1 " in talk(catalog, "SELECT nonsense", KeyboardInterrupt, "SELECT 1 AS one;")


def test_errors_are_told_and_the_shell_goes_on(catalog: Catalog) -> None:
    told = talk(catalog, "SELEC 1;", ".nothing", "SELECT nothing FROM gold.twice;", "SELECT 1 AS one;")
    assert "syntax error" in told
    assert "there is no .nothing" in told
    assert '"nothing" not found' in told
    assert "│ 1 " in told


@pytest.mark.parametrize("wrong", ["gold.funels_checkout", "funnels_checkout", "silver.funnels_checkout"])
def test_who_names_a_wrong_table_is_told_the_nearest(catalog: Catalog, wrong: str) -> None:
    with pytest.raises(UnknownTable, match=r"the nearest: gold\.funnels_checkout.*headwater sql '\.tables'"):
        catalog.sql(f"SELECT * FROM {wrong}")


def test_the_tables_are_listed_and_described(catalog: Catalog) -> None:
    told = talk(catalog, ".tables", ".schema gold.funnels_checkout", ".schema gold.twice", ".schema gold.thrice")
    assert "gold.funnels_checkout  From cart to order\n" in told
    assert "gold.twice  Two of each\n" in told
    assert "persons Int64  Who did it. Unit: persons.\n" in told
    assert "n Int64  Number.\n" in told
    assert "there is no table gold.thrice; the nearest: gold.twice" in told


def test_what_polars_has_no_type_for_is_shown_too(catalog: Catalog) -> None:
    told = talk(catalog, "-- how long", ";", "SELECT INTERVAL 90 MINUTE AS ago, 7 AS n;")
    assert "│ 01:30:00 ┆ 7" in told


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FROM gold.funnels_checkout AS a JOIN gold.funnels_checkout AS b USING (day)", ["day", "persons_2"]),
        ("SELECT 1 AS a, 2 AS a_2, 3 AS a", ["a", "a_2", "a_3"]),
        ("SELECT INTERVAL 1 DAY AS a, INTERVAL 2 DAY AS a", ["a", "a_2", "2 days"]),
        ("SELECT [INTERVAL 1 DAY] AS x", ["[1 day]"]),
        ("SELECT {'a': INTERVAL 1 DAY} AS x", ["'a': 1 day"]),
        ("SELECT MAP {'a': [INTERVAL 1 DAY]} AS x", ["1 day"]),
        ("SELECT union_value(a := 7) AS u", ["7"]),
    ],
)
def test_an_answer_that_polars_would_not_hold_is_shown(catalog: Catalog, query: str, shown: list[str]) -> None:
    told = talk(catalog, f"{query};", "SELECT 'went on' AS it;")
    assert all(part in told for part in [*shown, "went on"])


def test_every_statement_of_a_line_is_answered_until_one_is_wrong(catalog: Catalog) -> None:
    assert re.findall(r"│ (\d+) ", talk(catalog, "SELECT 11 AS n; -- why", "SELECT 22 AS n; SELECT 33 AS n;")) == [
        "11",
        "22",
        "33",
    ]
    assert re.findall(r"│ (\d+) ", talk(catalog, "SELECT 11 AS n; FROM gold.nothing; SELECT 33 AS n;")) == ["11"]


def test_a_damaged_table_does_not_end_the_shell(catalog: Catalog, tmp_path: Path) -> None:
    for file in (tmp_path / "lake" / TABLE.name / "_delta_log").iterdir():
        file.write_text("damage")
    assert "│ 1 " in talk(catalog, "FROM gold.funnels_checkout;", ".schema gold.funnels_checkout", "SELECT 1 AS one;")


def test_a_table_is_cut_to_the_width(catalog: Catalog) -> None:
    wide = ", ".join(f"repeat('x', 50) AS column_{n}" for n in range(7))
    drawn = [line for line in talk(catalog, f"SELECT {wide};", width=60).splitlines() if line[:1] in {"│", "┌", "╞"}]
    assert drawn
    assert max(map(len, drawn)) <= 60


def test_more_columns_than_fit_are_told_row_by_row(catalog: Catalog) -> None:
    wide = ", ".join(f"{n} AS column_{n}" for n in range(8))
    lines = talk(catalog, f"SELECT {wide}, NULL AS last;", width=60).splitlines()
    at = lines.index("── 1 ──")
    assert lines[at - 1] == "1 rows of 9 columns"
    assert lines[at + 1 : at + 10] == [*(f"column_{n}  {n}" for n in range(8)), "    last  null"]


def test_a_file_has_every_column_as_wide_as_it_is(catalog: Catalog) -> None:
    into = Console(file=io.StringIO(), width=80)
    wide = ", ".join(f"repeat('{n}', 30) AS column_{n}" for n in range(10))
    assert respond(catalog, into, f"SELECT {wide};") == 0
    assert isinstance(into.file, io.StringIO)
    assert all(str(n) * 30 in into.file.getvalue() for n in range(10))


def test_a_query_is_interrupted_and_the_next_is_answered(catalog: Catalog) -> None:
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(catalog.sql, ENDLESS)
        while not answer.done():
            catalog.interrupt()
            wait([answer], 0.05)
        with pytest.raises(duckdb.InterruptException):
            answer.result()
    assert catalog.sql("SELECT 1 AS one").item() == 1


@pytest.fixture(scope="module")
def all_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    lake = Lake(str(tmp_path_factory.mktemp("all") / "lake"))
    create_tables(lake)
    with Catalog(lake, tables(), VIEWS) as made:
        yield made


DOCUMENTED = re.findall(r"```sql\n(.*?);\n```", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("query", DOCUMENTED)
def test_a_documented_query_is_answered(all_tables: Catalog, query: str) -> None:
    assert all_tables.sql(query).width > 1


def test_queries_are_documented() -> None:
    assert len(DOCUMENTED) == 8


def test_a_single_answer_has_a_status(catalog: Catalog) -> None:
    console = Console(file=io.StringIO(), width=80)
    assert respond(catalog, console, ".tables") == 0
    assert respond(catalog, console, "SELECT 1;") == 0
    assert respond(catalog, console, "FROM gold.nothing") == 1
