"""What the tables of 28-bit histories share: a day is the day before, one day older, and its own activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from partitions import Window
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.semantics.activity import HISTORY_DAYS, history_before, next_day
from platform_assets.semantics.engines import collected
from platform_assets.table import Table
from resources.engine import POLARS, Engine
from resources.lake import retrying


@dataclass(frozen=True)
class Source:
    """What a computation reads, all of it at one version.

    Attributes:
        active: The activity of a window of whole days: the key, ``day``, each once.
        versions: The tables read, with the versions that the ledger shall tell, in the order in which it does.
    """

    active: Callable[[Window], pl.DataFrame]
    versions: Sequence[tuple[Table, int]]


Stale = Callable[[Platform, pl.DataFrame, date], set[date]]
"""The days up to a last one that are stale, by the ledger of computations."""


def transform(
    history: pl.LazyFrame, activity: pl.LazyFrame, days: Sequence[date], key: Sequence[str], engine: Engine = POLARS
) -> Iterator[pl.DataFrame]:
    """The histories of consecutive days, one frame a day: the key, ``history``, ``day``.

    Args:
        history: The key, ``history`` on the day before the first one.
        activity: The key, ``day`` of activity in those days.
        days: Consecutive days, in order.
        key: What has a history.
        engine: What makes them.
    """
    for day in days:
        active = engine.frame(activity.filter(pl.col("day") == day))
        rolled = collected(next_day(engine.frame(history), active, key))
        yield rolled.with_columns(day=pl.lit(day))
        history = rolled.lazy()


def rebuild(
    platform: Platform,
    window: Window,
    table: Table,
    key: Sequence[str],
    read: Callable[[Engine], Source],
    stale: Stale,
) -> None:
    """Compute consecutive days of a table from their activity and the day before.

    Where the day before is up to date, its rows are read: a new day costs its own activity. Where it is not (a
    backfill into the past, the first day), the history is made from the activity of the 28 days before.

    Args:
        platform: The platform.
        window: The days.
        table: The key, ``history``, ``day``; laid out by ``day``.
        key: What has a history.
        read: Opens what is read, at the newest versions.
        stale: Of the table.
    """
    lake, zone = platform.lake, platform.settings.zone
    days = list(platform.days(window))

    def attempt(engine: Engine) -> None:
        # Before the activity is read, so that a rival that read it later and wrote first is a conflict; and one a day:
        # a handle that has written stands at the newest version, and would notice no rival any more.
        handles = [lake.open(table) for _ in days]
        source = read(engine)
        activity = source.active(Window.of_days(days[0], days[-1], zone))
        history = _before(platform, days[0], table, key, source, stale, engine)
        found = transform(history, activity.lazy(), days, key, engine)
        for handle, day, rows in zip(handles, days, found, strict=True):
            made = lake.replace_days(table, handle, rows.select(table.schema.names()), day, day)
            for upstream, version in source.versions:
                day_window = Window.of_days(day, day, zone)
                platform.record(table, day_window, upstream, version, made, rows.height)

    with platform.engine() as engine:
        retrying(f"rebuild of {table.name}", lambda: attempt(engine))


def _before(
    platform: Platform,
    day: date,
    table: Table,
    key: Sequence[str],
    source: Source,
    stale: Stale,
    engine: Engine,
) -> pl.LazyFrame:
    lake, zone = platform.lake, platform.settings.zone
    yesterday = day - timedelta(days=1)
    ledger = lake.scan(computations.TABLE).collect()
    start = Window.of_days(yesterday, yesterday, zone).start
    is_there = not ledger.filter(pl.col("window_start") == start, table=table.name).is_empty()
    if is_there and yesterday not in stale(platform, ledger, yesterday):
        return lake.scan(table).filter(pl.col("day") == yesterday).select(*key, "history")
    reach = Window.of_days(day - timedelta(days=HISTORY_DAYS), yesterday, zone)
    return collected(history_before(engine.frame(source.active(reach).lazy()), day, key)).lazy()
