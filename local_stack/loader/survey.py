"""The first reading of a file: what must be known before its first row is sent."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from local_stack.loader.mapping import Mapping, MappingInvalid
from local_stack.loader.records import Converter
from local_stack.loader.rows import rows


@dataclass(frozen=True)
class Survey:
    """The hash of the content, the number of rows (bad ones too), and the span of the record times there are."""

    sha256: str
    rows: int
    oldest_ms: int | None
    newest_ms: int | None


def survey(path: Path, mapping: Mapping, stop: threading.Event | None = None) -> Survey | None:
    """Read a file once; None where it was stopped. Raises `MappingInvalid` where it lacks a column that is mapped."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    converter = Converter(mapping, path, sha256)
    count, columns, times = 0, set[str](), list[int]()
    for line, row in rows(path, mapping.file):
        if stop is not None and stop.is_set():
            return None
        count += 1
        if isinstance(row, str):
            continue
        columns.update(row)
        if (instant := converter.timestamp_ms(line, row)) is not None:
            times = [min([instant, *times]), max([instant, *times])]
    for column, place in mapping.columns().items():
        if columns and column not in columns:
            has = ", ".join(sorted(columns))
            raise MappingInvalid(f"{path} has no column {column!r}, which {place} of the mapping names; it has {has}")
    oldest, newest = times or (None, None)
    return Survey(sha256, count, oldest, newest)
