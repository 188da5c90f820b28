"""Sliced histories over real tables: whatever came late, they are what all there is says, and a new day is cheap."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from partitions import Window
from platform_assets.changes.following import Dimensions
from platform_assets.gold import active_users, active_users_by_slice, person_day_slices, person_days
from platform_assets.identity_assets import is_behind
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.restatement import stale_hours
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.silver import activity_hours, events, identity_links, persons, touched_hours, users
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.settings import Settings
from support.changes import change, user
from support.facts import tell
from support.lakes import EventfulLake, drain
from support.records import START, Record, at, encoded, event, source

DAYS = 31
DAY = 24 * 60
LATE = Settings(allowed_lateness=timedelta(days=60))
GOLD = (person_day_slices.TABLE, active_users_by_slice.TABLE)


def create_all(lake: Lake) -> None:
    create_tables(lake)
    for table in GOLD:
        lake.create(table)


def platform(lake: Lake) -> Platform:
    return Platform(lake, LATE, clock=lambda: START)


def last_day() -> date:
    return (START + timedelta(days=DAYS)).date()


def act(lake: Lake, sent: list[dict[str, Any]]) -> None:
    """Take in events: all that were sent so far, in order."""
    drain(lake, source([Record(0, n, at(DAYS * DAY), encoded(fields)) for n, fields in enumerate(sent)], 1), LATE)


def settle(lake: Lake) -> set[date]:
    """Compute what is stale, until nothing is. Returns the days of slices that were."""
    touched = lake.scan(touched_hours.TABLE).select("event_hour", "silver_version").collect()
    for table, module in ((activity_hours.TABLE, activity_hours), (identity_links.TABLE, identity_links)):
        ledger = lake.scan(computations.TABLE).filter(pl.col("table") == table.name).collect()
        for hour in stale_hours(touched, ledger):
            module.rebuild(platform(lake), Window.of_hour(hour))
    if is_behind(platform(lake)):
        persons.resolve(platform(lake))
    Dimensions(lake).catch_up()
    stale = stale_days(lake)
    for window in windows(stale):
        person_day_slices.rebuild(platform(lake), window)
        active_users_by_slice.rebuild(platform(lake), window)
    assert stale_days(lake) == set()
    return stale


def stale_days(lake: Lake) -> set[date]:
    ledger = lake.scan(computations.TABLE).collect()
    return person_day_slices.stale(platform(lake), ledger, last_day())


def windows(days: set[date]) -> Iterator[Window]:
    """Consecutive days together."""
    runs: list[list[date]] = []
    for day in sorted(days):
        if runs and day - runs[-1][1] == timedelta(days=1):
            runs[-1][1] = day
        else:
            runs.append([day, day])
    for first, last in runs:
        yield Window.of_days(first, last, LATE.zone)


def by_definition(lake: Lake) -> dict[tuple[str, str, str | None, date], int]:
    """Every history, from events, persons and users as they are, a bit at a time."""
    silver = lake.scan(events.TABLE).with_columns(
        raw_id=pl.coalesce("u:" + pl.col("user_id"), "a:" + pl.col("anonymous_id"))
    )
    whose = lake.scan(persons.TABLE).select(PERSONS.names())
    versions = lake.scan(users.DIMENSION.table).collect().rows(named=True)
    acted = set()
    for row in joined(silver, whose).collect().iter_rows(named=True):
        person, day = row["person_id"], row["occurred_at"].date()
        end = Window.of_days(day, day, LATE.zone).end
        plans = [
            v["plan"] for v in versions if f"u:{v['user_id']}" == person and v["valid_from"] < end <= v["valid_to"]
        ]
        for dimension, value in (
            ("platform", row["platform"]),
            ("country", row["country"]),
            ("plan", plans[0] if plans else None),
        ):
            acted.add((person, dimension, value, day))
    histories: dict[tuple[str, str, str | None, date], int] = {}
    for *key, day in acted:
        for ago in range(28):
            reached = day + timedelta(days=ago)
            if reached <= last_day():
                place = (*key, reached)
                histories[place] = histories.get(place, 0) | 1 << ago  # type: ignore[index, call-overload]
    return histories


def stored(lake: Lake) -> dict[tuple[str, str, str | None, date], int]:
    rows = lake.scan(person_day_slices.TABLE).select(*person_day_slices.KEY, "day", "history").collect()
    assert rows.select(person_day_slices.TABLE.key).is_unique().all()
    return {row[:-1]: row[-1] for row in rows.iter_rows()}  # type: ignore[misc]


def drawn(rng: random.Random, number: int, minute: int | None = None) -> dict[str, Any]:
    who = rng.randrange(3)
    return event(
        f"e{number}",
        rng.randrange(DAYS * DAY) if minute is None else minute,
        anonymous_id=f"a{who}",
        user_id=rng.choice([None, None, f"u{who}", f"u{rng.randrange(3)}"]),
        platform=rng.choice(["web", "ios", None]),
        country=rng.choice(["DE", "FR"]),
    )


@pytest.mark.slow
def test_late_events_logins_and_plans_restate_the_slices(tmp_path: Path) -> None:
    rng = random.Random(5)
    lake = Lake(str(tmp_path / "lake"))
    create_all(lake)
    sent = [drawn(rng, number) for number in range(40)]
    tell(lake, *(change("users", "c", n + 1, 0, user(f"u{n}")) for n in range(2)))
    act(lake, sent)
    settle(lake)
    assert stored(lake) == by_definition(lake)

    sent += [drawn(rng, number) for number in range(40, 44)]  # late, some of them logins
    tell(lake, change("users", "u", 10, 20 * DAY, user("u0", plan="pro"), user("u0")))
    act(lake, sent)
    settle(lake)
    assert stored(lake) == by_definition(lake)

    # A plan that was told late: the days from then on whose histories reach it, and no day before.
    told = 12 * DAY + 30
    tell(lake, change("users", "c", 20, told, user("u2", plan="plus")))
    restated = settle(lake)
    assert min(restated) == at(told).date()
    assert stored(lake) == by_definition(lake)

    everything = Window.of_days(START.date(), last_day(), LATE.zone)
    settled = {table.name: lake.scan(table).select(table.substance).collect() for table in GOLD}
    for module in (person_day_slices, active_users_by_slice, person_days, active_users):
        module.rebuild(platform(lake), everything)
    for table in GOLD:
        anew = lake.scan(table).select(table.substance).collect()
        assert anew.sort(table.key).equals(settled[table.name].sort(table.key)), table.name
    totals = lake.scan(active_users.TABLE).select("day", total="mau").collect()
    sliced = lake.scan(active_users_by_slice.TABLE).collect().join(totals, on="day")
    assert (sliced["mau"] <= sliced["total"]).all()
    sums = sliced.group_by("day", "dimension").agg(pl.col("mau").sum(), pl.col("total").first())
    assert (sums["mau"] >= sums["total"]).all(), "everyone is in a slice of each dimension"
    assert (sums["mau"] > sums["total"]).any(), "and some are in several"


def test_a_new_day_reads_its_own_activity_and_the_day_before(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_all(lake)
    first, second = START.date(), START.date() + timedelta(days=1)
    put(lake, "u:anna", START, "web")
    put(lake, "u:anna", START + timedelta(days=1), "ios")
    rebuild(lake, first)
    # Were the first day's activity read again, it would be gone.
    lake.replace(
        activity_hours.TABLE, lake.open(activity_hours.TABLE), activity_hours.TABLE.empty(), Window.of_hour(START)
    )
    rebuild(lake, second)
    of_platform = lake.scan(person_day_slices.TABLE).filter(pl.col("dimension") == "platform", pl.col("day") == second)
    assert sorted(of_platform.select("value", "history").collect().rows()) == [("ios", 1), ("web", 2)]
    numbers = lake.scan(active_users_by_slice.TABLE).filter(pl.col("dimension") == "platform", pl.col("day") == second)
    assert sorted(numbers.select("value", "dau", "wau", "mau").collect().rows()) == [("ios", 1, 1, 1), ("web", 0, 1, 1)]


def test_an_hour_in_which_a_device_changes_hands_gives_each_their_own_values(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_all(lake)
    sent = [
        event("e1", 5, anonymous_id="x", user_id="anna", platform="web"),
        event("e2", 10, anonymous_id="x", platform="tv"),
        event("e3", 40, anonymous_id="x", platform="ios"),
        event("e4", 30, anonymous_id="x", user_id="ben", platform="ios"),
    ]
    # Who acted on the device before ben logged in is ben, and after him, too: anna before her own login only.
    sent.append(event("e5", 1, anonymous_id="x", platform="car"))
    act(lake, sent)
    settle(lake)
    rows = lake.scan(person_day_slices.TABLE).filter(pl.col("dimension") == "platform").select("person_id", "value")
    found = set(rows.unique().collect().rows())
    assert found == {("u:anna", "web"), ("u:anna", "car"), ("u:ben", "tv"), ("u:ben", "ios")}


def test_a_rival_that_wrote_a_day_meanwhile_is_noticed(tmp_path: Path) -> None:
    lake = EventfulLake(str(tmp_path / "lake"))
    create_all(lake)
    put(lake, "u:anna", START, "web")

    def rival() -> None:
        put(lake, "u:ben", START + timedelta(hours=1), "web")
        rebuild(Lake(lake.url), START.date())

    begun = len(lake.moments)
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    create_all(rehearsal)
    put(rehearsal, "u:anna", START, "web")
    assert len(rehearsal.moments) == begun
    window = Window.of_days(START.date(), START.date(), LATE.zone)
    person_day_slices.rebuild(platform(rehearsal), window)
    lake.happenings = {rehearsal.moments.index(f"before writing {person_day_slices.TABLE.name}") + 1: rival}
    person_day_slices.rebuild(platform(lake), window)
    assert not lake.happenings
    assert set(lake.scan(person_day_slices.TABLE).collect()["person_id"]) == {"u:anna", "u:ben"}


def put(lake: Lake, raw_id: str, hour: datetime, name: str) -> None:
    """Activity of an id in an hour, as a rebuild of that hour leaves it."""
    row = {"raw_id": raw_id, "event_hour": hour, "day": hour.date(), "event_name": "view", "platform": name}
    whole = {**row, "country": None, "events": 1, "event_date": hour.date()}
    made = lake.append(activity_hours.TABLE, pl.DataFrame([whole], schema=activity_hours.TABLE.schema))
    platform(lake).record(activity_hours.TABLE, Window.of_hour(hour), events.TABLE, made, made, 1)


def rebuild(lake: Lake, day: date) -> None:
    window = Window.of_days(day, day, LATE.zone)
    person_day_slices.rebuild(platform(lake), window)
    active_users_by_slice.rebuild(platform(lake), window)
