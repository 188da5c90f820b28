"""What is stale: found in the lake's ledgers, never in Dagster's events.

A kill between a commit and anything that Dagster hears of it loses nothing here: silver's log says which hours
were touched (`silver/touched_hours`, derived from that log), each computation says what it was computed from
(`ops/computations`), and what lies between the two is stale. All functions are pure; the clock is an argument.

The chain: hours of `silver/activity_hours` and `silver/identity_links` follow silver; days of `gold/person_days` follow
the hours of activity, each day the 28 days up to it, and the persons that those days' ids belong to; days of
`gold/active_users` follow person-days, and their own finality. Hours of `gold/fact_events` follow silver, and the
versions of users and products. Days of `gold/sessions` follow the hours of facts that their runs reach, and persons;
days of `gold/conversions` the hours of facts, and the sessions of 30 days before. `gold/person_day_slices` and
`gold/active_users_by_slice` are as person-days and active users, by slice, and follow the versions of users, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.semantics.activity import HISTORY_DAYS
from platform_assets.semantics.watermark import is_closed, is_final

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Tier:
    """How eagerly partitions of some age are restated.

    Attributes:
        name: For tags and logs.
        reaches: How far back from now it goes; partitions older than that belong to a later tier.
        every: The least time between two computations of one partition.
    """

    name: str
    reaches: timedelta
    every: timedelta


TIERS = (
    Tier("open day", timedelta(days=1), timedelta(minutes=2)),
    Tier("recent", timedelta(days=8), timedelta(hours=1)),
    Tier("older", timedelta(days=36_500), timedelta(days=1)),
)
"""The open day is at most five minutes old; recent days are restated hourly, older ones daily."""


def stale_hours(touched: pl.DataFrame, computed: pl.DataFrame) -> list[datetime]:
    """Hours that silver touched after they were last computed, or that were never computed.

    Args:
        touched: ``event_hour``, ``silver_version``.
        computed: Computations of the table: ``window_start``, ``window_end``, ``upstream_version``.

    Returns:
        Starts of UTC hours, in order.
    """
    newest = touched.group_by("event_hour").agg(pl.col("silver_version").max())
    done = _by_hour(computed).group_by("event_hour").agg(pl.col("upstream_version").max())
    stale = newest.join(done, on="event_hour", how="left").filter(
        pl.col("upstream_version").is_null() | (pl.col("upstream_version") < pl.col("silver_version"))
    )
    return stale["event_hour"].sort().to_list()


def settled_hours(closed: pl.Series, touched: pl.DataFrame, computed: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
    """Of hours that are closed, those that a table rebuilt from silver has as they were when they closed, or later.

    Silver touched them no more since they were computed, or never; or they were computed when they were closed: where
    late events trickle in, an hour may always be stale. One that was settled stays so: it was read as such.

    Args:
        closed: Starts of UTC hours that the watermark had passed at the version of silver up to which `touched` tells.
        touched: ``event_hour``, ``silver_version``.
        computed: Computations of the table from silver: windows, both versions, and the ``watermark`` of what was read.
        read: Computations from settled hours of the table: windows.

    Returns:
        ``event_hour``, in order, and ``version``: that of the table which made it, -1 where silver has nothing in it.
    """
    behind = pl.Series(stale_hours(touched, computed), dtype=closed.dtype)
    done = (
        _by_hour(computed)
        .group_by("event_hour")
        .agg(
            version=pl.col("table_version").max(),
            was_closed=(pl.col("watermark") >= pl.col("event_hour") + _HOUR).any(),
        )
    )
    told = closed.to_frame("event_hour").join(done, on="event_hour", how="left", maintain_order="left")
    hour, known = pl.col("event_hour"), _by_hour(read)["event_hour"]
    is_settled = pl.col("was_closed") | ~hour.is_in(behind.implode()) | hour.is_in(known.implode())
    return told.filter(is_settled).select("event_hour", pl.col("version").fill_null(-1))


HISTORY = range(HISTORY_DAYS)
"""The days, counted from a day of activity, whose 28-day history it is in."""


def stale_histories(
    hours: pl.DataFrame, computed: pl.DataFrame, last_day: date, zone: ZoneInfo, reach: range = HISTORY
) -> list[date]:
    """Days that read an hour which was computed after they were.

    Args:
        hours: Computations of the hours' table: windows and ``table_version``.
        computed: Computations of the days' table from them: windows and ``upstream_version``.
        last_day: The open day; there is nothing after it.
        zone: The reporting timezone.
        reach: Which days read an hour, counted from its own day: of a table whose days look three days ahead, those
            from -3 to 0.
    """
    newest: dict[date, int] = {}
    for start, version in _by_hour(hours).group_by("event_hour").agg(pl.col("table_version").max()).iter_rows():
        # An hour that holds a midnight of a zone with half-hour offsets belongs to two days.
        for day in {_day(start, zone), _day(start + _HOUR - timedelta(microseconds=1), zone)}:
            newest[day] = max(newest.get(day, -1), version)
    return _behind(_reached(newest, last_day, reach), _by_day(computed, "upstream_version", zone))


def stale_identities(
    changes: pl.DataFrame, computed: pl.DataFrame, last_day: date, zone: ZoneInfo, reach: range = HISTORY
) -> list[date]:
    """Days that read a day which changed hands with a later resolution than they know.

    Args:
        changes: `silver/person_changes` up to the resolution that holds: ``day``, ``resolution``.
        computed: Computations of the days' table from `silver/persons`: windows and ``upstream_version``.
        last_day: The open day; there is nothing after it.
        zone: The reporting timezone.
        reach: As in `stale_histories`.
    """
    newest = dict(changes.group_by("day").agg(pl.col("resolution").max()).iter_rows())
    return _behind(_reached(newest, last_day, reach), _by_day(computed, "upstream_version", zone))


def stale_attributes(changes: pl.DataFrame, computed: pl.DataFrame) -> list[datetime]:
    """Hours of facts that would read other attributes of a dimension than they did.

    A change that an hour did not know makes it stale where the change named it; and also where the hour was written
    after the change had looked for facts, if the change reaches it at all. See `changes.touching`.

    Args:
        changes: `silver/dimension_changes` of the dimension, up to the version that it has: ``change``, ``since``,
            ``until``, ``event_hours``, ``facts_version``.
        computed: Computations of the facts from the dimension: ``window_start``, ``window_end``, ``upstream_version``,
            ``table_version``.

    Returns:
        Starts of UTC hours, in order. An hour that was never computed is none of them.
    """
    hours = (
        _by_hour(computed)
        .group_by("event_hour")
        .agg(read=pl.col("upstream_version").max(), made=pl.col("table_version").max())
        .with_columns(hour_end=pl.col("event_hour") + _HOUR)
    )
    newest = (
        changes.select("change", event_hour="event_hours")
        .explode("event_hour")
        .drop_nulls("event_hour")
        .group_by("event_hour")
        .agg(pl.col("change").max())
    )
    named = hours.join(newest, on="event_hour").filter(pl.col("change") > pl.col("read"))
    # In order of the changes, those that an hour does not know begin at one place and those that it was written after
    # end at another: few lie between. To compare every hour with every change would not fit into memory.
    ordered = changes.sort("change").with_columns(least=pl.col("facts_version").cum_min(reverse=True))
    between = hours.with_columns(
        place=pl.int_ranges(
            ordered["change"].search_sorted(hours["read"], side="right"),
            ordered["least"].search_sorted(hours["made"], side="left"),
        )
    ).explode("place")
    unseen = between.join(ordered.with_row_index("place").cast({"place": pl.Int64}), on="place").filter(
        pl.col("facts_version") < pl.col("made"),
        pl.col("since") < pl.col("hour_end"),
        pl.col("until") > pl.col("event_hour"),
    )
    return pl.concat([named["event_hour"], unseen["event_hour"]]).unique().sort().to_list()


def ripened(
    computed: pl.DataFrame,
    watermark: datetime | None,
    allowed_lateness: timedelta | None,
    ends: Callable[[date], Iterable[datetime]],
    zone: ZoneInfo,
) -> list[date]:
    """Days that were computed as open or not final, and by now are more.

    Args:
        computed: Computations of the table: windows, ``watermark`` (as of then) and ``computed_at``.
        watermark: Of the stream, now.
        allowed_lateness: Of the stream; None where no day of it becomes final.
        ends: When the rows of a day settle: all has happened that they are about.
        zone: The reporting timezone.
    """
    known: dict[date, tuple[datetime, datetime | None]] = {}
    for start, end, seen, at in computed.select("window_start", "window_end", "watermark", "computed_at").iter_rows():
        day = _day(start, zone)
        while day <= _day(end - timedelta(microseconds=1), zone):
            if day not in known or known[day][0] < at:
                known[day] = (at, seen)
            day += timedelta(days=1)

    def flags(of_day: list[datetime], at: datetime | None) -> list[tuple[bool, bool]]:
        lateness = allowed_lateness
        return [(is_closed(end, at), lateness is not None and is_final(end, at, lateness)) for end in of_day]

    held = ((day, [*ends(day)], seen) for day, (_, seen) in known.items())
    return sorted(day for day, of_day, seen in held if flags(of_day, seen) != flags(of_day, watermark))


def stale_attributes_of_days(
    changes: pl.DataFrame, computed: pl.DataFrame, last_day: date, zone: ZoneInfo
) -> list[date]:
    """Days whose 28-day history reaches a day's end at which a dimension says otherwise than when they were computed.

    Args:
        changes: `silver/dimension_changes` of the dimension, up to the version that it has: ``change``, ``since``,
            ``until``.
        computed: Computations of the table from the dimension: windows and ``upstream_version``.
        last_day: The open day; there is nothing after it.
        zone: The reporting timezone.

    Returns:
        Days, in order. A day that was never computed is none of them.
    """
    done = {day: version for day, version in _by_day(computed, "upstream_version", zone).items() if day <= last_day}
    days = sorted({day - timedelta(days=ago) for day in done for ago in range(HISTORY_DAYS)})
    if not days or changes.is_empty():
        return []
    ends = pl.DataFrame({"day": days, "day_end": [day_end(day, zone) for day in days]})
    # Many changes are of the same days: the newest of those tells.
    first, last = (ends["day_end"].search_sorted(changes[name], side="left") for name in ("since", "until"))
    newest = changes.select("change", first=first, last=last).group_by("first", "last").agg(pl.col("change").max())
    reached = newest.join_where(
        ends.with_row_index("place"), pl.col("place") >= pl.col("first"), pl.col("place") < pl.col("last")
    )
    wanted = dict(reached.group_by("day").agg(pl.col("change").max()).iter_rows())
    return _behind({day: version for day, version in _reached(wanted, last_day, HISTORY).items() if day in done}, done)


def day_end(day: date, zone: ZoneInfo) -> datetime:
    """The last instant of a day, to the microsecond, UTC: what is known at it is as of the day's end."""
    return Window.of_days(day, day, zone).end - timedelta(microseconds=1)


