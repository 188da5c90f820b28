"""What is wrong with tables: checks that fail, and what is not there in time.

Of the evaluations of checks Dagster cannot be asked the newest of every partition at a price that a tick may have:
these are followed by a cursor, and which partitions fail is kept in the incident itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from platform_assets.alerts import incidents
from platform_assets.alerts.incidents import Condition, Incident
from platform_assets.alerts.watched import LONGEST_SEEN, Watched
from platform_assets.quality.evaluations import DUE, Evaluation
from resources.settings import Severity

_ALL_OF_IT = "all of it"
_STALE: dict[str, Severity] = {"WARN": "warning", "FAIL": "error"}


def of_checks(
    evaluations: Sequence[Evaluation], standing: Mapping[str, Incident], watched: Watched
) -> Iterator[Condition]:
    """One condition a check that fails for some partition: those that failed, but for those that passed since."""
    failing, newest = _failing(evaluations, standing)
    for cause, judged in failing.items():
        _, table, name = cause.split(":")
        members = {member: at for member, at in judged.items() if watched.judges(table, name, _partition(member))}
        if not members:
            continue
        known, last = standing.get(cause), newest.get(cause)
        severity: Severity = "error"
        seen = ""
        if last is not None:
            severity, seen = last.severity, last.description
        elif known is not None:
            severity, seen = known.severity, known.seen
        yield Condition(
            cause=cause,
            kind=incidents.CHECK_FAILED,
            severity=severity,
            owner=watched.owner(table),
            title=f"{table}: check {name} fails",
            seen=seen[:LONGEST_SEEN],
            since=known.since if known is not None else members[min(members)],
            path=f"/assets/{table}?view=checks",
            asset=table,
            subject=table,
            members=tuple(sorted(members)),
        )


def of_freshness(
    instance: dg.DagsterInstance,
    evaluations: Sequence[Evaluation],
    standing: Mapping[str, Incident],
    watched: Watched,
    now: datetime,
) -> Iterator[Condition]:
    """One condition a table that is stale, by its freshness or because the partition that it owes is missing."""
    owing = {
        table: partition
        for incident in standing.values()
        for table, space, partition in (member.partition(" ") for member in incident.members)
        if space and table in watched.tables
    }
    told: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        if evaluation.check == DUE and evaluation.partition is not None:
            if evaluation.partition < owing.get(evaluation.table, ""):
                continue  # a run that made an older partition says nothing of the one that is owed
            owing.pop(evaluation.table, None)  # only the newest counts: it judges the newest partition that is due
            if not evaluation.passed:
                owing[evaluation.table] = evaluation.partition
                told[evaluation.table] = evaluation
    keys = {table.asset_key: name for name, table in watched.tables.items() if table.steady and table.partitions}
    for key, record in instance.get_freshness_state_records(list(keys)).items():
        severity = _STALE.get(record.freshness_state.value)
        if severity is not None:
            missing = owing.pop(keys[key], None)
            what = f"it was not materialized within its service level (state {record.freshness_state.value})"
            what += f"; partition {missing} is missing" if missing else ""
            yield _stale(keys[key], severity, what, record.updated_at, missing, watched)
    for table, partition in owing.items():
        if not watched.judges(table, DUE, partition):
            continue
        known, evaluation_told = standing.get(f"stale:{table}"), told.get(table)
        described = evaluation_told.description if evaluation_told is not None else "the partition is missing"
        since = known.since if known is not None else evaluation_told.at if evaluation_told is not None else now
        yield _stale(table, "error", f"partition {partition}: {described}", since, partition, watched)


def is_there(incident: Incident, watched: Watched) -> bool:
    """Whether there still is what an incident of a check, or of a stale table, is about."""
    if incident.kind == incidents.CHECK_FAILED.name:
        _, table, name = incident.cause.split(":")
        return any(watched.judges(table, name, _partition(member)) for member in incident.members)
    owed = (member.partition(" ") for member in incident.members)
    return any(watched.judges(table, DUE, partition or None) for table, _, partition in owed)


def _partition(member: str) -> str | None:
    return None if member == _ALL_OF_IT else member


def _failing(
    evaluations: Sequence[Evaluation], standing: Mapping[str, Incident]
) -> tuple[dict[str, dict[str, datetime]], dict[str, Evaluation]]:
    """By cause the members that fail, with when that was first seen; and the newest failure."""
    failing = {
        cause: dict.fromkeys(incident.members, incident.since)
        for cause, incident in standing.items()
        if incident.kind == incidents.CHECK_FAILED.name
    }
    newest: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        # Of a range each partition is recorded, and the sum for none: the sum would never pass again.
        if evaluation.check == DUE or evaluation.is_sum:
            continue
        cause = f"check:{evaluation.table}:{evaluation.check}"
        member = evaluation.partition or _ALL_OF_IT
        members = failing.setdefault(cause, {})
        members.pop(member, None)
        if evaluation.ends_earlier:
            for earlier in [known for known in members if known < member]:
                del members[earlier]
        if not evaluation.passed:
            members[member] = evaluation.at
            newest[cause] = evaluation
    return failing, newest


def _stale(
    table: str, severity: Severity, seen: str, since: datetime, missing: str | None, watched: Watched
) -> Condition:
    return Condition(
        cause=f"stale:{table}",
        kind=incidents.STALE,
        severity=severity,
        owner=watched.owner(table),
        title=f"{table} is stale",
        seen=seen[:LONGEST_SEEN],
        since=since.astimezone(UTC),
        path=f"/assets/{table}",
        asset=table,
        subject=table,
        members=(table,) if missing is None else (f"{table} {missing}",),
    )
