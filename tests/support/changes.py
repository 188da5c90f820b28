"""Change events for tests, as Debezium writes them, and a topic of them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from platform_assets.bronze import dead_letters, oltp_changes, schemas
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.gold import fact_events, order_changes
from platform_assets.silver import admissions, dimension_changes, quarantine, row_changes
from platform_assets.streams.change_batches import ChangeBatches
from platform_assets.streams.stream import EVENT_STREAMS
from resources.lake import Lake
from resources.records import FrameSource, RecordSource
from resources.settings import Settings
from support.records import Record, frame
from support.records import at as at_minute

TOPIC = "oltp_changes"
SETTINGS = Settings(oltp_changes_topic=TOPIC)
CHANGE_TABLES = (
    oltp_changes.TABLE,
    dead_letters.TABLE,
    quarantine.TABLE,
    row_changes.TABLE,
    dimension_changes.TABLE,
    order_changes.TABLE,
    *(dimension.table for dimension in DIMENSIONS),
)
"""The tables that the changes' stream writes, in the order in which it writes them."""


def change(
    table: str,
    op: str,
    lsn: int,
    minute: float,
    after: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A change event; committed so many minutes after `support.records.START`."""
    microseconds = round(at_minute(minute).timestamp() * 1e6)
    source = {"table": table, "lsn": lsn, "sequence": f'["{lsn - 1}","{lsn}"]', "ts_us": microseconds}
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": microseconds // 1000}


def user(user_id: str, plan: str = "free", country: str = "DE", **more: Any) -> dict[str, Any]:
    """A row of the source table `users`."""
    return {"user_id": user_id, "email": f"{user_id}@example.org", "plan": plan, "country": country, **more}


def encoded(event: dict[str, Any] | bytes | None) -> bytes | None:
    return json.dumps(event).encode() if isinstance(event, dict) else event


def records(values: Iterable[dict[str, Any] | bytes | None], partitions: int = 1) -> list[Record]:
    """Records a second apart, dealt out to the topic's partitions in turn."""
    return [
        Record(number % partitions, number // partitions, at_minute(number / 60), encoded(value), topic=TOPIC)
        for number, value in enumerate(values)
    ]


def source(made: Iterable[Record], partitions: int = 1) -> FrameSource:
    """A topic that holds the records."""
    return FrameSource(frame(made), {TOPIC: partitions})


def new_lake(folder: Path) -> Lake:
    """A lake with all tables of the changes' stream, and facts, empty."""
    lake = Lake(str(folder))
    # What all streams refuse is in the same tables, and a change of a dimension looks facts up.
    received = (stream.table for stream in EVENT_STREAMS)
    for table in (*CHANGE_TABLES, *received, schemas.TABLE, admissions.TABLE, fact_events.TABLE):
        lake.create(table)
    return lake


def drain(lake: Lake, held: RecordSource, micro_batch_records: int = 1_000_000) -> None:
    """Start a writer, and read all that there is."""
    settings = SETTINGS.model_copy(update={"micro_batch_records": micro_batch_records})
    with ChangeBatches(lake, held, settings) as batches:
        batches.catch_up()
        while batches.step() is not None:
            pass


def instant(minute: float) -> Any:
    return at_minute(minute)


SECOND = timedelta(seconds=1)
