"""Gold tables by the day, computed from hours of activity or facts and from persons: how they are rebuilt, and when.

A table of this kind says what its rows are from the events of persons; that it reads a consistent state, writes whole
days, says how final they are, and is found stale when anything that it read has changed, is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets import publication
from platform_assets.gold.metric_files import Metric
from platform_assets.platform import Platform
from platform_assets.restatement import ripened, stale_histories, stale_identities
from platform_assets.semantics.calendar import Interval, WeekStart, bucket_of, start_of
from platform_assets.semantics.engines import Frame
from platform_assets.semantics.identity import PERSONS, owned
from platform_assets.semantics.watermark import is_closed, is_final
from platform_assets.silver import activity_hours, person_firsts, persons, touched_hours
from platform_assets.silver import events as silver
from platform_assets.table import TIMESTAMP, Column, Plot, Table
from resources.engine import Engine
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

LONGEST = {"hour": 1, "day": 1, "week": 7, "month": 31}
"""The most days that an interval touches."""

FIRSTS_REACH = 30
"""Days after a day on which a first may have been that is now on it: a login claims what was 30 days before (semantics
4). Where the allowed lateness is longer, a rebuild of the days in between sets them right."""

_ANY_DAYS = 200 * 366
"""More days than any history has."""

DAYS_AT_ONCE = 7
"""Days of a range that are computed together: their events, and those around them, are read once."""


@dataclass(frozen=True)
class Reading:
    """What a table's rows are computed from.

    Attributes:
        events: What persons did in the days and around them: ``person_id``, and the columns asked for; of the engine
            that the settings name.
        days: The days wanted.
        zone: The reporting timezone.
        known_until: Up to when events are known: the watermark, or before the first event the days' beginning.
        engine: Brings other rows to that engine.
        firsts: When each person did something for the first time (``person_id``, ``event_name``, ``first_at``), where
            the table asks for it; of Polars.
    """

    events: Frame
    days: list[date]
    zone: ZoneInfo
    known_until: datetime
    engine: Engine
    firsts: pl.LazyFrame | None = None

    @property
    def first_events(self) -> pl.LazyFrame:
        """The firsts of a table that asks for them.

        Raises:
            ValueError: It did not.
        """
        if self.firsts is None:
            msg = "firsts were not read: say needs_firsts in the declaration of the daily number"
            raise ValueError(msg)
        return self.firsts


@dataclass(frozen=True, eq=False)  # an expression has neither equality nor a hash
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
        needs_firsts: Whether it reads `silver/person_firsts`. A first that moves reaches the days up to the one on
            which it was before: those of the allowed lateness, or of a login that claims what was anonymous.
        reads_all_firsts: Whether a first counts on every day after it, however long ago it was: then one that moves
            reaches all of them.
        ends: When that has ended which a row is about, where rows of a day differ in it; else with the days ahead.
        within: The first and the last day that have rows, where not every day has.
        publishes: Its numbers in `gold/published_numbers`.
    """

    table: Table
    source: Table
    columns: tuple[str, ...]
    compute: Callable[[Reading], pl.DataFrame]
    back: int = 0
    ahead: int = 0
    keep: nw.Expr | None = None
    needs_firsts: bool = False
    reads_all_firsts: bool = False
    ends: publication.Ends | None = None
    within: tuple[date, date] | None = None
    publishes: publication.Publication | None = None

    @property
    def upstream(self) -> tuple[Table, ...]:
        """The tables that it is computed from."""
        return (self.source, persons.TABLE, *((person_firsts.TABLE,) if self.needs_firsts else ()))

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
        back = max(self.back, FIRSTS_REACH if self.needs_firsts else 0)
        reach = range(-self.ahead, back + 1)
        since = range(-self.ahead, _ANY_DAYS) if self.reads_all_firsts else reach
        hours = ledger.filter(table=self.source.name)
        by_hours = stale_histories(hours, current.filter(upstream=self.source.name), last_day, zone, reach)
        changes = persons.applied_changes(platform)
        by_persons = stale_identities(changes, current.filter(upstream=persons.TABLE.name), last_day, zone, since)
        found = {*by_hours, *by_persons}
        if self.needs_firsts:
            touched = platform.lake.scan(touched_hours.TABLE).select(
                window_start="event_hour",
                window_end=pl.col("event_hour") + timedelta(hours=1),
                table_version="silver_version",
            )
            known = current.filter(upstream=person_firsts.TABLE.name)
            found.update(stale_histories(touched.collect(), known, last_day, zone, since))
        if self.within is not None:
            found = {day for day in found if self.within[0] <= day <= self.within[1]}
        return found

    def ripened(self, platform: Platform, ledger: pl.DataFrame) -> list[date]:
        """The days that were published as open or not final, and by now are more."""
        return ripened_days(
            platform, ledger, self.table, lambda day: self._settle(day, platform.settings.zone).values()
        )

    def _settle(self, day: date, zone: ZoneInfo) -> dict[int | None, datetime]:
        """When the rows of a day settle: by the value of the column of `ends`, or (None) all of them."""
        if self.ends is None:
            return {None: publication.settled(day, self.ahead, zone)}
        return {part: publication.settled(last, 0, zone) for part, last in self.ends.last_days(day).items()}

    def _rebuild(self, platform: Platform, days: list[date]) -> None:
        lake, zone = platform.lake, platform.settings.zone

        def attempt(engine: Engine) -> None:
            if not lake.exists(self.table):  # a metric's file that was put beside the others while the stack is up
                lake.create(self.table)
            handle = lake.open(self.table)  # before what is read: a rival that read later and wrote first is a conflict
            source, whose = lake.open(self.source), lake.open(persons.TABLE)
            resolution, watermark = persons.resolution_of(whose), platform.watermark()
            firsts, followed = None, 0
            if self.needs_firsts:
                followed = lake.open(person_firsts.TABLE).transaction_version(silver.FOLLOWS) or 0
                firsts = person_firsts.firsts_of_persons(platform)
            around = Window.of_days(days[0] - timedelta(days=self.back), days[-1] + timedelta(days=self.ahead), zone)
            of_hours = self.source is activity_hours.TABLE
            columns = ("raw_id", "event_hour", *self.columns) if of_hours else ("raw_id", *self.columns)
            acted = engine.scan(self.source, source, columns, around)
            acted = acted if self.keep is None else acted.filter(self.keep)
            known = engine.scan(persons.TABLE, whose, PERSONS.names())
            if of_hours:
                acted = persons.timed(platform, acted.unique(), known, engine)
            events = owned(acted, known).select("person_id", *self.columns)
            known_until = watermark or Window.of_days(days[0], days[0], zone).start
            rows = self.compute(Reading(events, days, zone, known_until, engine, firsts))
            rows = self._with_finality(rows, platform, days, watermark)
            made = lake.replace_days(self.table, handle, rows, days[0], days[-1])
            for day in days:
                window, count = Window.of_days(day, day, zone), rows.filter(pl.col("day") == day).height
                platform.record(self.table, window, persons.TABLE, resolution, made, count)
                if self.needs_firsts:
                    platform.record(self.table, window, person_firsts.TABLE, followed, made, count)
                platform.record(self.table, window, self.source, source.version(), made, count)

        with platform.engine() as engine:
            retrying(f"rebuild of {self.table.name}", lambda: attempt(engine))

    def _with_finality(
        self, rows: pl.DataFrame, platform: Platform, days: list[date], watermark: datetime | None
    ) -> pl.DataFrame:
        zone, lateness = platform.settings.zone, platform.settings.allowed_lateness
        part = "part" if self.ends is None else self.ends.by
        told = pl.DataFrame(
            [
                (day, value, is_closed(end, watermark), is_final(end, watermark, lateness))
                for day in days
                for value, end in self._settle(day, zone).items()
            ],
            schema={"day": pl.Date, part: pl.Int64, "is_closed": pl.Boolean, "is_final": pl.Boolean},
            orient="row",
        )
        return (
            rows.join(told, on="day" if self.ends is None else ["day", part])
            .with_columns(
                watermark=pl.lit(watermark, TIMESTAMP),
                definition_version=pl.lit(self.table.version, pl.Int64),
                computed_at=pl.lit(platform.clock(), TIMESTAMP),
            )
            .select(self.table.schema.names())
        )


