"""The engines that the numbers must be the same on: Polars, DuckDB, and Sail's Spark Connect with two workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import duckdb
import polars as pl
import pytest

Native = Callable[[pl.DataFrame], Any]
ENGINES = ("polars", "duckdb", "spark")


@contextmanager
def native_frames(engine: str) -> Iterator[Native]:
    """A function that brings a Polars frame into an engine."""
    if engine == "polars":
        yield lambda frame: frame.lazy()
    elif engine == "duckdb":
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield lambda frame: connection.from_arrow(frame.to_arrow())
    else:
        yield _in_spark


def _in_spark(frame: pl.DataFrame) -> Any:
    table = frame.to_arrow()
    if frame.is_empty():  # it tells the schema of rows only
        from pyspark.sql.pandas.types import from_arrow_schema

        return _spark().createDataFrame([], from_arrow_schema(table.schema))
    return _spark().createDataFrame(table)


@cache
def _spark() -> Any:
    """A session of a Sail server with two workers, which lives as long as the tests."""
    os.environ.update(SAIL_MODE="local-cluster", SAIL_CLUSTER__WORKER_INITIAL_COUNT="2", RUST_LOG="error")
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer()
    server.start(background=True)
    with pytest.MonkeyPatch.context() as patch:
        # Where the main module is no file, as in a worker of pytest-xdist, pyspark takes the tests for its own.
        patch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
        session: Any = SparkSession.builder.remote(f"sc://localhost:{server.listening_address[1]}").getOrCreate()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.headwater_server = server  # it would stop with its last reference
    return session
