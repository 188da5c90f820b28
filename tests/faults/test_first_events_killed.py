"""Firsts that die at any moment are caught up; a rival is noticed; what silver forgot is told, and mended."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.silver import events, person_firsts, persons
from resources.lake import Fenced, Lake, VersionGone
from support.lakes import EventfulLake, Killed, die, drain, new_lake, rebuild_silver, stream_settings
from support.records import START, Record, at, encoded, numbered, source
from support.records import event as an_event

ALL = Window(START, START + timedelta(hours=6))
Firsts = dict[tuple[str, str], datetime]


def platform(lake: Lake) -> Platform:
    return Platform(lake, stream_settings(), clock=lambda: START)


def sent(*told: tuple[str, float, float]) -> list[Record]:
    """Views: who, when, and when it was received."""
    return numbered(
        (0, at(received), encoded(an_event(f"e{n}", occurred, received, event_name="view", anonymous_id=who)))
        for n, (who, occurred, received) in enumerate(told)
    )


FIRST = (("x", 10, 100), ("x", 130, 130), ("y", 20, 20), ("z", 15, 120))
THEN = (*FIRST, ("y", 5, 200), ("w", 210, 210))


def begun(folder: Path) -> Lake:
    """Firsts of some events, and silver that went on since: late events are out, others came."""
    lake = new_lake(folder)
    for table in (person_firsts.TABLE, persons.TABLE):
        lake.create(table)
    drain(lake, source(sent(*FIRST), 1))
    assert person_firsts.advance(platform(lake)) == 3
    assert firsts(lake) == {("a:x", "view"): at(10), ("a:y", "view"): at(20), ("a:z", "view"): at(15)}
    rebuild_silver(lake, ALL, timedelta(minutes=60))
    drain(lake, source(sent(*THEN), 1))
    return lake


WANTED = {("a:x", "view"): at(130), ("a:y", "view"): at(5), ("a:w", "view"): at(210)}
"""Of x the first event went, and of z the only one; of y an earlier one came; w is new."""


def firsts(lake: Lake) -> Firsts:
    rows = lake.scan(person_firsts.TABLE).select("raw_id", "event_name", "first_at").collect().rows()
    found = {(who, what): when for who, what, when in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("deed", [person_firsts.advance, person_firsts.rebuild])
def test_it_dies_at_every_moment(deed: Callable[[Platform], object], tmp_path: Path) -> None:
    made = begun(tmp_path / "begun")
    before = firsts(made)
    rehearsal = EventfulLake(str(tmp_path / "rehearsal"))
    shutil.copytree(made.url, rehearsal.url)
    deed(platform(rehearsal))
    moments = list(rehearsal.moments)
    assert len(moments) > 3
    assert firsts(rehearsal) == WANTED
    assert not person_firsts.is_behind(platform(rehearsal))
    for number, moment in enumerate(moments, 1):
        lake = EventfulLake(str(tmp_path / str(number)), {number: die})
        shutil.copytree(made.url, lake.url)
        with contextlib.suppress(Killed):
            deed(platform(lake))
        assert not lake.happenings
        is_done = moment.startswith("after writing")
        assert firsts(lake) == (WANTED if is_done else before), moment
        assert person_firsts.is_behind(platform(lake)) == (not is_done), moment
        person_firsts.advance(platform(lake))
        assert firsts(lake) == WANTED, moment


@pytest.mark.parametrize("following", [40, 70])
def test_the_next_one_is_first_where_the_first_is_gone(following: float, tmp_path: Path) -> None:
    """Be it in the hour that lost the first, or the only event of its hour."""
    lake = new_lake(tmp_path / "lake")
    lake.create(person_firsts.TABLE)
    records = source(sent(("x", 10, 100), ("x", following, following)), 1)
    drain(lake, records)
    person_firsts.advance(platform(lake))
    assert firsts(lake) == {("a:x", "view"): at(10)}
    rebuild_silver(lake, ALL, timedelta(minutes=60))
    drain(lake, records)
    assert person_firsts.advance(platform(lake)) == 1
    assert firsts(lake) == {("a:x", "view"): at(following)}


def test_only_the_buckets_concerned_are_written(tmp_path: Path) -> None:
    lake = begun(tmp_path / "lake")
    drain(lake, source(sent(*THEN, ("w", 205, 215)), 1))
    person_firsts.advance(platform(lake))
    before = {row["path"] for row in pl.DataFrame(lake.open(person_firsts.TABLE).get_add_actions()).to_dicts()}
    drain(lake, source(sent(*THEN, ("w", 205, 215), ("x", 220, 220), ("w", 202, 220)), 1))
    assert person_firsts.advance(platform(lake)) == 1
    after = {row["path"] for row in pl.DataFrame(lake.open(person_firsts.TABLE).get_add_actions()).to_dicts()}
    assert {path.split("/")[0] for path in before ^ after} == {f"bucket={person_firsts.bucket_of('a:w')}"}
    assert firsts(lake) == {**WANTED, ("a:w", "view"): at(202)}
    drain(lake, source(sent(*THEN, ("w", 205, 215), ("x", 220, 220), ("w", 202, 220), ("x", 230, 230)), 1))
    assert person_firsts.is_behind(platform(lake))
    assert person_firsts.advance(platform(lake)) == 0
    assert not person_firsts.is_behind(platform(lake))


def before_writing(deed: Callable[[Platform], object], lake: Lake, folder: Path) -> int:
    """The number of the moment at which a deed is about to write."""
    rehearsal = EventfulLake(str(folder))
    shutil.copytree(lake.url, rehearsal.url)
    deed(platform(rehearsal))
    return rehearsal.moments.index(f"before writing {person_firsts.TABLE.name}") + 1


def test_a_compaction_in_between_is_no_rival(tmp_path: Path) -> None:
    made = begun(tmp_path / "begun")
    moment = before_writing(person_firsts.advance, made, tmp_path / "rehearsal")
    lake = EventfulLake(
        made.url, {moment: lambda: Lake(made.url).open(person_firsts.TABLE).optimize.z_order(["raw_id"])}
    )
    person_firsts.advance(platform(lake))
    assert firsts(made) == WANTED
    assert lake.moments.count(f"before writing {person_firsts.TABLE.name}") == 2


def test_a_rival_is_noticed(tmp_path: Path) -> None:
    made = begun(tmp_path / "begun")
    moment = before_writing(person_firsts.advance, made, tmp_path / "rehearsal")
    rival = functools.partial(person_firsts.advance, platform(made))
    with pytest.raises(Fenced):
        person_firsts.advance(platform(EventfulLake(made.url, {moment: rival})))
    assert firsts(made) == WANTED


def test_a_rebuild_beside_one_who_takes_in_more(tmp_path: Path) -> None:
    lake = begun(tmp_path / "lake")
    moment = before_writing(person_firsts.rebuild, lake, tmp_path / "rehearsal")

    def more() -> None:
        drain(lake, source(sent(*THEN, ("w", 201, 230)), 1))
        person_firsts.advance(platform(lake))

    person_firsts.rebuild(platform(EventfulLake(lake.url, {moment: more})))
    assert firsts(lake) == {**WANTED, ("a:w", "view"): at(201)}
    assert not person_firsts.is_behind(platform(lake))


class Forgetful(Lake):
    """A lake whose silver can be read as it is, and no more as it was."""

    def open(self, table: object, version: int | None = None):  # type: ignore[no-untyped-def]
        if table is events.TABLE and version is not None:
            msg = f"{events.TABLE.name} has no version {version} any more"
            raise VersionGone(msg)
        return super().open(table, version)  # type: ignore[arg-type]


def test_what_silver_forgot_is_told_and_materializing_mends_it(tmp_path: Path) -> None:
    lake = Forgetful(begun(tmp_path / "lake").url)
    with pytest.raises(VersionGone, match="materialize silver/person_firsts"):
        person_firsts.advance(platform(lake))
    person_firsts.rebuild(platform(lake))
    assert firsts(lake) == WANTED
    assert person_firsts.advance(platform(lake)) == 0
