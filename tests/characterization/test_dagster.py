"""Characterization of Dagster 1.13.27: partitions, checks, sensors, and how definitions are loaded.

These test the library, not this project. Each docstring says the behaviour in one sentence, then what rests
on it here, so that a failure after an upgrade reads as "Dagster changed, look there". Some reach into private
modules (``dagster._…``), because what they pin has no public door; that a door moved is worth knowing too.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.reconstruct import initialize_repository_def_from_pointer
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module
from dagster._daemon.sensor import _get_or_create_sensor_run, fetch_existing_runs
from dagster_shared.check import CheckError

HOURLY = dg.HourlyPartitionsDefinition("2026-01-01-00:00", end_offset=1)
DAILY = dg.DailyPartitionsDefinition("2026-01-01", end_offset=1)
BERLIN_DAILY = dg.DailyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin", end_offset=1)
RANGED = dg.BackfillPolicy.multi_run(24)
HOURS = ["2026-01-01-05:00", "2026-01-01-06:00"]
RANGE = {"dagster/asset_partition_range_start": HOURS[0], "dagster/asset_partition_range_end": HOURS[1]}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No pages of events: only pytest's report matters."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(
    instance: dg.DagsterInstance, *definitions: Any, raise_on_error: bool = True, **how: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(definitions), instance=instance, raise_on_error=raise_on_error, **how)


def metadata_by_partition(result: dg.ExecuteInProcessResult, node: str) -> list[tuple[str | None, dict[str, Any]]]:
    return [
        (event.partition, {key: value.value for key, value in event.metadata.items()})
        for event in result.asset_materializations_for_node(node)
    ]


# --- runs of a range of partitions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "tags"),
    [
        (None, [{"dagster/partition": hour} for hour in HOURS]),
        (
            dg.BackfillPolicy.multi_run(1),
            [
                {"dagster/asset_partition_range_start": hour, "dagster/asset_partition_range_end": hour}
                for hour in HOURS
            ],
        ),
        (dg.BackfillPolicy.multi_run(24), [RANGE]),
        (dg.BackfillPolicy.single_run(), [RANGE]),
    ],
    ids=["none", "multi_run(1)", "multi_run(24)", "single_run"],
)
def test_every_explicit_backfill_policy_makes_range_runs(
    instance: dg.DagsterInstance, policy: dg.BackfillPolicy | None, tags: list[Mapping[str, str]]
) -> None:
    """A backfill tags runs with a partition *range* under any explicit policy, even ``multi_run(1)``.

    Only ``backfill_policy=None`` sets one ``dagster/partition``: every asset of ours is written for a range.
    """

    @dg.asset(partitions_def=HOURLY, backfill_policy=policy)
    def hourly() -> None: ...

    graph = dg.Definitions(assets=[hourly]).resolve_asset_graph()
    wanted = [AssetKeyPartitionKey(hourly.key, hour) for hour in HOURS]
    requests = build_run_requests_with_backfill_policies(wanted, graph, instance)

    assert [request.tags for request in requests] == tags


def test_a_range_run_has_keys_range_and_window_but_no_single_key(instance: dg.DagsterInstance) -> None:
    """In a range run ``context.partition_key`` raises; ``partition_keys``, ``partition_key_range`` and
    ``partition_time_window`` (half-open, aware) span the range.

    Assets read their window from ``partition_time_window``, and never ask for one key.
    """
    seen: dict[str, Any] = {}

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def hourly(context: dg.AssetExecutionContext) -> None:
        with pytest.raises(dg.DagsterInvariantViolationError, match="range of partitions"):
            _ = context.partition_key
        seen.update(
            keys=context.partition_keys, range=context.partition_key_range, window=context.partition_time_window
        )

    assert run(instance, hourly, tags=RANGE).success
    assert seen["keys"] == HOURS
    assert seen["range"] == dg.PartitionKeyRange(*HOURS)
    assert seen["window"] == dg.TimeWindow(datetime(2026, 1, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, 7, tzinfo=UTC))
    assert instance.get_materialized_partitions(hourly.key) == set(HOURS)


def test_the_same_asset_runs_with_a_single_partition_key(instance: dg.DagsterInstance) -> None:
    """``partition_key=…`` on an asset with a range policy gives a range of one: keys and window work all the same.

    One code path serves the UI's single partition and a backfill; both through ``execute_in_process``.
    """
    seen: dict[str, Any] = {}

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def hourly(context: dg.AssetExecutionContext) -> None:
        seen.update(keys=context.partition_keys, hours=context.partition_time_window)

    definitions = dg.Definitions(assets=[hourly], jobs=[dg.define_asset_job("rebuild", selection=[hourly])])
    job = definitions.resolve_job_def("rebuild")
    assert job.execute_in_process(partition_key=HOURS[0], instance=instance).success
    assert seen["keys"] == HOURS[:1]
    assert seen["hours"].end - seen["hours"].start == timedelta(hours=1)

    assert job.execute_in_process(tags=RANGE, instance=instance).success
    assert seen["keys"] == HOURS


def test_a_partition_key_and_a_range_exclude_each_other(instance: dg.DagsterInstance) -> None:
    """A run with both a partition and range tags is refused, and so is a key outside the definition.

    A run has one window.
    """

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def hourly() -> None: ...

    with pytest.raises(dg.DagsterInvariantViolationError, match="Cannot have dagster/asset_partition_range_start"):
        run(instance, hourly, partition_key=HOURS[0], tags=RANGE)
    with pytest.raises(dg.DagsterUnknownPartitionError):
        run(instance, hourly, partition_key="2025-01-01-00:00")


def test_a_run_without_partition_of_a_partitioned_asset_fails_only_when_asked_for_its_keys(
    instance: dg.DagsterInstance,
) -> None:
    """A partitioned asset may be run with no partition at all; ``partition_keys`` then raises.

    The asset's first act is to read its window, so such a run fails before it writes.
    """

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def hourly(context: dg.AssetExecutionContext) -> None:
        _ = context.partition_keys

    with pytest.raises(dg.DagsterInvariantViolationError, match="non-partitioned run"):
        run(instance, hourly)


def test_a_range_run_needs_a_return_that_no_io_manager_stores(instance: dg.DagsterInstance) -> None:
    """A function without return annotation that returns None goes through the IO manager, which refuses a range.

    Assets are annotated ``-> None`` or return ``MaterializeResult``; both bypass IO managers.
    """

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def unannotated(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        _ = context.partition_keys

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def reports() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"n": 1})

    assert run(instance, reports, tags=RANGE).success
    with pytest.raises(CheckError, match="associated with multiple partitions"):
        run(instance, unannotated, tags=RANGE)


def test_metadata_per_partition_of_a_range_run(instance: dg.DagsterInstance) -> None:
    """``add_asset_metadata(…, partition_key=key)`` puts metadata on that partition's own event, one event a partition.

    Each hour shows its own ``row_count``. Returning one MaterializeResult repeats its metadata on every partition;
    logging AssetMaterialization per key instead gives two events a partition.
    """

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def counted(context: dg.AssetExecutionContext) -> None:
        for rows, key in enumerate(context.partition_keys):
            context.add_asset_metadata({"row_count": rows}, partition_key=key)

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def returned() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"n": 1})

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
    def logged(context: dg.AssetExecutionContext) -> None:
        for key in context.partition_keys:
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata={"n": 1}))

    result = run(instance, counted, returned, logged, tags=RANGE)
    assert metadata_by_partition(result, "counted") == [(HOURS[0], {"row_count": 0}), (HOURS[1], {"row_count": 1})]
    assert metadata_by_partition(result, "returned") == [(hour, {"n": 1}) for hour in HOURS]
    assert metadata_by_partition(result, "logged") == [(hour, said) for said in ({"n": 1}, {}) for hour in HOURS]


def test_a_context_annotation_must_not_be_a_string() -> None:
    """``context: "dg.AssetExecutionContext"`` raises, hence so does ``from __future__ import annotations``.

    Modules that define assets, checks or ops with a typed context do without that import.
    """
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Cannot annotate `context`"):

        @dg.asset
        def table(context: "dg.AssetExecutionContext") -> None: ...


def test_materializing_a_day_does_not_ask_for_its_hours(instance: dg.DagsterInstance) -> None:
    """An asset with ``deps`` runs though its upstream partitions were never materialized.

    Dependencies are for display and lineage; whether a day may be computed is our decision (watermark).
    """

    @dg.asset(partitions_def=HOURLY)
    def hourly() -> None: ...

    @dg.asset(partitions_def=DAILY, deps=[hourly])
    def daily() -> None: ...

    assert run(instance, hourly, daily, selection=[daily], partition_key="2026-01-02").success


# --- partitioned checks ---------------------------------------------------------------------------------


def statuses(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> dict[str | None, str]:
    """The latest status of each partition of a check (None: the evaluation without a partition)."""
    infos = instance.event_log_storage.get_asset_check_partition_info([check])
    return {info.partition_key: info.latest_execution_status.value for info in infos}


def evaluations(result: dg.ExecuteInProcessResult) -> list[tuple[str | None, bool]]:
    found = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    return [(evaluation.partition, evaluation.passed) for evaluation in found]


@dg.asset(partitions_def=HOURLY, backfill_policy=RANGED)
def checked() -> None: ...


def test_a_partitioned_check_in_a_range_run_is_recorded_without_a_partition(instance: dg.DagsterInstance) -> None:
    """In a range run a partitioned check's result has partition None, and its partitions stay PLANNED for ever.

    The trap that the next test mends. With a single partition the result carries its key.
    """

    @dg.asset_check(asset=checked, partitions_def=HOURLY)
    def naive() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    key = dg.AssetCheckKey(checked.key, "naive")
    assert evaluations(run(instance, checked, naive, tags=RANGE)) == [(None, True)]
    assert statuses(instance, key) == {None: "SUCCEEDED", HOURS[0]: "PLANNED", HOURS[1]: "PLANNED"}

    assert evaluations(run(instance, checked, naive, partition_key=HOURS[0])) == [(HOURS[0], True)]
    assert statuses(instance, key)[HOURS[0]] == "SUCCEEDED"


def test_an_evaluation_logged_per_key_gives_each_partition_its_status(instance: dg.DagsterInstance) -> None:
    """``op_execution_context.log_event(AssetCheckEvaluation(…, partition=key))`` sets the status of that partition.

    The factory of checks logs one per key and returns the aggregate, which blocks.
    """

    @dg.asset_check(asset=checked, partitions_def=HOURLY)
    def mended(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        for hour in context.op_execution_context.partition_keys:
            context.op_execution_context.log_event(
                dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted, not annotated
                    asset_key=checked.key, check_name="mended", passed=hour == HOURS[0], metadata={}, partition=hour
                )
            )
        return dg.AssetCheckResult(passed=False)

    result = run(instance, checked, mended, tags=RANGE)
    assert evaluations(result) == [(HOURS[0], True), (HOURS[1], False), (None, False)]
    assert statuses(instance, dg.AssetCheckKey(checked.key, "mended")) == {
        HOURS[0]: "SUCCEEDED",
        HOURS[1]: "FAILED",
        None: "FAILED",
    }


@pytest.mark.parametrize(
    ("blocking", "severity", "succeeds"),
    [
        (True, dg.AssetCheckSeverity.ERROR, False),
        (True, dg.AssetCheckSeverity.WARN, True),
        (False, dg.AssetCheckSeverity.ERROR, True),
    ],
)
def test_only_a_blocking_check_of_severity_error_stops_what_is_downstream(
    instance: dg.DagsterInstance, blocking: bool, severity: dg.AssetCheckSeverity, succeeds: bool
) -> None:
    """A failed blocking ERROR check fails the run and skips downstream for the *whole* range; nothing else does.

    Blocking checks guard gold; a failed non-blocking one fails no run, so alerts come from evaluation events.
    """

    @dg.asset_check(asset=checked, partitions_def=HOURLY, blocking=blocking)
    def guard() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=severity)

    @dg.asset(partitions_def=HOURLY, backfill_policy=RANGED, deps=[checked])
    def downstream() -> None: ...

    result = run(instance, checked, guard, downstream, tags=RANGE, raise_on_error=False)
    assert result.success is succeeds
    assert instance.get_materialized_partitions(downstream.key) == (set(HOURS) if succeeds else set())


# --- op jobs and sensors --------------------------------------------------------------------------------


def test_an_op_job_reports_partitions_of_several_assets(instance: dg.DagsterInstance) -> None:
    """An op of a job without partitions may log AssetMaterialization and AssetCheckEvaluation of any partition.

    ``advance`` shows the hours that its micro-batches touched, in bronze and in silver.
    """
    bronze, silver = dg.AssetKey(["bronze", "events"]), dg.AssetKey(["silver", "events"])

    @dg.op
    def take(context: dg.OpExecutionContext) -> None:
        for asset in (bronze, silver):
            for hour in HOURS:
                context.log_event(dg.AssetMaterialization(asset, partition=hour, metadata={"rows": 1}))
        context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted, not annotated
                asset_key=silver, check_name="late", passed=False, metadata={}, partition=HOURS[0]
            )
        )

    @dg.job
    def advance() -> None:
        take()

    assert advance.execute_in_process(instance=instance).success
    assert instance.get_materialized_partitions(bronze) == set(HOURS)
    assert instance.get_materialized_partitions(silver) == set(HOURS)
    assert statuses(instance, dg.AssetCheckKey(silver, "late")) == {HOURS[0]: "FAILED"}


@pytest.mark.parametrize(
    ("status", "started_again"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, True),
        (dg.DagsterRunStatus.STARTED, False),
        (dg.DagsterRunStatus.SUCCESS, False),
        (dg.DagsterRunStatus.FAILURE, False),
        (dg.DagsterRunStatus.CANCELED, False),
    ],
)
def test_a_run_key_is_never_started_twice(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, started_again: bool
) -> None:
    """The daemon skips a request whose run key any launched run of the same sensor has had, even a failed one.

    So the key of an advance carries an attempt: else a failed range on a quiet topic would stick for ever.
    """
    create_run_for_test(
        instance, job_name="advance", status=status, tags={RUN_KEY_TAG: "events:17:0", SENSOR_NAME_TAG: "stream"}
    )
    request = dg.RunRequest(run_key="events:17:0")
    sensor: Any = SimpleNamespace(name="stream")
    unused: Any = None
    existing = fetch_existing_runs(instance, sensor, [request])
    outcome = _get_or_create_sensor_run(
        logging.getLogger(__name__), instance, unused, sensor, unused, "new run", request, unused, existing
    )

    assert (type(outcome) is dg.DagsterRun) is started_again
    another_sensor: Any = SimpleNamespace(name="another")
    assert fetch_existing_runs(instance, another_sensor, [request]) == {}


def test_a_sensor_is_evaluated_without_a_daemon(instance: dg.DagsterInstance) -> None:
    """``evaluate_tick(build_sensor_context(cursor=…, resources=…))`` gives requests, skip reason and the new cursor.

    Unit tests of sensors drive this; raw Python objects serve as resources.
    """

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def advance() -> None:
        nothing()

    @dg.sensor(job=advance)
    def stream(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[list[int]]) -> Any:
        if context.cursor == str(len(lake)):
            return dg.SkipReason("nothing new")
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"at {len(lake)}")], cursor=str(len(lake)))

    def tick(cursor: str | None) -> Any:
        return stream.evaluate_tick(
            dg.build_sensor_context(instance=instance, cursor=cursor, resources={"lake": [1, 2, 3]})
        )

    first = tick(None)
    assert ([request.run_key for request in first.run_requests], first.cursor) == (["at 3"], "3")
    second = tick(first.cursor)
    assert (list(second.run_requests), second.skip_message) == ([], "nothing new")


# --- partitions definitions -----------------------------------------------------------------------------


def test_end_offset_1_includes_the_open_hour_and_day() -> None:
    """With ``end_offset=1`` the hour or day that is not over yet is a partition; without it, it is not.

    The open day is shown, restated every few minutes, and marked not final.
    """
    now = datetime(2026, 1, 3, 10, 30, tzinfo=UTC)

    assert HOURLY.get_partition_keys(now)[-1] == "2026-01-03-10:00"
    assert DAILY.get_partition_keys(now)[-1] == "2026-01-03"
    assert dg.HourlyPartitionsDefinition("2026-01-01-00:00").get_partition_keys(now)[-1] == "2026-01-03-09:00"
    assert dg.DailyPartitionsDefinition("2026-01-01").get_partition_keys(now)[-1] == "2026-01-02"


def hours_of(
    day: str,
    days: dg.DailyPartitionsDefinition,
    hours: dg.HourlyPartitionsDefinition,
    mapping: dg.TimeWindowPartitionMapping | None = None,
) -> tuple[list[str], list[str]]:
    """The hours that a day maps to, and those that it needs but are not defined, seen from 2026-04-03 10:30 UTC."""
    with partition_loading_context(datetime(2026, 4, 3, 10, 30, tzinfo=UTC)):
        result = (mapping or dg.TimeWindowPartitionMapping()).get_upstream_mapped_partitions_result_for_partitions(
            days.empty_subset().with_partition_keys([day]), days, hours
        )
        return (
            sorted(result.partitions_subset.get_partition_keys()),
            sorted(result.required_but_nonexistent_partition_keys),
        )


def test_a_day_maps_to_its_24_hours() -> None:
    """The default mapping of a UTC day onto UTC hours is 24 keys, 00:00 to 23:00; of the open day, the hours so far.

    Hours of the open day that are yet to come are reported as required but nonexistent.
    """
    mapped, missing = hours_of("2026-01-02", DAILY, HOURLY)
    assert mapped == [f"2026-01-02-{hour:02}:00" for hour in range(24)]
    assert missing == []

    mapped, missing = hours_of("2026-04-03", DAILY, HOURLY)
    assert (len(mapped), mapped[-1]) == (11, "2026-04-03-10:00")
    assert (len(missing), missing[0]) == (13, "2026-04-03-11:00")


def test_hours_outside_the_definition_are_missing_unless_allowed() -> None:
    """A day that begins before the hourly definition needs hours that do not exist; the option drops that need.

    Mappings of the lake allow nonexistent upstream partitions: the first day may be short, the open one is.
    """
    late_start = dg.HourlyPartitionsDefinition("2026-01-02-05:00", end_offset=1)
    allowing = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)

    mapped, missing = hours_of("2026-01-02", DAILY, late_start)
    assert (len(mapped), len(missing)) == (19, 5)
    mapped, missing = hours_of("2026-01-02", DAILY, late_start, allowing)
    assert (len(mapped), len(missing)) == (19, 0)


def test_a_day_of_another_timezone_does_not_map_to_utc_hours() -> None:
    """Hours and days of different timezones cannot be mapped by time window: loading the definitions fails.

    With a reporting timezone other than UTC, a day's dependency on UTC hours takes another mapping
    (``AllPartitionMapping`` loads), and the asset computes its own window.
    """
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Timezones UTC and Europe/Berlin don't match"):
        hours_of("2026-01-02", BERLIN_DAILY, HOURLY)

    @dg.asset(partitions_def=HOURLY)
    def hourly() -> None: ...

    @dg.asset(partitions_def=BERLIN_DAILY, deps=[hourly])
    def by_default() -> None: ...

    @dg.asset(partitions_def=BERLIN_DAILY, deps=[dg.AssetDep(hourly, partition_mapping=dg.AllPartitionMapping())])
    def by_all() -> None: ...

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Invalid partition mapping"):
        dg.Definitions.validate_loadable(dg.Definitions(assets=[hourly, by_default]))
    dg.Definitions.validate_loadable(dg.Definitions(assets=[hourly, by_all]))


def test_a_local_day_has_23_or_25_hours_at_the_clock_change() -> None:
    """The window of a Berlin day is aware, and 23 h or 25 h long at the change of the clocks.

    A day's window is taken from the definition, never computed as 24 hours.
    """
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)):
        window = BERLIN_DAILY.time_window_for_partition_key(day)
        assert window.start.utcoffset() is not None
        assert window.end.timestamp() - window.start.timestamp() == hours * 3600


# --- resources, pools, freshness ------------------------------------------------------------------------


class Lake:
    """A plain object, no ConfigurableResource."""

    def __init__(self) -> None:
        self.used_by: list[str] = []


def test_any_python_object_is_a_resource_by_resource_param(instance: dg.DagsterInstance) -> None:
    """``ResourceParam[T]`` injects the very object given under that name, in assets, checks and ops; if absent,
    loading the definitions fails.

    The outside world is plain typed objects, and tests pass fakes.
    """
    lake = Lake()

    @dg.asset
    def table(lake: dg.ResourceParam[Lake]) -> None:
        lake.used_by.append("asset")

    @dg.asset_check(asset=table)
    def check(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        lake.used_by.append("check")
        return dg.AssetCheckResult(passed=True)

    @dg.op
    def take(lake: dg.ResourceParam[Lake]) -> None:
        lake.used_by.append("op")

    @dg.job
    def advance() -> None:
        take()

    definitions = dg.Definitions(assets=[table], asset_checks=[check], jobs=[advance], resources={"lake": lake})
    assert definitions.resolve_job_def("advance").execute_in_process(instance=instance).success
    assert definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).success
    assert lake.used_by == ["op", "asset", "check"]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="resource with key 'lake'"):
        dg.Definitions.validate_loadable(dg.Definitions(assets=[table]))


def test_without_resource_param_an_object_is_taken_for_an_upstream_asset() -> None:
    """A parameter annotated with the bare class is an input, hence a dependency on an asset of that name.

    Forgetting ``ResourceParam`` is not an error by itself: the test of the definitions looks for such keys.
    """

    @dg.asset
    def table(lake: Lake) -> None: ...

    assert table.dependency_keys == {dg.AssetKey("lake")}


def test_pools_are_named_on_ops_and_assets() -> None:
    """``pool=`` is accepted by ``@op`` and ``@asset`` and can be read back.

    One slot of a pool makes one writer of a stream, and one maintenance task of a table.
    """

    @dg.op(pool="stream_events")
    def take() -> None: ...

    @dg.asset(pool="maintain_events")
    def table() -> None: ...

    assert take.pools == {"stream_events"}
    assert table.op.pools == {"maintain_events"}


def test_a_pool_of_one_slot_is_claimed_by_one_step(tmp_path: Path) -> None:
    """On the SQLite instance a pool's only slot goes to one run's step; another waits until it is freed.

    ``advance`` is the only writer by this, on the default local instance.
    """
    with dg.DagsterInstance.local_temp(str(tmp_path)) as stored:
        store = stored.event_log_storage
        store.set_concurrency_slots("stream_events", 1)
        assert store.claim_concurrency_slot("stream_events", "run 1", "take").is_claimed
        assert not store.claim_concurrency_slot("stream_events", "run 2", "take").is_claimed

        store.free_concurrency_slots_for_run("run 1")
        assert store.claim_concurrency_slot("stream_events", "run 2", "take").is_claimed


def test_freshness_policies_sit_on_assets_and_specs() -> None:
    """``FreshnessPolicy.time_window`` and ``.cron`` are taken by ``@asset`` and ``AssetSpec``.

    Each table's service level becomes its freshness policy. A warning window must be the shorter one.
    """
    hours_2 = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=2), warn_window=timedelta(hours=1))
    by_six = dg.FreshnessPolicy.cron(
        deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=6), timezone="Europe/Berlin"
    )

    @dg.asset(freshness_policy=hours_2, partitions_def=HOURLY)
    def table() -> None: ...

    assert table.specs_by_key[table.key].freshness_policy == hours_2
    assert dg.AssetSpec("day", freshness_policy=by_six).freshness_policy == by_six
    with pytest.raises(CheckError, match="warn_window must be less than fail_window"):
        dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1), warn_window=timedelta(hours=2))


# --- loading definitions --------------------------------------------------------------------------------

LAZY = "characterized_lazy_definitions"
LAZY_MODULE = """
import os
import dagster as dg

