"""Bulk decoding in which one bad message spoils nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

_EXAMINED_AT_ONCE = 256
"""Where so few messages fail together, each is looked at by the decoder that takes one at a time."""

Bulk = Callable[[Sequence[bytes]], pl.DataFrame | None]
"""Decodes messages, a row each; None where it cannot."""


def isolated(
    payloads: Sequence[bytes], bulk: Bulk, is_good: Callable[[bytes], bool]
) -> tuple[list[int], list[pl.DataFrame]]:
    """Decode messages in as few calls as the bad ones among them allow.

    Args:
        payloads: The messages.
        bulk: Decodes many at a time.
        is_good: Whether one message decodes, as another decoder has it, which is quicker with one at a time. It only
            says where to look: what becomes of a message is decided by ``bulk``, and so never by its neighbours.

    Returns:
        The indexes of those that decode, and their rows in the same order, in parts.
    """
    good: list[int] = []
    parts: list[pl.DataFrame] = []

    def take(indexes: Sequence[int], *, examined: bool) -> None:
        if not indexes:
            return
        rows = bulk([payloads[index] for index in indexes])
        if rows is not None:
            good.extend(indexes)
            parts.append(rows)
        elif 1 < len(indexes) <= _EXAMINED_AT_ONCE and not examined:
            doubted = [index for index in indexes if not is_good(payloads[index])]
            take([index for index in indexes if index not in set(doubted)], examined=True)
            for index in doubted:
                take([index], examined=True)
        elif len(indexes) > 1:
            half = len(indexes) // 2
            take(indexes[:half], examined=examined)
            take(indexes[half:], examined=examined)

    take(range(len(payloads)), examined=False)
    return good, parts
