"""The messages of PostgreSQL's logical replication plug-in `pgoutput`, protocol version 1, decoded.

Only what the relay needs of it: relations, and what happened to their rows. Values come as text; `value` makes of it
what Debezium writes for the column's type (decimals as text: `decimal.handling.mode=string`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

UNAVAILABLE = "__debezium_unavailable_value"
"""A large value that an update did not touch: the log does not hold it."""

_POSTGRES_EPOCH_US = 946_684_800_000_000
_BOOL, _INTEGERS, _FLOATS, _TIMESTAMP, _TIMESTAMPTZ, _DATE = 16, {20, 21, 23}, {700, 701}, 1114, 1184, 1082

Json = str | int | float | bool | None
Row = dict[str, Json]


@dataclass(frozen=True)
class Relation:
    """A table as the log tells of it.

    Attributes:
        schema: Its schema.
        name: Its name.
        columns: Name, type's OID, and whether it is of the replica identity, in order.
    """

    schema: str
    name: str
    columns: tuple[tuple[str, int, bool], ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return tuple(name for name, _, is_key in self.columns if is_key)


@dataclass(frozen=True)
class Begun:
    """A transaction begins.

    Attributes:
        committed_at_us: Its commit time, µs since 1970.
        commit_lsn: The position of its commit.
    """

    committed_at_us: int
    commit_lsn: int


@dataclass(frozen=True)
class Committed:
    """A transaction ends.

    Attributes:
        end_lsn: The position behind it.
    """

    end_lsn: int


@dataclass(frozen=True)
class RowEvent:
    """What happened to a row. `before` holds the key only, unless the table's replica identity is full."""

    relation: Relation
    op: Literal["c", "u", "d"]
    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class Truncated:
    """Some tables were emptied."""

    relations: tuple[Relation, ...]


Message = Begun | Committed | RowEvent | Truncated


class Decoder:
    """Decodes the messages of one slot in their order; it remembers the relations that they told of."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}

    def decode(self, data: bytes) -> Message | None:
        """One message; None for one that tells of no row.

        Raises:
            ValueError: It is none of protocol version 1.
        """
        kind, body = chr(data[0]), _Body(data[1:])
        if kind == "R":
            self._remember(body)
            return None
        if kind == "B":
            lsn, at = body.take("!qq")
            return Begun(_POSTGRES_EPOCH_US + at, lsn)
        if kind == "C":
            _, _, end, _ = body.take("!bqqq")
            return Committed(end)
        if kind in "IUD":
            return self._row_event(kind, body)
        if kind == "T":
            count, _ = body.take("!ib")
            return Truncated(tuple(self._relations[oid] for oid in body.take(f"!{count}i")))
        if kind in "YOM":
            return None
        msg = f"pgoutput sent a message of kind {kind!r}, which protocol version 1 does not have"
        raise ValueError(msg)

    def _remember(self, body: _Body) -> None:
        (oid,) = body.take("!i")
        schema, name = body.text(), body.text()
        _, count = body.take("!ch")
        columns = []
        for _ in range(count):
            (flags,) = body.take("!b")
            column = body.text()
            type_oid, _ = body.take("!ii")
            columns.append((column, type_oid, bool(flags & 1)))
        self._relations[oid] = Relation(schema, name, tuple(columns))

    def _row_event(self, kind: str, body: _Body) -> RowEvent:
        (oid,) = body.take("!i")
        relation = self._relations[oid]
        before: Row | None = None
        after: Row | None = None
        for part in body.parts():
            row = body.row(relation, key_only=part == "K")
            if part == "N":
                after = row
            else:
                before = row
        op: dict[str, Literal["c", "u", "d"]] = {"I": "c", "U": "u", "D": "d"}
        return RowEvent(relation, op[kind], before, after)


class _Body:
    """The rest of a message, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> tuple[int, ...]:
        found: tuple[int, ...] = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return found

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def parts(self) -> Iterator[str]:
        """The letters before the rows that follow one another."""
        while self._at < len(self._data):
            letter = chr(self._data[self._at])
            self._at += 1
            yield letter

    def row(self, relation: Relation, *, key_only: bool) -> Row:
        (count,) = self.take("!h")
        row: Row = {}
        for name, type_oid, is_key in relation.columns[:count]:
            how = chr(self._data[self._at])
            self._at += 1
            found: Json = None
            if how == "u":
                found = UNAVAILABLE
            elif how == "t":
                (length,) = self.take("!i")
                found = value(type_oid, self._data[self._at : self._at + length].decode())
                self._at += length
            if is_key or not key_only:
                row[name] = found
        return row


def value(type_oid: int, text: str) -> Json:
    """What Debezium writes for a value of a type, of the text that PostgreSQL writes (ISO dates, UTC)."""
    if type_oid == _BOOL:
        return text == "t"
    if type_oid in _INTEGERS:
        return int(text)
    if type_oid in _FLOATS:
        return float(text)
    if type_oid == _TIMESTAMPTZ and text not in {"infinity", "-infinity"}:
        return text.replace(" ", "T").replace("+00", "Z")
    if type_oid == _TIMESTAMP and text not in {"infinity", "-infinity"}:
        return _microseconds(datetime.fromisoformat(text))
    if type_oid == _DATE and text not in {"infinity", "-infinity"}:
        return _microseconds(datetime.fromisoformat(text)) // 86_400_000_000
    return text


def lsn_of(text: str) -> int:
    """A position as a number, of PostgreSQL's `16/B374D848`."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _microseconds(local: datetime) -> int:
    since = local.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
