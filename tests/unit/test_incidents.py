"""From conditions to what is told: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from platform_assets.alerts import incidents, messages
from platform_assets.alerts.incidents import (
    CONSUMER_LAG,
    EVENTS_LOST,
    EVENTS_SLOW,
    KAFKA_UNREACHABLE,
    KINDS,
    STALE,
    Condition,
    Incident,
    grouped,
    reconcile,
    standing_after,
)
from support.alerts import NOW, changes_of, condition, manner

ROOT = Path(__file__).parents[2]
CAUSE = "check:gold/a:contract"


def told(course: Sequence[tuple[float, Sequence[Condition]]], how: incidents.Manner) -> list[Incident]:
    """What happens as conditions come and go, at minutes."""
    standing: dict[str, Incident] = {}
    history = []
    for minute, conditions in course:
        changes = reconcile(standing, conditions, NOW + timedelta(minutes=minute), how)
        standing = standing_after(standing, changes)
        assert reconcile(standing, conditions, NOW + timedelta(minutes=minute), how) == []
        history += changes
    return history


def test_opened_reminded_and_recovered() -> None:
    course = [(minute, [condition()]) for minute in (0, 10, 239, 240, 300, 480)] + [(500, [])]
    history = told(course, manner())
    assert changes_of(history, CAUSE) == ["opened", "reminded", "reminded", "recovered"]
    assert [change.revision for change in history] == [1, 2, 3, 4]
    assert len({change.incident_id for change in history}) == 1


def test_a_worse_severity_is_told_and_a_better_one_is_not() -> None:
    course = [(0, [condition(severity="warning")]), (1, [condition(severity="error")])]
    course += [(2, [condition(severity="warning")]), (3, [condition(severity="error")]), (4, [condition()])]
    history = told(course, manner())
    assert changes_of(history, CAUSE) == ["opened", "worsened", "updated", "updated"]
    assert [change.severity for change in history] == ["warning", "error", "warning", "error"]


def test_what_flaps_tells_nothing() -> None:
    on, off = [condition()], list[Condition]()
    history = told([(0, on), (1, off), (2, on), (3, off), (4, on), (5, off), (10, off)], manner(recovery_after=3))
    messages_told = [change.change for change in history if change.is_message]
    assert messages_told == ["opened", "recovered"]
    assert changes_of(history, CAUSE) == ["opened", "clearing", "back", "clearing", "back", "clearing", "recovered"]


def test_patience_waits_before_it_tells() -> None:
    patient = [condition(patience=timedelta(minutes=5))]
    assert changes_of(told([(0, patient), (4, patient), (4.5, [])], manner()), CAUSE) == ["seen", "gone"]
    assert changes_of(told([(0, patient), (4, patient), (5, patient)], manner()), CAUSE) == ["seen", "opened"]


def test_what_belongs_to_it_while_patience_waits_is_kept_and_patience_goes_on() -> None:
    lag = condition(patience=timedelta(minutes=5))
    worse = replace(lag, members=("silver/events 2026-02-10-09:00",), severity="error")
    history = told([(0, [replace(lag, severity="warning")]), (2, [worse]), (5, [worse])], manner())
    assert [(change.change, change.members, change.severity) for change in history] == [
        ("seen", (), "warning"),
        ("seen", worse.members, "error"),
        ("opened", worse.members, "error"),
    ]


def test_what_could_not_be_looked_at_does_not_recover() -> None:
    lag = condition("consumer_lag:x", kind=CONSUMER_LAG)
    standing = standing_after({}, reconcile({}, [lag], NOW, manner()))
    later = NOW + timedelta(hours=1)
    assert reconcile(standing, [], later, manner(), unknown={CONSUMER_LAG.name}) == []
    assert [change.change for change in reconcile(standing, [], later, manner())] == ["recovered"]


def test_an_incident_that_comes_again_is_another_one() -> None:
    history = told([(0, [condition()]), (1, []), (2, [condition()])], manner())
    assert changes_of(history, CAUSE) == ["opened", "recovered", "opened"]
    assert history[0].incident_id != history[2].incident_id


def test_who_was_told_of_it_is_told_that_it_is_over() -> None:
    opened = reconcile({}, [condition(severity="warning")], NOW, manner(sinks=("all",)))
    worse = reconcile(standing_after({}, opened), [condition()], NOW, manner(sinks=("all", "errors")))
    over = reconcile(standing_after({}, worse), [], NOW, manner(sinks=()))
    assert [change.sinks for change in (*opened, *worse, *over)] == [("all",), ("all", "errors"), ("all", "errors")]


def test_who_is_new_is_told_of_what_stands_and_of_its_end_and_nobody_else_is_told_again() -> None:
    standing: dict[str, Incident] = {}
    messages_told = []
    course = [(0, ("a",)), (1, ("b",)), (2, ("b",)), (3, ("a", "b", "c")), (4, None)]
    for minute, sinks in course:
        found = [] if sinks is None else [condition()]
        how = manner(sinks=sinks or ())
        changes = reconcile(standing, found, NOW + timedelta(minutes=minute), how)
        standing = standing_after(standing, changes)
        assert reconcile(standing, found, NOW + timedelta(minutes=minute), how) == []
        messages_told += [(minute, change.change, change.sinks) for change in changes if change.is_message]
    assert messages_told == [
        (0, "opened", ("a",)),
        (1, "reminded", ("b",)),
        (3, "reminded", ("c",)),
        (4, "recovered", ("a", "b", "c")),
    ]


def test_two_conditions_of_one_cause_are_refused() -> None:
    with pytest.raises(ValueError, match="group them first"):
        reconcile({}, [condition(), condition()], NOW, manner())


def stale(table: str) -> Condition:
    return condition(f"stale:{table}", kind=STALE, subject=table, members=(table,))


UPSTREAM = {"c": {"b"}, "b": {"a"}, "a": {"stream:s"}, "stream:s": {"kafka"}, "d": {"a", "c"}}


def test_stale_tables_are_one_incident_at_the_first_of_them() -> None:
    found = grouped([stale("d"), stale("c"), stale("a"), stale("elsewhere")], UPSTREAM)
    assert {one.cause: one.members for one in found} == {
        "stale:a": ("a", "c", "d"),
        "stale:elsewhere": ("elsewhere",),
    }


def test_a_cause_is_as_bad_as_what_follows_from_it() -> None:
    above, below = replace(stale("a"), severity="warning"), stale("c")
    (found,) = grouped([above, below], UPSTREAM)
    assert (found.cause, found.severity) == ("stale:a", "error")
    (found,) = grouped([replace(above, severity="critical"), below], UPSTREAM)
    assert found.severity == "critical"


def test_stale_tables_wait_for_kafka_where_it_does_not_answer() -> None:
    kafka = condition("kafka", kind=KAFKA_UNREACHABLE, subject="kafka")
    found = grouped([stale("c"), stale("a"), kafka], UPSTREAM)
    assert {one.cause: one.members for one in found} == {"kafka": ("a", "c")}


def test_events_are_slow_because_a_stream_stands_still_but_lost_for_no_such_reason() -> None:
    slow, lost = (condition(kind.name, kind=kind, subject="c") for kind in (EVENTS_SLOW, EVENTS_LOST))
    kafka = condition("kafka", kind=KAFKA_UNREACHABLE, subject="kafka")
    found = grouped([slow, lost, kafka], UPSTREAM)
    assert {one.cause: one.members for one in found} == {"events_lost": (), "kafka": ("c",)}
    assert grouped([slow], UPSTREAM) == [slow]


def test_what_people_were_told_of_does_not_seem_to_recover() -> None:
    """A table was told to be stale before its upstream was found to be."""
    found = grouped([stale("c"), stale("a")], UPSTREAM, known={"stale:c"})
    assert {one.cause: one.members for one in found} == {"stale:a": ("a",), "stale:c": ("c",)}


def test_rows_are_incidents_again() -> None:
    opened = reconcile({}, [replace(condition(), members=("x", "y"), asset="gold/a")], NOW, manner())
    assert incidents.from_frame(incidents.frame(opened)) == opened


def test_a_message_says_who_where_and_what_first() -> None:
    (opened,) = reconcile({}, [condition(members=tuple(map(str, range(10, 25))))], NOW, manner())
    assert messages.title(opened) == f"[ERROR] {CAUSE} is wrong"
    assert messages.body(opened).splitlines() == [
        "seven of nine",
        "Concerned: 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 5 more",
        "Severity: error",
        "Owner: team:data-platform",
        "Since: 2026-02-10 12:00 UTC",
        "Look: http://ui:3000/assets/gold/a",
        "Runbook: docs/operations.md#alert-a-check-fails",
        f"Incident: {opened.incident_id}",
    ]
    later = NOW + timedelta(days=1, minutes=125)
    (over,) = reconcile({CAUSE: opened}, [], later, manner())
    assert messages.title(over) == f"[RECOVERED] {CAUSE} is wrong"
    assert messages.body(over).splitlines()[:2] == ["It is over, after 1 d 2 h 5 min.", "It was: seven of nine"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_its_section_in_the_runbook(kind: incidents.Kind) -> None:
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    assert f"### {kind.section}" in lines
    assert kind.runbook.startswith("docs/operations.md#alert-")
