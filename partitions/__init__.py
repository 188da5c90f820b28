"""Windows of time, and the hourly and daily partitions that Dagster shows for them.

Every window is half-open, ``[start, end)``. Hourly partitions are UTC. Daily partitions are days of the
reporting timezone. The open hour and the open day are partitions too (``end_offset=1``): their numbers are
published, marked as not final.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import dagster as dg

Grain = Literal["hour", "day"]


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of instants, ``[start, end)``; both ends are kept in UTC.

    Raises:
        ValueError: An end has no timezone, or the window is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            msg = f"a window needs instants with a timezone, got {self.start!r} and {self.end!r}"
            raise ValueError(msg)
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))
        if self.start >= self.end:
            msg = f"a window ends after it starts, got [{self.start}, {self.end})"
            raise ValueError(msg)

    @classmethod
    def of_hour(cls, instant: datetime) -> Window:
        """The UTC hour that holds an instant."""
        start = floor_hour(instant)
        return cls(start, start + timedelta(hours=1))

    @classmethod
    def of_days(cls, first: date, last: date, zone: ZoneInfo) -> Window:
        """The days ``first`` to ``last``, both included, of a timezone."""
        return cls(_midnight(first, zone), _midnight(last + timedelta(days=1), zone))

    @property
    def first_date(self) -> date:
        """The UTC date of the first instant."""
        return self.start.date()

    @property
    def last_date(self) -> date:
        """The UTC date of the last instant."""
        return (self.end - timedelta(microseconds=1)).date()

    def days(self, zone: ZoneInfo) -> list[date]:
        """The days of a timezone that the window touches, in order."""
        first = self.start.astimezone(zone).date()
        last = (self.end - timedelta(microseconds=1)).astimezone(zone).date()
        return [first + timedelta(days=i) for i in range((last - first).days + 1)]

    def split(self, step: timedelta) -> list[Window]:
        """The window cut into consecutive windows of at most ``step``."""
        edges = [self.start]
        while edges[-1] + step < self.end:
            edges.append(edges[-1] + step)
        return [Window(a, b) for a, b in zip(edges, [*edges[1:], self.end], strict=True)]


@dataclass(frozen=True)
class Partitions:
    """The partitions definitions of one deployment."""

    hourly: dg.HourlyPartitionsDefinition
    daily: dg.DailyPartitionsDefinition
    zone: ZoneInfo

    @classmethod
    def starting(cls, first_day: date, zone: ZoneInfo) -> Partitions:
        """Hours and days from the start of ``first_day`` in ``zone`` to the open ones."""
        first_instant = _midnight(first_day, zone)
        return cls(
            hourly=dg.HourlyPartitionsDefinition(start_date=floor_hour(first_instant), timezone="UTC", end_offset=1),
            daily=dg.DailyPartitionsDefinition(start_date=first_instant, timezone=zone.key, end_offset=1),
            zone=zone,
        )

    def of(self, grain: Grain) -> dg.TimeWindowPartitionsDefinition:
        """The definition of a grain."""
        return self.hourly if grain == "hour" else self.daily

    def keys(self, grain: Grain, window: Window) -> list[str]:
        """The keys of the partitions that a window touches; those before the start date have none."""
        definition = self.of(grain)
        first = max(window.start, definition.start.astimezone(UTC))
        if first >= window.end:
            return []
        return list(definition.get_partition_keys_in_time_window(dg.TimeWindow(first, window.end)))

    def window(self, grain: Grain, first_key: str, last_key: str) -> Window:
        """The window from the start of one partition to the end of another."""
        definition = self.of(grain)
        first = definition.time_window_for_partition_key(first_key)
        last = definition.time_window_for_partition_key(last_key)
        return Window(first.start, last.end)


def hours_of_day(partitions: Partitions) -> dg.PartitionMapping:
    """Which hourly partitions a daily one is made of.

    Dagster's own mapping needs both sides in one timezone. With a reporting timezone other than UTC the
    lineage is shown as "all hours"; what is stale is decided from the lake, not from this mapping.
    """
    if partitions.zone.key == "UTC":
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return dg.AllPartitionMapping()


def floor_hour(instant: datetime) -> datetime:
    """The start of the UTC hour that holds an instant."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone)
