"""The database's changes through Dagster's own API: sensor, run, materializations, checks, rebuilds."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from partitions import Window
from platform_assets.bronze import dead_letters, oltp_changes
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.changes.following import Dimensions
from platform_assets.gold import orders as order_entries
from platform_assets.quality.checks import whole_checks_of
from platform_assets.quality.records_told import conserves_changes
from platform_assets.silver import quarantine, row_changes, users
from platform_assets.streams import epochs
from platform_assets.table import Table
from resources.lake import VersionGone
from sensors.micro_batches import changes as changes_sensor
from support.changes import TOPIC, change, records, user
from support.platforms import Run
from support.records import START, at, frame

NOW = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
FIRST = (
    change("users", "r", 1, 0, user("anna")),
    change("users", "r", 1, 0, user("ben", "plus")),
    change("orders", "c", 2, 1, {"order_id": "o1", "user_id": "anna", "amount": "10.00", "currency": "EUR"}),
)
HOUR = "2026-11-20-22:00"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.over(tmp_path, [], NOW, oltp_changes_topic=TOPIC)
    made.source.partitions = {**made.source.partitions, TOPIC: 1}
    return made


def send(run: Run, *values: dict[str, Any] | bytes | None) -> None:
    """Append change events to the topic's only partition."""
    first = run.source.held(TOPIC)[0].high
    made = frame(records(values)).with_columns(pl.col("offset") + first)
    run.source.records = pl.concat([run.source.records, made])


def asked(run: Run) -> dg.RunRequest | dg.SkipReason:
    found = changes_sensor(dg.build_sensor_context(instance=run.instance, resources={"platform": run.platform}))
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def plans(run: Run) -> list[tuple[Any, ...]]:
    rows = run.lake.scan(users.DIMENSION.table).sort("user_id", "valid_from")
    return rows.select("user_id", "plan", "is_current").collect().rows()


def materialized(result: dg.ExecuteInProcessResult) -> set[tuple[str, str | None]]:
    return {
        (event.asset_key.to_user_string(), event.partition)
        for event in result.all_events
        if event.is_step_materialization and event.asset_key is not None
    }


def test_a_change_becomes_a_version(run: Run) -> None:
    send(run, *FIRST)
    assert isinstance(asked(run), dg.RunRequest)
    shown = materialized(run.execute("advance_changes"))
    assert plans(run) == [("anna", "free", True), ("ben", "plus", True)]
    assert run.platform.watermark("changes") == at(1) - run.platform.settings.expected_disorder
    assert run.platform.watermark() is None, "there was no event"
    assert {("silver/users", None), ("silver/orders", None), ("bronze/oltp_changes", HOUR)} <= shown
    assert ("silver/row_changes", None) in shown
    assert ("silver/products", None) not in shown
    unpartitioned = {table.name for table in (row_changes.TABLE, *(dimension.table for dimension in DIMENSIONS))}
    assert not [told for told in shown if told[0] in unpartitioned and told[1] is not None]
    assert isinstance(asked(run), dg.SkipReason)

    send(run, change("users", "u", 9, 30, user("anna", "pro")), change("users", "d", 10, 31, before=user("ben")))
    assert isinstance(asked(run), dg.RunRequest)
    run.execute("advance_changes")
    assert plans(run) == [("anna", "free", False), ("anna", "pro", True), ("ben", "plus", False)]


def test_a_refund_is_an_entry_of_its_own(run: Run) -> None:
    send(run, *FIRST)
    run.execute("advance_changes")
    row = {"order_id": "o1", "user_id": "anna", "status": "refunded", "amount": "10.00", "currency": "EUR"}
    send(run, change("orders", "u", 9, 30, row))
    assert ("gold/orders", None) in materialized(run.execute("advance_changes"))
    entries = run.lake.scan(order_entries.TABLE).sort("entry").select("entry", "amount", "entry_at").collect().rows()
    assert entries == [("refund", Decimal(-10), at(30)), ("sale", Decimal(10), at(1))]


