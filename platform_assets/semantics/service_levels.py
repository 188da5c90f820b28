"""Service levels: of the partitions that a table owed in a week, how many were there when they fell due.

A partition falls due when its end and the table's service level have passed. Whether it was there is told by the first
evaluation from then on: that is a look, not a measurement, so what came between the due time and the look counts as
there. What was said before a partition fell due says nothing: an open day is there, too. A partition at which nobody
looked is neither met nor missed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from platform_assets.semantics.calendar import bucket_of, start_of

_INSTANT = pl.Datetime("us", "UTC")
_OWED = pl.Schema(
    {"asset": pl.String(), "start": _INSTANT, "due_at": _INSTANT, "week": pl.Date(), "objective": pl.Float64()}
)

PROMISES = pl.Schema(
    {"asset": pl.String(), "grain": pl.String(), "service_level": pl.Duration("us"), "objective": pl.Float64()}
)
"""What tables promise: the grain of their partitions (``hour``, ``day``), how long after its end one may be missing,
and the share of them that shall be there by then."""

LOOKS = pl.Schema({"asset": pl.String(), "start": _INSTANT, "passed": pl.Boolean(), "evaluated_at": _INSTANT})
"""Looks at partitions, by their start: whether one was there, and when that was looked at."""


def service_levels(looks: pl.DataFrame, promises: pl.DataFrame, zone: ZoneInfo, now: datetime) -> pl.DataFrame:
    """How each table kept its service level, week by week.

    A partition belongs to the ISO week that it begins in, on the zone's clock; hours are of UTC, days of the zone. A
    table is counted from the partition on that was the newest one due when it was first looked at.

    Args:
        looks: `LOOKS`.
        promises: `PROMISES`; of tables without one nothing is said.
        zone: The reporting timezone.
        now: The clock.

    Returns:
        A row a table and week: ``asset``, ``week`` (its Monday), ``week_name`` (``2026-W48``), ``partitions`` (of the
        week that fall due in the end), ``due`` (until now), ``met``, ``missed``, ``unjudged`` (the rest of ``due``),
        ``objective``, ``attained`` (share of the judged that are met; null where none is), ``budget_left`` (share of
        the misses that the objective allows of the whole week; negative where there were more), ``is_open`` (not all
        is due yet). In order of week and table.
    """
    owed = _owed(looks, promises, zone, now)
    first_looks = (
        looks.join(owed.select("asset", "start", "due_at"), on=["asset", "start"])
        .filter(pl.col("evaluated_at") >= pl.col("due_at"))
        .sort("evaluated_at")
        .unique(["asset", "start"], keep="first", maintain_order=True)
        .select("asset", "start", "passed")
    )
    is_due = pl.col("due_at") <= now
    counted = (
        owed.join(first_looks, on=["asset", "start"], how="left")
        .group_by("asset", "week", "objective")
        .agg(
            partitions=pl.len().cast(pl.Int64),
            due=is_due.sum().cast(pl.Int64),
            met=(is_due & pl.col("passed")).sum().cast(pl.Int64),
            missed=(is_due & ~pl.col("passed")).sum().cast(pl.Int64),
        )
        .filter(pl.col("due") > 0)
    )
    judged = pl.col("met") + pl.col("missed")
    return counted.select(
        "asset",
        "week",
        week_name=pl.col("week").dt.strftime("%G-W%V"),
        partitions="partitions",
        due="due",
        met="met",
        missed="missed",
        unjudged=pl.col("due") - judged,
        objective="objective",
        attained=pl.when(judged > 0).then(pl.col("met") / judged),
        budget_left=1 - pl.col("missed") / ((1 - pl.col("objective")) * pl.col("partitions")),
        is_open=pl.col("due") < pl.col("partitions"),
    ).sort("week", "asset")


def _owed(looks: pl.DataFrame, promises: pl.DataFrame, zone: ZoneInfo, now: datetime) -> pl.DataFrame:
    """The partitions of each table, from the first that counts to the end of the week that is open.

    Returns:
        `_OWED`.
    """
    began = looks.group_by("asset").agg(began=pl.col("evaluated_at").min())
    promised = promises.join(began, on="asset")
    if promised.is_empty():
        return _OWED.to_frame()
    first = promised.select((pl.col("began") - pl.col("service_level")).min()).item()
    grid = pl.concat(_grid(grain, first, now, zone) for grain in ("hour", "day"))
    level = pl.col("service_level")
    return (
        promised.join(grid, on="grain")
        .with_columns(due_at=pl.col("end") + level)
        .filter(pl.col("next_end") + level > pl.col("began"))
        .select(_OWED.names())
    )


def _grid(grain: str, first: datetime, now: datetime, zone: ZoneInfo) -> pl.DataFrame:
    """The partitions of a grain from some days before an instant to the end of the week that holds another.

    Returns:
        ``grain``, ``start``, ``end``, ``next_end`` (of the partition after it), ``week``.
    """
    monday = start_of(bucket_of(first.astimezone(zone) - timedelta(days=2), "week"), "week")
    last = start_of(bucket_of(now.astimezone(zone), "week") + 1, "week")
    if grain == "day":
        days = (last - monday).days + 2
        starts = [(monday + timedelta(days=n)).replace(tzinfo=zone).astimezone(UTC) for n in range(days + 1)]
    else:
        begin, end = (edge.replace(tzinfo=zone).astimezone(UTC) for edge in (monday, last))
        begin = begin.replace(minute=0, second=0)
        starts = [begin + timedelta(hours=n) for n in range(int((end - begin) / timedelta(hours=1)) + 3)]
    edges = pl.Series("start", starts, dtype=_INSTANT)
    day = pl.col("start").dt.convert_time_zone(zone.key).dt.date()
    return (
        pl.DataFrame([edges])
        .with_columns(
            grain=pl.lit(grain),
            end=pl.col("start").shift(-1),
            next_end=pl.col("start").shift(-2),
            week=day.dt.truncate("1w"),
        )
        .filter(pl.col("next_end").is_not_null(), pl.col("week") < last.date())
    )
