"""`gold/person_days`: for each person and day, on which of the last 28 days they were active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import histories
from platform_assets.platform import Platform
from platform_assets.publication import Reach
from platform_assets.restatement import stale_histories, stale_identities
from platform_assets.semantics.activity import HISTORY_DAYS, PERSON
from platform_assets.semantics.engines import Frame, collected
from platform_assets.semantics.identity import PERSONS, owned
from platform_assets.silver import activity_hours, persons
from platform_assets.table import Column, Table
from resources.engine import Engine

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
    return (rows.select(TABLE.schema.names()) for rows in histories.transform(history, activity, days, PERSON))


def rebuild(platform: Platform, window: Window) -> None:
    """Compute consecutive days from the hours' activity and the day before; see `histories.rebuild`."""

    def read(engine: Engine) -> histories.Source:
        source, whose = platform.lake.open(activity_hours.TABLE), platform.lake.open(persons.TABLE)

        def active(days: Window) -> pl.DataFrame:
            active = active_persons(platform, days, source, whose, engine)
            return collected(active.select(*PERSON, "day").unique())

        versions = [(activity_hours.TABLE, source.version()), (persons.TABLE, persons.resolution_of(whose))]
        return histories.Source(active, versions)

    histories.rebuild(platform, window, TABLE, PERSON, read, stale)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose histories reach an hour, or a change of persons, that came after them.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    return stale_by_persons(platform, ledger, last_day, TABLE)


def stale_by_persons(platform: Platform, ledger: pl.DataFrame, last_day: date, table: Table) -> set[date]:
    """The same of any table of histories that is computed from `silver/activity_hours` and `silver/persons`."""
    zone, mine = platform.settings.zone, ledger.filter(table=table.name)
    hours = ledger.filter(table=activity_hours.TABLE.name)
    by_activity = stale_histories(hours, mine.filter(upstream=activity_hours.TABLE.name), last_day, zone)
    changes = persons.applied_changes(platform)
    by_persons = stale_identities(changes, mine.filter(upstream=persons.TABLE.name), last_day, zone)
    return {*by_activity, *by_persons}


def active_persons(
    platform: Platform,
    window: Window,
    source: DeltaTable,
    whose: DeltaTable,
    engine: Engine,
    columns: Sequence[str] = (),
) -> Frame:
    """Whose activity the hours of a window hold: ``person_id``, ``day``, ``columns``; rows may repeat.

    Args:
        platform: The platform.
        window: Whole days.
        source: `silver/activity_hours` at the version to read.
        whose: `silver/persons` at the version to read.
        engine: What computes it, and what the rows are of.
        columns: Columns of the hours, wanted besides.
    """
    active = engine.scan(activity_hours.TABLE, source, ("raw_id", "event_hour", "day", *columns), window)
    known = engine.scan(persons.TABLE, whose, PERSONS.names())
    times = persons.timed(platform, active.unique(), known, engine)
    return owned(times, known).select("person_id", "day", *columns)
