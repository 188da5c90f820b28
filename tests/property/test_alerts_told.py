"""Whatever goes wrong and right again, and wherever it is killed: each incident is opened once and closed once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.alerts import deliveries
from platform_assets.alerts.incidents import Incident, from_frame, reconcile, standing_after
from platform_assets.alerts.incidents import frame as rows_of
from platform_assets.ops import alert_deliveries, incidents
from resources.settings import SEVERITIES
from support.alerts import NOW, condition, manner

CAUSES = ("kafka", "stale:gold/a", "run:b")
SINKS = ("a", "b")


class Killed(Exception):
    """The process ended."""


@dataclass
class World:
    """The tables, two sinks, and a process that may be killed before each of its steps."""

    incidents: pl.DataFrame = field(default_factory=incidents.TABLE.empty)
    attempts: pl.DataFrame = field(default_factory=alert_deliveries.TABLE.empty)
    inboxes: dict[str, list[tuple[str, int, str]]] = field(default_factory=lambda: {sink: [] for sink in SINKS})
    lives: int | None = None
    unsure: set[tuple[str, str, int]] = field(default_factory=set)

    def step(self) -> None:
        if self.lives is not None:
            if self.lives == 0:
                raise Killed
            self.lives -= 1

    def tick(self, holding: dict[str, str], down: frozenset[str], now: datetime, recovery_after: float) -> None:
        history = from_frame(self.incidents)
        newest = standing_after({}, history)
        how = manner(recovery_after=recovery_after, reminder=7, sinks=SINKS)
        now_wrong = [condition(cause, severity, since=now) for cause, severity in holding.items()]  # type: ignore[arg-type]
        changes = reconcile(newest, now_wrong, now, how)
        self.step()
        self.incidents = pl.concat([self.incidents, rows_of(changes)])
        messages = [change for change in from_frame(self.incidents) if change.is_message]
        for sink, state in deliveries.sink_states(messages, self.attempts, SINKS).items():
            self.deliver(sink, state, now, sink in down)

    def deliver(self, sink: str, state: deliveries.SinkState, now: datetime, is_down: bool) -> None:
        while state.is_due(now):
            message = state.pending[0]
            self.step()
            if not is_down:
                self.inboxes[sink].append((message.incident_id, message.revision, message.change))
                self.unsure.add((sink, message.incident_id, message.revision))
            self.step()
            attempt = deliveries.attempted(state, sink, message, now, "down" if is_down else None)
            self.attempts = pl.concat([self.attempts, deliveries.frame([attempt])])
            if is_down:
                return
            self.unsure.discard((sink, message.incident_id, message.revision))
            state = deliveries.SinkState(0, attempt, state.pending[1:])


holdings = st.dictionaries(st.sampled_from(CAUSES), st.sampled_from(SEVERITIES))
downs = st.frozensets(st.sampled_from(SINKS))
steps = st.sampled_from([60, 60, 60, -290])  # seconds: a clock may be put back; no instant comes twice
courses = st.lists(st.tuples(holdings, downs, st.none() | st.integers(0, 6), steps), min_size=1, max_size=14)


@settings(max_examples=50)
@given(courses, st.sampled_from([0.0, 2.0]))
def test_each_incident_is_opened_once_and_closed_once_at_each_sink(
    course: list[tuple[dict[str, str], frozenset[str], int | None, int]], recovery_after: float
) -> None:
    world, now, repeated = World(), NOW, Counter[tuple[str, str, int]]()
    for holding, down, lives, seconds in course:
        now += timedelta(seconds=seconds)
        world.lives = lives
        try:
            world.tick(holding, down, now, recovery_after)
        except Killed:
            repeated.update(world.unsure)  # the sink has it, nobody knows: it comes a second time
            world.unsure.clear()
    world.lives = None
    for _ in range(4):  # all is well, for longer than any retry waits
        now += deliveries.LONGEST_RETRY
        world.tick({}, frozenset(), now, recovery_after)

    history = from_frame(world.incidents)
    assert standing_after({}, history) == {}
    of_incident: dict[str, list[Incident]] = {}
    for change in history:
        of_incident.setdefault(change.incident_id, []).append(change)
    for changes in of_incident.values():
        said = [change.change for change in changes]
        assert (said[0], said[-1]) == ("opened", "recovered")
        assert said.count("opened") == said.count("recovered") == 1
        assert [change.revision for change in changes] == list(range(1, len(changes) + 1))

    wanted = {(m.incident_id, m.revision) for m in history if m.is_message}
    for sink, inbox in world.inboxes.items():
        counted = Counter((incident, revision) for incident, revision, _ in inbox)
        assert set(counted) == wanted  # none is lost
        assert {key: n for key, n in counted.items() if n > 1} == {
            (incident, revision): 1 + n for (at, incident, revision), n in repeated.items() if at == sink
        }  # none comes twice without a kill in between
        for incident in of_incident:
            revisions = [revision for told, revision, _ in inbox if told == incident]
            assert revisions == sorted(revisions)
