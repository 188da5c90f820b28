"""How many worlds a test draws that compares with a plain reading of the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings

Test = TypeVar("Test", bound=Callable[..., None])


def drawn(worlds: int, **more: object) -> Callable[[Test], Test]:
    """Draw so many worlds; `make test-slow` runs these tests once more, with five times as many."""

    def decorated(test: Test) -> Test:
        scaled = worlds * settings.default.max_examples // 100  # type: ignore[union-attr]
        return pytest.mark.drawn(settings(max_examples=scaled, **more)(test))  # type: ignore[arg-type, no-any-return]

    return decorated
