"""What is stale, and when it is computed again: pure comparisons of two ledgers."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.restatement import (
    Tier,
    due,
    ranges,
    settled_hours,
    stale_attributes,
    stale_attributions,
    stale_days,
    stale_histories,
    stale_hours,
    stale_sessions,
)

START = datetime(2026, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ZONE = ZoneInfo("UTC")
INSTANT = pl.Datetime("us", "UTC")


def touched(*rows: tuple[int, int]) -> pl.DataFrame:
    """(hour, version of silver)."""
    return pl.DataFrame(
        [(START + hour * HOUR, version) for hour, version in rows],
        schema={"event_hour": INSTANT, "silver_version": pl.Int64},
        orient="row",
    )


def computed(*rows: tuple[int, int, int, int], step: timedelta = HOUR) -> pl.DataFrame:
    """(first, last, version read, version made); computed an hour of the clock after each other."""
    return pl.DataFrame(
        [
            (START + first * step, START + (last + 1) * step, read, made, START + number * HOUR)
            for number, (first, last, read, made) in enumerate(rows)
        ],
        schema={
            "window_start": INSTANT,
            "window_end": INSTANT,
            "upstream_version": pl.Int64,
            "table_version": pl.Int64,
            "computed_at": INSTANT,
        },
        orient="row",
    )


def hours(*numbers: int) -> list[datetime]:
    return [START + n * HOUR for n in numbers]


def test_an_hour_touched_after_it_was_computed_is_stale() -> None:
    ledger = computed((0, 3, 10, 1), (2, 2, 12, 2))
    assert stale_hours(touched((0, 9), (1, 11), (2, 12), (3, 10), (5, 3)), ledger) == hours(1, 5)
    assert stale_hours(touched(), ledger) == []


def test_a_late_computation_from_an_older_version_does_not_hide_a_newer_one() -> None:
    assert stale_hours(touched((0, 12)), computed((0, 0, 12, 1), (0, 0, 10, 2))) == []


def settled(
    silver: pl.DataFrame, ledger: pl.DataFrame, *watermarks: int, read: pl.DataFrame | None = None
) -> list[tuple[datetime, int]]:
    """Of five closed hours those that are settled; each computation had read silver at a watermark, in hours."""
    seen = pl.Series("watermark", hours(*watermarks), dtype=INSTANT)
    closed = pl.Series(hours(*range(5)), dtype=INSTANT)
    done = ledger.clear() if read is None else read
    return settled_hours(closed, silver, ledger.with_columns(seen), done).rows()  # type: ignore[return-value]


def test_a_closed_hour_is_settled_when_it_was_computed_as_it_was_then() -> None:
    ledger = computed((0, 0, 10, 1), (1, 1, 10, 2), (2, 2, 10, 3))
    silver = touched((0, 9), (1, 11), (2, 11), (3, 10))
    told = settled(silver, ledger, 0, 2, 2)
    assert told == [
        (START, 1),  # the watermark was before its end, but nothing came since
        (START + HOUR, 2),  # what came since was late
        # hour 2 was open when it was computed, and more came; hour 3 was never computed
        (START + 4 * HOUR, -1),  # silver has nothing in it
    ]


def test_a_settled_hour_stays_settled_and_has_its_newest_version() -> None:
    silver = touched((0, 9))
    twice = computed((0, 1, 10, 1), (0, 0, 12, 5))
    for version in (9, 11, 13):
        assert settled(touched((0, 9), (0, version)), twice, 2, 3)[0] == (START, 5)
    assert settled(silver, twice.clear()) == [(hour, -1) for hour in hours(1, 2, 3, 4)]
    assert settled(touched(), twice.clear()) == [(hour, -1) for hour in hours(0, 1, 2, 3, 4)]
    # Nothing came between the computation of an open hour and its end; when something came, it had been read.
    early = computed((0, 0, 10, 1))
    assert settled(touched((0, 9)), early, 0)[0] == (START, 1)
    assert START not in dict(settled(touched((0, 11)), early, 0))
    assert settled(touched((0, 11)), early, 0, read=computed((0, 0, 1, 1)))[0] == (START, 1)


def changed(*rows: tuple[int, float, float, list[int], int]) -> pl.DataFrame:
    """(version of the dimension, since, until in hours, hours named, version of the facts looked into)."""
    return pl.DataFrame(
        [
            (change, START + since * HOUR, START + until * HOUR, hours(*named), looked)
            for change, since, until, named, looked in rows
        ],
        schema={
            "change": pl.Int64,
            "since": INSTANT,
            "until": INSTANT,
            "event_hours": pl.List(INSTANT),
            "facts_version": pl.Int64,
        },
        orient="row",
    )


def test_an_hour_that_a_change_named_is_stale_until_it_has_read_it() -> None:
    changes = changed((7, 0, 99, [1, 3], 5))
    assert stale_attributes(changes, computed((0, 4, 6, 4))) == hours(1, 3)
    assert stale_attributes(changes, computed((0, 4, 6, 4), (1, 1, 7, 6))) == hours(3)
    assert stale_attributes(changes, computed((0, 4, 6, 4), (1, 3, 9, 6))) == []
    assert stale_attributes(changes, computed((2, 2, 6, 4))) == []
    assert stale_attributes(changed((7, 0, 99, [], 5)), computed((0, 4, 6, 4))) == []


def test_an_hour_written_after_a_change_had_looked_is_stale_if_the_change_reaches_it() -> None:
    changes = changed((7, 1.5, 3, [], 5), (8, 50, 51, [], 5))
    assert stale_attributes(changes, computed((0, 4, 6, 6))) == hours(1, 2)
    assert stale_attributes(changes, computed((0, 4, 6, 5))) == []
    assert stale_attributes(changes, computed((0, 4, 7, 6))) == []


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(0, 9)), max_size=8),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)), max_size=6),
)
def test_stale_hours_of_facts_are_those_of_each_change_alone(
    drawn: list[tuple[int, int, int, int]], done: list[tuple[int, int, int]]
) -> None:
    """(change, since, length, facts looked into), in any order; (hour, version read, version made)."""
    changes = changed(*((change, since, since + length, [since], looked) for change, since, length, looked in drawn))
    ledger = {hour: (read, made) for hour, read, made in done}
    wanted = [
        hour
        for hour, (read, made) in sorted(ledger.items())
        if any(
            change > read and (hour == since or (made > looked and since <= hour < since + length))
            for change, since, length, looked in drawn
        )
    ]
    found = stale_attributes(changes, computed(*((hour, hour, *versions) for hour, versions in ledger.items())))
    assert found == hours(*wanted)


def test_an_hour_reaches_its_day_and_the_27_after() -> None:
    activity = computed((0, 0, 5, 7))
    days = [date(2026, 1, 10) + n * DAY for n in range(28)]
    assert stale_histories(activity, computed(step=DAY), date(2026, 3, 1), ZONE) == days
    assert stale_histories(activity, computed(step=DAY), date(2026, 1, 12), ZONE) == days[:3]
    done = computed((0, 27, 7, 1), step=DAY)
    assert stale_histories(activity, done, date(2026, 3, 1), ZONE) == []
    assert stale_histories(activity, computed((0, 27, 6, 1), step=DAY), date(2026, 1, 11), ZONE) == days[:2]


def test_an_hour_that_holds_a_midnight_belongs_to_two_days() -> None:
    activity = computed((18, 18, 1, 1))  # 18:00 to 19:00 UTC holds midnight of Kolkata
    days = stale_histories(activity, computed(), date(2026, 1, 11), ZoneInfo("Asia/Kolkata"))
    assert days == [date(2026, 1, 10), date(2026, 1, 11)]


def test_a_day_computed_before_the_one_above_it_is_stale() -> None:
    above = computed((0, 2, 1, 4), (1, 1, 1, 6), step=DAY)
    mine = computed((0, 2, 4, 1), step=DAY)
    assert stale_days(above, mine, ZONE) == [date(2026, 1, 11)]


def moved(*rows: tuple[int, int]) -> pl.DataFrame:
    """(day, resolution)."""
    return pl.DataFrame(
        [((START + number * DAY).date(), resolution) for number, resolution in rows],
        schema={"day": pl.Date, "resolution": pl.Int64},
        orient="row",
    )


def reaching(*rows: tuple[int, float, float, int, int, int]) -> pl.DataFrame:
    """(day, hours that it rests on, versions of facts, of activity and of persons)."""
    return pl.DataFrame(
        [
            ((START + number * DAY).date(), START + since * HOUR, START + until * HOUR, *versions)
            for number, since, until, *versions in rows
        ],
        schema={
            "day": pl.Date,
            "since": INSTANT,
            "until": INSTANT,
            "facts_version": pl.Int64,
            "activity_version": pl.Int64,
            "resolution": pl.Int64,
        },
        orient="row",
    )


def touched_on(day: int, version: int) -> pl.DataFrame:
    """A day of sessions, and the version with which its campaigns last changed."""
    return pl.DataFrame({"day": [(START + day * DAY).date()], "touches_version": [version]})


def test_a_day_of_sessions_follows_the_hours_that_its_runs_reach() -> None:
    none, last = computed(), date(2026, 2, 1)
    # The second day rests on what came from half past eight on the first, until half past one on the third.
    one = reaching((1, 20.5, 49.5, 7, 7, 3))

    def found(hour: int, version: int = 8, activity: int = 7, resolution: int = 3, day: int = 1) -> list[int]:
        facts = computed((24, 24, 1, 7), (hour, hour, 1, version))
        hours_of_activity = computed((hour, hour, 1, activity))
        days = stale_sessions(facts, hours_of_activity, moved((day, resolution)), one, last, ZONE)
        return [(stale - START.date()).days for stale in days]

    assert [hour for hour in range(16, 54) if 1 in found(hour)] == list(range(20, 50))
    assert [hour for hour in range(16, 54) if 1 in found(hour, version=7, activity=8)] == list(range(20, 50))
    assert [day for day in range(-1, 4) if 1 in found(30, 7, resolution=4, day=day)] == [0, 1, 2]
    assert (found(30, 7), found(10, 7)) == ([], [0])  # a day that was never computed is stale if it has facts
    assert stale_sessions(computed((24, 24, 1, 8)), none, moved(), one, date(2026, 1, 10), ZONE) == []


def test_a_day_of_conversions_follows_its_facts_and_the_campaigns_before() -> None:
    read = {"gold/fact_events": 5, "gold/sessions": 6, "silver/persons": 2}
    mine = pl.concat(
        computed((0, 40, version, 1), step=DAY).with_columns(upstream=pl.lit(name)) for name, version in read.items()
    )
    facts, touches, changes = computed((30, 30, 1, 5)), touched_on(1, 6), moved((1, 2))
    last = date(2026, 1, 14)

    def found(facts: pl.DataFrame, touches: pl.DataFrame, changes: pl.DataFrame) -> list[int]:
        days = stale_attributions(facts, touches, changes, mine, 2, last, ZONE)
        return [(day - START.date()).days for day in days]

    assert found(facts, touches, changes) == []
    assert found(computed((30, 30, 1, 6)), touches, changes) == [1]
    assert found(facts, touched_on(1, 7), changes) == [1, 2, 3]
    assert found(facts, touches, moved((1, 3))) == [1]
    assert found(facts, touched_on(4, 7), changes) == [4]
    assert found(facts, touched_on(-2, 7), moved((-1, 3))) == [0]  # what was never computed and has no facts is not


def test_the_tier_decides_how_soon() -> None:
    now = START + timedelta(days=10)
    tiers = (Tier("open", DAY, timedelta(minutes=2)), Tier("old", 99 * DAY, DAY))
    recent, old, never = now - HOUR, now - 5 * DAY, now - 6 * DAY
    ledger = pl.DataFrame(
        {
            "window_start": [recent, old],
            "window_end": [recent + HOUR, old + HOUR],
            "computed_at": [now - timedelta(minutes=3), now - 2 * HOUR],
        }
    )
    assert due([never, old, recent], ledger, now, tiers) == [never, recent]
    assert due([old], ledger, now + DAY, tiers) == [old]


@given(st.lists(st.integers(0, 400), unique=True), st.integers(1, 8), st.integers(1, 60))
def test_ranges_cover_every_start_and_keep_their_bounds(numbers: list[int], gap: int, longest: int) -> None:
    found = ranges(hours(*numbers), gap * HOUR, longest * HOUR)
    for start in hours(*numbers):
        assert sum(first <= start <= last for first, last in found) == 1
    assert all(last - first <= longest * HOUR for first, last in found)
    assert all(first in hours(*numbers) and last in hours(*numbers) for first, last in found)
