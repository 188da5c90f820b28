"""`gold/fact_events`: what people did, with what was known of users and products as of then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from partitions import Window
from platform_assets.changes.dimension import Dimension
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.restatement import stale_attributes, stale_hours
from platform_assets.semantics import identity
from platform_assets.semantics.dimensions import as_it_is, as_it_was
from platform_assets.semantics.events import is_of_people, raw_id
from platform_assets.silver import (
    devices,
    dimension_changes,
    events,
    experiments,
    persons,
    products,
    touched_hours,
    users,
)
from platform_assets.table import MONEY, Column, Reference, Table, Watch
from resources.lake import Lake, retrying

TABLE = Table(
    name="gold/fact_events",
    description=(
        "Every event that is neither a bot's nor a test's, with the attributes that its user and its product had as of "
        "the event. Ids are raw; persons and the attributes of today are joined by the reader "
        "(`fact_events.joined_facts`), so that no change of them rewrites history."
    ),
    grain="one event",
    key=("source", "event_id", "client_occurred_at"),
    columns=(
        *events.columns("source", "event_id", "client_occurred_at", "event_name", "occurred_at"),
        Column(
            "raw_id",
            pl.String(),
            "`u:<user_id>` where the event carries one, else `a:<anonymous_id>`.",
            personal=True,
            protected=True,
        ),
        *events.columns("anonymous_id", "user_id", "session_id", "platform", "device_type", "os", "app_version"),
        *events.columns("country", "page_url", "referrer", "utm_source", "utm_medium", "utm_campaign"),
        Column("product_id", pl.String(), "Property `product_id`.", nullable=True),
        Column("order_id", pl.String(), "Property `order_id`.", nullable=True),
        Column("experiment", pl.String(), "Property `experiment`.", nullable=True),
        Column("variant", pl.String(), "Property `variant`: of the experiment.", nullable=True),
        Column("user_plan", pl.String(), "The user's plan as of the event.", nullable=True),
        Column("user_country", pl.String(), "The user's country as of the event.", nullable=True),
        Column("product_category", pl.String(), "The product's category as of the event.", nullable=True),
        Column(
            "product_price",
            MONEY,
            "The product's list price as of the event.",
            unit="units of `product_currency`",
            nullable=True,
        ),
        Column("product_currency", pl.String(), "ISO 4217 currency of `product_price`.", nullable=True),
        *events.columns("properties", "ingested_at", "event_date"),
    ),
    partition_by=("event_date",),
    window_on="occurred_at",
    partitions="hour",
    cluster_by=("event_name", "raw_id"),
    update="rebuild",
    service_level=timedelta(hours=2),
    stats=("occurred_at", "event_name", "raw_id"),
    # Not `user_id` and `order_id`: they are what clients claim, and the database may know few of them.
    references=(
        Reference(("product_id",), products.DIMENSION.table, share=0.05),
        Reference(("experiment",), experiments.DIMENSION.table),
    ),
    # What is joined: the event's own columns are watched in silver. Where a join finds nothing, all of it is null.
    watch=Watch(
        nulls=("user_plan", "user_country", "product_category", "product_price"),
        values=("user_plan", "user_country", "product_category"),
    ),
)


@dataclass(frozen=True)
class Join:
    """A dimension whose attributes facts have as of their time.

    Attributes:
        dimension: One with versions; the facts have its key by the same names.
        attributes: What is taken of it.
        prefix: Goes before the attributes' names.
    """

    dimension: Dimension
    attributes: tuple[str, ...]
    prefix: str


JOINS = (
    Join(users.DIMENSION, ("plan", "country"), "user_"),
    Join(products.DIMENSION, ("category", "price", "currency"), "product_"),
)

PROPERTIES = ("product_id", "order_id", "experiment", "variant")
"""The properties of events that are columns of their own."""

DEVICE = ("device_type", "os", "app_version")
"""What is joined late of the device, as the database last knew it."""

_ROWS_AT_ONCE = 2_000_000
"""A day of more events than this is computed hour by hour."""


def of_people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of `silver/events` without bots and test traffic: the columns that facts have of the event itself.

    A property that is a text or a number is the text of it. An object, a list, a boolean, and a text that reads like
    one, is no id and no name: null, as where the event lacks it.
    """
    reads_like_one = r"^(\{|\[|true$|false$)"
    text = {name: pl.col("properties").str.json_path_match(f"$.{name}") for name in PROPERTIES}
    of_event = [column for column in TABLE.schema if column in events.TABLE.schema]
    return rows.filter(is_of_people()).select(
        *of_event,
        raw_id=raw_id(),
        **{name: pl.when(~value.str.contains(reads_like_one)).then(value) for name, value in text.items()},
    )


