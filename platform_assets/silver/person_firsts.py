"""`silver/person_firsts`: when each raw id did something for the first time; and when each person did."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import xxhash
from deltalake import DeltaTable

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.semantics import identity
from platform_assets.semantics.firsts import PAIR, compared, firsts, handed_over, of_people
from platform_assets.silver import events, persons, touched_hours
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake, VersionGone, Writer, retrying

BUCKETS = 16
"""Files are laid out by a hash of the raw id, so that a first that moves rewrites the bucket that it is in."""

TABLE = Table(
    name="silver/person_firsts",
    description=(
        "The first event ever of each raw id and event name, without bots and test traffic: what new persons and "
        "first-time retention read instead of all history. Ids are raw: persons are joined late."
    ),
    grain="raw id × event name",
    key=("raw_id", "event_name"),
    columns=(
        Column(
            "raw_id",
            pl.String(),
            "`u:<user_id>` where the event carries one, else `a:<anonymous_id>`.",
            personal=True,
            protected=True,
        ),
        Column("event_name", pl.String(), "Name of the events; passive ones, too."),
        Column("first_at", TIMESTAMP, "Event time of the first of them."),
        Column("bucket", pl.Int32(), "Hash of `raw_id`.", unit=f"0 to {BUCKETS - 1}"),
    ),
    partition_by=("bucket",),
    window_on="first_at",
    partitions=None,
    cluster_by=("raw_id",),
    update="merge",
    service_level=timedelta(hours=2),
    stats=("raw_id", "first_at"),
)


def bucket_of(raw_id: str) -> int:
    """The bucket of an id; the same in every process and release."""
    return xxhash.xxh3_64_intdigest(raw_id.encode()) % BUCKETS


def transform(found: pl.DataFrame) -> pl.DataFrame:
    """`firsts` to rows of the table."""
    ids = found["raw_id"].unique()
    buckets = pl.DataFrame({"raw_id": ids, "bucket": pl.Series(map(bucket_of, ids), dtype=pl.Int32)})
    return found.join(buckets, on="raw_id").select(TABLE.schema.names()).sort(*TABLE.partition_by, *TABLE.key)


def is_behind(platform: Platform) -> bool:
    """Whether the ledger of touched hours knows of changes of silver that the table has not taken in."""
    table, ledger = (platform.lake.open(t).transaction_version(events.FOLLOWS) for t in (TABLE, touched_hours.TABLE))
    return (ledger or 0) > (table or 0)


def advance(platform: Platform) -> int:
    """Take in what silver did, up to the version that the ledger of touched hours has taken in, in one commit.

    Only the hours that the ledger names are read; and, where the event that was a first is gone, silver from that
    hour on. Returns the number of firsts that came, moved or went.

    Raises:
        VersionGone: Silver can no longer be read at that version: materialize the table.
        Fenced: Another writer took over; stop.
    """
    lake = platform.lake
    writer = Writer(lake, TABLE)
    since = writer.progress(events.FOLLOWS) or 0
    ledger = lake.open(touched_hours.TABLE)
    until = ledger.transaction_version(events.FOLLOWS) or 0
    if until <= since:
        return 0
    silver, progress = _silver(lake, until), {events.FOLLOWS: until}
    touched = (
        lake.scan(touched_hours.TABLE, handle=ledger)
        .filter(pl.col("silver_version") > since, pl.col("silver_version") <= until)
        .group_by("event_hour")
        .agg(pl.col("removed").sum())
        .collect()
    )
    if touched.is_empty():
        writer.record(progress)
        return 0
    found = _of_hours(lake, silver, touched["event_hour"])
    lost = touched.filter(pl.col("removed") > 0)["event_hour"]

    def attempt() -> int:
        writer.refresh()
        stored = lake.scan(TABLE, handle=writer.handle)
        rows = compared(stored, found, lost)
        gone = rows.filter("is_gone")
        settled = pl.concat([rows.filter(~pl.col("is_gone")).drop("is_gone"), _looked_up(lake, silver, gone)])
        moved = settled.filter(pl.col("first_at").ne_missing(pl.col("was")))
        if moved.is_empty():
            writer.commit(TABLE.empty(), progress)
            return 0
        buckets = sorted({bucket_of(raw_id) for raw_id in moved["raw_id"].unique()})
        there = stored.filter(pl.col("bucket").is_in(buckets)).join(moved.lazy(), on=PAIR, how="anti").collect()
        made = transform(moved.drop_nulls("first_at").drop("was"))
        wanted = f"bucket IN ({', '.join(map(str, buckets))})"
        writer.commit(pl.concat([there, made]).sort(*TABLE.partition_by, *TABLE.key), progress, predicate=wanted)
        return moved.height

    return retrying(f"merge into {TABLE.name}", attempt)


def rebuild(platform: Platform) -> None:
    """Compute all of it anew from silver as it is, and go on from there; it needs none of silver's history."""
    lake = platform.lake

    def attempt() -> None:
        writer = Writer(lake, TABLE)  # before silver is read: a rival that read it later and wrote first is a conflict
        writer.progress(events.FOLLOWS)
        silver = lake.open(events.TABLE)
        rows = transform(firsts(of_people(lake.scan(events.TABLE, handle=silver))).collect(engine="streaming"))
        writer.commit(rows, {events.FOLLOWS: silver.version()}, predicate="bucket >= 0")

    retrying(f"rebuild of {TABLE.name}", attempt)