def stale_days(upstream: pl.DataFrame, computed: pl.DataFrame, zone: ZoneInfo) -> list[date]:
    """Days whose upstream day was computed after they were.

    Args:
        upstream: Computations of the table above: windows and ``table_version``.
        computed: Computations of the table: windows and ``upstream_version``.
        zone: The reporting timezone.
    """
    return _behind(_by_day(upstream, "table_version", zone), _by_day(computed, "upstream_version", zone))


def stale_sessions(
    facts: pl.DataFrame,
    activity: pl.DataFrame,
    changes: pl.DataFrame,
    reaches: pl.DataFrame,
    last_day: date,
    zone: ZoneInfo,
) -> list[date]:
    """Days whose sessions rest on an hour of facts, or on a day that changed hands, that is newer than they are.

    What a day rests on it wrote down itself: anything that comes to it, or goes, is within a gap of the runs that it
    had. An hour of activity that is newer counts, too: a resolution that came before it did not see whose events moved.

    Args:
        facts: Computations of `gold/fact_events`: windows and ``table_version``.
        activity: Computations of `silver/activity_hours`: windows and ``table_version``.
        changes: `silver/person_changes` up to the resolution that holds: ``day``, ``resolution``.
        reaches: `ops/session_reaches`.
        last_day: The open day; there is nothing after it.
        zone: The reporting timezone.

    Returns:
        Days in order; among them those that have facts and were never computed.
    """
    of_facts, of_activity = (
        dict(_by_hour(computed).group_by("event_hour").agg(pl.col("table_version").max()).iter_rows())
        for computed in (facts, activity)
    )
    of_persons = dict(changes.group_by("day").agg(pl.col("resolution").max()).iter_rows())
    found = {
        day for hour in of_facts for day in (_day(hour, zone), _day(hour + _HOUR - timedelta(microseconds=1), zone))
    }
    for row in reaches.iter_rows(named=True):
        since, until = row["since"], row["until"]
        first = since.replace(minute=0, second=0, microsecond=0)
        hours = [first + number * _HOUR for number in range(-(-(until - first) // _HOUR))]
        last = _day(until - timedelta(microseconds=1), zone)
        days = [_day(since, zone) + timedelta(days=n) for n in range((last - _day(since, zone)).days + 1)]
        is_behind = (
            any(of_facts.get(hour, -1) > row["facts_version"] for hour in hours)
            or any(of_activity.get(hour, -1) > row["activity_version"] for hour in hours)
            or any(of_persons.get(day, -1) > row["resolution"] for day in days)
        )
        (found.add if is_behind else found.discard)(row["day"])
    return sorted(day for day in found if day <= last_day)


def stale_attributions(
    facts: pl.DataFrame,
    touches: pl.DataFrame,
    changes: pl.DataFrame,
    computed: pl.DataFrame,
    look_back_days: int,
    last_day: date,
    zone: ZoneInfo,
) -> list[date]:
    """Days whose conversions changed, or whose touches did, after they were computed.

    Of those never computed, only days with facts are stale.

    Args:
        facts: Computations of `gold/fact_events`: windows and ``table_version``.
        touches: `ops/session_reaches`: ``day``, ``touches_version``.
        changes: `silver/person_changes` up to the resolution that holds: ``day``, ``resolution``.
        computed: Computations of `gold/conversions`: windows, ``upstream`` and ``upstream_version``.
        look_back_days: How many days after their own sessions count.
        last_day: The open day; there is nothing after it.
        zone: The reporting timezone.
    """
    of_persons = dict(changes.group_by("day").agg(pl.col("resolution").max()).iter_rows())
    of_sessions = dict(touches.select("day", "touches_version").iter_rows())
    wanted = {
        "gold/fact_events": _reached(_by_day(facts, "table_version", zone), last_day, range(1)),
        "gold/sessions": _reached(of_sessions, last_day, range(look_back_days + 1)),
        "silver/persons": _reached(of_persons, last_day, range(1)),
    }
    found = set()
    for upstream, newest in wanted.items():
        done = _by_day(computed.filter(upstream=upstream), "upstream_version", zone)
        # A day without facts has nothing that could be attributed otherwise.
        known = {day: version for day, version in newest.items() if day in done or upstream == "gold/fact_events"}
        found |= set(_behind(known, done))
    return sorted(found)


def due(
    starts: Sequence[datetime], computed: pl.DataFrame, now: datetime, tiers: Sequence[Tier] = TIERS
) -> list[datetime]:
    """Of some stale partitions, those whose tier allows to compute them again now.

    Args:
        starts: Starts of stale partitions.
        computed: Computations of the table: windows and ``computed_at``.
        now: The clock.
        tiers: From the newest to the oldest partitions.
    """
    last = list(computed.select("window_start", "window_end", "computed_at").iter_rows())
    allowed = []
    for start in starts:
        tier = next((t for t in tiers if now - start <= t.reaches), tiers[-1])
        times = [at for first, end, at in last if first <= start < end]
        if not times or now - max(times) >= tier.every:
            allowed.append(start)
    return allowed


def ranges(starts: Iterable[datetime], gap: timedelta, longest: timedelta) -> list[tuple[datetime, datetime]]:
    """Starts of partitions as (first, last) of a few ranges.

    To start a run costs more than to compute some partitions once more: so near ones share a range, and what lies
    between them is computed, too.

    Args:
        starts: Starts of stale partitions.
        gap: Starts at most this far apart share a range.
        longest: The most that the starts of one range may be apart.
    """
    found: list[tuple[datetime, datetime]] = []
    for start in sorted(starts):
        if found and start - found[-1][1] <= gap and start - found[-1][0] <= longest:
            found[-1] = (found[-1][0], start)
        else:
            found.append((start, start))
    return found


def _reached(newest: dict[date, int], last_day: date, reach: range) -> dict[date, int]:
    """The versions that days must know of, when each day's is to be known in its reach."""
    wanted: dict[date, int] = {}
    for day, version in newest.items():
        for away in reach:
            reached = day + timedelta(days=away)
            if reached > last_day:
                break
            wanted[reached] = max(wanted.get(reached, -1), version)
    return wanted


def _by_hour(computed: pl.DataFrame) -> pl.DataFrame:
    return (
        computed.with_columns(
            event_hour=pl.datetime_ranges("window_start", "window_end", "1h", closed="left", time_zone="UTC")
        )
        .explode("event_hour")
        .drop_nulls("event_hour")
    )


def _by_day(computed: pl.DataFrame, version: str, zone: ZoneInfo) -> dict[date, int]:
    newest: dict[date, int] = {}
    for start, end, value in computed.select("window_start", "window_end", version).iter_rows():
        day = _day(start, zone)
        while day <= _day(end - timedelta(microseconds=1), zone):
            newest[day] = max(newest.get(day, -1), value)
            day += timedelta(days=1)
    return newest


def _behind(wanted: dict[date, int], done: dict[date, int]) -> list[date]:
    return sorted(day for day, version in wanted.items() if done.get(day, -1) < version)


def _day(instant: datetime, zone: ZoneInfo) -> date:
    return instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(zone).date()
