"""`silver/persons`: which person a raw id belongs to, and when; and which days a change of that touches."""

from __future__ import annotations

from datetime import timedelta

import narwhals as nw
import polars as pl
from deltalake import DeltaTable

from platform_assets.platform import Platform
from platform_assets.semantics import identity
from platform_assets.semantics.activity import is_activity
from platform_assets.semantics.engines import Frame, collected, lazy
from platform_assets.semantics.events import raw_id
from platform_assets.silver import activity_hours, events, identity_links
from platform_assets.table import TIMESTAMP, Column, Table
from resources.engine import POLARS, Engine
from resources.lake import Writer, retrying

BUCKETS = 16
"""Files are laid out by a hash of the raw id, so that a change rewrites the buckets that it is in."""

RESOLUTION = "resolution"
"""The name under which the table records the number of the resolution that it holds, from 1."""

TABLE = Table(
    name="silver/persons",
    description=(
        "Whose a raw id is, and from when to when. An id without a row is a person of its own. Facts keep raw ids; "
        "persons are joined late, so a login restates days, not events."
    ),
    grain="raw id × interval",
    key=("raw_id", "valid_from"),
    columns=(
        Column("raw_id", pl.String(), "`u:<user_id>` or `a:<anonymous_id>`.", personal=True),
        Column("valid_from", TIMESTAMP, "From when on, inclusive."),
        Column("valid_to", TIMESTAMP, "Until when, exclusive; the end of time where it is open."),
        Column("person_id", pl.String(), "The person: the least user id of its users.", personal=True),
        Column("bucket", pl.Int32(), "Hash of `raw_id`.", unit=f"0 to {BUCKETS - 1}"),
    ),
    partition_by=("bucket",),
    window_on="valid_from",
    partitions=None,
    cluster_by=("raw_id",),
    update="merge",
    service_level=timedelta(minutes=15),
    stats=("raw_id", "valid_from"),
)

CHANGES = Table(
    name="silver/person_changes",
    description=(
        "The days whose activity changed hands with a resolution of `silver/persons`: what was counted by person for "
        "them, or for the 27 days after, is stale. Written before the persons are."
    ),
    grain="day × resolution",
    key=("day", "resolution"),
    columns=(
        Column("day", pl.Date(), "Day in the reporting timezone."),
        Column("resolution", pl.Int64(), "Number of the resolution of persons that changed it.", minimum=1),
        Column("raw_ids", pl.Int64(), "Raw ids whose activity of the day changed hands.", unit="ids", minimum=1),
    ),
    partition_by=("day",),
    window_on="day",
    partitions=None,
    cluster_by=("day",),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("day", "resolution"),
)


def transform(persons: pl.DataFrame) -> pl.DataFrame:
    """`identity.PERSONS` to rows of the table."""
    bucket = (pl.col("raw_id").hash() % BUCKETS).cast(pl.Int32)
    return persons.with_columns(bucket=bucket).select(TABLE.schema.names())


def resolution_of(handle: DeltaTable) -> int:
    """The number of the resolution that a version of the table holds; 0 before the first."""
    return handle.transaction_version(RESOLUTION) or 0


def applied_changes(platform: Platform) -> pl.DataFrame:
    """`CHANGES` up to the resolution that the table holds: what a crash left ahead of the deed has not happened."""
    applied = resolution_of(platform.lake.open(TABLE))
    return platform.lake.scan(CHANGES).filter(pl.col("resolution") <= applied).collect()


