"""Tells people what is wrong: one sensor looks at everything, as of now, and delivers what it has to say."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from platform_assets.alerts.reconciling import tick
from platform_assets.alerts.watched import Watched
from platform_assets.platform import Platform
from platform_assets.quality.evaluations import storage_of
from platform_assets.table import Table
from resources import alert_sinks


def alerts_sensor(tables: Sequence[Table]) -> dg.SensorDefinition:
    """The sensor of alerts. It requests no runs.

    Args:
        tables: The tables that are watched.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Looks at checks, freshness, runs, backfills, Kafka and what is refused; opens, reminds of and closes "
            "incidents (`ops/incidents`), and tells them to the sinks of HEADWATER_ALERT_URLS."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SkipReason:
        if context.repository_def is None:
            msg = "the sensor of alerts looks at what its repository has: say which it is (repository_def)"
            raise ValueError(msg)
        watched = Watched.of(tables, context.repository_def)
        sinks, refused = alert_sinks.sinks(platform.settings)
        # The cursor names the storage that it counts in: of another one it says nothing.
        storage = storage_of(context.instance)
        counted_in, _, reached = (context.cursor or "").partition(" ")
        cursor = int(reached) if counted_in == storage and reached else None
        done = tick(platform, context.instance, watched, sinks, cursor, refused)
        context.update_cursor(f"{storage} {done.cursor}")
        return dg.SkipReason("; ".join([*(f"{where}: {why}" for where, why in refused.items()), str(done)]))

    return sensor
