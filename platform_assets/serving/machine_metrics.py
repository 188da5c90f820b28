"""The platform's state as Prometheus reads it: lag, watermark, freshness, outcomes, runs, checks, incidents.

Everything is read at the scrape; nothing is counted in this process, so a restart resets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from deltalake.exceptions import DeltaError
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from platform_assets.alerts.of_streams import reach_of
from platform_assets.alerts.rates import lately
from platform_assets.alerts.reconciling import pending, standing_incidents
from platform_assets.ops.canaries import OUTCOMES
from platform_assets.platform import Platform
from platform_assets.quality import end_to_end
from platform_assets.streams.stream import streams_of
from platform_assets.table import Table
from resources.alert_sinks import sinks
from resources.kafka import KafkaUnreachable
from resources.records import TopicMissing

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "headwater_part_up": ("1 where a part could be asked at this scrape, else 0", ("part",)),
    "headwater_consumer_lag_records": ("records that Kafka holds and bronze has not read", ("stream", "partition")),
    "headwater_watermark_delay_seconds": ("how far the watermark of the events is behind the clock", ()),
    "headwater_end_to_end_seconds": (
        "from being sent to being readable in gold, of the last hour's canaries",
        ("topic", "quantile"),
    ),
    "headwater_canaries": ("canaries of the last hour, by what became of them", ("topic", "outcome")),
    "headwater_canary_waiting_seconds": ("how long the oldest canary that is on its way waits", ("topic",)),
    "headwater_records": ("records of the last hours, `HEADWATER_ALERT_RATE_WINDOW`, by outcome", ("topic", "outcome")),
    "headwater_freshness_state": ("0 in time, 1 late (warn), 2 stale (fail)", ("asset",)),
    "headwater_asset_age_seconds": ("time since the newest materialization", ("asset",)),
    "headwater_check_passed": ("1 where the newest evaluation passed, else 0", ("asset", "check")),
    "headwater_run_duration_seconds": ("duration of a job's newest run that ended", ("job", "status")),
    "headwater_runs": ("runs that ended within a day", ("job", "status")),
    "headwater_incidents": ("incidents that people were told of, and that are not over", ("kind", "severity")),
    "headwater_alerts_pending": ("messages that a sink has not taken yet", ("sink",)),
}
"""Every metric: what it says, and its labels. All are gauges."""

_RUNS_OF = timedelta(days=1)
_MOST_RUNS = 2_000
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_LAKE_FAILS = (DeltaError, pl.exceptions.PolarsError, OSError)
_STATE = {"PASS": 0, "WARN": 1, "FAIL": 2}

Sample = tuple[str, tuple[str, ...], float]
"""Metric, values of its labels, value."""


class MachineMetrics(Collector):
    """Reads the platform at each scrape; register it with a `CollectorRegistry`.

    Args:
        platform: The platform.
        instance: Dagster's.
        tables: The tables whose assets are told of.
        checks: The keys of the checks.
    """

    def __init__(
        self,
        platform: Platform,
        instance: dg.DagsterInstance,
        tables: Sequence[Table],
        checks: Sequence[dg.AssetCheckKey],
    ) -> None:
        self._platform = platform
        self._instance = instance
        self._tables = {table.asset_key: table.name for table in tables}
        self._checks = list(checks)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without values: nothing is read when the collector is registered."""
        return _families([])

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What is so now."""
        samples: list[Sample] = []
        parts: dict[str, tuple[Callable[[], Iterator[Sample]], tuple[type[Exception], ...]]] = {
            "kafka": (self._of_kafka, (KafkaUnreachable, TopicMissing, *_LAKE_FAILS)),  # the lake: how far it is read
            "lake": (self._of_lake, _LAKE_FAILS),
            "dagster": (self._of_dagster, (dg.DagsterError, SQLAlchemyError, OSError)),
        }
        for part, (read, failures) in parts.items():
            try:
                samples += list(read())
                samples.append(("headwater_part_up", (part,), 1))
            except failures:
                samples.append(("headwater_part_up", (part,), 0))
        return _families(samples)

    def _of_kafka(self) -> Iterator[Sample]:
        with self._platform.source() as source:
            for stream in streams_of(self._platform.settings):
                held, position = reach_of(self._platform, source, stream)
                offsets = {} if position is None else position.offsets
                for partition, at in held.items():
                    lag = max(0, at.high - max(at.low, offsets.get(partition, at.low)))
                    yield "headwater_consumer_lag_records", (stream.name, str(partition)), lag

    def _of_lake(self) -> Iterator[Sample]:
        now = self._platform.clock()
        watermark = self._platform.watermark()
        if watermark is not None:
            yield "headwater_watermark_delay_seconds", (), (now - watermark).total_seconds()
        for topic, outcome, records in lately(self._platform, now).iter_rows():
            yield "headwater_records", (topic, outcome), records
        if self._platform.settings.canary_every:
            yield from self._of_canaries(now)
        told = [i for i in standing_incidents(self._platform.lake).values() if i.told_at is not None]
        counted = pl.DataFrame(
            [(incident.kind, incident.severity) for incident in told],
            schema={"kind": pl.String(), "severity": pl.String()},
            orient="row",
        )
        for kind, severity, count in counted.group_by("kind", "severity").len().iter_rows():
            yield "headwater_incidents", (kind, severity), count
        names = [sink.name for sink in sinks(self._platform.settings)[0]]
        for name, waiting in pending(self._platform.lake, names).items():
            yield "headwater_alerts_pending", (name,), waiting

    def _of_canaries(self, now: datetime) -> Iterator[Sample]:
        for row in end_to_end.lately(self._platform, end_to_end.begun(self._platform)).iter_rows(named=True):
            topic, waiting = row["topic"], row["waiting_since"]
            for quantile, name in (("0.5", "p50"), ("0.95", "p95")):
                if row[name] is not None:
                    yield "headwater_end_to_end_seconds", (topic, quantile), row[name]
            for outcome in OUTCOMES:
                yield "headwater_canaries", (topic, outcome), row[outcome]
            waited = 0.0 if waiting is None else (now - waiting).total_seconds()
            yield "headwater_canary_waiting_seconds", (topic,), waited

    def _of_dagster(self) -> Iterator[Sample]:
        now, keys = self._platform.clock(), list(self._tables)
        for key, freshness in self._instance.get_freshness_state_records(keys).items():
            state = _STATE.get(freshness.freshness_state.value)
            if state is not None:
                yield "headwater_freshness_state", (self._tables[key],), state
        for record in self._instance.get_asset_records(keys):
            newest = record.asset_entry.last_materialization_record
            if newest is not None:
                age = now.timestamp() - newest.event_log_entry.timestamp
                yield "headwater_asset_age_seconds", (self._tables[record.asset_entry.asset_key],), age
        summaries = self._instance.event_log_storage.get_asset_check_summary_records(self._checks)
        for check, summary in summaries.items():
            execution = summary.last_completed_check_execution_record
            if execution is not None:
                passed = execution.status.value == "SUCCEEDED"
                yield "headwater_check_passed", ("/".join(check.asset_key.path), check.name), float(passed)
        yield from self._of_runs(now)

    def _of_runs(self, now: datetime) -> Iterator[Sample]:
        wanted = dg.RunsFilter(statuses=_ENDED, updated_after=now - _RUNS_OF)
        newest: dict[str, tuple[str, float]] = {}
        counts: dict[tuple[str, str], int] = {}
        for record in self._instance.get_run_records(wanted, limit=_MOST_RUNS):  # newest first
            job, status = record.dagster_run.job_name, record.dagster_run.status.value.lower()
            counts[job, status] = counts.get((job, status), 0) + 1
            if record.start_time is not None and record.end_time is not None:
                newest.setdefault(job, (status, record.end_time - record.start_time))
        for labels, count in counts.items():
            yield "headwater_runs", labels, count
        for job, (status, seconds) in newest.items():
            yield "headwater_run_duration_seconds", (job, status), seconds


def metrics_table() -> str:
    """The metrics in Markdown, for the documentation: the rows of a table."""
    rows = []
    for name, (what, labels) in METRICS.items():
        shown = f"`{name}`" + (f" by {', '.join(labels)}" if labels else "")
        rows.append(f"| {shown} | {what} |")
    return "\n".join(rows) + "\n"


def _families(samples: Sequence[Sample]) -> list[GaugeMetricFamily]:
    families = {
        name: GaugeMetricFamily(name, what.replace("`", ""), labels=labels) for name, (what, labels) in METRICS.items()
    }
    for name, labels, value in samples:
        families[name].add_metric(labels, value)
    return list(families.values())
