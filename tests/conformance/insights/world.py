"""What a case tells before it asks: persons, events, groups, actions and cohorts, played in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.semantics.specification import Condition, EventPredicate
from tests.conformance.outcome import OutOfScope

Step = Mapping[str, Any]

GROUP_TYPES = 5
"""As many types of groups as PostHog has: columns `group_0` to `group_4`."""

_NOT_WRITTEN_DOWN = "<record."
"""How a value begins that was random when the case was written down, and so is not in it."""


@dataclass(frozen=True)
class Query:
    """One question of a case.

    Attributes:
        n: Its number, by which asserts refer to it.
        runner: What answers it in PostHog: `TrendsQueryRunner`, `FunnelActors`, …
        body: The query; `legacy_filter` in it says that it is of the old dialect.
        now: The instant at which it is asked.
        zone: The project's timezone.
        week_start: The first day of its weeks: Sunday unless the project says Monday.
    """

    n: int
    runner: str
    body: Mapping[str, Any]
    now: datetime
    zone: ZoneInfo
    week_start: str

    @classmethod
    def of(cls, step: Step) -> Query:
        """The query of a step."""
        return cls(
            n=step["n"],
            runner=step["runner"],
            body=step["query"],
            now=instant(step["now"]),
            zone=ZoneInfo(step["timezone"]),
            week_start="monday" if step.get("week_start_day") == 1 else "sunday",
        )

    @property
    def legacy(self) -> Mapping[str, Any] | None:
        """The filter of the old dialect, where the query is of it."""
        filters: Mapping[str, Any] | None = self.body.get("legacy_filter")
        return filters


@dataclass
class World:
    """What is known at some point of a case.

    A person is called by the name that the case uses (`person:x`). Persons have one set of properties, the last told:
    no case of ours changes them after an event.

    Attributes:
        persons: The properties of each person.
        created: When each person was created, where the case says.
        person_of: Whose each id is.
        groups: The properties of each group, by type and key.
        actions: The actions, by id.
        cohorts: The cohorts, by id.
        told: The events, without those of other teams.
        actor: Who is counted in this project: persons, or ids (`distinct_id`).
    """

    persons: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    created: dict[str, datetime] = field(default_factory=dict)
    person_of: dict[str, str] = field(default_factory=dict)
    groups: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    actions: dict[int, Step] = field(default_factory=dict)
    cohorts: dict[int, Step] = field(default_factory=dict)
    told: list[Step] = field(default_factory=list)
    actor: str = "person_id"

    def play(self, step: Step) -> None:
        """Take in a step that tells something.

        Raises:
            OutOfScope: It is of a kind that is unknown.
        """
        kind = step["op"]
        if kind == "person":
            self.persons[step["person"]] = step.get("properties") or {}
            self.person_of.update(dict.fromkeys(step["distinct_ids"], step["person"]))
            if step.get("created_at"):
                self.created[step["person"]] = instant(step["created_at"])
        elif kind == "event":
            if not step.get("other_team"):
                self.told.append(step)
        elif kind == "group":
            key = (step["group_type_index"], step["group_key"])
            self.groups[key] = self.groups.get(key, {}) | (step.get("properties") or {})
        elif kind == "action":
            self.actions[step["id"]] = step
        elif kind == "cohort":
            self.cohorts[step["id"]] = step
        elif kind == "person_override":
            self._override(step)
        else:
            msg = f"steps of the kind {kind!r} are unknown"
            raise OutOfScope(msg)

    def events(self, *, of_persons_only: bool = False) -> pl.DataFrame:
        """The events told so far, in our form.

        ``person_id``, ``occurred_at`` (instant µs UTC), ``event_name``, ``distinct_id``, ``event_uuid``,
        ``session_id``, ``properties``, ``person`` and ``session`` (JSON objects as text: the event's, its person's, its
        session's), and for each type of groups ``group_0`` (the key) and ``group_0_properties`` (JSON), …; ordered as
        told.

        Args:
            of_persons_only: Whether events of ids that no person has are left out; else each such id is a person
                without properties.
        """
        sessions = self._sessions()
        rows = [self._row(step, sessions) for step in self.told]
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        if of_persons_only:
            return frame.filter(pl.col("person_id").is_not_null())
        return frame.with_columns(person_id=pl.coalesce("person_id", pl.format("anonymous:{}", pl.col("distinct_id"))))

    def action(self, action_id: int) -> EventPredicate:
        """Which events are of an action.

        Raises:
            OutOfScope: The action is unknown, has no steps, or matches what is no property of events.
        """
        from tests.conformance.insights.filters import action_predicate

        return action_predicate(self, self._of(self.actions, action_id, "action"))

    def cohort(self, cohort_id: int) -> Condition:
        """Which events are of a cohort's persons.

        Raises:
            OutOfScope: The cohort is unknown or static, or not made of persons' properties.
        """
        from tests.conformance.insights.filters import cohort_condition

        return cohort_condition(self, self._of(self.cohorts, cohort_id, "cohort"))

    @staticmethod
    def _of(known: Mapping[int, Step], key: int, kind: str) -> Step:
        if int(key) not in known:
            msg = f"{kind} {key} was never told"
            raise OutOfScope(msg)
        return known[int(key)]

    def _override(self, step: Step) -> None:
        to: str = self.person_of.get(step["to_distinct_id"]) or step["to_distinct_id"]
        moved = self.person_of.get(step["from_distinct_id"], step["from_distinct_id"])
        ids = {step["from_distinct_id"], *(key for key, person in self.person_of.items() if person == moved)}
        self.persons.setdefault(to, {})
        self.person_of.update(dict.fromkeys([*ids, step["to_distinct_id"]], to))

    def _person(self, step: Step) -> str | None:
        known: str | None = self.person_of.get(step["distinct_id"])
        # An event that was written with its person has one, even where no person was told.
        return known or step.get("person_id")

    def _sessions(self) -> dict[str, list[datetime]]:
        ends: dict[str, list[datetime]] = {}
        for step in self.told:
            key = _session(step)
            if key is not None:
                at = instant(step["timestamp"])
                first, last = ends.get(key, (at, at))
                ends[key] = [min(first, at), max(last, at)]
        return ends

    def _row(self, step: Step, sessions: Mapping[str, Sequence[datetime]]) -> tuple[Any, ...]:
        person, session = self._person(step), _session(step)
        properties = step.get("properties") or {}
        groups: list[str | None] = []
        for kind in range(GROUP_TYPES):
            key = properties.get(f"$group_{kind}")
            known = self.groups.get((kind, str(key))) if key not in (None, "") else None
            groups += [str(key) if key not in (None, "") else None, _json(known)]
        first_last = sessions.get(session) if session is not None else None
        duration = int((first_last[1] - first_last[0]).total_seconds()) if first_last else None
        return (
            person,
            instant(step["timestamp"]),
            _stored(step["event"]),
            step["distinct_id"],
            step.get("event_uuid"),
            session,
            _stored(_json(properties)),
            _json(self.persons.get(person)) if person else None,
            _json({"$session_duration": duration}) if first_last else None,
            *groups,
        )


_SCHEMA: dict[str, pl.DataType] = {
    "person_id": pl.String(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "event_name": pl.String(),
    "distinct_id": pl.String(),
    "event_uuid": pl.String(),
    "session_id": pl.String(),
    "properties": pl.String(),
    "person": pl.String(),
    "session": pl.String(),
    **{name: pl.String() for kind in range(GROUP_TYPES) for name in (f"group_{kind}", f"group_{kind}_properties")},
}


def instant(text: str) -> datetime:
    """The instant that a text of a case says; naive ones are UTC."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def sessions_were_written_down(world: World) -> bool:
    """Whether the sessions of a case's events can be told: some were random when the case was written down."""
    return not any(
        str((s.get("properties") or {}).get("$session_id")).startswith(_NOT_WRITTEN_DOWN) for s in world.told
    )


def _session(step: Step) -> str | None:
    found = (step.get("properties") or {}).get("$session_id")
    return None if found in (None, "") else str(found)


def _stored(text: str | None) -> str | None:
    """A text of an event as their store has it: their tests write events as SQL, where a quote is said by two."""
    return None if text is None else text.replace("''", "'")


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
