"""Mozilla's tables of activity, one test each; a case that is out of scope is skipped with the rule that says so."""

from __future__ import annotations

import pytest

from tests.conformance import activity_tables
from tests.conformance.outcome import OutOfScope, shared

_FOLDER = shared() / activity_tables.FAMILY
_CASES = list(activity_tables.cases(_FOLDER)) if _FOLDER.is_dir() else []


@pytest.mark.skipif(not _CASES, reason=f"no cases in {_FOLDER}")
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_tables_are_theirs(case: activity_tables.Case) -> None:
    try:
        activity_tables.run(case)
    except OutOfScope as rule:
        pytest.skip(f"out of scope: {rule}")
