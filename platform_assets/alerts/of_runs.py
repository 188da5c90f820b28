"""What is wrong with runs and backfills: those that failed, until what they were to do is done by whomever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from platform_assets.alerts import incidents
from platform_assets.alerts.incidents import Condition, Incident
from platform_assets.alerts.watched import LONGEST_SEEN, OWNER, Watched

_PAGE = 1_000
_MOST_RUNS = 200
_MOST_BACKFILLS = 50
_ASSET_JOB = "__ASSET_JOB"
_BACKFILL_TAG = "dagster/backfill"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_FAILED_BACKFILL = ("FAILED", "COMPLETED_FAILED")


def of_runs(
    instance: dg.DagsterInstance, standing: Mapping[str, Incident], watched: Watched, not_before: datetime
) -> Iterator[Condition]:
    """One condition a job whose newest run that ended failed; of runs of assets, until these are materialized."""
    failed = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=not_before), limit=_MOST_RUNS
    )
    known = [m for i in standing.values() if i.kind == incidents.RUN_FAILED.name for m in i.members]
    if known:
        failed = [*failed, *instance.get_run_records(dg.RunsFilter(run_ids=known))]
    newest: dict[str, dg.RunRecord] = {}
    for record in sorted(failed, key=lambda r: r.storage_id):
        if _BACKFILL_TAG not in record.dagster_run.tags:  # told with its backfill
            newest[_run_cause(record.dagster_run)] = record
    for cause, record in newest.items():
        run = record.dagster_run
        if _is_mended(instance, record):
            continue
        incident = standing.get(cause)
        is_new = incident is None or run.run_id not in incident.members
        assets = sorted("/".join(key.path) for key in run.asset_selection or ())
        owners = {watched.owner(table) for table in assets} or {OWNER}
        what = ", ".join(assets[:3]) + (f" and {len(assets) - 3} more" if len(assets) > 3 else "")
        yield Condition(
            cause=cause,
            kind=incidents.RUN_FAILED,
            severity="error",
            owner=", ".join(sorted(owners)),
            title=f"run of {what} failed" if _is_of_assets(run) and assets else f"run of {run.job_name} failed",
            seen=_why(instance, run.run_id) if incident is None or is_new else incident.seen,
            since=incident.since if incident is not None else _ended_at(record),
            path=f"/runs/{run.run_id}",
            asset=assets[0] if len(assets) == 1 else None,
            members=(run.run_id,),
        )


def _is_of_assets(run: dg.DagsterRun) -> bool:
    return run.job_name == _ASSET_JOB


def _run_cause(run: dg.DagsterRun) -> str:
    if not _is_of_assets(run):
        return f"run:{run.job_name}"
    return "run:" + ",".join(sorted("/".join(key.path) for key in run.asset_selection or ()))


def _is_mended(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    run = record.dagster_run
    if _is_of_assets(run) and run.asset_selection:
        began = record.create_timestamp.timestamp()
        found = instance.get_asset_records(list(run.asset_selection))
        times = [r.asset_entry.last_materialization_record for r in found]
        done = [t for t in times if t is not None and t.event_log_entry.timestamp > began]
        # Materialized by another run: what this one materialized before it failed does not count.
        done = [t for t in done if t.event_log_entry.run_id != run.run_id]
        return len(done) == len(run.asset_selection)
    newest = instance.get_run_records(dg.RunsFilter(job_name=run.job_name, statuses=_ENDED), limit=1)
    return bool(newest) and newest[0].dagster_run.status is dg.DagsterRunStatus.SUCCESS


def _ended_at(record: dg.RunRecord) -> datetime:
    return record.create_timestamp if record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """What a run failed of: the error at the bottom of its first failed step, or of the run."""
    kinds = {DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        error = getattr(None if event is None else event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return str(error.message).strip()[:LONGEST_SEEN]
        if event is not None and event.message:
            return event.message[:LONGEST_SEEN]
    return "the run failed without a word: its process died"


def of_backfills(
    instance: dg.DagsterInstance, standing: Mapping[str, Incident], watched: Watched, not_before: datetime
) -> Iterator[Condition]:
    """One condition a backfill that failed, until what it was to materialize is materialized by whomever."""
    newest = instance.get_backfills(limit=_MOST_BACKFILLS)
    known = {m for i in standing.values() if i.kind == incidents.BACKFILL_FAILED.name for m in i.members}
    known -= {backfill.backfill_id for backfill in newest}
    old = [backfill for id_ in sorted(known) if (backfill := instance.get_backfill(id_)) is not None]
    for backfill in [*newest, *old]:
        is_known = f"backfill:{backfill.backfill_id}" in standing
        if backfill.status.value not in _FAILED_BACKFILL:
            continue
        if backfill.backfill_timestamp < not_before.timestamp() and not is_known:
            continue
        missing = _missing(instance, backfill)
        if missing == 0:
            continue
        assets = sorted("/".join(key.path) for key in backfill.asset_selection or ())
        owners = {watched.owner(table) for table in assets} or {OWNER}
        error = "some of its runs failed" if backfill.error is None else backfill.error.message.strip()
        what = ", ".join(assets[:3]) or "a job"
        ended = backfill.backfill_end_timestamp or backfill.backfill_timestamp
        yield Condition(
            cause=f"backfill:{backfill.backfill_id}",
            kind=incidents.BACKFILL_FAILED,
            severity="error",
            owner=", ".join(sorted(owners)),
            title=f"backfill of {what} failed",
            seen=f"{error[:LONGEST_SEEN]}; {missing} partitions are not materialized",
            since=datetime.fromtimestamp(ended, UTC),
            path=f"/runs/b/{backfill.backfill_id}",
            asset=assets[0] if len(assets) == 1 else None,
            members=(backfill.backfill_id,),
        )


def _missing(instance: dg.DagsterInstance, backfill: Any) -> int:
    """How many partitions of a backfill nobody has materialized since it began.

    Of a job's backfill it is not known which assets it was to materialize: all are missing until the same job is
    backfilled over the same partitions with success.
    """
    began: float = backfill.backfill_timestamp
    if backfill.asset_backfill_data is None:
        names = set(backfill.partition_names or ())
        later = [
            b
            for b in instance.get_backfills(limit=_MOST_BACKFILLS)
            if b.backfill_timestamp > began
            and b.status.value == "COMPLETED_SUCCESS"
            and b.job_name == backfill.job_name
        ]
        return len(names.difference(*(b.partition_names or () for b in later)))
    wanted: dict[dg.AssetKey, set[str | None]] = {}
    for target in backfill.asset_backfill_data.target_subset.iterate_asset_partitions():
        wanted.setdefault(target.asset_key, set()).add(target.partition_key)
    return sum(len(partitions - _materialized(instance, key, began)) for key, partitions in wanted.items())


def _materialized(instance: dg.DagsterInstance, key: dg.AssetKey, since: float) -> set[str | None]:
    """The partitions of an asset that were materialized since an instant."""
    done: set[str | None] = set()
    cursor: str | None = None
    while True:
        wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=since)
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        done |= {record.partition_key for record in page.records}
        if not page.has_more:
            return done
        cursor = page.cursor
