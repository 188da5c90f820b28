"""A lake whose gold numbers are put there by hand, with the ledgers that say what they were computed from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from partitions import Window
from platform_assets.gold import active_users, fact_events, order_changes, person_days, published_numbers
from platform_assets.ops import canaries, computations
from platform_assets.ops.computations import Computation
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, dimension_changes, events, outcomes, persons, touched_hours
from resources.lake import Lake
from resources.settings import Settings

START = date(2026, 1, 10)
TABLES = (
    active_users.TABLE,
    published_numbers.TABLE,
    computations.TABLE,
    touched_hours.TABLE,
    persons.TABLE,
    persons.CHANGES,
    dimension_changes.TABLE,
    order_changes.TABLE,
    outcomes.TABLE,
    canaries.TABLE,
    fact_events.TABLE,
    events.TABLE,
)
NOW = datetime(2026, 2, 1, tzinfo=UTC)


class Restated:
    """A platform where days of `gold/active_users` are restated by word.

    Args:
        lake: The lake; `begin` makes the tables.

    Attributes:
        platform: Its clock goes on by a minute each time that it is read.
        person_days_version: Of the table above, which is not there.
    """

    def __init__(self, lake: Lake) -> None:
        self._ticks = 0
        self.platform = Platform(lake, Settings(), clock=self._clock)
        self.versions = dict.fromkeys((person_days.TABLE.name, activity_hours.TABLE.name, events.TABLE.name), 0)
        self.resolution = 0

    @classmethod
    def begin(cls, folder: Path) -> Restated:
        made = cls(Lake(str(folder)))
        for table in TABLES:
            made.platform.lake.create(table)
        return made

    def over(self, lake: Lake) -> Restated:
        """The same platform over another lake."""
        other = Restated(lake)
        other.versions, other.resolution, other._ticks = dict(self.versions), self.resolution, self._ticks
        return other

    def late_event(self, day: date) -> None:
        """Silver got an event of a day, and its hour was computed again."""
        self.versions[events.TABLE.name] += 1
        self.versions[activity_hours.TABLE.name] += 1
        hour = Window.of_hour(datetime(day.year, day.month, day.day, 9, tzinfo=UTC))
        version = self.versions[events.TABLE.name]
        row = (hour.start, version, 1, 0, day)
        self._append(touched_hours.TABLE, row)
        self._record(activity_hours.TABLE, hour, events.TABLE, version, self.versions[activity_hours.TABLE.name])

    def merge(self, day: date) -> None:
        """A login claimed activity of a day."""
        self.resolution += 1
        self._append(persons.CHANGES, (day, self.resolution, 1))

    def compute(self, day: date, dau: int, wau: int, mau: int, watermark: datetime, *, recorded: bool = True) -> None:
        """Compute a day's row from all that there is; without a record where the process died before it."""
        self.versions[person_days.TABLE.name] += 1
        version, window = self.versions[person_days.TABLE.name], Window.of_days(day, day, self.platform.settings.zone)
        hours = self.versions[activity_hours.TABLE.name]
        self._record(person_days.TABLE, window, activity_hours.TABLE, hours, version)
        self._record(person_days.TABLE, window, persons.TABLE, self.resolution, version)
        row = {
            "day": day,
            "dau": dau,
            "wau": wau,
            "mau": mau,
            "stickiness": dau / mau if mau else None,
            "is_closed": False,
            "is_final": False,
            "watermark": watermark,
            "person_days_version": version,
            "definition_version": active_users.TABLE.version,
            "computed_at": self.platform.clock(),
        }
        lake, rows = self.platform.lake, pl.DataFrame([row], schema=active_users.TABLE.schema)
        made = lake.replace_days(active_users.TABLE, lake.open(active_users.TABLE), rows, day, day)
        if recorded:
            self._record(active_users.TABLE, window, person_days.TABLE, version, made, watermark)

    def publish(self) -> pl.DataFrame:
        """Publish what differs."""
        return published_numbers.publish(self.platform, active_users.PUBLISHES)

    def entries(self) -> pl.DataFrame:
        """The ledger."""
        return self.platform.lake.scan(published_numbers.TABLE).sort("window_start", "metric", "revision").collect()

    def _clock(self) -> datetime:
        self._ticks += 1
        return NOW + timedelta(minutes=self._ticks)

    def _append(self, table: object, row: tuple[object, ...]) -> None:
        self.platform.lake.append(table, pl.DataFrame([row], schema=table.schema, orient="row"))  # type: ignore[arg-type, attr-defined]

    def _record(
        self, table: object, window: Window, upstream: object, read: int, made: int, watermark: datetime | None = None
    ) -> None:
        done = Computation(table, window, upstream.name, read, made, 1, watermark)  # type: ignore[arg-type, attr-defined]
        self.platform.lake.append(computations.TABLE, done.row(self.platform.clock()))
