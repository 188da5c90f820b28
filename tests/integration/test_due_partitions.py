"""Whether a partition was there when it fell due: an open day that was computed is not yet the day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from partitions import Window
from platform_assets.gold import active_users
from platform_assets.quality.freshness import is_there
from support.platforms import Run
from support.records import START, at, encoded, event

DAY = datetime(2026, 11, 21, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))
MIDNIGHT = (DAY - START) / timedelta(minutes=1)
TABLE = active_users.TABLE


def act(run: Run, *hours: float) -> None:
    """An event at some hours of the day, which arrives when it happens."""
    minutes = [MIDNIGHT + 60 * hour for hour in hours]
    run.send((encoded(event(f"e{minute}", minute)), at(minute)) for minute in minutes)
    run.drain()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A day that was computed at two, when it had an hour of events."""
    made = Run.over(tmp_path, [], DAY + timedelta(hours=2))
    act(made, 1, 1.9)
    made.restate()
    return made


def test_a_day_that_was_computed_while_it_was_open_is_not_there_for_that(run: Run) -> None:
    act(run, 7, 15, 23.9, 24.6)
    run.now = WINDOW.end + TABLE.service_level
    found = is_there(run.platform, TABLE, WINDOW)
    assert not found.passed
    assert found.observed == timedelta(hours=21).total_seconds()
    run.restate()
    assert is_there(run.platform, TABLE, WINDOW).passed


@pytest.mark.parametrize("after", [(), (24.6,)])
def test_it_is_there_where_nothing_happened_any_more(run: Run, after: tuple[float, ...]) -> None:
    act(run, *after)
    run.now = WINDOW.end + TABLE.service_level
    assert is_there(run.platform, TABLE, WINDOW).passed
