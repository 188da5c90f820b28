"""Every dimension."""

from __future__ import annotations

from platform_assets.changes.dimension import Dimension
from platform_assets.gold import orders as order_entries
from platform_assets.silver import devices, experiments, orders, products, users

DIMENSIONS: tuple[Dimension, ...] = (
    users.DIMENSION,
    products.DIMENSION,
    devices.DIMENSION,
    experiments.DIMENSION,
    orders.DIMENSION,
    order_entries.DIMENSION,
)
"""In the order in which they are brought up to date. Those of one source table take the same columns of it."""


def by_source() -> dict[str, Dimension]:
    """A dimension of each source table: what is taken of its rows.

    Raises:
        ValueError: Two of one source table take different columns; what is stored of a row would depend on which.
    """
    found: dict[str, Dimension] = {}
    for dimension in DIMENSIONS:
        first = found.setdefault(dimension.source_table, dimension)
        if (first.key, first.columns) != (dimension.key, dimension.columns):
            msg = (
                f"{first.table.name} and {dimension.table.name} are of one table, {dimension.source_table}: "
                "declare its key and columns once, for both"
            )
            raise ValueError(msg)
    return found
