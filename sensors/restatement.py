"""Requests rebuilds of what late data, a rebuild or the passing of time has made stale."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from dagster import AssetSelection

from partitions import Grain, Window
from platform_assets import restatement
from platform_assets.assets import PARTITIONS_PER_RUN
from platform_assets.gold import active_users, fact_events, person_days, published_numbers
from platform_assets.identity_assets import is_behind
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.semantics.watermark import is_closed, is_final, is_person_final
from platform_assets.silver import activity_hours, identity_links, persons, touched_hours
from platform_assets.tables import WATCHED
from sensors.runs import is_under_way, was_last

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

JUDGED_WHEN_PROFILED = AssetSelection.checks(*(check.key for check in anomaly_checks(WATCHED)))
"""The checks that judge an hour once, when it is profiled, and not each time that it is computed."""

restate_hours = dg.define_asset_job(
    "restate_hours",
    selection=AssetSelection.assets(activity_hours.TABLE.asset_key, identity_links.TABLE.asset_key)
    - JUDGED_WHEN_PROFILED,
    description="Compute touched hours of activity and of evidence again.",
)
restate_persons = dg.define_asset_job(
    "restate_persons",
    selection=AssetSelection.assets(persons.TABLE.asset_key),
    description="Resolve persons from new evidence.",
)
restate_days = dg.define_asset_job(
    "restate_days",
    selection=AssetSelection.assets(
        person_days.TABLE.asset_key, active_users.TABLE.asset_key, published_numbers.TABLE.asset_key
    ),
    description="Compute the days again whose activity changed, and publish the numbers that differ.",
)
restate_facts = dg.define_asset_job(
    "restate_facts",
    selection=AssetSelection.assets(fact_events.TABLE.asset_key) - JUDGED_WHEN_PROFILED,
    description="Compute the hours of facts again whose events or whose attributes as of then changed.",
)

# Hours apart share a run only within a day, so that no day is restated that nothing reached. Days of a timezone
# with daylight saving are up to 25 hours apart.
RANGES = {
    "hour": (timedelta(hours=6), timedelta(hours=PARTITIONS_PER_RUN["hour"] - 1)),
    "day": (timedelta(hours=25), timedelta(days=PARTITIONS_PER_RUN["day"] - 1)),
}
"""How far partitions of one run may be apart from each other, and from the first to the last."""


@dg.sensor(
    jobs=[restate_hours, restate_persons, restate_days],
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Finds in the lake's ledgers which hours and days are stale, and computes them again, by tiers.",
)
def restatements(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for stale hours first; when those are done, for persons, and for the days that rest on both.

    Where hours are due again as soon as they are done, days have every second turn.
    """
    now = platform.clock()
    ledger = platform.lake.scan(computations.TABLE).collect()
    if is_under_way(context.instance, restate_hours.name):
        yield dg.SkipReason("hours are being computed")
        return
    hours, days = due_hours(platform, ledger, now), due_days(platform, ledger, now)
    if hours and not (days and was_last(context.instance, restate_hours.name, restate_days.name)):
        yield from _requests(platform, restate_hours.name, "hour", hours)
        return
    if is_behind(platform) and not is_under_way(context.instance, restate_persons.name):
        yield dg.RunRequest(job_name=restate_persons.name)
        if not was_last(context.instance, restate_persons.name, restate_days.name):
            return  # days wait for the persons, once
    if not is_under_way(context.instance, restate_days.name):
        yield from _requests(platform, restate_days.name, "day", days)


@dg.sensor(
    jobs=[restate_facts],
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Finds in the lake's ledgers which hours of facts are stale, and computes them again, by tiers.",
)
def fact_restatements(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for stale hours of facts, which nothing else waits for."""
    now = platform.clock()
    if is_under_way(context.instance, restate_facts.name):
        yield dg.SkipReason("facts are being computed")
        return
    ledger = platform.lake.scan(computations.TABLE).collect()
    yield from _requests(platform, restate_facts.name, "hour", due_facts(platform, ledger, now))


def due_facts(platform: Platform, ledger: pl.DataFrame, now: datetime) -> list[datetime]:
    """Starts of the hours of facts that are stale, and whose tier is due."""
    first = platform.partitions.hourly.start
    hours = sorted(hour for hour in fact_events.stale(platform, ledger) if hour >= first)
    return restatement.due(hours, ledger.filter(table=fact_events.TABLE.name), now)


def due_hours(platform: Platform, ledger: pl.DataFrame, now: datetime) -> list[datetime]:
    """Starts of the hours of activity or evidence that are stale, and whose tier is due."""
    touched = platform.lake.scan(touched_hours.TABLE).select("event_hour", "silver_version").collect()
    wanted: set[datetime] = set()
    for table in (activity_hours.TABLE, identity_links.TABLE):
        computed = ledger.filter(table=table.name)
        stale = restatement.stale_hours(touched, computed)
        # What lies before the first partition has none, and would be asked for again for ever.
        stale = [hour for hour in stale if hour >= platform.partitions.hourly.start]
        wanted |= set(restatement.due(stale, computed, now))
    return sorted(wanted)


def due_days(platform: Platform, ledger: pl.DataFrame, now: datetime) -> list[datetime]:
    """Starts of the days that are stale, or have become closed or final since, and whose tier is due."""
    zone = platform.settings.zone
    histories, users = (ledger.filter(table=table.name) for table in (person_days.TABLE, active_users.TABLE))
    stale = {
        *person_days.stale(platform, ledger, now.astimezone(zone).date()),
        *restatement.stale_days(histories, users, zone),
    }
    starts = {Window.of_days(day, day, zone).start for day in stale if day >= platform.settings.start_date}
    ripened = set(_ripened(platform))
    return sorted(ripened | set(restatement.due(sorted(starts - ripened), users, now)))


def _ripened(platform: Platform) -> Iterator[datetime]:
    """Starts of the days that were published as open, not final or not person-final, and by now are more."""
    watermark, lateness = platform.watermark(), platform.settings.allowed_lateness

    def finality(end: datetime, at: datetime | None) -> tuple[bool, ...]:
        return is_closed(end, at), is_final(end, at, lateness), is_person_final(end, at)

    published = platform.lake.scan(active_users.TABLE).select("day", "watermark").collect()
    for day, told_at in published.iter_rows():
        window = Window.of_days(day, day, platform.settings.zone)
        if finality(window.end, watermark) != finality(window.end, told_at):
            yield window.start


def _requests(platform: Platform, job: str, grain: Grain, starts: list[datetime]) -> Iterator[dg.RunRequest]:
    for first, last in restatement.ranges(starts, *RANGES[grain]):
        keys = platform.partitions.keys(grain, Window(first, last + timedelta(seconds=1)))
        if keys:
            yield dg.RunRequest(job_name=job, tags={RANGE_START: keys[0], RANGE_END: keys[-1]})
