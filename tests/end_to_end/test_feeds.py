"""Third-party files through Dagster's own API: sensor, run, checks, backfill."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster import AssetCheckEvaluation

from platform_assets.bronze import landed_files, partner_files
from platform_assets.feeds.job import take_files
from platform_assets.quality.freshness import is_there
from platform_assets.silver import ad_spend, app_store_reports, quarantined_rows
from sensors.landed_files import landed_files as landed_files_sensor
from sensors.restatement import RANGE_END, RANGE_START
from support.platforms import Run

NOW = datetime(2026, 2, 10, 12, tzinfo=UTC)
HEADER = "day,network,campaign,country,spend,currency\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.over(tmp_path, [], NOW, landing_url=str(tmp_path / "landing"))


def put(run: Run, path: str, text: str, minute: int = 0) -> None:
    """A file lands, some minutes before noon."""
    assert run.platform.settings.landing_url is not None
    file = Path(run.platform.settings.landing_url) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    at = (NOW - timedelta(minutes=30 - minute)).timestamp()
    os.utime(file, (at, at))


def asked(run: Run) -> dg.RunRequest | dg.SkipReason:
    found = landed_files_sensor(dg.build_sensor_context(instance=run.instance, resources={"platform": run.platform}))
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def take(run: Run) -> dg.ExecuteInProcessResult:
    assert isinstance(asked(run), dg.RunRequest)
    result = run.execute(take_files.name)
    assert isinstance(asked(run), dg.SkipReason)
    return result


def spend(run: Run) -> dict[tuple[date, str], Decimal]:
    rows = run.lake.scan(ad_spend.TABLE).select("day", "campaign", "spend").collect().rows()
    return {(day, campaign): value for day, campaign, value in rows}


def no_file_set_aside(result: dg.ExecuteInProcessResult) -> bool:
    (told,) = [told for told in evaluations(result) if told.check_name == "no_file_set_aside"]
    assert told.asset_key == landed_files.TABLE.asset_key
    return told.passed


def evaluations(result: dg.ExecuteInProcessResult) -> list[AssetCheckEvaluation]:
    told = [e.event_specific_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    return [one for one in told if isinstance(one, AssetCheckEvaluation)]


def test_what_lands_becomes_rows_of_its_days(run: Run) -> None:
    put(run, "ad_spend/week.csv", HEADER + "2026-02-08,n,p,DE,1.10,EUR\n2026-02-09,n,p,DE,2,EUR\n")
    put(
        run,
        "app_store_reports/day.jsonl",
        '{"date":"2026-02-09","store":"s","sku":"a","country":"DE","units":3,"proceeds":2.5,"currency":"EUR"}',
    )
    assert no_file_set_aside(take(run))
    assert spend(run) == {(date(2026, 2, 8), "p"): Decimal("1.1"), (date(2026, 2, 9), "p"): Decimal(2)}
    assert run.lake.scan(app_store_reports.TABLE).select("downloads", "proceeds").collect().row(0) == (
        3,
        Decimal("2.5"),
    )
    assert run.instance.get_materialized_partitions(ad_spend.TABLE.asset_key) == {"2026-02-08", "2026-02-09"}
    assert run.instance.get_latest_materialization_event(partner_files.TABLE.asset_key) is not None


def test_a_corrected_file_replaces_what_its_earlier_version_brought(run: Run) -> None:
    put(run, "ad_spend/week.csv", HEADER + "2026-02-08,n,p,DE,1,EUR\n2026-02-09,n,p,DE,free,EUR\n")
    put(run, "ad_spend/other.csv", HEADER + "2026-02-08,n,q,DE,7,EUR\n")
    result = take(run)
    assert no_file_set_aside(result)
    judged = {told.partition: told.passed for told in evaluations(result) if told.check_name == "no_bad_rows"}
    assert judged == {"2026-02-08": False}
    assert run.lake.scan(quarantined_rows.TABLE).select("name", "line", "reasons").collect().rows() == [
        ("week.csv", 3, ["not_a_number:spend"])
    ]
    put(run, "ad_spend/week.csv", HEADER + "2026-02-09,n,p,DE,4,EUR\n", minute=1)
    take(run)
    assert spend(run) == {(date(2026, 2, 8), "q"): Decimal(7), (date(2026, 2, 9), "p"): Decimal(4)}


def test_a_file_is_taken_once_whatever_its_name(run: Run) -> None:
    put(run, "ad_spend/a.csv", HEADER + "2026-02-08,n,p,DE,1,EUR\n")
    take(run)
    put(run, "ad_spend/copy of a.csv", HEADER + "2026-02-08,n,p,DE,1,EUR\n", minute=1)
    take(run)
    assert run.lake.scan(partner_files.TABLE).select(pl.len()).collect().item() == 1
    assert run.lake.scan(landed_files.TABLE).select(pl.len()).collect().item() == 2
    assert spend(run) == {(date(2026, 2, 8), "p"): Decimal(1)}


def test_a_bad_file_is_set_aside_with_a_report_and_mended_by_the_next_of_its_name(run: Run) -> None:
    put(run, "ad_spend/a.csv", HEADER + "2026-02-08,n,p,DE,1,EUR\n")
    take(run)
    put(run, "ad_spend/a.csv", "<html>Sign in</html>", minute=1)
    put(run, "spends/a.csv", HEADER, minute=1)
    assert not no_file_set_aside(take(run))
    told = run.lake.scan(landed_files.TABLE).filter(outcome="set_aside").select("feed", "report").sort("feed").collect()
    assert told["feed"].to_list() == ["ad_spend", "spends"]
    assert "holds no rows" in told["report"][0]
    assert "'spends' is no feed; known are ad_spend, app_store_reports" in told["report"][1]
    assert spend(run) == {(date(2026, 2, 8), "p"): Decimal(1)}
    put(run, "ad_spend/a.csv", HEADER + "2026-02-08,n,p,DE,2,EUR\n", minute=2)
    assert not no_file_set_aside(take(run))  # the other one is still there
    assert spend(run) == {(date(2026, 2, 8), "p"): Decimal(2)}


def test_days_can_be_backfilled_and_the_check_names_quarantined_rows(run: Run) -> None:
    put(run, "ad_spend/week.csv", HEADER + "2026-02-08,n,p,DE,1,EUR\n2026-02-09,n,p,DE,free,EUR\n")
    take(run)
    before = run.lake.scan(ad_spend.TABLE).sort("day").collect()
    window = run.platform.partitions.window("day", "2026-02-08", "2026-02-08")
    run.lake.replace_days(
        ad_spend.TABLE, run.lake.open(ad_spend.TABLE), before.clear(), *window.days(run.platform.settings.zone) * 2
    )
    run.now += timedelta(days=3)  # what is not due yet is not owed
    job = dg.define_asset_job("backfill", selection=dg.AssetSelection.assets(ad_spend.TABLE.asset_key))
    defs = dg.Definitions.merge(run.defs, dg.Definitions(jobs=[job]))
    result = defs.get_job_def("backfill").execute_in_process(
        instance=run.instance, tags={RANGE_START: "2026-02-08", RANGE_END: "2026-02-09"}
    )
    assert result.success
    assert run.lake.scan(ad_spend.TABLE).sort("day").collect().equals(before)
    told = {(told.check_name, told.partition): told.passed for told in evaluations(result)}
    assert told["contract", "2026-02-08"] is True
    assert told["no_bad_rows", "2026-02-08"] is False
    assert told["latest_due_partition", "2026-02-09"] is False
    assert ("latest_due_partition", "2026-02-08") not in told, "only the newest is owed"


def test_a_feed_of_which_nothing_ever_landed_owes_nothing(run: Run) -> None:
    window = run.platform.partitions.window("day", "2026-02-08", "2026-02-08")
    assert is_there(run.platform, ad_spend.TABLE, window).passed
    put(run, "ad_spend/week.csv", HEADER + "2026-02-07,n,p,DE,1,EUR\n")
    take(run)
    assert not is_there(run.platform, ad_spend.TABLE, window).passed


def test_without_a_landing_folder_the_sensor_says_so(tmp_path: Path) -> None:
    skipped = asked(Run.over(tmp_path, [], NOW))
    assert isinstance(skipped, dg.SkipReason)
    assert "HEADWATER_LANDING_URL" in (skipped.skip_message or "")
