"""What Prometheus scrapes, over HTTP; and that dashboard and documentation speak of nothing else."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from prometheus_client import start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from platform_assets.alerts.incidents import frame, reconcile
from platform_assets.gold import revenue
from platform_assets.ops import alert_deliveries, canaries, incidents
from platform_assets.platform import Platform
from platform_assets.serving.machine_metrics import METRICS, MachineMetrics, metrics_table
from platform_assets.silver import outcomes
from resources.alert_sinks import sinks
from resources.lake import Lake
from resources.records import RECORD_SCHEMA, FrameSource
from resources.settings import Settings
from support.alerts import condition, evaluate, manner
from support.lakes import drain, new_lake

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 2, 10, 12, tzinfo=UTC)
CHECK = dg.AssetCheckKey(revenue.TABLE.asset_key, "contract")

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    lake = new_lake(tmp_path / "lake")
    for table in (incidents.TABLE, alert_deliveries.TABLE, canaries.TABLE):
        lake.create(table)
    settings = Settings.model_validate(
        {"lake_url": lake.url, "alert_urls": ["json://127.0.0.1:1/x"], "canary_every": timedelta(minutes=1)}
    )
    records = pl.DataFrame(
        [(settings.client_events_topic, 1, 0, offset, NOON, None, b"", None) for offset in range(7)],
        schema=RECORD_SCHEMA,
        orient="row",
    )
    return Platform(lake, settings, FrameSource(records, {settings.client_events_topic: 2}), clock=lambda: NOON)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def scraped(platform: Platform, instance: dg.DagsterInstance) -> Samples:
    """One scrape over a socket: values by metric and values of its labels."""
    registry = CollectorRegistry()
    registry.register(MachineMetrics(platform, instance, [revenue.TABLE], [CHECK]))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    found = {}
    for family in text_string_to_metric_families(text):
        labels = METRICS[family.name][1]
        for sample in family.samples:
            found[sample.name, tuple(sample.labels[label] for label in labels)] = sample.value
    return found


def test_a_scrape_tells_what_is_so(platform: Platform, instance: dg.DagsterInstance) -> None:
    hour = NOON - timedelta(minutes=30)
    counted = [("silver", 90), ("dead_lettered", 10)]
    rows = [
        {
            "topic": "client_events",
            "epoch": 1,
            "partition": 0,
            "ingestion_hour": hour.replace(minute=0),
            "event_hour": hour.replace(minute=0),
            "outcome": outcome,
            "records": records,
            "silver_version": 1,
            "ingestion_date": hour.date(),
        }
        for outcome, records in counted
    ]
    platform.lake.append(outcomes.TABLE, pl.DataFrame(rows, schema=outcomes.TABLE.schema))
    names = tuple(sink.name for sink in sinks(platform.settings)[0])
    opened = reconcile({}, [condition(severity="critical", since=NOON)], NOON, manner(sinks=names))
    platform.lake.append(incidents.TABLE, frame(opened))
    instance.report_runless_asset_event(dg.AssetMaterialization(revenue.TABLE.asset_key, partition="2026-02-09"))
    found = scraped(platform, instance)
    assert found["headwater_consumer_lag_records", ("client_events", "0")] == 7
    assert found["headwater_consumer_lag_records", ("client_events", "1")] == 0
    assert found["headwater_records", ("client_events", "silver")] == 90
    assert found["headwater_records", ("client_events", "dead_lettered")] == 10
    assert found["headwater_incidents", ("check_failed", "critical")] == 1
    assert found["headwater_alerts_pending", names] == 1
    assert ("headwater_asset_age_seconds", ("gold/revenue",)) in found
    assert {part: found["headwater_part_up", (part,)] for part in ("kafka", "lake", "dagster")} == {
        "kafka": 1,
        "lake": 1,
        "dagster": 1,
    }


def test_canaries_are_told_by_topic(platform: Platform, instance: dg.DagsterInstance) -> None:
    fared = [("arrived", 2.0), ("arrived", 4.0), ("lost", None), ("waiting", None)]
    rows = [
        {
            "topic": "client_events",
            "sent_at": NOON - timedelta(minutes=10 - number),
            "outcome": outcome,
            "freshness_seconds": seconds,
            "sent_date": NOON.date(),
        }
        for number, (outcome, seconds) in enumerate(fared)
    ]
    assert platform.records is not None
    drain(platform.lake, platform.records)
    platform.lake.append(canaries.TABLE, pl.DataFrame(rows, schema=canaries.TABLE.schema))
    found = scraped(platform, instance)
    assert found["headwater_end_to_end_seconds", ("client_events", "0.5")] == 3
    assert found["headwater_end_to_end_seconds", ("client_events", "0.95")] == pytest.approx(3.9)
    counts = {outcome: found["headwater_canaries", ("client_events", outcome)] for outcome in canaries.OUTCOMES}
    assert counts == {"arrived": 2, "lost": 1, "refused": 0, "unsent": 0, "waiting": 1}
    assert found["headwater_canary_waiting_seconds", ("client_events",)] == 7 * 60


def test_checks_and_runs(platform: Platform, instance: dg.DagsterInstance) -> None:
    evaluate(instance, "gold/revenue", "contract", passed=False, partition=None)
    now = Platform(platform.lake, platform.settings, platform.records)
    found = scraped(now, instance)
    assert found["headwater_check_passed", ("gold/revenue", "contract")] == 0
    assert found["headwater_runs", ("judging", "success")] == 1
    assert 0 < found["headwater_run_duration_seconds", ("judging", "success")] < 60
    evaluate(instance, "gold/revenue", "contract", passed=True, partition=None)
    found = scraped(now, instance)
    assert found["headwater_check_passed", ("gold/revenue", "contract")] == 1
    assert found["headwater_runs", ("judging", "success")] == 2


def test_a_part_that_does_not_answer_hides_no_other(platform: Platform, instance: dg.DagsterInstance) -> None:
    without = Platform(platform.lake, platform.settings, FrameSource(pl.DataFrame(), {}), clock=lambda: NOON)
    found = scraped(without, instance)
    assert found["headwater_part_up", ("kafka",)] == 0
    assert found["headwater_part_up", ("lake",)] == 1
    assert not [name for name, _ in found if name == "headwater_consumer_lag_records"]


def test_a_lake_without_tables_and_a_wrong_address_of_alerts_hide_nothing_else(
    platform: Platform, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(revenue.TABLE.asset_key, partition="2026-02-09"))
    wrong = Settings.model_validate({**platform.settings.model_dump(), "alert_urls": ["nosuch://x", "json://host/a"]})
    found = scraped(replace(platform, settings=wrong), instance)
    assert [labels for name, labels in found if name == "headwater_alerts_pending"] == [(sinks(wrong)[0][0].name,)]
    assert {labels[0]: up for (name, labels), up in found.items() if name == "headwater_part_up"} == {
        "kafka": 1,
        "lake": 1,
        "dagster": 1,
    }
    found = scraped(replace(platform, lake=Lake(str(tmp_path / "nothing"))), instance)
    assert {labels[0]: up for (name, labels), up in found.items() if name == "headwater_part_up"} == {
        "kafka": 0,
        "lake": 0,
        "dagster": 1,
    }
    assert ("headwater_asset_age_seconds", ("gold/revenue",)) in found


def test_a_database_of_dagster_that_does_not_open_hides_nothing_else(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for database in home.rglob("*.db"):
            database.unlink()
            database.mkdir()
        found = scraped(platform, instance)
    assert {part: found["headwater_part_up", (part,)] for part in ("kafka", "lake", "dagster")} == {
        "kafka": 1,
        "lake": 1,
        "dagster": 0,
    }


def test_a_damaged_table_hides_nothing_but_the_lake(platform: Platform, instance: dg.DagsterInstance) -> None:
    (Path(platform.lake.url) / incidents.TABLE.name / "_delta_log" / f"{0:020}.json").write_text("{")
    found = scraped(platform, instance)
    assert [found["headwater_part_up", (part,)] for part in ("kafka", "lake", "dagster")] == [1, 0, 1]


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are() -> None:
    board = json.loads((ROOT / "docs" / "grafana" / "headwater.json").read_text())
    targets = [target for panel in board["panels"] for target in panel["targets"]]
    asked = set()
    for target in targets:
        names = set(re.findall(r"headwater_\w+", target["expr"]))
        assert names, target["expr"]
        asked |= names
        labels = {label for name in names for label in METRICS[name][1]}
        by = {label for told in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in told.split(", ")}
        chosen = set(re.findall(r"[{,](\w+)[=!]", target["expr"]))
        assert by | chosen | set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels
    assert asked == set(METRICS)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_documentation_has_every_metric() -> None:
    assert metrics_table() in (ROOT / "docs" / "operations.md").read_text()
