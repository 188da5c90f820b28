"""Decoded columns as JSON text."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from polars._typing import PolarsDataType

_DAY = 86_400
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""The first day of year 1 and the last of year 9999, in days since 1970."""
_SCALARS = (pl.String, pl.Boolean, pl.Null)


def as_json(value: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A structure or map as the text of a JSON object; null where it is null.

    Instants are RFC 3339 texts, dates and times ISO 8601, decimals texts with all their digits, bytes base64.

    Args:
        value: The column.
        dtype: Its type.

    Returns:
        None where it is no structure or map, or holds something that JSON has no form for.
    """
    if not isinstance(dtype, pl.Struct | pl.Map):
        return None
    ready = _ready(value, dtype)
    if ready is None:
        return None
    if isinstance(dtype, pl.Struct):
        return pl.when(value.is_not_null()).then(ready.struct.json_encode())
    wrapped = pl.struct(ready.alias("m")).struct.json_encode()  # {"m":…}: only structures are encoded
    return pl.when(value.is_not_null()).then(wrapped.str.slice(5, wrapped.str.len_chars() - 6))


def _ready(value: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A column with nothing in it that JSON has no form for, or None."""
    simple = _ready_scalar(value, dtype)
    if simple is not None:
        return simple
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _ready(value.struct.field(field.name), _instance(field.dtype)) for field in dtype.fields}
        if not fields or any(part is None for part in fields.values()):
            return None
        whole = pl.struct(part.alias(name) for name, part in fields.items() if part is not None)
        return pl.when(value.is_not_null()).then(whole)
    if isinstance(dtype, pl.List):
        inner = _ready(pl.element(), _instance(dtype.inner))
        return None if inner is None else value.list.eval(inner)
    if isinstance(dtype, pl.Map):
        inside = _instance(dtype.value)
        return value if dtype.key == pl.String and (inside in _SCALARS or inside.is_numeric()) else None
    return None


def _ready_scalar(value: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if isinstance(dtype, pl.Decimal | pl.Categorical | pl.Enum):
        return value.cast(pl.String)
    if dtype in _SCALARS or dtype.is_numeric():
        return value
    if isinstance(dtype, pl.Datetime):
        zone = "Z" if dtype.time_zone is not None else ""
        second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[dtype.time_unit]
        span = (_FIRST_DAY * _DAY * second, (_LAST_DAY + 1) * _DAY * second - 1)
        return _told(value, span, lambda told: told.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{zone}"))
    if dtype == pl.Date:
        return _told(value, (_FIRST_DAY, _LAST_DAY), lambda told: told.cast(pl.String))
    if dtype == pl.Time:
        return _told(value, (0, _DAY * 10**9 - 1), lambda told: told.dt.to_string("%H:%M:%S%.6f"))
    return value.bin.encode("base64") if dtype == pl.Binary else None


def _told(value: pl.Expr, span: tuple[int, int], text: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """An instant as text; one that lies outside the years 1 to 9999 as the number that it is stored as."""
    number = value.to_physical().cast(pl.Int64)
    believable = pl.when(number.is_between(*span)).then(value)
    return pl.coalesce(text(believable), number.cast(pl.String))


def _instance(dtype: PolarsDataType) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
