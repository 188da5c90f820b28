"""Maintenance takes away what nobody needs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze import client_events
from platform_assets.gold import live_metrics
from platform_assets.maintenance import (
    FILES_PER_PARTITION,
    DoubleCompaction,
    compact,
    retain,
    trim_log,
    vacuum,
)
from platform_assets.platform import Platform
from platform_assets.refusal import RebuildRefused
from platform_assets.silver import events, touched_hours
from platform_assets.streams.rebuilds import rebuild_events, rebuild_outcomes
from resources.delta_log import changes
from resources.lake import Lake, VersionGone
from resources.settings import Settings
from support.lakes import age_log, assert_conserved, drain, rebuild_silver, stream_settings
from support.records import TOPIC, at, event, record, source

WEEK = timedelta(days=7)


def touch(lake: Lake, times: int) -> None:
    """Commit one file to the ledger of touched hours, and as many more of the same date."""
    drain(lake, source([record(0, 0, 1, event("e0", 0, 1))], 1))
    row = lake.scan(touched_hours.TABLE).collect()
    for _ in range(times):
        lake.append(touched_hours.TABLE, row)


def test_a_second_compaction_of_the_same_files_is_noticed(lake: Lake) -> None:
    touch(lake, FILES_PER_PARTITION)

    class Crowded(Lake):
        """Between the opening of a table for compaction and the commit, another compaction comes."""

        opened = 0

        def open(self, table: Any, version: int | None = None) -> DeltaTable:
            handle = super().open(table, version)
            self.opened += 1
            if self.opened == 2:
                super().open(table).optimize.compact()
            return handle

    with pytest.raises(DoubleCompaction, match="both compacted"):
        compact(Crowded(lake.url), touched_hours.TABLE)


def test_vacuum_leaves_what_was_removed_within_the_retention(lake: Lake) -> None:
    touch(lake, FILES_PER_PARTITION)
    before = lake.open(touched_hours.TABLE).version()
    compact(lake, touched_hours.TABLE)
    assert vacuum(lake, touched_hours.TABLE, WEEK) == 0
    rows = lake.scan(touched_hours.TABLE, handle=lake.open(touched_hours.TABLE, before)).collect()
    assert rows.height == FILES_PER_PARTITION + 1


HOUR = Window(at(0), at(60))
MINUTES = [*range(10), *range(60, 70)]
HELD = source([record(0, n, m, event(f"e{n}", m, m)) for n, m in enumerate(MINUTES)], 1)


def quiet_hours(lake: Lake, *, compaction: bool) -> None:
    """The log's entries age, and the scheduled maintenance comes."""
    age_log(lake, events.TABLE)
    if compaction:
        compact(lake, events.TABLE)
    trim_log(lake, events.TABLE)


def entries(lake: Lake) -> int:
    return len(list((Path(lake.uri(events.TABLE)) / "_delta_log").glob("*.json")))


@pytest.mark.parametrize("compaction", [True, False])
def test_silvers_log_is_kept_for_those_who_follow_it(lake: Lake, *, compaction: bool) -> None:
    """What a rebuild changed before quiet hours is followed after them, and only then is the log trimmed."""
    drain(lake, HELD, stream_settings(1))
    lake.open(events.TABLE).delete("offset = 3")  # damage behind the platform's back
    drain(lake, HELD, stream_settings(1))
    rebuild_silver(lake, HOUR)  # mended by a backfill; nothing arrives then for hours
    quiet_hours(lake, compaction=compaction)
    drain(lake, HELD)
    live = lake.scan(live_metrics.TABLE).select(pl.col("events").sum()).collect().item()
    assert live == lake.scan(events.TABLE).collect().height == len(MINUTES)
    assert_conserved(lake, TOPIC)
    quiet_hours(lake, compaction=False)
    assert entries(lake) <= 2


@pytest.mark.parametrize("rebuild", [rebuild_outcomes, live_metrics.rebuild])
def test_a_backfill_after_quiet_hours(lake: Lake, rebuild: Callable[[Platform, Window], None]) -> None:
    drain(lake, HELD, stream_settings(1))
    quiet_hours(lake, compaction=True)
    rebuild(Platform(lake, stream_settings(), HELD), HOUR)
    assert_conserved(lake, TOPIC)


def test_what_a_trimmed_log_no_longer_tells_is_an_error(lake: Lake) -> None:
    drain(lake, HELD, stream_settings(1))
    newest = lake.open(events.TABLE).version()
    quiet_hours(lake, compaction=False)
    with pytest.raises(VersionGone, match=f"version {newest - 3}"):
        list(changes(lake, events.TABLE, newest - 4, newest, events.FOLLOWED))


def test_deletes_are_refused_again_after_a_crash_in_the_middle_of_retention(lake: Lake) -> None:
    drain(lake, HELD)
    lake.open(client_events.TABLE).alter.set_table_properties({"delta.appendOnly": "false"})
    assert retain(Platform(lake, Settings(), clock=lambda: at(0)), client_events.TABLE) is None
    assert lake.open(client_events.TABLE).metadata().configuration["delta.appendOnly"] == "true"


def test_retention_takes_whole_dates_and_says_from_when_on_bronze_is_whole(lake: Lake) -> None:
    minutes = {"before": 60, "last": 119, "first": 120, "after": 180}  # midnight is at 120
    records = [record(0, n, m, event(name, m, m)) for n, (name, m) in enumerate(minutes.items())]
    drain(lake, source(records, 1))
    platform = Platform(lake, Settings(bronze_retention=timedelta(days=30)), clock=lambda: at(180) + timedelta(days=30))
    assert retain(platform, client_events.TABLE) == at(120)
    assert sorted(lake.scan(client_events.TABLE).collect()["offset"]) == [2, 3]
    assert lake.open(client_events.TABLE).metadata().configuration["delta.appendOnly"] == "true"
    before = lake.scan(events.TABLE).collect()
    with pytest.raises(RebuildRefused, match="no longer holds records"):
        rebuild_events(platform, Window(at(60), at(120)))
    rebuild_events(platform, Window(at(120), at(240)))
    assert lake.scan(events.TABLE).collect().height == before.height == 4
    assert retain(platform, client_events.TABLE) is None
