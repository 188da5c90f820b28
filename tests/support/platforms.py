"""A platform over records in memory, run through Dagster's own API."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from platform_assets.definitions import build_defs
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_numbers import own_numbers
from platform_assets.platform import Platform
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.records import RECORD_SCHEMA, FrameSource
from resources.settings import Settings
from sensors.restatement import restatements

PARTITIONS = 4


@dataclass
class Run:
    """A platform with a clock that stands where it is put, and a Dagster instance of its own."""

    platform: Platform
    source: FrameSource
    now: datetime
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    numbers: tuple[DailyNumber, ...] = field(default_factory=own_numbers)

    @classmethod
    def over(
        cls, folder: Path, values: Iterable[tuple[bytes | None, datetime]], now: datetime, **changes: object
    ) -> Run:
        settings = Settings.model_validate(
            {
                "lake_url": str(folder / "lake"),
                "start_date": date(2026, 1, 1),
                "lease": timedelta(seconds=60),
                "quiet_after": timedelta(0),
                "trigger_interval": timedelta(0),
                **changes,
            }
        )
        source = FrameSource(pl.DataFrame(schema=RECORD_SCHEMA), {settings.client_events_topic: PARTITIONS})
        run = cls._at(settings, source, now)
        create_tables(run.lake)
        run.send(values)
        return run

    @classmethod
    def _at(cls, settings: Settings, source: FrameSource, now: datetime) -> Run:
        run = cls.__new__(cls)
        platform = Platform(Lake(settings.lake_url), settings, source, clock=lambda: run.now)
        run.__init__(platform, source, now.astimezone(UTC))  # type: ignore[misc]
        return run

    def copied(self, folder: Path) -> Run:
        """The same over a copy of the lake, and with a Dagster that has run nothing yet."""
        shutil.copytree(self.lake.url, folder / "lake")
        settings = self.platform.settings.model_copy(update={"lake_url": str(folder / "lake")})
        run = self._at(settings, replace(self.source), self.now)
        run.numbers = self.numbers
        return run

    def reconfigure(self, **changes: object) -> None:
        """Go on with other settings, as after a restart."""
        changed = Settings.model_validate({**self.platform.settings.model_dump(), **changes})
        self.platform = replace(self.platform, settings=changed)

    @property
    def lake(self) -> Lake:
        return self.platform.lake

    def measure(self, numbers: Iterable[DailyNumber]) -> None:
        """Go on with other metrics."""
        self.numbers = tuple(numbers)
        create_tables(self.lake, self.numbers)

    def sensor(self, name: str) -> dg.SensorDefinition:
        """A sensor of the platform."""
        return self._loaded.sensor(name)

    @property
    def defs(self) -> dg.Definitions:
        return build_defs(self.platform, self.numbers)

    @property
    def _loaded(self) -> _Loaded:
        return _loaded(self.platform.settings.start_date, self.platform.settings.zone, self.numbers)

    def send(self, values: Iterable[tuple[bytes | None, datetime]]) -> None:
        """Append records, dealt out to the topic's partitions in turn."""
        ends = {p: held.high for p, held in self.source.held(self.platform.settings.client_events_topic).items()}
        rows = []
        for number, (value, at) in enumerate(values):
            partition = number % PARTITIONS
            rows.append(
                (self.platform.settings.client_events_topic, 1, partition, ends[partition], at, None, value, None)
            )
            ends[partition] += 1
        self.source.records = pl.concat([self.source.records, pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")])

    def drain(self) -> None:
        """Take everything in without Dagster: as if it had been killed before it heard of anything."""
        with MicroBatches(self.lake, self.source, self.platform.settings) as batches:
            while batches.step() is not None:
                pass

    def execute(self, job: str, **kwargs: object) -> dg.ExecuteInProcessResult:
        result = self._loaded.execute(job, self.platform, self.instance, **kwargs)
        assert result.success
        return result

    def requested(self, sensor: dg.SensorDefinition = restatements) -> list[dg.RunRequest]:
        """What a restatement sensor asks for now."""
        context = dg.build_sensor_context(instance=self.instance, resources={"platform": self.platform})
        asked = sensor(context)
        return [request for request in asked if isinstance(request, dg.RunRequest)]  # type: ignore[union-attr]

    def launch(self, request: dg.RunRequest) -> None:
        """Run what a sensor asks for, as the daemon does it."""
        assert request.job_name is not None
        chosen = {"asset_selection": request.asset_selection, "asset_check_keys": request.asset_check_keys}
        self.execute(request.job_name, tags=request.tags, **chosen)

    def restate(self, sensor: dg.SensorDefinition = restatements) -> list[tuple[str, str, str]]:
        """Run what a restatement sensor asks for until it asks for nothing. Returns (job, first, last)."""
        done = []
        while requests := self.requested(sensor):
            for request in requests:
                self.launch(request)
                done.append((str(request.job_name), *request.tags.values()))
        return done


@lru_cache(maxsize=8)
def _loaded(first_day: date, zone: ZoneInfo, numbers: tuple[DailyNumber, ...]) -> _Loaded:
    return _Loaded(first_day, zone, numbers)


class _Loaded:
    """Definitions as a process loads them, once: which platform they run over is said with each run."""

    def __init__(self, first_day: date, zone: ZoneInfo, numbers: tuple[DailyNumber, ...]) -> None:
        self._platform = Platform(Lake("nowhere"), Settings(start_date=first_day, reporting_timezone=zone.key))
        made = build_defs(self._platform, numbers)
        self._defs = dg.Definitions(
            assets=made.assets,
            asset_checks=made.asset_checks,
            jobs=made.jobs,
            sensors=made.sensors,
            schedules=made.schedules,
            # One given to a run would not fit a run of some of a job's assets.
            resources={"platform": dg.ResourceDefinition(lambda _: self._platform)},
            executor=made.executor,
        )
        self._jobs: dict[str, dg.JobDefinition] = {}

    def execute(
        self,
        job: str,
        platform: Platform,
        instance: dg.DagsterInstance,
        asset_selection: Sequence[dg.AssetKey] | None = None,
        asset_check_keys: Sequence[dg.AssetCheckKey] | None = None,
        **kwargs: object,
    ) -> dg.ExecuteInProcessResult:
        if job not in self._jobs:
            self._jobs[job] = self._defs.resolve_job_def(job)
        self._platform = platform
        # As Dagster's daemon does it with what a sensor asks for.
        asked = self._jobs[job].get_subset(
            asset_selection=None if asset_selection is None else set(asset_selection),
            asset_check_selection=None if asset_check_keys is None else set(asset_check_keys),
        )
        return asked.execute_in_process(instance=instance, **kwargs)  # type: ignore[arg-type]

    def sensor(self, name: str) -> dg.SensorDefinition:
        return self._defs.get_sensor_def(name)
