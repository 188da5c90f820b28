"""A lake of events and of the database's changes, and the facts over both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from partitions import Window
from platform_assets.changes.following import Dimensions
from platform_assets.changes.judgement import judge_changes
from platform_assets.gold import fact_events
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.silver import row_changes
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.settings import Settings
from support.changes import records as change_records
from support.lakes import drain
from support.records import RULES, START, Record, at, encoded, frame, source

SETTINGS = Settings()
HOURS = 6
ALL = Window(START, at(HOURS * 60))
"""The hours that the events of a test are in."""


def new_lake(folder: Path) -> Lake:
    """A lake with all tables, empty."""
    lake = Lake(str(folder))
    create_tables(lake)
    return lake


def platform(lake: Lake) -> Platform:
    return Platform(lake, SETTINGS, clock=lambda: START)


def act(lake: Lake, events: Iterable[Mapping[str, object]]) -> None:
    """Take in events: all that were sent so far, in order."""
    sent = [Record(0, offset, at(HOURS * 60), encoded(fields)) for offset, fields in enumerate(events)]
    drain(lake, source(sent, 1), SETTINGS)


def tell(lake: Lake, *values: dict[str, Any]) -> None:
    """Take in changes of the database, and leave the dimensions behind."""
    lake.append(row_changes.TABLE, judge_changes(frame(change_records(values)), RULES).accepted)


def follow(lake: Lake) -> None:
    """Bring the dimensions up to date."""
    Dimensions(lake).catch_up()


def settle(lake: Lake) -> None:
    """Compute the hours of facts that are stale, until none is."""
    for _ in range(3):
        stale = fact_events.stale(platform(lake), lake.scan(computations.TABLE).collect())
        if not stale:
            return
        for hour in sorted(stale):
            fact_events.rebuild(platform(lake), Window.of_hour(hour))
    msg = f"stale after having been computed: {sorted(stale)}"
    raise AssertionError(msg)


def facts(lake: Lake) -> pl.DataFrame:
    return lake.scan(fact_events.TABLE).sort("event_id").collect()


def assert_level(lake: Lake) -> None:
    """Assert that the facts are what computing all of them anew gives."""
    settled = facts(lake)
    fact_events.rebuild(platform(lake), ALL)
    assert settled.equals(facts(lake))
