"""How much of an hour is in: worked by hand, over a stream whose events come late by habit."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.quality.completeness import is_complete
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import events
from resources.settings import Settings
from support.lakes import drain, new_lake
from support.records import START, at, encoded, event, numbered, source

HOUR = 60
PAST = 6
SETTINGS = Settings(allowed_lateness=timedelta(hours=3), expected_disorder=timedelta(0))


def habit(hour: int, on_time: int, late: int) -> list[tuple[int, datetime, bytes | None]]:
    """An hour's events: some arrive at once, some two hours later."""
    made = []
    for number in range(on_time + late):
        occurred = hour * HOUR + number
        arrives = occurred + (0 if number < on_time else 2 * HOUR)
        fields = event(f"e{hour}-{number}", occurred, arrives, sent=arrives)
        made.append((0, at(arrives), encoded(fields)))
    return made


def judged(folder: Path, hours: list[tuple[int, int]], until: float, hour: int) -> Verdict:
    """The verdict on an hour when what arrived until a minute is in; the watermark stands there."""
    told = [one for number, (on_time, late) in enumerate(hours) for one in habit(number, on_time, late)]
    told = sorted((one for one in told if one[1] < at(until)), key=lambda one: one[1])
    if until > 0:
        told.append((0, at(until), encoded(event("mark", until))))
    platform = Platform(new_lake(folder), SETTINGS)
    drain(platform.lake, source(numbered(told), 1), SETTINGS)
    return is_complete(platform, events.TABLE, Window.of_hour(START + timedelta(hours=hour)))


def test_what_comes_two_hours_late_by_habit_is_missing(tmp_path: Path) -> None:
    """Of each hour two in ten come two hours late: when an hour is ten minutes past, eight in ten are in."""
    verdict = judged(tmp_path, [(8, 2)] * (PAST + 1), (PAST + 1) * HOUR + 10, PAST)
    assert verdict.observed == pytest.approx(0.8)
    assert (verdict.passed, verdict.least, verdict.unit) == (False, 0.95, "share of events")


def test_once_they_have_come_it_is_complete(tmp_path: Path) -> None:
    verdict = judged(tmp_path, [(8, 2)] * (PAST + 1), (PAST + 3) * HOUR + 5, PAST)
    assert (verdict.passed, verdict.observed) == (True, 1)


def test_an_hour_that_the_watermark_has_not_reached_lacks_almost_all(tmp_path: Path) -> None:
    verdict = judged(tmp_path, [(10, 0)] * (PAST + 1), PAST * HOUR + 5, PAST)
    assert (verdict.passed, verdict.observed) == (False, 0)


def test_a_final_hour_is_complete_whatever_the_habit(tmp_path: Path) -> None:
    verdict = judged(tmp_path, [(5, 5)] * 2, 5 * HOUR, 0)
    assert (verdict.passed, verdict.observed) == (True, 1)


@pytest.mark.parametrize(("hours", "until"), [([], 0), ([(5, 0)], HOUR + 1)])
def test_without_a_past_nothing_is_told(tmp_path: Path, hours: list[tuple[int, int]], until: float) -> None:
    verdict = judged(tmp_path, hours, until, 0)
    assert (verdict.passed, verdict.observed) == (True, None)
