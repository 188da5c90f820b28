"""The engine that the numbers are computed by: Polars and DuckDB in this process, or Spark Connect on other machines.

The numbers are functions of frames of any of them (`platform_assets.semantics.engines`). Here is what brings rows into
one: a version of a table of the lake, or rows that this process has. Sessions read instants as UTC, and are closed with
the block that they were opened for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast
from urllib.parse import urlsplit

import narwhals as nw
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from partitions import Window
from resources.lake import TableLike, sql_within, within
from resources.settings import Settings

if TYPE_CHECKING:
    import duckdb

Frame: TypeAlias = "nw.LazyFrame[Any]"

_CONNECT_SECONDS = 10


class EngineUnavailable(RuntimeError):
    """The engine that the settings name cannot be reached, or its package is not installed."""


class Engine(Protocol):
    """Brings rows into an engine, as lazy Narwhals frames."""

    def scan(self, table: TableLike, handle: DeltaTable, columns: Sequence[str], window: Window | None = None) -> Frame:
        """Columns of a table at the version of a handle: of all rows, or of a window, whose files alone are opened."""

    def frame(self, rows: pl.LazyFrame) -> Frame:
        """Rows that this process computes."""

    def held(self, frame: Frame) -> Frame:
        """The same rows, computed once: for what is read several times."""


class Polars:
    """Polars: nothing is brought anywhere."""

    def scan(self, table: TableLike, handle: DeltaTable, columns: Sequence[str], window: Window | None = None) -> Frame:
        """See `Engine`."""
        return _lazy(_rows(table, handle, columns, window))

    def frame(self, rows: pl.LazyFrame) -> Frame:
        """See `Engine`."""
        return _lazy(rows)

    def held(self, frame: Frame) -> Frame:
        """See `Engine`."""
        return _lazy(nw.to_native(frame).collect(engine="streaming").lazy())


POLARS = Polars()
"""What has no state needs no block."""


class DuckDB:
    """A database in memory that puts on disk what is too big for it.

    The lake's files come to it as a stream, batch by batch. What is computed once comes by Parquet files in a folder of
    its own, so that neither side holds all of it.

    Args:
        connection: Its session's timezone is UTC.
        folder: For those files; empty.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

    def scan(self, table: TableLike, handle: DeltaTable, columns: Sequence[str], window: Window | None = None) -> Frame:
        """See `Engine`."""
        return _lazy(self._connection.from_arrow(_Stream(_rows(table, handle, columns, window))))

    def frame(self, rows: pl.LazyFrame) -> Frame:
        """See `Engine`."""
        file = self._new_file()
        rows.sink_parquet(file, compression="lz4", engine="streaming")
        return _lazy(self._connection.read_parquet(str(file)))

    def held(self, frame: Frame) -> Frame:
        """See `Engine`."""
        file = self._new_file()
        nw.to_native(frame).write_parquet(str(file), compression="lz4")
        return _lazy(self._connection.read_parquet(str(file)))

    def _new_file(self) -> Path:
        return self._folder / f"{sum(1 for _ in self._folder.glob('*.parquet'))}.parquet"


class Spark:
    """A session of a Spark Connect server, which reads the lake itself, at the lake's own URL.

    Args:
        session: Its timezone is UTC.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def scan(self, table: TableLike, handle: DeltaTable, columns: Sequence[str], window: Window | None = None) -> Frame:
        """See `Engine`."""
        # Sail's reader refuses texts that the table says are never null; said to be nullable they are the same.
        reader = self._session.read.format("delta").schema(_spark_schema(table.schema))
        rows = reader.option("versionAsOf", handle.version()).load(handle.table_uri)
        return _lazy((rows if window is None else rows.filter(sql_within(table, window))).select(*columns))

    def frame(self, rows: pl.LazyFrame) -> Frame:
        """See `Engine`. The rows go through this process: keep them few."""
        arrow = rows.collect(engine="streaming").to_arrow()
        # Arrow tells the schema of rows only.
        schema = None if arrow.num_rows else _spark_schema(rows.collect_schema())
        return _lazy(self._session.createDataFrame(arrow if arrow.num_rows else [], schema))

    def held(self, frame: Frame) -> Frame:
        """See `Engine`."""
        return _lazy(nw.to_native(frame).persist())


@contextmanager
def engine_of(settings: Settings) -> Iterator[Engine]:
    """The engine that the settings name, for as long as the block lasts.

    Raises:
        EngineUnavailable: The Spark Connect server does not answer, or its client is not installed.
    """
    if settings.engine == "polars":
        yield POLARS
    elif settings.engine == "duckdb":
        with in_duckdb() as engine:
            yield engine
    elif settings.spark_remote is None:
        msg = "engine 'spark' needs spark_remote: set HEADWATER_SPARK_REMOTE=sc://host:port"
        raise EngineUnavailable(msg)
    else:
        session = spark_session(settings.spark_remote.get_secret_value())
        try:
            yield Spark(session)
        finally:
            session.stop()


@contextmanager
def in_duckdb() -> Iterator[DuckDB]:
    """A DuckDB engine, whose folder goes with it."""
    import duckdb  # noqa: PLC0415 (only who asks for it pays for the import)

    with TemporaryDirectory(prefix="headwater-duckdb-") as folder, duckdb.connect() as connection:
        spilled = Path(folder) / "spilled"
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        connection.execute(f"SET temp_directory = '{spilled}'")
        yield DuckDB(connection, Path(folder))


def spark_session(remote: str) -> Any:
    """A new session of a Spark Connect server, whose timezone is UTC.

    Args:
        remote: ``sc://host:port``, with the parameters that the server wants.

    Raises:
        EngineUnavailable: Nobody listens there, or the client is not installed.
    """
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 (an optional package)
    except ImportError as error:
        msg = "engine 'spark' needs the package pyspark-client: pip install -e '.[engines]'"
        raise EngineUnavailable(msg) from error
    at = urlsplit(remote)
    host, port = at.hostname or "", at.port or 15002
    try:  # the client itself would try for minutes
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        msg = (
            f"nobody answers at {host}:{port} ({error}): start the Spark Connect server, or set "
            "HEADWATER_SPARK_REMOTE to where it is, or HEADWATER_ENGINE to polars or duckdb"
        )
        raise EngineUnavailable(msg) from error
    session = SparkSession.builder.remote(remote).create()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


@dataclass(frozen=True)
class _Stream:
    """Rows as a stream of Arrow batches that can be read again. DuckDB would take a frame of Polars as a whole."""

    rows: pl.LazyFrame

    @cached_property
    def _schema(self) -> pa.Schema:
        return pl.DataFrame(schema=self.rows.collect_schema()).to_arrow().schema

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        frames = self.rows.collect_batches(engine="streaming", maintain_order=False)
        batches = (batch for frame in frames for batch in frame.to_arrow().to_batches())
        return pa.RecordBatchReader.from_batches(self._schema, batches).__arrow_c_stream__(requested_schema)


def _spark_schema(schema: pl.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema  # noqa: PLC0415 (who has a session has the package)

    return from_arrow_schema(pl.DataFrame(schema=schema).to_arrow().schema)


def _rows(table: TableLike, handle: DeltaTable, columns: Sequence[str], window: Window | None) -> pl.LazyFrame:
    rows = pl.scan_delta(handle)
    return (rows if window is None else rows.filter(within(table, window))).select(columns)


def _lazy(native: Any) -> Frame:
    return cast("Frame", nw.from_native(native).lazy())
