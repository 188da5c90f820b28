"""Engines that the numbers run on: Polars by default, DuckDB, Spark Connect.

The numbers are written in Narwhals, once. The few things that it does not say are said here in each engine's own
words: a key of a JSON text, local time, the number of a day. Instants must be read as UTC by the engine's session, or
days would be other days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

Engine = Literal["polars", "duckdb", "spark"]
Frame: TypeAlias = "nw.LazyFrame[Any]"

_ENGINES: Mapping[nw.Implementation, Engine] = {
    nw.Implementation.POLARS: "polars",
    nw.Implementation.DUCKDB: "duckdb",
    nw.Implementation.PYSPARK: "spark",
    nw.Implementation.PYSPARK_CONNECT: "spark",
}


class UnsupportedEngine(TypeError):
    """The frame is of an engine on which the numbers were never shown to be the same."""


def lazy(native: Any) -> Frame:
    """A frame of one of the engines, or one that is a Narwhals frame already, lazily.

    Raises:
        UnsupportedEngine: It is of another engine, or its session's timezone is not UTC.
    """
    frame: Frame = nw.from_native(native).lazy()
    engine = engine_of(frame)
    zone = _session_zone(frame, engine)
    if zone not in ("UTC", "Etc/UTC", "GMT", "+00:00"):
        msg = f"the {engine} session reads instants in {zone!r}: set its timezone to UTC"
        raise UnsupportedEngine(msg)
    return frame


def engine_of(frame: Frame) -> Engine:
    """The engine that a frame runs on.

    Raises:
        UnsupportedEngine: None of the known ones.
    """
    engine = _ENGINES.get(frame.implementation)
    if engine is None:
        msg = f"frames of {frame.implementation} are not supported: give one of Polars, DuckDB or Spark Connect"
        raise UnsupportedEngine(msg)
    return engine


def collected(frame: Frame) -> pl.DataFrame:
    """The rows of a frame as a Polars frame, in no order.

    DuckDB's sums of integers, which have 128 bits, are Int64 as those of the others are.
    """
    native, engine = nw.to_native(frame), engine_of(frame)
    if engine == "polars":
        return pl.DataFrame(native.collect(engine="streaming"))
    if engine == "spark":
        return pl.DataFrame(native.toArrow())
    sums = [name for name, dtype in zip(native.columns, native.types, strict=True) if str(dtype) == "HUGEINT"]
    return pl.DataFrame(native.to_arrow_table()).cast(dict.fromkeys(sums, pl.Int64))


def property_column(reference: str) -> str:
    """The name of the column that has a property's texts, once `with_properties` has added it."""
    return "property_" + re.sub(r"\W", lambda found: f"_{ord(found[0]):x}_", reference)


def with_properties(frame: Frame, references: Iterable[str]) -> Frame:
    """Add a column of texts for each property: `property_column`.

    Args:
        frame: The events.
        references: Columns, or keys of columns of JSON texts, as `Filter.property` has them. Null where a key is
            missing or JSON's null; ``true``, ``false``, a number's and a text's own text; an object or list as JSON.

    Raises:
        ValueError: There is no such column.
    """
    wanted = sorted(set(references))
    if not wanted:
        return frame
    columns = frame.collect_schema().names()
    for reference in wanted:
        column = reference if reference in columns else reference.split(".", 1)[0]
        if column not in columns or (column != reference and "." not in reference):
            msg = f"property {reference!r}: the events have no column {column!r}; there are {', '.join(columns)}"
            raise ValueError(msg)
    whole = [reference for reference in wanted if reference in columns]
    keys = {r: tuple(r.split(".", 1)) for r in wanted if r not in columns}
    if whole:  # Spark adds no columns that are none
        frame = frame.with_columns(nw.col(r).cast(nw.String).alias(property_column(r)) for r in whole)
    if not keys:
        return frame
    native, engine = nw.to_native(frame), engine_of(frame)
    if engine == "polars":
        paths = {r: f"$[{_quoted(key)}]" for r, (_, key) in keys.items()}
        texts = {property_column(r): pl.col(column).str.json_path_match(paths[r]) for r, (column, key) in keys.items()}
        return _again(native.with_columns(**texts))
    if engine == "duckdb":
        drawn = [
            f"json_extract_string({_identifier(column)}, {_literal('$.' + _quoted(key))})"
            f" AS {_identifier(property_column(r))}"
            for r, (column, key) in keys.items()
        ]
        return _again(native.project("*, " + ", ".join(drawn)))
    from pyspark.sql import functions as spark  # noqa: PLC0415 (only where there is a Spark frame, there is the package)

    return _again(
        native.withColumns(
            {property_column(r): spark.get_json_object(column, f"$['{key}']") for r, (column, key) in keys.items()}
        )
    )


