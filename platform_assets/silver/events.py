"""`silver/events`: every product event once, at its event time."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze.records import COORDINATES, INGESTED_AT
from platform_assets.semantics.arrivals import ARRIVAL_ORDER, DUPLICATE_KEY, FirstArrivals, first_arrivals
from platform_assets.semantics.privacy import protected_texts
from platform_assets.table import TIMESTAMP, Column, Table, Watch
from resources.delta_log import files_near
from resources.lake import Lake
from resources.records import sql_coordinates

TABLE = Table(
    name="silver/events",
    description=(
        "Every valid product event once, whatever wire format brought it, placed at its event time. Of several "
        "deliveries the first arrival stands. Bots and test traffic are here, marked; gold leaves them out."
    ),
    grain="one event",
    key=("source", "event_id", "client_occurred_at"),
    columns=(
        Column("event_id", pl.String(), "The producer's id of the event."),
        Column("source", pl.String(), "The writing system: `web`, `ios`, `android`, `backend`, …"),
        Column("event_name", pl.String(), "What happened: `page_viewed`, `order_completed`, …"),
        Column("schema_ref", pl.String(), "Name and version of the payload's schema: `order_completed/2`."),
        Column("client_occurred_at", TIMESTAMP, "The device's clock when it happened, raw."),
        Column("received_at", TIMESTAMP, "The server's clock when it arrived."),
        Column("client_sent_at", TIMESTAMP, "The device's clock when it was sent, raw.", nullable=True),
        Column("utc_offset_minutes", pl.Int16(), "The device's offset from UTC.", unit="minutes", nullable=True),
        Column(
            "anonymous_id",
            pl.String(),
            "The device's or browser's id, raw.",
            nullable=True,
            personal=True,
            protected=True,
        ),
        Column(
            "user_id",
            pl.String(),
            "The account's id, once logged in, raw.",
            nullable=True,
            personal=True,
            protected=True,
        ),
        Column("session_id", pl.String(), "The client's own session.", nullable=True),
        Column("session_seq", pl.Int64(), "Order within the client's session.", nullable=True),
        Column("app_version", pl.String(), "Version of the app.", nullable=True),
        Column("platform", pl.String(), "`web`, `ios`, `android`, …", nullable=True),
        Column("device_type", pl.String(), "`mobile`, `desktop`, …", nullable=True),
        Column("os", pl.String(), "Operating system.", nullable=True),
        Column("country", pl.String(), "ISO 3166 country.", nullable=True),
        Column("locale", pl.String(), "Language and region.", nullable=True),
        Column("page_url", pl.String(), "The page.", nullable=True, protected=True),
        Column("referrer", pl.String(), "Where the person came from.", nullable=True, protected=True),
        Column("utm_source", pl.String(), "Campaign source.", nullable=True),
        Column("utm_medium", pl.String(), "Campaign medium.", nullable=True),
        Column("utm_campaign", pl.String(), "Campaign.", nullable=True),
        Column("is_bot", pl.Boolean(), "Sent by a bot; left out of gold."),
        Column("is_test", pl.Boolean(), "Test traffic; left out of gold."),
        Column("consent", pl.List(pl.String()), "Purposes granted.", nullable=True),
        Column("properties", pl.String(), "What else the event carries: a JSON object.", personal=True, protected=True),
        *COORDINATES,
        INGESTED_AT,
        Column("key_hash", pl.Int64(), "Stable hash of the key; what duplicate lookup reads."),
        Column("occurred_at", TIMESTAMP, "Event time (semantics 1)."),
        Column(
            "is_straggler",
            pl.Boolean(),
            "Came over an hour late, or from a clock over an hour off: in files of its own, so that the others "
            "cover narrow spans of time.",
        ),
        Column("event_date", pl.Date(), "UTC date of `occurred_at`."),
    ),
    partition_by=("event_date", "is_straggler"),
    window_on="occurred_at",
    partitions="hour",
    cluster_by=("occurred_at",),
    update="append, rarely replace",
    service_level=timedelta(minutes=15),
    stats=("occurred_at", "client_occurred_at", "ingested_at", "epoch", "partition", "offset"),
    watch=Watch(
        nulls=(
            "anonymous_id",
            "user_id",
            "session_id",
            "app_version",
            "platform",
            "device_type",
            "country",
            "page_url",
        ),
        values=("event_name", "source", "platform", "device_type", "country"),
        outcomes=True,
    ),
)

FOLLOWED = (
    "occurred_at",
    "event_name",
    "platform",
    "is_bot",
    "is_test",
    "topic",
    "epoch",
    "partition",
    "ingested_at",
)
"""The columns that the tables that follow silver's changes read."""

