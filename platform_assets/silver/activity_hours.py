"""`silver/activity_hours`: who did what in which hour. It stands between events and daily numbers."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from partitions import Window
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.semantics.activity import is_activity
from platform_assets.semantics.events import raw_id
from platform_assets.silver import events
from platform_assets.table import TIMESTAMP, Column, Table, Watch
from resources.lake import retrying

TABLE = Table(
    name="silver/activity_hours",
    description=(
        "Activity per raw id, hour, event name, platform and country: without bots, test traffic and passive "
        "events. A restated day reads this, not the events. Ids are raw: persons are joined late."
    ),
    grain="raw id × hour × reporting day × event name × platform × country",
    key=("raw_id", "event_hour", "day", "event_name", "platform", "country"),
    columns=(
        Column(
            "raw_id", pl.String(), "`u:<user_id>` where the event carries one, else `a:<anonymous_id>`.", personal=True
        ),
        Column("event_hour", TIMESTAMP, "UTC hour of event time."),
        Column("day", pl.Date(), "Day of event time in the reporting timezone."),
        Column("event_name", pl.String(), "Name of the events."),
        Column("platform", pl.String(), "Platform of the events.", nullable=True),
        Column("country", pl.String(), "Country of the events.", nullable=True),
        Column("events", pl.Int64(), "Number of events.", unit="events", minimum=1),
        Column("event_date", pl.Date(), "UTC date of `event_hour`."),
    ),
    partition_by=("event_date",),
    window_on="event_hour",
    partitions="hour",
    cluster_by=("raw_id",),
    update="rebuild",
    service_level=timedelta(hours=2),
    stats=("event_hour", "day"),
    watch=Watch(distinct=("raw_id",)),
)


def transform(rows: pl.LazyFrame, passive_events: frozenset[str], reporting_timezone: str) -> pl.LazyFrame:
    """Rows of `silver/events` to rows of the table.

    Args:
        rows: Events of whole UTC hours.
        passive_events: Event names that make nobody active.
        reporting_timezone: IANA zone of the days. In a zone with half-hour offsets, the hour that holds a
            midnight has rows of two days.
    """
    return (
        rows.filter(is_activity(passive_events))
        .group_by(
            raw_id().alias("raw_id"),
            pl.col("occurred_at").dt.truncate("1h").alias("event_hour"),
            pl.col("occurred_at").dt.convert_time_zone(reporting_timezone).dt.date().alias("day"),
            "event_name",
            "platform",
            "country",
        )
        .agg(events=pl.len().cast(pl.Int64))
        .with_columns(event_date=pl.col("event_hour").dt.date())
        .select(TABLE.schema.names())
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Compute a window of hours from `silver/events`."""
    lake, settings = platform.lake, platform.settings
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> None:
            handle = lake.open(TABLE)  # before silver is read: a rival that read it later and wrote first is a conflict
            source = lake.open(events.TABLE)
            scanned = lake.scan(events.TABLE, part, source)
            rows = transform(scanned, settings.passive_events, settings.reporting_timezone).collect(engine="streaming")
            made = lake.replace(TABLE, handle, rows, part)
            platform.record(TABLE, part, events.TABLE, source.version(), made, rows.height, source)

        retrying(f"rebuild of {TABLE.name}", attempt)
