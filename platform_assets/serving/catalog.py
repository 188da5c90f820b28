"""The lake's tables as SQL, read by DuckDB: each as a view over the files of its newest version.

Whoever asks sees whole commits: the versions of the tables that a query names are looked up, which costs a fraction of
a millisecond where nothing changed, and their files are read as they are. Writers are never waited for, and files stay
for `Settings.file_retention` after a newer version left them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Self

import duckdb
import polars as pl
from deltalake import DeltaTable

from platform_assets.table import Table
from resources.lake import Lake, local_path

_NAMES = re.compile(r'"?(\w+)"?\s*\.\s*"?(\w+)"?')
_FEATURES_MISREAD = frozenset({"deletionVectors", "columnMapping"})


class NotReadable(RuntimeError):
    """A table cannot be read by its files alone; the message says why and what to do."""


class Catalog:
    """The tables of a lake, to ask by SQL: ``gold/active_users`` is ``gold.active_users``, ``gold/funnels/checkout``
    is ``gold.funnels_checkout``. Instants are shown in UTC. Safe to share between threads.

    Args:
        lake: The lake; a local folder, or one that is mounted as such.
        tables: The tables that may be asked for.

    Raises:
        NotReadable: The lake is in an object store, which DuckDB reads only with an extension that is a download.
    """

    def __init__(self, lake: Lake, tables: Iterable[Table]) -> None:
        self._lake = lake
        self._tables = {sql_name(table): table for table in tables}
        self._handles: dict[str, DeltaTable] = {}
        self._lock = Lock()
        if any(local_path(lake, table) is None for table in self._tables.values()):
            msg = f"the lake {lake.url} is in an object store: mount it as a folder, and set HEADWATER_LAKE_URL to that"
            raise NotReadable(msg)
        self._connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        self._connection.execute("SET TimeZone = 'UTC'")
        for schema in sorted({name.split(".")[0] for name in self._tables}):
            self._connection.execute(f"CREATE SCHEMA {schema}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables, by their names in SQL."""
        return self._tables

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """The answer to a query, of the newest versions of the tables that it names.

        Args:
            query: One SELECT of DuckDB's SQL; names of tables as this class has them.
            parameters: Values of its ``?`` (a sequence), or of its ``$name`` (a mapping).

        Raises:
            duckdb.Error: The query is wrong.
            NotReadable: A table has a feature that its files do not show.
            FileNotFoundError: A table was never created.
        """
        with self._lock:
            for layer, name in _NAMES.findall(query.lower()):  # what is none, or stands in a text, does no harm
                if f"{layer}.{name}" in self._tables:
                    self._refresh(f"{layer}.{name}")
            cursor = self._connection.cursor()
        with cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            return pl.DataFrame(cursor.sql(query, params=parameters or None).to_arrow_table())

    def version(self, name: str) -> int:
        """The newest version of a table."""
        return self.handle(name).version()

    def handle(self, name: str) -> DeltaTable:
        """A table at its newest version, to ask its log; it goes on as the table does, and is not to be written by.

        Raises:
            FileNotFoundError: The table was never created.
        """
        with self._lock:
            self._refresh(name)
            return self._handles[name]

    def _refresh(self, name: str) -> None:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = self._lake.open(self._tables[name])
        else:
            before = handle.version()
            handle.update_incremental()
            if handle.version() == before:
                return
        self._connection.execute(view_of(self._lake, self._tables[name], handle, name))


def sql_name(table: Table) -> str:
    """The name of a table in SQL: its layer is the schema."""
    layer, _, name = table.name.partition("/")
    return f"{layer}.{name.replace('/', '_')}"


def view_of(lake: Lake, table: Table, handle: DeltaTable, name: str) -> str:
    """The SQL that makes a view of a version of a table, by the list of its files.

    Args:
        lake: A lake in a local folder.
        table: The table.
        handle: The version.
        name: The view's name.

    Raises:
        NotReadable: The version has deletion vectors or column mapping: its files are not its rows.
    """
    features = _FEATURES_MISREAD & set(handle.protocol().reader_features or ())
    if features:
        msg = f"table {table.name} uses {', '.join(sorted(features))}: switch it off, and rewrite the table"
        raise NotReadable(msg)
    types = _types(table)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        columns = ", ".join(f"NULL::{dtype} AS {_quoted(column)}" for column, dtype in types.items())
        return f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} WHERE false"
    root = Path(lake.uri(table)).absolute()
    listed = ", ".join(_literal(f"{root}/{path}") for path in files["path"].sort())
    of_paths = ", ".join(f"{_literal(column)}: {types[column]}" for column in table.partition_by)
    columns = ", ".join(_quoted(column) for column in types)
    return (
        f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} "
        f"FROM read_parquet([{listed}], hive_partitioning = true, hive_types = {{{of_paths}}})"
    )


def _types(table: Table) -> dict[str, str]:
    """DuckDB's types of a table's columns, as it reads them itself."""
    with duckdb.connect() as connection:
        relation = connection.from_arrow(table.empty().to_arrow())
        return {column: str(dtype) for column, dtype in zip(relation.columns, relation.types, strict=True)}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
