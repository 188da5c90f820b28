"""What a picture says in words where it has nothing to show."""

from __future__ import annotations

from datetime import date

import pytest

from platform_assets.quality.metadata import none_yet
from platform_assets.semantics.calendar import Interval
from platform_assets.table import Plot

FIRST = date(2026, 11, 13)
"""A Friday."""


@pytest.mark.parametrize(
    ("interval", "needs_end", "last", "told"),
    [
        ("month", True, date(2026, 12, 31), "of 2026-12-01, and has a number when it has ended, from 2027-01-01 on"),
        ("month", True, date(2027, 1, 1), "no number yet"),
        ("month", False, date(2026, 11, 30), "the first month is that of 2026-12-01"),
        ("week", True, date(2026, 11, 20), "of 2026-11-16, and has a number when it has ended, from 2026-11-23 on"),
        ("week", False, date(2026, 11, 16), "no number yet"),
        ("day", False, FIRST, "no number yet"),
    ],
)
def test_an_empty_picture_says_from_when_on_there_is_something(
    interval: Interval, needs_end: bool, last: date, told: str
) -> None:
    said = none_yet(Plot("persons", by="status", interval=interval, needs_end=needs_end), FIRST, last)
    assert said.endswith(told)
    assert (said == "no number yet") == (told == "no number yet")


def test_a_month_that_begins_with_the_first_day_is_whole() -> None:
    plot = Plot("persons", by="status", interval="month")
    assert none_yet(plot, date(2026, 12, 1), date(2026, 11, 30)).endswith("the first month is that of 2026-12-01")
