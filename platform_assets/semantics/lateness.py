"""How much of a window is still to come, told by the windows before it (semantics 11)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

_HOUR = timedelta(hours=1)


def share_still_expected(
    arrivals: pl.DataFrame, past: Sequence[tuple[datetime, datetime]], age: timedelta
) -> float | None:
    """The share of a window's events that had not come yet when past windows were as old as it is now.

    The past windows are taken together: of all their events, those that were ingested later than ``age`` after their
    window's end. Arrivals are counted by the hour, and an hour that had not passed by then counts as still to come,
    so the share is one of at most, by less than an hour of arrivals.

    Args:
        arrivals: ``event_hour``, ``ingestion_hour`` (starts of UTC hours), ``events`` (signed counts).
        past: ``[start, end)`` of windows to which nothing more comes.
        age: The watermark less the window's end; negative while the window is open.

    Returns:
        From 0 to 1; None where the past windows hold no event: there is nothing to tell it by.
    """
    if not past:
        return None
    windows = pl.DataFrame(
        {"start": [start for start, _ in past], "end": [end for _, end in past]},
        schema={"start": arrivals.schema["event_hour"], "end": arrivals.schema["event_hour"]},
    )
    within = arrivals.join_where(windows, pl.col("event_hour") >= pl.col("start"), pl.col("event_hour") < pl.col("end"))
    is_to_come = pl.col("ingestion_hour") + _HOUR > pl.col("end") + age
    total, late = within.select(total=pl.col("events").sum(), late=pl.col("events").filter(is_to_come).sum()).row(0)
    return None if not total else late / total
