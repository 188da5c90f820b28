"""Requests that daily numbers be computed again, where what they rest on has changed or time has passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from partitions import Window
from platform_assets import restatement
from platform_assets.gold.daily_numbers import RestatedByDay
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.restatement import Tier
from sensors.restatement import RANGE_END, RANGE_START, RANGES
from sensors.runs import is_under_way

TIERS = (
    Tier("open day", timedelta(days=1), timedelta(minutes=5)),
    Tier("recent", timedelta(days=8), timedelta(hours=1)),
    Tier("older", timedelta(days=36_500), timedelta(days=1)),
)
"""The day so far is some minutes old; recent days follow every hour."""


def restate_numbers(
    numbers: Sequence[RestatedByDay], failing: Sequence[dg.AssetsDefinition] = ()
) -> dg.UnresolvedAssetJobDefinition:
    """The job that computes days of metrics again; a request says which tables.

    Args:
        numbers: The tables.
        failing: The assets of wrong files: one that was right when it was asked for fails alone in the run.
    """
    keys = [number.table.asset_key for number in numbers] + [asset.key for asset in failing]
    return dg.define_asset_job(
        "restate_numbers",
        selection=dg.AssetSelection.assets(*keys),
        description="Compute the days of numbers again whose events, persons, finality or definition changed.",
    )


def number_restatements(numbers: Sequence[RestatedByDay], job: dg.UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """The sensor that finds in the lake's ledgers which days of which numbers are stale."""

    @dg.sensor(
        name="number_restatements",
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds in the lake's ledgers which days of numbers are stale, and computes them again, by tiers.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if is_under_way(context.instance, job.name):
            yield dg.SkipReason("numbers are being computed")
            return
        ledger, now = platform.lake.scan(computations.TABLE).collect(), platform.clock()
        wanted: dict[tuple[str, str], list[dg.AssetKey]] = {}
        for number in numbers:
            for first, last in restatement.ranges(due(platform, number, ledger, now), *RANGES["day"]):
                keys = platform.partitions.keys("day", Window(first, last + timedelta(seconds=1)))
                if keys:
                    wanted.setdefault((keys[0], keys[-1]), []).append(number.table.asset_key)
        for (start, end), assets in wanted.items():  # what is wanted for the same days shares a run
            tags = {RANGE_START: start, RANGE_END: end}
            yield dg.RunRequest(job_name=job.name, asset_selection=assets, tags=tags)

    return sensor


def due(platform: Platform, number: RestatedByDay, ledger: pl.DataFrame, now: datetime) -> list[datetime]:
    """Starts of the days of a table that are stale or have ripened, and whose tier is due."""
    zone, first = platform.settings.zone, platform.settings.start_date
    ripened = set(number.ripened(platform, ledger))
    stale = number.stale(platform, ledger, now.astimezone(zone).date()) | ripened
    starts = {day: Window.of_days(day, day, zone).start for day in stale if day >= first}
    mine = ledger.filter(table=number.table.name)
    allowed = set(restatement.due(sorted(starts.values()), mine, now, TIERS))
    return sorted(allowed | {starts[day] for day in ripened if day in starts})
