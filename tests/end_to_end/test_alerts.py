"""A fault goes in, a message comes out; the fault is mended, and its recovery comes out. Over real sockets."""

# Dagster reads the annotation of `context` when an op is made: no `from __future__ import annotations` here.

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from deltalake.exceptions import CommitFailedError

from local_stack.webhook import Webhook
from partitions import Window
from platform_assets.alerts.reconciling import Ticked, tick
from platform_assets.alerts.watched import Watched
from platform_assets.definitions import build_defs
from platform_assets.ops import alert_deliveries, incidents
from platform_assets.platform import Platform
from platform_assets.silver import outcomes
from platform_assets.tables import create_tables
from resources.alert_sinks import sinks
from resources.kafka import KafkaUnreachable
from resources.lake import Fenced, Lake
from resources.records import RECORD_SCHEMA, FrameSource, RecordSource
from resources.settings import Settings
from support.alerts import Inbox, evaluate, inbox
from support.lakes import EventfulLake
from support.platforms import PARTITIONS, Run

TODAY = datetime(2026, 2, 10, tzinfo=UTC)
NOON = TODAY + timedelta(hours=12)
HOUR = TODAY + timedelta(hours=9)
ROOT = Path(__file__).parents[2]
UI = "http://headwater.example:3000"


@pytest.fixture
def taken() -> Iterator[Inbox]:
    with inbox() as received:
        yield received


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Dagster's home is at the first start, as `dagster.yaml` of the project has it: made once."""
    home = tmp_path_factory.mktemp("begun") / "dagster"
    home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as made:
            assert made.get_run_ids(limit=1) == []
            assert made.get_asset_keys(limit=1) == []
    return home


