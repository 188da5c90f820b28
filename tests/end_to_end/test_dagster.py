"""The platform through Dagster's own API: runs, partitions, checks, restatement."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import polars as pl
import pytest
from dagster import AssetCheckEvaluation

from partitions import Window
from platform_assets.definitions import build_defs
from platform_assets.gold import active_users, live_metrics, person_days
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.freshness import is_there
from platform_assets.silver import activity_hours, events, outcomes
from platform_assets.tables import TABLES
from resources.lake import Lake
from resources.settings import Settings
from sensors.restatement import RANGE_END, RANGE_START
from support.platforms import Run

TODAY = datetime(2026, 2, 10, tzinfo=UTC)
NOON = TODAY + timedelta(hours=12)


def event(person: str, at: datetime, number: int = 0, **changes: object) -> bytes:
    return msgspec.json.encode(
        {
            "event_id": f"{person}-{at:%j%H%M}-{number}",
            "source": "web",
            "event_name": "page_viewed",
            "schema_ref": "page_viewed/1",
            "client_occurred_at": at.isoformat(),
            "received_at": at.isoformat(),
            "anonymous_id": person,
            **changes,
        }
    )


def on_time(person: str, at: datetime, number: int = 0) -> tuple[bytes, datetime]:
    return event(person, at, number), at


def late(person: str, at: datetime, arrives: datetime) -> tuple[bytes, datetime]:
    return event(person, at, received_at=arrives.isoformat(), client_sent_at=arrives.isoformat()), arrives


def five_days(folder: Path) -> Run:
    """Five days, person `p<k>` active on every k-th day, seen at noon of the fifth."""
    values = [
        on_time(f"p{every}", TODAY - timedelta(days=ago) + timedelta(hours=9, minutes=every))
        for ago in range(4, -1, -1)
        for every in (1, 2, 5)
        if ago % every == 0
    ]
    return Run.over(folder, values, NOON)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return five_days(tmp_path)


@pytest.fixture(scope="module")
def first_restated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = five_days(tmp_path_factory.mktemp("five_days"))
    made.drain()
    made.restate()
    return made


@pytest.fixture
def restated(first_restated: Run, tmp_path: Path) -> Run:
    """The five days, with all that follows from them."""
    return first_restated.copied(tmp_path)


def numbers(run: Run) -> dict[date, tuple[int, int, int]]:
    rows = run.lake.scan(active_users.TABLE).select("day", "dau", "wau", "mau").collect()
    return {day: (dau, wau, mau) for day, dau, wau, mau in rows.iter_rows()}


def finality(run: Run) -> dict[date, tuple[bool, bool]]:
    rows = run.lake.scan(active_users.TABLE).select("day", "is_closed", "is_final").collect()
    return {day: (closed, final) for day, closed, final in rows.iter_rows()}


def evaluations(result: dg.ExecuteInProcessResult) -> list[AssetCheckEvaluation]:
    told = [e.event_specific_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    return [one for one in told if isinstance(one, AssetCheckEvaluation)]


def day(ago: int) -> date:
    return (TODAY - timedelta(days=ago)).date()


def test_every_table_is_an_asset_that_says_what_it_is() -> None:
    nodes = build_defs(Platform(Lake("nowhere"), Settings())).resolve_asset_graph()
    for table in TABLES:
        node = nodes.get(table.asset_key)
        assert node.group_name == table.layer
        assert node.owners == [table.owner]
        assert {"deltalake", table.layer} <= set(node.kinds)
        assert table.grain in (node.description or "")
        assert len(node.metadata["dagster/column_schema"].schema.columns) == len(table.columns)
        if table.partitions is not None:
            assert node.partitions_def is not None
            assert (node.backfill_policy is not None) == node.is_materializable
            assert (node.freshness_policy is not None) == table.steady
            due = {"latest_due_partition"} if table.steady else set()
            assert {key.name for key in node.check_keys} >= {"contract", "unique_key"} | due


def test_definitions_connect_to_nothing() -> None:
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:1", lake_url="/nonexistent/lake")
    build_defs(Platform.from_settings(settings)).resolve_all_job_defs()


def test_from_the_stream_to_the_daily_number(run: Run) -> None:
    run.execute("advance")
    assert run.restate() == [
        *[("restate_hours", f"{day(ago)}-09:00", f"{day(ago)}-09:00") for ago in range(4, -1, -1)],
        ("restate_days", str(day(4)), str(day(0))),
    ]
    assert numbers(run)[day(0)] == (3, 3, 3)
    assert numbers(run)[day(1)] == (1, 2, 2)
    assert numbers(run)[day(4)] == (2, 2, 2)
    newest = run.lake.scan(active_users.TABLE).filter(pl.col("day") == day(0)).collect().row(0, named=True)
    assert not newest["is_closed"]
    assert not newest["is_final"]
    assert run.lake.scan(live_metrics.TABLE).select(pl.col("events").sum()).collect().item() == 9


def test_touched_hours_show_as_materializations(run: Run) -> None:
    run.execute("advance")
    for table in (events.TABLE, live_metrics.TABLE):
        shown = run.instance.get_materialized_partitions(table.asset_key)
        assert shown == {f"{day(ago)}-09:00" for ago in range(5)}


def test_late_data_restates_exactly_the_days_that_it_reaches(restated: Run) -> None:
    before = numbers(restated)
    restated.now = NOON + timedelta(hours=2)
    restated.send([late("stranger", TODAY - timedelta(days=3) + timedelta(hours=20), restated.now)])
    restated.drain()  # Dagster hears nothing of it: the lake's log is what counts
    assert restated.restate() == [
        ("restate_hours", f"{day(3)}-20:00", f"{day(3)}-20:00"),
        ("restate_days", str(day(3)), str(day(0))),
    ]
    expected = {
        d: (dau + (d == day(3)), wau + (d >= day(3)), mau + (d >= day(3))) for d, (dau, wau, mau) in before.items()
    }
    assert numbers(restated) == expected
    assert restated.restate() == []


def test_a_day_is_published_again_when_it_becomes_closed_and_final(restated: Run) -> None:
    assert finality(restated)[day(0)] == (False, False)
    restated.now = NOON + timedelta(days=8)
    restated.send([on_time("p1", restated.now + timedelta(minutes=n)) for n in range(20)])
    restated.drain()
    restated.restate()
    assert finality(restated)[day(0)] == (True, True)
    assert finality(restated)[day(-7)] == (True, False)
    assert finality(restated)[day(-8)] == (False, False)


def test_a_range_of_hours_is_one_run_and_each_partition_is_checked(run: Run) -> None:
    run.drain()
    before = run.lake.scan(events.TABLE).sort("event_id").collect()
    hours = [a for a in run.defs.resolve_asset_graph().get_all_asset_keys() if a.path[0] in {"bronze", "silver"}]
    tables = [t.asset_key for t in TABLES if t.partitions == "hour" and t.asset_key in hours]
    job = dg.define_asset_job("backfill", selection=dg.AssetSelection.assets(*tables))
    defs = dg.Definitions.merge(run.defs, dg.Definitions(jobs=[job]))
    result = defs.get_job_def("backfill").execute_in_process(
        instance=run.instance,
        tags={
            RANGE_START: f"{day(1)}-08:00",
            RANGE_END: f"{day(1)}-10:00",
        },
    )
    assert result.success
    assert run.lake.scan(events.TABLE).sort("event_id").collect().equals(before)
    checked = {(told.asset_check_key.to_user_string(), told.partition) for told in evaluations(result) if told.passed}
    for table in tables:
        for hour in (8, 9, 10):
            assert (f"{table.to_user_string()}:contract", f"{day(1)}-{hour:02}:00") in checked
    assert ("silver/outcomes:conservation", f"{day(1)}-09:00") in checked


def test_a_check_fails_for_the_partition_that_is_wrong_and_for_no_other(run: Run) -> None:
    run.drain()
    stored = run.lake.scan(outcomes.TABLE).filter(pl.col("ingestion_hour").dt.date() == day(1)).collect()
    wrong = stored.with_columns(pl.col("records") + 1)
    handle = run.lake.open(outcomes.TABLE)
    window = run.platform.partitions.window("hour", f"{day(1)}-09:00", f"{day(1)}-09:00")
    run.lake.replace(outcomes.TABLE, handle, wrong, window)
    job = dg.define_asset_job("judge", selection=dg.AssetSelection.checks_for_assets(outcomes.TABLE.asset_key))
    judged = dg.Definitions.merge(run.defs, dg.Definitions(jobs=[job])).get_job_def("judge")
    result = judged.execute_in_process(
        instance=run.instance,
        tags={
            RANGE_START: f"{day(2)}-09:00",
            RANGE_END: f"{day(1)}-09:00",
        },
    )
    seen = {told.partition: told.passed for told in evaluations(result) if told.check_name == "conservation"}
    assert seen[f"{day(1)}-09:00"] is False
    assert seen[f"{day(2)}-09:00"] is True
    assert seen[None] is False


def test_the_latest_due_partition_is_judged(restated: Run) -> None:
    result = restated.execute("check_latest_due")
    seen = {
        (
            e.event_specific_data.asset_key.to_user_string(),
            e.event_specific_data.partition,
        ): e.event_specific_data.passed  # type: ignore[union-attr]
        for e in result.all_events
        if e.event_type_value == "ASSET_CHECK_EVALUATION" and e.event_specific_data.check_name == "latest_due_partition"  # type: ignore[union-attr]
    }
    assert seen[("gold/active_users", str(day(1)))] is True
    # The newest event is of 09:05: what is due of 10:00 to 11:00 has not come.
    assert seen[("silver/events", f"{day(0)}-10:00")] is False
    assert not is_there(restated.platform, events.TABLE, Window.of_hour(TODAY + timedelta(hours=9))).passed
    # The watermark, at 08:50, waits for what is out of order: freshness does not.
    assert is_there(restated.platform, events.TABLE, Window.of_hour(TODAY + timedelta(hours=8))).passed
    # Nothing is owed of the hour that is open, which a run may judge that makes it.
    assert "not due" in is_there(restated.platform, events.TABLE, Window.of_hour(NOON)).description


def test_maintenance_changes_no_row(run: Run) -> None:
    for minute in range(12):  # a small file each
        run.send([on_time("p1", NOON - timedelta(minutes=minute), number=1)])
        run.drain()
    run.restate()
    before = {t.name: run.lake.scan(t).select(pl.len()).collect().item() for t in TABLES if t is not computations.TABLE}
    files = len(run.lake.open(events.TABLE).file_uris())
    run.execute("maintain")
    run.execute("nightly")
    assert {
        t.name: run.lake.scan(t).select(pl.len()).collect().item() for t in TABLES if t is not computations.TABLE
    } == before
    assert len(run.lake.open(events.TABLE).file_uris()) < files
    run.send([on_time("p1", NOON, number=2)])
    run.drain()
    assert run.lake.scan(events.TABLE).select(pl.len()).collect().item() == before["silver/events"] + 1
    assert run.lake.scan(live_metrics.TABLE).select(pl.col("events").sum()).collect().item() == 9 + 12 + 1


def test_a_backfill_of_days_in_any_order_gives_the_same(restated: Run) -> None:
    wanted = restated.lake.scan(person_days.TABLE).sort("day", "person_id").collect()
    for ago in (2, 4, 0, 3):
        restated.execute("restate_days", tags={RANGE_START: str(day(ago)), RANGE_END: str(day(ago))})
    assert restated.lake.scan(person_days.TABLE).sort("day", "person_id").collect().equals(wanted)


def test_a_backfill_of_a_day_does_not_rest_on_a_day_before_that_is_stale(restated: Run) -> None:
    restated.now = NOON + timedelta(hours=2)
    restated.send([late("stranger", TODAY - timedelta(days=3) + timedelta(hours=20), restated.now)])
    restated.drain()
    hour = f"{day(3)}-20:00"
    restated.execute("restate_hours", tags={RANGE_START: hour, RANGE_END: hour})
    restated.execute("restate_days", tags={RANGE_START: str(day(1)), RANGE_END: str(day(1))})
    stranger = (pl.col("person_id") == "a:stranger") & (pl.col("day") == day(1))
    assert restated.lake.scan(person_days.TABLE).filter(stranger).collect()["history"].to_list() == [0b100]


def test_bots_tests_and_passive_events_make_nobody_active(run: Run) -> None:
    at = NOON - timedelta(hours=1)
    run.send(
        [
            (event("bot", at, is_bot=True), at),
            (event("tester", at, is_test=True), at),
            (event("sleeper", at, event_name="push_received"), at),
            (event("known", at, user_id="u1"), at),
        ]
    )
    run.drain()
    run.restate()
    assert numbers(run)[day(0)] == (4, 4, 4)
    ids = run.lake.scan(activity_hours.TABLE).select("raw_id").unique().collect()["raw_id"]
    assert sorted(ids) == ["a:p1", "a:p2", "a:p5", "u:u1"]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "Europe/Berlin"])
def test_days_are_those_of_the_reporting_timezone(tmp_path: Path, zone: str) -> None:
    from zoneinfo import ZoneInfo

    local = ZoneInfo(zone)
    midnight = datetime(2026, 2, 9, tzinfo=local)
    values = [
        on_time("before", midnight - timedelta(minutes=1)),
        on_time("after", midnight + timedelta(minutes=1)),
        on_time("after", midnight + timedelta(hours=5)),
    ]
    run = Run.over(tmp_path, values, midnight + timedelta(hours=12), reporting_timezone=zone)
    run.drain()
    run.restate()
    assert numbers(run)[date(2026, 2, 8)] == (1, 1, 1)
    assert numbers(run)[date(2026, 2, 9)] == (1, 2, 2)


def test_an_hour_before_the_first_partition_stops_no_restatement(tmp_path: Path) -> None:
    run = Run.over(
        tmp_path,
        [late("early", TODAY - timedelta(hours=5), NOON), on_time("p1", NOON - timedelta(hours=1))],
        NOON,
        start_date=TODAY.date(),
    )
    run.drain()
    run.restate()
    assert numbers(run)[day(0)] == (1, 1, 1)
