"""The warehouse: one file for any SQL tool, made anew beside those who read it."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from rich.console import Console

from local_stack.serving import refresh_warehouse
from platform_assets.gold import fact_events
from platform_assets.maintenance import vacuum
from platform_assets.platform import Platform
from platform_assets.semantics import identity
from platform_assets.serving import warehouse
from platform_assets.serving.catalog import Catalog
from platform_assets.serving.views import VIEWS
from platform_assets.serving.warehouse import KEY, behind, refresh, versions, warehouse_asset
from platform_assets.silver import devices, persons, products, users
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake
from resources.settings import Settings
from resources.warehouse import NoWarehouse, Warehouse
from sensors.warehouse import warehouse_sensor
from support.facts import ALL
from support.records import at

NOW = datetime(2026, 3, 20, tzinfo=UTC)
FIRST = date(2026, 3, 1)
FORMAT_OF_1_0 = 64

TABLE = Table(
    name="gold/things",
    description="Things; nobody's.",
    grain="day × kind",
    key=("day", "kind"),
    columns=(Column("kind", pl.String(), "What it's.", personal=True), Column("day", pl.Date(), "Day.")),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("kind",),
    update="rebuild",
    service_level=timedelta(hours=1),
    stats=("day",),
)
COUNTS = replace(TABLE, name="gold/counts", columns=(Column("kind", pl.String(), "What."), TABLE.columns[1]))
JOINED = (
    fact_events.TABLE,
    persons.TABLE,
    *(dimension.table for dimension in (users.DIMENSION, products.DIMENSION, devices.DIMENSION)),
)
READER = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for query in sys.stdin:
        print(connection.execute(query).fetchall(), flush=True)
"""
COUNT = "SELECT count(*) FROM gold.things"


def rows(days: int, kind: str = "hat") -> pl.DataFrame:
    return pl.DataFrame({"kind": [kind] * days, "day": [FIRST + timedelta(days=n) for n in range(days)]})


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """With one table, of five rows."""
    settings = Settings(lake_url=str(tmp_path / "lake"))
    made = Platform(Lake(settings.lake_url), settings, clock=lambda: NOW)
    made.lake.create(TABLE)
    made.lake.append(TABLE, rows(5))
    return made


def made_by(platform: Platform) -> Warehouse:
    return Warehouse.from_settings(platform.settings)


def ask(found: Warehouse, query: str) -> list[tuple[object, ...]]:
    with found.read() as connection:
        return connection.execute(query).fetchall()