def transform(acted: pl.LazyFrame, versions: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Rows of the table.

    Args:
        acted: `of_people`.
        versions: The rows of each of `JOINS`.
    """
    for join, rows in zip(JOINS, versions, strict=True):
        acted = as_it_was(acted, rows, join.dimension.key, join.attributes, prefix=join.prefix)
    return acted.select(TABLE.schema.names()).sort(*TABLE.cluster_by, "occurred_at")


def rebuild(platform: Platform, window: Window) -> None:
    """Compute a window of hours from `silver/events` and the dimensions, a day at a time.

    A crash between the entries in the ledger must leave an entry of silver only where there is one of each dimension
    (`changes.touching` rests on it), so silver's comes last.
    """
    lake = platform.lake
    for part in _parts(lake, window):

        def attempt(part: Window = part) -> None:
            handle = lake.open(TABLE)  # before all that is read: a rival that read later and wrote first is a conflict
            known = [lake.open(join.dimension.table) for join in JOINS]
            source = lake.open(events.TABLE)
            acted = of_people(lake.scan(events.TABLE, part, source)).collect(engine="streaming").lazy()
            versions = [
                lake.scan(join.dimension.table, handle=read).join(
                    acted.select(join.dimension.key).unique(), on=join.dimension.key, how="semi"
                )
                for join, read in zip(JOINS, known, strict=True)
            ]
            rows = transform(acted, versions).collect()
            made = lake.replace(TABLE, handle, rows, part)
            for join, read in zip(JOINS, known, strict=True):
                platform.record(TABLE, part, join.dimension.table, read.version(), made, rows.height, source)
            platform.record(TABLE, part, events.TABLE, source.version(), made, rows.height, source)

        retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame) -> set[datetime]:
    """Starts of the hours whose events, or whose users' or products' attributes as of then, changed since.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
    """
    lake, mine = platform.lake, ledger.filter(table=TABLE.name)
    touched = lake.scan(touched_hours.TABLE).select("event_hour", "silver_version").collect()
    found = set(stale_hours(touched, mine.filter(upstream=events.TABLE.name)))
    for table in (join.dimension.table for join in JOINS):
        applied = lake.open(table).version()
        is_applied = (pl.col("dimension") == table.name) & (pl.col("change") <= applied)
        changes = lake.scan(dimension_changes.TABLE).filter(is_applied).collect()
        found |= set(stale_attributes(changes, mine.filter(upstream=table.name)))
    return found


def joined_facts(platform: Platform, window: Window) -> pl.LazyFrame:
    """The facts of a window with what is joined late: whose they are, and what is known today.

    Returns:
        The columns of the table; ``person_id``; ``current_user_plan``, ``current_user_country``,
        ``current_product_category``, ``current_product_price``, ``current_product_currency``, null where the row does
        not exist any more; and of the device, as the database last knew it, ``device_device_type``, ``device_os``,
        ``device_app_version``. In no order.
    """
    lake = platform.lake
    whose = lake.scan(persons.TABLE).select(identity.PERSONS.names())
    facts = identity.joined(lake.scan(TABLE, window), whose)
    for join in JOINS:
        facts = as_it_is(facts, lake.scan(join.dimension.table), join.dimension.key, join.attributes, join.prefix)
    device, key = lake.scan(devices.DIMENSION.table), devices.DIMENSION.key
    named = [pl.col(name).alias(f"device_{name}") for name in DEVICE]
    return facts.join(device.select(*key, *named), on=key, how="left")


def _parts(lake: Lake, window: Window) -> Iterator[Window]:
    for day in window.split(REBUILD_AT_ONCE):
        rows = lake.scan(events.TABLE, day).select(pl.len()).collect().item()
        yield from day.split(timedelta(hours=1)) if rows > _ROWS_AT_ONCE else [day]
