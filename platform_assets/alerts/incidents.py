"""From what is wrong now to what is told: one incident a cause, opened, worsened, reminded, recovered.

Level-triggered: a step compares the incidents that are there with the conditions that hold now. No event has to be
caught for that, so a daemon that was down misses nothing that still holds.

The changes of an incident, in the order in which they may come::

    seen → opened → worsened, updated, reminded … → clearing → recovered
     ↓                                            ↖ back ↙
    gone

*Seen* waits for the patience of its kind, *clearing* for the recovery to last: what flaps in between tells nothing.
Pure: no clock, no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import polars as pl

from platform_assets.ops.incidents import MESSAGES, TABLE
from resources.settings import SEVERITIES, Severity

Change = Literal["seen", "opened", "worsened", "updated", "reminded", "clearing", "back", "recovered", "gone"]
ENDED = ("recovered", "gone")
"""The changes after which nothing more happens to an incident."""
REMOVED = "what this is about is no longer there"
"""What an incident says that ended because there is nothing left that could be mended."""


@dataclass(frozen=True)
class Kind:
    """A kind of condition.

    Attributes:
        name: As stored.
        section: The heading of docs/operations.md that says what to do.
        is_cause: Whether what stands below it, and may follow from it, is its consequence.
        may_follow: Whether it may be the consequence of a cause above it.
    """

    name: str
    section: str
    is_cause: bool = False
    may_follow: bool = False

    @property
    def runbook(self) -> str:
        """The section's address: the file, and the heading as GitHub makes an anchor of it."""
        kept = "".join(c for c in self.section.lower() if c.isalnum() or c in " -")
        return f"docs/operations.md#{kept.replace(' ', '-')}"


CHECK_FAILED = Kind("check_failed", "Alert: a check fails")
STALE = Kind("stale", "Alert: a table is stale", is_cause=True, may_follow=True)
RUN_FAILED = Kind("run_failed", "Alert: a run failed")
BACKFILL_FAILED = Kind("backfill_failed", "Alert: a backfill failed")
CONSUMER_LAG = Kind("consumer_lag", "Alert: the platform is behind Kafka", is_cause=True)
KAFKA_UNREACHABLE = Kind("kafka_unreachable", "Alert: Kafka does not answer", is_cause=True)
STREAM_STOPPED = Kind("stream_stopped", "Alert: a stream stands still", is_cause=True)
DEAD_LETTERS = Kind("dead_letters", "Alert: many dead letters")
QUARANTINE = Kind("quarantine", "Alert: much is quarantined")
EVENTS_SLOW = Kind("events_slow", "Alert: events take too long", may_follow=True)
EVENTS_LOST = Kind("events_lost", "Alert: an event of the platform's own did not arrive")
SINK_DOWN = Kind("sink_down", "Alert: a sink takes nothing")

