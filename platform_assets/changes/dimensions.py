"""Every dimension."""

from __future__ import annotations

from platform_assets.changes.dimension import Dimension
from platform_assets.silver import devices, experiments, orders, products, users

DIMENSIONS: tuple[Dimension, ...] = (
    users.DIMENSION,
    products.DIMENSION,
    devices.DIMENSION,
    experiments.DIMENSION,
    orders.DIMENSION,
)
"""In the order in which they are brought up to date."""