def firsts_of_persons(platform: Platform) -> pl.LazyFrame:
    """When each person did something for the first time, by `silver/persons` as it is.

    An event counts for the person that its id belonged to at its time. Exact, as of the version of silver that the
    table has taken in; later events are not known yet. Where an id's person was the same from its first event of a name
    on, the stored first tells. Where the id changed hands afterwards (a device that several users logged in on, or one
    that was anonymous for longer than a login claims), the stored first is the former person's, and those of the later
    ones are looked up in `silver/events`, for these ids and names, from the earliest such change of hands on.

    Returns:
        ``person_id``, ``event_name``, ``first_at`` (event time, UTC), a row per person and name, in no order. An id
        that belongs to nobody is a person of its own.

    Raises:
        VersionGone: Silver can no longer be read at the version that the table has taken in: bring it up to date
            (`advance`), or materialize it.
    """
    lake = platform.lake
    handle = lake.open(TABLE)
    stored = lake.scan(TABLE, handle=handle).select(*PAIR, "first_at")
    whose = lake.scan(persons.TABLE).select(identity.PERSONS.names())
    times = [stored]
    others = handed_over(stored, whose).collect()
    if not others.is_empty():
        silver = _silver(lake, handle.transaction_version(events.FOLLOWS) or 0)
        acted = of_people(lake.scan(events.TABLE, _since(others["since"]), silver)).join(others.lazy(), on=PAIR)
        times.append(acted.filter(pl.col("occurred_at") >= pl.col("since")).select(*PAIR, first_at="occurred_at"))
    owned = identity.joined(pl.concat(times), whose, at="first_at")
    return owned.group_by("person_id", "event_name").agg(pl.col("first_at").min())


def _silver(lake: Lake, version: int) -> DeltaTable:
    try:
        return lake.open(events.TABLE, version)
    except VersionGone as error:
        msg = f"{error}; materialize {TABLE.name}, which starts anew from what silver holds"
        raise VersionGone(msg) from error


def _of_hours(lake: Lake, silver: DeltaTable, hours: pl.Series) -> pl.DataFrame:
    """The firsts among the events of some hours."""
    ordered = hours.sort()
    window = Window(ordered[0], ordered[-1] + timedelta(hours=1))
    rows = lake.scan(events.TABLE, window, silver).filter(
        pl.col("event_date").is_in(hours.dt.date().unique().implode()),
        pl.col("occurred_at").dt.truncate("1h").is_in(hours.implode()),
    )
    return firsts(of_people(rows)).collect(engine="streaming")


def _looked_up(lake: Lake, silver: DeltaTable, gone: pl.DataFrame) -> pl.DataFrame:
    """What is first now of the ids and names whose first is gone: `PAIR`, ``was``, ``first_at``, null for nothing."""
    names = [*PAIR, "was", "first_at"]
    if gone.is_empty():
        return gone.select(names)
    acted = of_people(lake.scan(events.TABLE, _since(gone["was"]), silver)).join(gone.lazy(), on=PAIR, how="semi")
    now = firsts(acted).collect(engine="streaming")
    return gone.drop("first_at").join(now, on=PAIR, how="left").select(names)


def _since(instants: pl.Series) -> Window:
    """From the hour of the earliest of some instants on."""
    return Window(instants.dt.truncate("1h").sort()[0], identity.ALWAYS[1])
