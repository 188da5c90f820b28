"""From a row to a Kafka record, or to the reason why it makes none."""

from __future__ import annotations

import math
import reprlib
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from local_stack.loader.event_time import milliseconds
from local_stack.loader.mapping import ACTORS, Mapping
from local_stack.loader.rows import Row, decode_json
from resources.envelope import REQUIRED

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Unfit(ValueError):
    """A row makes no event; the message is the reason."""


class Record(NamedTuple):
    """What goes into Kafka; the time in milliseconds since 1970."""

    key: bytes
    value: bytes
    timestamp_ms: int


class Converter:
    """Makes records of the rows of one file, whose content has this hash."""

    def __init__(self, mapping: Mapping, path: Path, sha256: str) -> None:
        self._mapping = mapping
        self._built_in = {"file": path.name, "hash": sha256[:32]}
        sources = mapping.sources()
        self._mapped = {value.column for value in sources.values()} | {mapping.time.column}
        self._pieces = {name: value.pieces() for name, value in sources.items() if value.template is not None}
        self._columns = {name: value.column for name, value in sources.items() if value.column is not None}
        constants = ((name, value.constant) for name, value in sources.items() if value.constant is not None)
        self._constants = {name: mapping.fitted(name, constant) for name, constant in constants}

    def record(self, line: int, row: Row) -> Record:
        """The record of a row; raises `Unfit` where it makes no event."""
        row = self._present(row)
        event = dict(self._constants)
        for name in (*self._columns, *self._pieces):
            if (found := self._value(name, line, row)) is not None:
                event[name] = found
        if missing := [name for name in REQUIRED if name not in event]:
            raise Unfit(f"{', '.join(missing)}: no value")
        actor = event.get("anonymous_id") or event.get("user_id")
        if actor is None:
            raise Unfit(f"{', '.join(ACTORS)}: no value in either")
        event["properties"] = self._properties(row)
        try:
            key, value = str(actor).encode(), _encode(event)
        except UnicodeEncodeError as error:
            raise Unfit("is not UTF-8") from error
        except (TypeError, RecursionError) as error:
            raise Unfit(f"properties: {error}") from error
        return Record(key, value, milliseconds(cast("datetime", event["received_at"])))

    def timestamp_ms(self, line: int, row: Row) -> int | None:
        """The record time of a row, in milliseconds since 1970, without the rest; None where it has none."""
        try:
            instant = self._constants.get("received_at") or self._value("received_at", line, self._present(row))
        except Unfit:
            return None
        return None if instant is None else milliseconds(cast("datetime", instant))

    def _present(self, row: Row) -> Row:
        """The columns that have a value, with the numbers of a text as numbers."""
        nulls, numbers = self._mapping.file.nulls, self._mapping.file.numbers
        present = {name: value for name, value in row.items() if not (isinstance(value, str) and value in nulls)}
        for name in numbers:
            if isinstance(text := present.get(name), str):
                present[name] = _number(name, text.strip())
        return {name: value for name, value in present.items() if value is not None}

    def _value(self, name: str, line: int, row: Row) -> object:
        if name in self._columns:
            found = row.get(self._columns[name])
        else:
            names = {**self._built_in, "line": line, **row}
            try:
                found = "".join(f"{text}{names[piece] if piece else ''}" for text, piece in self._pieces[name])
            except KeyError:
                found = None
        try:
            return None if found is None else self._mapping.fitted(name, found)
        except ValueError as error:
            raise Unfit(f"{name}: {error}") from error

    def _properties(self, row: Row) -> Row:
        wanted = self._mapping.properties
        if wanted.object is not None:
            return _object(wanted.object, row.get(wanted.object, {}))
        if wanted.columns is not None:
            return {name: row[name] for name in wanted.columns if name in row}
        return {name: value for name, value in row.items() if name not in self._mapped}


def _number(name: str, text: str) -> int | Decimal:
    try:
        number = int(text) if text.isdecimal() else Decimal(text)
        if math.isfinite(number):
            return number
    except InvalidOperation:
        pass
    raise Unfit(f"{name}: {reprlib.repr(text)} is no number")


def _object(column: str, value: Any) -> Row:
    try:
        found = decode_json(value) if isinstance(value, str) else value
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Unfit(f"properties: column {column} holds no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unfit(f"properties: {reprlib.repr(found)} in column {column} is no object")
    return found
