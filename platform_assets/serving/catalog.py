"""The lake's tables as SQL, read by DuckDB: each as a view over the files of its newest version.

Whoever asks sees whole commits: the versions of the tables that a query names are looked up, which costs a fraction of
a millisecond where nothing changed, and their files are read as they are. Writers are never waited for, and files stay
for `Settings.file_retention` after a newer version left them.

A year of a small table is hundreds of small files, and to open them is most of what a query costs. Who asks again and
again has such tables held in memory, file by file: files never change, so that a newer version costs its new files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Self

import duckdb
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from duckdb.sqltypes import DuckDBPyType

from platform_assets.table import Table
from resources.lake import Lake

_GAP = r"(?:\s|--[^\n]*\n|/\*(?:(?!\*/).)*\*/)*"
_NAMES = re.compile(rf'(?<!\w)(?="?(\w+)"?{_GAP}\.{_GAP}"?(\w+)"?)', re.DOTALL)  # in `memory.gold.x`: both pairs
_NO_TABLE = re.compile(r'Table with name "?([^"]+?)"? does not exist')
_FEATURES_MISREAD = frozenset({"deletionVectors", "columnMapping"})
_NEAREST = 3
_NO_TYPE_OF_POLARS = frozenset({"interval", "union"})
_HELD = "held"
_FILE = "file_of_row"


class NotReadable(RuntimeError):
    """A table cannot be read by its files alone; the message says why and what to do."""


class UnknownTable(LookupError):
    """A query names a table that there is none of; the message has the nearest names."""


UNREADABLE = (NotReadable, DeltaError, duckdb.Error, OSError)
"""What is raised where a table is not there, is damaged, or is not its files."""


@dataclass(frozen=True)
class View:
    """A view over tables, that nothing in the lake stands for.

    Attributes:
        name: In SQL, ``layer.name``.
        description: What it is for, in a sentence or two.
        columns: What its columns mean, by name.
        over: The tables that it reads.
        select: Its SELECT; names of tables as `Catalog` has them.
    """

    name: str
    description: str
    columns: Mapping[str, str]
    over: tuple[Table, ...]
    select: str


class Catalog:
    """The tables of a lake, to ask by SQL: ``gold/active_users`` is ``gold.active_users``, ``gold/funnels/checkout``
    is ``gold.funnels_checkout``. Instants are shown in UTC. Safe to share between threads.

    Args:
        lake: The lake; a local folder, or one that is mounted as such.
        tables: The tables that may be asked for.
        views: Views over them.
        held_bytes: A table whose files are no larger together is held in memory; 0 to hold none.

    Raises:
        NotReadable: The lake is in an object store, which DuckDB reads only with an extension that is a download.
    """

    def __init__(self, lake: Lake, tables: Iterable[Table], views: Iterable[View] = (), *, held_bytes: int = 0) -> None:
        self._lake = lake
        self._held_bytes = held_bytes
        self._held: dict[str, frozenset[str]] = {}
        self._shown: dict[str, tuple[int, tuple[int, int] | None]] = {}
        self._tables = {sql_name(table): table for table in tables}
        self._views = {view.name: view for view in views}
        self._handles: dict[str, DeltaTable] = {}
        self._made: set[str] = set()
        self._asked: set[duckdb.DuckDBPyConnection] = set()
        self._lock = Lock()
        refuse_object_store(lake)
        self._connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        self._connection.execute("SET TimeZone = 'UTC'")
        for schema in sorted({name.split(".")[0] for name in self._tables} | {_HELD}):
            self._connection.execute(f"CREATE SCHEMA {schema}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables, by their names in SQL."""
        return self._tables

    @property
    def views(self) -> Mapping[str, View]:
        """The views over them, by their names in SQL."""
        return self._views

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """The answer to a query, of the newest versions of the tables that it names.

        Args:
            query: One SELECT of DuckDB's SQL; names of tables as this class has them.
            parameters: Values of its ``?`` (a sequence), or of its ``$name`` (a mapping).

        Returns:
            Its rows; what Polars has no type for (intervals, unions) as texts, columns of one name numbered. No
            columns of a statement that has no answer.

        Raises:
            duckdb.Error: The query is wrong, or more than one.
            duckdb.InterruptException: `interrupt` was called meanwhile.
            UnknownTable: It names a table that there is none of.
            NotReadable: A table has a feature that its files do not show.
            FileNotFoundError: A table was never created.
        """
        if len(self.statements(query)) > 1:
            msg = "there is more than one statement; give one after the other"
            raise duckdb.InvalidInputException(msg)
        with self._lock:
            for layer, name in _NAMES.findall(query.lower()):  # what is none, or stands in a text, does no harm
                if f"{layer}.{name}" in self._tables:
                    self._refresh(f"{layer}.{name}")
                elif f"{layer}.{name}" in self._views:
                    self._make(self._views[f"{layer}.{name}"])
            cursor = self._connection.cursor()
            self._asked.add(cursor)
        try:
            with cursor:
                cursor.execute("SET TimeZone = 'UTC'")
                return _frame(cursor.sql(query, params=parameters or None))
        except duckdb.CatalogException as error:
            unknown = _NO_TABLE.search(str(error))
            if unknown is None:
                raise
            raise UnknownTable(self.no_table(unknown[1])) from error
        finally:
            self._asked.discard(cursor)

    def statements(self, text: str) -> list[str]:
        """The statements of a text, one after the other.

        Raises:
            duckdb.Error: One of them is wrong.
        """
        with self._lock:
            return [statement.query for statement in self._connection.extract_statements(text)]

    def interrupt(self) -> None:
        """End the queries that are under way; from another thread than theirs."""
        for cursor in list(self._asked):
            cursor.interrupt()

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

    def no_table(self, wanted: str) -> str:
        """What to say to who asks for a table that there is none of: the names nearest to it."""
        by_bare = {name.partition(".")[2]: name for name in (*self._tables, *self._views)}
        near = get_close_matches(wanted.lower(), by_bare.values(), n=_NEAREST)
        near += [by_bare[bare] for bare in get_close_matches(wanted.lower().rpartition(".")[2], by_bare, n=_NEAREST)]
        nearest = f"the nearest: {', '.join(dict.fromkeys(near))}; " if near else ""
        return f"there is no table {wanted}; {nearest}all of them: headwater sql '.tables'"

    def _refresh(self, name: str) -> None:
        version, commit = self._shown.get(name, (-1, None))
        if commit is None or commit != self._commit(name, version):
            # Not seen yet, or no more what it was: the lake was made anew, or its log does not reach back so far.
            handle, version = self._lake.open(self._tables[name]), -1
            self._handles[name] = handle
        else:
            handle = self._handles[name]
            handle.update_incremental()
        if handle.version() == version:
            return
        files = pl.DataFrame(handle.get_add_actions(flatten=True))
        if files.is_empty() or files["size_bytes"].sum() > self._held_bytes:
            self._connection.execute(view_of(self._lake, self._tables[name], handle, name, self._connection))
            if self._held.pop(name, None) is not None:
                self._connection.execute(f"DROP TABLE {_held(name)}")
        else:
            refuse_misread(self._tables[name], handle)
            self._hold(name, frozenset(files["path"]))
        self._shown[name] = handle.version(), self._commit(name, handle.version())

    def _commit(self, name: str, version: int) -> tuple[int, int] | None:
        """What tells a commit from another of its number: when its file was written, and its size; None without it."""
        try:
            told = (Path(self._lake.uri(self._tables[name])) / "_delta_log" / f"{version:020}.json").stat()
        except FileNotFoundError:
            return None
        return told.st_mtime_ns, told.st_size

    def _hold(self, name: str, files: frozenset[str]) -> None:
        """Bring the files of a version into memory that are not there, and take out those that it has no more."""
        table, known = self._tables[name], self._held.get(name)
        new = files if known is None else files - known
        columns = ", ".join(map(_quoted, table.schema.names()))
        read = (
            rows_of(self._lake, table, sorted(new), types_of(table, self._connection), name_as=_FILE) if new else None
        )
        if known is None:
            self._connection.execute(f"CREATE TABLE {_held(name)} AS {read}")
            self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} FROM {_held(name)}")
        else:
            with self._connection.cursor() as one:  # who asks meanwhile sees the version before
                one.execute("BEGIN")
                if gone := [_file(self._lake, table, path) for path in known - files]:
                    one.execute(f"DELETE FROM {_held(name)} WHERE list_contains($gone, {_FILE})", {"gone": gone})
                if read is not None:
                    one.execute(f"INSERT INTO {_held(name)} {read}")
                one.execute("COMMIT")
                one.execute("CHECKPOINT")  # rows that are deleted stay in memory until then
        self._held[name] = files

    def _make(self, view: View) -> None:
        for table in view.over:
            self._refresh(sql_name(table))
        if view.name not in self._made:
            self._connection.execute(f"CREATE VIEW {view.name} AS {view.select}")
            self._made.add(view.name)


