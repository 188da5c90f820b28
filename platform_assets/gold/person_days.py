"""`gold/person_days`: for each person and day, on which of the last 28 days they were active."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl

from partitions import Window
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.restatement import stale_histories
from platform_assets.semantics.activity import HISTORY_DAYS, history_before, next_day
from platform_assets.silver import activity_hours
from platform_assets.table import Column, Table
from resources.lake import retrying

TABLE = Table(
    name="gold/person_days",
    description=(
        "One row per person and day with a 28-bit history of activity: bit 0 is the day itself. Weekly and monthly "
        "numbers of a day read that one day's rows. Until identity exists, a person is a raw id."
    ),
    grain="person × day",
    key=("person_id", "day"),
    columns=(
        Column("person_id", pl.String(), "`u:<user_id>`, else `a:<anonymous_id>`.", personal=True),
        Column("history", pl.Int32(), "Days of activity: bit k is k days before.", unit="28 bits", minimum=1),
        Column("day", pl.Date(), "Day in the reporting timezone."),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("person_id",),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day",),
)


def transform(history: pl.LazyFrame, activity: pl.LazyFrame, days: list[date]) -> Iterator[pl.DataFrame]:
    """The rows of consecutive days, one frame a day.

    Args:
        history: ``person_id``, ``history`` on the day before the first one.
        activity: ``person_id``, ``day`` of activity in those days.
        days: Consecutive days, in order.
    """
    for day in days:
        rolled = next_day(history, activity.filter(pl.col("day") == day)).collect()
        yield rolled.with_columns(day=pl.lit(day)).select(TABLE.schema.names())
        history = rolled.lazy()


def rebuild(platform: Platform, window: Window) -> None:
    """Compute consecutive days from the hours' activity and the day before.

    Where the day before is up to date, its rows are read: a new day costs its own activity. Where it is not (a
    backfill into the past, the first day), the history is made from the activity of the 28 days before.
    """
    lake, zone = platform.lake, platform.settings.zone
    days = list(platform.days(window))

    def attempt() -> None:
        handle = lake.open(
            TABLE
        )  # before the activity is read: a rival that read it later and wrote first is a conflict
        source = lake.open(activity_hours.TABLE)
        activity = (
            lake.scan(activity_hours.TABLE, Window.of_days(days[0], days[-1], zone), source)
            .select("day", person_id="raw_id")
            .unique()
            .collect(engine="streaming")
        )
        history = _history_before(platform, days[0])
        for day, rows in zip(days, transform(history, activity.lazy(), days), strict=True):
            made = lake.replace_days(TABLE, handle, rows, day, day)
            day_window = Window.of_days(day, day, zone)
            platform.record(TABLE, day_window, activity_hours.TABLE, source.version(), made, rows.height)

    retrying(f"rebuild of {TABLE.name}", attempt)


def _history_before(platform: Platform, day: date) -> pl.LazyFrame:
    lake, zone = platform.lake, platform.settings.zone
    yesterday = day - timedelta(days=1)
    ledger = lake.scan(computations.TABLE).collect()
    mine = ledger.filter(table=TABLE.name)
    is_there = not mine.filter(pl.col("window_start") == Window.of_days(yesterday, yesterday, zone).start).is_empty()
    stale = stale_histories(ledger.filter(table=activity_hours.TABLE.name), mine, yesterday, zone)
    if is_there and yesterday not in stale:
        return lake.scan(TABLE).filter(pl.col("day") == yesterday).select("person_id", "history")
    reach = Window.of_days(day - timedelta(days=HISTORY_DAYS), yesterday, zone)
    active = lake.scan(activity_hours.TABLE, reach).select("day", person_id="raw_id")
    return history_before(active, day)
