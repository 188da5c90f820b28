"""Exactly once: processes that die, starve, or fight over one lake, and the tables that they leave.

The faults are real: SIGKILL on the very system call that publishes a commit, at random moments, a full disk, two
processes at once. `test_interleavings` does the same in one process, at every moment there is.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from partitions import Window
from platform_assets.bronze import client_events
from platform_assets.gold import live_metrics
from platform_assets.silver import events, outcomes, touched_hours
from platform_assets.table import Table
from resources.lake import Lake
from resources.records import FrameSource
from support.child import FENCED
from support.lakes import (
    ALLOWED_LATENESS,
    STREAM_TABLES,
    assert_as_expected,
    assert_conserved,
    assert_same,
    drain,
    new_lake,
    rebuild_silver,
    stream_settings,
    version_of,
)
from support.processes import PARTITIONS, Moment, Stream, failing_at, killed_at, needs_strace, versions
from support.records import START, TOPIC, at, source, traffic
from support.reference import expected

RECORDS = traffic(60, seed=5)
SIZE = 12
REBUILDS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def held() -> FrameSource:
    return source(RECORDS, PARTITIONS)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    return Stream.of(RECORDS, tmp_path_factory.mktemp("records"), SIZE)


@pytest.fixture(scope="module")
def undisturbed(held: FrameSource, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = new_lake(tmp_path_factory.mktemp("undisturbed"))
    drain(lake, held, stream_settings(SIZE))
    assert_as_expected(lake, expected(RECORDS, ALLOWED_LATENESS))
    return lake


def assert_nothing_lost_or_doubled(lake: Lake, held: FrameSource, undisturbed: Lake) -> None:
    drain(lake, held, stream_settings(SIZE))
    assert_conserved(lake, TOPIC)
    assert_same(lake, undisturbed)


# Version 0 of a table is its creation; version 1 of bronze is the opening of the first epoch.
STEPS = [(client_events.TABLE, 1), (client_events.TABLE, 2), *((table, 1) for table in STREAM_TABLES[1:])]


@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize(("table", "version"), STEPS, ids=lambda part: getattr(part, "name", None))
def test_killed_at_a_commit(
    table: Table, version: int, moment: Moment, lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake
) -> None:
    needs_strace()
    status, _ = stream.run(lake, killed_at(lake, table, version, moment))
    assert status == -signal.SIGKILL
    assert version_of(lake, table) == version - (moment == "before")
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


def test_killed_at_every_commit_in_turn(lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    """One lake, one process after another; each is killed at its own first commit of a table, right after it."""
    needs_strace()
    for round_ in range(2):
        for table in STREAM_TABLES:
            next_version = version_of(lake, table) + 1
            status, errors = stream.run(lake, killed_at(lake, table, next_version, "after"))
            assert status == -signal.SIGKILL, f"round {round_}, {table.name}: {errors}"
            assert version_of(lake, table) == next_version
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


def test_restatement_survives_a_kill(lake: Lake, stream: Stream, held: FrameSource) -> None:
    """Killed between silver's commit and those of the tables that follow it."""
    needs_strace()
    status, _ = stream.run(lake, killed_at(lake, events.TABLE, 1, "after"))
    assert status == -signal.SIGKILL
    followers = (outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE)
    assert set(versions(lake, followers).values()) == {0}
    changed = set(lake.scan(events.TABLE).collect()["occurred_at"].dt.truncate("1h"))
    assert changed

    read = lake.scan(client_events.TABLE).drop("ingestion_date").collect()
    drain(lake, FrameSource(read, held.partitions))  # nothing new comes: the log alone must tell
    assert set(lake.scan(touched_hours.TABLE).collect()["event_hour"]) == changed
    assert lake.scan(live_metrics.TABLE).collect()["events"].sum() > 0


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(seed: int, lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    """Each process is killed a random moment after it made a random number of files: a moment of its work, not of the
    clock, so that it comes on a fast machine as on a slow one."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(8):
        child = stream.start(lake)
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        enough = files_of(lake) + rng.randrange(12)
        while child.poll() is None and files_of(lake) < enough:
            pass
        try:
            child.wait(timeout=rng.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            child.kill()
            killed += 1
        child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
    assert killed > 0
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


def files_of(lake: Lake) -> int:
    return sum(len(files) for _, _, files in os.walk(lake.url))


def test_two_processes_over_one_lake(lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    for _ in range(5):
        children = [stream.start(lake) for _ in range(2)]
        told = [child.communicate(timeout=120)[1] for child in children]
        statuses = [child.returncode for child in children]
        assert set(statuses) <= {0, FENCED}, told
        assert all("another writer moved" in told[i] for i, status in enumerate(statuses) if status == FENCED)
        if statuses == [0, 0]:
            break
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


def test_rebuilds_beside_a_process_that_reads(lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    """A rebuild while micro-batches flow loses nothing and doubles nothing."""
    child = stream.start(lake)
    rng = random.Random(1)
    rebuilt = 0
    while child.poll() is None and rebuilt < REBUILDS:
        first = rng.randrange(0, 1500, 60)
        rebuild_silver(lake, Window(at(first), at(first + rng.choice([60, 240, 1500]))))
        rebuilt += version_of(lake, events.TABLE) > 0
    _, errors = child.communicate()
    assert child.returncode == 0, errors
    assert rebuilt > 0
    assert_nothing_lost_or_doubled(lake, held, undisturbed)
    rebuild_silver(lake, Window(START, at(3000)))
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


@pytest.mark.parametrize("table", STREAM_TABLES, ids=lambda table: table.name)
def test_no_space_for_a_commit(table: Table, lake: Lake, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    needs_strace()
    status, errors = stream.run(lake, failing_at(lake, table, 2, "ENOSPC"))
    assert status == 1
    assert "No space left on device" in errors
    assert version_of(lake, table) == 1
    assert_nothing_lost_or_doubled(lake, held, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 4, 16, 48, 96, 160])
def test_the_disk_is_full(free: int, small_disk: Path, stream: Stream, held: FrameSource, undisturbed: Lake) -> None:
    """It is full before the data, before the commit, or somewhere in between; then there is space again."""
    lake = new_lake(small_disk / "lake")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - free * 1024))
    status, errors = stream.run(lake)
    assert status == 1
    assert "No space left on device" in errors
    ballast.unlink()
    assert_nothing_lost_or_doubled(lake, held, undisturbed)