def refuse_object_store(lake: Lake) -> None:
    """Go on where a lake is a folder.

    Raises:
        NotReadable: It is in an object store.
    """
    if "://" in lake.url:
        msg = f"the lake {lake.url} is in an object store: mount it as a folder, and set HEADWATER_LAKE_URL to that"
        raise NotReadable(msg)


def sql_name(table: Table) -> str:
    """The name of a table in SQL: its layer is the schema."""
    layer, _, name = table.name.partition("/")
    return f"{layer}.{name.replace('/', '_')}"


def view_of(lake: Lake, table: Table, handle: DeltaTable, name: str, connection: duckdb.DuckDBPyConnection) -> str:
    """The SQL that makes a view of a version of a table, by the list of its files.

    Args:
        lake: A lake in a local folder.
        table: The table.
        handle: The version.
        name: The view's name.
        connection: What will run it; asked for the types only.

    Raises:
        NotReadable: The version has deletion vectors or column mapping: its files are not its rows.
    """
    refuse_misread(table, handle)
    types = types_of(table, connection)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        columns = ", ".join(f"NULL::{dtype} AS {_quoted(column)}" for column, dtype in types.items())
        return f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} WHERE false"
    return f"CREATE OR REPLACE VIEW {name} AS {rows_of(lake, table, files['path'].sort(), types)}"


