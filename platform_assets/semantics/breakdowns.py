"""What numbers that are split by properties have in common: how values travel together, and those beyond a limit."""

from __future__ import annotations

from collections.abc import Sequence

import narwhals as nw

OTHER = "$other"
"""What the values beyond a limit are called, all of them together; a value that is this very text is one of them."""

BETWEEN, MISSING = "\x1f", "\x1e"
"""What no property has: it stands between the values of several properties in one text, and for a missing one."""


def as_one_text(values: Sequence[nw.Expr]) -> nw.Expr:
    """Several texts as one, never null, the same for the same values only."""
    return nw.concat_str([value.fill_null(MISSING) for value in values], separator=BETWEEN)
