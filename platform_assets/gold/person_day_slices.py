"""`gold/person_day_slices`: for each person, day and value, on which of the last 28 days they were active with it."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.gold import histories, person_days
from platform_assets.platform import Platform
from platform_assets.restatement import day_end, stale_attributes_of_days
from platform_assets.semantics.dimensions import as_it_was
from platform_assets.semantics.engines import collected
from platform_assets.silver import activity_hours, dimension_changes, persons, users
from platform_assets.table import TIMESTAMP, Column, Table
from resources.engine import Engine

OF_EVENTS = ("platform", "country")
"""Dimensions whose values are the events' own."""

OF_USERS = ("plan",)
"""Dimensions whose values are the user's, as of the day's end."""

TABLE = Table(
    name="gold/person_day_slices",
    description=(
        "One row per person, day and value of a dimension, with a 28-bit history of the days on which the person was "
        "active with that value: bit 0 is the day itself. A person has a row for each value they had."
    ),
    grain="person × day × dimension × value",
    key=("person_id", "day", "dimension", "value"),
    columns=(
        Column("person_id", pl.String(), "The person, as `silver/persons` has it.", personal=True),
        Column(
            "dimension",
            pl.String(),
            "What the value is of: the events' platform or country, or the user's plan as of the day's end.",
            accepted=(*OF_EVENTS, *OF_USERS),
        ),
        Column(
            "value",
            pl.String(),
            "The value; null where it is not known (who has no account has no plan).",
            nullable=True,
        ),
        Column("history", pl.Int32(), "Days of activity with it: bit k is k days before.", unit="28 bits", minimum=1),
        Column("day", pl.Date(), "Day in the reporting timezone."),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("dimension", "value", "person_id"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day", "dimension"),
)

KEY = ("person_id", "dimension", "value")
"""What has a history."""


def transform(active: pl.LazyFrame, versions: pl.LazyFrame, zone: ZoneInfo) -> pl.LazyFrame:
    """The values that persons were active with: `KEY`, ``day``, each once.

    Args:
        active: ``person_id``, ``day``, ``platform``, ``country``: a row per activity; rows may repeat.
        versions: Rows of `silver/users`.
        zone: The reporting timezone.
    """
    of_events = [active.select("person_id", "day", dimension=pl.lit(name), value=pl.col(name)) for name in OF_EVENTS]
    ends = pl.col("day").map_elements(lambda day: day_end(day, zone), return_dtype=TIMESTAMP)
    of_days = active.select("person_id", "day").unique()
    told = of_days.join(of_days.select("day").unique().with_columns(day_end=ends), on="day")
    known = as_it_was(
        told.with_columns(user_id=pl.col("person_id").str.strip_prefix("u:")),
        versions,
        ["user_id"],
        OF_USERS,
        "day_end",
    )
    is_user = pl.col("person_id").str.starts_with("u:")
    of_users = [
        known.select("person_id", "day", dimension=pl.lit(name), value=pl.when(is_user).then(name)) for name in OF_USERS
    ]
    return pl.concat([*of_events, *of_users]).select(*KEY, "day").unique()


def rebuild(platform: Platform, window: Window) -> None:
    """Compute consecutive days from the hours' activity, users' plans and the day before; see `histories.rebuild`."""
    lake, zone = platform.lake, platform.settings.zone

    def read(engine: Engine) -> histories.Source:
        source, whose = lake.open(activity_hours.TABLE), lake.open(persons.TABLE)
        known = lake.open(users.DIMENSION.table)

        def active(days: Window) -> pl.DataFrame:
            # Once, as the values of events and of users both read it.
            active = person_days.active_persons(platform, days, source, whose, engine, OF_EVENTS)
            acted = collected(active.unique()).lazy()
            versions = lake.scan(users.DIMENSION.table, handle=known).filter(
                pl.col("valid_from") < days.end, pl.col("valid_to") > days.start
            )
            return transform(acted, versions, zone).collect()

        versions = [
            (activity_hours.TABLE, source.version()),
            (persons.TABLE, persons.resolution_of(whose)),
            (users.DIMENSION.table, known.version()),
        ]
        return histories.Source(active, versions)

    histories.rebuild(platform, window, TABLE, KEY, read, stale)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose histories reach an hour, persons or plans that changed after them.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    lake, dimension = platform.lake, users.DIMENSION.table
    applied = lake.open(dimension).version()
    is_applied = (pl.col("dimension") == dimension.name) & (pl.col("change") <= applied)
    changes = lake.scan(dimension_changes.TABLE).filter(is_applied).select("change", "since", "until").collect()
    mine = ledger.filter(table=TABLE.name, upstream=dimension.name)
    return {
        *person_days.stale_by_persons(platform, ledger, last_day, TABLE),
        *stale_attributes_of_days(changes, mine, last_day, platform.settings.zone),
    }
