"""`serving/warehouse`: every table but bronze, and the views over them, in one DuckDB file for other SQL tools.

The file holds no rows of theirs but views, each by the list of the files of a table's version. A view stays right
between refreshes, because a vacuum leaves files alone for `Settings.file_retention` after a newer version left them;
and what was deleted from the lake is in no file that a view made after that names.
"""

# Dagster reads the annotation of `context` when the asset is made: no `from __future__ import annotations` here.

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import dagster as dg
import duckdb
from deltalake import DeltaTable

from platform_assets.platform import Platform
from platform_assets.serving.catalog import NotReadable, comments_on, refuse_object_store, sql_name, view_of
from platform_assets.serving.views import VIEWS
from platform_assets.table import Table, meanings
from resources.lake import Lake
from resources.warehouse import ELSEWHERE, NoWarehouse, Warehouse

KEY = dg.AssetKey(["serving", "warehouse"])
"""The key of its asset."""

POOL = "warehouse"
"""The pool whose one slot a refresh takes: of two at once, the one that read earlier could come last."""

_CONTENTS = "headwater.contents"
_CONTENTS_SAY = {
    "name": "Name in this file.",
    "table_name": "Name in the lake, and of the asset.",
    "description": "What it is for.",
    "grain": "What one row is.",
    "delta_version": "The version of the table that is read here.",
    "refreshed_at": "When this file was made, UTC.",
}
_COMMIT = re.compile(r"(\d{20})\.json")


def served(tables: Iterable[Table]) -> tuple[Table, ...]:
    """The tables of which the warehouse has views: all but bronze, whose rows are bytes."""
    return tuple(table for table in tables if table.layer != "bronze")


def refresh(platform: Platform, tables: Sequence[Table]) -> dict[str, int]:
    """Make the warehouse anew, by the newest version of each table. Readers are neither waited for nor disturbed.

    Args:
        platform: The platform.
        tables: What it has views of; those that were never created are left out.

    Returns:
        The version of each table, by its name.

    Raises:
        NoWarehouse: There is no place for it, or somebody else's file is there.
        NotReadable: The lake is in an object store, or a table's files are not its rows.
    """
    lake, warehouse = platform.lake, Warehouse.from_settings(platform.settings)
    refuse_object_store(lake)
    handles = {table.name: lake.open(table) for table in tables if newest_version(lake, table) is not None}
    there = [table for table in tables if table.name in handles]
    with _anew(warehouse) as connection:
        _fill(connection, lake, there, handles, platform.clock())
    return {name: handle.version() for name, handle in handles.items()}


def copy(platform: Platform, tables: Sequence[Table], file: Path) -> list[str]:
    """Write a file for another machine: the rows of the gold tables without personal data, as tables.

    It is a copy: what is deleted from the lake later stays in it. So nothing that tells of one person goes in.

    Returns:
        The names of its tables.

    Raises:
        NoWarehouse: The file cannot be written, or is somebody else's.
        NotReadable: The lake is in an object store, or a table's files are not its rows.
    """
    lake = platform.lake
    refuse_object_store(lake)
    impersonal = [t for t in tables if t.layer == "gold" and not any(column.personal for column in t.columns)]
    handles = {table.name: lake.open(table) for table in impersonal if newest_version(lake, table) is not None}
    there = [table for table in impersonal if table.name in handles]
    with _anew(Warehouse(file)) as connection:
        _fill(connection, lake, there, handles, platform.clock(), as_tables=True)
    return [sql_name(table) for table in there]


def versions(warehouse: Warehouse) -> dict[str, int]:
    """The versions of the tables, by name, that the warehouse has views of; of one never made, or damaged, none.

    Raises:
        NoWarehouse: Its file is somebody else's.
    """
    if not warehouse.exists():
        return {}
    try:
        with warehouse.read() as connection:
            return dict(connection.execute(f"SELECT table_name, delta_version FROM {_CONTENTS}").fetchall())
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        msg = f"{warehouse.path} is a DuckDB file that Headwater did not make; {ELSEWHERE}"
        raise NoWarehouse(msg) from error
    except duckdb.Error:  # damaged: a refresh makes it anew
        return {}


