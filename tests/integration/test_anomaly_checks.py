"""Anomalies in a platform: hours are profiled when they are closed, judged once, and warned of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from partitions import Window
from platform_assets.alerts.of_tables import of_checks
from platform_assets.alerts.watched import Watched
from platform_assets.ops import computations
from platform_assets.quality import profiles
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.quality.check import Check, judge_each
from platform_assets.quality.evaluations import new_evaluations
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import events
from platform_assets.tables import WATCHED
from support.alerts import evaluate
from support.platforms import Run
from support.profiled import Count, invent
from support.records import at as instant
from support.records import encoded, event

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 21, tzinfo=UTC)
CHECKS = {check.name: check for check in anomaly_checks([events.TABLE])}
MINUTE = timedelta(minutes=1)


def minute_of(time: datetime) -> float:
    """An instant as events have it in tests."""
    return (time - instant(0)) / MINUTE


def sent(first: datetime, minutes: int) -> list[tuple[bytes, datetime]]:
    """An event every five minutes; each third is sent twice, and each fifth is of three hours before."""
    made = []
    for number in range(0, minutes, 5):
        at = first + number * MINUTE
        occurred = at - 3 * HOUR if number % 25 == 0 else at
        fields = event(f"e{at}", minute_of(occurred), platform=None if number % 10 else "ios", country="DE")
        made += [(encoded(fields), at)] * (2 if number % 15 == 0 else 1)
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six hours of events, and a clock behind them."""
    run = Run.over(tmp_path_factory.mktemp("anomalies"), sent(START, 6 * 60), START + 6 * HOUR)
    run.drain()
    return run


@pytest.fixture
def run(filled: Run, tmp_path: Path) -> Run:
    return filled.copied(tmp_path)


def rows(run: Run, hour: datetime) -> dict[tuple[str, str, str | None], tuple[int, int]]:
    told = run.lake.scan(profiles.TABLE, Window.of_hour(hour)).collect()
    return {
        (row["measure"], row["subject"], row["value"]): (row["rows"], row["of_rows"])
        for row in told.iter_rows(named=True)
    }


def told_of(run: Run, hours: int, changed: dict[int, dict[str, int]]) -> list[datetime]:
    """Put profiles of hours that never were into the lake, up to the newest closed hour; some are changed.

    Args:
        run: The platform.
        hours: How many.
        changed: By how many hours before the last, the rows of a measure.
    """
    last = START + 4 * HOUR
    usual = {"silver": 5_000, "duplicate": 50, "late": 100, "null": 2_500, "value": 3_000}
    made: dict[datetime, list[Count]] = {}
    for back in range(hours):
        ripple = (back * 37) % 11
        told = {**usual, **changed.get(back, {})}
        of = {"silver": told["silver"] + told["duplicate"], "duplicate": told["silver"] + told["duplicate"]}
        for measure, count in told.items():
            subject = {"null": "platform", "value": "country"}.get(measure, "client_events")
            whole = of.get(measure, 5_000)
            values = [("DE", count), ("FR", whole - count)] if measure == "value" else [(None, count)]
            made.setdefault(last - back * HOUR, []).extend(
                (measure, subject, value, n + ripple, whole + ripple) for value, n in values
            )
    invent(run, events.TABLE, made)
    return list(made)


def judge(run: Run, name: str, hour: datetime) -> Verdict:
    check: Check = CHECKS[name]
    return check.judge(run.platform, check.table, Window.of_hour(hour))


def test_closed_hours_are_profiled_and_judged_once(run: Run) -> None:
    sensor = run.sensor("profiling")
    (request,) = run.requested(sensor)
    assert {key.name for key in request.asset_check_keys or () if key.asset_key == events.TABLE.asset_key} == set(
        CHECKS
    )
    assert run.restate(sensor) == [("profile_hours", "2026-11-20-21:00", "2026-11-21-04:00")]
    told, _ = new_evaluations(run.instance, None, START - timedelta(days=1))
    judged = {(t.check, t.partition) for t in told if t.table == events.TABLE.name and t.partition is not None}
    hours = [START + n * HOUR for n in range(-3, 5)]
    assert judged == {(name, f"{hour:%Y-%m-%d-%H:%M}") for name in CHECKS for hour in hours}
    assert all(t.passed for t in told)
    assert {t.description.split(" (")[0] for t in told if t.check == "null_share" and t.partition} >= {
        "0 of 64 hours of series are as usual; 64 not judged: not enough history"
    }


def test_a_profile_counts_what_arrived_and_what_it_is_like(run: Run) -> None:
    run.restate(run.sensor("profiling"))
    # Twelve events an hour arrive: 4 of them twice. By arrival 2 or 3 are late; they are of three hours before.
    hour = START + 2 * HOUR
    told = rows(run, hour)
    silver = run.lake.scan(events.TABLE, Window.of_hour(hour)).collect()
    arrived = run.lake.scan(events.TABLE).filter(pl.col("ingested_at").dt.truncate("1h") == hour).collect()
    assert told["silver", "client_events", None] == (12, 16)
    assert told["duplicate", "client_events", None] == (4, 16)
    late = arrived.filter(pl.col("occurred_at") < hour - HOUR).height
    assert late in (2, 3)
    assert told["late", "client_events", None] == (late, 12)
    assert told["null", "platform", None] == (silver["platform"].null_count(), silver.height)
    assert told["value", "country", "DE"] == (silver.height, silver.height)
    assert told["value", "platform", "ios"] == (silver.height - silver["platform"].null_count(),) * 2
    assert set(profiles.MEASURES) >= {measure for measure, _, _ in told}


