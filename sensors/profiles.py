"""Requests that closed hours be profiled, and judged by what was usual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
from dagster import AssetSelection

from partitions import Window
from platform_assets import restatement
from platform_assets.definitions import WATCHED
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality import profiles
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.quality.checks import checks_of
from platform_assets.restatement import Tier
from platform_assets.table import Table
from sensors.restatement import JUDGED_WHEN_PROFILED, RANGE_END, RANGE_START, RANGES
from sensors.runs import is_under_way

TIERS = (Tier("closed hours", timedelta(days=36_500), timedelta(days=1)),)
"""Late events move a profile by little, and so do restatements: what they touch is profiled again once a day."""

JUDGED_FOR = timedelta(days=1)
"""How far behind the newest closed hour an hour is still judged when it is profiled first: older ones are no news."""

profile_hours = dg.define_asset_job(
    "profile_hours",
    selection=AssetSelection.assets(profiles.TABLE.asset_key) | JUDGED_WHEN_PROFILED,
    description="Profile closed hours, and judge whether they are as usual.",
)


@dg.sensor(
    job=profile_hours,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Profiles hours when the tables that are watched are done with them, and has them judged.",
)
def profiling(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for new hours, which are judged; else for history, which is not, and for what was touched since.

    A run profiles of all tables what they are done with. It judges those for which its hours are new: tables are done
    with an hour at different times, and each is judged once.
    """
    if is_under_way(context.instance, profile_hours.name):
        yield dg.SkipReason("hours are being profiled")
        return
    ledger, now = platform.lake.scan(computations.TABLE).collect(), platform.clock()
    history: set[datetime] = set()
    touched: set[datetime] = set()
    news: dict[tuple[datetime, ...], list[Table]] = {}
    for table in WATCHED:
        settled = profiles.settled(platform, table, ledger)
        new = profiles.missing(table, settled, ledger)
        recent = tuple(hour for hour in new if new[-1] - hour < JUDGED_FOR)
        old = new[: len(new) - len(recent)]
        if recent and not old:  # its own history comes first: they are judged by it
            news.setdefault(recent, []).append(table)
        history.update(old)
        touched.update(profiles.stale(table, settled, ledger))
    if news:
        hours, tables = next(iter(news.items()))
        yield from _requests(platform, hours, tables)
        return
    again = restatement.due(sorted(touched), ledger.filter(table=profiles.TABLE.name), now, TIERS)
    yield from _requests(platform, {*history, *again}, [])


def _requests(platform: Platform, starts: Iterable[datetime], judged: Sequence[Table]) -> Iterator[dg.RunRequest]:
    """A run a range, of the profiles and of the checks that rest on them, of some tables."""
    own = [check.key for check in checks_of([profiles.TABLE]) if check.table is profiles.TABLE]
    for first, last in restatement.ranges(starts, *RANGES["hour"]):
        keys = platform.partitions.keys("hour", Window(first, last + timedelta(seconds=1)))
        if keys:
            yield dg.RunRequest(
                job_name=profile_hours.name,
                asset_selection=[profiles.TABLE.asset_key],
                asset_check_keys=[*own, *(check.key for check in anomaly_checks(judged))],
                tags={RANGE_START: keys[0], RANGE_END: keys[-1]},
            )