KINDS = {
    kind.name: kind
    for kind in (
        CHECK_FAILED,
        STALE,
        RUN_FAILED,
        BACKFILL_FAILED,
        CONSUMER_LAG,
        KAFKA_UNREACHABLE,
        STREAM_STOPPED,
        DEAD_LETTERS,
        QUARANTINE,
        EVENTS_SLOW,
        EVENTS_LOST,
        SINK_DOWN,
    )
}
"""Every kind of condition, by name."""


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now.

    Attributes:
        cause: What, as a key; two conditions of one cause are one incident.
        kind: Which kind.
        severity: How bad.
        owner: Who answers for it.
        title: What, in a line.
        seen: What was seen.
        since: Since when, UTC.
        path: Where to look, below the UI's address.
        asset: Name of the table that it is about.
        subject: What it stands at in the graph of tables: the table, `kafka`, a sink.
        members: What belongs to it, sorted.
        patience: How long it must hold before it is told.
    """

    cause: str
    kind: Kind
    severity: Severity
    owner: str
    title: str
    seen: str
    since: datetime
    path: str
    asset: str | None = None
    subject: str | None = None
    members: tuple[str, ...] = ()
    patience: timedelta = timedelta(0)


@dataclass(frozen=True)
class Incident:
    """How an incident stands after a change: a row of `ops/incidents`, whose columns say what each field means."""

    incident_id: str
    revision: int
    change: Change
    cause: str
    kind: str
    severity: Severity
    worst: Severity
    owner: str
    title: str
    seen: str
    asset: str | None
    link: str
    runbook: str
    members: tuple[str, ...]
    sinks: tuple[str, ...]
    since: datetime
    told_at: datetime | None
    changed_at: datetime

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.change in ENDED

    @property
    def is_message(self) -> bool:
        """Whether people are told of this change."""
        return self.change in MESSAGES


@dataclass(frozen=True)
class Manner:
    """How incidents are told.

    Attributes:
        reminder: An incident is told again after this long.
        recovery_after: How long a condition must be gone.
        ui_url: The web UI's address.
        takers: The names of the sinks that take a condition of a subject, of a severity.
    """

    reminder: timedelta
    recovery_after: timedelta
    ui_url: str
    takers: Callable[[str | None, Severity], tuple[str, ...]]


def reconcile(
    standing: Mapping[str, Incident],
    conditions: Sequence[Condition],
    now: datetime,
    manner: Manner,
    unknown: Collection[str] = (),
    removed: Collection[str] = (),
) -> list[Incident]:
    """What changes, now that these conditions hold.

    Args:
        standing: The incidents that are not over, by cause.
        conditions: What is wrong now; one a cause.
        now: The clock.
        manner: How incidents are told.
        unknown: Kinds that could not be looked at: their incidents stay as they are.
        removed: Causes of which there no longer is what they are about: their incidents end, and say so.

    Returns:
        The changes, one an incident at most. Applied (`standing_after`), the same conditions at the same time change
        nothing more.

    Raises:
        ValueError: Two conditions have one cause.
    """
    holding = {condition.cause: condition for condition in conditions}
    if len(holding) < len(conditions):
        msg = f"of {len(conditions)} conditions only {len(holding)} have causes of their own; group them first"
        raise ValueError(msg)
    changes = [
        change
        for cause, condition in holding.items()
        if (change := _held(standing.get(cause), condition, now, manner)) is not None
    ]
    for cause, incident in standing.items():
        if cause in holding or incident.kind in unknown:
            continue
        change = _absent(incident, now, manner, cause in removed)
        if change is not None:
            changes.append(change)
    return changes


def standing_after(standing: Mapping[str, Incident], changes: Sequence[Incident]) -> dict[str, Incident]:
    """The incidents that are not over after some changes, by cause; their sinks are all that were told of them.

    Args:
        standing: The incidents that were not over before, by cause.
        changes: The changes; of one incident in the order of their revisions.
    """
    after = dict(standing)
    for change in changes:
        before = after.get(change.cause)
        told = before.sinks if before is not None and before.incident_id == change.incident_id else ()
        after[change.cause] = replace(change, sinks=tuple(sorted({*told, *change.sinks})))
    return {cause: incident for cause, incident in after.items() if not incident.is_over}


def grouped(
    conditions: Sequence[Condition], upstream: Mapping[str, Collection[str]], known: Collection[str] = ()
) -> list[Condition]:
    """Take what may follow from a cause to it: stale tables, and slow events, to a table, or Kafka, upstream of them.

    Args:
        conditions: What is wrong now.
        upstream: For each table what it is computed from.
        known: Causes that people were told of: these stay conditions of their own, else they would seem to recover.

    Returns:
        The conditions; a cause has the tables that wait for it as further members, and is as bad as the worst of them.
    """
    causes = {c.subject: c for c in conditions if c.kind.is_cause and c.subject is not None}
    waiting: dict[str, list[Condition]] = {}
    folded: set[str] = set()
    for condition in conditions:
        if not condition.kind.may_follow or condition.cause in known or condition.subject is None:
            continue
        root = _root(condition.subject, causes, upstream)
        if root != condition.subject:
            folded.add(condition.cause)
            waiting.setdefault(causes[root].cause, []).append(condition)
    return [_with(c, waiting.get(c.cause, ())) for c in conditions if c.cause not in folded]


def frame(changes: Sequence[Incident]) -> pl.DataFrame:
    """Changes as rows of `ops/incidents`."""
    rows = [
        {
            **{name: getattr(change, name) for name in TABLE.schema.names() if name != "changed_date"},
            "members": list(change.members),
            "sinks": list(change.sinks),
            "changed_date": change.changed_at.date(),
        }
        for change in changes
    ]
    return pl.DataFrame(rows, schema=TABLE.schema)


def from_frame(rows: pl.DataFrame) -> list[Incident]:
    """Rows of `ops/incidents` as changes."""
    return [
        Incident(**{**row, "members": tuple(row["members"]), "sinks": tuple(row["sinks"])})
        for row in rows.drop("changed_date").iter_rows(named=True)
    ]


def _with(cause: Condition, waiting: Sequence[Condition]) -> Condition:
    """A cause, and what follows from it."""
    members = {member for one in waiting for member in one.members or (one.subject or one.cause,)}
    return replace(
        cause,
        members=tuple(sorted({*cause.members, *members})),
        severity=max((cause.severity, *(one.severity for one in waiting)), key=SEVERITIES.index),
    )


def _held(incident: Incident | None, condition: Condition, now: datetime, manner: Manner) -> Incident | None:
    """The change of an incident whose condition holds."""
    if incident is None:
        first = _first(condition, now, manner)
        return first if condition.patience > timedelta(0) else _told(first, "opened", condition, now, manner, 1)
    is_other = condition.severity != incident.severity or condition.members != incident.members
    if incident.change == "seen":
        if now - incident.changed_at >= condition.patience:
            return _told(incident, "opened", condition, now, manner)
        # Its instant stays: patience counts from it.
        return _next(_as_of(incident, condition, manner), "seen", incident.changed_at) if is_other else None
    if SEVERITIES.index(condition.severity) > SEVERITIES.index(incident.worst):
        return _told(incident, "worsened", condition, now, manner)
    if incident.told_at is not None and now - incident.told_at >= manner.reminder:
        return _told(incident, "reminded", condition, now, manner)
    newcomers = set(manner.takers(condition.subject, condition.severity)) - set(incident.sinks)
    if newcomers:
        return replace(_told(incident, "reminded", condition, now, manner), sinks=tuple(sorted(newcomers)))
    if incident.change == "clearing":
        return _next(_as_of(incident, condition, manner), "back", now)
    return _next(_as_of(incident, condition, manner), "updated", now) if is_other else None


def _absent(incident: Incident, now: datetime, manner: Manner, is_removed: bool) -> Incident | None:
    """The change of an incident whose condition does not hold."""
    seen = f"{incident.seen} ({REMOVED})" if is_removed and incident.change != "clearing" else incident.seen
    gone = replace(incident, members=(), seen=seen)
    if incident.change == "seen":
        return _next(gone, "gone", now)
    if incident.change == "clearing":
        if now - incident.changed_at < manner.recovery_after:
            return None
    elif manner.recovery_after > timedelta(0):
        return _next(gone, "clearing", now)
    return replace(_next(gone, "recovered", now), told_at=now, sinks=incident.sinks)


def _first(condition: Condition, now: datetime, manner: Manner) -> Incident:
    digest = hashlib.sha256(f"{condition.cause} {now.isoformat()}".encode()).hexdigest()[:12]
    return Incident(
        incident_id=digest,
        revision=1,
        change="seen",
        cause=condition.cause,
        kind=condition.kind.name,
        severity=condition.severity,
        worst=condition.severity,
        owner=condition.owner,
        title=condition.title,
        seen=condition.seen,
        asset=condition.asset,
        link=f"{manner.ui_url.rstrip('/')}{condition.path}",
        runbook=condition.kind.runbook,
        members=condition.members,
        sinks=(),
        since=condition.since,
        told_at=None,
        changed_at=now,
    )


def _as_of(incident: Incident, condition: Condition, manner: Manner) -> Incident:
    return replace(
        incident,
        severity=condition.severity,
        owner=condition.owner,
        title=condition.title,
        seen=condition.seen,
        link=f"{manner.ui_url.rstrip('/')}{condition.path}",
        members=condition.members,
    )


def _next(incident: Incident, change: Change, now: datetime, revision: int | None = None) -> Incident:
    number = incident.revision + 1 if revision is None else revision
    return replace(incident, change=change, changed_at=now, revision=number)


def _told(
    incident: Incident, change: Change, condition: Condition, now: datetime, manner: Manner, revision: int | None = None
) -> Incident:
    """The change as a message. Whoever was told of the incident is told how it goes on, and how it ends."""
    worst = max(incident.worst, condition.severity, key=SEVERITIES.index)
    sinks = tuple(sorted({*incident.sinks, *manner.takers(condition.subject, condition.severity)}))
    told = replace(_as_of(incident, condition, manner), worst=worst, sinks=sinks, told_at=now)
    return _next(told, change, now, revision)


def _root(subject: str, causes: Collection[str], upstream: Mapping[str, Collection[str]]) -> str:
    """The first cause upstream of a table that has none above itself; the table itself where there is none.

    What lies between is not asked: a table in the middle may still be in time by its own, longer, service level.
    """
    reached = _above(subject, upstream) & set(causes)
    tops = sorted(cause for cause in reached if not _above(cause, upstream) & set(causes))
    return tops[0] if tops else subject


def _above(subject: str, upstream: Mapping[str, Collection[str]]) -> set[str]:
    """Everything upstream of something."""
    found: set[str] = set()
    edge = {subject}
    while edge:
        edge = {above for one in edge for above in upstream.get(one, ())} - found
        found |= edge
    return found
