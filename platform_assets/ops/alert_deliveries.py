"""`ops/alert_deliveries`: every attempt to hand a message to a sink.

What is still to be delivered is not stored: it is the messages of `ops/incidents`, for each of their sinks, without
those that were delivered.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.ops import incidents
from platform_assets.table import TIMESTAMP, Column, Reference, Table

TABLE = Table(
    name="ops/alert_deliveries",
    description=(
        "The attempts to deliver the messages of `ops/incidents`. A message is tried again until its sink has taken "
        "it: at least once, twice where the process ended between the sink's answer and this row."
    ),
    grain="message × sink × attempt",
    key=("incident_id", "revision", "sink", "attempt"),
    columns=(
        Column("incident_id", pl.String(), "The incident."),
        Column("revision", pl.Int64(), "The change of it that the message tells.", minimum=1),
        Column("sink", pl.String(), "Name of the sink."),
        Column("attempt", pl.Int64(), "Number of the attempt, from 1.", unit="attempts", minimum=1),
        Column("attempted_at", TIMESTAMP, "When, by the clock of the machine."),
        Column("delivered_at", TIMESTAMP, "When the sink took it; null where it did not.", nullable=True),
        Column("error", pl.String(), "Why it did not.", nullable=True),
        Column("next_attempt_at", TIMESTAMP, "When it is tried again, where it failed.", nullable=True),
        Column("attempted_date", pl.Date(), "UTC date of `attempted_at`."),
    ),
    partition_by=("attempted_date",),
    window_on="attempted_at",
    partitions=None,
    cluster_by=("sink", "attempted_at"),
    update="append",
    service_level=timedelta(hours=1),
    stats=("attempted_at",),
    references=(Reference(("incident_id", "revision"), incidents.TABLE),),
)
