"""Whatever checks say, and wherever the process dies while it takes that in: each evaluation has one row."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import dagster as dg
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.platform import Platform
from platform_assets.quality.check_results import TABLE, take_in
from platform_assets.quality.evaluations import Measures, progress_in, storage_of, sum_of
from resources.lake import Fenced, Lake
from resources.settings import Settings
from sensors.check_results import check_results
from support.lakes import EventfulLake, Killed, commits, die

CHECKS = ("contract", "unique_key", "somebody_elses")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check_results") / "lake"
    Lake(str(folder)).create(TABLE)
    return folder


def say(
    instance: dg.DagsterInstance,
    partition: str | None,
    check: str = "contract",
    passed: bool = True,
    metadata: dict[str, dg.MetadataValue] | None = None,
    description: str | None = None,
) -> None:
    """Let Dagster's log have an evaluation; a partition has one of each check, as in a run."""
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["gold", "revenue"]),
            check_name=check,
            passed=passed,
            metadata=metadata or {},
            severity=dg.AssetCheckSeverity.WARN,
            description=description,
            partition=partition,
        )
    )


def numbers(lake: Lake) -> list[int]:
    return lake.scan(TABLE).collect()["event"].sort().to_list()


spoken = st.tuples(st.just("say"), st.sampled_from(CHECKS), st.booleans(), st.booleans())
ticks = st.tuples(st.just("tick"), st.none() | st.integers(1, 6))


