"""`gold/active_users`: DAU, WAU, MAU and stickiness, and how final they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets.gold import person_days
from platform_assets.platform import Platform
from platform_assets.publication import Metric, Publication, Reach
from platform_assets.semantics import activity
from platform_assets.semantics.engines import Frame, collected
from platform_assets.semantics.watermark import is_closed, is_final
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

NUMBERS = (
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
)
"""The numbers of a day, and how final they are."""

PROVENANCE = (
    Column("definition_version", pl.Int64(), "Version of the definition.", provenance=True),
    Column("computed_at", TIMESTAMP, "When, by the clock of the machine.", provenance=True),
)

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
        *NUMBERS,
        Column("person_days_version", pl.Int64(), "Delta version of `gold/person_days` read.", provenance=True),
        *PROVENANCE,
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
    histories: Frame,
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
    counts = collected(activity.active_users(histories))
    return (
        finality(windows, watermark, allowed_lateness)
        .join(counts, on="day", how="left")
        .with_columns(
            pl.col("dau", "wau", "mau").fill_null(0),
            person_days_version=pl.lit(person_days_version, pl.Int64),
            definition_version=pl.lit(TABLE.version, pl.Int64),
            computed_at=pl.lit(computed_at, TIMESTAMP),
        )
        .sort("day")
        .select(TABLE.schema.names())
    )


def finality(windows: Mapping[date, Window], watermark: datetime | None, allowed_lateness: timedelta) -> pl.DataFrame:
    """How final days are: ``day``, ``is_closed``, ``is_final``, ``watermark``; see `transform`."""
    days = [
        {
            "day": day,
            "is_closed": is_closed(window.end, watermark),
            "is_final": is_final(window.end, watermark, allowed_lateness),
        }
        for day, window in windows.items()
    ]
    schema = {"day": pl.Date, "is_closed": pl.Boolean, "is_final": pl.Boolean}
    return pl.DataFrame(days, schema=schema).with_columns(watermark=pl.lit(watermark, TIMESTAMP))


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from their person-days."""

    def rows(histories: Frame, days: Mapping[date, Window], version: int) -> pl.DataFrame:
        watermark, lateness = platform.watermark(), platform.settings.allowed_lateness
        return transform(
            histories, days, watermark, lateness, person_days_version=version, computed_at=platform.clock()
        )

    rebuild_from(platform, window, TABLE, person_days.TABLE, rows)


Counted = Callable[[Frame, Mapping[date, Window], int], pl.DataFrame]
"""The numbers of some days out of the histories of those days, which are of a version."""


def rebuild_from(platform: Platform, window: Window, table: Table, histories: Table, counted: Counted) -> None:
    """Compute days of a table of numbers from a table of histories.

    Args:
        platform: The platform.
        window: The days.
        table: The numbers; laid out by ``day``.
        histories: The histories; laid out by ``day``.
        counted: Its rows.
    """
    lake, days = platform.lake, platform.days(window)
    first, last = min(days), max(days)

    def attempt() -> None:
        # Before the rows are read: a rival that read them later and wrote first is a conflict.
        handle = lake.open(table)
        source = lake.open(histories)
        with platform.engine() as engine:
            told = engine.scan(histories, source, histories.schema.names())
            rows = counted(told.filter(nw.col("day").is_between(first, last)), days, source.version())
        made = lake.replace_days(table, handle, rows, first, last)
        counts: dict[date, int] = dict(rows.group_by("day").len().iter_rows())
        for day, of_day in days.items():
            platform.record(table, of_day, histories, source.version(), made, counts.get(day, 0))

    retrying(f"rebuild of {table.name}", attempt)