FOLLOWS = TABLE.name
"""The name under which a table that follows silver records the version of it that it has taken in."""


def columns(*names: str) -> tuple[Column, ...]:
    """Columns of the table, for tables that have them, too."""
    declared = {column.name: column for column in TABLE.columns}
    return tuple(declared[name] for name in names)


def transform(accepted: pl.DataFrame) -> pl.DataFrame:
    """Valid events to rows of the table."""
    return accepted.select(TABLE.schema.names())


def without_addresses(accepted: pl.DataFrame) -> pl.DataFrame:
    """Valid events without plain e-mail and IP addresses, column by column as declared."""
    return accepted.with_columns(protected_texts(accepted[column.name]) for column in TABLE.columns if column.protected)


class KeyHashes:
    """The key hashes of files that were looked into before. Files never change: each is read once.

    Args:
        lake: The lake.
        most_rows: The hashes kept; beyond that they are forgotten, and read again where needed.
    """

    def __init__(self, lake: Lake, most_rows: int = 16_000_000) -> None:
        self._lake = lake
        self._most_rows = most_rows
        self._numbers: dict[str, int] = {}
        self._rows = pl.DataFrame(schema={"key_hash": pl.Int64, "file": pl.UInt32})

    def files_with(self, files: list[str], hashes: pl.Series) -> list[str]:
        """Of some files of the table, those that hold one of some hashes."""
        unseen = [file for file in files if file not in self._numbers]
        if self._rows.height > self._most_rows:
            self._numbers, self._rows, unseen = {}, self._rows.clear(), files
        if unseen:
            first = len(self._numbers)
            self._numbers |= {file: first + n for n, file in enumerate(unseen)}
            read = pl.collect_all([self._lake.read_files([file]).select("key_hash") for file in unseen])
            numbered = [
                rows.with_columns(file=pl.lit(self._numbers[f], pl.UInt32))
                for f, rows in zip(unseen, read, strict=True)
            ]
            self._rows = pl.concat([self._rows, *numbered])
        wanted = {self._numbers[file]: file for file in files}
        found = (
            self._rows.lazy()
            .filter(pl.col("file").is_in(list(wanted)))
            .join(hashes.to_frame("key_hash").lazy(), on="key_hash", how="semi")
            .select(pl.col("file").unique())
            .collect()
        )
        return [wanted[number] for number in found["file"]]


def arrivals(
    lake: Lake,
    handle: DeltaTable,
    accepted: pl.DataFrame,
    outside: Window | None = None,
    known: KeyHashes | None = None,
) -> FirstArrivals:
    """Tell which valid events stand beside the rows that are there.

    The cost is that of the batch and of the traffic in its events' hours, not of the table's age: only files
    whose times reach the batch's are looked into, by one narrow column, and only those with a match are read.

    Args:
        lake: The lake.
        handle: The version of the table to compare with.
        accepted: Valid events.
        outside: Leave out the rows of this window, which are about to be replaced.
        known: What a writer remembers from one batch to the next.
    """
    files = files_near(lake, TABLE, handle, "client_occurred_at", accepted["client_occurred_at"])
    if known is not None:
        files = known.files_with(files, accepted["key_hash"])
    if not files:
        present = TABLE.empty()
    else:
        columns = [*DUPLICATE_KEY, *ARRIVAL_ORDER, *(c for c in FOLLOWED if c not in ARRIVAL_ORDER)]
        rows = lake.read_files(files).filter(pl.col("key_hash").is_in(accepted["key_hash"].implode()))
        if outside is not None:
            rows = rows.filter((pl.col("occurred_at") < outside.start) | (pl.col("occurred_at") >= outside.end))
        present = rows.select(columns).collect()
    return first_arrivals(accepted, present)


def sql_displaced(displaced: pl.DataFrame) -> str:
    """A SQL predicate that selects the rows that gave way, pruned by their dates."""
    dates = ", ".join(f"'{day}'" for day in displaced["occurred_at"].dt.date().unique().sort())
    return f"event_date IN ({dates}) AND ({sql_coordinates(displaced)})"
