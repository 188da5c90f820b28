"""A kill between two commits, and then no record comes any more: the sensor asks for the run that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.streams import epochs, rebuilds
from platform_assets.streams.change_batches import ChangeBatches
from platform_assets.streams.stream import CLIENT_EVENTS, OLTP_CHANGES, Stream
from platform_assets.table import Table
from resources.lake import Lake
from resources.records import FrameSource
from sensors.micro_batches import Reach, is_uneven
from support import changes
from support.lakes import (
    STREAM_TABLES,
    EventfulLake,
    Killed,
    assert_same,
    die_at,
    drain,
    new_lake,
    stream_settings,
    substance,
)
from support.records import TOPIC, at, encoded, event, record, source

BROKEN = {"event_name": 7}
RECORDS = [
    record(0, 0, 0, encoded(event("e0", 0))),
    record(1, 0, 1, encoded(event("e1", 1))),
    record(1, 1, 2, encoded(event("e1", 1))),
    record(0, 1, 90, encoded(event("late", 1, 90, 90))),
    record(2, 0, 91, encoded(event("refused", 91, **BROKEN))),
    record(2, 1, 92, b"no event"),
]


def asked_for(lake: Lake, held: FrameSource, stream: Stream, topic: str) -> bool:
    """Whether the sensor would ask for a run."""
    position = epochs.recorded(lake.open(stream.table), topic)
    return Reach(position, held.held(topic), is_uneven=is_uneven(lake, stream, position)).is_behind()


@pytest.mark.parametrize("table", STREAM_TABLES, ids=lambda table: table.name)
def test_a_killed_batch_of_events_is_ended_though_nothing_comes(table: Table, tmp_path: Path) -> None:
    held, whole = source(RECORDS, 3), new_lake(tmp_path / "whole")
    drain(whole, held)
    assert not asked_for(whole, held, CLIENT_EVENTS, TOPIC)

    lake = EventfulLake(new_lake(tmp_path / "lake").url)
    drain(lake, source([], 3))
    die_at(lake, f"after writing {table.name}")
    with pytest.raises(Killed):
        drain(lake, held)
    is_level = substance(lake) == substance(whole)
    assert asked_for(lake, held, CLIENT_EVENTS, TOPIC) is not is_level
    assert is_level is (table is STREAM_TABLES[-1]), "only the last commit leaves nothing to do"
    drain(lake, held)
    assert not asked_for(lake, held, CLIENT_EVENTS, TOPIC)
    assert_same(lake, whole)


def test_what_follows_silver_takes_a_rebuild_in_though_nothing_comes(tmp_path: Path) -> None:
    held, lake = source(RECORDS, 3), new_lake(tmp_path / "lake")
    drain(lake, held)
    rebuilds.rebuild_events(Platform(lake, stream_settings(), held), Window(at(-60), at(120)))
    assert asked_for(lake, held, CLIENT_EVENTS, TOPIC)
    drain(lake, held)
    assert not asked_for(lake, held, CLIENT_EVENTS, TOPIC)


@pytest.mark.parametrize("table", changes.CHANGE_TABLES, ids=lambda table: table.name)
def test_a_killed_batch_of_changes_is_ended_though_nothing_comes(table: Table, tmp_path: Path) -> None:
    lake = EventfulLake(changes.new_lake(tmp_path / "lake").url)
    values = [changes.change("users", "c", 1, 0, changes.user("anna"))]
    values.append(changes.change("orders", "c", 5, 6, {"order_id": "o1", "amount": "10.00", "currency": "EUR"}))
    held, topic = changes.source(changes.records(values)), OLTP_CHANGES.required_topic(changes.SETTINGS)
    with ChangeBatches(lake, held, changes.SETTINGS) as batches:
        batches.catch_up()
        die_at(lake, f"after writing {table.name}")
        with pytest.raises(Killed):
            batches.step()
    with ChangeBatches(Lake(lake.url), held, changes.SETTINGS) as batches:
        if not asked_for(lake, held, OLTP_CHANGES, topic):
            before = {t.name: lake.open(t).version() for t in changes.CHANGE_TABLES}
            batches.catch_up()
            assert before == {t.name: lake.open(t).version() for t in changes.CHANGE_TABLES}, (
                "there was something to do"
            )
        batches.catch_up()
    assert not asked_for(lake, held, OLTP_CHANGES, topic)
