"""Gold tables by the day, computed from hours of activity or facts and from persons: how they are rebuilt, and when.

A table of this kind says what its rows are from the events of persons; that it reads a consistent state, writes whole
days, says how final they are, and is found stale when anything that it read has changed, is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.restatement import ripened, stale_histories, stale_identities
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.semantics.watermark import is_closed, is_final
from platform_assets.silver import activity_hours, persons
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

FINALITY = (
    Column(
        "is_closed",
        pl.Boolean(),
        "Whether the watermark had passed the end of all that the row is about.",
        provenance=True,
    ),
    Column(
        "is_final",
        pl.Boolean(),
        "Whether it had also passed the allowed lateness: no event can change the number any more.",
        provenance=True,
    ),
    Column("watermark", TIMESTAMP, "Watermark at computation.", nullable=True, provenance=True),
    Column("definition_version", pl.Int64(), "Version of the definition.", provenance=True),
    Column("computed_at", TIMESTAMP, "When, by the clock of the machine.", provenance=True),
)
"""The columns by which rows of a day say how final they are."""

DAYS_AT_ONCE = 7
"""Days of a range that are computed together: their events, and those around them, are read once."""


@dataclass(frozen=True)
class Reading:
    """What a table's rows are computed from.

    Attributes:
        events: What persons did in the days and around them: ``person_id``, and the columns asked for.
        days: The days wanted.
        zone: The reporting timezone.
        watermark: Of the stream.
    """

    events: pl.LazyFrame
    days: list[date]
    zone: ZoneInfo
    watermark: datetime | None


@dataclass(frozen=True)
class DailyNumber:
    """A table of numbers by the day.

    Attributes:
        table: Its declaration; it ends with the columns of `FINALITY`.
        source: `gold/fact_events` or `silver/activity_hours`.
        columns: What is read of it.
        back: How many days before a day its rows read.
        ahead: How many days after a day its rows read.
        compute: The rows of the days wanted, without the columns of `FINALITY`.
        keep: Which rows of the source are read at all.
    """

    table: Table
    source: Table
    columns: tuple[str, ...]
    compute: Callable[[Reading], pl.DataFrame]
    back: int = 0
    ahead: int = 0
    keep: pl.Expr | None = None

    @property
    def upstream(self) -> tuple[Table, ...]:
        """The tables that it is computed from."""
        return (self.source, persons.TABLE)

    def rebuild(self, platform: Platform, window: Window) -> None:
        """Compute the days of a window."""
        days = list(platform.days(window))
        for i in range(0, len(days), DAYS_AT_ONCE):
            self._rebuild(platform, days[i : i + DAYS_AT_ONCE])

    def stale(self, platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
        """The days up to ``last_day`` of which something that they read, or the definition, has changed since.

        Args:
            platform: The platform.
            ledger: `ops/computations`.
            last_day: The open day; there is nothing after it.
        """
        zone, mine = platform.settings.zone, ledger.filter(table=self.table.name)
        current = mine.filter(definition_version=self.table.version)
        reach = range(-self.ahead, self.back + 1)
        hours = ledger.filter(table=self.source.name)
        by_hours = stale_histories(hours, current.filter(upstream=self.source.name), last_day, zone, reach)
        applied = persons.resolution_of(platform.lake.open(persons.TABLE))
        changes = platform.lake.scan(persons.CHANGES).filter(pl.col("resolution") <= applied).collect()
        by_persons = stale_identities(changes, current.filter(upstream=persons.TABLE.name), last_day, zone, reach)
        return {*by_hours, *by_persons}

    def ripened(self, platform: Platform, ledger: pl.DataFrame) -> list[date]:
        """The days that were published as open or not final, and by now are more."""
        settings, mine = platform.settings, ledger.filter(table=self.table.name)
        return ripened(mine, platform.watermark(), settings.allowed_lateness, timedelta(days=self.ahead), settings.zone)

    def _rebuild(self, platform: Platform, days: list[date]) -> None:
        lake, zone = platform.lake, platform.settings.zone

        def attempt() -> None:
            handle = lake.open(self.table)  # before what is read: a rival that read later and wrote first is a conflict
            source, whose = lake.open(self.source), lake.open(persons.TABLE)
            resolution, watermark = persons.resolution_of(whose), platform.watermark()
            around = Window.of_days(days[0] - timedelta(days=self.back), days[-1] + timedelta(days=self.ahead), zone)
            read = lake.scan(self.source, around, source)
            read = read if self.keep is None else read.filter(self.keep)
            known = lake.scan(persons.TABLE, handle=whose).select(PERSONS.names())
            if self.source is activity_hours.TABLE:
                owned = joined(persons.timed(platform, read, known), known)
            else:
                owned = joined(read.select("raw_id", *self.columns), known)
            events = owned.select("person_id", *self.columns)
            rows = self.compute(Reading(events, days, zone, watermark))
            rows = self._with_finality(rows, platform, days, watermark)
            made = lake.replace_days(self.table, handle, rows, days[0], days[-1])
            for day in days:
                window, count = Window.of_days(day, day, zone), rows.filter(pl.col("day") == day).height
                platform.record(self.table, window, persons.TABLE, resolution, made, count)
                platform.record(self.table, window, self.source, source.version(), made, count)

        retrying(f"rebuild of {self.table.name}", attempt)

    def _with_finality(
        self, rows: pl.DataFrame, platform: Platform, days: list[date], watermark: datetime | None
    ) -> pl.DataFrame:
        settings = platform.settings
        ends = {day: Window.of_days(day, day, settings.zone).end + timedelta(days=self.ahead) for day in days}
        lateness = settings.allowed_lateness
        told = pl.DataFrame(
            {
                "day": days,
                "is_closed": [is_closed(ends[day], watermark) for day in days],
                "is_final": [is_final(ends[day], watermark, lateness) for day in days],
            },
            schema={"day": pl.Date, "is_closed": pl.Boolean, "is_final": pl.Boolean},
        )
        return (
            rows.join(told, on="day")
            .with_columns(
                watermark=pl.lit(watermark, TIMESTAMP),
                definition_version=pl.lit(self.table.version, pl.Int64),
                computed_at=pl.lit(platform.clock(), TIMESTAMP),
            )
            .select(self.table.schema.names())
        )


def days_of(length: timedelta) -> int:
    """Whole days that hold a length of time."""
    return -(-length // timedelta(days=1))
