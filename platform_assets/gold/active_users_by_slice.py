"""`gold/active_users_by_slice`: DAU, WAU, MAU and stickiness by platform, country and plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl

from partitions import Window
from platform_assets.gold import active_users, person_day_slices, person_days
from platform_assets.platform import Platform
from platform_assets.publication import Metric, Publication
from platform_assets.restatement import stale_days
from platform_assets.semantics import activity
from platform_assets.semantics.engines import Frame, collected
from platform_assets.table import TIMESTAMP, Column, Table

BY = ("day", "dimension", "value")

TABLE = Table(
    name="gold/active_users_by_slice",
    description=(
        "Daily, weekly (7 days) and monthly (28 days) active users by platform, country and plan: distinct persons, "
        "exact. A person counts once in each value they had, so the slices of a dimension add up to more than "
        "`gold/active_users`."
    ),
    grain="day × dimension × value",
    key=BY,
    columns=(
        Column("day", pl.Date(), "Day in the reporting timezone."),
        Column(
            "dimension",
            pl.String(),
            "What the slices are of.",
            accepted=(*person_day_slices.OF_EVENTS, *person_day_slices.OF_USERS),
        ),
        Column("value", pl.String(), "The slice; null where the value is not known.", nullable=True),
        *active_users.NUMBERS,
        Column(
            "person_day_slices_version", pl.Int64(), "Delta version of `gold/person_day_slices` read.", provenance=True
        ),
        *active_users.PROVENANCE,
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("dimension", "value"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day", "dimension"),
)

PUBLISHES = Publication(
    TABLE,
    metrics=tuple(Metric(name) for name in ("dau", "wau", "mau")),
    slices=("dimension", "value"),
    reach={person_day_slices.TABLE.name: person_days.REACH},
    absent=0,
)
"""The numbers that go into `gold/published_numbers`."""


def transform(
    histories: Frame,
    windows: Mapping[date, Window],
    watermark: datetime | None,
    allowed_lateness: timedelta,
    *,
    person_day_slices_version: int,
    computed_at: datetime,
) -> pl.DataFrame:
    """The numbers of some days by slice; a slice that nobody was in for 28 days has no row.

    Args:
        histories: Rows of `gold/person_day_slices` of those days.
        windows: The days wanted, each with its window of instants.
        watermark: Of the stream.
        allowed_lateness: Of the stream.
        person_day_slices_version: Version of `gold/person_day_slices` that is read.
        computed_at: The machine's clock.
    """
    return (
        active_users.finality(windows, watermark, allowed_lateness)
        .join(collected(activity.active_users(histories, BY)), on="day")
        .with_columns(
            person_day_slices_version=pl.lit(person_day_slices_version, pl.Int64),
            definition_version=pl.lit(TABLE.version, pl.Int64),
            computed_at=pl.lit(computed_at, TIMESTAMP),
        )
        .sort(BY)
        .select(TABLE.schema.names())
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from the histories of their slices."""

    def rows(histories: Frame, days: Mapping[date, Window], version: int) -> pl.DataFrame:
        watermark, lateness = platform.watermark(), platform.settings.allowed_lateness
        return transform(
            histories, days, watermark, lateness, person_day_slices_version=version, computed_at=platform.clock()
        )

    active_users.rebuild_from(platform, window, TABLE, person_day_slices.TABLE, rows)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose sliced histories were computed after they were.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    histories, mine = (ledger.filter(table=name) for name in (person_day_slices.TABLE.name, TABLE.name))
    return {day for day in stale_days(histories, mine, platform.settings.zone) if day <= last_day}
