"""The history that a new stack begins with: simulated days, through Kafka, into the lake and up to gold.

The lake's own code does it, without a Dagster run: 260 hours as runs with all their checks would take minutes.
Dagster is told afterwards which partitions there are. Nothing rests on that, but people look there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from local_stack.simulator import World, history, produce_history
from partitions import Window
from platform_assets.bronze import client_events
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    live_metrics,
    person_day_slices,
    person_days,
    sessions,
)
from platform_assets.identity_assets import persons_metadata
from platform_assets.platform import Platform
from platform_assets.quality.metadata import partition_metadata
from platform_assets.silver import activity_hours, events, identity_links, persons
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.table import Table
from resources.records import RecordSource

Progress = Callable[[str, float], None]
"""Is told what is being done and the share that is done."""

_DAY = timedelta(days=1)

_COMPUTED = (
    activity_hours,
    identity_links,
    person_days,
    active_users,
    fact_events,
    sessions,
    conversions,
    person_day_slices,
    active_users_by_slice,
)
"""The tables that are computed from silver, in order. Metrics of files, and revenue, whose orders come with the relay,
are left to the sensor."""


@dataclass(frozen=True)
class Past:
    """The simulated past.

    Attributes:
        start: Its first instant: a midnight of the reporting timezone.
        end: Its end.
        persons: Of the simulated world; each makes about two events a day.
        seed: Of the simulated world.
    """

    start: datetime
    end: datetime
    persons: int
    seed: int = 1

    @classmethod
    def of_days(cls, days: int, persons: int, zone: ZoneInfo) -> Past:
        """The last whole days of a timezone, and today so far."""
        end = datetime.now(UTC)
        first = end.astimezone(zone).date() - timedelta(days=days)
        return cls(datetime.combine(first, time(), tzinfo=zone), end, persons)

    @property
    def window(self) -> Window:
        """All its hours, the open one included."""
        return Window(self.start, Window.of_hour(self.end).end)


def produce(past: Past, platform: Platform, told: Progress) -> int:
    """Write the past into Kafka, with its own record times. Returns the number of records.

    Raises:
        DeliveryFailed: Kafka did not take all of them.
    """
    settings = platform.settings
    world = World(past.seed, past.persons, past.start, (past.end - past.start) / _DAY)
    span = (past.end - past.start).total_seconds()
    deliveries = history(world, allowed_lateness=settings.allowed_lateness)
    produced = produce_history(
        {**settings.kafka_config(), "log_level": "3"},  # else librdkafka writes between our lines
        settings.client_events_topic,
        deliveries,
        on_progress=lambda so_far, latest: told(
            f"simulating {so_far.records:,} records", (latest.timestamp_ms / 1000 - past.start.timestamp()) / span
        ),
    )
    return produced.records


def take_in(platform: Platform, source: RecordSource, records: int, told: Progress) -> dict[Table, Counter[datetime]]:
    """Read all that Kafka holds into bronze, silver and the live metrics.

    Args:
        platform: The platform; the tables must exist.
        source: Kafka.
        records: How many there are; for the progress alone.
        told: The progress.

    Returns:
        The rows that came, per table and UTC hour.
    """
    hours: dict[Table, Counter[datetime]] = {
        table: Counter() for table in (client_events.TABLE, events.TABLE, live_metrics.TABLE)
    }
    done = 0
    with MicroBatches(platform.lake, source, platform.settings) as batches:
        while (step := batches.step()) is not None:
            done += step.records
            hours[client_events.TABLE].update(step.received[client_events.TABLE.name])
            hours[events.TABLE].update(step.event_hours)
            hours[live_metrics.TABLE].update(step.event_hours)
            told(f"{done:,} of {records:,} records in the lake", done / max(1, records))
    return hours


def compute(platform: Platform, past: Past, told: Progress) -> None:
    """Compute activity, persons, and what gold has of all the past, as `_COMPUTED` says."""
    for number, module in enumerate(_COMPUTED):
        told(f"computing {module.TABLE.name}", number / len(_COMPUTED))
        module.rebuild(platform, past.window)
        if module is identity_links:
            persons.resolve(platform)


def tell_dagster(
    instance: dg.DagsterInstance,
    platform: Platform,
    past: Past,
    hours: dict[Table, Counter[datetime]],
    told: Progress,
) -> int:
    """Tell Dagster which partitions there are now. Returns their number."""
    found = list(_materializations(platform, past, hours))
    for number, materialization in enumerate(found):
        if number % 10 == 0:
            told(f"telling Dagster of {len(found)} partitions", number / len(found))
        instance.report_runless_asset_event(materialization)
    return len(found)


def _materializations(
    platform: Platform, past: Past, hours: dict[Table, Counter[datetime]]
) -> Iterator[dg.AssetMaterialization]:
    for table, rows in hours.items():
        for hour in sorted(rows):
            for key in platform.partitions.keys("hour", Window.of_hour(hour)):
                metadata = {"rows added": dg.MetadataValue.int(rows[hour])}
                yield dg.AssetMaterialization(table.asset_key, partition=key, metadata=metadata)
    yield dg.AssetMaterialization(persons.TABLE.asset_key, metadata=persons_metadata(platform))
    for table in (module.TABLE for module in _COMPUTED):
        keys = platform.partitions.keys(table.partitions or "day", past.window)
        for key, metadata_of in partition_metadata(platform, table, keys).items():
            yield dg.AssetMaterialization(table.asset_key, partition=key, metadata=metadata_of)
