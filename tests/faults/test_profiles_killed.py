"""A run that dies between what it profiles and what it judges: the hours are judged by another."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from platform_assets.ops import computations
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.quality.evaluations import new_evaluations
from platform_assets.silver import events
from support.lakes import EventfulLake, Killed, die_at
from support.platforms import Run
from support.records import START as FIRST
from support.records import at, encoded, event

CHECKS = {check.name for check in anomaly_checks([events.TABLE])}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two hours of events, of which one is closed."""
    made = Run.over(tmp_path, ((encoded(event(f"e{n}", n)), at(n)) for n in range(80)), at(90))
    made.drain()
    return made


def judged(run: Run) -> list[tuple[str, str]]:
    """The hours that checks of events told an anomaly by, in order."""
    told, _ = new_evaluations(run.instance, None)
    return sorted(
        (t.partition, t.check) for t in told if t.table == events.TABLE.name and t.check in CHECKS and t.partition
    )


def killed(run: Run, request: dg.RunRequest, moment: str) -> None:
    """Let a run die at a moment, of which Dagster knows what it was asked for, and that it is gone."""
    alive, instance = run.platform, run.instance
    lake = EventfulLake(alive.lake.url)
    die_at(lake, moment)
    run.platform, run.instance = replace(alive, lake=lake), dg.DagsterInstance.ephemeral()
    with pytest.raises(Killed):
        run.launch(request)
    run.platform, run.instance = alive, instance
    gone = create_run_for_test(
        instance,
        job_name=request.job_name,
        tags=dict(request.tags),
        asset_selection=frozenset(request.asset_selection or ()),
        asset_check_selection=frozenset(request.asset_check_keys or ()),
    )
    instance.report_run_failed(gone)


@pytest.mark.parametrize("times", [1, 2])
def test_hours_that_were_profiled_and_not_judged_are_asked_for_again(run: Run, times: int) -> None:
    sensor = run.sensor("profiling")
    (first,) = run.requested(sensor)
    request = first
    for _ in range(times):
        killed(run, request, f"after writing {computations.TABLE.name}")
        assert judged(run) == []
        assert run.requested(sensor) == [], "not at each look"
        run.now += timedelta(minutes=5)
        (request,) = run.requested(sensor)
    assert set(request.asset_check_keys or ()) == set(first.asset_check_keys or ())
    run.launch(request)
    assert judged(run) == [(f"{FIRST:%Y-%m-%d-%H:%M}", name) for name in sorted(CHECKS)]
    run.now += timedelta(minutes=5)
    assert run.requested(sensor) == []


def test_what_was_not_profiled_is_new_still_and_judged_once(run: Run) -> None:
    sensor = run.sensor("profiling")
    (request,) = run.requested(sensor)
    killed(run, request, f"before writing {computations.TABLE.name}")
    run.restate(sensor)
    run.now += timedelta(minutes=5)
    assert run.requested(sensor) == []
    assert judged(run) == [(f"{FIRST:%Y-%m-%d-%H:%M}", name) for name in sorted(CHECKS)]


def test_hours_of_long_ago_are_no_news(run: Run) -> None:
    sensor = run.sensor("profiling")
    (request,) = run.requested(sensor)
    killed(run, request, f"after writing {computations.TABLE.name}")
    run.send((encoded(event(f"late{n}", 1500 + n)), at(1500 + n)) for n in range(90))
    run.drain()
    run.now = at(1600)
    run.restate(sensor)
    assert f"{FIRST:%Y-%m-%d-%H:%M}" not in {hour for hour, _ in judged(run)}
