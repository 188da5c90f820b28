"""PostHog's insight tests, one test each; a case that is out of scope is skipped with the rule that says so."""

from __future__ import annotations

import pytest

from tests.conformance import product_insights
from tests.conformance.outcome import OutOfScope, shared

_FOLDER = shared() / product_insights.FAMILY
_CASES = list(product_insights.cases(_FOLDER)) if _FOLDER.is_dir() else []


@pytest.mark.skipif(not _CASES, reason=f"no cases in {_FOLDER}")
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_insights_are_theirs(case: product_insights.Case) -> None:
    try:
        product_insights.run(case)
    except OutOfScope as rule:
        pytest.skip(f"out of scope: {rule}")
