"""The rows of truth as a Parquet file, written while the history is produced.

Depends on nothing of the platform: an independent check reads the file with whatever it likes.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from local_stack.simulator.corrupt import TruthRow

_TYPES = {
    "occurred_at": pa.timestamp("us", tz="UTC"),
    "client_occurred_at": pa.timestamp("us", tz="UTC"),
    "first_arrival_ms": pa.int64(),
    "is_bot": pa.bool_(),
    "is_test": pa.bool_(),
    "is_passive": pa.bool_(),
    "is_too_late": pa.bool_(),
    "deliveries": pa.int32(),
}

SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in TruthRow.__struct_fields__])
"""The columns: those of `TruthRow`; times as UTC timestamps, amounts as decimal strings."""

_ROW_GROUP = 50_000


class TruthFile:
    """A Parquet file of truth; a context manager whose `add` is the `on_truth` of `history`.

    The file is readable once the context has ended.

    Args:
        path: The file; its folder is created, and what it held is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._pending: list[TruthRow] = []

    def add(self, row: TruthRow) -> None:
        """Take one row."""
        self.rows += 1
        self._pending.append(row)
        if len(self._pending) >= _ROW_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self.path, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        rows = [msgspec.structs.astuple(row) for row in self._pending]
        columns = zip(*rows, strict=True) if rows else ([] for _ in SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._pending.clear()
