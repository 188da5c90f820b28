"""The rows of a delivered file, as they arrived, each with its line.

A row is kept as text: the line itself of JSON Lines, a JSON object of strings for CSV and Parquet. What the text
means is the feed's matter (`feed.parse`); only what makes the whole file unreadable is told here.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import PurePosixPath

import polars as pl

ROWS = pl.Schema({"line": pl.Int64, "row": pl.String})
"""A file's rows: ``line`` as a text editor counts (for Parquet, the row's number), from 1; ``row`` as it arrived."""


_PLAIN = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64),
    *(pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Decimal, pl.Date, pl.Datetime, pl.Time, pl.Null),
)


class BadFile(ValueError):
    """A whole file cannot be used; the message says why and what to do."""


def read(name: str, data: bytes) -> pl.DataFrame:
    """The rows of a file (`ROWS`), by the ending of its name.

    Raises:
        BadFile: Its format is unknown, or the file is not of that format.
    """
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    ending = PurePosixPath(name).suffix.lower()
    if ending not in readers:
        msg = f"{name!r} ends with {ending!r}; deliver {', '.join(sorted(readers))}"
        raise BadFile(msg)
    if not data:
        msg = f"{name!r} is empty"
        raise BadFile(msg)
    rows = readers[ending](name, data)
    if rows.is_empty():
        msg = f"{name!r} holds no rows"
        raise BadFile(msg)
    return rows


def _csv(name: str, data: bytes) -> pl.DataFrame:
    reader = csv.reader(io.StringIO(_text(name, data), newline=""), strict=True)
    lines: list[int] = []
    rows: list[str] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        repeated = sorted({column for column in header if header.count(column) > 1})
        if repeated or not all(header):
            told = f"names {', '.join(repeated)} more than once" if repeated else "has a column without a name"
            msg = f"the header of {name!r} {told}"
            raise BadFile(msg)
        first = reader.line_num + 1
        for cells in reader:
            if cells:
                lines.append(first)
                whole = dict(zip(header, cells, strict=True)) if len(cells) == len(header) else cells
                rows.append(json.dumps(whole, ensure_ascii=False))
            first = reader.line_num + 1
    except csv.Error as error:
        msg = f"{name!r} is no CSV from line {reader.line_num} on: {error}"
        raise BadFile(msg) from error
    return pl.DataFrame({"line": lines, "row": rows}, schema=ROWS)


def _json_lines(name: str, data: bytes) -> pl.DataFrame:
    numbered = [(n, line) for n, line in enumerate(_text(name, data).split("\n"), 1) if line.strip()]
    return pl.DataFrame(numbered, schema=ROWS, orient="row")


def _parquet(name: str, data: bytes) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(io.BytesIO(data))
        odd = [column for column, dtype in frame.schema.items() if dtype.base_type() not in _PLAIN]
        texts = frame.select(pl.all().exclude(odd).cast(pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        msg = f"{name!r} is no Parquet, or has values that no text can be made of: {error}"
        raise BadFile(msg) from error
    if odd:
        msg = f"{name!r} has columns that are no plain values: {', '.join(odd)}"
        raise BadFile(msg)
    return pl.DataFrame(
        {
            "line": range(1, frame.height + 1),
            "row": [json.dumps(row, ensure_ascii=False) for row in texts.iter_rows(named=True)],
        },
        schema=ROWS,
    )


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"{name!r} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}; save it as UTF-8"
        raise BadFile(msg) from error