BUILT = []

@dg.definitions
def defs() -> dg.Definitions:
    BUILT.append(os.environ["CHARACTERIZED"])

    @dg.asset
    def table() -> None: ...

    return dg.Definitions(assets=[table])

def plain() -> dg.Definitions:
    return defs()
"""


@pytest.fixture
def lazy_module(tmp_path: Path) -> Iterator[CodePointer]:
    """A module whose definitions are built by a ``@dg.definitions`` function, as workspace.yaml would point to it."""
    (tmp_path / f"{LAZY}.py").write_text(LAZY_MODULE)
    yield CodePointer.from_module(LAZY, "defs", str(tmp_path))
    sys.modules.pop(LAZY, None)


def discovered(pointer: CodePointer) -> list[Any]:
    """What Dagster finds in a module when told no attribute."""
    folder = pointer.working_directory  # type: ignore[attr-defined]
    return list(loadable_targets_from_python_module(LAZY, folder))


def test_definitions_are_built_by_a_function_when_loaded_not_when_imported(
    lazy_module: CodePointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module is found by its ``@dg.definitions`` function, which runs only when the code location is loaded.

    So the environment is read when Dagster loads us, never at import. ``workspace.yaml`` needs
    ``python_module: {module_name: …}`` only; run workers load through the same pointer.
    """
    monkeypatch.delenv("CHARACTERIZED", raising=False)
    (target,) = discovered(lazy_module)
    assert target.attribute == "defs"
    assert sys.modules[LAZY].BUILT == []

    monkeypatch.setenv("CHARACTERIZED", "yes")
    repository = initialize_repository_def_from_pointer(lazy_module)
    assert repository.asset_graph.get_all_asset_keys() == {dg.AssetKey("table")}
    assert sys.modules[LAZY].BUILT == ["yes"]


