"""Duplicates: of several deliveries of one event, the first arrival wins (semantics 2)."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

DUPLICATE_KEY = ("source", "event_id", "client_occurred_at")
"""Two deliveries with the same key are one event, for ever."""

ARRIVAL_ORDER = ("ingested_at", "topic", "epoch", "partition", "offset")
"""First arrival, in this order."""


@dataclass(frozen=True)
class FirstArrivals:
    """What a set of new deliveries does to the events that are there.

    Attributes:
        kept: New deliveries that stand as events.
        duplicates: New deliveries of an event that arrived earlier.
        displaced: Rows that were there, and give way to a new delivery that arrived earlier.
    """

    kept: pl.DataFrame
    duplicates: pl.DataFrame
    displaced: pl.DataFrame


def first_arrivals(new: pl.DataFrame, present: pl.DataFrame) -> FirstArrivals:
    """Tell which deliveries stand.

    Whatever the order and slicing in which deliveries are passed here, in the end the same ones stand: the
    first arrival of each key.

    Args:
        new: Deliveries with `DUPLICATE_KEY` and `ARRIVAL_ORDER`.
        present: The rows that are there and may share a key with a new one; the same columns at least.
            A row that is also among the new ones (same coordinates) is one delivery, not two.

    Returns:
        The new deliveries, each in ``kept`` or ``duplicates``, and the rows to remove.
    """
    present = present.join(new, on=ARRIVAL_ORDER, how="anti")
    columns = [*DUPLICATE_KEY, *ARRIVAL_ORDER]
    arrivals = pl.concat(
        [
            new.select(columns).with_row_index("row").with_columns(is_new=pl.lit(value=True)),
            present.select(columns).with_row_index("row").with_columns(is_new=pl.lit(value=False)),
        ]
    )
    ranked = arrivals.sort(ARRIVAL_ORDER).with_columns(first=pl.struct(DUPLICATE_KEY).is_first_distinct())

    def rows(*, is_new: bool, first: bool) -> pl.Series:
        return ranked.filter((pl.col("is_new") == is_new) & (pl.col("first") == first))["row"].sort()

    return FirstArrivals(
        kept=new[rows(is_new=True, first=True)],
        duplicates=new[rows(is_new=True, first=False)],
        displaced=present[rows(is_new=False, first=False)],
    )
