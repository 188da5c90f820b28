"""Bulk decoding in which one bad message spoils nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

_ALONE = 16
"""So few messages that fail together are decoded one by one."""

Bulk = Callable[[Sequence[bytes]], pl.DataFrame | None]
"""Decodes messages, a row each; None where it cannot."""


def isolated(payloads: Sequence[bytes], bulk: Bulk) -> tuple[list[int], list[pl.DataFrame]]:
    """Decode messages in as few calls as the bad ones among them allow.

    What becomes of a message depends on it alone: it is bad if it cannot be decoded alone.

    Returns:
        The indexes of those that decode, in order, and their rows, in parts.
    """
    good: list[int] = []
    parts: list[pl.DataFrame] = []

    def take(indexes: Sequence[int]) -> None:
        if not indexes:
            return
        rows = bulk([payloads[index] for index in indexes])
        if rows is not None:
            good.extend(indexes)
            parts.append(rows)
        elif len(indexes) > 1:
            size = 1 if len(indexes) <= _ALONE else -(-len(indexes) // 2)
            for first in range(0, len(indexes), size):
                take(indexes[first : first + size])

    take(range(len(payloads)))
    return good, parts
