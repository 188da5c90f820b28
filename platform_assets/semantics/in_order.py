"""Rows in the order of each key, and what lies before and behind each of them, on any engine.

Polars sorts once; every look is then a pass over the whole frame that stops where another key begins. The other
engines have windows, and put them in order themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import narwhals as nw
import polars as pl

from platform_assets.semantics.engines import Frame, engine_of

_NUMBER, _PLACE = "key_number", "place_in_order"


@dataclass(frozen=True)
class InOrder:
    """Rows in the order of each key.

    Attributes:
        rows: The rows; on Polars they lie in the order, and have columns of our own (`columns_added`).
        key: Columns whose values together make a key; null is a value, too.
        order: Columns, none null, that put the rows of a key in order.
    """

    rows: Frame
    key: tuple[str, ...]
    order: tuple[str, ...]

    columns_added = (_NUMBER, _PLACE)
    """Columns that the rows must not have, and that `told` takes out again."""

    @classmethod
    def of(cls, rows: Frame, key: tuple[str, ...], order: tuple[str, ...]) -> Self:
        """Put rows in order.

        Raises:
            ValueError: They have one of `columns_added`.
        """
        taken = set(cls.columns_added) & set(rows.collect_schema().names())
        if taken:
            msg = f"the rows have the columns {', '.join(sorted(taken))}, which their order needs: leave them out"
            raise ValueError(msg)
        if engine_of(rows) != "polars":
            ones = rows.with_columns(nw.lit(1, nw.Int64).alias(_PLACE))
            count = nw.col(_PLACE).cum_sum().over(*key, order_by=list(order))
            return cls(ones.with_columns(count.cast(nw.Int64).alias(_PLACE)), key, order)
        native: pl.LazyFrame = nw.to_native(rows)
        numbered = native.with_columns(_key_number(native, key).alias(_NUMBER))
        placed = numbered.sort(_NUMBER, *order).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_PLACE))
        return cls(nw.from_native(placed).lazy(), key, order)

    @property
    def told(self) -> Frame:
        """The rows, without what was added to them."""
        return self.rows.drop([_NUMBER, _PLACE], strict=False)

    @property
    def whose(self) -> tuple[str, ...]:
        """The shortest columns to group rows of a key by."""
        return (_NUMBER,) if self._is_sorted else self.key

    @property
    def place(self) -> nw.Expr:
        """A number of each row (Int64), that goes up by one from row to row of a key (where none was filtered out)."""
        return nw.col(_PLACE)

    def with_columns(self, *columns: nw.Expr, **named: nw.Expr) -> Self:
        """Add columns."""
        return replace(self, rows=self.rows.with_columns(*columns, **named))

    def filter(self, *conditions: nw.Expr) -> Self:
        """Some of the rows: those between them are no longer there for what looks before and behind."""
        return replace(self, rows=self.rows.filter(*conditions))

    def before(self, **columns: str) -> Self:
        """Add, by new names, columns of the row before of the same key; null of the first."""
        return self._shifted(1, columns)

    def behind(self, **columns: str) -> Self:
        """Add, by new names, columns of the row behind of the same key; null of the last."""
        return self._shifted(-1, columns)

    def carried(self, **columns: str) -> Self:
        """Add, by new names, the last value that columns have had up to a row of the key, the row's own included."""
        return self._filled("forward", columns)

    def coming(self, **columns: str) -> Self:
        """Add, by new names, the first value that columns have from a row of the key on, the row's own included."""
        return self._filled("backward", columns)

    @property
    def _is_sorted(self) -> bool:
        return engine_of(self.rows) == "polars"

    def _shifted(self, by: int, columns: Mapping[str, str]) -> Self:
        if not self._is_sorted:
            over = {n: nw.col(c).shift(by).over(*self.key, order_by=list(self.order)) for n, c in columns.items()}
            return self.with_columns(**over)
        is_same = pl.col(_NUMBER) == pl.col(_NUMBER).shift(by)
        return self._again({name: pl.when(is_same).then(pl.col(c).shift(by)) for name, c in columns.items()})

    def _filled(self, strategy: Literal["forward", "backward"], columns: Mapping[str, str]) -> Self:
        if not self._is_sorted:
            return self.with_columns(
                **{
                    name: nw.col(c).fill_null(strategy=strategy).over(*self.key, order_by=list(self.order))
                    for name, c in columns.items()
                }
            )
        filled = {}
        for name, column in columns.items():
            value = pl.col(column)
            whose = pl.when(value.is_not_null()).then(_NUMBER).fill_null(strategy=strategy)
            filled[name] = pl.when(whose == pl.col(_NUMBER)).then(value.fill_null(strategy=strategy))
        return self._again(filled)

    def _again(self, columns: Mapping[str, pl.Expr]) -> Self:
        native: pl.LazyFrame = nw.to_native(self.rows)
        return replace(self, rows=nw.from_native(native.with_columns(**columns)).lazy())


def _key_number(rows: pl.LazyFrame, key: tuple[str, ...]) -> pl.Expr:
    """A number for each key: whole numbers are sorted and compared in a fraction of the time that texts take."""
    schema = rows.collect_schema()
    texts = [pl.col(name) for name in key]
    if len(key) > 2 or any(schema[name] != pl.String for name in key):
        texts = [pl.struct(key).struct.json_encode()]
    numbers = [text.cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1) for text in texts]
    return numbers[0] if len(numbers) == 1 else numbers[0] * 2**32 + numbers[1]
