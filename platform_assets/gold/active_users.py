"""`gold/active_users`: DAU, WAU, MAU and stickiness, and how final they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl

from partitions import Window
from platform_assets.gold import person_days
from platform_assets.platform import Platform
from platform_assets.publication import Metric, Publication, Reach
from platform_assets.semantics import activity
from platform_assets.semantics.watermark import is_closed, is_final
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

TABLE = Table(
    name="gold/active_users",
    description=(
        "Daily, weekly (7 days) and monthly (28 days) active users: distinct persons, exact. Each number says how "
        "final it is, and what it was computed from. Today's row is the day so far."
    ),
    grain="day",
    key=("day",),
    columns=(
        Column("day", pl.Date(), "Day in the reporting timezone."),
        Column("dau", pl.Int64(), "Persons active on the day.", unit="persons", minimum=0),
        Column("wau", pl.Int64(), "Persons active on the day or the 6 before.", unit="persons", minimum=0),
        Column("mau", pl.Int64(), "Persons active on the day or the 27 before.", unit="persons", minimum=0),
        Column("stickiness", pl.Float64(), "DAU / MAU; null without any.", nullable=True),
        Column("is_closed", pl.Boolean(), "Whether the watermark had passed the day's end.", provenance=True),
        Column(
            "is_final",
            pl.Boolean(),
            "Whether it had also passed the allowed lateness: no event can change the number any more.",
            provenance=True,
        ),
        Column("watermark", TIMESTAMP, "Watermark at computation.", nullable=True, provenance=True),
        Column("person_days_version", pl.Int64(), "Delta version of `gold/person_days` read.", provenance=True),
        Column("definition_version", pl.Int64(), "Version of the definition.", provenance=True),
        Column("computed_at", TIMESTAMP, "When, by the clock of the machine.", provenance=True),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("day",),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day",),
)

PUBLISHES = Publication(
    TABLE,
    metrics=(
        Metric("dau", Reach()),
        Metric("wau", Reach(before=6)),
        Metric("mau", person_days.REACH),
        Metric("stickiness", person_days.REACH),
    ),
    versions={"person_days_version": person_days.TABLE},
    reach={person_days.TABLE.name: person_days.REACH},
)
"""The numbers that go into `gold/published_numbers`."""


def transform(
    histories: pl.LazyFrame,
    windows: Mapping[date, Window],
    watermark: datetime | None,
    allowed_lateness: timedelta,
    *,
    person_days_version: int,
    computed_at: datetime,
) -> pl.DataFrame:
    """The numbers of some days; a day without persons has zeros.

    Args:
        histories: Rows of `gold/person_days` of those days.
        windows: The days wanted, each with its window of instants.
        watermark: Of the stream.
        allowed_lateness: Of the stream.
        person_days_version: Version of `gold/person_days` that is read.
        computed_at: The machine's clock.
    """
    days = pl.DataFrame(
        [
            {
                "day": day,
                "is_closed": is_closed(window.end, watermark),
                "is_final": is_final(window.end, watermark, allowed_lateness),
            }
            for day, window in windows.items()
        ],
        schema={"day": pl.Date, "is_closed": pl.Boolean, "is_final": pl.Boolean},
    )
    counts = activity.active_users(histories).collect()
    return (
        days.join(counts, on="day", how="left")
        .with_columns(
            pl.col("dau", "wau", "mau").fill_null(0),
            watermark=pl.lit(watermark, TIMESTAMP),
            person_days_version=pl.lit(person_days_version, pl.Int64),
            definition_version=pl.lit(TABLE.version, pl.Int64),
            computed_at=pl.lit(computed_at, TIMESTAMP),
        )
        .sort("day")
        .select(TABLE.schema.names())
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from their person-days."""
    lake, days = platform.lake, platform.days(window)
    first, last = min(days), max(days)

    def attempt() -> None:
        handle = lake.open(
            TABLE
        )  # before the rows are read: a rival that read them later and wrote first is a conflict
        source = lake.open(person_days.TABLE)
        version = source.version()
        rows = transform(
            lake.scan(person_days.TABLE, handle=source).filter(pl.col("day").is_between(first, last)),
            days,
            platform.watermark(),
            platform.settings.allowed_lateness,
            person_days_version=version,
            computed_at=platform.clock(),
        )
        made = lake.replace_days(TABLE, handle, rows, first, last)
        for day in days.values():
            platform.record(TABLE, day, person_days.TABLE, version, made, 1)

    retrying(f"rebuild of {TABLE.name}", attempt)
