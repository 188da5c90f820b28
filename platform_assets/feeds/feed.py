"""What a feed is, and its rows judged one by one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from platform_assets.feeds.formats import ROWS
from platform_assets.table import TIMESTAMP, Column, Table

DELIVERED = (
    Column("file_id", pl.String(), "SHA-256 of the file that brought the row.", provenance=True),
    Column("line", pl.Int64(), "Line of that file, from 1.", provenance=True, minimum=1),
    Column("landed_at", TIMESTAMP, "When the file was taken.", provenance=True),
)
"""Where a row came from."""

_SHOWN = 5
_FIRST_DAY = date(2000, 1, 1)

BAD_ROWS = pl.Schema({**ROWS, "reasons": pl.List(pl.String)})
"""A row that was refused, as it arrived, with every reason."""


@dataclass(frozen=True)
class Field:
    """A field of a feed's files.

    Attributes:
        column: The column of the table that it fills; may be missing from a file where that is nullable.
        parse: The text's value; raises ValueError with a word for what is wrong (``not_a_date``).
        aliases: Other names that partners use for it. Names are compared without case, spaces as underscores.
    """

    column: str
    parse: Callable[[str], Any]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Feed:
    """A kind of third-party files, and the silver table that they become.

    Attributes:
        table: Daily, with the column ``day``; its last columns are `DELIVERED`.
        fields: How its other columns are read.
    """

    table: Table
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        """The folder in the landing folder."""
        return self.table.name.split("/")[1]


@dataclass(frozen=True)
class Parsed:
    """A file's rows, judged.

    Attributes:
        valid: ``line`` and the columns of the feed's fields.
        bad: `BAD_ROWS`.
    """

    valid: pl.DataFrame
    bad: pl.DataFrame


def parse(feed: Feed, rows: pl.DataFrame, landed_on: date) -> Parsed:
    """Judge each row of a file alone, then those that share a key: the first stands, the others are refused.

    Reasons: ``missing:<field>``, what a field's parser says (``not_a_date:day``), ``from_the_future:day`` (after the
    day on which the file landed, anywhere on earth), ``repeated_key:line <n>``, ``not_json``, ``not_an_object``,
    ``wrong_number_of_fields``.

    Args:
        feed: Whose rows they are.
        rows: `formats.ROWS`.
        landed_on: UTC date on which the file was taken.
    """
    by_name = {_normal(name): field for field in feed.fields for name in (field.column, *field.aliases)}
    valid: list[dict[str, Any]] = []
    bad: list[tuple[int, str, list[str]]] = []
    first_lines: dict[tuple[Any, ...], int] = {}
    for line, row in rows.select("line", "row").iter_rows():
        made, reasons = _judged(feed, by_name, row, landed_on)
        if not reasons:
            first = first_lines.setdefault(tuple(made[name] for name in feed.table.key), line)
            if first != line:
                reasons.append(f"repeated_key:line {first}")
        if reasons:
            bad.append((line, row, reasons))
        else:
            valid.append({"line": line, **made})
    columns = {"line": pl.Int64(), **{field.column: feed.table.schema[field.column] for field in feed.fields}}
    return Parsed(pl.DataFrame(valid, schema=columns, orient="row"), pl.DataFrame(bad, schema=BAD_ROWS, orient="row"))


def why_useless(feed: Feed, bad: pl.DataFrame) -> str:
    """Why a file without one valid row is of no use: the commonest reasons, and what the feed expects.

    Args:
        feed: The feed.
        bad: `BAD_ROWS`, all the rows of the file.
    """
    commonest = Counter(reason for reasons in bad["reasons"] for reason in reasons).most_common(_SHOWN)
    told = ", ".join(f"{reason} ({count})" for reason, count in commonest)
    return f"none of its {bad.height} rows can be used: {told}. {_expected(feed)}"


def text(value: str) -> str:
    """A text as it stands."""
    return value


def day(value: str) -> date:
    """A day, ISO 8601: `2026-11-20`; nothing that is reported on lies before 2000."""
    try:
        found = date.fromisoformat(value)
    except ValueError as error:
        msg = "not_a_date"
        raise ValueError(msg) from error
    if found < _FIRST_DAY:
        msg = "too_old"
        raise ValueError(msg)
    return found


def count(value: str) -> int:
    """A whole number that is not negative; `12.0`, as Parquet files and spreadsheets have it, is 12."""
    number = _number(value)
    if not 0 <= number < 2**63:
        msg = "negative" if number < 0 else "too_large"
        raise ValueError(msg)
    if number != number.to_integral_value():
        msg = "not_a_whole_number"
        raise ValueError(msg)
    return int(number)


def money(value: str) -> Decimal:
    """An amount, exact: at most 12 digits before the point and 6 behind it; a credit is negative."""
    amount = _number(value)
    if abs(amount) >= 10**12:
        msg = "too_large"
        raise ValueError(msg)
    exact = round(amount, 6)
    if amount != exact:
        msg = "too_precise"
        raise ValueError(msg)
    return exact


def currency(value: str) -> str:
    """An ISO 4217 code: `EUR`."""
    if re.fullmatch("[A-Z]{3}", value) is None:
        msg = "not_a_currency"
        raise ValueError(msg)
    return value


def _number(value: str) -> Decimal:
    # Decimal also takes "1_000" and "NaN", which no partner means.
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", value) is None:
        msg = "not_a_number"
        raise ValueError(msg)
    return Decimal(value)


def _judged(feed: Feed, by_name: Mapping[str, Field], row: str, landed_on: date) -> tuple[dict[str, Any], list[str]]:
    """The values of a row by column, and everything that is wrong with it."""
    try:
        given = json.loads(row, parse_float=str, parse_int=str)
    except (json.JSONDecodeError, RecursionError):
        return {}, ["not_json"]
    if isinstance(given, list):
        return {}, [f"wrong_number_of_fields:{len(given)}"]
    if not isinstance(given, dict):
        return {}, ["not_an_object"]
    made: dict[str, Any] = {field.column: None for field in feed.fields}
    reasons: list[str] = []
    said: set[str] = set()
    for name, value in given.items():
        field = by_name.get(_normal(name))
        if field is None or value is None or (isinstance(value, str) and not value.strip()):
            continue
        if field.column in said:
            reasons.append(f"repeated:{field.column}")
        said.add(field.column)
        try:
            made[field.column] = field.parse(_plain(value))
        except ValueError as error:
            reasons.append(f"{error}:{field.column}")
    reasons += [f"missing:{f.column}" for f in feed.fields if f.column in feed.table.required and f.column not in said]
    if made["day"] is not None and made["day"] > landed_on + timedelta(days=1):
        reasons.append("from_the_future:day")
    return made, reasons


def _plain(value: object) -> str:
    if not isinstance(value, str):
        msg = "wrong_type"
        raise ValueError(msg)
    if any("\ud800" <= character <= "\udfff" for character in value):
        msg = "not_unicode"
        raise ValueError(msg)
    return value.strip()


def _normal(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _expected(feed: Feed) -> str:
    fields = ", ".join(
        field.column + (f" (or {', '.join(field.aliases)})" if field.aliases else "") for field in feed.fields
    )
    return f"A file of {feed.name} has the fields {fields}"
