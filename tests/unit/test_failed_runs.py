"""From runs and backfills that failed to what is wrong now: over runs that Dagster has recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_run_for_test

from platform_assets.alerts import of_runs
from platform_assets.alerts.incidents import reconcile, standing_after
from platform_assets.alerts.watched import Watched
from support.alerts import manner

DAILY = dg.DailyPartitionsDefinition("2025-02-01")
WATCHED = Watched(upstream={"a": set(), "b": {"a"}, "c": set()}, jobs={"tidy", "nightly"}, partitions={"c": DAILY})
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def ran(
    instance: dg.DagsterInstance,
    assets: str = "",
    made: str = "",
    *,
    fails: bool,
    job: str = "__ASSET_JOB",
    partition: str | tuple[str, str] | None = None,
    again: dg.DagsterRun | None = None,
) -> dg.DagsterRun:
    """A run of assets, named by a letter each, or of a job; which of them it made, and how it ended."""
    tags = {"dagster/partition": partition} if isinstance(partition, str) else {}
    if isinstance(partition, tuple):
        tags = dict(zip([f"dagster/asset_partition_range_{end}" for end in ("start", "end")], partition, strict=True))
    if again is not None:
        tags |= {"dagster/parent_run_id": again.run_id, "dagster/root_run_id": again.run_id}
    selection = frozenset(dg.AssetKey(name) for name in assets) or None
    run = create_run_for_test(
        instance,
        job_name=job,
        asset_selection=selection,
        tags=tags,
        parent_run_id=None if again is None else again.run_id,
        root_run_id=None if again is None else again.run_id,
    )
    for name in made:
        told = StepMaterializationData(dg.AssetMaterialization(name, partition=tags.get("dagster/partition")))
        report(instance, run, DagsterEventType.ASSET_MATERIALIZATION, told)
    if fails:
        instance.report_run_failed(run)
    else:
        report(instance, run, DagsterEventType.RUN_SUCCESS)
    return run


def report(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    kind: DagsterEventType,
    told: StepMaterializationData | None = None,
) -> None:
    event = DagsterEvent(event_type_value=kind.value, job_name=run.job_name, event_specific_data=told)
    instance.report_dagster_event(event, run_id=run.run_id)


def wrong(instance: dg.DagsterInstance, watched: Watched = WATCHED) -> list[str]:
    return [condition.cause for condition in of_runs.of_runs(instance, {}, watched, LONG_AGO)]


def test_what_a_run_made_before_it_failed_is_not_made_again_by_its_re_execution(instance: dg.DagsterInstance) -> None:
    failed = ran(instance, "ab", made="a", fails=True)
    assert wrong(instance) == ["run:a,b"]
    ran(instance, "ab", made="", fails=True, again=failed)
    assert wrong(instance) == ["run:a,b"]
    ran(instance, "ab", made="b", fails=False, again=failed)
    assert wrong(instance) == []


def test_what_a_run_was_to_make_may_be_made_by_any_other(instance: dg.DagsterInstance) -> None:
    ran(instance, "ab", made="ab", fails=True)  # a check that blocks: what it made does not count
    ran(instance, "a", made="a", fails=False)
    assert wrong(instance) == ["run:a,b"]
    ran(instance, "b", made="b", fails=False)
    assert wrong(instance) == []


def test_a_partition_is_mended_by_itself_alone(instance: dg.DagsterInstance) -> None:
    ran(instance, "c", fails=True, partition="2025-02-01")
    ran(instance, "c", fails=True, partition="2025-02-02")
    ran(instance, "c", made="c", fails=False, partition="2025-02-02")
    assert wrong(instance) == ["run:c"]
    ran(instance, "c", made="c", fails=False, partition="2025-02-01")
    assert wrong(instance) == []


def test_of_a_range_each_partition_must_be_made(instance: dg.DagsterInstance) -> None:
    ran(instance, "c", fails=True, partition=("2025-02-01", "2025-02-03"))
    for day in ("2025-02-01", "2025-02-03"):
        ran(instance, "c", made="c", fails=False, partition=day)
    assert wrong(instance) == ["run:c"]
    ran(instance, "c", made="c", fails=False, partition="2025-02-02")
    assert wrong(instance) == []


def test_many_failures_of_one_job_hide_no_other(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_runs, "_PAGE", 5)
    ran(instance, job="nightly", fails=True)
    for _ in range(11):
        ran(instance, job="tidy", fails=True)
    assert sorted(wrong(instance)) == ["run:nightly", "run:tidy"]


def test_many_backfills_hide_no_other(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_runs, "_PAGE", 5)

    @dg.asset(partitions_def=DAILY)
    def c() -> None: ...

    graph, began = dg.Definitions(assets=[c]).resolve_asset_graph(), datetime.now(UTC).timestamp()
    for number, status in enumerate([BulkActionStatus.COMPLETED_FAILED, *[BulkActionStatus.CANCELED] * 11]):
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=f"number-{number}",
            asset_graph=graph,
            partition_names=["2025-02-01"],
            asset_selection=[c.key],
            backfill_timestamp=began + number,
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill.with_status(status))
    found = list(of_runs.of_backfills(instance, {}, WATCHED, LONG_AGO))
    assert [condition.cause for condition in found] == ["backfill:number-0"]
    gone = Watched(upstream={"c": set()}, partitions={"c": dg.DailyPartitionsDefinition("2025-03-01")})
    for without in (Watched(), gone):
        assert list(of_runs.of_backfills(instance, {}, without, LONG_AGO)) == []


def test_what_is_no_longer_there_is_wrong_no_more(instance: dg.DagsterInstance) -> None:
    ran(instance, job="tidy", fails=True)
    ran(instance, "a", fails=True)
    ran(instance, "ab", fails=True)
    ran(instance, "c", fails=True, partition="2025-02-01")
    assert sorted(wrong(instance)) == ["run:a", "run:a,b", "run:c", "run:tidy"]
    later = dg.DailyPartitionsDefinition("2025-03-01")
    without = Watched(upstream={"b": set(), "c": set()}, partitions={"c": later})
    assert wrong(instance, without) == ["run:a,b"]
    ran(instance, "b", made="b", fails=False)
    assert wrong(instance, without) == []


def test_an_incident_of_a_job_that_was_removed_ends(instance: dg.DagsterInstance) -> None:
    ran(instance, job="tidy", fails=True)
    now = datetime.now(UTC)
    opened = reconcile({}, list(of_runs.of_runs(instance, {}, WATCHED, LONG_AGO)), now, manner())
    standing = standing_after({}, opened)
    found = list(of_runs.of_runs(instance, standing, Watched(), LONG_AGO))
    removed = {cause for cause in standing if not of_runs.is_there(cause, Watched())}
    (over,) = reconcile(standing, found, now + timedelta(minutes=1), manner(), removed=removed)
    assert over.change == "recovered"
    assert over.seen.endswith("(what this is about is no longer there)")
