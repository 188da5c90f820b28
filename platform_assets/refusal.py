"""Why a rebuild is refused."""

from __future__ import annotations


class RebuildRefused(RuntimeError):
    """What a window would be rebuilt from is no longer there; the message says what is gone. Nothing changed."""
