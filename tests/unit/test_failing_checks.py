"""From evaluations of checks to what fails now: pure."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.alerts.of_tables import of_checks
from platform_assets.alerts.watched import Watched
from platform_assets.quality.evaluations import Evaluation, Measures
from support.alerts import NOW


def said(course: list[tuple[str | None, bool]], *, ends_earlier: bool) -> list[Evaluation]:
    """Evaluations of a check, a minute apart."""
    return [
        Evaluation(
            number=number,
            run_id=None,
            table="silver/events",
            check="completeness",
            partition=partition,
            passed=passed,
            severity="warning",
            description="as the test says",
            at=NOW + timedelta(minutes=number),
            measures=Measures(),
            ends_earlier=ends_earlier,
        )
        for number, (partition, passed) in enumerate(course, 1)
    ]


def failing(course: list[tuple[str | None, bool]], *, ends_earlier: bool = False) -> list[tuple[str, ...]]:
    found = of_checks(said(course, ends_earlier=ends_earlier), {}, Watched({}, {}))
    return [condition.members for condition in found]


def test_a_partition_fails_until_it_is_judged_again_and_holds() -> None:
    course = [("2026-02-08", False), ("2026-02-09", False), ("2026-02-09", True), ("2026-02-10", True)]
    assert failing(course) == [("2026-02-08",)]
    assert failing([*course, ("2026-02-08", True)]) == []


def test_of_a_check_of_the_newest_partition_earlier_ones_are_over() -> None:
    course: list[tuple[str | None, bool]] = [("2026-02-08", False), ("2026-02-09", False)]
    assert failing(course, ends_earlier=True) == [("2026-02-09",)]
    assert failing([*course, ("2026-02-10", True)], ends_earlier=True) == []


def test_a_partition_of_the_past_ends_nothing_of_a_newer_one() -> None:
    assert failing([("2026-02-09", False), ("2026-01-01", True)], ends_earlier=True) == [("2026-02-09",)]
