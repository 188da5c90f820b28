"""A publisher that dies at any moment is made up for, and two at once publish each number once."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from platform_assets.gold import active_users, published_numbers
from support.lakes import EventfulLake, Killed, die
from support.published import START, Restated

WATERMARK = datetime(2026, 1, 14, tzinfo=UTC)
LAST = START + timedelta(days=1)
SAID = ("metric", "window_start", "revision", "value", "change", "causes")


def begun(folder: Path) -> Restated:
    """Two days that were published; then an event of the first came late, and a login claimed some of the second."""
    world = Restated.begin(folder)
    world.compute(START, 1, 1, 1, WATERMARK)
    world.compute(LAST, 2, 2, 2, WATERMARK)
    world.publish()
    world.late_event(START)
    world.merge(LAST)
    return world


def restate(world: Restated) -> None:
    """Compute both days again, and publish them."""
    world.compute(START, 2, 2, 2, WATERMARK)
    world.compute(LAST, 1, 2, 2, WATERMARK)
    world.publish()


def said(world: Restated) -> list[tuple[object, ...]]:
    return world.entries().select(SAID).rows()


def moments_of(world: Restated) -> list[str]:
    """What happened in its lake so far."""
    lake = world.platform.lake
    assert isinstance(lake, EventfulLake)
    return list(lake.moments)


@pytest.mark.slow
def test_it_dies_at_every_moment(tmp_path: Path) -> None:
    made = begun(tmp_path / "begun")
    rehearsal = made.over(EventfulLake(str(tmp_path / "rehearsal")))
    shutil.copytree(made.platform.lake.url, rehearsal.platform.lake.url)
    restate(rehearsal)
    moments = moments_of(rehearsal)
    wanted = said(rehearsal)
    changes = {(row[0], row[1].date(), *row[5]) for row in wanted if row[2] == 2}
    assert ("active_users.dau", START, "late events") in changes
    assert ("active_users.dau", LAST, "identity merge") in changes
    assert moments.count(f"after writing {published_numbers.TABLE.name}") == 1
    for number, moment in enumerate(moments, 1):
        world = made.over(EventfulLake(str(tmp_path / str(number)), {number: die}))
        shutil.copytree(made.platform.lake.url, world.platform.lake.url)
        with contextlib.suppress(Killed):
            restate(world)
        if f"writing {published_numbers.TABLE.name}" in moment:
            world.publish()  # the numbers stand: the next comparison finds them
        else:
            restate(world)
        assert said(world) == wanted, moment
        assert world.publish().is_empty()
        shutil.rmtree(world.platform.lake.url)


def test_two_at_once_publish_each_number_once(tmp_path: Path) -> None:
    """Whatever moment the other one comes in at, with the same numbers."""
    made = begun(tmp_path / "begun")
    made.compute(START, 2, 2, 2, WATERMARK)
    rehearsal = made.over(EventfulLake(str(tmp_path / "rehearsal")))
    shutil.copytree(made.platform.lake.url, rehearsal.platform.lake.url)
    rehearsal.publish()
    moments = moments_of(rehearsal)
    wanted = said(rehearsal)
    for number, moment in enumerate(moments, 1):
        folder = tmp_path / str(number)
        shutil.copytree(made.platform.lake.url, folder)
        rival = made.over(type(made.platform.lake)(str(folder)))
        made.over(EventfulLake(str(folder), {number: rival.publish})).publish()
        assert said(rival) == wanted, moment


def test_a_rival_with_newer_numbers_is_not_overtaken_by_older_ones(tmp_path: Path) -> None:
    made = begun(tmp_path / "begun")
    made.compute(START, 2, 2, 2, WATERMARK)
    rehearsal = made.over(EventfulLake(str(tmp_path / "rehearsal")))
    shutil.copytree(made.platform.lake.url, rehearsal.platform.lake.url)
    rehearsal.publish()
    moments = moments_of(rehearsal)

    def newer(world: Restated) -> None:
        world.compute(START, 5, 5, 5, WATERMARK)
        world.publish()

    for number in range(1, len(moments) + 1):
        folder = tmp_path / str(number)
        shutil.copytree(made.platform.lake.url, folder)
        rival = made.over(type(made.platform.lake)(str(folder)))
        made.over(EventfulLake(str(folder), {number: functools.partial(newer, rival)})).publish()
        rows = rival.entries().filter(pl.col("metric") == "active_users.dau", pl.col("window_date") == START)
        assert rows["value"].to_list()[-1] == 5
        assert rows["value"].to_list() in ([1, 5], [1, 2, 5])
        assert rows["revision"].to_list() == list(range(1, rows.height + 1))


_CHILD = """
import sys
from datetime import timedelta
from resources.lake import Lake
from support.published import START, Restated
from test_publication_killed import WATERMARK

world = Restated(Lake(sys.argv[1]))
world.versions = dict.fromkeys(world.versions, int(sys.argv[2]))
print("started", flush=True)
for number in range(6):
    world.compute(START + timedelta(days=number % 2), int(sys.argv[2]) + number, 99, 99, WATERMARK)
    world.publish()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments(seed: int, tmp_path: Path) -> None:
    """Each process is killed when it has made a random number of files: a moment of its work, not of the clock."""
    world, rng, killed = begun(tmp_path / "lake"), random.Random(seed), 0
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests / "faults"), str(tests.parent)])
    for number in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, world.platform.lake.url, str(100 * (number + 1))],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        enough = files_of(world) + rng.randrange(2, 40)
        while child.poll() is None and files_of(world) < enough:
            pass
        child.kill()
        child.communicate()
        killed += child.returncode == -signal.SIGKILL
    assert killed > 0
    world.publish()
    last = published_numbers.latest(world.entries().lazy()).filter(pl.col("metric") == "active_users.dau")
    gold = world.platform.lake.scan(active_users.TABLE).select("day", "dau").sort("day").collect()
    assert last.sort("window_start").select("window_date", pl.col("value").cast(pl.Int64)).rows() == gold.rows()
    entries = world.entries()
    assert not entries.select("metric", "window_start", "revision").is_duplicated().any()
    assert world.publish().is_empty()


def files_of(world: Restated) -> int:
    return sum(len(files) for _, _, files in os.walk(world.platform.lake.url))