def test_a_definitions_function_is_called_anew_each_time(
    lazy_module: CodePointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cached: each load and each call builds again (a code server calls it twice).

    ``build_defs`` is cheap and has no side effect; tests call the function, or ``build_defs`` with overrides.
    """
    monkeypatch.setenv("CHARACTERIZED", "yes")
    (target,) = discovered(lazy_module)

    assert isinstance(target.target_definition(), dg.Definitions)
    assert target.target_definition() is not target.target_definition()
    assert sys.modules[LAZY].BUILT == ["yes"] * 3


def test_a_plain_function_is_loaded_only_when_it_is_named(
    lazy_module: CodePointer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An undecorated function returning Definitions loads through ``attribute: plain``, but is not discovered.

    The decorated function is the better door: ``-m module`` finds it too.
    """
    monkeypatch.setenv("CHARACTERIZED", "yes")
    repository = initialize_repository_def_from_pointer(CodePointer.from_module(LAZY, "plain", str(tmp_path)))

    assert repository.asset_graph.get_all_asset_keys() == {dg.AssetKey("table")}
    assert [target.attribute for target in discovered(lazy_module)] == ["defs"]


def test_a_definitions_function_takes_no_parameter_of_ours() -> None:
    """``@dg.definitions`` refuses a function with parameters other than one ComponentLoadContext.

    Overrides go to ``build_defs(settings, overrides)``; the decorated function only calls it.
    """
    with pytest.raises(dg.DagsterInvariantViolationError):

        @dg.definitions
        def defs(overrides: dict[str, object] | None = None, other: int = 0) -> dg.Definitions:
            return dg.Definitions()
