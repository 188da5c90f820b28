"""Requests that closed hours be profiled, and judged by what was usual."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from dagster import AssetSelection

from partitions import Window
from platform_assets import restatement
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality import profiles
from platform_assets.quality.anomalies import anomaly_checks, profiled_hours
from platform_assets.quality.checks import checks_of
from platform_assets.restatement import Tier
from platform_assets.table import Table
from platform_assets.tables import WATCHED
from sensors.restatement import JUDGED_WHEN_PROFILED, RANGE_END, RANGE_START, RANGES
from sensors.runs import is_under_way

TIERS = (Tier("closed hours", timedelta(days=36_500), timedelta(days=1)),)
"""Late events move a profile by little, and so do restatements: what they touch is profiled again once a day."""

JUDGED_FOR = timedelta(days=1)
"""How far behind the newest closed hour an hour is still judged when it is profiled first: older ones are no news."""

AGAIN = (Tier("hours that nobody judged", timedelta(days=36_500), timedelta(minutes=5)),)
"""A run that fails each time is not asked for at each look."""

_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_RUNS = 200
"""How many of the last runs are looked at: more than an hour's news, history and late events ask for in a day."""

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
    """Ask for new hours, which are judged, and for what a run was to judge and did not.

    Else for history, which is not judged, and for what was touched since.
    """
    if is_under_way(context.instance, profile_hours.name):
        yield dg.SkipReason("hours are being profiled")
        return
    ledger, now = platform.lake.scan(computations.TABLE).collect(), platform.clock()
    news: set[datetime] = set()
    history: set[datetime] = set()
    touched: set[datetime] = set()
    closed: set[datetime] = set()
    for table in WATCHED:
        settled = profiles.settled(platform, table, ledger)
        new = profiles.missing(table, settled, ledger)
        recent = [hour for hour in new if new[-1] - hour < JUDGED_FOR]
        old = new[: len(new) - len(recent)]
        history.update(old)
        if not old:  # its own history comes first: it is judged by that
            news.update(recent)
        touched.update(profiles.stale(table, settled, ledger))
        closed.update(settled["event_hour"].tail(1))
    if news:
        yield from _requests(platform, news, WATCHED)
        return
    if unjudged := list(_unjudged(platform, context.instance, ledger, max(closed, default=now))):
        yield from unjudged
        return
    again = restatement.due(sorted(touched), ledger.filter(table=profiles.TABLE.name), now, TIERS)
    yield from _requests(platform, {*history, *again}, [])


def _requests(platform: Platform, starts: Iterable[datetime], judged: Sequence[Table]) -> Iterator[dg.RunRequest]:
    """A run a range, of the profiles and of the checks that rest on them, of those tables that had none of them all.

    A run profiles of all tables what they are done with by then. So a table that is not yet done with an hour is judged
    with it, too, and one that was is not judged again.
    """
    for first, last in restatement.ranges(starts, *RANGES["hour"]):
        hours = Window(first, last + timedelta(hours=1))
        keys = platform.partitions.keys("hour", hours)
        if keys:
            new = [table for table in judged if len(profiled_hours(platform, table, hours)) < len(keys)]
            yield _request(keys[0], keys[-1], [check.key for check in anomaly_checks(new)])


def _unjudged(
    platform: Platform, instance: dg.DagsterInstance, ledger: pl.DataFrame, newest: datetime
) -> Iterator[dg.RunRequest]:
    """What runs that ended without success were to judge, and no later run was: the same once more.

    The hours that such a run did not come to profile are new still, and asked for before. That a check was asked for
    says no more than that: of a run that succeeded all were judged, of one that did not, none counts.

    Args:
        platform: The platform.
        instance: Dagster's.
        ledger: `ops/computations`.
        newest: The newest closed hour.
    """
    judging = {check.key for check in anomaly_checks(WATCHED)}
    later: list[tuple[str, str, Collection[dg.AssetCheckKey]]] = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=profile_hours.name), limit=_RUNS):  # newest first
        run = record.dagster_run
        first, last = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
        if first is None or last is None:
            continue
        selected = run.asset_check_selection
        asked = judging if selected is None else judging & selected
        owed = asked.difference(*(checks for start, end, checks in later if start <= first and last <= end))
        later.append((first, last, asked))
        hour = platform.partitions.window("hour", last, last).start
        if run.status not in _FAILED or not owed or newest - hour >= JUDGED_FOR:
            continue
        if restatement.due([hour], ledger.filter(table=profiles.TABLE.name), platform.clock(), AGAIN):
            yield _request(first, last, sorted(owed, key=str))


def _request(first: str, last: str, judging: Iterable[dg.AssetCheckKey]) -> dg.RunRequest:
    """A run over a range, by its keys, of the profiles with their own checks, and of some that rest on them."""
    own = [check.key for check in checks_of([profiles.TABLE]) if check.table is profiles.TABLE]
    return dg.RunRequest(
        job_name=profile_hours.name,
        asset_selection=[profiles.TABLE.asset_key],
        asset_check_keys=[*own, *judging],
        tags={RANGE_START: first, RANGE_END: last},
    )
