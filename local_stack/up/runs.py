"""Dagster's runs when the stack starts and stops: left ones are ended, those in progress are canceled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import dagster as dg

from local_stack.instance import instance_of
from local_stack.up.running import Running

_CANCEL_SECONDS = 5.0


def make_instance(running: Running) -> None:
    """Make Dagster's databases, once, before anything uses them: two processes at it at once break them."""
    with instance_of(running.stack.dagster_home) as instance:
        instance.get_run_ids(limit=1)
        instance.get_asset_keys(limit=1)


def cancel_in_order(running: Running) -> None:
    """Ask Dagster to cancel the runs in progress, as a person would; give them a moment."""
    with instance_of(running.stack.dagster_home) as instance:
        cancel_runs(instance)
        deadline = time.monotonic() + _CANCEL_SECONDS
        while _in_progress(instance) and time.monotonic() < deadline and not running.signals.hurry:
            time.sleep(0.2)


def cancel_runs(instance: dg.DagsterInstance) -> None:
    """Ask Dagster to cancel the runs that are executed; those that have not begun are canceled at once.

    Asked to cancel one that has not begun, Dagster ends its process and then calls it failed, which is an alert.
    """
    for run in _in_progress(instance):
        if run.status is dg.DagsterRunStatus.STARTED:
            with suppress(dg.DagsterInvariantViolationError):
                instance.run_launcher.terminate(run.run_id)
        elif run.status is not dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message="The stack was stopped before the run began.")


def end_dead_runs(running: Running, why: str) -> None:
    """Mark the runs that nothing executes any more: else they would hold their pool's slot for ever."""
    with instance_of(running.stack.dagster_home) as instance:
        for run in _in_progress(instance):
            instance.report_run_canceled(run, message=f"The run {why}. What it committed counts.")
            running.told.line(f"run {run.run_id[:8]} of {run.job_name} {why}")


def _in_progress(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """The runs that something executes, or was about to."""
    status = dg.DagsterRunStatus
    statuses = [status.NOT_STARTED, status.STARTING, status.STARTED, status.CANCELING]
    return instance.get_runs(dg.RunsFilter(statuses=statuses))
