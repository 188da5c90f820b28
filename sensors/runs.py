"""Which runs of a job are under way: what a sensor asks before it asks for another."""

from __future__ import annotations

import dagster as dg

ALIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""The states of a run that has not ended."""


def is_under_way(instance: dg.DagsterInstance, *jobs: str) -> bool:
    """Whether a run of one of some jobs has not ended yet."""
    return any(instance.get_runs(dg.RunsFilter(job_name=job, statuses=ALIVE), limit=1) for job in jobs)


def was_last(instance: dg.DagsterInstance, job: str, other: str) -> bool:
    """Whether the newest run of a job is newer than the newest of another."""
    newest, rival = (instance.get_run_records(dg.RunsFilter(job_name=name), limit=1) for name in (job, other))
    return bool(newest) and (not rival or newest[0].create_timestamp > rival[0].create_timestamp)
