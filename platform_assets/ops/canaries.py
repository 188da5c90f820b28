"""`ops/canaries`: events that the platform itself sends through Kafka, and when each could be read in gold.

They are sent and looked up by `quality.end_to_end`.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.bronze.records import COORDINATES
from platform_assets.table import TIMESTAMP, Column, Table

OUTCOMES = ("arrived", "lost", "refused", "unsent", "waiting")

TABLE = Table(
    name="ops/canaries",
    description=(
        "Events that the platform itself sends to each topic of events, and what became of them: the end-to-end "
        "freshness, measured. They are events of `silver/events` that are marked as a test's, and enter no number."
    ),
    grain="canary",
    key=("topic", "sent_at"),
    columns=(
        COORDINATES[0],
        Column("sent_at", TIMESTAMP, "When it was sent: its event time."),
        *(
            Column(column.name, column.dtype, f"{column.description} Null where Kafka did not take it.", nullable=True)
            for column in COORDINATES[1:]
        ),
        Column(
            "outcome",
            pl.String(),
            "What became of it: `waiting` until that is known; `arrived`, it can be read in gold; `refused`, it was "
            "quarantined or dead-lettered; `lost`, what came after it was read, and it is nowhere; `unsent`, Kafka did "
            "not take it.",
            accepted=OUTCOMES,
        ),
        Column(
            "ingested_at",
            TIMESTAMP,
            "Ingestion time of its record; null where `silver/events` lacks it.",
            nullable=True,
        ),
        Column("in_silver_at", TIMESTAMP, "When `silver/events` had it, by that commit's clock.", nullable=True),
        Column("in_gold_at", TIMESTAMP, "When `gold/live_metrics` had taken it in, likewise.", nullable=True),
        Column(
            "freshness_seconds",
            pl.Float64(),
            "From `sent_at` to `in_gold_at`; null where it did not arrive, or the logs no longer tell when.",
            unit="seconds",
            nullable=True,
        ),
        Column("reason", pl.String(), "Why it did not arrive.", nullable=True),
        Column("sent_date", pl.Date(), "UTC date of `sent_at`."),
    ),
    partition_by=("sent_date",),
    window_on="sent_at",
    partitions=None,
    cluster_by=("sent_at",),
    update="append; settled",
    service_level=timedelta(minutes=15),
    stats=("sent_at", "outcome"),
)
