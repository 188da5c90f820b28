"""What is still to be delivered, and when: pure, over the messages and the attempts so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from platform_assets.alerts.incidents import Incident
from platform_assets.ops.alert_deliveries import TABLE

FIRST_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(minutes=15)
DOWN_AFTER = 3
"""A sink that failed this often in a row is an incident."""


@dataclass(frozen=True)
class Attempt:
    """A row of `ops/alert_deliveries`, whose columns say what each field means."""

    incident_id: str
    revision: int
    sink: str
    attempt: int
    attempted_at: datetime
    delivered_at: datetime | None
    error: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True)
class SinkState:
    """How a sink does.

    Attributes:
        failures: How often it failed since it last took something.
        last: Its newest attempt; None before the first.
        pending: What it has not taken yet, oldest first.
    """

    failures: int
    last: Attempt | None
    pending: tuple[Incident, ...]

    @property
    def is_down(self) -> bool:
        """Whether it failed too often in a row."""
        return self.failures >= DOWN_AFTER

    @property
    def tried_at(self) -> datetime:
        """When something was last handed to it, taken or not."""
        return datetime.min.replace(tzinfo=UTC) if self.last is None else self.last.attempted_at

    def is_due(self, now: datetime) -> bool:
        """Whether something may be handed to it now."""
        if not self.pending:
            return False
        return self.last is None or self.last.next_attempt_at is None or now >= self.last.next_attempt_at


def sink_states(messages: Sequence[Incident], attempts: pl.DataFrame, sinks: Collection[str]) -> dict[str, SinkState]:
    """How each sink does, by name.

    A message is pending until an attempt delivered it. A sink takes one message after another, in the order in which
    things happened: a recovery never overtakes what it ends, though the clock was put back in between.

    Args:
        messages: The changes that are messages.
        attempts: Rows of `ops/alert_deliveries`.
        sinks: The sinks that there are; what is addressed to others waits until they are back.
    """
    in_turn: dict[str, deque[Incident]] = {}
    for message in sorted(messages, key=lambda m: m.revision):
        in_turn.setdefault(message.incident_id, deque()).append(message)
    by_clock = sorted(messages, key=lambda m: (m.changed_at, m.incident_id))
    ordered = [in_turn[m.incident_id].popleft() for m in by_clock]
    states = {}
    for sink in sinks:
        own = attempts.filter(pl.col("sink") == sink).sort("attempted_at", "attempt")
        delivered = own.filter(pl.col("delivered_at").is_not_null())
        taken = set(delivered.select("incident_id", "revision").iter_rows())
        last = None if own.is_empty() else Attempt(**own.drop("attempted_date").row(-1, named=True))
        states[sink] = SinkState(
            failures=0 if last is None or last.delivered_at is not None else last.attempt,
            last=last,
            pending=tuple(m for m in ordered if sink in m.sinks and (m.incident_id, m.revision) not in taken),
        )
    return states


def down(states: Mapping[str, SinkState]) -> dict[str, str]:
    """The sinks that take nothing, and of each what is known of it."""
    return {
        name: f"{len(state.pending)} messages wait; {state.failures} attempts in a row failed: {state.last.error}"
        for name, state in states.items()
        if state.is_down and state.last is not None
    }


def attempted(state: SinkState, sink: str, message: Incident, now: datetime, error: str | None) -> Attempt:
    """The attempt to hand a sink a message, made now.

    Args:
        state: How the sink did before.
        sink: Its name.
        message: What was handed over.
        now: The clock.
        error: Why it was not taken; None where it was.
    """
    number = state.failures + 1
    wait = min(FIRST_RETRY * 2 ** min(number - 1, 10), LONGEST_RETRY)
    return Attempt(
        incident_id=message.incident_id,
        revision=message.revision,
        sink=sink,
        attempt=number,
        attempted_at=now,
        delivered_at=now if error is None else None,
        error=error,
        next_attempt_at=None if error is None else now + wait,
    )


def frame(attempts: Sequence[Attempt]) -> pl.DataFrame:
    """Attempts as rows of `ops/alert_deliveries`."""
    rows = [{**attempt.__dict__, "attempted_date": attempt.attempted_at.date()} for attempt in attempts]
    return pl.DataFrame(rows, schema=TABLE.schema)
