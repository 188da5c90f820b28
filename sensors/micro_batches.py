"""Requests a lease of a stream when Kafka holds more than the lake has read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from platform_assets.platform import Platform
from platform_assets.streams import epochs
from platform_assets.streams.advance import POSITION_TAG, advance, advance_changes
from platform_assets.streams.stream import CLIENT_EVENTS, OLTP_CHANGES, Stream
from resources.records import Held, Position, check_continuity
from sensors.runs import ALIVE

MAX_RUNTIME_TAG = "dagster/max_runtime"
"""Dagster's tag: a run that was not heard of for this long, its process dead, is failed and frees its slot."""
_GRACE = timedelta(minutes=5)
SUCCESSOR_BEFORE = timedelta(seconds=45)
"""The next lease is requested this long before the last one ends: its process starts in the meantime."""


@dataclass(frozen=True)
class Attempt:
    """An `advance` run, as far as the decision needs it.

    Attributes:
        run_id: Its id.
        position: The progress at which it was requested.
        is_alive: Whether it is queued or running.
        started_at: When it was created.
    """

    run_id: str
    position: str
    is_alive: bool
    started_at: datetime


def digest(position: Position | None) -> str:
    """A position in a few characters, for run keys and tags."""
    if position is None:
        return "nothing-read"
    offsets = ",".join(f"{p}:{o}" for p, o in sorted(position.offsets.items()))
    told = f"{position.topic}/{position.epoch}/{offsets}"
    return f"{position.topic}-{position.epoch}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def request(
    position: Position | None, held: Mapping[int, Held], attempts: Sequence[Attempt], now: datetime, lease: timedelta
) -> tuple[str, str] | None:
    """Decide whether a run is needed.

    Args:
        position: How far bronze has read; None if never.
        held: What the topic holds.
        attempts: Recent `advance` runs, those at this position among them.
        now: The clock.
        lease: How long a run holds the streams.

    Returns:
        The run key and the position's digest, or None. A run key is never started twice, whatever became of its
        run: so it counts the attempts at this position.

    Raises:
        ContinuityBroken: What comes next is gone.
    """
    if position is not None:
        check_continuity(position, held)
    at = digest(position)
    alive = [attempt for attempt in attempts if attempt.is_alive]
    if len(alive) == 1 and now - alive[0].started_at >= lease - SUCCESSOR_BEFORE:
        return f"after-{alive[0].run_id}", at
    if alive:
        return None
    offsets = {} if position is None else position.offsets
    is_new = any(offsets_held.high > offsets.get(p, offsets_held.low) for p, offsets_held in held.items())
    if not is_new and position is not None:
        return None
    return f"{at}-{sum(attempt.position == at for attempt in attempts)}", at


def stream_sensor(name: str, stream: Stream, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that asks for a lease of a stream where there is something new and none is held.

    Args:
        name: Of the sensor.
        stream: The stream.
        job: Holds it for a lease.
    """

    @dg.sensor(
        name=name,
        job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Compares Kafka's watermarks of {stream.name} with the progress in the Delta log; starts `{job.name}` "
            "when there is more."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        topic, lease = stream.topic(platform.settings), platform.settings.lease
        if topic is None:
            return dg.SkipReason(f"no topic of {stream.name} is set")
        position = epochs.recorded(platform.lake.open(stream.table), topic)
        with platform.source() as source:
            held = source.held(topic, position)
        now = platform.clock()
        attempts = _attempts(context.instance, job.name, digest(position), now)
        found = request(position, held, attempts, now, lease)
        if found is None:
            return dg.SkipReason("nothing new, or a run is at it")
        key, at = found
        longest = 2 * lease + _GRACE
        return dg.RunRequest(run_key=key, tags={POSITION_TAG: at, MAX_RUNTIME_TAG: str(int(longest.total_seconds()))})

    return sensor


micro_batches = stream_sensor("micro_batches", CLIENT_EVENTS, advance)
changes = stream_sensor("changes", OLTP_CHANGES, advance_changes)


def _attempts(instance: dg.DagsterInstance, job: str, at: str, now: datetime) -> list[Attempt]:
    alive = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ALIVE))
    same = instance.get_run_records(dg.RunsFilter(job_name=job, tags={POSITION_TAG: at}))
    found = {record.dagster_run.run_id: record for record in [*alive, *same]}
    return [
        Attempt(
            run_id=run_id,
            position=record.dagster_run.tags.get(POSITION_TAG, ""),
            is_alive=record.dagster_run.status in ALIVE,
            started_at=record.create_timestamp.astimezone(now.tzinfo),
        )
        for run_id, record in found.items()
    ]
