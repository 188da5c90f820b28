"""Requests a lease of a stream when Kafka holds more than the lake has read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import dagster as dg

from platform_assets.followed import FOLLOWED
from platform_assets.platform import Platform
from platform_assets.silver import admissions
from platform_assets.streams import epochs
from platform_assets.streams.advance import POSITION_TAG, advance, advance_changes
from platform_assets.streams.stream import EVENT_STREAMS, OLTP_CHANGES, REFUSALS, Stream
from resources.delta_log import changed_since
from resources.lake import Lake
from resources.records import Held, Position, RecordSource, check_continuity
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


@dataclass(frozen=True)
class Reach:
    """How far a stream was read, and how far it could be.

    Attributes:
        position: How far bronze has read; None if never.
        held: What the topic holds.
        has_admissions: Whether a replay let in something that silver, or a table of refusals, has not taken in.
        is_uneven: Whether a table lacks what the one above it holds, as after a kill or a rebuild by hand.
    """

    position: Position | None
    held: Mapping[int, Held]
    has_admissions: bool = False
    is_uneven: bool = False

    def is_behind(self) -> bool:
        """Whether there is something to do.

        Raises:
            ContinuityBroken: What comes next is gone.
        """
        if self.position is None:
            return True
        check_continuity(self.position, self.held)
        offsets = self.position.offsets
        has_more = any(held.high > offsets.get(p, held.low) for p, held in self.held.items())
        return self.has_admissions or self.is_uneven or has_more


def digest(positions: Sequence[Position | None]) -> str:
    """Positions in a few characters, for run keys and tags."""
    read = [position for position in positions if position is not None]
    if not read:
        return "nothing-read"
    told = [f"{p.topic}/{p.epoch}/{','.join(f'{n}:{o}' for n, o in sorted(p.offsets.items()))}" for p in read]
    return f"{read[0].topic}-{read[0].epoch}-{hashlib.sha256(' '.join(told).encode()).hexdigest()[:12]}"


def request(
    streams: Sequence[Reach], attempts: Sequence[Attempt], now: datetime, lease: timedelta
) -> tuple[str, str] | None:
    """Decide whether a run is needed.

    Args:
        streams: The streams that one run holds.
        attempts: Recent runs, those at these positions among them.
        now: The clock.
        lease: How long a run holds the streams.

    Returns:
        The run key and the positions' digest, or None. A run key is never started twice, whatever became of its
        run: so it counts the attempts at these positions.

    Raises:
        ContinuityBroken: What comes next is gone.
    """
    behind = [stream.is_behind() for stream in streams]  # each is looked at: any of them may be broken
    at = digest([stream.position for stream in streams])
    alive = [attempt for attempt in attempts if attempt.is_alive]
    if len(alive) == 1 and now - alive[0].started_at >= lease - SUCCESSOR_BEFORE:
        return f"after-{alive[0].run_id}", at
    if alive or not any(behind):
        return None
    return f"{at}-{sum(attempt.position == at for attempt in attempts)}", at


def stream_sensor(name: str, streams: Sequence[Stream], job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that asks for a lease of streams where there is something new and none is held.

    Args:
        name: Of the sensor.
        streams: The streams that one run of the job holds.
        job: Holds them for a lease.
    """

    @dg.sensor(
        name=name,
        job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Compares Kafka's watermarks of {', '.join(stream.name for stream in streams)} with the progress in the "
            f"Delta log; starts `{job.name}` when there is more, or a table lacks what the one above it holds."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        lease = platform.settings.lease
        there = [stream for stream in streams if stream.topic(platform.settings) is not None]
        if not there:
            return dg.SkipReason(f"no topic of {' or '.join(stream.name for stream in streams)} is set")
        with platform.source() as source:
            reaches = [_reach(platform, stream, source) for stream in there]
        now = platform.clock()
        at = digest([reach.position for reach in reaches])
        attempts = _attempts(context.instance, job.name, at, now)
        found = request(reaches, attempts, now, lease)
        if found is None and not any(attempt.is_alive for attempt in attempts):
            # Only where all is quiet: a run takes in what lacks by itself, and looking costs some logs.
            of = zip(there, reaches, strict=True)
            reaches = [
                replace(reach, is_uneven=is_uneven(platform.lake, stream, reach.position)) for stream, reach in of
            ]
            found = request(reaches, attempts, now, lease)
        if found is None:
            return dg.SkipReason("nothing new, or a run is at it")
        key, at = found
        longest = 2 * lease + _GRACE
        return dg.RunRequest(run_key=key, tags={POSITION_TAG: at, MAX_RUNTIME_TAG: str(int(longest.total_seconds()))})

    return sensor


def is_uneven(lake: Lake, stream: Stream, position: Position | None) -> bool:
    """Whether the stream's silver table lacks records that bronze holds, or what follows it lacks a change of it.

    A run that was killed between two commits leaves that, and so does a rebuild of silver by hand. Where records still
    come, the next run mends it; where they do not, nobody else would ask for one.

    Args:
        lake: The lake.
        stream: The stream.
        position: How far bronze has read; None if never.
    """
    if position is None:
        return False
    silver, begins = lake.open(stream.silver), epochs.starts(lake.open(stream.table), position)
    for partition, offset in position.offsets.items():
        taken = silver.transaction_version(position.app(partition))
        if (begins[partition] if taken is None else taken) < offset:
            return True
    followers = [(f.app, table) for f in FOLLOWED if f.table is stream.silver for table in f.followers]
    taken_in = {lake.open(table).transaction_version(app) or 0 for app, table in followers}
    return changed_since(lake, stream.silver, min(taken_in)) is not None


def _reach(platform: Platform, stream: Stream, source: RecordSource) -> Reach:
    lake, topic = platform.lake, stream.required_topic(platform.settings)
    position = epochs.recorded(lake.open(stream.table), topic)
    levels = [admissions.level(lake.open(table), stream.name) for table in (stream.silver, *REFUSALS)]
    waiting = admissions.newest(lake, stream.name) > min(levels)
    return Reach(position, source.held(topic, position), waiting)


micro_batches = stream_sensor("micro_batches", EVENT_STREAMS, advance)
changes = stream_sensor("changes", [OLTP_CHANGES], advance_changes)


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
