"""The mapping: what a user writes about a file, and whether it can be so. docs/loading.md is the manual."""

from __future__ import annotations

import hashlib
import re
import reprlib
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import yaml
from pydantic import BaseModel, ValidationError, field_validator, model_validator

from local_stack.loader.event_time import EventTime
from resources.envelope import REQUIRED, TIMESTAMPS, WireEvent

ACTORS = ("anonymous_id", "user_id")
_BUILT_IN = (None, "line", "file", "hash")
_TYPES = {f.name: f.type for f in msgspec.structs.fields(WireEvent) if f.name != "properties"}
_TEXTS = {name for name, kind in _TYPES.items() if kind in (str, str | None)} - {*TIMESTAMPS}


class MappingInvalid(ValueError):
    """The mapping is wrong, or does not fit the file; the message names file, field, value and what to do."""


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is there twice, in quotes."""
    return next((repr(name) for name, count in Counter(names).items() if count > 1), None)


class Value(BaseModel, extra="forbid", frozen=True):
    """Where a field's value comes from: a column, the same constant for every row, or a template.

    In YAML a plain string is a column, and one with braces a template of columns, ``{line}``, ``{file}`` (its name)
    and ``{hash}`` (of its content).
    """

    column: str | None = None
    constant: Any = None
    template: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: object) -> object:
        if isinstance(given, str):
            return {"template" if "{" in given else "column": given}
        if isinstance(given, dict):
            return given
        raise ValueError("is neither a column, a template nor {constant: …}")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.column, self.constant, self.template].count(None) != 2:
            raise ValueError("needs exactly one of column, constant, template")
        self.pieces()
        return self

    def pieces(self) -> list[tuple[str, str | None]]:
        """The template as pairs of literal text and the name that follows it; empty for the other kinds."""
        parsed = list(string.Formatter().parse(self.template or ""))
        if any(name == "" or form or conversion for _, name, form, conversion in parsed):
            raise ValueError("has braces that hold no column's name; write {name}, and {{ for a brace")
        return [(text, name) for text, name, *_ in parsed]


class Layout(BaseModel, extra="forbid", frozen=True):
    """How the file is read; all but ``format`` and ``nulls`` are for CSV-like text alone.

    Attributes:
        format: By the file's suffix where not given; ``csv`` is any text with a separator.
        separator: One character, with quotes as in CSV; else ``whitespace`` or a regular expression, without quotes.
        has_header: Whether the first line names the columns.
        columns: Their names, where it does not, or to replace them.
        numbers: Columns that hold numbers, which then are numbers in ``properties`` too.
        nulls: Texts that mean that there is no value.
    """

    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: str = ","
    has_header: bool = True
    columns: tuple[str, ...] | None = None
    numbers: frozenset[str] = frozenset()
    nulls: frozenset[str] = frozenset({""})

    @field_validator("separator")
    @classmethod
    def _usable_separator(cls, value: str) -> str:
        try:
            useless = value in '"\r\n' if len(value) == 1 else re.compile(value).match("")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        if useless:
            raise ValueError("separates nothing; write one character, whitespace, or a regular expression")
        return value

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.has_header and self.columns is None:
            raise ValueError("has_header is false: name the columns, columns: [first, second, …]")
        if twice := repeated(self.columns or ()):
            raise ValueError(f"columns names {twice} twice")
        return self


class Properties(BaseModel, extra="forbid", frozen=True):
    """What goes into ``properties``: the columns named, or those in one column, an object or its JSON text.

    In YAML a list of columns, ``{object: column}``, or ``others``: all that no field and no time names as its column.
    """

    columns: tuple[str, ...] | None = None
    object: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"columns": given}
        if given == "others" or (isinstance(given, dict) and len(given) < 2):
            return {} if given == "others" else given
        raise ValueError("is neither 'others', a list of columns, nor {object: column}")


class Mapping(BaseModel, extra="forbid", frozen=True):
    """How the columns of a file become the event envelope (semantics 1)."""

    time: EventTime
    fields: dict[str, Value]
    properties: Properties = Properties()
    file: Layout = Layout()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sources = self.sources()
        if unknown := [name for name in sources if name not in _TYPES]:
            raise ValueError(f"fields: {unknown[0]!r} is no field of the envelope; use one of {', '.join(_TYPES)}")
        if missing := [name for name in REQUIRED if name not in sources]:
            raise ValueError(f"fields lacks {', '.join(missing)}; map each to a column, a template or {{constant: …}}")
        if sources.keys().isdisjoint(ACTORS):
            raise ValueError(f"fields lacks {' and '.join(ACTORS)}; map one of them: an event needs someone who acted")
        for name, value in sources.items():
            if value.constant is not None:
                try:
                    self.fitted(name, value.constant)
                except ValueError as error:
                    raise ValueError(f"fields.{name}: {error}") from error
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The mapping in a YAML or JSON file; raises `MappingInvalid` where it holds none."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            problems = [_told(problem["loc"], problem["msg"], problem["input"]) for problem in error.errors()]
            raise MappingInvalid("\n".join(f"{path}: {problem}" for problem in problems)) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise MappingInvalid(f"{path}: is no YAML or JSON: {error}") from error

    @property
    def sha256(self) -> str:
        """A hash that is the same for the same mapping, whatever it was built from."""
        return hashlib.sha256(msgspec.json.encode(self.model_dump(), order="deterministic")).hexdigest()

    def sources(self) -> dict[str, Value]:
        """Where each field comes from, derived where it is not mapped: the same file again makes only duplicates."""
        time = Value(column=self.time.column)
        derived = {"event_id": Value(template="{hash}-{line}"), "client_occurred_at": time, "received_at": time}
        return derived | self.fields

    def columns(self) -> dict[str, str]:
        """The columns that it names, each with the place that names it."""
        named = {self.time.column: "time.column"}
        for name, value in self.fields.items():
            columns = {value.column, *(piece for _, piece in value.pieces())}.difference(_BUILT_IN)
            named |= {column: f"fields.{name}" for column in columns if column is not None}
        named |= dict.fromkeys(self.properties.columns or (), "properties")
        if self.properties.object is not None:
            named[self.properties.object] = "properties.object"
        return named | dict.fromkeys(self.file.numbers, "file.numbers")

    def fitted(self, name: str, value: object) -> object:
        """A value in the type of a field; raises `ValueError` where it does not fit."""
        if name in _TEXTS:
            if isinstance(value, str):
                return value
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            raise ValueError(f"{reprlib.repr(value)} is neither text nor a whole number")
        if name in TIMESTAMPS:
            return self.time.instant(value)
        if name == "consent" and isinstance(value, str):
            return [purpose.strip() for purpose in value.split(",")]
        try:
            return msgspec.convert(value, _TYPES[name], strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"{reprlib.repr(value)} does not fit: {error}") from error


def _told(location: tuple[int | str, ...], message: str, value: object) -> str:
    shown = "" if isinstance(value, dict) else reprlib.repr(value)
    return ": ".join(filter(None, [".".join(map(str, location)), shown, message.removeprefix("Value error, ")]))
