"""The tables that follow silver's changes: outcomes, live metrics, touched hours.

Each records the version of `silver/events` that it has taken in, in the same commit as its rows. What silver did
since is read from silver's own log, so nothing that silver committed is ever missed, whoever committed it
(micro-batches or a rebuild) and whatever died in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl
from deltalake import DeltaTable

from platform_assets.gold import live_metrics
from platform_assets.silver import admissions, events, outcomes, touched_hours
from platform_assets.silver.outcomes import Tallies, tally
from platform_assets.streams.judging import Judging
from resources.delta_log import Change, changes
from resources.lake import Lake, Writer
from resources.records import RECORD_SCHEMA, in_ranges

TopicPartition = tuple[str, int, int]
"""Topic, epoch, partition."""


class EventStream(Protocol):
    """A stream that feeds silver, as far as its followers need it (`streams.topic_writer.Inlet`)."""

    @property
    def judging(self) -> Judging: ...  # noqa: D102
    @property
    def topic_partitions(self) -> Sequence[TopicPartition]: ...  # noqa: D102


@dataclass(frozen=True)
class SilverStep:
    """What one commit of silver did, and what became of the records that it took in.

    Attributes:
        change: Rows that came and went, with the columns `events.FOLLOWED`.
        judged: Of the records whose progress the commit recorded, and of those whose admission it took in; none for a
            rebuild.
    """

    change: Change
    judged: Tallies


class Followers:
    """The writers of the tables that follow silver."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self.outcomes = Writer(lake, outcomes.TABLE)
        self.live_metrics = Writer(lake, live_metrics.TABLE)
        self.touched_hours = Writer(lake, touched_hours.TABLE)

    def writers(self) -> tuple[Writer, ...]:
        """The three writers."""
        return (self.outcomes, self.live_metrics, self.touched_hours)

    def follow(self, step: SilverStep) -> None:
        """Take in one step of silver, where it is not taken in yet; none may be left out before it."""
        for writer in self.writers():
            taken_in = writer.progress(events.FOLLOWS) or 0
            if taken_in < step.change.version:
                writer.append(self._rows(writer, step), {events.FOLLOWS: step.change.version})

    def catch_up(self, silver_version: int, streams: Sequence[EventStream]) -> None:
        """Take in everything that silver did up to a version, from silver's log.

        Raises:
            VersionGone: Silver's log no longer reaches back to what a follower has taken in.
        """
        since = min(writer.progress(events.FOLLOWS) or 0 for writer in self.writers())
        for step in self._steps(since, silver_version, streams):
            self.follow(step)
        for writer in self.writers():
            if (writer.progress(events.FOLLOWS) or 0) < silver_version:
                writer.record({events.FOLLOWS: silver_version})

    def _rows(self, writer: Writer, step: SilverStep) -> pl.DataFrame:
        change = step.change
        if writer is self.live_metrics:
            return live_metrics.transform(change.added, change.removed, change.version)
        if writer is self.touched_hours:
            return touched_hours.transform(change.added, change.removed, change.version)
        return outcomes.transform(step.judged, tally(change.added), tally(change.removed), change.version)

    def _steps(self, since: int, until: int, streams: Sequence[EventStream]) -> Iterator[SilverStep]:
        for change in changes(self._lake, events.TABLE, since, until, events.FOLLOWED):
            before, after = (self._lake.open(events.TABLE, version) for version in (change.version - 1, change.version))
            yield SilverStep(change, Tallies.total([self._judged(stream, before, after) for stream in streams]))

    def _judged(self, stream: EventStream, before: DeltaTable, after: DeltaTable) -> Tallies:
        """What became of the records of a stream that silver took in, or let in, between two of its versions."""
        judging = stream.judging
        levels = [admissions.level(handle, judging.stream.name) for handle in (before, after)]
        starts, ends = (_progress(handle, stream.topic_partitions) for handle in (before, after))
        moved = {key: offset for key, offset in ends.items() if starts.get(key) != offset}
        told = []
        if moved:
            records = self._lake.scan(judging.stream.table).filter(in_ranges(starts, moved))
            told.append(judging.again(records.select(RECORD_SCHEMA.names()).collect(), levels[1]).tallies())
        if levels[0] < levels[1]:
            told.append(judging.admitted(*levels).tallies())
        return Tallies.total(told)


def _progress(silver: DeltaTable, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    found = {key: silver.transaction_version("/".join(map(str, key))) for key in partitions}
    return {key: offset for key, offset in found.items() if offset is not None}
