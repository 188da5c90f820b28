"""A tick of alerts: look, reconcile, commit what changed, deliver what is not delivered yet.

What changed and what is to be told of it are one commit (`ops/incidents`), with the cursor of the evaluations that it
rests on. What is pending follows from the tables alone. So the process may end between any two steps: the next tick
sees the same state, and goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import dagster as dg
import polars as pl

from platform_assets.alerts import deliveries, incidents, messages
from platform_assets.alerts.conditions import look
from platform_assets.alerts.deliveries import Attempt, SinkState, sink_states
from platform_assets.alerts.incidents import Incident, Manner, reconcile, standing_after
from platform_assets.alerts.watched import Watched
from platform_assets.ops import alert_deliveries
from platform_assets.ops.incidents import MESSAGES, REVISION_APP, TABLE
from platform_assets.platform import Platform
from platform_assets.quality.evaluations import progress_in
from resources.alert_sinks import AlertSink, NotDelivered, takers
from resources.lake import Lake, Writer
from resources.settings import Severity

_SECONDS = 25.0
"""How long a tick goes on handing over messages: Dagster ends one after 60 s."""


@dataclass(frozen=True)
class Ticked:
    """What a tick did.

    Attributes:
        standing: The incidents that are not over.
        changes: What changed.
        delivered: How many messages sinks took.
        failed: The attempts that failed.
        cursor: Up to which event of Dagster's log evaluations were taken in.
    """

    standing: dict[str, Incident]
    changes: Sequence[Incident]
    delivered: int
    failed: Sequence[Attempt]
    cursor: int

    def __str__(self) -> str:
        told = f"{len(self.standing)} incidents, {len(self.changes)} changes, {self.delivered} messages delivered"
        errors = "; ".join(f"{attempt.sink}: {attempt.error}" for attempt in self.failed)
        return f"{told}; not delivered: {errors}" if errors else told


def tick(
    platform: Platform,
    instance: dg.DagsterInstance,
    watched: Watched,
    sinks: Sequence[AlertSink],
    cursor: int | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Ticked:
    """Look at everything once, and tell what changed.

    Args:
        platform: The platform.
        instance: Dagster's.
        watched: What to look at.
        sinks: Where messages go.
        cursor: Up to which event the evaluations are known to say nothing new; what the lake has recorded counts
            where that is further.
        refused: Why entries of the settings are no sinks, by their place there.

    Raises:
        Fenced: Another process reconciles at the same time.
    """
    lake, now = platform.lake, platform.clock()
    writer = Writer(lake, TABLE)
    evaluations = progress_in(instance)
    recorded, number = writer.progress(evaluations), writer.progress(REVISION_APP)
    known = [reached for reached in (recorded, cursor) if reached is not None]
    standing = standing_incidents(lake)
    names = [sink.name for sink in sinks]
    states = _states(lake, names)
    unreached = {**refused, **deliveries.down(states)}
    seen = look(platform, instance, watched, standing, unreached, max(known) if known else None, now)
    manner = Manner(
        reminder=platform.settings.alert_reminder,
        recovery_after=platform.settings.alert_recovery_after,
        ui_url=platform.settings.ui_url,
        takers=_takers(sinks),
    )
    changes = reconcile(standing, seen.conditions, now, manner, seen.unknown, seen.removed)
    if changes:
        writer.refresh()
        progress = {evaluations: max(seen.cursor, recorded or 0), REVISION_APP: (number or 0) + 1}
        writer.commit(incidents.frame(changes), progress)
        states = _states(lake, names)
    delivered, failed = _deliver(platform, sinks, states)
    return Ticked(standing_after(standing, changes), changes, delivered, failed, seen.cursor)


def standing_incidents(lake: Lake) -> dict[str, Incident]:
    """The incidents that are not over, by cause."""
    changes = lake.scan(TABLE).sort("revision")  # not by the clock, which may be put back
    is_over = pl.col("change").last().is_in(incidents.ENDED).over("incident_id")
    return standing_after({}, incidents.from_frame(changes.filter(~is_over).collect()))


def pending(lake: Lake, sinks: Sequence[str]) -> dict[str, int]:
    """How many messages each sink has not taken yet, by its name."""
    return {name: len(state.pending) for name, state in _states(lake, sinks).items()}


def _states(lake: Lake, sinks: Sequence[str]) -> dict[str, SinkState]:
    """How each sink does, by the tables."""
    if not sinks:
        return {}
    attempts = lake.scan(alert_deliveries.TABLE).collect()
    taken = (
        attempts.filter(pl.col("delivered_at").is_not_null())
        .group_by("incident_id", "revision")
        .agg(taken_by=pl.col("sink").unique())
    )
    # Only what some sink has not taken is looked at row by row: the rest is history.
    pending = (
        lake.scan(TABLE)
        .filter(pl.col("change").is_in(MESSAGES))
        .collect()
        .join(taken, on=["incident_id", "revision"], how="left")
        .filter(pl.col("sinks").list.set_difference(pl.col("taken_by").fill_null([])).list.len() > 0)
        .drop("taken_by")
    )
    return sink_states(incidents.from_frame(pending), attempts, sinks)


def _takers(sinks: Sequence[AlertSink]) -> Callable[[str | None, Severity], tuple[str, ...]]:
    """Who takes a condition: nobody is told that they cannot be told."""

    def taking(subject: str | None, severity: Severity) -> tuple[str, ...]:
        return tuple(name for name in takers(sinks, severity) if subject != f"sink:{name}")

    return taking


def _deliver(
    platform: Platform, sinks: Sequence[AlertSink], states: dict[str, SinkState]
) -> tuple[int, Sequence[Attempt]]:
    """Hand sinks what they have not taken, until each refused or time is up. Returns how many were taken, and failures.

    Each takes one message in its turn, whoever waited longest first: one that is slow, or has much to take, holds up
    no other.
    """
    deadline, delivered, failed = time.monotonic() + _SECONDS, 0, []
    states = dict(states)
    turns = deque(sorted(sinks, key=lambda sink: states[sink.name].tried_at))
    while turns and time.monotonic() < deadline:
        sink = turns.popleft()
        state = states[sink.name]
        if not state.is_due(platform.clock()):
            continue
        message = state.pending[0]
        error = _hand_over(sink, message)
        attempt = deliveries.attempted(state, sink.name, message, platform.clock(), error)
        platform.lake.append(alert_deliveries.TABLE, deliveries.frame([attempt]))
        if error is not None:
            failed.append(attempt)
            continue
        delivered += 1
        states[sink.name] = SinkState(failures=0, last=attempt, pending=state.pending[1:])
        turns.append(sink)
    return delivered, failed


def _hand_over(sink: AlertSink, message: Incident) -> str | None:
    kind = "recovered" if message.change == "recovered" else message.severity
    try:
        sink.send(messages.title(message), messages.body(message), kind)
    except NotDelivered as error:
        return str(error) or "it says no more"
    return None