class RestatedByDay(Protocol):
    """A table whose days are computed again when something that they rest on has changed."""

    @property
    def table(self) -> Table:
        """Its declaration."""

    def stale(self, platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
        """The days up to ``last_day`` that rest on something that changed after they were computed."""

    def ripened(self, platform: Platform, ledger: pl.DataFrame) -> list[date]:
        """The days that were published as open or not final, and by now are more."""


@dataclass(frozen=True)
class Restated:
    """A table that knows by a function of its own which of its days are stale.

    Attributes:
        table: Its declaration.
        finds: The stale days, of a platform, `ops/computations`, and the open day.
        publishes: Its numbers in `gold/published_numbers`, where it has any: their days ripen.
    """

    table: Table
    finds: Callable[[Platform, pl.DataFrame, date], set[date]]
    publishes: publication.Publication | None = None

    def stale(self, platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
        """The days up to ``last_day`` that rest on something that changed after they were computed."""
        return self.finds(platform, ledger, last_day)

    def ripened(self, platform: Platform, ledger: pl.DataFrame) -> list[date]:
        """The days that were published as open or not final, and by now are more."""
        if self.publishes is None:
            return []
        zone = platform.settings.zone
        return ripened_days(platform, ledger, self.table, lambda day: [publication.settled(day, 0, zone)])


def ripened_days(
    platform: Platform, ledger: pl.DataFrame, table: Table, ends: Callable[[date], Iterable[datetime]]
) -> list[date]:
    """The days of a table that were published as open or not final, and by now are more.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        table: The table.
        ends: When the rows of a day settle.
    """
    settings, mine = platform.settings, ledger.filter(table=table.name)
    lateness = settings.allowed_lateness if table.source == "events" else None
    return ripened(mine, platform.watermark(table.source), lateness, ends, settings.zone)


def daily_table(
    metric: Metric,
    *,
    says: str,
    grain: str,
    day: str,
    by: tuple[str, ...],
    columns: tuple[Column, ...],
    plot: Plot | None = None,
    steady: bool = True,
) -> Table:
    """The declaration of the table of a metric: one row for each day and each value of some columns.

    Args:
        metric: What its file says.
        says: What the table says besides the metric's own description.
        grain: What one row is.
        day: What the column ``day`` is.
        by: The columns that tell the rows of a day apart.
        columns: Those between ``day`` and the columns of `FINALITY`.
        plot: Its picture.
        steady: Whether every day brings rows.
    """
    return Table(
        name=metric.table_name,
        description=f"{metric.description} {says}",
        grain=grain,
        key=("day", *by),
        columns=(Column("day", pl.Date(), f"{day}, in the reporting timezone."), *columns, *FINALITY),
        partition_by=("day",),
        window_on="day",
        partitions="day",
        cluster_by=by,
        update="rebuild",
        service_level=timedelta(hours=6),
        stats=("day",),
        version=metric.definition_version,
        steady=steady,
        owner=metric.owner,
        plot=plot,
    )


def published(
    table: Table,
    column: str,
    slices: tuple[str, ...],
    grain: Interval = "day",
    *,
    week_start: WeekStart = "monday",
    back: int = 0,
    ahead: int = 0,
    ends: publication.Ends | None = None,
) -> publication.Publication:
    """The publication of one column of numbers of a table by the day.

    Args:
        table: The table.
        column: The numbers.
        slices: The columns that tell its rows of a day apart.
        grain: The length of the window that a row is of.
        week_start: The first day of a week.
        back: How many days before a day its rows read.
        ahead: How many days after a day its rows read.
        ends: When that has ended which a row is about, where rows of a day differ in it.
    """
    reach = {table.name: publication.Reach(before=back, after=ahead)}
    numbers = (publication.Metric(column),)
    return publication.Publication(table, numbers, slices, grain, week_start=week_start, reach=reach, ends=ends)


def days_of(length: timedelta) -> int:
    """Whole days that hold a length of time."""
    return -(-length // timedelta(days=1))


def beginnings(days: Sequence[date], interval: Interval, week_start: WeekStart) -> list[date]:
    """Of some days those that a bucket begins on."""
    return [d for d in days if start_of(bucket_of(d, interval, week_start), interval, week_start).date() == d]
