"""Tells whether the files of metrics are right, as soon as they are others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import dagster as dg

from platform_assets.gold.metric_files import FOLDER
from platform_assets.gold.metric_numbers import survey
from platform_assets.metric_assets import evaluation, verdict


def metric_files_sensor(folder: Path = FOLDER) -> dg.SensorDefinition:
    """The sensor that evaluates the check `metric_files` where its answer is another one. It requests no runs.

    Args:
        folder: The metrics.
    """

    @dg.sensor(
        name="metric_files",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reads the files of metrics as they are, and evaluates `metric_files` where the answer changed.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = survey(folder)
        told = hashlib.sha256(verdict(found).encode()).hexdigest()[:12]
        if told == context.cursor:
            return dg.SensorResult(skip_reason=verdict(found))
        return dg.SensorResult(skip_reason=verdict(found), asset_events=[evaluation(found)], cursor=told)

    return sensor