@contextmanager
def another_tool(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the file open: a query a line, an answer a line."""
    command = [sys.executable, "-c", READER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def told(process: subprocess.Popen[str], query: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(query + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_the_file_has_the_table_with_what_is_declared_of_it(platform: Platform) -> None:
    assert refresh(platform, [TABLE, COUNTS]) == {"gold/things": 1}  # the other one was never created
    found = made_by(platform)
    assert found.path == Path(platform.lake.url).parent / "warehouse.duckdb"
    assert ask(found, "SELECT kind, day FROM gold.things ORDER BY day") == rows(5).rows()
    assert ask(found, "SELECT comment FROM duckdb_views() WHERE view_name = 'things'") == [("Things; nobody's.",)]
    of_columns = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'things' ORDER BY 1"
    assert ask(found, of_columns) == [("day", "Day."), ("kind", "What it's.")]
    contents = "SELECT name, table_name, delta_version, epoch(refreshed_at) FROM headwater.contents"
    assert ask(found, contents) == [("gold.things", "gold/things", 1, NOW.timestamp())]
    assert struct.unpack("<Q", found.path.read_bytes()[12:20]) == (FORMAT_OF_1_0,)


def test_a_reader_is_not_disturbed_by_a_refresh_and_the_next_one_sees_the_new_state(platform: Platform) -> None:
    refresh(platform, [TABLE])
    file = made_by(platform).path
    with another_tool(file) as early:
        assert told(early, COUNT) == "[(5,)]"
        platform.lake.append(TABLE, rows(7, "coat"))
        refresh(platform, [TABLE])
        assert told(early, COUNT) == "[(5,)]"
        with another_tool(file) as late:
            assert told(late, COUNT) == "[(12,)]"
        assert told(early, COUNT) == "[(5,)]"
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_what_was_erased_is_gone_with_the_refresh(platform: Platform) -> None:
    lake = platform.lake
    lake.append(TABLE, rows(3, "nora@example.com"))
    refresh(platform, [TABLE])
    lake.open(TABLE).delete("kind = 'nora@example.com'")
    refresh(platform, [TABLE])
    assert ask(made_by(platform), "SELECT DISTINCT kind FROM gold.things") == [("hat",)]
    assert b"nora" not in made_by(platform).path.read_bytes()


def test_a_view_stays_right_while_days_are_replaced_and_files_vacuumed(platform: Platform) -> None:
    refresh(platform, [TABLE])
    lake, last = platform.lake, FIRST + timedelta(days=4)
    lake.replace_days(TABLE, lake.open(TABLE), rows(5, "coat"), FIRST, last)
    lake.open(TABLE).optimize.compact()
    vacuum(lake, TABLE, platform.settings.file_retention)
    assert ask(made_by(platform), "SELECT DISTINCT kind FROM gold.things") == [("hat",)]


def test_a_refresh_that_fails_leaves_what_is_there(platform: Platform) -> None:
    refresh(platform, [TABLE])
    found = made_by(platform)
    with pytest.raises(duckdb.ParserException), found.anew() as connection:
        connection.execute("CREATE TABLE half AS SELECT 1; CREATE nonsense")
    assert ask(found, COUNT) == [(5,)]
    assert sorted(path.name for path in found.path.parent.iterdir()) == ["lake", "warehouse.duckdb"]


def test_the_facts_are_joined_as_python_joins_them(tmp_path: Path) -> None:
    """One device: nobody's, then Anna's by her login, then Bob's; users, a product and the device are known."""
    settings = Settings(lake_url=str(tmp_path / "lake"))
    platform = Platform(Lake(settings.lake_url), settings, clock=lambda: NOW)
    lake = platform.lake
    evidence = [("a:a0", "u:anna", "login", at(100)), ("a:a0", "u:bob", "login", at(200))]
    evidence += [("u:anna", "u:alba", "alias", at(0))]
    whose = identity.persons(pl.LazyFrame(evidence, schema=identity.LINKS, orient="row"))
    for table in JOINED:
        lake.create(table)
    lake.append(persons.TABLE, persons.transform(whose))
    told_of = {
        fact_events.TABLE: [
            row(
                fact_events.TABLE,
                raw_id=raw,
                user_id=user,
                anonymous_id=device,
                product_id="p1",
                occurred_at=at(minute),
            )
            for minute in range(0, 300, 20)
            for raw, user, device in (("a:a0", None, "a0"), ("a:a1", None, "a1"), ("u:anna", "anna", "a0"))
        ],
        users.DIMENSION.table: [
            row(users.DIMENSION.table, user_id="anna", plan="free", is_current=False),
            row(users.DIMENSION.table, user_id="anna", plan="plus"),
        ],
        products.DIMENSION.table: [row(products.DIMENSION.table, product_id="p1", price=Decimal("9.5"))],
        devices.DIMENSION.table: [row(devices.DIMENSION.table, anonymous_id="a0", os="17", is_deleted=False)],
    }
    for table, known in told_of.items():
        lake.append(table, pl.DataFrame(known, schema=table.schema))
    wanted = fact_events.joined_facts(platform, ALL).collect()
    assert set(wanted.filter(raw_id="a:a0")["person_id"]) == {"u:alba", "u:bob"}
    assert wanted.filter(user_id="anna").select("current_user_plan", "device_os").unique().rows() == [("plus", "17")]

    refresh(platform, JOINED)
    with made_by(platform).read() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = pl.DataFrame(connection.sql("FROM gold.joined_facts").to_arrow_table())
    order = ["raw_id", "occurred_at"]
    assert found.select(wanted.columns).sort(order).equals(wanted.sort(order))
    with Catalog(lake, JOINED, VIEWS) as catalog:
        assert catalog.sql("FROM gold.joined_facts").sort(order).equals(found.sort(order))
    assert set(VIEWS[0].columns) == set(found.columns)


def test_the_sensor_asks_where_a_table_is_newer_and_not_too_often(platform: Platform) -> None:
    sensor, cursor, instance = warehouse_sensor([TABLE]), None, dg.DagsterInstance.ephemeral()

    def asks(now: datetime, **changes: object) -> bool:
        nonlocal cursor
        settings = platform.settings.model_copy(update=changes)
        there = replace(platform, settings=settings, clock=lambda: now)
        context = dg.build_sensor_context(instance, cursor=cursor, resources={"platform": there})
        asked = isinstance(sensor(context), dg.RunRequest)
        cursor = context.cursor
        return asked

    assert asks(NOW)
    assert not asks(NOW + timedelta(hours=1), warehouse_every=timedelta(0))
    refresh(platform, [TABLE])
    assert behind(platform, [TABLE]) == []
    assert not asks(NOW + timedelta(hours=1))
    platform.lake.append(TABLE, rows(1, "coat"))
    assert not asks(NOW + timedelta(minutes=4))
    assert asks(NOW + timedelta(minutes=5))
    assert not asks(NOW + timedelta(hours=1), lake_url="s3://bucket/lake")


def test_materializing_the_asset_refreshes_it(platform: Platform) -> None:
    done = dg.materialize([warehouse_asset([TABLE])], resources={"platform": platform})
    metadata = done.asset_materializations_for_node("__".join(KEY.path))[0].metadata
    assert metadata["tables"].value == 1
    assert versions(made_by(platform)) == {"gold/things": 1}


def test_a_copy_has_the_rows_of_what_is_nobodys(platform: Platform, tmp_path: Path) -> None:
    platform.lake.create(COUNTS)
    platform.lake.append(COUNTS, rows(4))
    copied = tmp_path / "taken" / "along.duckdb"
    assert warehouse.copy(platform, [TABLE, COUNTS], copied) == ["gold.counts"]
    Path(platform.lake.url).rename(tmp_path / "gone")
    assert ask(Warehouse(copied), "SELECT kind, day FROM gold.counts ORDER BY day") == rows(4).rows()
    assert ask(Warehouse(copied), "SELECT name FROM headwater.contents") == [("gold.counts",)]


def test_a_damaged_file_counts_as_never_made(platform: Platform) -> None:
    refresh(platform, [TABLE])
    file, whole = made_by(platform).path, made_by(platform).path.read_bytes()
    for damaged in (b"", whole[:4096], whole[:8192] + bytes(len(whole) - 8192)):
        file.unlink()
        file.write_bytes(damaged)
        assert versions(made_by(platform)) == {}
        assert behind(platform, [TABLE]) == ["gold/things"]
        refresh(platform, [TABLE])
        assert ask(made_by(platform), COUNT) == [(5,)]


def somebodys_numbers(place: Path) -> None:
    with duckdb.connect(place) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS n")


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (somebodys_numbers, "is a DuckDB file that Headwater did not make; move it away, or name another file"),
        (lambda place: place.write_text("my notes on the warehouse"), "is no DuckDB file; move it away"),
        (Path.mkdir, "cannot be read: Is a directory"),
    ],
)
def test_what_is_somebody_elses_is_left_alone(
    platform: Platform, put: Callable[[Path], object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = made_by(platform).path
    put(place)
    before = place.is_dir() or place.read_bytes()
    for copied in (None, place):
        settings = platform.settings.model_copy(update={"warehouse_path": place})
        assert refresh_warehouse(settings, Console(soft_wrap=True), copied) == 1
        assert f"{place} {told}" in capsys.readouterr().out
    context = dg.build_sensor_context(dg.DagsterInstance.ephemeral(), resources={"platform": platform})
    skipped = warehouse_sensor([TABLE])(context)
    assert isinstance(skipped, dg.SkipReason)
    assert told in str(skipped.skip_message)
    assert (place.is_dir() or place.read_bytes()) == before


def test_a_place_that_cannot_be_written_is_named(platform: Platform) -> None:
    with pytest.raises(NoWarehouse, match=r"along\.duckdb cannot be written: .*; name a file in a folder that can be"):
        warehouse.copy(platform, [TABLE], Path("/proc/no_folder_for_root_either/along.duckdb"))


def test_without_a_place_it_says_what_to_set() -> None:
    with pytest.raises(NoWarehouse, match="HEADWATER_WAREHOUSE_PATH"):
        Warehouse.from_settings(Settings(lake_url="s3://bucket/lake"))


def row(table: Table, **known: object) -> dict[str, object]:
    """A row of a table: what is said, and of what may not be null something."""
    some: dict[object, object] = {pl.String(): "", TIMESTAMP: at(0), pl.Date(): at(0).date(), pl.Boolean(): True}
    return {c.name: known.get(c.name, None if c.nullable else some.get(c.dtype, 0)) for c in table.columns}
