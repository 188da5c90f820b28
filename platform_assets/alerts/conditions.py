"""What is wrong now, as Dagster, Kafka and the lake tell it: `look`, of all kinds.

Everything is asked as of now but the evaluations of checks (`of_tables`), which are followed by a cursor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from platform_assets.alerts import incidents, of_runs, of_tables
from platform_assets.alerts.incidents import Condition, Incident
from platform_assets.alerts.of_streams import of_canaries, of_kafka, of_rates
from platform_assets.alerts.watched import OWNER, Watched
from platform_assets.platform import Platform
from platform_assets.quality.evaluations import new_evaluations


@dataclass(frozen=True)
class Seen:
    """What was seen at one look.

    Attributes:
        conditions: What is wrong.
        unknown: Names of the kinds that could not be looked at.
        removed: Causes of which there no longer is what they are about.
        cursor: Up to which event of Dagster's log evaluations were taken in.
    """

    conditions: list[Condition]
    unknown: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    cursor: int = 0


def look(
    platform: Platform,
    instance: dg.DagsterInstance,
    watched: Watched,
    standing: Mapping[str, Incident],
    unreached: Mapping[str, str],
    cursor: int | None,
    now: datetime,
) -> Seen:
    """Look at everything.

    Args:
        platform: The platform.
        instance: Dagster's.
        watched: What to look at.
        standing: The incidents that are not over, by cause.
        unreached: By sink, or entry of the settings that is none, why it takes nothing.
        cursor: Up to which event evaluations were taken in; None where none ever was.
        now: The clock.
    """
    evaluations, reached = new_evaluations(instance, cursor, now - platform.settings.alert_lookback)
    kafka = list(of_kafka(platform, now))
    found = [
        *of_tables.of_checks(evaluations, standing, watched),
        *of_tables.of_freshness(instance, evaluations, standing, watched, now),
        *of_runs.of_runs(instance, standing, watched, now - platform.settings.alert_lookback),
        *of_runs.of_backfills(instance, standing, watched, now - platform.settings.alert_lookback),
        *kafka,
        *of_rates(platform, now),
        *of_canaries(platform, now),
        *_of_sinks(unreached, now),
    ]
    is_known = {cause for cause, incident in standing.items() if incident.change != "seen"}
    blind = any(condition.kind is incidents.KAFKA_UNREACHABLE for condition in kafka)
    unknown = {incidents.CONSUMER_LAG.name, incidents.STREAM_STOPPED.name} if blind else set()
    removed = {cause for cause, incident in standing.items() if not _is_there(incident, watched)}
    conditions = incidents.grouped(found, watched.upstream, is_known)
    return Seen(conditions, frozenset(unknown), frozenset(removed), reached)


def _is_there(incident: Incident, watched: Watched) -> bool:
    """Whether there still is what an incident is about."""
    if incident.kind == incidents.RUN_FAILED.name:
        return of_runs.is_there(incident.cause, watched)
    if incident.kind in (incidents.CHECK_FAILED.name, incidents.STALE.name):
        return of_tables.is_there(incident, watched)
    return True


def _of_sinks(unreached: Mapping[str, str], now: datetime) -> Iterator[Condition]:
    """Sinks that take nothing, and entries of the settings that are no sinks."""
    for name, seen in unreached.items():
        yield Condition(
            cause=f"sink:{name}",
            kind=incidents.SINK_DOWN,
            severity="error",
            owner=OWNER,
            title=f"alerts do not reach {name}",
            seen=seen,
            since=now,
            path="/assets/ops/alert_deliveries",
            asset="ops/alert_deliveries",
            subject=f"sink:{name}",
        )
