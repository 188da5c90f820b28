"""gbstats' cases, one test each."""

from __future__ import annotations

import pytest

from tests.conformance.experiment_statistics import FAMILY, Case, cases, run
from tests.conformance.outcome import OutOfScope, shared

CASES = dict(cases(shared() / FAMILY))


@pytest.mark.skipif(bool(CASES), reason="the cases are here")
def test_absent() -> None:
    pytest.skip(f"no cases of {FAMILY} in {shared()}: set HEADWATER_CONFORMANCE to the folder of the families")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_case(case: Case) -> None:
    try:
        run(case)
    except OutOfScope as rule:
        pytest.skip(f"out of scope: {rule}")
