"""A file of metrics that is wrong costs its own numbers and no others, and everybody is told until it is mended."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from local_stack import cli
from local_stack.doctor import visit
from local_stack.stack import ROOT, Stack, State
from local_stack.why import answer
from partitions import Window
from platform_assets.alerts.conditions import Watched
from platform_assets.alerts.reconciling import standing_incidents, tick
from platform_assets.definitions import build_defs
from platform_assets.gold import metric_numbers
from platform_assets.gold.metric_files import FOLDER, FOLDERS, KINDS, WrongFile, kind_of
from platform_assets.gold.metric_numbers import own_metrics, survey
from platform_assets.tables import tables
from sensors.metric_files import metric_files_sensor
from support.platforms import Run

RIGHT = (FOLDER / "lifecycle_by_day.yaml").read_text()
WRONG = "metric: funnel\ndescription: From a view to an order.\nsteps: [{event: a}, {event: b}]\nwindow: two days\n"
FAULT = "checkout.yaml:4: window: "
NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of which is wrong."""
    made = tmp_path / "metrics"
    made.mkdir()
    (made / "right.yaml").write_text(RIGHT)
    (made / "checkout.yaml").write_text(WRONG)
    return made


def test_the_project_has_no_wrong_file_and_every_kind_has_a_folder() -> None:
    assert own_metrics().faults == ""
    assert {number.table.name.split("/")[1] for number in own_metrics().numbers} == {
        file.table_name.split("/")[1]
        for path in FOLDER.glob("*.yaml")
        for file in [WrongFile(path.stem, kind_of(path), "")]
    }
    assert set(KINDS) == set(FOLDERS)


@pytest.mark.parametrize(
    ("name", "content", "table", "fault"),
    [
        ("checkout", WRONG.encode(), "gold/funnels/checkout", FAULT),
        ("checkout", WRONG.encode()[:-9] + b"2d\nowner: me\n", "gold/funnels/checkout", "checkout.yaml:5: owner: "),
        ("hats", b"metric: funnle\ndescription: d", "gold/metrics/hats", "hats.yaml:1: metric: 'funnle' is unknown"),
        ("hats", b"metric: trend\n  description: d", "gold/trends/hats", "hats.yaml:2: not YAML"),
        ("hats", b"metric: 'trend'\ndescription: \xff", "gold/trends/hats", "hats.yaml: not YAML"),
        ("hats", b"metric: trend\ndescription: 2026-13-45", "gold/trends/hats", "hats.yaml: not YAML"),
        ("Hats v2", RIGHT.encode(), "gold/metrics/Hats_v2", "Hats v2.yaml: a metric is named by"),
        (
            "hats",
            b"metric: lifecycle\ndescription: d\ninterval: hour",
            "gold/lifecycle/hats",
            "hats.yaml:3: interval 'hour'",
        ),
    ],
)
def test_one_wrong_file_keeps_no_other_from_being_a_metric(
    tmp_path: Path, name: str, content: bytes, table: str, fault: str
) -> None:
    (tmp_path / "right.yaml").write_text(RIGHT)
    (tmp_path / f"{name}.yaml").write_bytes(content)
    found = survey(tmp_path)
    assert [number.table.name for number in found.numbers] == ["gold/lifecycle/right"]
    assert [file.table_name for file in found.wrong] == [table]
    assert found.faults.startswith(fault)


def test_a_file_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert survey(tmp_path).faults == "folder.yaml: it cannot be read: Is a directory"


def test_everything_else_is_loaded_and_runs_and_the_wrong_one_is_red(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "checkout.yaml", folder / "Check-out.yaml")
    shutil.copy(folder / "checkout.yaml", folder / "Check_out.yaml")  # two files, one asset
    run, found = Run.over(tmp_path, [], NOW), survey(folder)
    run.measure(found.numbers)
    defs = build_defs(run.platform, found.numbers, found.wrong)
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey(["gold", "funnels", "checkout"])
    assert graph.get(key).partitions_def == run.platform.partitions.daily
    assert FAULT in str(graph.get(key).description)
    assert graph.has(dg.AssetKey(["gold", "metrics", "Check_out"]))
    assert graph.has(dg.AssetKey(["silver", "events"]))

    # As of a request that was made when the file was right: what else is in the run is computed.
    right = dg.AssetKey(["gold", "lifecycle", "right"])
    result = defs.resolve_job_def("restate_numbers").execute_in_process(
        instance=run.instance, partition_key="2026-01-01", asset_selection=[right, key], raise_on_error=False
    )
    assert not result.success
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [right]
    (failed,) = [event for event in result.all_node_events if event.is_step_failure]
    assert FAULT in str(failed.event_specific_data)


def test_the_check_is_red_and_an_incident_open_until_the_file_is_mended(tmp_path: Path, folder: Path) -> None:
    run, sensor = Run.over(tmp_path, [], NOW, alert_recovery_after=timedelta(0)), metric_files_sensor(folder)
    watched = Watched.of(tables(), run.defs.get_repository_def())
    cursor: str | None = None

    def look() -> tuple[int, list[str]]:
        """How often the check was evaluated, and what stands."""
        nonlocal cursor
        result = sensor.evaluate_tick(dg.build_sensor_context(instance=run.instance, cursor=cursor))
        for event in result.asset_events:  # as the daemon does
            run.instance.report_runless_asset_event(event)  # type: ignore[arg-type]  # accepted, not annotated
        cursor = result.cursor or cursor
        run.now += timedelta(minutes=1)
        tick(run.platform, run.instance, watched, [], None)
        return len(result.asset_events), [incident.seen for incident in standing_incidents(run.lake).values()]

    told, (seen,) = look()
    assert told == 1
    assert FAULT in seen
    assert look() == (0, [seen])
    (folder / "checkout.yaml").write_text(WRONG.replace("two days", "2d"))
    assert look() == (1, [])
    assert look() == (0, [])


def test_commands_tell_every_fault_and_go_on(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "hats.yaml").write_text("metric: funnle\ndescription: d\n")
    monkeypatch.setattr(metric_numbers, "own_metrics", lambda: survey(folder))
    monkeypatch.setattr("local_stack.why.own_metrics", lambda: survey(folder))
    run, stack = Run.over(tmp_path, [], NOW), Stack.at(tmp_path)
    stack.keep(State(run.lake.url, NOW.date(), "127.0.0.1:9092", embedded=True))
    said = io.StringIO()
    console = Console(file=said, soft_wrap=True)
    assert visit(stack, console, mend=False) == 1
    assert said.getvalue().index(FAULT) < said.getvalue().index("hats.yaml:1: metric: 'funnle'")
    written = (ROOT / cli.DICTIONARY).read_bytes()
    assert cli.main(["dictionary"]) == 1
    assert (ROOT / cli.DICTIONARY).read_bytes() == written
    said.truncate(0)
    day = Window.of_days(NOW.date(), NOW.date(), run.platform.settings.zone).start.date()
    assert answer(run.platform.settings, console, "funnels.checkout.persons", day) == 1
    assert FAULT in said.getvalue()
    said.truncate(0)
    assert answer(run.platform.settings, console, "active_users.dau", day) == 1
    assert FAULT not in said.getvalue()
