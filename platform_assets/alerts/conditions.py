"""What is wrong now, as Dagster, Kafka and the lake tell it.

Everything is asked as of now but the evaluations of checks, of which Dagster cannot be asked the newest of every
partition at a price that a tick may have: these are followed by a cursor, and which partitions fail is kept in the
incident itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
from dagster import AssetCheckEvaluation, DagsterEventType

from platform_assets.alerts import incidents
from platform_assets.alerts.deliveries import SinkState
from platform_assets.alerts.incidents import Condition, Incident, Kind
from platform_assets.alerts.rates import lately
from platform_assets.platform import Platform
from platform_assets.quality.anomalies import ANOMALIES
from platform_assets.streams import epochs
from platform_assets.streams.stream import STREAMS, Stream
from platform_assets.table import Table
from resources.kafka import KafkaUnreachable
from resources.records import ContinuityBroken, Held, Position, RecordSource, TopicMissing, check_continuity
from resources.settings import Severity

DUE = "latest_due_partition"
KAFKA = "kafka"
OWNER = "team:data-platform"
"""Who answers for what is no table's."""

_PAGE = 1_000
_PAGES = 10
_MOST_RUNS = 200
_MOST_BACKFILLS = 50
_KAFKA_PATIENCE = timedelta(minutes=1)
_LONGEST_SEEN = 600
_ASSET_JOB = "__ASSET_JOB"
_BACKFILL_TAG = "dagster/backfill"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_ALL_OF_IT = "all of it"
_SEVERITY: dict[dg.AssetCheckSeverity, Severity] = {
    dg.AssetCheckSeverity.WARN: "warning",
    dg.AssetCheckSeverity.ERROR: "error",
}
_STALE: dict[str, Severity] = {"WARN": "warning", "FAIL": "error"}
_FAILED_BACKFILL = ("FAILED", "COMPLETED_FAILED")


@dataclass(frozen=True)
class Watched:
    """What is looked at.

    Attributes:
        tables: The tables, by name.
        upstream: For each table the names of what it is computed from; a stream's table stands on its stream, a
            stream on Kafka.
    """

    tables: Mapping[str, Table]
    upstream: Mapping[str, Collection[str]]

    @classmethod
    def of(cls, tables: Sequence[Table], assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]) -> Watched:
        """What some tables and their assets say."""
        specs = [spec for a in assets for spec in (a.specs if isinstance(a, dg.AssetsDefinition) else [a])]
        upstream: dict[str, set[str]] = {
            "/".join(spec.key.path): {"/".join(dep.asset_key.path) for dep in spec.deps} for spec in specs
        }
        for stream in STREAMS:
            upstream.setdefault(stream.table.name, set()).add(_stream_node(stream))
            upstream[_stream_node(stream)] = {KAFKA}
        return cls({table.name: table for table in tables}, upstream)

    def owner(self, table: str) -> str:
        """Who answers for a table."""
        return self.tables[table].owner if table in self.tables else OWNER


@dataclass(frozen=True)
class Seen:
    """What was seen at one look.

    Attributes:
        conditions: What is wrong.
        unknown: Names of the kinds that could not be looked at.
        cursor: Up to which event of Dagster's log evaluations were taken in.
    """

    conditions: list[Condition]
    unknown: frozenset[str] = field(default_factory=frozenset)
    cursor: int = 0


