"""What is wrong with runs and backfills: those that failed, until what they were to do is done by whomever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from platform_assets.alerts import incidents
from platform_assets.alerts.incidents import Condition, Incident
from platform_assets.alerts.watched import LONGEST_SEEN, OWNER, Watched

_PAGE = 1_000
_ASSET_JOB = "__ASSET_JOB"
_BACKFILL_TAG = "dagster/backfill"
_ROOT_TAG = "dagster/root_run_id"
_PARTITION_TAG = "dagster/partition"
_FIRST_TAG = "dagster/asset_partition_range_start"
_LAST_TAG = "dagster/asset_partition_range_end"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_FAILED_BACKFILL = ("FAILED", "COMPLETED_FAILED")


def of_runs(
    instance: dg.DagsterInstance, standing: Mapping[str, Incident], watched: Watched, not_before: datetime
) -> Iterator[Condition]:
    """One condition a job whose newest run that ended failed; of runs of assets, until these are materialized."""
    failed = list(_failed(instance, not_before))
    known = [m for i in standing.values() if i.kind == incidents.RUN_FAILED.name for m in i.members]
    if known:
        failed = [*failed, *instance.get_run_records(dg.RunsFilter(run_ids=known))]
    newest: dict[tuple[str, tuple[str, str] | None], dg.RunRecord] = {}
    for record in sorted(failed, key=lambda r: r.storage_id):
        if _BACKFILL_TAG not in record.dagster_run.tags:  # told with its backfill
            newest[_run_cause(record.dagster_run), _asked(record.dagster_run)] = record
    told: set[str] = set()
    for (cause, _), record in sorted(newest.items(), key=lambda item: item[1].storage_id, reverse=True):
        run = record.dagster_run
        if cause in told or not is_there(cause, watched) or _is_mended(instance, record, watched):
            continue
        told.add(cause)
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
            title=f"run of {what} failed" if _is_of_assets(run) else f"run of {run.job_name} failed",
            seen=_why(instance, run.run_id) if incident is None or is_new else incident.seen,
            since=incident.since if incident is not None else _ended_at(record),
            path=f"/runs/{run.run_id}",
            asset=assets[0] if len(assets) == 1 else None,
            members=(run.run_id,),
        )


def is_there(cause: str, watched: Watched) -> bool:
    """Whether the job, or one of the assets, of an incident of a run is still there."""
    _, _, names = cause.partition(":")
    return any(watched.runs(name) for name in names.split(","))


def _failed(instance: dg.DagsterInstance, not_before: datetime) -> Iterator[dg.RunRecord]:
    """Every run that failed since an instant."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=not_before)
    cursor: str | None = None
    while page := instance.get_run_records(wanted, limit=_PAGE, cursor=cursor):
        yield from page
        cursor = page[-1].dagster_run.run_id


def _is_of_assets(run: dg.DagsterRun) -> bool:
    return run.job_name == _ASSET_JOB and bool(run.asset_selection)


def _run_cause(run: dg.DagsterRun) -> str:
    if not _is_of_assets(run):
        return f"run:{run.job_name}"
    return "run:" + ",".join(sorted("/".join(key.path) for key in run.asset_selection or ()))


def _asked(run: dg.DagsterRun) -> tuple[str, str] | None:
    """The first and the last partition that a run of assets was to make; None where it does not say."""
    first, last = (run.tags.get(tag, run.tags.get(_PARTITION_TAG)) for tag in (_FIRST_TAG, _LAST_TAG))
    return None if first is None or last is None or not _is_of_assets(run) else (first, last)