def resolve(platform: Platform) -> pl.DataFrame:
    """Bring the table to what all the evidence says. Returns the rows of `CHANGES` that this made.

    Raises:
        Fenced: Another writer came in between; stop.
    """
    lake = platform.lake
    writer = Writer(lake, TABLE)
    number = (writer.progress(RESOLUTION) or 0) + 1
    writer.progress(identity_links.TABLE.name)

    def attempt() -> pl.DataFrame:
        writer.refresh()
        source = lake.open(identity_links.TABLE)
        before = lake.scan(TABLE, handle=writer.handle).collect()
        after = transform(identity.persons(lake.scan(identity_links.TABLE, handle=source)))
        taken_in = {identity_links.TABLE.name: source.version()}
        differing = pl.concat(
            [before.join(after, on=before.columns, how="anti"), after.join(before, on=before.columns, how="anti")]
        )
        if differing.is_empty():
            writer.commit(TABLE.empty(), taken_in)
            return CHANGES.empty()
        days = touched_days(platform, differing["raw_id"].unique(), before, after)
        changed = days.with_columns(resolution=pl.lit(number, pl.Int64)).select(CHANGES.schema.names())
        if not changed.is_empty():
            lake.append(CHANGES, changed)  # before the deed: a crash in between only restates too much
        buckets = differing["bucket"].unique().sort()
        rows = after.filter(pl.col("bucket").is_in(buckets.implode()))
        wanted = f"bucket IN ({', '.join(map(str, buckets))})"
        writer.commit(rows, {**taken_in, RESOLUTION: number}, predicate=wanted)
        return changed

    return retrying(f"resolution of {TABLE.name}", attempt)


def touched_days(platform: Platform, ids: pl.Series, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The days on which the activity of some raw ids belongs to another person than before: ``day``, ``raw_ids``."""
    of_ids = pl.col("raw_id").is_in(ids.implode())
    active = platform.lake.scan(activity_hours.TABLE).filter(of_ids).select("raw_id", "event_hour", "day").unique()
    times = nw.to_native(timed(platform, lazy(active), lazy(pl.concat([before, after])), POLARS))
    old = identity.joined(times, before.lazy().select(identity.PERSONS.names())).rename({"person_id": "old"})
    new = identity.joined(old, after.lazy().select(identity.PERSONS.names()))
    moved = new.filter(pl.col("old") != pl.col("person_id"))
    return moved.group_by("day").agg(raw_ids=pl.col("raw_id").n_unique().cast(pl.Int64)).sort("day").collect()


def timed(platform: Platform, activity: Frame, persons: Frame, engine: Engine) -> Frame:
    """Hours of activity with an instant in each, ``occurred_at``, that tells whose they are.

    In an hour in which an id changes hands, each of its events speaks for itself; everywhere else the hour's beginning
    tells.

    Args:
        platform: For the events of such hours.
        activity: ``raw_id``, ``event_hour``, ``day``; any more columns are events' (platform, country), and an event
            speaks only for the row that has its values.
        persons: ``raw_id``, ``valid_from``.
        engine: What both are of.
    """
    names = activity.collect_schema().names()
    others = [name for name in names if name not in {"raw_id", "event_hour", "day"}]
    hour = nw.col("valid_from").dt.truncate("1h")
    turns = persons.filter(hour != nw.col("valid_from")).select("raw_id", event_hour=hour).unique()
    split = collected(activity.join(turns, on=["raw_id", "event_hour"], how="semi"))
    plain = activity.join(turns, on=["raw_id", "event_hour"], how="anti")
    plain = plain.with_columns(occurred_at=nw.col("event_hour"))
    if split.is_empty():
        return plain
    settings, dates = platform.settings, split["event_hour"].dt.date().unique()
    told = (
        platform.lake.scan(events.TABLE)
        .filter(pl.col("event_date").is_in(dates.implode()), is_activity(settings.passive_events))
        .select(
            "occurred_at",
            *others,
            raw_id=raw_id(),
            event_hour=pl.col("occurred_at").dt.truncate("1h"),
            day=pl.col("occurred_at").dt.convert_time_zone(settings.reporting_timezone).dt.date(),
        )
    )
    each = split.lazy().join(told, on=["raw_id", "event_hour", "day", *others], nulls_equal=True)
    return nw.concat([plain, engine.frame(each.select(*names, "occurred_at"))])