def test_what_is_refused_is_kept_with_the_reason_and_stops_nobody(run: Run) -> None:
    send(run, b"{", change("users", "c", 1, 0, user("anna", 7)), None, *FIRST[1:])  # type: ignore[arg-type]
    run.execute("advance_changes")
    assert plans(run) == [("ben", "plus", True)]
    assert [row[0] for row in run.lake.scan(quarantine.TABLE).select("reasons").collect().iter_rows()] == [
        ["wrong_type:users.plan"]
    ]
    verdict = conserves_changes(run.platform, oltp_changes.TABLE, Window.of_hour(START))
    assert verdict.passed
    assert verdict.description == "5 records consumed, 4 told, 1 tombstones; 0 differ"

    handle = run.lake.open(dead_letters.TABLE)
    handle.delete("offset = 0")
    assert not conserves_changes(run.platform, oltp_changes.TABLE, Window.of_hour(START)).passed
    rebuild(run, dead_letters.TABLE.name, HOUR)
    assert conserves_changes(run.platform, oltp_changes.TABLE, Window.of_hour(START)).passed


def rebuild(run: Run, name: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
    defs = run.defs
    selected = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return dg.materialize(
        selected,
        selection=[dg.AssetKey(name.split("/"))],
        partition_key=partition,
        resources={"platform": run.platform},
        instance=run.instance,
    )


def test_a_rebuild_gives_the_same_tables(run: Run) -> None:
    send(run, *FIRST, change("users", "u", 9, 30, user("anna", "pro")), change("orders", "t", 11, 40))
    run.execute("advance_changes")
    tables = [row_changes.TABLE, *(dimension.table for dimension in DIMENSIONS)]
    before = [contents(run, table) for table in tables]
    run.lake.open(users.DIMENSION.table).delete("plan = 'pro'")
    run.lake.open(row_changes.TABLE).delete("lsn = 9")
    assert contents(run, users.DIMENSION.table).height == 2
    for table in tables:
        rebuild(run, table.name)
    run.execute("advance_changes")  # what was rebuilt is followed, too
    assert all(contents(run, table).equals(rows) for table, rows in zip(tables, before, strict=True))


def contents(run: Run, table: Table) -> pl.DataFrame:
    return run.lake.scan(table).collect().sort(table.key)


def test_without_a_topic_nothing_is_asked_for(tmp_path: Path) -> None:
    run = Run.over(tmp_path, [], NOW)
    found = asked(run)
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "no topic of oltp_changes is set"


def test_a_dimension_never_takes_back_what_a_rebuild_wrote(run: Run) -> None:
    """A rebuild between two batches: the next batch goes on from it."""
    send(run, *FIRST)
    run.execute("advance_changes")
    rebuild(run, "silver/users")
    send(run, change("users", "u", 9, 30, user("anna", "pro")))
    run.execute("advance_changes")
    assert plans(run) == [("anna", "free", False), ("anna", "pro", True), ("ben", "plus", True)]
    position = epochs.recorded(run.lake.open(oltp_changes.TABLE), TOPIC)
    assert position is not None
    assert position.offsets == {0: 4}


def test_a_dimension_whose_past_is_gone_is_computed_from_all_there_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(run, *FIRST)
    run.execute("advance_changes")
    send(run, change("users", "u", 9, 30, user("anna", "pro")))
    with monkeypatch.context() as patch:  # the dimensions stay behind
        patch.setattr(Dimensions, "catch_up", lambda _: [])
        run.execute("advance_changes")
    forget_log(run)
    send(run, change("users", "u", 10, 31, user("ben", "pro")))
    with pytest.raises(VersionGone):
        run.execute("advance_changes")
    for dimension in DIMENSIONS:
        rebuild(run, dimension.table.name)
    run.execute("advance_changes")
    assert plans(run) == [
        ("anna", "free", False),
        ("anna", "pro", True),
        ("ben", "plus", False),
        ("ben", "pro", True),
    ]


def forget_log(run: Run) -> None:
    handle = run.lake.open(row_changes.TABLE)
    handle.create_checkpoint()
    folder = Path(run.lake.uri(row_changes.TABLE)) / "_delta_log"
    for file in folder.glob("*.json"):
        if int(file.stem) < handle.version():
            file.unlink()


def test_a_plain_address_in_a_dimension_is_told(run: Run) -> None:
    send(run, *FIRST)
    run.execute("advance_changes")
    (check,) = (c for c in whole_checks_of([users.DIMENSION.table]) if c.name == "no_plain_addresses")
    assert check.judged(run.platform).passed
    row = run.lake.scan(users.DIMENSION.table).head(1).with_columns(user_id=pl.lit("anna@shop.example")).collect()
    run.lake.append(users.DIMENSION.table, row)  # behind the platform's back
    told = check.judged(run.platform)
    assert not told.passed
    assert told.sample == "{'user_id': 1}"
