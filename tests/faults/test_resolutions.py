"""A resolution of persons that dies at any moment is caught up, and what it touched is restated all the same."""

from __future__ import annotations

import contextlib
import functools
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from partitions import Window
from platform_assets.gold import person_days
from platform_assets.identity_assets import is_behind
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, events, identity_links, persons
from resources.lake import Lake
from resources.settings import Settings
from support.lakes import EventfulLake, Killed, die
from support.records import START, at

TABLES = (
    activity_hours.TABLE,
    identity_links.TABLE,
    events.TABLE,
    persons.TABLE,
    persons.CHANGES,
    person_days.TABLE,
    computations.TABLE,
)


def platform(lake: Lake) -> Platform:
    return Platform(lake, Settings(), clock=lambda: START)


def link(device: str, user: str, minute: float) -> dict[str, object]:
    seen = at(minute)
    return {"left": f"a:{device}", "right": f"u:{user}", "kind": "login", "seen_at": seen, "seen_date": seen.date()}


def put(lake: Lake, *links: dict[str, object]) -> None:
    lake.append(identity_links.TABLE, pl.DataFrame(list(links), schema=identity_links.TABLE.schema))


def act(lake: Lake, raw_id: str, hour: datetime) -> None:
    """Activity of an id in an hour, as a rebuild of that hour leaves it."""
    row = {
        "raw_id": raw_id,
        "event_hour": hour,
        "day": hour.date(),
        "event_name": "page_viewed",
        "platform": None,
        "country": None,
        "events": 1,
        "event_date": hour.date(),
    }
    made = lake.append(activity_hours.TABLE, pl.DataFrame([row], schema=activity_hours.TABLE.schema))
    platform(lake).record(activity_hours.TABLE, Window.of_hour(hour), events.TABLE, made, made, 1)


def with_a_device(folder: Path) -> Lake:
    """A device that was active in an hour, and of which it is known whose it is since the day after."""
    lake = Lake(str(folder))
    for table in TABLES:
        lake.create(table)
    act(lake, "a:x", START)
    put(lake, link("x", "anna", 1440), link("y", "anna", 1440))
    persons.resolve(platform(lake))
    person_days.rebuild(platform(lake), window(START.date()))
    return lake


def window(day: date, last: date | None = None) -> Window:
    return platform(Lake("nowhere")).partitions.window("day", str(day), str(last or day))


def stale(lake: Lake) -> set[date]:
    ledger = lake.scan(computations.TABLE).collect()
    return person_days.stale(platform(lake), ledger, START.date())


def owners(lake: Lake) -> list[tuple[str, str]]:
    return lake.scan(persons.TABLE).select("raw_id", "person_id").unique().sort("raw_id", "person_id").collect().rows()


def test_a_resolution_dies_at_every_moment(tmp_path: Path) -> None:
    begun = with_a_device(tmp_path / "begun")
    assert stale(begun) == set()
    put(begun, link("x", "ben", 60))  # someone who logged in before anna did: the hour was his

    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(begun.url, rehearsal.url)
    persons.resolve(platform(rehearsal))
    moments = len(rehearsal.moments)
    assert moments > 5
    assert stale(rehearsal) == {START.date()}
    assert owners(rehearsal) == [("a:x", "u:anna"), ("a:x", "u:ben"), ("a:y", "u:anna")]

    for number in range(1, moments + 1):
        lake = EventfulLake(str(tmp_path / str(number)))
        shutil.copytree(begun.url, lake.url)
        lake.happenings = {number: die}
        with contextlib.suppress(Killed):
            persons.resolve(platform(lake))
        assert not lake.happenings
        if is_behind(platform(lake)):
            persons.resolve(platform(lake))
        told = f"died at moment {number}, {lake.moments[number - 1]}"
        assert owners(lake) == owners(rehearsal), told
        assert stale(lake) == {START.date()}, told
        assert not is_behind(platform(lake)), told
        person_days.rebuild(platform(lake), window(START.date()))
        assert stale(lake) == set(), told
        assert lake.scan(person_days.TABLE).select("person_id").collect()["person_id"].to_list() == ["u:ben"], told


def test_a_day_computed_between_the_ledger_and_the_persons_is_computed_again(tmp_path: Path) -> None:
    lake = with_a_device(tmp_path / "lake")
    put(lake, link("x", "ben", 60))
    eventful = EventfulLake(lake.url)
    day = functools.partial(person_days.rebuild, platform(lake), window(START.date()))
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(lake.url, rehearsal.url)
    persons.resolve(platform(rehearsal))
    eventful.happenings = {rehearsal.moments.index(f"before writing {persons.TABLE.name}") + 1: day}
    persons.resolve(platform(eventful))
    assert not eventful.happenings
    assert stale(lake) == {START.date()}


def test_a_backfill_of_days_beside_a_newer_computation_of_one_of_them(tmp_path: Path) -> None:
    """The later days of a range are written on handles as old as what was read: a rival on them is noticed."""
    lake = with_a_device(tmp_path / "lake")
    first, last = START.date(), START.date() + timedelta(days=1)
    act(lake, "a:z", START + timedelta(days=1))
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(lake.url, rehearsal.url)
    person_days.rebuild(platform(rehearsal), window(first, last))
    moments = [n for n, what in enumerate(rehearsal.moments, 1) if what == f"before writing {person_days.TABLE.name}"]
    assert len(moments) == 2

    def rival() -> None:
        act(lake, "a:late", START + timedelta(days=1, hours=1))
        person_days.rebuild(platform(lake), window(last))

    eventful = EventfulLake(lake.url, {moments[0]: rival})
    person_days.rebuild(platform(eventful), window(first, last))
    assert not eventful.happenings
    found = lake.scan(person_days.TABLE).filter(pl.col("day") == last).collect()
    assert sorted(found["person_id"]) == ["a:late", "a:z", "u:anna"]


def test_a_claim_is_not_the_days_before_it(tmp_path: Path) -> None:
    lake = with_a_device(tmp_path / "lake")
    put(lake, link("x", "ben", -timedelta(days=40) / timedelta(minutes=1)))
    changed = persons.resolve(platform(lake))
    assert changed.is_empty(), "anna's claim on the active hour holds: nothing that is counted changed hands"
    assert stale(lake) == set()
