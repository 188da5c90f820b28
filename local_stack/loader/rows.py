"""The rows of a file, one by one, in bounded memory.

Text is read row by row in plain Python rather than by Polars, where one bad row fails or shifts its whole batch:
here it is named by its line, and the rest goes through.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from local_stack.loader.mapping import Layout, MappingInvalid, repeated
from resources.json_events import MAX_EVENT_BYTES

Row = dict[str, object]
Rows = Iterator[tuple[int, Row | str]]
"""Lines, from 1 (in Parquet numbers of rows), each with its row by the names of its columns, or why it has none."""

_Cells = Iterator[tuple[int, list[str] | str]]
_FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}

decode_json = msgspec.json.Decoder(float_hook=Decimal).decode
"""Leaves a number as it was written: 1.10 stays 1.10."""


def rows(path: Path, layout: Layout) -> Rows:
    """The rows of a file in order; blank lines are none. Raises `MappingInvalid` where it is not as the layout says."""
    form = layout.format or _FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if form is None:
        raise MappingInvalid(f"{path}: its suffix does not tell what it is; set file.format to csv, jsonl or parquet")
    if form == "parquet":
        yield from _parquet_rows(path)
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # A byte that is no UTF-8 must spoil its own row alone: encoding the event finds it.
        lines = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="" if form == "csv" else "\n")
        try:
            yield from _json_rows(lines) if form == "jsonl" else _table_rows(path, lines, layout)
        except (EOFError, zlib.error) as error:
            raise MappingInvalid(f"{path}: cannot be unpacked: {error}") from error


def _json_rows(lines: Iterable[str]) -> Rows:
    for line, text in enumerate(lines, 1):
        if text.isspace():
            continue
        try:
            row = decode_json(text)
        except UnicodeEncodeError:
            yield line, "is not UTF-8"
        except (ValueError, ArithmeticError, RecursionError) as error:
            yield line, f"is no JSON: {error}"
        else:
            yield line, row if isinstance(row, dict) else "is no JSON object"


def _table_rows(path: Path, lines: Iterable[str], layout: Layout) -> Rows:
    cells = _csv_cells(lines, layout.separator) if len(layout.separator) == 1 else _split_cells(lines, layout.separator)
    columns = layout.columns
    if layout.has_header:
        _, header = next(cells, (1, "is empty"))
        if isinstance(header, str):
            raise MappingInvalid(f"{path}: its first line names no columns: {header}")
        columns = columns or tuple(name.strip() for name in header)
        if twice := repeated(columns):
            raise MappingInvalid(f"{path}: its first line names the column {twice} twice; name them by file.columns")
    names = columns or ()
    for line, found in cells:
        if isinstance(found, str):
            yield line, found
        elif len(found) != len(names):
            yield line, f"has {len(found)} columns, not {len(names)}"
        else:
            yield line, dict(zip(names, found, strict=True))


def _csv_cells(lines: Iterable[str], separator: str) -> _Cells:
    csv.field_size_limit(MAX_EVENT_BYTES)  # of this process: its own 128 KiB is less than an event may have
    reader, line = csv.reader(lines, delimiter=separator, strict=True), 1
    while True:
        try:
            if cells := next(reader):
                yield line, cells
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"is no CSV: {error}"
        line = reader.line_num + 1  # a quoted cell may hold line ends


def _split_cells(lines: Iterable[str], separator: str) -> _Cells:
    split = str.split if separator == "whitespace" else re.compile(separator).split
    for line, text in enumerate(lines, 1):
        if not text.isspace():
            yield line, split(text.rstrip("\r\n"))


def _parquet_rows(path: Path) -> Rows:
    line = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=10_000):
                for row in pl.DataFrame(batch).iter_rows(named=True):  # pyarrow has no nanoseconds in Python
                    line += 1
                    yield line, row
    except pa.ArrowInvalid as error:
        raise MappingInvalid(f"{path}: cannot be read as Parquet after row {line}: {error}") from error
