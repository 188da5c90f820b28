"""From evaluations of checks to what fails now: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import dagster as dg

from platform_assets.alerts.incidents import Incident, reconcile, standing_after
from platform_assets.alerts.of_tables import is_there, of_checks, of_freshness
from platform_assets.alerts.watched import Watched
from platform_assets.quality.evaluations import DUE, Evaluation, Measures
from platform_assets.silver import events
from support.alerts import NOW, manner

Course = list[tuple[str | None, bool]]
KEY = dg.AssetCheckKey(dg.AssetKey(["silver", "events"]), "completeness")
WATCHED = Watched(
    tables={events.TABLE.name: events.TABLE},
    checks=[KEY],
    partitions={events.TABLE.name: dg.DailyPartitionsDefinition("2026-01-01")},
)

OWING = replace(WATCHED, checks=[dg.AssetCheckKey(KEY.asset_key, DUE)])


def said(
    course: Course, *, ends_earlier: bool = False, is_sum: bool = False, check: str = "completeness"
) -> list[Evaluation]:
    """Evaluations of a check, a minute apart."""
    return [
        Evaluation(
            number=number,
            run_id=None,
            table="silver/events",
            check=check,
            partition=partition,
            passed=passed,
            severity="warning",
            description="as the test says",
            at=NOW + timedelta(minutes=number),
            measures=Measures(),
            is_sum=is_sum,
            ends_earlier=ends_earlier,
        )
        for number, (partition, passed) in enumerate(course, 1)
    ]


def failing(course: Course, watched: Watched = WATCHED, *, ends_earlier: bool = False) -> list[tuple[str, ...]]:
    found = of_checks(said(course, ends_earlier=ends_earlier), {}, watched)
    return [condition.members for condition in found]


def test_a_partition_fails_until_it_is_judged_again_and_holds() -> None:
    course = [("2026-02-08", False), ("2026-02-09", False), ("2026-02-09", True), ("2026-02-10", True)]
    assert failing(course) == [("2026-02-08",)]
    assert failing([*course, ("2026-02-08", True)]) == []


def test_of_a_check_of_the_newest_partition_earlier_ones_are_over() -> None:
    course: Course = [("2026-02-08", False), ("2026-02-09", False)]
    assert failing(course, ends_earlier=True) == [("2026-02-09",)]
    assert failing([*course, ("2026-02-10", True)], ends_earlier=True) == []


def test_a_partition_of_the_past_ends_nothing_of_a_newer_one() -> None:
    assert failing([("2026-02-09", False), ("2026-01-01", True)], ends_earlier=True) == [("2026-02-09",)]


def owed(course: Course) -> list[tuple[str, ...]]:
    """The partitions that are told as missing."""
    evaluations = said(course, ends_earlier=True, check=DUE)
    with dg.DagsterInstance.ephemeral() as instance:
        found = of_freshness(instance, evaluations, {}, OWING, NOW)
        return [condition.members for condition in found]


def test_making_an_older_partition_says_nothing_of_the_one_that_is_owed() -> None:
    missing: tuple[str | None, bool] = ("2026-02-10", False)
    assert owed([missing, ("2026-01-01", True)]) == owed([missing]) == [("silver/events 2026-02-10",)]
    assert owed([missing, ("2026-02-10", True)]) == owed([missing, ("2026-02-11", True)]) == []


def test_a_check_may_judge_all_of_a_table_that_has_partitions() -> None:
    assert failing([(None, False)]) == [("all of it",)]
    assert failing([(None, False), (None, True)]) == []
    assert list(of_checks(said([(None, False)], is_sum=True), {}, WATCHED)) == []


def test_what_is_no_longer_there_does_not_fail() -> None:
    course: Course = [("2026-02-08", False), ("2026-02-09", False)]
    begins = {events.TABLE.name: dg.DailyPartitionsDefinition("2026-02-09")}
    assert failing(course, Watched(checks=[KEY], partitions=begins)) == [("2026-02-09",)]
    assert failing(course, Watched()) == []
    wrong_file = Watched(upstream={events.TABLE.name: set()})  # which checks the table has is not known
    assert failing(course, wrong_file) == [("2026-02-08", "2026-02-09")]


def test_a_partition_is_owed_while_its_table_owes_any_and_has_it() -> None:
    due, missing = OWING, said([("2026-02-08", False)], check=DUE)
    later = {events.TABLE.name: dg.DailyPartitionsDefinition("2026-02-09")}
    with dg.DagsterInstance.ephemeral() as instance:

        def stale(standing: dict[str, Incident], told: list[Evaluation], watched: Watched) -> list[str]:
            return [found.cause for found in of_freshness(instance, told, standing, watched, NOW)]

        assert stale({}, missing, due) == ["stale:silver/events"]
        opened = reconcile({}, list(of_freshness(instance, missing, {}, due, NOW)), NOW, manner())
        standing = standing_after({}, opened)
        assert stale(standing, [], due) == ["stale:silver/events"]
        for without in (
            replace(due, checks=[]),
            replace(due, partitions=later),
        ):  # not steady; begins later
            assert stale(standing, [], without) == []
            assert not is_there(opened[0], without)


def test_an_incident_of_what_was_removed_ends_and_says_so() -> None:
    opened = reconcile({}, list(of_checks(said([("2026-02-08", False)]), {}, WATCHED)), NOW, manner(recovery_after=2))
    standing = standing_after({}, opened)
    (incident,) = standing.values()
    assert is_there(incident, WATCHED)
    seen = []
    for minute in (1, 4):
        removed = {cause for cause, one in standing.items() if not is_there(one, Watched())}
        found, now = list(of_checks([], standing, Watched())), NOW + timedelta(minutes=minute)
        (change,) = reconcile(standing, found, now, manner(recovery_after=2), removed=removed)
        standing = standing_after(standing, [change])
        seen.append((change.change, change.seen))
    told = "as the test says (what this is about is no longer there)"
    assert seen == [("clearing", told), ("recovered", told)]
