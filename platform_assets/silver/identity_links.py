"""`silver/identity_links`: the evidence of who is who."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from partitions import Window
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.semantics import identity
from platform_assets.silver import events
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

TABLE = Table(
    name="silver/identity_links",
    description=(
        "Evidence of identity, hour by hour: logins (an event that carries an anonymous id and a user id), aliases and "
        "unlinks. What it means is in `silver/persons`. Of an hour's logins of one user in a row on one device, the "
        "first and the last are kept: those between say nothing more."
    ),
    grain="link × time",
    key=("left", "right", "kind", "seen_at"),
    columns=(
        Column("left", pl.String(), "The anonymous id (`a:…`) or, of an alias, the former user id.", personal=True),
        Column("right", pl.String(), "The user id (`u:…`).", personal=True),
        Column("kind", pl.String(), "What the link says.", accepted=("login", identity.ALIAS, identity.UNLINK)),
        Column("seen_at", TIMESTAMP, "Event time of the event that says so."),
        Column("seen_date", pl.Date(), "UTC date of `seen_at`."),
    ),
    partition_by=("seen_date",),
    window_on="seen_at",
    partitions="hour",
    cluster_by=("left",),
    update="rebuild",
    service_level=timedelta(hours=2),
    stats=("seen_at",),
)


def transform(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of `silver/events` of whole UTC hours to rows of the table."""
    hourly = identity.thinned(identity.links(rows), pl.col("seen_at").dt.truncate("1h"))
    return hourly.with_columns(seen_date=pl.col("seen_at").dt.date()).select(TABLE.schema.names())


def rebuild(platform: Platform, window: Window) -> None:
    """Collect the evidence of a window of hours from `silver/events`."""
    lake = platform.lake
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> None:
            handle = lake.open(TABLE)  # before silver is read: a rival that read it later and wrote first is a conflict
            source = lake.open(events.TABLE)
            rows = transform(lake.scan(events.TABLE, part, source)).collect(engine="streaming").sort(TABLE.key)
            if rows.equals(lake.scan(TABLE, part, handle).collect().sort(TABLE.key)):
                made = handle.version()  # most hours are computed again without a new login: nothing follows from that
            else:
                made = lake.replace(TABLE, handle, rows, part)
            platform.record(TABLE, part, events.TABLE, source.version(), made, rows.height)

        retrying(f"rebuild of {TABLE.name}", attempt)