def _is_mended(instance: dg.DagsterInstance, record: dg.RunRecord, watched: Watched) -> bool:
    """Whether a re-execution succeeded since, or the newest run of the job; of assets, whether they were made since."""
    run = record.dagster_run
    again = {_ROOT_TAG: run.root_run_id or run.run_id}
    done = instance.get_run_records(dg.RunsFilter(tags=again, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    if done and done[0].storage_id > record.storage_id:
        return True
    if _is_of_assets(run):
        there = [key for key in run.asset_selection or () if watched.runs("/".join(key.path))]
        return all(_is_made(instance, record, key, watched) for key in there)
    newest = instance.get_run_records(dg.RunsFilter(job_name=run.job_name, statuses=_ENDED), limit=1)
    return bool(newest) and newest[0].dagster_run.status is dg.DagsterRunStatus.SUCCESS


def _is_made(instance: dg.DagsterInstance, record: dg.RunRecord, key: dg.AssetKey, watched: Watched) -> bool:
    """Whether another run made of an asset what a run was to make: its partitions, where it says which.

    What the run made itself before it failed does not count.
    """
    run, name = record.dagster_run, "/".join(key.path)
    wanted = _partitions(_asked(run), watched.partitions.get(name), watched.first_partition(name))
    made = _materialized(instance, key, record.create_timestamp.timestamp(), wanted, but_by=run.run_id)
    return bool(made) if wanted is None else made.issuperset(wanted)


def _partitions(
    asked: tuple[str, str] | None, definition: dg.TimeWindowPartitionsDefinition | None, first_there: str
) -> list[str] | None:
    """The partitions of an asset that were asked for and are still there; None where it has none, or none were."""
    if definition is None or asked is None:
        return None
    first, last = max(asked[0], first_there), asked[1]
    return [] if last < first else list(definition.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))


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
    newest = list(_backfills(instance, not_before.timestamp()))
    known = {m for i in standing.values() if i.kind == incidents.BACKFILL_FAILED.name for m in i.members}
    known -= {backfill.backfill_id for backfill in newest}
    old = [backfill for id_ in sorted(known) if (backfill := instance.get_backfill(id_)) is not None]
    for backfill in [*newest, *old]:
        if backfill.status.value not in _FAILED_BACKFILL:
            continue
        missing = _missing(instance, backfill, watched)
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


def _backfills(instance: dg.DagsterInstance, since: float) -> Iterator[Any]:
    """The backfills that began since an instant, in seconds of the epoch."""
    cursor: str | None = None
    while page := instance.get_backfills(cursor=cursor, limit=_PAGE):
        for backfill in page:
            if backfill.backfill_timestamp < since:  # the newest come first
                return
            yield backfill
        cursor = page[-1].backfill_id


def _missing(instance: dg.DagsterInstance, backfill: Any, watched: Watched) -> int:
    """How many partitions of a backfill, of what is still there, nobody has materialized since it began.

    Of a job's backfill it is not known which assets it was to materialize: all are missing until the same job is
    backfilled over the same partitions with success.
    """
    began: float = backfill.backfill_timestamp
    if backfill.asset_backfill_data is None:
        if not watched.runs(backfill.job_name):
            return 0
        later = [
            b
            for b in _backfills(instance, began)
            if b.status.value == "COMPLETED_SUCCESS" and b.job_name == backfill.job_name
        ]
        return len(set(backfill.partition_names or ()).difference(*(b.partition_names or () for b in later)))
    targets: dict[dg.AssetKey, set[str | None]] = {}
    for target in backfill.asset_backfill_data.target_subset.iterate_asset_partitions():
        name = "/".join(target.asset_key.path)
        if watched.runs(name) and (target.partition_key or "") >= watched.first_partition(name):
            targets.setdefault(target.asset_key, set()).add(target.partition_key)
    return sum(len(partitions - _materialized(instance, key, began)) for key, partitions in targets.items())


def _materialized(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    since: float,
    partitions: Sequence[str] | None = None,
    but_by: str | None = None,
) -> set[str | None]:
    """The partitions of an asset that were materialized since an instant; None stands for one that has none.

    Args:
        instance: Dagster's.
        key: The asset.
        since: The instant, in seconds of the epoch.
        partitions: Those that are asked about; all where None.
        but_by: The id of a run whose materializations do not count.
    """
    done: set[str | None] = set()
    cursor: str | None = None
    while True:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions, after_timestamp=since)
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        done |= {record.partition_key for record in page.records if record.run_id != but_by}
        if not page.has_more:
            return done
        cursor = page.cursor
