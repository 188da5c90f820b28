"""A schedule that judges the latest partition that is due: is it there, and does it keep its contract?

Freshness policies look at an asset as a whole: a backfill of January would turn it healthy. This looks at the one
partition that is owed. The streams' checks run here, too, because micro-batches run none.
"""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

from datetime import datetime, timedelta

import dagster as dg

from partitions import Grain, Partitions, Window
from platform_assets.platform import Platform
from platform_assets.quality.check import EVER, Check
from platform_assets.quality.checks import checks_of, whole_checks_of
from platform_assets.quality.end_to_end import END_TO_END
from platform_assets.table import Table
from platform_assets.tables import tables


def latest_due(partitions: Partitions, grain: Grain, table: Table, now: datetime) -> str | None:
    """The key of the newest partition that a table owes by its service level, or None before there is one.

    Args:
        partitions: The deployment's partitions.
        grain: Hour or day.
        table: The table.
        now: The clock.
    """
    owed = now - table.service_level
    reach = timedelta(hours=2) if grain == "hour" else timedelta(days=2)
    keys = partitions.keys(grain, Window(owed - reach, owed))
    ended = [key for key in keys if partitions.window(grain, key, key).end <= owed]
    return ended[-1] if ended else None


@dg.op(description="Judge the latest due partition of every table, and every dimension, by all checks.")
def judge_latest_due(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Evaluate every check on the partition that its table owes now; those of dimensions on all of them."""
    partitions, now = platform.partitions, platform.clock()
    for check in checks_of(tables()):
        grain = check.table.partitions
        if grain is None:  # it is judged with each materialization
            continue
        key = latest_due(partitions, grain, check.table, now)
        if key is None:
            continue
        _judge(context, platform, check, partitions.window(grain, key, key), key)
    for check in (*whole_checks_of(tables()), END_TO_END):
        _judge(context, platform, check, EVER, None)


def _judge(context: dg.OpExecutionContext, platform: Platform, check: Check, window: Window, key: str | None) -> None:
    verdict = check.judged(platform, window)
    context.log_event(check.evaluation(verdict, key))  # type: ignore[arg-type]  # accepted, not annotated
    if not verdict.passed:
        context.log.warning(f"{check.table.name} {key or ''}: {check.name} fails: {verdict.description}")


@dg.job(executor_def=dg.in_process_executor, description="All checks of the latest due partitions.")
def check_latest_due() -> None:
    """Judge what is owed."""
    judge_latest_due()


hourly_checks = dg.ScheduleDefinition(
    job=check_latest_due, cron_schedule="20 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
