"""The doctor: tables that are broken as power failures and people break them are found out, mended, and read again."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake.exceptions import DeltaError
from rich.console import Console

from local_stack.doctor import Doctor, Finding, visit
from local_stack.instance import instance_of
from local_stack.stack import ROOT, Stack, StackRefused, State
from partitions import Window
from platform_assets.bronze import client_events
from platform_assets.ops import computations
from platform_assets.ops.computations import Computation
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, events
from platform_assets.streams.rebuilds import rebuild_events
from platform_assets.table import Table
from platform_assets.tables import create_tables, tables
from resources.lake import Lake
from resources.settings import Settings
from support.lakes import assert_same, drain, stream_settings
from support.records import TOPIC, source, traffic

RECORDS = traffic(400, seed=7)
START_DATE = date(2026, 11, 20)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with some micro-batches in it."""
    lake = Lake(str(tmp_path_factory.mktemp("sound") / "lake"))
    create_tables(lake)
    drain(lake, source(RECORDS, 3), stream_settings(micro_batch_records=100))
    return lake


@pytest.fixture
def stack(sound: Lake, tmp_path: Path) -> Stack:
    """A stack that is not up, with a copy of that lake."""
    stack = Stack.at(tmp_path / "var")
    shutil.copytree(sound.url, stack.lake)
    stack.keep(State(str(stack.lake), START_DATE, "127.0.0.1:9092", embedded=True))
    return stack


@pytest.fixture
def lake(stack: Stack) -> Lake:
    return Lake(str(stack.lake))


def findings(lake: Lake) -> list[Finding]:
    doctor = Doctor(lake, Settings(start_date=START_DATE), tables())
    return [finding for examined in doctor.examine() for finding in examined.findings]


def visited(stack: Stack, *, mend: bool) -> tuple[int, str]:
    said = io.StringIO()
    return visit(stack, Console(file=said, width=250), mend=mend), said.getvalue()


def log_of(lake: Lake, table: Table) -> Path:
    return Path(lake.uri(table), "_delta_log")


def newest_commit(lake: Lake, table: Table) -> Path:
    return max(log_of(lake, table).glob("*.json"))


def rows(lake: Lake, table: Table) -> int:
    return int(lake.scan(table).select(pl.len()).collect().item())


def test_a_sound_lake_has_no_findings_and_its_figures_are_the_logs(stack: Stack, lake: Lake) -> None:
    status, said = visited(stack, mend=False)
    assert status == 0, said
    assert f"{len(tables())} tables, nothing is wrong" in said
    bronze = next(e for e in Doctor(lake, Settings(), tables()).examine() if e.table is client_events.TABLE)
    assert bronze.figures is not None
    assert bronze.figures.rows == len(RECORDS)
    assert sum(bronze.figures.progress.values()) == len(RECORDS)
    assert 0 < bronze.figures.crowded <= bronze.figures.files == bronze.figures.small
    assert "progress of bronze/client_events: client_events/0:" in said


def test_it_can_be_read_in_a_narrow_terminal(stack: Stack, lake: Lake) -> None:
    newest_commit(lake, events.TABLE).write_bytes(b"")
    said = io.StringIO()
    assert visit(stack, Console(file=said, width=80, force_terminal=True, no_color=True), mend=False) == 1
    lines = said.getvalue().splitlines()
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()) for line in lines) <= 80
    (bronze,) = [line for line in lines if line.startswith("bronze/client_events: version ")]
    assert f"{len(RECORDS)} rows" in bronze
    assert any(line.startswith("    `headwater doctor --mend` would remove it") for line in lines)


@pytest.mark.parametrize("content", [b"", b'{"add": {"path": "da'])
def test_a_last_commit_that_is_empty_or_cut_short_is_removed_and_its_rows_come_again(
    stack: Stack, lake: Lake, sound: Lake, content: bytes
) -> None:
    """Of silver: what follows it is ahead then, and is not mended silently."""
    table = client_events.TABLE
    before = rows(lake, table)
    newest_commit(lake, table).write_bytes(content)
    if content:
        with pytest.raises(DeltaError):
            rows(lake, table)
    else:
        assert rows(lake, table) < before, "it opens, with rows missing"
    assert any("is empty or cut short" in finding.what and finding.mend for finding in findings(lake))

    status, said = visited(stack, mend=True)
    assert rows(lake, table) < before
    assert status == 1, "the tables below have taken in what bronze lost"
    assert "it has taken in client_events/" in said


def test_a_lost_commit_at_the_end_of_the_chain_comes_again_by_itself(stack: Stack, lake: Lake, sound: Lake) -> None:
    from platform_assets.gold import live_metrics

    newest_commit(lake, live_metrics.TABLE).write_bytes(b"")
    status, said = visited(stack, mend=True)
    assert status == 0, said
    drain(lake, source(RECORDS, 3))
    assert_same(lake, sound)


def test_a_broken_commit_in_the_middle_is_told_and_left_alone(stack: Stack, lake: Lake) -> None:
    log = log_of(lake, events.TABLE)
    (log / f"{1:020}.json").write_bytes(b"")
    status, said = visited(stack, mend=True)
    assert status == 1
    assert "commit 1 is empty or cut short" in said
    assert "there was nothing to mend" in said
    assert (log / f"{1:020}.json").exists()


