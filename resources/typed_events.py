"""Events that came with a schema of their own: columns of the writer's, conformed to the envelope.

Columns are matched by name, or by an alias that the writer's schema declares. Types that hold more than the envelope's
narrow where the value allows it; a type that means something else is told for every value that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import polars as pl

from resources.envelope import EVENT_FIELDS, REQUIRED, TIMESTAMPS, with_instants
from resources.wire.framing import Rows
from resources.wire.json_text import as_json

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class Conformed:
    """Events of one writer's schema.

    Attributes:
        events: `EVENT_FIELDS` and ``bad_timestamps``; a row for each row that was given.
        reasons: What is wrong with each row, List(String): ``missing:<field>``, ``wrong_type:<field>``.
    """

    events: pl.DataFrame
    reasons: pl.Series


def conform(rows: Rows, aliases: Mapping[str, str]) -> Conformed:
    """Bring the columns of a writer's schema to the envelope's.

    Args:
        rows: The columns.
        aliases: The envelope's names of columns that neither have them nor an alias of them.
    """
    columns, faults = {}, {}
    for name in EVENT_FIELDS:
        found = _column(rows, name, aliases)
        if found is None:
            columns[name] = pl.Series(name, [None] * rows.frame.height, _stored(name))
        else:
            columns[name] = _fitted(name, found)
            faults[f"wrong_type:{name}"] = found.is_not_null() & columns[name].is_null()
        if name in REQUIRED:
            faults[f"missing:{name}"] = (found if found is not None else columns[name]).is_null()
    columns["properties"] = columns["properties"].fill_null("{}")
    told = [pl.when(is_wrong).then(pl.lit(reason)) for reason, is_wrong in faults.items() if is_wrong.any()]
    reasons = pl.concat_list(pl.lit([], pl.List(pl.String)), *told).list.drop_nulls()
    events = with_instants(pl.DataFrame(columns))
    return Conformed(events, events.select(reasons.alias("reasons")).to_series())


def _column(rows: Rows, name: str, aliases: Mapping[str, str]) -> pl.Series | None:
    """The column of a field; where the format has no absence, an empty text that need not be there is none."""
    others = [column for column in rows.frame.columns if aliases.get(column) == name]
    names = [name, *([rows.aliases[name]] if name in rows.aliases else []), *others]
    source = next((each for each in names if each in rows.frame.columns), None)
    if source is None:
        return None
    column = rows.frame[source].alias(name)
    if rows.schema.kind == "PROTOBUF" and column.dtype == pl.String and name not in REQUIRED:
        return column.replace("", None)
    return column


def _stored(name: str) -> pl.DataType:
    return pl.String() if name in TIMESTAMPS else EVENT_FIELDS[name]


def _fitted(name: str, column: pl.Series) -> pl.Series:
    """A column with the type of a field; null where a value has none of it."""
    wanted, dtype = EVENT_FIELDS[name], column.dtype
    nothing = pl.Series(name, [None] * len(column), _stored(name))
    if name == "properties":
        return _objects(column)
    if name in TIMESTAMPS:
        is_instant = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        return column if is_instant or dtype == pl.String else nothing
    if wanted == pl.String:
        return column.cast(pl.String) if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else nothing
    if wanted.is_integer():
        return column.cast(wanted, strict=False) if dtype.is_integer() else nothing
    return column if dtype == wanted else nothing


def _objects(column: pl.Series) -> pl.Series:
    """Texts of JSON objects, from such texts, structures or maps."""
    if column.dtype != pl.String:
        text = as_json(pl.col(column.name), column.dtype)
        if text is None:
            return pl.Series(column.name, [None] * len(column), pl.String)
        return column.to_frame().select(text.alias(column.name)).to_series()
    return pl.Series(column.name, [value if _is_object(value) else None for value in column], pl.String)


def _is_object(value: str | None) -> bool:
    try:
        return value is not None and _OBJECT.decode(value) is not None
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