@pytest.fixture(scope="module")
def spoken_to() -> Iterator[tuple[dg.DagsterInstance, dict[str, tuple[str, bool]]]]:
    """A log that all examples go on with, and what it says by partition: a new lake has all of it to take in."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made, {}


@settings(max_examples=10)
@given(st.lists(spoken | ticks, max_size=8))
def test_each_evaluation_has_one_row(
    tmp_path_factory: pytest.TempPathFactory,
    empty: Path,
    spoken_to: tuple[dg.DagsterInstance, dict[str, tuple[str, bool]]],
    course: list[tuple[object, ...]],
) -> None:
    instance, wanted = spoken_to
    folder = tmp_path_factory.mktemp("lake") / "lake"
    shutil.copytree(empty, folder)
    for what, *how in course:
        if what == "say":
            check, passed, is_sum = how
            partition = f"p{len(wanted)}" if not is_sum else f"sum {uuid4()}"
            say(instance, partition, str(check), bool(passed), sum_of(3) if is_sum else {})
            if not is_sum:
                wanted[partition] = (str(check), bool(passed))
            continue
        lake = EventfulLake(str(folder), {} if how[0] is None else {how[0]: die})  # type: ignore[dict-item]
        with contextlib.suppress(Killed):
            take_in(Platform(lake, Settings()), instance)
    last = Platform(Lake(str(folder)), Settings())
    take_in(last, instance)
    rows = last.lake.scan(TABLE).collect()
    assert rows["partition_key"].n_unique() == rows.height
    told = rows.select("partition_key", "check_name", "passed").rows()
    assert {key: (check, passed) for key, check, passed in told} == wanted
    version = last.lake.open(TABLE).version()
    assert take_in(last, instance).is_empty()
    assert last.lake.open(TABLE).version() == version  # nothing new, nothing written
    made = commits(last.lake, TABLE)[1:]
    assert all(list(commit.progress) == [progress_in(instance)] for commit in made)
    reached = [commit.progress[progress_in(instance)] for commit in made]
    assert reached == sorted(set(reached))


def test_it_dies_at_every_moment(empty: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    for day in range(1, 6):
        say(instance, f"2026-02-{day:02}")
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(empty, rehearsal.url)
    take_in(Platform(rehearsal, Settings()), instance)
    assert f"after writing {TABLE.name}" in rehearsal.moments
    for number, moment in enumerate(rehearsal.moments, 1):
        folder = tmp_path / str(number)
        shutil.copytree(empty, folder)
        with pytest.raises(Killed):
            take_in(Platform(EventfulLake(str(folder), {number: die}), Settings()), instance)
        lake = Lake(str(folder))
        is_in = moment.startswith("after")
        assert numbers(lake) == ([1, 2, 3, 4, 5] if is_in else [])
        assert take_in(Platform(lake, Settings()), instance).height == (0 if is_in else 5)
        assert numbers(lake) == [1, 2, 3, 4, 5]


def test_of_two_at_once_one_writes(empty: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    say(instance, "2026-02-01")
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(empty, rehearsal.url)
    take_in(Platform(rehearsal, Settings()), instance)
    fenced = 0
    for number in range(1, len(rehearsal.moments) + 1):
        folder = tmp_path / str(number)
        shutil.copytree(empty, folder)
        rival = Platform(Lake(str(folder)), Settings())

        def interfere(rival: Platform = rival) -> None:
            take_in(rival, instance)

        platform = replace(rival, lake=EventfulLake(str(folder), {number: interfere}))
        try:
            take_in(platform, instance)
        except Fenced:
            fenced += 1
        assert numbers(rival.lake) == [1]
    assert fenced > 0


def test_what_was_measured_is_read_back(empty: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shutil.copytree(empty, tmp_path / "lake")
    platform = Platform(Lake(str(tmp_path / "lake")), Settings())
    measured = Measures("volume", 7, 10.5, None, "rows", 3, "anna@shop.example has none", 0.25, 12)
    say(instance, "2026-02-01", passed=False, metadata=measured.metadata(), description="seen from 203.0.113.7")
    foreign = {"observed": dg.MetadataValue.text("much"), "pillar": dg.MetadataValue.text("beauty")}
    say(instance, None, "somebody_elses", metadata=foreign)
    rows = take_in(platform, instance)
    assert rows.equals(platform.lake.scan(TABLE).sort("event").collect())
    ours, theirs = rows.iter_rows(named=True)
    assert (ours["observed"], ours["expected_least"], ours["expected_most"], ours["unit"]) == (7, 10.5, None, "rows")
    assert (ours["pillar"], ours["rows_failed"], ours["duration_seconds"], ours["table_version"]) == (
        "volume",
        3,
        0.25,
        12,
    )
    assert (ours["asset"], ours["check_name"], ours["partition_key"]) == ("gold/revenue", "contract", "2026-02-01")
    assert (ours["severity"], ours["passed"], ours["event_log"]) == ("warning", False, storage_of(instance))
    assert "anna@shop.example" not in ours["sample"]
    assert ours["sample"].endswith(" has none")
    assert ours["description"] == "seen from 203.0.113.0"
    assert [theirs[name] for name in ("partition_key", "pillar", "observed", "rows_failed", "sample")] == [None] * 5
    assert (theirs["check_name"], theirs["passed"]) == ("somebody_elses", True)


def test_a_new_lake_has_the_whole_log(empty: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    for name in ("first", "second"):
        shutil.copytree(empty, tmp_path / name)
        say(instance, f"2026-02-0{len(name)}")
        take_in(Platform(Lake(str(tmp_path / name)), Settings()), instance)
    assert numbers(Lake(str(tmp_path / "first"))) == [1]
    assert numbers(Lake(str(tmp_path / "second"))) == [1, 2]


def test_the_sensor_shows_the_days_that_it_wrote(empty: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shutil.copytree(empty, tmp_path / "lake")
    platform = Platform(Lake(str(tmp_path / "lake")), Settings())
    say(instance, "2026-02-01", passed=False)
    say(instance, "2026-02-02")
    context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
    result = check_results(context)
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason is not None
    assert result.skip_reason.skip_message == "2 evaluations taken in"
    (shown,) = result.asset_events
    assert isinstance(shown, dg.AssetMaterialization)
    assert shown.partition == str(datetime.now(UTC).date())
    assert {name: value.value for name, value in shown.metadata.items()} == {"dagster/row_count": 2, "failed": 1}
    again = check_results(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
    assert isinstance(again, dg.SensorResult)
    assert list(again.asset_events) == []
    assert platform.lake.scan(TABLE).filter(~pl.col("passed")).collect().height == 1