def test_a_rebuilt_profile_is_the_same_and_a_late_event_makes_it_stale(run: Run) -> None:
    sensor = run.sensor("profiling")
    run.restate(sensor)
    before = run.lake.scan(profiles.TABLE).collect().sort(pl.all())
    profiles.rebuild(run.platform, Window(START, START + 2 * HOUR), WATCHED)
    assert run.lake.scan(profiles.TABLE).collect().sort(pl.all()).equals(before)
    late = event("late", minute_of(START + HOUR))
    run.send([(encoded(late), START + 6 * HOUR)])
    run.drain()
    assert run.restate(sensor) == []  # not yet: once a day
    run.now += timedelta(days=1)
    (request,) = run.requested(sensor)
    asked = {key.asset_key for key in request.asset_check_keys or ()}
    assert asked == {profiles.TABLE.asset_key}  # without the checks of events: the hour was judged
    done = run.lake.scan(computations.TABLE).filter(table=profiles.TABLE.name).collect().height
    run.restate(sensor)
    assert run.lake.scan(computations.TABLE).filter(table=profiles.TABLE.name).collect().height > done


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("volume", {"silver": 2_500}, "client_events"),
        ("volume", {"silver": 10_000}, "too high"),
        ("volume", {"silver": 0}, "0 rows"),
        ("late_share", {"late": 2_000}, "40"),
        ("duplicate_share", {"duplicate": 2_500}, "client_events"),
        ("null_share", {"null": 5_000}, "platform"),
        ("distribution", {"value": 500}, "country"),
    ],
)
def test_a_fault_in_the_lake_fails_its_check(run: Run, name: str, fault: dict[str, int], said: str) -> None:
    last, before, *_ = told_of(run, 20 * 24, {0: fault})
    failed = judge(run, name, last)
    assert not failed.passed
    assert said in failed.description
    assert f"{last:%Y-%m-%d %H:%M} UTC" in failed.description
    assert "expected" in failed.description
    assert judge(run, name, before).passed
    if name == "null_share":
        assert [other for other in CHECKS if not judge(run, other, last).passed] == [name]


def test_an_hour_that_cannot_be_told_passes_and_says_why(run: Run) -> None:
    open_hour = judge(run, "volume", START + 5 * HOUR)
    assert open_hour.passed
    assert "not closed, or not profiled" in open_hour.description
    last, *_ = told_of(run, 13 * 24, {0: {"silver": 0}})
    young = judge(run, "volume", last)
    assert young.passed
    assert "not enough history" in young.description


def test_of_hours_that_are_judged_together_none_has_the_numbers_of_another(run: Run) -> None:
    last, before, *_ = told_of(run, 20 * 24, {0: {"silver": 5_200}})
    check = CHECKS["volume"]
    alone = check.judged(run.platform, Window.of_hour(last))
    assert (alone.passed, alone.observed) == (True, 5_200)
    together = judge_each(run.platform, check, {f"{hour}": Window.of_hour(hour) for hour in (before, last)})
    assert [(told.passed, told.is_told, told.observed, told.most) for told in together.values()] == [
        (True, True, None, None)
    ] * 2


def test_a_gap_in_the_profiles_is_no_outage(run: Run) -> None:
    """Hours that were not profiled yet are unknown, not silent: what is before them does not count as history."""
    last, *_ = told_of(run, 20 * 24, {0: {"silver": 2_500}})
    gap = last - 5 * 24 * HOUR
    ledger = run.lake.scan(computations.TABLE).filter(table=profiles.TABLE.name).collect()
    whole = ledger.row(-1, named=True)
    handle = run.lake.open(computations.TABLE)
    handle.delete(f"\"table\" = '{profiles.TABLE.name}'")
    for window in (Window(whole["window_start"], gap), Window(gap + HOUR, last + HOUR)):
        run.platform.record(profiles.TABLE, window, events.TABLE, 10**6, 1, 0)
    told = judge(run, "volume", last)
    assert told.passed
    assert "not enough history" in told.description


def test_what_is_told_of_an_anomaly_ends_with_a_later_hour_that_is_as_usual(run: Run) -> None:
    hours = told_of(run, 20 * 24, {1: {"silver": 0}, 2: {"silver": 0}})
    check = CHECKS["volume"]
    watched = Watched(checks=[check.key])
    open_members = []
    for hour in reversed(hours[:4]):
        verdict = judge(run, check.name, hour)
        evaluate(
            run.instance,
            events.TABLE.name,
            check.name,
            passed=verdict.passed,
            partition=f"{hour:%Y-%m-%d-%H:%M}",
            metadata=check.metadata(verdict),
        )
        told, _ = new_evaluations(run.instance, None, START - timedelta(days=1))
        open_members.append([condition.members for condition in of_checks(told, {}, watched)])
    first, second = (f"{hour:%Y-%m-%d-%H:%M}" for hour in (hours[2], hours[1]))
    assert open_members == [[], [(first,)], [(first, second)], []]
    assert check.severity is dg.AssetCheckSeverity.WARN
