"""ClickHouse's `windowFunnel` tests, one test each; one that semantics 7 decides otherwise is skipped with the rule."""

from __future__ import annotations

import pytest

from tests.conformance import window_funnel
from tests.conformance.outcome import OutOfScope, shared

_FOLDER = shared() / window_funnel.FAMILY
_CASES = list(window_funnel.cases(_FOLDER)) if _FOLDER.is_dir() else []


@pytest.mark.skipif(not _CASES, reason=f"no cases in {_FOLDER}")
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_levels_are_theirs(case: window_funnel.Case) -> None:
    try:
        window_funnel.run(case)
    except OutOfScope as rule:
        pytest.skip(f"out of scope: {rule}")
