"""From a judgement to the service-level report, through Dagster's own API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec
import polars as pl
import pytest

from partitions import Window, floor_hour
from platform_assets.quality import check_results, service_levels
from platform_assets.quality.evaluations import DUE
from platform_assets.serving.catalog import Catalog
from platform_assets.silver import events, outcomes
from sensors.restatement import RANGE_END, RANGE_START
from support.platforms import Run

HOUR = floor_hour(datetime.now(UTC)) - timedelta(hours=5)
"""Long enough ago that the stream has not come to the hour that is due, whatever the minute."""


def key(hour: datetime) -> str:
    return f"{hour:%Y-%m-%d-%H}:00"


def page_view(number: int, at: datetime) -> tuple[bytes, datetime]:
    value = {
        "event_id": f"e{number}",
        "source": "web",
        "event_name": "page_viewed",
        "schema_ref": "page_viewed/1",
        "client_occurred_at": at.isoformat(),
        "received_at": at.isoformat(),
        "anonymous_id": "anna",
    }
    return msgspec.json.encode(value), at


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three hours with an event each; the outcomes of the second one are wrong."""
    views = [page_view(n, HOUR + timedelta(hours=n, minutes=5)) for n in range(3)]
    now = datetime.now(UTC)  # Dagster's events carry the machine's clock
    made = Run.over(tmp_path_factory.mktemp("quality"), views, now, start_date=(now - timedelta(days=3)).date())
    made.drain()
    window = Window.of_hour(HOUR + timedelta(hours=1))
    stored = made.lake.scan(outcomes.TABLE).collect()
    wrong = stored.filter(pl.col("ingestion_hour") == window.start).with_columns(pl.col("records") + 1)
    made.lake.replace(outcomes.TABLE, made.lake.open(outcomes.TABLE), wrong, window)
    return made


def taken_in(run: Run) -> pl.DataFrame:
    """What a tick of the sensor brings."""
    before = run.lake.scan(check_results.TABLE).collect()
    context = dg.build_sensor_context(instance=run.instance, resources={"platform": run.platform})
    run.sensor("check_results")(context)
    after = run.lake.scan(check_results.TABLE).collect()
    return after.join(before, on=check_results.TABLE.key, how="anti").sort("event")


def judged_range(run: Run) -> pl.DataFrame:
    job = dg.define_asset_job("judge", selection=dg.AssetSelection.checks_for_assets(outcomes.TABLE.asset_key))
    judging = dg.Definitions.merge(run.defs, dg.Definitions(jobs=[job])).get_job_def("judge")
    span = {RANGE_START: key(HOUR), RANGE_END: key(HOUR + timedelta(hours=2))}
    judging.execute_in_process(instance=run.instance, tags=span)
    return taken_in(run)


@pytest.fixture(scope="module")
def of_range(run: Run) -> pl.DataFrame:
    return judged_range(run)


@pytest.fixture(scope="module")
def of_schedule(run: Run, of_range: pl.DataFrame) -> pl.DataFrame:
    run.execute("check_latest_due")
    return taken_in(run)


@pytest.fixture(scope="module")
def report(run: Run, of_schedule: pl.DataFrame) -> pl.DataFrame:
    run.execute("report_service_levels")
    return run.lake.scan(service_levels.TABLE).collect()


@pytest.fixture
def catalog(run: Run, report: pl.DataFrame) -> Iterator[Catalog]:
    with Catalog(run.lake, [check_results.TABLE, service_levels.TABLE]) as made:
        yield made


def test_each_partition_of_a_range_has_a_row_and_their_sum_has_none(of_range: pl.DataFrame) -> None:
    conservation = of_range.filter(check_name="conservation").sort("partition_key")
    hours = [key(HOUR + timedelta(hours=n)) for n in range(3)]
    assert conservation["partition_key"].to_list() == hours
    assert conservation["passed"].to_list() == [True, False, True]
    assert conservation["observed"].to_list() == [0, 1, 0]
    assert conservation["expected_most"].to_list() == [0, 0, 0]
    assert conservation["unit"].unique().to_list() == ["topic partitions"]
    assert conservation["pillar"].unique().to_list() == ["consistency"]
    (sample,) = conservation.filter(~pl.col("passed"))["sample"]
    assert "'told': 2" in sample
    assert of_range["partition_key"].null_count() == 0
    assert (of_range["duration_seconds"] >= 0).all()
    assert of_range["run_id"].n_unique() == 1


def test_the_version_is_that_of_the_table(run: Run, of_range: pl.DataFrame) -> None:
    version = run.lake.open(outcomes.TABLE).version()
    assert of_range.filter(asset=outcomes.TABLE.name)["table_version"].unique().to_list() == [version]


def test_every_check_says_what_it_is_about_and_what_it_expected(of_schedule: pl.DataFrame) -> None:
    assert {"contract", "unique_key", DUE, "conservation", "id_conflicts"} <= set(of_schedule["check_name"])
    assert of_schedule["pillar"].null_count() == 0
    numeric = of_schedule.filter(pl.col("observed").is_not_null())
    holds = (pl.col("observed") <= pl.col("expected_most").fill_null(float("inf"))) & (
        pl.col("observed") >= pl.col("expected_least").fill_null(float("-inf"))
    )
    assert numeric.filter(holds != pl.col("passed")).is_empty()
    assert numeric.height > 50


def test_the_report_counts_what_fell_due(report: pl.DataFrame, of_schedule: pl.DataFrame) -> None:
    due = of_schedule.filter(check_name=DUE)
    assert sorted(report["asset"]) == sorted(due["asset"])
    assert report["due"].unique().to_list() == [1]
    missed = {asset for asset, passed in due.select("asset", "passed").rows() if not passed}
    assert missed == set(report.filter(missed=1)["asset"])
    assert events.TABLE.name in missed  # the stream stands at the last event
    assert (report.filter(missed=1)["budget_left"] < 1).all()
    assert set(report.filter(missed=0)["budget_left"]) == {1}


def test_a_report_that_says_the_same_is_not_written_again(run: Run, report: pl.DataFrame) -> None:
    version = run.lake.open(service_levels.TABLE).version()
    run.execute("report_service_levels")
    assert run.lake.open(service_levels.TABLE).version() == version
    own = taken_in(run).filter(asset=service_levels.TABLE.name)
    assert set(own["check_name"]) == {"contract", "unique_key"}
    assert own["partition_key"].null_count() == own.height
    assert own["passed"].all()


def test_both_are_there_for_sql(catalog: Catalog) -> None:
    failed = "SELECT asset, partition_key FROM quality.check_results WHERE NOT passed AND check_name = 'conservation'"
    assert catalog.sql(failed).unique().rows() == [(outcomes.TABLE.name, key(HOUR + timedelta(hours=1)))]
    spent = "SELECT count(*) FROM quality.service_levels WHERE budget_left < 0 AND due <> met + missed + unjudged"
    assert catalog.sql(spent).item() == 0