def test_a_corrupt_checkpoint_is_removed_with_what_points_to_it(stack: Stack, lake: Lake, sound: Lake) -> None:
    lake.open(events.TABLE).create_checkpoint()
    [checkpoint] = log_of(lake, events.TABLE).glob("*.checkpoint.parquet")
    with checkpoint.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DeltaError):
        lake.open(events.TABLE)
    status, said = visited(stack, mend=True)
    assert status == 0, said
    assert not checkpoint.exists()
    assert_same(lake, sound)


def test_a_checkpoint_that_is_needed_is_not_removed(stack: Stack, lake: Lake) -> None:
    lake.open(events.TABLE).create_checkpoint()
    log = log_of(lake, events.TABLE)
    (log / f"{0:020}.json").unlink()
    [checkpoint] = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"PAR1")
    status, said = visited(stack, mend=True)
    assert status == 1
    assert "commits 0 to 0 were needed" in said
    assert checkpoint.exists()


def test_a_pointer_to_no_checkpoint_is_removed(stack: Stack, lake: Lake, sound: Lake) -> None:
    (log_of(lake, events.TABLE) / "_last_checkpoint").write_text(json.dumps({"version": 2, "size": 4}))
    status, said = visited(stack, mend=True)
    assert status == 0, said
    assert_same(lake, sound)


def lose(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(("harm", "told"), [(lose, "missing"), (cut, "cut short")])
def test_a_data_file_that_is_gone_leaves_the_log_and_its_partitions_are_named(
    stack: Stack, lake: Lake, sound: Lake, harm: Callable[[Path], None], told: str
) -> None:
    table = events.TABLE
    before = rows(lake, table)
    file = min(Path(lake.uri(table)).rglob("*.parquet"))
    harm(file)
    status, said = visited(stack, mend=False)
    assert status == 1
    assert f"1 data files are {told}" in said

    status, said = visited(stack, mend=True)
    assert status == 0, said
    gone = before - rows(lake, table)
    assert gone > 0
    assert f"{gone:,} rows of silver/events are gone. Materialize silver/events, partitions 2026-11-" in said

    platform = Platform(lake, stream_settings().model_copy(update={"start_date": START_DATE}))
    first = datetime(2026, 11, 20, tzinfo=UTC)
    rebuild_events(platform, Window(first, first + timedelta(days=4)))
    assert rows(lake, table) == before


def test_leftovers_of_killed_writers_are_removed(stack: Stack, lake: Lake, sound: Lake) -> None:
    leftovers = [
        log_of(lake, events.TABLE) / f"{99:020}.json#1",
        Path(lake.uri(events.TABLE), "event_date=2026-11-20", "part-0.parquet#2"),
    ]
    for file in leftovers:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    status, said = visited(stack, mend=True)
    assert status == 0, said
    assert not any(file.exists() for file in leftovers)
    assert_same(lake, sound)


def test_what_the_ledger_says_was_computed_and_is_not_there_is_named(stack: Stack, lake: Lake) -> None:
    day = datetime(2026, 11, 21, tzinfo=UTC)
    window = Window(day, day + timedelta(hours=2))
    done = Computation(activity_hours.TABLE, window, events.TABLE.name, 3, 99, 5, None)
    lake.append(computations.TABLE, done.row(day))
    status, said = visited(stack, mend=True)
    assert status == 1
    assert "2 partitions were computed in commits that are lost" in said
    assert "materialize partitions 2026-11-21-00:00 to 2026-11-21-01:00" in said


def test_it_does_not_mend_while_the_stack_is_up(stack: Stack, lake: Lake) -> None:
    newest_commit(lake, events.TABLE).write_bytes(b"")
    with stack.held("up"), pytest.raises(StackRefused, match=r"`headwater up`, process \d+, .*not safe"):
        visited(stack, mend=True)
    assert newest_commit(lake, events.TABLE).read_bytes() == b""
    assert stack.holder() is None


def test_it_does_not_mend_while_dagster_has_a_run_in_progress(
    stack: Stack, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.dagster_home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", stack.dagster_home / "dagster.yaml")

    @dg.job
    def busy() -> None: ...

    monkeypatch.setenv("DAGSTER_HOME", str(stack.dagster_home))  # and put back what it was
    with instance_of(stack.dagster_home) as instance:
        run = instance.create_run_for_job(busy, status=dg.DagsterRunStatus.STARTED)
        with pytest.raises(StackRefused, match=f"{run.run_id[:8]} .busy, started.*not safe"):
            visited(stack, mend=True)
        instance.report_run_canceled(run)
        status, said = visited(stack, mend=True)
    assert status == 0, said
    assert "there was nothing to mend" in said


def test_its_settings_are_the_stacks(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert stack.settings().lake_url == str(stack.lake)
    assert stack.settings().start_date == START_DATE
    assert stack.settings().client_events_topic == TOPIC
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "elsewhere:9092")
    assert stack.settings().kafka_bootstrap_servers == "elsewhere:9092"