@pytest.fixture
def instance(tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    shutil.copytree(begun, home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of all tables, empty: made once."""
    folder = tmp_path_factory.mktemp("tables") / "lake"
    create_tables(Lake(str(folder)))
    return folder


@pytest.fixture
def run(tmp_path: Path, tables: Path, instance: dg.DagsterInstance, taken: Inbox) -> Run:
    """A platform of some records, whose alerts go to a webhook."""
    shutil.copytree(tables, tmp_path / "lake")
    settings = Settings.model_validate(
        {
            "lake_url": str(tmp_path / "lake"),
            "lease": timedelta(seconds=60),
            "quiet_after": timedelta(0),
            "trigger_interval": timedelta(0),
            "alert_urls": [taken.webhook.url],
            "alert_recovery_after": timedelta(0),
            "ui_url": UI,
        }
    )
    source = FrameSource(pl.DataFrame(schema=RECORD_SCHEMA), {settings.client_events_topic: PARTITIONS})
    platform = Platform(Lake(settings.lake_url), settings, source, clock=lambda: made.now)
    made = Run(platform, source, NOON, instance)
    made.send((b"nothing that decodes", HOUR + timedelta(minutes=minute)) for minute in range(8))
    return made


@dg.op
def step(context: dg.OpExecutionContext) -> None:
    if context.run.tags.get("fails") == "yes":
        msg = "the disk is full"
        raise OSError(msg)


@dg.job
def tidy() -> None:
    step()


@cache
def loaded() -> dg.RepositoryDefinition:
    own = build_defs(Platform(Lake("nowhere"), Settings()))
    return dg.Definitions.merge(own, dg.Definitions(jobs=[tidy])).get_repository_def()


def ticked(run: Run, cursor: str | None = None) -> tuple[str, str]:
    """One tick of the sensor; what it says, and its cursor."""
    context = dg.build_sensor_context(
        instance=run.instance, resources={"platform": run.platform}, cursor=cursor, repository_def=loaded()
    )
    said = loaded().get_sensor_def("alerts")(context)
    return str(said.skip_message), context.cursor or ""  # type: ignore[union-attr]


def look(run: Run) -> str:
    """One tick of a sensor that knows nothing; what it says."""
    return ticked(run)[0]


def later(run: Run, minutes: float = 1) -> str:
    run.now += timedelta(minutes=minutes)
    return look(run)


def about(taken: Inbox, what: str) -> list[str]:
    return [title for title in taken.titles if what in title]


@pytest.mark.slow
def test_a_broken_table_is_told_and_its_recovery(run: Run, taken: Inbox) -> None:
    run.drain()
    run.lake.replace(outcomes.TABLE, run.lake.open(outcomes.TABLE), outcomes.TABLE.empty(), Window.of_hour(HOUR))
    run.now = HOUR + timedelta(minutes=80)
    run.execute("check_latest_due")
    look(run)
    (told,) = [m for m in taken.messages if "conservation" in m.title and "outcomes" in m.title]
    assert told.title == "[ERROR] silver/outcomes: check conservation fails"
    assert told.kind == "failure"
    assert told.body.startswith("8 records consumed, 0 outcomes told; 4 topic partitions differ\n")
    assert told.lines["Concerned"] == "2026-02-10-09:00"
    assert told.lines["Severity"] == "error"
    assert told.lines["Owner"] == "team:data-platform"
    assert told.lines["Look"] == f"{UI}/assets/silver/outcomes?view=checks"
    assert told.lines["Runbook"] == "docs/operations.md#alert-a-check-fails"

    before = list(taken.messages)
    later(run)
    assert taken.messages == before  # nothing new, nothing told

    assets = [run.defs.get_assets_def(outcomes.TABLE.asset_key)]
    checks = [c for c in run.defs.asset_checks or () if next(iter(c.check_keys)).asset_key == outcomes.TABLE.asset_key]  # type: ignore[union-attr]
    mended = dg.materialize(
        [*assets, *checks],  # type: ignore[list-item]
        partition_key="2026-02-10-09:00",
        instance=run.instance,
        resources={"platform": run.platform},
    )
    assert mended.success
    later(run)
    (_, over) = [m for m in taken.messages if "conservation" in m.title and "outcomes" in m.title]
    assert over.title == "[RECOVERED] silver/outcomes: check conservation fails"
    assert over.kind == "success"
    assert over.lines["Incident"] == told.lines["Incident"]


def test_a_sensor_that_starts_anew_tells_nothing_twice_and_forgets_nothing(run: Run, taken: Inbox) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-09")
    look(run)
    told = "gold/revenue: check contract fails"
    assert about(taken, told) == [f"[ERROR] {told}"]
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-09")
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition=None)  # of a range together: says nothing
    look(run)  # `look` never hands a cursor on: each is a sensor that knows nothing
    assert len(about(taken, told)) == 1
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
    look(run)
    assert about(taken, told) == [f"[ERROR] {told}", f"[RECOVERED] {told}"]


def test_the_cursor_goes_on_where_nothing_changed(run: Run) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
    _, cursor = ticked(run)
    reached = int(cursor.split()[1])
    assert reached > 0
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-09")
    _, again = ticked(run, cursor)
    assert int(again.split()[1]) > reached
    standing = run.lake.scan(incidents.TABLE).filter(pl.col("cause") == "check:gold/revenue:contract").collect()
    assert standing["members"].to_list() == [["2026-02-09"]]


def test_what_failed_before_the_lookback_stays_told_to_nobody(run: Run, taken: Inbox) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    run.now = datetime.now(UTC) + run.platform.settings.alert_lookback + timedelta(days=1)
    _, cursor = ticked(run)
    evaluate(run.instance, "gold/revenue", "unique_key", passed=False, partition="2026-02-08")
    ticked(run, cursor)
    assert about(taken, "gold/revenue") == ["[ERROR] gold/revenue: check unique_key fails"]


def test_a_sink_that_is_down_is_tried_again_and_shows_up(run: Run, taken: Inbox) -> None:
    with inbox() as other:
        run.reconfigure(alert_urls=[taken.webhook.url, other.webhook.url])
        taken.webhook.status = 503
        evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
        said = look(run)
        assert "not delivered: json-" in said
        assert "error=503" in said
        assert "/alerts" not in said  # the path is a secret of the URL
        for _ in range(4):
            later(run)
        assert taken.messages == []
        assert len(about(other, "alerts do not reach json-")) == 1
        assert about(other, "check contract") == ["[ERROR] gold/revenue: check contract fails"]

        evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
        taken.webhook.status = 200
        later(run, 20)
        later(run)
        wanted = ["[ERROR] gold/revenue: check contract fails", "[RECOVERED] gold/revenue: check contract fails"]
        assert about(taken, "check contract") == wanted
        assert about(other, "check contract") == wanted
        assert about(taken, "alerts do not reach") == []  # nobody is told that they could not be told
        assert [title[:11] for title in about(other, "alerts do not reach")] == ["[ERROR] ale", "[RECOVERED]"]
    attempts = run.lake.scan(alert_deliveries.TABLE).sort("attempted_at").collect()
    refused = attempts.filter(pl.col("delivered_at").is_null())
    assert refused["attempt"].to_list() == [1, 2, 3, 4]
    waits = (refused["next_attempt_at"] - refused["attempted_at"]).to_list()
    assert waits == [timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]


def test_sinks_take_one_message_after_another_in_turn(run: Run) -> None:
    """So one that is slow, or has an outage to catch up with, holds up no other."""
    order: list[str] = []
    with Webhook(0, lambda *_: order.append("a")) as first, Webhook(0, lambda *_: order.append("b")) as second:
        run.reconfigure(alert_urls=[first.url, second.url])
        for check in ("contract", "unique_key", "conservation"):
            evaluate(run.instance, "gold/revenue", check, passed=False, partition="2026-02-08")
        look(run)
    assert sorted(order) == ["a", "a", "a", "b", "b", "b"]
    assert all(one != next_ for one, next_ in pairwise(order))


def test_a_sink_that_is_new_is_told_of_what_stands(run: Run, taken: Inbox) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    look(run)
    title = "gold/revenue: check contract fails"
    with inbox() as other:
        run.reconfigure(alert_urls=[taken.webhook.url, other.webhook.url])
        later(run)
        later(run)
        evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
        later(run)
        assert about(other, title) == [f"[ERROR] still: {title}", f"[RECOVERED] {title}"]
    assert about(taken, title) == [f"[ERROR] {title}", f"[RECOVERED] {title}"]


def test_a_clock_that_is_put_back_keeps_no_incident_and_loses_no_message(run: Run, taken: Inbox) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    look(run)
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
    later(run, -45)
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    later(run)
    title = "gold/revenue: check contract fails"
    assert about(taken, title) == [f"[ERROR] {title}", f"[RECOVERED] {title}", f"[ERROR] {title}"]


def test_an_address_that_is_none_is_told_to_the_other_sinks(run: Run, taken: Inbox) -> None:
    run.reconfigure(alert_urls=["nosuch://a-secret", taken.webhook.url])
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    said = look(run)
    assert said.startswith("HEADWATER_ALERT_URLS, number 1: Apprise knows no such URL (service 'nosuch')")
    assert about(taken, "contract") == ["[ERROR] gold/revenue: check contract fails"]
    title = "alerts do not reach HEADWATER_ALERT_URLS, number 1"
    assert about(taken, "alerts do not reach") == [f"[ERROR] {title}"]
    assert "a-secret" not in said + str(taken.messages)
    run.reconfigure(alert_urls=[taken.webhook.url])
    later(run)
    assert about(taken, "alerts do not reach")[1:] == [f"[RECOVERED] {title}"]


def test_a_failed_run_is_told_until_its_job_succeeds(run: Run, taken: Inbox) -> None:
    failed = tidy.execute_in_process(instance=run.instance, tags={"fails": "yes"}, raise_on_error=False)
    look(run)
    tidy.execute_in_process(instance=run.instance, tags={"fails": "yes"}, raise_on_error=False)
    later(run)
    (told,) = [m for m in taken.messages if "tidy" in m.title]
    assert told.title == "[ERROR] run of tidy failed"
    assert "the disk is full" in told.body
    assert told.lines["Look"] == f"{UI}/runs/{failed.run_id}"
    tidy.execute_in_process(instance=run.instance)
    later(run)
    assert about(taken, "tidy")[1:] == ["[RECOVERED] run of tidy failed"]


def test_a_failed_backfill_is_told_until_its_partitions_are_there(run: Run, taken: Inbox) -> None:
    key = dg.AssetKey(["gold", "revenue"])
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="ten-days",
        asset_graph=run.defs.resolve_asset_graph(),
        partition_names=["2026-02-01", "2026-02-02"],
        asset_selection=[key],
        backfill_timestamp=datetime.now(UTC).timestamp(),
        tags={},
        dynamic_partitions_store=run.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    run.instance.add_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))
    look(run)
    (told,) = [m for m in taken.messages if "backfill" in m.title]
    assert told.title == "[ERROR] backfill of gold/revenue failed"
    assert "2 partitions are not materialized" in told.body
    assert told.lines["Look"] == f"{UI}/runs/b/ten-days"
    for day in ("2026-02-01", "2026-02-02"):
        run.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=day))
    later(run)
    assert about(taken, "backfill")[1:] == ["[RECOVERED] backfill of gold/revenue failed"]


def freshness(run: Run, table: str, state: FreshnessState) -> None:
    change = FreshnessStateChange(
        key=dg.AssetKey(table.split("/")),
        previous_state=FreshnessState.UNKNOWN,
        new_state=state,
        state_change_timestamp=run.now.timestamp(),
    )
    run.instance._report_runless_asset_event(change)


def test_stale_tables_are_one_incident_and_a_worse_state_is_told(run: Run, taken: Inbox) -> None:
    tables = ("silver/activity_hours", "gold/person_days", "gold/active_users")
    for table in tables:
        freshness(run, table, FreshnessState.WARN)
    look(run)
    assert about(taken, "stale") == ["[WARNING] silver/activity_hours is stale"]
    assert taken.messages[0].lines["Concerned"] == "gold/active_users, gold/person_days, silver/activity_hours"
    freshness(run, tables[0], FreshnessState.FAIL)
    later(run)
    assert about(taken, "stale")[1:] == ["[ERROR] worse: silver/activity_hours is stale"]
    for table in tables:
        freshness(run, table, FreshnessState.PASS)
    later(run)
    assert about(taken, "stale")[2:] == ["[RECOVERED] silver/activity_hours is stale"]


def test_records_that_are_not_read_and_those_that_do_not_decode(run: Run, taken: Inbox) -> None:
    run.reconfigure(alert_lag_records=5, alert_rate_records=5)
    run.now = HOUR + timedelta(minutes=10)
    look(run)
    assert taken.titles == []  # it must last
    later(run, 5)
    assert taken.titles == ["[WARNING] the platform is behind on topic client_events"]
    assert taken.messages[0].body.startswith("topic client_events holds 8 records that bronze has not read; 5 are")
    run.drain()
    later(run)
    assert sorted(taken.titles[1:]) == [
        "[ERROR] 100% of topic client_events is dead-lettered",
        "[RECOVERED] the platform is behind on topic client_events",
    ]
    later(run, 120)
    assert taken.titles[3:] == ["[RECOVERED] 100% of topic client_events is dead-lettered"]


class Unreachable(Platform):
    """A platform whose Kafka does not answer."""

    @contextmanager
    def source(self) -> Iterator[RecordSource]:
        msg = "Kafka at broker:9092 does not answer"
        raise KafkaUnreachable(msg)
        yield FrameSource(pl.DataFrame(), {})


def test_kafka_that_does_not_answer_hides_nothing(run: Run, taken: Inbox) -> None:
    run.reconfigure(alert_lag_records=5, alert_lag_for=timedelta(0))
    look(run)
    assert taken.titles == ["[WARNING] the platform is behind on topic client_events"]
    answering = run.platform
    run.platform = Unreachable(answering.lake, answering.settings, clock=answering.clock)
    later(run)
    later(run)
    assert taken.titles[1:] == ["[CRITICAL] Kafka does not answer"]
    run.platform = answering
    run.drain()
    later(run)
    assert sorted(taken.titles[2:]) == [
        "[RECOVERED] Kafka does not answer",
        "[RECOVERED] the platform is behind on topic client_events",
    ]


_CHILD = """
import os, signal, sys
import dagster as dg
import polars as pl
from datetime import UTC, datetime
from platform_assets.alerts.reconciling import tick
from platform_assets.alerts.watched import Watched
from platform_assets.definitions import build_defs
from platform_assets.tables import create_tables
from platform_assets.ops import alert_deliveries, incidents
from platform_assets.platform import Platform
from resources.alert_sinks import sinks
from resources.records import RECORD_SCHEMA, FrameSource
from resources.settings import Settings
from support.lakes import EventfulLake

class Dying(EventfulLake):
    def _moment(self, what):
        if what == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)

settings = Settings()
kafka = FrameSource(pl.DataFrame(schema=RECORD_SCHEMA), {settings.client_events_topic: 1})
platform = Platform(Dying(settings.lake_url), settings, kafka, clock=lambda: datetime.fromisoformat(sys.argv[2]))
with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
    key = dg.AssetCheckKey(dg.AssetKey(["gold", "revenue"]), "contract")
    tick(platform, instance, Watched(checks=[key]), sinks(settings)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        ("before writing ops/incidents", 0),
        ("after writing ops/incidents", 0),
        ("before writing ops/alert_deliveries", 1),  # the sink has it, and nobody knows
        ("after writing ops/alert_deliveries", 1),
    ],
)
def test_a_kill_between_two_steps_loses_no_message(run: Run, taken: Inbox, moment: str, sent: int) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    settings = run.platform.settings
    tests = Path(__file__).parents[1]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, moment, run.now.isoformat()],
        env={
            **os.environ,
            "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
            "HEADWATER_LAKE_URL": settings.lake_url,
            "HEADWATER_ALERT_URLS": f'["{taken.webhook.url}"]',
            "HEADWATER_ALERT_RECOVERY_AFTER": "PT0S",
            "HEADWATER_UI_URL": UI,
        },
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    opened = "[ERROR] gold/revenue: check contract fails"
    assert about(taken, "check contract") == [opened] * sent
    later(run)
    repeated = moment == "before writing ops/alert_deliveries"
    assert about(taken, "check contract") == [opened] * (1 + repeated)
    evaluate(run.instance, "gold/revenue", "contract", passed=True, partition="2026-02-08")
    later(run)
    assert about(taken, "check contract")[1 + repeated :] == ["[RECOVERED] gold/revenue: check contract fails"]
    changes = run.lake.scan(incidents.TABLE).filter(pl.col("cause") == "check:gold/revenue:contract").collect()
    assert changes.sort("revision")["change"].to_list() == ["opened", "recovered"]


def test_two_that_reconcile_at_once_open_one_incident(run: Run, taken: Inbox) -> None:
    evaluate(run.instance, "gold/revenue", "contract", passed=False, partition="2026-02-08")
    rehearsal = EventfulLake(run.lake.url)
    watched = Watched.of([], loaded())

    def reconciled(platform: Platform) -> Ticked:
        return tick(platform, run.instance, watched, sinks(platform.settings)[0])

    platform = replace(run.platform, lake=rehearsal)
    rival = run.platform
    rehearsal.happenings[3] = lambda: reconciled(rival)  # while it looks: before it writes
    with pytest.raises((Fenced, CommitFailedError)):
        reconciled(platform)
    assert about(taken, "check contract") == ["[ERROR] gold/revenue: check contract fails"]