def newest_version(lake: Lake, table: Table) -> int | None:
    """The newest version of a table in a folder, by the names in its log; None where it was never created.

    Opening the table would read the log: this is for who asks often whether there is anything new.
    """
    log = Path(lake.uri(table)) / "_delta_log"
    if not log.exists():
        return None
    return max((int(name[1]) for file in log.iterdir() if (name := _COMMIT.fullmatch(file.name))), default=None)


def behind(platform: Platform, tables: Sequence[Table]) -> list[str]:
    """The tables that have another version than the warehouse has a view of; all where it was never made.

    Raises:
        NoWarehouse: There is no place for it, or somebody else's file is there.
        NotReadable: The lake is in an object store.
    """
    refuse_object_store(platform.lake)
    known = versions(Warehouse.from_settings(platform.settings))
    newest = {table.name: newest_version(platform.lake, table) for table in tables}
    return [name for name, version in newest.items() if version is not None and known.get(name) != version]


def warehouse_asset(tables: Sequence[Table]) -> dg.AssetsDefinition:
    """The asset of the warehouse.

    Args:
        tables: What it has views of.
    """

    @dg.asset(
        key=KEY,
        deps=[table.asset_key for table in tables],
        description=(
            "One DuckDB file for any SQL tool: a view of the newest version of every table but bronze, described as "
            "declared, and `gold.joined_facts`. Materializing it puts a new file in the place of the old one; who has "
            "that open goes on reading it."
        ),
        group_name="serving",
        kinds={"duckdb"},
        owners=["team:data-platform"],
        pool=POOL,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL),
    )
    def asset(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult[None]:
        try:
            made = refresh(platform, tables)
        except (NoWarehouse, NotReadable) as refusal:
            raise dg.Failure(str(refusal), allow_retries=False) from refusal
        path = Warehouse.from_settings(platform.settings).path
        return dg.MaterializeResult(
            metadata={
                "file": dg.MetadataValue.path(path),
                "bytes": dg.MetadataValue.int(path.stat().st_size),
                "tables": dg.MetadataValue.int(len(made)),
            }
        )

    return asset


def _anew(warehouse: Warehouse) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    versions(warehouse)  # what somebody else made is not written over
    return warehouse.anew()


def _fill(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    tables: Sequence[Table],
    handles: Mapping[str, DeltaTable],
    now: datetime,
    *,
    as_tables: bool = False,
) -> None:
    """Views of the tables at the versions given, with what they mean; or their rows."""
    connection.execute("SET TimeZone = 'UTC'")
    for schema in ("headwater", *dict.fromkeys(table.layer for table in tables)):
        connection.execute(f"CREATE SCHEMA {schema}")
    named = {sql_name(table): table for table in tables}
    statements: list[str] = []
    for name, table in named.items():
        connection.execute(view_of(lake, table, handles[table.name], name, connection))
        if as_tables:
            connection.execute(f"CREATE TEMP TABLE copied AS FROM {name}")
            connection.execute(f"DROP VIEW {name}")
            connection.execute(f"CREATE TABLE {name} AS FROM copied")
            connection.execute("DROP TABLE copied")
        statements += comments_on(name, table.description, meanings(table), "TABLE" if as_tables else "VIEW")
    if not as_tables:
        for view in VIEWS:
            if all(table in tables for table in view.over):
                connection.execute(f"CREATE VIEW {view.name} AS {view.select}")
                statements += comments_on(view.name, view.description, view.columns)
    connection.execute(
        f"CREATE TABLE {_CONTENTS} (name VARCHAR, table_name VARCHAR, description VARCHAR, grain VARCHAR, "
        "delta_version BIGINT, refreshed_at TIMESTAMPTZ)"
    )
    contents = [(n, t.name, t.description, t.grain, handles[t.name].version(), now) for n, t in named.items()]
    if contents:
        connection.executemany(f"INSERT INTO {_CONTENTS} VALUES (?, ?, ?, ?, ?, ?)", contents)
    statements += comments_on(_CONTENTS, "What this file has, and of which version.", _CONTENTS_SAY, "TABLE")
    connection.execute(";\n".join(["BEGIN", *statements, "COMMIT"]))