def look(
    platform: Platform,
    instance: dg.DagsterInstance,
    watched: Watched,
    standing: Mapping[str, Incident],
    sinks: Mapping[str, SinkState],
    cursor: int | None,
    now: datetime,
) -> Seen:
    """Look at everything.

    Args:
        platform: The platform.
        instance: Dagster's.
        watched: What to look at.
        standing: The incidents that are not over, by cause.
        sinks: How the sinks do.
        cursor: Up to which event evaluations were taken in; None where none ever was.
        now: The clock.
    """
    evaluations, reached = new_evaluations(instance, cursor, now - platform.settings.alert_lookback)
    kafka = list(_of_kafka(platform, now))
    found = [
        *of_checks(evaluations, standing, watched),
        *of_freshness(instance, evaluations, standing, watched, now),
        *_of_runs(instance, standing, watched, now - platform.settings.alert_lookback),
        *_of_backfills(instance, standing, watched, now - platform.settings.alert_lookback),
        *kafka,
        *_of_rates(platform, now),
        *_of_sinks(sinks, now),
    ]
    is_known = {cause for cause, incident in standing.items() if incident.change != "seen"}
    blind = any(condition.kind is incidents.KAFKA_UNREACHABLE for condition in kafka)
    unknown = {incidents.CONSUMER_LAG.name, incidents.STREAM_STOPPED.name} if blind else set()
    return Seen(incidents.grouped(found, watched.upstream, is_known), frozenset(unknown), reached)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a check.

    Attributes:
        table: Name of the table.
        check: Name of the check.
        partition: The partition judged; None for the whole table, or for a range together.
        passed: Whether it held.
        severity: Of the failure.
        description: What was seen.
        at: When.
    """

    table: str
    check: str
    partition: str | None
    passed: bool
    severity: Severity
    description: str
    at: datetime


def new_evaluations(
    instance: dg.DagsterInstance, cursor: int | None, not_before: datetime
) -> tuple[list[Evaluation], int]:
    """The evaluations behind a cursor, in order, and the cursor behind them.

    Args:
        instance: Dagster's; its event log must have one order (docs/operations.md, "Dagster's storage").
        cursor: The last event taken in; None to begin with `not_before`.
        not_before: The earliest evaluation looked at without a cursor.
    """
    found: list[Evaluation] = []
    since, reached = (not_before.timestamp(), 0) if cursor is None else (None, cursor)
    for _ in range(_PAGES):
        records = instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(
                event_type=DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=reached, after_timestamp=since
            ),
            limit=_PAGE,
            ascending=True,
        )
        for record in records:
            event = record.event_log_entry.dagster_event
            told = None if event is None else event.event_specific_data
            if isinstance(told, AssetCheckEvaluation):
                found.append(
                    Evaluation(
                        table="/".join(told.asset_key.path),
                        check=told.check_name,
                        partition=told.partition,
                        passed=told.passed,
                        severity=_SEVERITY[told.severity],
                        description=told.description or "the check says no more",
                        at=datetime.fromtimestamp(record.event_log_entry.timestamp, UTC),
                    )
                )
            reached = record.storage_id
        if len(records) < _PAGE:
            break
    return found, reached


def of_checks(
    evaluations: Sequence[Evaluation], standing: Mapping[str, Incident], watched: Watched
) -> Iterator[Condition]:
    """One condition a check that fails for some partition: those that failed, but for those that passed since."""
    failing, newest = _failing(evaluations, standing, watched)
    for cause, members in failing.items():
        if not members:
            continue
        _, table, name = cause.split(":")
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
            seen=seen[:_LONGEST_SEEN],
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
        known, evaluation_told = standing.get(f"stale:{table}"), told.get(table)
        described = evaluation_told.description if evaluation_told is not None else "the partition is missing"
        since = known.since if known is not None else evaluation_told.at if evaluation_told is not None else now
        yield _stale(table, "error", f"partition {partition}: {described}", since, partition, watched)


def storage_of(instance: dg.DagsterInstance) -> str:
    """The id of Dagster's storage: numbers of events mean something within one only."""
    return str(instance.run_storage.get_run_storage_id())  # type: ignore[attr-defined]  # of each storage that is SQL


def behind(held: Mapping[int, Held], position: Position | None) -> int:
    """How many records a topic holds that bronze has not read."""
    offsets = {} if position is None else position.offsets
    return sum(max(0, at.high - max(at.low, offsets.get(partition, at.low))) for partition, at in held.items())


def streams_of(platform: Platform) -> list[Stream]:
    """The streams whose topic is set."""
    return [stream for stream in STREAMS if stream.topic(platform.settings) is not None]


def reach_of(platform: Platform, source: RecordSource, stream: Stream) -> tuple[Mapping[int, Held], Position | None]:
    """What a stream's topic holds, and how far bronze has read it."""
    topic = stream.required_topic(platform.settings)
    position = epochs.recorded(platform.lake.open(stream.table), topic)
    return source.held(topic, position), position


def _failing(
    evaluations: Sequence[Evaluation], standing: Mapping[str, Incident], watched: Watched
) -> tuple[dict[str, dict[str, datetime]], dict[str, Evaluation]]:
    """By cause the members that fail, with when that was first seen; and the newest failure."""
    failing = {
        cause: dict.fromkeys(incident.members, incident.since)
        for cause, incident in standing.items()
        if incident.kind == incidents.CHECK_FAILED.name
    }
    newest: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        table = watched.tables.get(evaluation.table)
        # Of a range Dagster records each partition, and the sum for none: the sum would never pass again.
        is_sum = evaluation.partition is None and table is not None and table.partitions is not None
        if evaluation.check == DUE or is_sum:
            continue
        cause = f"check:{evaluation.table}:{evaluation.check}"
        member = evaluation.partition or _ALL_OF_IT
        failing.setdefault(cause, {}).pop(member, None)
        if evaluation.passed and evaluation.check in ANOMALIES:
            # An hour that was an anomaly stays one: what is told ends with a later hour that is as expected.
            failing[cause] = {known: at for known, at in failing[cause].items() if known > member}
        if not evaluation.passed:
            failing[cause][member] = evaluation.at
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
        seen=seen[:_LONGEST_SEEN],
        since=since.astimezone(UTC),
        path=f"/assets/{table}",
        asset=table,
        subject=table,
        members=(table,) if missing is None else (f"{table} {missing}",),
    )


