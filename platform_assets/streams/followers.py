"""The tables that follow silver's changes: outcomes, live metrics, touched hours.

Each records the version of `silver/events` that it has taken in, in the same commit as its rows. What silver did
since is read from silver's own log, so nothing that silver committed is ever missed, whoever committed it
(micro-batches or a rebuild) and whatever died in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from platform_assets.bronze import client_events
from platform_assets.gold import live_metrics
from platform_assets.silver import events, outcomes, touched_hours
from platform_assets.silver.judgement import Judgement, judge
from platform_assets.silver.outcomes import tally
from resources.lake import Change, Lake, Writer, changes
from resources.records import RECORD_SCHEMA, in_ranges

Streams = Sequence[tuple[str, int, int]]
"""(topic, epoch, partition) of every topic partition read so far."""


@dataclass(frozen=True)
class SilverStep:
    """What one commit of silver did, and the judgement of the records that it took in.

    Attributes:
        change: Rows that came and went, with the columns `events.FOLLOWED`.
        judgement: Of the bronze records whose progress the commit recorded; none for a rebuild.
    """

    change: Change
    judgement: Judgement


class Followers:
    """The writers of the tables that follow silver."""

    def __init__(self, lake: Lake, allowed_lateness: timedelta) -> None:
        self._lake = lake
        self._allowed_lateness = allowed_lateness
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

    def catch_up(self, silver_version: int, streams: Streams) -> None:
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
        return outcomes.transform(*step.judgement.tallies(), tally(change.added), tally(change.removed), change.version)

    def _steps(self, since: int, until: int, streams: Streams) -> Iterator[SilverStep]:
        for change in changes(self._lake, events.TABLE, since, until, events.FOLLOWED):
            before = _progress_at(self._lake, change.version - 1, streams)
            after = _progress_at(self._lake, change.version, streams)
            yield SilverStep(change, self._judge_again(before, after))

    def _judge_again(
        self, before: Mapping[tuple[str, int, int], int], after: Mapping[tuple[str, int, int], int]
    ) -> Judgement:
        moved = {key: offset for key, offset in after.items() if before.get(key) != offset}
        if not moved:
            records = pl.DataFrame(schema=RECORD_SCHEMA)
        else:
            records = (
                self._lake.scan(client_events.TABLE)
                .filter(in_ranges(before, moved))
                .select(RECORD_SCHEMA.names())
                .collect()
            )
        return judge(records, self._allowed_lateness)


def _progress_at(lake: Lake, version: int, streams: Streams) -> dict[tuple[str, int, int], int]:
    handle = lake.open(events.TABLE, version)
    found = {key: handle.transaction_version("/".join(map(str, key))) for key in streams}
    return {key: offset for key, offset in found.items() if offset is not None}
