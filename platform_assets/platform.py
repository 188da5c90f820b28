"""What every asset, job and sensor is handed: the lake, the settings, and the way to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from deltalake import DeltaTable

from partitions import Partitions, Window
from platform_assets.gold import orders
from platform_assets.ops import computations
from platform_assets.ops.computations import Computation
from platform_assets.silver import events
from platform_assets.streams.epochs import watermark_of
from platform_assets.table import Source, Table
from resources.kafka import KafkaSource
from resources.lake import Lake
from resources.landing import Landing
from resources.records import RecordSource
from resources.settings import Settings


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Platform:
    """The running platform, as one resource.

    Attributes:
        lake: Where the tables are.
        settings: The configuration.
        records: Where records come from instead of Kafka; for replays and tests.
        clock: What time it is; only the ledgers' provenance and the restatement's pace depend on it.
    """

    lake: Lake
    settings: Settings
    records: RecordSource | None = None
    clock: Callable[[], datetime] = field(default=_now)

    @classmethod
    def from_settings(cls, settings: Settings) -> Platform:
        """The platform that the settings describe. Connects to nothing yet."""
        return cls(Lake.from_settings(settings), settings)

    @property
    def partitions(self) -> Partitions:
        """The hourly and daily partitions."""
        return Partitions.starting(self.settings.start_date, self.settings.zone)

    @contextmanager
    def source(self) -> Iterator[RecordSource]:
        """Kafka, for as long as the block lasts."""
        if self.records is not None:
            yield self.records
            return
        with KafkaSource(self.settings.kafka_config()) as source:
            yield source

    def landing(self) -> Landing:
        """The landing folder.

        Raises:
            ValueError: None is set.
        """
        if self.settings.landing_url is None:
            msg = "no landing folder is set; set HEADWATER_LANDING_URL to the folder that third-party files land in"
            raise ValueError(msg)
        return Landing(self.settings.landing_url)

    def watermark(self, source: Source = "events") -> datetime | None:
        """The watermark of the streams of events, or of the database's changes; UTC, None before the first.

        That of changes is as far as `gold/orders` has taken them in.
        """
        return watermark_of(self.lake.open(events.TABLE if source == "events" else orders.TABLE))

    def days(self, window: Window) -> dict[date, Window]:
        """The days of the reporting timezone that a window touches, each with its window."""
        zone = self.settings.zone
        return {day: Window.of_days(day, day, zone) for day in window.days(zone)}

    def record(
        self,
        table: Table,
        window: Window,
        upstream: Table,
        upstream_version: int,
        table_version: int,
        row_count: int,
        known: DeltaTable | None = None,
    ) -> None:
        """Write into the ledger that a window was computed.

        Args:
            table: The table computed.
            window: The window.
            upstream: The table that it was computed from.
            upstream_version: Its Delta version.
            table_version: The Delta version made.
            row_count: Rows in the window.
            known: The handle read whose log has the watermark; that of events as it is now where None.
        """
        watermark = self.watermark() if known is None else watermark_of(known)
        done = Computation(table, window, upstream.name, upstream_version, table_version, row_count, watermark)
        self.lake.append(computations.TABLE, done.row(self.clock()))


REBUILD_AT_ONCE = timedelta(days=1)
"""How much of a range is read, computed and written at a time; it bounds the memory of a long backfill."""