def _of_runs(
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
            return str(error.message).strip()[:_LONGEST_SEEN]
        if event is not None and event.message:
            return event.message[:_LONGEST_SEEN]
    return "the run failed without a word: its process died"


def _of_backfills(
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
            seen=f"{error[:_LONGEST_SEEN]}; {missing} partitions are not materialized",
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


def _of_kafka(platform: Platform, now: datetime) -> Iterator[Condition]:
    """Kafka that does not answer, streams that cannot go on, and what is not read yet."""
    try:
        with platform.source() as source:
            for stream in streams_of(platform):
                yield from _of_stream(platform, source, stream, now)
    except KafkaUnreachable as error:
        yield Condition(
            cause="kafka",
            kind=incidents.KAFKA_UNREACHABLE,
            severity="critical",
            owner=OWNER,
            title="Kafka does not answer",
            seen=str(error)[:_LONGEST_SEEN],
            since=now,
            path="/automation",
            subject=KAFKA,
            patience=_KAFKA_PATIENCE,
        )


def _of_stream(platform: Platform, source: RecordSource, stream: Stream, now: datetime) -> Iterator[Condition]:
    topic = stream.required_topic(platform.settings)

    def condition(kind: Kind, severity: Severity, title: str, seen: str, patience: timedelta) -> Condition:
        return Condition(
            cause=f"{kind.name}:{stream.name}",
            kind=kind,
            severity=severity,
            owner=stream.table.owner,
            title=title,
            seen=seen[:_LONGEST_SEEN],
            since=now,
            path=f"/assets/{stream.table.name}",
            asset=stream.table.name,
            subject=_stream_node(stream),
            patience=patience,
        )

    try:
        held, position = reach_of(platform, source, stream)
        if position is not None:
            check_continuity(position, held)
    except (ContinuityBroken, TopicMissing) as error:
        title = f"nothing is read from topic {topic} until somebody decides"
        yield condition(incidents.STREAM_STOPPED, "critical", title, str(error), timedelta(0))
        return
    records, most = behind(held, position), platform.settings.alert_lag_records
    if records > most:
        seen = f"topic {topic} holds {records:,} records that bronze has not read; {most:,} are accepted"
        title = f"the platform is behind on topic {topic}"
        yield condition(incidents.CONSUMER_LAG, "warning", title, seen, platform.settings.alert_lag_for)


def _of_rates(platform: Platform, now: datetime) -> Iterator[Condition]:
    """Topics of which too much is refused."""
    settings = platform.settings
    limits = (
        ("dead_lettered", incidents.DEAD_LETTERS, settings.alert_dead_letter_share, "bronze/dead_letters"),
        ("quarantined", incidents.QUARANTINE, settings.alert_quarantine_share, "silver/quarantine"),
    )
    for (topic,), told in lately(platform, now).group_by("topic", maintain_order=True):
        total = int(told["records"].sum())
        if total < settings.alert_rate_records:
            continue
        for outcome, kind, limit, table in limits:
            records = int(told.filter(pl.col("outcome") == outcome)["records"].sum())
            if records / total <= limit:
                continue
            yield Condition(
                cause=f"{kind.name}:{topic}",
                kind=kind,
                severity="error" if kind is incidents.DEAD_LETTERS else "warning",
                owner=OWNER,
                title=f"{records / total:.0%} of topic {topic} is {outcome.replace('_', '-')}",
                seen=f"{records:,} of {total:,} records that arrived lately; {limit:.0%} is accepted",
                since=now,
                path=f"/assets/{table}",
                asset=table,
                subject=table,
            )


def _of_sinks(sinks: Mapping[str, SinkState], now: datetime) -> Iterator[Condition]:
    """Sinks that take nothing."""
    for name, state in sinks.items():
        if state.is_down:
            error = None if state.last is None else state.last.error
            yield Condition(
                cause=f"sink:{name}",
                kind=incidents.SINK_DOWN,
                severity="error",
                owner=OWNER,
                title=f"alerts do not reach {name}",
                seen=f"{len(state.pending)} messages wait; {state.failures} attempts in a row failed: {error}",
                since=now,
                path="/assets/ops/alert_deliveries",
                asset="ops/alert_deliveries",
                subject=f"sink:{name}",
            )


def _stream_node(stream: Stream) -> str:
    return f"stream:{stream.name}"