def with_day_number(frame: Frame, day: str = "day", name: str = "day_number") -> Frame:
    """Add a date as the days since 1970-01-01 (Int64).

    Args:
        frame: Has a column of dates.
        day: The name of that column.
        name: The name of the new one.
    """
    native, engine = nw.to_native(frame), engine_of(frame)
    if engine == "polars":
        return _again(native.with_columns(pl.col(day).cast(pl.Date).cast(pl.Int32).cast(pl.Int64).alias(name)))
    if engine == "duckdb":
        number = f"date_diff('day', DATE '1970-01-01', CAST({_identifier(day)} AS DATE))"
        return _again(native.project(f"*, {number} AS {_identifier(name)}"))
    from pyspark.sql import functions as spark  # noqa: PLC0415

    since = spark.datediff(spark.col(day), spark.lit("1970-01-01").cast("date"))
    return _again(native.withColumn(name, since.cast("bigint")))


def with_local_time(frame: Frame, zone: ZoneInfo, instant: str = "occurred_at") -> Frame:
    """Add ``local_at``, an instant as a zone's clock shows it (naive), and ``day_number``, its day since 1970-01-01.

    Args:
        frame: Has a column of instants.
        zone: The reporting timezone.
        instant: The name of that column.
    """
    native, engine = nw.to_native(frame), engine_of(frame)
    if engine == "polars":
        local = pl.col(instant).dt.convert_time_zone(zone.key).dt.replace_time_zone(None)
        return _again(native.with_columns(local_at=local, day_number=local.dt.date().cast(pl.Int32)))
    if engine == "duckdb":
        told = f"timezone({_literal(zone.key)}, {_identifier(instant)})"
        number = f"date_diff('day', DATE '1970-01-01', CAST({told} AS DATE))::INTEGER"
        return _again(native.project(f"*, {told} AS local_at, {number} AS day_number"))
    from pyspark.sql import functions as spark  # noqa: PLC0415

    shown = spark.from_utc_timestamp(instant, zone.key)
    day = spark.datediff(shown, spark.lit("1970-01-01").cast("date")).cast("int")
    return _again(native.withColumns({"local_at": shown, "day_number": day}))


def with_microseconds(frame: Frame, instant: str = "occurred_at", name: str = "at") -> Frame:
    """Add an instant as microseconds since 1970 (Int64), with which every engine reckons alike."""
    native, engine = nw.to_native(frame), engine_of(frame)
    if engine == "polars":
        return _again(native.with_columns(pl.col(instant).dt.epoch("us").alias(name)))
    if engine == "duckdb":
        return _again(native.project(f"*, epoch_us({_identifier(instant)}) AS {_identifier(name)}"))
    from pyspark.sql import functions as spark  # noqa: PLC0415

    return _again(native.withColumn(name, spark.unix_micros(spark.col(instant))))


def _again(native: Any) -> Frame:
    frame: Frame = nw.from_native(native).lazy()
    return frame


def _session_zone(frame: Frame, engine: Engine) -> str:
    native = nw.to_native(frame)
    if engine == "polars":
        return "UTC"
    if engine == "duckdb":
        return str(native.query("events", "SELECT current_setting('TimeZone')").fetchall()[0][0])
    return str(native.sparkSession.conf.get("spark.sql.session.timeZone"))


def _quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
