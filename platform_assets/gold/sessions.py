"""`gold/sessions`: runs of one person's activity on one device; and what each day of them rests on."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import fact_events
from platform_assets.platform import Platform
from platform_assets.publication import Reach
from platform_assets.restatement import stale_sessions
from platform_assets.semantics.calendar import starts
from platform_assets.semantics.engines import collected
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.semantics.sessions import Sessions, sessions
from platform_assets.silver import activity_hours, events, persons
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

SPEC = Sessions()
"""What a session of this table is."""

_PERSON = Column("person_id", pl.String(), "The person, as `silver/persons` has it.", personal=True)

TABLE = Table(
    name="gold/sessions",
    description=(
        "Sessions: a person's activity on one device without a gap over 30 minutes, at most 24 hours long. Passive "
        "events neither begin nor prolong one. A session is on the day that it starts on."
    ),
    grain="session",
    key=("session_id",),
    columns=(
        Column(
            "session_id",
            pl.String(),
            "Person, device, microsecond and id of the first event: the same whenever it is computed.",
            personal=True,
        ),
        _PERSON,
        *events.columns("anonymous_id"),
        Column("started_at", TIMESTAMP, "Event time of its first event."),
        Column("ended_at", TIMESTAMP, "Event time of its last event."),
        Column(
            "run_started_at",
            TIMESTAMP,
            "Start of the run without gaps that it is part of: earlier than `started_at` where a run of over 24 hours "
            "was cut.",
        ),
        Column("events", pl.Int64(), "Events.", unit="events", minimum=1),
        Column("page_views", pl.Int64(), "Views of pages.", unit="events", minimum=0),
        Column("conversions", pl.Int64(), "Completed orders, as events say.", unit="events", minimum=0),
        Column(
            "engaged_seconds",
            pl.Float64(),
            "Times from each event to the next, each counted up to 30 seconds.",
            unit="seconds",
            minimum=0,
        ),
        Column("entry_page", pl.String(), "The first page viewed.", nullable=True, protected=True),
        Column("exit_page", pl.String(), "The last page viewed.", nullable=True, protected=True),
        Column(
            "landing_referrer",
            pl.String(),
            "Where the person came to the entry page from.",
            nullable=True,
            protected=True,
        ),
        Column("utm_source", pl.String(), "Source of the first campaign.", nullable=True),
        Column("utm_medium", pl.String(), "Medium of the first campaign.", nullable=True),
        Column("utm_campaign", pl.String(), "The first campaign.", nullable=True),
        Column("campaign_at", TIMESTAMP, "Event time of the first event with a campaign.", nullable=True),
        Column("is_bounce", pl.Boolean(), "One page view, and under 10 seconds long."),
        Column("has_new_day", pl.Boolean(), "A midnight of the reporting timezone is in it."),
        Column("has_new_campaign", pl.Boolean(), "Another campaign than the first one came up in it."),
        Column("day", pl.Date(), "Day that it starts on, in the reporting timezone."),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("person_id", "started_at"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day", "started_at"),
)

REACHES = Table(
    name="ops/session_reaches",
    description=(
        "The span of instants that a day of `gold/sessions` rests on, and the versions that it was computed from: a "
        "change within the span after that version makes the day stale, and no other change does; and when what "
        "conversions are attributed to last changed. Written after the sessions."
    ),
    grain="day",
    key=("day",),
    columns=(
        Column("day", pl.Date(), "Day in the reporting timezone."),
        Column(
            "since",
            TIMESTAMP,
            "A gap before the start of the day or, where that is earlier, of the earliest run that reaches into it.",
        ),
        Column(
            "until",
            TIMESTAMP,
            "The end of the day or, where that is later, just over a gap after the end of its last session.",
        ),
        Column("facts_version", pl.Int64(), "Delta version of `gold/fact_events` read.", provenance=True),
        Column("activity_version", pl.Int64(), "Delta version of `silver/activity_hours` then.", provenance=True),
        Column("resolution", pl.Int64(), "Resolution of `silver/persons` read.", provenance=True),
        Column(
            "touches_version",
            pl.Int64(),
            "Delta version of `gold/sessions` with which the day's campaigns last changed; 0 if it never had one.",
            provenance=True,
        ),
        Column("touches", pl.String(), "Digest of the day's sessions with a campaign: whose, when, which."),
    ),
    partition_by=("day",),
    window_on="day",
    partitions=None,
    cluster_by=("day",),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day",),
)

REACH = Reach(before=1, after=1)
"""How far around a day lies what its sessions are told by; a run that goes on for longer reads on, and is rare."""

_TIES = ("event_id", "source", "client_occurred_at")
_READ = ("event_name", "occurred_at", "raw_id", "anonymous_id", *_TIES, SPEC.page, SPEC.referrer, *SPEC.campaign)
_KEY = ("person_id", "anonymous_id")
_TOUCH = ("session_id", "person_id", "campaign_at", *SPEC.campaign)
_LOOK_BACK = timedelta(hours=2)
"""How far is looked back at first for the start of a run that reaches into a day; then twice as far, and so on."""

_LONGEST = SPEC.longest or timedelta(hours=24)


def transform(acted: pl.LazyFrame, platform: Platform) -> pl.DataFrame:
    """Rows of the table, and of the days around.

    Args:
        acted: What persons did: the columns of `gold/fact_events` that sessions look at, and ``person_id``. Of each
            person and device all since a run began.
        platform: For the reporting timezone.
    """
    found = collected(sessions(acted, SPEC, platform.settings.zone, ties=_TIES))
    day = starts(pl.col("day_number"), "day")
    return found.with_columns(day=day).select(TABLE.schema.names()).cast(TABLE.schema).sort(TABLE.cluster_by)


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from `gold/fact_events`, one by one.

    A day goes on where the day before left off: the runs that reach into it are followed back to where they began,
    however long ago, and its last sessions to their end.
    """
    lake = platform.lake
    for day, span in platform.days(window).items():

        def attempt(day: date = day, span: Window = span) -> None:
            handle = lake.open(TABLE)  # before all that is read: a rival that read later and wrote first is a conflict
            stored = lake.scan(TABLE, handle=handle).filter(pl.col("day") == day).select(_TOUCH).collect()
            reaches = lake.open(REACHES)
            activity = lake.open(activity_hours.TABLE).version()
            source, whose = lake.open(fact_events.TABLE), lake.open(persons.TABLE)
            resolution = persons.resolution_of(whose)
            told = transform(_reaching(platform, span, source, whose).lazy(), platform)
            rows = told.filter(day=day)
            made = lake.replace_days(TABLE, handle, rows, day, day)
            known = lake.scan(REACHES, handle=reaches).filter(pl.col("day") == day).collect()
            last, digest = known.row(0)[-2:] if known.height else (0, _touches(TABLE.empty()))
            touches = _touches(rows)
            # A crash after the sessions' commit leaves the digest behind the rows, which somebody may have read.
            is_as_before = touches == digest == _touches(stored)
            versions = (source.version(), activity, resolution, last if is_as_before else made)
            reach = [(day, *_reach(told, span), *versions, touches)]
            lake.replace_days(REACHES, reaches, pl.DataFrame(reach, schema=REACHES.schema, orient="row"), day, day)
            platform.record(TABLE, span, fact_events.TABLE, source.version(), made, rows.height)
            platform.record(TABLE, span, persons.TABLE, resolution, made, rows.height)

        retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` that rest on hours of facts, or on persons, that changed after they were computed.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    lake = platform.lake
    changes = persons.applied_changes(platform)
    return set(
        stale_sessions(
            ledger.filter(table=fact_events.TABLE.name),
            ledger.filter(table=activity_hours.TABLE.name),
            changes,
            lake.scan(REACHES).collect(),
            last_day,
            platform.settings.zone,
        )
    )


def _reaching(platform: Platform, day: Window, source: DeltaTable, whose: DeltaTable) -> pl.DataFrame:
    """All that a day's sessions are made of: the day's activity, what led up to it, and what goes on after it."""
    acted = _acted(platform, day, source, whose)
    parts, edge, step = [acted], day.start, _LOOK_BACK
    led = acted
    # A run that begins within a gap of the edge of what was read may have begun before it.
    while not (followed := _reaching_back(led, day.start, edge + SPEC.gap)).is_empty():
        before = _acted(platform, Window(edge - step, edge), source, whose, followed)
        parts.append(before)
        led = pl.concat([led.join(followed, on=_KEY, how="semi", nulls_equal=True), before])
        edge, step = edge - step, 2 * step
    going_on = pl.concat(parts).filter(pl.col("occurred_at") >= day.end - SPEC.gap).select(_KEY).unique()
    if not going_on.is_empty():
        after = Window(day.end, day.end + _LONGEST + timedelta(microseconds=1))
        parts.append(_acted(platform, after, source, whose, going_on))
    return pl.concat(parts)


def _acted(
    platform: Platform, window: Window, source: DeltaTable, whose: DeltaTable, of: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The activity of a window with the persons: of some persons and devices, or of all."""
    lake = platform.lake
    facts = lake.scan(fact_events.TABLE, window, source).select(_READ)
    active = facts.filter(~pl.col("event_name").is_in(platform.settings.passive_events))
    acted = joined(active, lake.scan(persons.TABLE, handle=whose).select(PERSONS.names())).drop("raw_id")
    if of is not None:
        acted = acted.join(of.lazy(), on=_KEY, how="semi", nulls_equal=True)
    return acted.collect(engine="streaming")


def _reaching_back(acted: pl.DataFrame, start: datetime, before: datetime) -> pl.DataFrame:
    """The persons and devices that act after a start in a run that began before some instant: `_KEY`."""
    at = pl.col("occurred_at")
    begins = (at - at.shift().over(_KEY) > SPEC.gap).fill_null(value=True)
    runs = acted.sort(*_KEY, "occurred_at").with_columns(run_started_at=pl.when(begins).then(at))
    return (
        runs.with_columns(pl.col("run_started_at").forward_fill().over(_KEY))
        .filter(at >= start, pl.col("run_started_at") < before)
        .select(_KEY)
        .unique()
    )


def _touches(rows: pl.DataFrame) -> str:
    """A digest of what conversions are attributed to: most computations of a day leave it as it was."""
    told = rows.filter(pl.col("campaign_at").is_not_null()).select(_TOUCH).sort("session_id")
    return hashlib.sha256(told.write_json().encode()).hexdigest()


def _reach(told: pl.DataFrame, day: Window) -> tuple[datetime, datetime]:
    """`since` and `until` of a day, out of its sessions and those that reach into it."""
    touching = told.filter(pl.col("started_at") < day.end, pl.col("ended_at") >= day.start)
    runs = [day.start, *touching["run_started_at"]]
    ends = touching.filter(pl.col("started_at") >= day.start)["ended_at"]
    after = [end + SPEC.gap + timedelta(microseconds=1) for end in ends]
    return min(runs) - SPEC.gap, max([day.end, *after])