def rows_of(lake: Lake, table: Table, paths: Iterable[str], types: Mapping[str, str], name_as: str = "") -> str:
    """The SELECT of the rows of some files of a table.

    Args:
        lake: A lake in a local folder.
        table: The table.
        paths: The files, as the table's log names them.
        types: The types of its columns in SQL.
        name_as: Of a column more, with the name of the row's file.
    """
    listed = ", ".join(_literal(_file(lake, table, path)) for path in paths)
    of_paths = ", ".join(f"{_literal(column)}: {types[column]}" for column in table.partition_by)
    columns = [*map(_quoted, types), *(["filename AS " + name_as] if name_as else [])]
    return (
        f"SELECT {', '.join(columns)} FROM read_parquet([{listed}], filename = {str(bool(name_as)).lower()}, "
        f"hive_partitioning = true, hive_types = {{{of_paths}}})"
    )


def types_of(table: Table, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The types of a table's columns in SQL, as DuckDB reads them itself."""
    relation = connection.from_arrow(table.empty().to_arrow())
    return {column: str(dtype) for column, dtype in zip(relation.columns, relation.types, strict=True)}


def refuse_misread(table: Table, handle: DeltaTable) -> None:
    """Go on where the files of a version are its rows.

    Raises:
        NotReadable: It has deletion vectors or column mapping.
    """
    features = _FEATURES_MISREAD & set(handle.protocol().reader_features or ())
    if features:
        msg = f"table {table.name} uses {', '.join(sorted(features))}: switch it off, and rewrite the table"
        raise NotReadable(msg)


def comments_on(name: str, description: str, columns: Mapping[str, str], kind: str = "VIEW") -> Iterator[str]:
    """The SQL that says, where a SQL tool shows it, what a view and its columns mean.

    Args:
        name: The view's name.
        description: What it is.
        columns: What its columns mean, by name.
        kind: ``VIEW``, or ``TABLE``.
    """
    yield f"COMMENT ON {kind} {name} IS {_literal(description)}"
    for column, meaning in columns.items():
        yield f"COMMENT ON COLUMN {name}.{_quoted(column)} IS {_literal(meaning)}"


def _frame(found: duckdb.DuckDBPyRelation | None) -> pl.DataFrame:
    if found is None:
        return pl.DataFrame()
    names, are_of_polars = _numbered(found.columns), [*map(_is_of_polars, found.types)]
    if names != found.columns or not all(are_of_polars):
        columns = [f"#{place}{'' if known else '::VARCHAR'}" for place, known in enumerate(are_of_polars, 1)]
        found = found.select(
            *(duckdb.SQLExpression(column).alias(name) for column, name in zip(columns, names, strict=True))
        )
    return pl.DataFrame(found.to_arrow_table())


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number at those that stand there again: ``day``, ``day_2``."""
    numbered: list[str] = []
    for name in names:
        others = (f"{name}_{number}" for number in count(2))
        numbered.append(
            next(other for other in others if other not in {*names, *numbered}) if name in numbered else name
        )
    return numbered


def _is_of_polars(dtype: DuckDBPyType) -> bool:
    if dtype.id not in {"list", "array", "struct", "map"}:
        return dtype.id not in _NO_TYPE_OF_POLARS
    return all(_is_of_polars(part) for _, part in dtype.children if isinstance(part, DuckDBPyType))


def _file(lake: Lake, table: Table, path: str) -> str:
    return f"{Path(lake.uri(table)).absolute()}/{path}"


def _held(name: str) -> str:
    return f"{_HELD}.{_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
