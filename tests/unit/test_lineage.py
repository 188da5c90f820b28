"""What the ledgers name as the cause of a change: pure comparisons, worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.lineage import (
    LOG,
    Basis,
    Lineage,
    log_of_dimension,
    log_of_events,
    log_of_persons,
)
from platform_assets.ops.computations import TABLE as LEDGER
from platform_assets.publication import Reach
from platform_assets.table import TIMESTAMP

START = datetime(2026, 1, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UTC_ZONE = ZoneInfo("UTC")
DAILY, PERSONS, HOURS = "gold/daily", "silver/persons", "silver/hours"
FACTS = "gold/facts"
EVENTS, USERS = "silver/events", "silver/users"
REACH = {DAILY: Reach(before=6)}


def hour(number: float, hours: float = 1) -> Window:
    return Window(START + number * HOUR, START + (number + hours) * HOUR)


def day(number: int) -> Window:
    return hour(24 * number, 24)


def computed(*rows: tuple[str, Window, str, int, int] | tuple[str, Window, str, int, int, int]) -> pl.DataFrame:
    """(table, window, upstream, version read, version made[, definition])."""
    found = [
        {
            "table": table,
            "window_start": window.start,
            "window_end": window.end,
            "upstream": upstream,
            "upstream_version": read,
            "table_version": made,
            "definition_version": rest[0] if rest else 1,
            "watermark": START + made * HOUR,
            "row_count": 0,
            "computed_at": START + number * HOUR,
            "computed_date": START.date(),
        }
        for number, (table, window, upstream, read, made, *rest) in enumerate(rows)
    ]
    return pl.DataFrame(found, schema=LEDGER.schema)


def touched(*rows: tuple[float, int] | tuple[float, int, int]) -> pl.DataFrame:
    """(hour, version of silver[, rows that went]); one row came."""
    return log_of_events(
        pl.DataFrame(
            [(START + number * HOUR, version, 1, rest[0] if rest else 0) for number, version, *rest in rows],
            schema={"event_hour": TIMESTAMP, "silver_version": pl.Int64, "added": pl.Int64, "removed": pl.Int64},
            orient="row",
        )
    )


def resolved(*rows: tuple[int, int]) -> pl.DataFrame:
    """(day, resolution)."""
    days = [(date(2026, 1, 10) + number * DAY, resolution) for number, resolution in rows]
    frame = pl.DataFrame(days, schema={"day": pl.Date, "resolution": pl.Int64}, orient="row")
    return log_of_persons(frame, UTC_ZONE)


def lineage(ledger: pl.DataFrame, **logs: pl.DataFrame) -> Lineage:
    given = {f"silver/{name}": log for name, log in logs.items()}
    return Lineage(ledger, {EVENTS: LOG.to_frame(), PERSONS: LOG.to_frame(), **given}, REACH, UTC_ZONE)


# The tenth day reads a week of hours. Hours 0 and 240 are of day 0 and day 10, each computed twice.
BEGUN = (
    (HOURS, hour(24 * 9), EVENTS, 1, 1),
    (HOURS, hour(24 * 10), EVENTS, 1, 2),
    (DAILY, day(10), HOURS, 2, 1),
    (DAILY, day(10), PERSONS, 1, 1),
)
BEFORE, AFTER = Basis(1), Basis(2)


def causes(
    ledger: pl.DataFrame,
    told_at: datetime | None = START + 300 * HOUR,
    within: Window | None = None,
    **logs: pl.DataFrame,
) -> tuple[str, ...]:
    return lineage(ledger, **logs).causes(DAILY, day(10), BEFORE, AFTER, told_at, within)


RESTATED = computed(
    *BEGUN,
    (HOURS, hour(24 * 9), EVENTS, 5, 3),
    (DAILY, day(10), HOURS, 3, 2),
    (DAILY, day(10), PERSONS, 1, 2),
)


def test_events_that_came_into_an_hour_that_was_passed_are_late() -> None:
    assert causes(RESTATED, events=touched((216, 1), (216, 4))) == ("late events",)


def test_events_of_an_hour_that_was_open_are_new() -> None:
    log = touched((216, 4))
    assert causes(RESTATED, told_at=START + 217 * HOUR, events=log) == ("late events",)
    assert causes(RESTATED, told_at=START + 217 * HOUR - timedelta(seconds=1), events=log) == ("new events",)
    assert causes(RESTATED, told_at=None, events=log) == ("new events",)


def test_what_is_out_of_reach_is_no_cause() -> None:
    ledger = pl.concat([RESTATED, computed((HOURS, hour(24 * 3), EVENTS, 5, 3), (HOURS, hour(24 * 4), EVENTS, 5, 3))])
    assert causes(ledger, events=touched((24 * 4, 4))) == ("late events",)
    assert causes(ledger, events=touched((24 * 3, 4))) == ()
    assert causes(ledger, events=touched((24 * 11, 4))) == ()
    assert causes(ledger, within=day(10), events=touched((24 * 4, 4))) == ()
    assert causes(ledger, within=day(10), events=touched((24 * 10, 4))) == ("late events",)


def test_what_was_known_before_is_no_cause() -> None:
    """Hour 240 was computed from version 1 of silver, and so had what that version brought."""
    assert causes(RESTATED, events=touched((240, 1), (216, 1))) == ()


def test_what_silver_touched_but_nobody_computed_yet_waits_where_another_cause_is_on_record() -> None:
    log = touched((216, 4), (240, 6))
    assert causes(RESTATED, told_at=START + 217 * HOUR, events=log) == ("late events",)


def test_what_came_since_counts_where_nothing_is_on_record() -> None:
    """A process that died between its commit and its record had read it: the row tells no more than that it changed."""
    ledger = computed(*BEGUN, (DAILY, day(10), HOURS, 2, 2), (DAILY, day(10), PERSONS, 1, 2))
    assert causes(ledger, events=touched((216, 4))) == ("late events",)
    assert causes(ledger, events=touched((216, 1))) == ()


def test_rows_that_were_only_written_again_are_no_cause_and_rows_that_went_are_a_backfill() -> None:
    assert causes(RESTATED, events=touched((216, 4, 1))) == ()
    assert causes(RESTATED, events=touched((216, 4, 3))) == ("backfill",)
    assert causes(RESTATED, events=touched((216, 4, 3), (216, 5))) == ("late events", "backfill")


def test_a_resolution_that_changed_a_day_within_reach() -> None:
    ledger = computed(*BEGUN, (DAILY, day(10), HOURS, 2, 2), (DAILY, day(10), PERSONS, 3, 2))
    assert causes(ledger, persons=resolved((4, 2))) == ("identity merge",)
    assert causes(ledger, persons=resolved((10, 3))) == ("identity merge",)
    assert causes(ledger, persons=resolved((3, 2), (11, 2), (4, 1))) == ()
    assert causes(ledger, within=day(10), persons=resolved((4, 2))) == ()


def test_several_causes_have_one_order() -> None:
    ledger = computed(
        *BEGUN,
        (HOURS, hour(24 * 9), EVENTS, 5, 3, 2),
        (DAILY, day(10), HOURS, 3, 2),
        (DAILY, day(10), PERSONS, 2, 2),
    )
    found = causes(ledger, persons=resolved((9, 2)), events=touched((216, 4)))
    assert found == ("late events", "identity merge", "definition change")


def test_another_definition_of_what_is_above() -> None:
    ledger = computed(*BEGUN, (HOURS, hour(24 * 9), EVENTS, 1, 3, 2), (DAILY, day(10), HOURS, 3, 2))
    assert causes(ledger) == ("definition change",)
    same = computed(*BEGUN, (HOURS, hour(24 * 9), EVENTS, 1, 3, 1), (DAILY, day(10), HOURS, 3, 2))
    assert causes(same) == ()
    first = computed(*BEGUN, (HOURS, hour(24 * 8), EVENTS, 1, 3, 2), (DAILY, day(10), HOURS, 3, 2))
    assert causes(first) == (), "an hour that was never computed had no definition before"


def dimension(*rows: tuple[int, float, float, list[float], int]) -> pl.DataFrame:
    """(change, since, until, hours named, version of the facts looked into)."""
    return log_of_dimension(
        pl.DataFrame(
            [
                (change, START + since * HOUR, START + until * HOUR, [START + n * HOUR for n in named], looked)
                for change, since, until, named, looked in rows
            ],
            schema={
                "change": pl.Int64,
                "since": TIMESTAMP,
                "until": TIMESTAMP,
                "event_hours": pl.List(TIMESTAMP),
                "facts_version": pl.Int64,
            },
            orient="row",
        ),
        FACTS,
    )


def test_a_dimension_that_changed_in_an_hour_that_it_named() -> None:
    facts = FACTS
    ledger = computed(
        (facts, hour(240), USERS, 1, 1),
        (DAILY, day(10), facts, 1, 1),
        (facts, hour(240), USERS, 2, 2),
        (DAILY, day(10), facts, 2, 2),
    )
    assert causes(ledger, users=dimension((2, 0, 999, [240], 1))) == ("dimension change",)
    assert causes(ledger, users=dimension((2, 0, 999, [241], 1))) == ()
    assert causes(ledger, users=dimension((1, 0, 999, [240], 1))) == ()
    # Hours written after the change had looked for them are reached by its span alone.
    assert causes(ledger, users=dimension((2, 0, 999, [], 0))) == ("dimension change",)
    assert causes(ledger, users=dimension((2, 241, 999, [], 0))) == ()


def test_a_dimension_that_changed_for_a_table_that_it_did_not_look_into() -> None:
    slices = "gold/slices"
    ledger = computed(
        (slices, day(10), USERS, 1, 1),
        (DAILY, day(10), slices, 1, 1),
        (slices, day(10), USERS, 2, 2),
        (DAILY, day(10), slices, 2, 2),
    )
    assert causes(ledger, users=dimension((2, 245, 999, [], 7))) == ("dimension change",), "7 is no version of slices"
    assert causes(ledger, users=dimension((2, 264, 999, [], 0))) == ()


def test_a_table_that_reads_a_table_that_reads_a_table() -> None:
    """Each day reads its own hours; the number reads a week of days."""
    ledger = computed(
        (HOURS, hour(24 * 9), EVENTS, 1, 1),
        ("silver/days", day(9), HOURS, 1, 1),
        (DAILY, day(10), "silver/days", 1, 1),
        (HOURS, hour(24 * 9), EVENTS, 5, 2),
        ("silver/days", day(9), HOURS, 2, 2),
        (DAILY, day(10), "silver/days", 2, 2),
    )
    assert causes(ledger, events=touched((216, 4))) == ("late events",)
    assert causes(ledger, events=touched((215, 4))) == ()


def test_what_a_row_told_goes_before_what_is_on_record() -> None:
    """The record of the new computation is not written yet; the row says what it had read."""
    ledger = computed(*BEGUN, (HOURS, hour(24 * 9), EVENTS, 5, 3))
    found = lineage(ledger, events=touched((216, 4), (240, 9)))
    told = Basis(2, {HOURS: 3})
    assert found.causes(DAILY, day(10), Basis(1, {HOURS: 2}), told, START + 217 * HOUR, None) == ("late events",)


def test_sources_are_the_newest_version_of_each_table_on_the_way() -> None:
    found = lineage(RESTATED)
    assert found.sources(DAILY, day(10), Basis(1)) == {DAILY: 1, HOURS: 2, EVENTS: 1, PERSONS: 1}
    assert found.sources(DAILY, day(10), Basis(2)) == {DAILY: 2, HOURS: 3, EVENTS: 5, PERSONS: 1}
    assert found.sources(DAILY, day(10), Basis(2, {HOURS: 2})) == {DAILY: 2, HOURS: 2, EVENTS: 1, PERSONS: 1}
    assert found.sources(DAILY, day(11), Basis(2)) == {DAILY: 2}


def test_watermark_and_definition_of_the_newest_computation() -> None:
    found = lineage(RESTATED)
    assert found.watermark(DAILY, day(10), 1) == START + 1 * HOUR
    assert found.watermark(DAILY, day(10), 7) == START + 2 * HOUR
    assert found.watermark(DAILY, day(11), 7) is None
    assert found.definition(DAILY, day(10), 7) == 1
    assert found.definition(DAILY, day(10), 0) is None
