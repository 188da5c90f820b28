"""The watermark of a stream, and what it makes of a window (semantics 2)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from platform_assets.semantics.identity import CLAIM

Partition = TypeVar("Partition", bound=Hashable)

PERSON_FINAL_AFTER = CLAIM
"""How long after a window's end a login may still claim anonymous events of it."""


@dataclass(frozen=True)
class Newest:
    """The newest that was seen of one topic partition.

    Attributes:
        event_time: The greatest event time.
        record_time: The greatest record time.
    """

    event_time: datetime
    record_time: datetime


def watermark(
    newest: Mapping[Partition, Newest],
    expected_disorder: timedelta,
    idle_after: timedelta,
    before: datetime | None = None,
) -> datetime | None:
    """How far event time has come: up to here, nothing more is expected but late events.

    The least, over the topic partitions with traffic, of the greatest event time seen, minus the expected
    disorder; never less than it was. A partition whose newest record is older than the stream's newest one by
    ``idle_after`` is idle and does not hold it back. No clock is read: a silent stream stands still.

    Args:
        newest: Per topic partition that had traffic, what was seen of it.
        expected_disorder: Subtracted.
        idle_after: See above.
        before: The watermark as it was.

    Returns:
        The watermark, or None before the first event.
    """
    if not newest:
        return before
    latest = max(seen.record_time for seen in newest.values())
    live = [seen.event_time for seen in newest.values() if latest - seen.record_time < idle_after]
    now = min(live) - expected_disorder
    return now if before is None else max(now, before)


def is_closed(end: datetime, at: datetime | None) -> bool:
    """Whether the watermark has passed a window's end."""
    return at is not None and at >= end


def is_final(end: datetime, at: datetime | None, allowed_lateness: timedelta) -> bool:
    """Whether the watermark has passed a window's end plus the allowed lateness: nothing can change it but people."""
    return at is not None and at >= end + allowed_lateness


def is_person_final(end: datetime, at: datetime | None) -> bool:
    """Whether the watermark is 30 days past a window's end: no login can claim its anonymous events any more."""
    return at is not None and at >= end + PERSON_FINAL_AFTER
