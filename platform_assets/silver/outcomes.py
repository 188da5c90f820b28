"""`silver/outcomes`: what became of every record, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze.records import COORDINATES
from platform_assets.ops import canaries
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake

OUTCOMES = ("silver", "duplicate", "quarantined", "dead_lettered")

TABLE = Table(
    name="silver/outcomes",
    description=(
        "Every record of a topic ends in exactly one of four: silver, duplicate, quarantined, dead-lettered. The "
        "sum over a topic partition and ingestion hour is the number of records consumed (conservation). Rows are "
        "signed: an event that gives way to an earlier arrival moves from silver to duplicate. Sum `records`."
    ),
    grain="topic partition × ingestion hour × event hour × outcome × version of silver that brought the change",
    key=("topic", "epoch", "partition", "ingestion_hour", "event_hour", "outcome", "silver_version"),
    columns=(
        *COORDINATES[:3],
        Column("ingestion_hour", TIMESTAMP, "UTC hour of the record's timestamp."),
        Column("event_hour", TIMESTAMP, "UTC hour of the event time, where it can be told.", nullable=True),
        Column("outcome", pl.String(), "What became of the records.", accepted=OUTCOMES),
        Column("records", pl.Int64(), "Signed number of records.", unit="records"),
        Column("silver_version", pl.Int64(), "Version of `silver/events` that brought it.", provenance=True),
        Column("ingestion_date", pl.Date(), "UTC date of `ingestion_hour`."),
    ),
    partition_by=("ingestion_date",),
    window_on="ingestion_hour",
    partitions="hour",
    cluster_by=("ingestion_hour",),
    update="advance; rebuild",
    service_level=timedelta(minutes=15),
    stats=("ingestion_hour",),
)

_GROUP = ("topic", "epoch", "partition", "ingestion_hour", "event_hour")
_TALLY = pl.Schema({**{name: TABLE.schema[name] for name in _GROUP}, "records": pl.Int64()})


@dataclass(frozen=True)
class Tallies:
    """Records by what became of them, each counted by topic partition, ingestion hour and event hour; signed.

    Attributes:
        accepted: Valid records, duplicates among them.
        quarantined: Records that break the contract.
        dead_lettered: Records that cannot be decoded.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    dead_lettered: pl.DataFrame

    @classmethod
    def total(cls, parts: Sequence[Tallies]) -> Tallies:
        """Several counts as one; a group may stand in it more than once."""
        none = [cls(*(pl.DataFrame(schema=_TALLY) for _ in range(3)))]
        return cls(
            pl.concat(part.accepted for part in [*none, *parts]),
            pl.concat(part.quarantined for part in [*none, *parts]),
            pl.concat(part.dead_lettered for part in [*none, *parts]),
        )

    def taken_back(self) -> Tallies:
        """The same counts with the other sign."""
        parts = (self.accepted, self.quarantined, self.dead_lettered)
        return Tallies(*(part.with_columns(-pl.col("records")) for part in parts))


def tally(records: pl.DataFrame) -> pl.DataFrame:
    """Count records by topic partition, ingestion hour and event hour.

    Args:
        records: ``topic``, ``epoch``, ``partition``, ``ingested_at``, ``occurred_at`` (nullable).
    """
    return (
        records.with_columns(
            ingestion_hour=pl.col("ingested_at").dt.truncate("1h"),
            event_hour=pl.col("occurred_at").dt.truncate("1h"),
        )
        .group_by(_GROUP)
        .agg(records=pl.len().cast(pl.Int64))
    )


def transform(judged: Tallies, added: pl.DataFrame, removed: pl.DataFrame, silver_version: int) -> pl.DataFrame:
    """The signed counts of one change of silver.

    Args:
        judged: What the change judged: what became of the records that it took in.
        added: Tally of the rows that silver gained.
        removed: Tally of the rows that silver lost.
        silver_version: The version of silver that the change made.

    A valid record that is not a row of silver is a duplicate: so duplicates are what was accepted, less what
    silver gained, plus what it lost.
    """

    def signed(counts: pl.DataFrame, outcome: str, sign: int) -> pl.DataFrame:
        return counts.with_columns(pl.col("records") * sign, outcome=pl.lit(outcome))

    return (
        pl.concat(
            [
                signed(added, "silver", 1),
                signed(removed, "silver", -1),
                signed(judged.accepted, "duplicate", 1),
                signed(added, "duplicate", -1),
                signed(removed, "duplicate", 1),
                signed(judged.quarantined, "quarantined", 1),
                signed(judged.dead_lettered, "dead_lettered", 1),
            ]
        )
        .group_by(*_GROUP, "outcome")
        .agg(pl.col("records").sum())
        .filter(pl.col("records") != 0)
        .with_columns(
            silver_version=pl.lit(silver_version, pl.Int64), ingestion_date=pl.col("ingestion_hour").dt.date()
        )
        .select(TABLE.schema.names())
    )


def of_producers(lake: Lake, since: datetime, until: datetime, counted: DeltaTable | None = None) -> pl.DataFrame:
    """What became of the records of some hours of arrival that others sent: without canaries.

    Args:
        lake: The lake.
        since: Start of the first hour.
        until: End of the last one.
        counted: The version of the table to read; the newest where None.

    Returns:
        The columns of `tally`, and ``outcome``; one row for each group of which there are records.
    """
    arrived = lake.scan(canaries.TABLE).filter(
        pl.col("sent_date") >= since.date() - timedelta(days=1),
        pl.col("ingested_at").is_between(since, until, closed="left"),
    )
    own = tally(arrived.select(*_GROUP[:3], "ingested_at", occurred_at="sent_at").collect())
    own = own.with_columns(-pl.col("records"), outcome=pl.lit("silver"))
    all_of_them = lake.scan(TABLE, Window(since, until), counted).select(own.columns).collect()
    by = [*_GROUP, "outcome"]
    return pl.concat([all_of_them, own]).group_by(by).agg(pl.col("records").sum()).filter(pl.col("records") > 0)


def arrivals_since(lake: Lake, start: datetime) -> pl.DataFrame:
    """When the events of hours from an instant on came: ``event_hour``, ``ingestion_hour``, ``events``."""
    # Clocks that are ahead bring an event before its time, by minutes.
    came = of_producers(lake, start - timedelta(days=1), datetime(9999, 1, 1, tzinfo=UTC))
    came = came.filter(pl.col("event_hour") >= start, outcome="silver")
    return came.group_by("event_hour", "ingestion_hour").agg(events=pl.col("records").sum())
