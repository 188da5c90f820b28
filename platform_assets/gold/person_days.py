"""`gold/person_days`: for each person and day, on which of the last 28 days they were active."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.publication import Reach
from platform_assets.restatement import stale_histories, stale_identities
from platform_assets.semantics.activity import HISTORY_DAYS, history_before, next_day
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.silver import activity_hours, persons
from platform_assets.table import Column, Table
from resources.lake import retrying

TABLE = Table(
    name="gold/person_days",
    description=(
        "One row per person and day with a 28-bit history of activity: bit 0 is the day itself. Weekly and monthly "
        "numbers of a day read that one day's rows. Who a raw id is, is joined from `silver/persons`."
    ),
    grain="person × day",
    key=("person_id", "day"),
    columns=(
        Column("person_id", pl.String(), "The person, as `silver/persons` has it.", personal=True),
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
    version=2,
)

REACH = Reach(before=HISTORY_DAYS - 1)
"""What is read for a day: its activity, and that of the 27 days before."""


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
        # Before the activity is read, so that a rival that read it later and wrote first is a conflict; and one a day:
        # a handle that has written stands at the newest version, and would notice no rival any more.
        handles = [lake.open(TABLE) for _ in days]
        source, whose = lake.open(activity_hours.TABLE), lake.open(persons.TABLE)
        resolution = persons.resolution_of(whose)
        activity = _active_days(platform, Window.of_days(days[0], days[-1], zone), source, whose)
        history = _history_before(platform, days[0], source, whose)
        for handle, day, rows in zip(handles, days, transform(history, activity.lazy(), days), strict=True):
            made = lake.replace_days(TABLE, handle, rows, day, day)
            day_window = Window.of_days(day, day, zone)
            platform.record(TABLE, day_window, activity_hours.TABLE, source.version(), made, rows.height)
            platform.record(TABLE, day_window, persons.TABLE, resolution, made, rows.height)

    retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose histories reach an hour, or a change of persons, that came after them.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    zone, mine = platform.settings.zone, ledger.filter(table=TABLE.name)
    hours = ledger.filter(table=activity_hours.TABLE.name)
    by_activity = stale_histories(hours, mine.filter(upstream=activity_hours.TABLE.name), last_day, zone)
    applied = persons.resolution_of(platform.lake.open(persons.TABLE))
    changes = platform.lake.scan(persons.CHANGES).filter(pl.col("resolution") <= applied).collect()
    by_persons = stale_identities(changes, mine.filter(upstream=persons.TABLE.name), last_day, zone)
    return {*by_activity, *by_persons}


def _active_days(platform: Platform, window: Window, source: DeltaTable, whose: DeltaTable) -> pl.DataFrame:
    """Who was active on which day: ``person_id``, ``day``."""
    lake = platform.lake
    active = lake.scan(activity_hours.TABLE, window, source).select("raw_id", "event_hour", "day").unique()
    known = lake.scan(persons.TABLE, handle=whose).select(PERSONS.names())
    times = persons.timed(platform, active, known)
    return joined(times, known).select("person_id", "day").unique().collect()


def _history_before(platform: Platform, day: date, source: DeltaTable, whose: DeltaTable) -> pl.LazyFrame:
    lake, zone = platform.lake, platform.settings.zone
    yesterday = day - timedelta(days=1)
    ledger = lake.scan(computations.TABLE).collect()
    start = Window.of_days(yesterday, yesterday, zone).start
    is_there = not ledger.filter(pl.col("window_start") == start, table=TABLE.name).is_empty()
    if is_there and yesterday not in stale(platform, ledger, yesterday):
        return lake.scan(TABLE).filter(pl.col("day") == yesterday).select("person_id", "history")
    reach = Window.of_days(day - timedelta(days=HISTORY_DAYS), yesterday, zone)
    return history_before(_active_days(platform, reach, source, whose).lazy(), day)
