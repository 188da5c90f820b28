"""Batches of changes that end halfway, and truncations that come in a batch of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from platform_assets.gold import order_changes
from platform_assets.gold import orders as order_entries
from platform_assets.silver import row_changes, users
from platform_assets.streams.change_batches import ChangeBatches
from platform_assets.streams.epochs import watermark_of
from resources.lake import Lake
from support.changes import CHANGE_TABLES, SETTINGS, change, new_lake, records, source, user
from support.lakes import EventfulLake, Killed, die_at
from support.records import START, at

FIRST = (change("users", "c", 1, 0, user("anna")), change("users", "c", 2, 1, user("ben", "plus")))
ORDER = change("orders", "c", 5, 6, {"order_id": "o1", "user_id": "anna", "amount": "10.00", "currency": "EUR"})


def plans(lake: Lake) -> list[tuple[Any, ...]]:
    rows = lake.scan(users.DIMENSION.table).sort("user_id", "valid_from")
    return rows.select("user_id", "plan", "is_current").collect().rows()


def read(lake: Lake, *values: dict[str, Any], size: int = 1) -> None:
    """Read a topic of these changes, so many at a time."""
    settings = SETTINGS.model_copy(update={"micro_batch_records": size})
    with ChangeBatches(lake, source(records(values)), settings) as batches:
        while batches.step() is not None:
            pass


def test_a_truncation_in_a_batch_of_its_own_closes_every_row(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake")
    read(lake, *FIRST, change("users", "t", 3, 5))
    assert plans(lake) == [("anna", "free", False), ("ben", "plus", False)]


def test_a_row_that_comes_after_a_truncation_does_not_bring_back_what_was_before(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake")
    read(lake, *FIRST, change("users", "t", 3, 5), change("users", "c", 4, 9, user("anna", "pro")))
    assert plans(lake) == [("anna", "free", False), ("anna", "pro", True), ("ben", "plus", False)]
    spans = lake.scan(users.DIMENSION.table).filter(user_id="anna").sort("valid_from").collect()
    assert spans["valid_to"][0] < spans["valid_from"][1]


def test_of_a_snapshot_taken_anew_what_is_the_same_goes_on(tmp_path: Path) -> None:
    """As the relay sends it: a truncation, then the rows, at one instant."""
    again = [change("users", "t", 9, 20), change("users", "r", 9, 20, user("anna"))]
    for sequence, event in enumerate(again):
        event["source"]["sequence"] = sequence
    lake = new_lake(tmp_path / "lake")
    read(lake, *FIRST, *again)
    assert plans(lake) == [("anna", "free", True), ("ben", "plus", False)]


@pytest.mark.parametrize("table", CHANGE_TABLES, ids=lambda table: table.name)
def test_catching_up_alone_ends_what_a_killed_batch_began(table: Any, tmp_path: Path) -> None:
    """Killed right after a table's commit; nothing new comes: catching up must bring all tables level."""
    lake = EventfulLake(new_lake(tmp_path / "lake").url)
    held = source(records([*FIRST, ORDER]))
    with ChangeBatches(lake, held, SETTINGS) as batches:
        batches.catch_up()
        die_at(lake, f"after writing {table.name}")
        with pytest.raises(Killed):
            batches.step()
    with ChangeBatches(Lake(lake.url), held, SETTINGS) as batches:
        batches.catch_up()
    assert plans(lake) == [("anna", "free", True), ("ben", "plus", True)]
    assert lake.scan(row_changes.TABLE).collect().height == 3
    assert_entered(lake)


@pytest.mark.parametrize("table", CHANGE_TABLES, ids=lambda table: table.name)
def test_a_step_after_one_that_failed_takes_in_what_it_left_out(table: Any, tmp_path: Path) -> None:
    """The same writer goes on after a commit that failed: nothing is left out, nothing comes twice."""
    lake = EventfulLake(new_lake(tmp_path / "lake").url)
    held = source(records([*FIRST, ORDER, change("users", "u", 3, 5, user("anna", "pro"))]))
    settings = SETTINGS.model_copy(update={"micro_batch_records": 3})
    with ChangeBatches(lake, held, settings) as batches:
        batches.catch_up()
        die_at(lake, f"before writing {table.name}")
        with pytest.raises(Killed):
            batches.step()
        while batches.step() is not None:
            pass
    assert plans(lake) == [("anna", "free", False), ("anna", "pro", True), ("ben", "plus", True)]
    assert lake.scan(row_changes.TABLE).collect().height == 4
    assert_entered(lake)


def assert_entered(lake: Lake) -> None:
    """The order's sale was told, with the version that brought it; a kill in between only tells too much."""
    told = lake.scan(order_changes.TABLE).collect()
    assert set(told.select("entry_hour", "came", "altered").rows()) == {(START, 1, 0)}
    assert told["change"].max() <= lake.open(order_entries.TABLE).version()  # type: ignore[operator]
    assert watermark_of(lake.open(order_entries.TABLE)) == at(6) - SETTINGS.expected_disorder
