"""The engines that the numbers must be the same on: Polars, DuckDB, and Sail's Spark Connect with two workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import narwhals as nw
import polars as pl
import pytest

from resources.engine import Spark, in_duckdb, spark_session

Native = Callable[[pl.DataFrame], Any]
ENGINES = ("polars", "duckdb", "spark")


@contextmanager
def native_frames(engine: str) -> Iterator[Native]:
    """A function that brings a Polars frame into an engine."""
    if engine == "polars":
        yield lambda frame: frame.lazy()
    elif engine == "duckdb":
        with in_duckdb() as duckdb:
            yield lambda frame: nw.to_native(duckdb.frame(frame.lazy()))
    else:
        spark = Spark(_spark())
        yield lambda frame: nw.to_native(spark.frame(frame.lazy()))


@cache
def spark_remote() -> str:
    """Where a Sail server with two workers listens, which lives as long as the tests."""
    os.environ.update(SAIL_MODE="local-cluster", SAIL_CLUSTER__WORKER_INITIAL_COUNT="2", RUST_LOG="error")
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer()
    server.start(background=True)
    _servers.append(server)
    with pytest.MonkeyPatch.context() as patch:
        # Where the main module is no file, as in a worker of pytest-xdist, pyspark takes the tests for its own.
        patch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
        import pyspark.sql.connect.session  # noqa: F401
    return f"sc://127.0.0.1:{server.listening_address[1]}"


_servers: list[object] = []
"""A server would stop with the last reference to it."""


@cache
def _spark() -> Any:
    return spark_session(spark_remote())
