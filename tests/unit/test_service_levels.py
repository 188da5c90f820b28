"""What a week's service level is: pure, worked by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from partitions import Partitions, Window
from platform_assets.quality.service_levels import looks_of, promises_of
from platform_assets.semantics.service_levels import LOOKS, PROMISES, service_levels
from resources.settings import Settings

ZULU, BERLIN, KOLKATA = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
MONDAY = datetime(2026, 2, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEK = 7 * DAY
LEVEL = timedelta(minutes=30)

Look = tuple[str, datetime, bool, datetime]


def report(
    looks: list[Look],
    now: datetime,
    zone: ZoneInfo = ZULU,
    grain: str = "hour",
    level: timedelta = LEVEL,
    objective: float = 0.99,
) -> dict[date, dict[str, object]]:
    """What is told of table ``t``, by week."""
    promises = pl.DataFrame([("t", grain, level, objective)], schema=PROMISES, orient="row")
    found = service_levels(pl.DataFrame(looks, schema=LOOKS, orient="row"), promises, zone, now)
    assert found.height == found["week"].n_unique()
    return {row["week"]: row for row in found.iter_rows(named=True)}


def hourly(first: datetime, hours: int, missed: tuple[int, ...] = (), skipped: tuple[int, ...] = ()) -> list[Look]:
    """Looks at each hour when it falls due, by schedule: ten minutes after."""
    return [
        ("t", first + n * HOUR, n not in missed, first + (n + 1) * HOUR + LEVEL + timedelta(minutes=10))
        for n in range(hours)
        if n not in skipped
    ]


def test_a_whole_week_by_hand() -> None:
    told = report(hourly(MONDAY, 168, missed=(5, 100)), MONDAY + WEEK + HOUR)[date(2026, 2, 2)]
    assert (told["partitions"], told["due"], told["met"], told["missed"], told["unjudged"]) == (168, 168, 166, 2, 0)
    assert told["attained"] == pytest.approx(166 / 168)
    assert told["budget_left"] == pytest.approx(1 - 2 / 1.68)  # 1.68 hours of the week may be missed
    assert (told["is_open"], told["week_name"]) == (False, "2026-W06")


def test_an_open_week_has_the_budget_of_the_whole() -> None:
    told = report(hourly(MONDAY, 10, missed=(3,)), MONDAY + 11 * HOUR)[date(2026, 2, 2)]
    assert (told["partitions"], told["due"], told["met"], told["missed"]) == (168, 10, 9, 1)
    assert told["budget_left"] == pytest.approx(1 - 1 / 1.68)
    assert told["is_open"]


def test_the_first_look_after_it_fell_due_counts() -> None:
    due = MONDAY + HOUR + LEVEL
    early: Look = ("t", MONDAY, True, due - timedelta(seconds=1))
    looks = [early, ("t", MONDAY, False, due), ("t", MONDAY, True, due + HOUR)]
    told = report(looks, due + 2 * HOUR)[date(2026, 2, 2)]
    assert (told["due"], told["met"], told["missed"], told["unjudged"]) == (3, 0, 1, 2)


def test_a_partition_at_which_nobody_looked_is_neither() -> None:
    told = report(hourly(MONDAY, 24, skipped=(7, 8, 9)), MONDAY + DAY + HOUR)[date(2026, 2, 2)]
    assert (told["due"], told["met"], told["missed"], told["unjudged"]) == (24, 21, 0, 3)
    assert told["attained"] == 1
    assert told["budget_left"] == 1


def test_a_backfill_of_the_past_owes_nothing() -> None:
    """Partitions that were due before anybody looked are not counted, though a backfill has them judged."""
    past: Look = ("t", MONDAY - 4 * WEEK, True, MONDAY + 3 * HOUR)
    told = report([*hourly(MONDAY, 3), past], MONDAY + 4 * HOUR)
    assert list(told) == [date(2026, 2, 2)]
    assert told[date(2026, 2, 2)]["due"] == 3


def test_a_week_ends_with_its_sunday() -> None:
    told = report(hourly(MONDAY + WEEK - 2 * HOUR, 4), MONDAY + WEEK + 3 * HOUR)
    assert {week: (row["partitions"], row["due"], row["is_open"]) for week, row in told.items()} == {
        date(2026, 2, 2): (2, 2, False),
        date(2026, 2, 9): (168, 2, True),
    }


def test_the_last_hour_of_a_week_falls_due_in_the_next() -> None:
    looks = hourly(MONDAY, 167)
    assert report(looks, MONDAY + WEEK + LEVEL - timedelta(seconds=1))[date(2026, 2, 2)]["is_open"]
    told = report(looks, MONDAY + WEEK + LEVEL)[date(2026, 2, 2)]
    assert (told["is_open"], told["unjudged"]) == (False, 1)


@pytest.mark.parametrize(("last_day", "hours"), [(date(2026, 3, 29), 167), (date(2026, 10, 25), 169)])
def test_weeks_of_daylight_saving_have_an_hour_less_or_more(last_day: date, hours: int) -> None:
    monday = last_day - timedelta(days=6)
    window = Window.of_days(monday, last_day, BERLIN)
    looks = hourly(window.start - HOUR, hours + 2)  # from the last hour of the week before to the first of the next
    told = report(looks, window.end + 2 * HOUR, BERLIN)
    assert (told[monday]["partitions"], told[monday]["met"]) == (hours, hours)
    assert told[monday + timedelta(days=7)]["met"] == 1
    assert told[monday - timedelta(days=7)]["met"] == 1


def test_days_of_a_zone_with_daylight_saving() -> None:
    days = [date(2026, 3, 23) + timedelta(days=n) for n in range(7)]
    windows = [Window.of_days(day, day, BERLIN) for day in days]
    looks: list[Look] = [("t", w.start, w is not windows[6], w.end + 7 * HOUR) for w in windows]
    level = timedelta(hours=6)
    told = report(looks, windows[6].end + 7 * HOUR, BERLIN, grain="day", level=level, objective=0.9)
    row = told[date(2026, 3, 23)]
    assert (row["partitions"], row["met"], row["missed"], row["is_open"]) == (7, 6, 1, False)
    assert row["budget_left"] == pytest.approx(1 - 1 / 0.7)  # a day is more than a week's budget
    before = report(looks, windows[6].end + level - timedelta(seconds=1), BERLIN, grain="day", level=level)
    assert (before[date(2026, 3, 23)]["due"], before[date(2026, 3, 23)]["is_open"]) == (6, True)


def test_an_hour_of_two_weeks_belongs_to_the_one_that_it_begins_in() -> None:
    straddling = Window.of_days(date(2026, 2, 9), date(2026, 2, 9), KOLKATA).start - timedelta(minutes=30)
    assert straddling.minute == 0
    told = report(hourly(straddling - HOUR, 3), straddling + 4 * HOUR, KOLKATA)
    assert {week: row["met"] for week, row in told.items()} == {date(2026, 2, 2): 2, date(2026, 2, 9): 1}


def test_tables_are_counted_apart_and_those_without_a_look_not_at_all() -> None:
    promises = pl.DataFrame(
        [("a", "hour", LEVEL, 0.99), ("b", "day", HOUR, 0.9), ("unseen", "day", HOUR, 0.9)],
        schema=PROMISES,
        orient="row",
    )
    of_a = [("a", *look[1:]) for look in hourly(MONDAY, 30)]
    of_b = [("b", MONDAY, False, MONDAY + DAY + 2 * HOUR), ("dropped", MONDAY, True, MONDAY + DAY)]
    looks = pl.DataFrame([*of_a, *of_b], schema=LOOKS, orient="row")
    found = service_levels(looks, promises, ZULU, MONDAY + 31 * HOUR)
    assert found.select("asset", "due", "met", "missed").rows() == [("a", 30, 30, 0), ("b", 1, 0, 1)]


def test_of_nothing_comes_nothing() -> None:
    assert report([], MONDAY) == {}


@pytest.mark.parametrize("zone", [ZULU, BERLIN, KOLKATA])
def test_partition_keys_are_read_as_dagster_means_them(zone: ZoneInfo) -> None:
    partitions = Partitions.starting(date(2026, 3, 1), zone)
    span = Window(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC))
    promises = pl.DataFrame([("h", "hour", LEVEL, 0.9), ("d", "day", LEVEL, 0.9)], schema=PROMISES, orient="row")
    keys = [("h", key) for key in partitions.keys("hour", span)] + [("d", key) for key in partitions.keys("day", span)]
    results = pl.LazyFrame(
        [(asset, key, True, MONDAY) for asset, key in [*keys, ("d", None)]],
        schema={"asset": pl.String, "partition_key": pl.String, "passed": pl.Boolean, "evaluated_at": LOOKS["start"]},
        orient="row",
    )
    grains = {"h": "hour", "d": "day"}
    wanted = sorted((asset, partitions.window(grains[asset], key, key).start) for asset, key in keys)  # type: ignore[arg-type]
    assert sorted(looks_of(results, promises, zone).select("asset", "start").rows()) == wanted


def test_every_steady_table_promises() -> None:
    from platform_assets.tables import TABLES

    promised = promises_of(TABLES, Settings().service_level_objective)
    assert set(promised["asset"]) == {t.name for t in TABLES if t.steady and t.partitions is not None}
    assert promised["objective"].unique().to_list() == [0.99]
