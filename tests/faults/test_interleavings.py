"""Whatever comes in between, at every moment: a kill, a rival writer, a rebuild. In one process, step by step.

A moment is the opening of a table, or the time right before or after a commit. Each test lets one thing happen at
one moment, for every moment there is.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError

from partitions import Window
from platform_assets.gold import live_metrics
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.restatement import stale_hours
from platform_assets.silver import activity_hours, events, outcomes, touched_hours
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.streams.rebuilds import (
    rebuild_dead_letters,
    rebuild_late_arrivals,
    rebuild_outcomes,
    rebuild_quarantine,
)
from platform_assets.table import Table
from resources.delta_log import files_near
from resources.lake import Fenced, Lake, Writer
from resources.records import FrameSource
from support.lakes import (
    ALLOWED_LATENESS,
    STREAM_TABLES,
    EventfulLake,
    Killed,
    assert_as_expected,
    assert_conserved,
    assert_same,
    die,
    drain,
    new_lake,
    rebuild_silver,
    stream_settings,
)
from support.records import START, TOPIC, Record, at, event, record, source
from support.reference import expected

PARTITIONS = 2
HOURS = Window(START, at(180))

# Read in batches of three. The earlier arrival of e1 comes second (it displaces), with jitter into another hour.
RECORDS: list[Record] = [
    record(0, 0, 60.5, event("e0", 59.9)),
    record(0, 1, 62, event("e1", 59.5, 61, 60)),
    record(1, 0, 61, b"garbage"),
    record(0, 2, 63, event("e2", 61, anonymous_id=None)),
    record(0, 3, 62, event("e2", 61)),
    record(1, 1, 120, event("e2", 61, 120)),
    record(0, 4, 61, event("e1", 59.5, 59.9, 60)),
    record(1, 2, 119, event("e3", 10, 119)),
    record(1, 3, 121, event("e0", 59.9, 121)),
    record(1, 4, 122, event("e4", 58, 121)),
]


@pytest.fixture(scope="module")
def held() -> FrameSource:
    return source(RECORDS, PARTITIONS)


@pytest.fixture(scope="module")
def undisturbed(held: FrameSource, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = new_lake(tmp_path_factory.mktemp("undisturbed"))
    drain(lake, held)
    assert_as_expected(lake, expected(RECORDS, ALLOWED_LATENESS))
    return lake


@pytest.fixture(scope="module")
def begun(held: FrameSource, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that has read the first micro-batch."""
    lake = new_lake(tmp_path_factory.mktemp("begun"))
    writer(lake, held).step()
    return lake


@pytest.fixture
def eventful(begun: Lake, tmp_path: Path) -> Callable[[], EventfulLake]:
    numbers = iter(range(1_000))

    def copy() -> EventfulLake:
        folder = tmp_path / str(next(numbers))
        shutil.copytree(begun.url, folder)
        return EventfulLake(str(folder))

    return copy


def writer(lake: Lake, held: FrameSource) -> MicroBatches:
    batches = MicroBatches(lake, held, stream_settings(3))
    batches.catch_up()
    return batches


def lives(
    eventful: Callable[[], EventfulLake],
    act: Callable[[EventfulLake], object],
    happening: Callable[[EventfulLake], object],
    moments: tuple[str, ...] = ("open", "before", "after"),
) -> Iterator[tuple[str, EventfulLake]]:
    """One lake per moment of ``act``: in each, something happened at one of them. What was done, and the lake."""
    rehearsal = eventful()
    act(rehearsal)
    chosen = [n for n, what in enumerate(rehearsal.moments, 1) if what.startswith(moments)]
    assert chosen
    for number in chosen:
        lake = eventful()
        lake.happenings = {number: functools.partial(happening, lake)}
        with contextlib.suppress(Killed, Fenced):
            act(lake)
        assert not lake.happenings, "the moment did not come"
        yield f"moment {number}, {lake.moments[number - 1]}", lake
        shutil.rmtree(lake.url)


def assert_nothing_lost_or_doubled(told: str, lake: Lake, held: FrameSource, undisturbed: Lake) -> None:
    try:
        drain(Lake(lake.url), held)
        assert_conserved(lake, TOPIC)
        assert_same(lake, undisturbed)
    except Exception as error:
        error.add_note(told)
        raise


@pytest.mark.slow
def test_killed_at_every_moment(eventful: Callable[[], EventfulLake], held: FrameSource, undisturbed: Lake) -> None:
    def act(lake: EventfulLake) -> None:
        batches = writer(lake, held)
        batches.step()
        batches.step()

    for told, lake in lives(eventful, act, lambda _: die(), ("after",)):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.slow
def test_killed_at_every_moment_of_catching_up(
    eventful: Callable[[], EventfulLake], held: FrameSource, undisturbed: Lake
) -> None:
    # Bronze has read on, and the process ended before any table below it did.
    begun = eventful()
    batches = writer(begun, held)
    begun.happenings = {next_moment(begun, held, "before writing bronze/dead_letters"): die}
    with pytest.raises(Killed):
        batches.step()

    def behind() -> EventfulLake:
        lake = eventful()
        shutil.rmtree(lake.url)
        shutil.copytree(begun.url, lake.url)
        return lake

    for told, lake in lives(behind, lambda lake: writer(lake, held), lambda _: die(), ("after",)):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.slow
def test_a_rival_takes_over_at_every_moment(
    eventful: Callable[[], EventfulLake], held: FrameSource, undisturbed: Lake
) -> None:
    """The zombie: it starts, reads and writes on a stream that meanwhile belongs to another."""

    def act(lake: EventfulLake) -> None:
        batches = writer(lake, held)
        while batches.step() is not None:
            pass

    def rival(lake: EventfulLake) -> None:
        writer(Lake(lake.url), held).step()

    for told, lake in lives(eventful, act, rival):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.slow
def test_a_rebuild_at_every_moment_of_a_batch(
    eventful: Callable[[], EventfulLake], held: FrameSource, undisturbed: Lake
) -> None:
    def act(lake: EventfulLake) -> None:
        batches = writer(lake, held)
        while batches.step() is not None:
            pass

    def rebuild(lake: EventfulLake) -> None:
        rebuild_silver(Lake(lake.url), HOURS)

    for told, lake in lives(eventful, act, rebuild, ("before", "after")):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.parametrize("window", [HOURS, Window(START, at(60)), Window(at(60), at(120)), Window(at(58), at(75))])
def test_batches_at_every_moment_of_a_rebuild(
    window: Window, eventful: Callable[[], EventfulLake], held: FrameSource, undisturbed: Lake
) -> None:
    def rebuild(lake: EventfulLake) -> None:
        rebuild_silver(lake, window)

    for told, lake in lives(eventful, rebuild, lambda lake: drain(Lake(lake.url), held)):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.parametrize(
    "rebuild",
    [rebuild_outcomes, live_metrics.rebuild, rebuild_quarantine, rebuild_dead_letters, rebuild_late_arrivals],
    ids=lambda rebuild: f"{rebuild.__module__.split('.')[-1]}.{rebuild.__name__}",
)
def test_batches_at_every_moment_of_a_rebuild_of_another_table(
    rebuild: Callable[[Platform, Window], None],
    eventful: Callable[[], EventfulLake],
    held: FrameSource,
    undisturbed: Lake,
) -> None:
    def act(lake: EventfulLake) -> None:
        rebuild(Platform(lake, stream_settings(3), held), HOURS)

    for told, lake in lives(eventful, act, lambda lake: drain(Lake(lake.url), held)):
        assert_nothing_lost_or_doubled(told, lake, held, undisturbed)


@pytest.mark.parametrize("rebuild", [rebuild_outcomes, live_metrics.rebuild], ids=["outcomes", "live_metrics"])
def test_a_rebuild_counts_no_further_than_its_table_has_taken_in(
    rebuild: Callable[[Platform, Window], None],
    eventful: Callable[[], EventfulLake],
    held: FrameSource,
    undisturbed: Lake,
) -> None:
    """The writer ended when silver was ahead of what follows it: what is caught up later must not count twice."""
    lake = eventful()
    batches = writer(lake, held)
    lake.happenings = {next_moment(lake, held, "before writing silver/outcomes"): die}
    with pytest.raises(Killed):
        batches.step()
    rebuild(Platform(lake, stream_settings(3), held), HOURS)
    assert_nothing_lost_or_doubled("", lake, held, undisturbed)


def test_what_comes_while_an_hour_is_computed_makes_it_stale(
    eventful: Callable[[], EventfulLake], held: FrameSource
) -> None:
    """At every moment, the batches bring more of the hour: it is in the hour's activity, or the hour is stale."""
    hour = Window(START, at(60))

    def act(lake: EventfulLake) -> None:
        activity_hours.rebuild(Platform(lake, stream_settings(3), held), hour)

    def copy() -> EventfulLake:
        lake = eventful()
        for table in (activity_hours.TABLE, computations.TABLE):
            lake.create(table)
        return lake

    stale = 0
    for told, lake in lives(copy, act, lambda lake: drain(Lake(lake.url), held)):
        is_stale = START in stale_hours(
            lake.scan(touched_hours.TABLE).collect(), lake.scan(computations.TABLE).collect()
        )
        counted = lake.scan(activity_hours.TABLE).collect()["events"].sum()
        assert is_stale or counted == lake.scan(events.TABLE, hour).collect().height, told
        stale += is_stale
    assert stale


def test_a_duplicate_is_found_in_a_file_that_was_looked_into_before(lake: Lake) -> None:
    """By one writer, a record a batch: e1 has it look into the file that holds e0, and remember that file."""
    records = [record(0, n, n, event(name, 0, n)) for n, name in enumerate(["e0", "e1", "e0", "e1"])]
    drain(lake, source(records, 1), stream_settings(1))
    assert_as_expected(lake, expected(records, ALLOWED_LATENESS))


def test_key_hashes_that_were_forgotten_are_read_again(lake: Lake) -> None:
    drain(lake, source([record(0, n, n, event(f"e{n}", 0, n)) for n in range(3)], 1), stream_settings(1))
    rows = lake.scan(events.TABLE).collect()
    files = files_near(lake, events.TABLE, lake.open(events.TABLE), "client_occurred_at", rows["client_occurred_at"])
    assert len(files) == 3
    known = events.KeyHashes(lake, most_rows=2)
    for _ in range(3):
        found = [known.files_with(files, rows["key_hash"][n : n + 1]) for n in range(3)]
        assert sorted(map(len, found)) == [1, 1, 1]
        assert sorted(file for held in found for file in held) == sorted(files)


def test_partitions_added_to_the_topic_are_read_by_the_next_writer(lake: Lake) -> None:
    first, added = record(0, 0, 1, event("e0", 0, 1)), record(1, 0, 2, event("e1", 1, 2))
    drain(lake, source([first], 1))
    drain(lake, source([first, added], 2))
    assert_conserved(lake, TOPIC)
    assert_as_expected(lake, expected([first, added], ALLOWED_LATENESS))


def test_what_a_rebuild_changes_is_followed(eventful: Callable[[], EventfulLake], held: FrameSource) -> None:
    """A rebuild that takes rows out of silver, in the midst of a batch: the live metrics lose them, too."""
    lake = eventful()
    batches = writer(lake, held)
    before = lake.scan(events.TABLE).collect().height
    lake.happenings = {
        next_moment(lake, held, "before writing silver/events"): lambda: rebuild_silver(
            Lake(lake.url), HOURS, timedelta(minutes=1)
        )
    }
    step = batches.step()
    assert step is not None
    assert not lake.happenings
    silver = lake.scan(events.TABLE).collect()
    assert silver.height < before + step.kept, "the rebuild took nothing out"
    counted = Counter(zip(silver["occurred_at"].dt.truncate("1m"), silver["event_name"], strict=True))
    live = lake.scan(live_metrics.TABLE).group_by("minute", "event_name").agg(pl.col("events").sum()).collect()
    assert {(minute, name): number for minute, name, number in live.iter_rows() if number} == counted


def test_a_writer_that_was_replaced_is_fenced(held: FrameSource, lake: Lake, undisturbed: Lake) -> None:
    first = writer(lake, held)
    assert first.step() is not None
    second = writer(lake, held)
    assert second.step() is not None
    with pytest.raises(Fenced, match="another writer moved"):
        first.step()
    with pytest.raises(Fenced):  # it does not come back
        first.step()
    while second.step() is not None:
        pass
    assert_conserved(lake, TOPIC)
    assert_same(lake, undisturbed)


@pytest.mark.parametrize("table", STREAM_TABLES, ids=lambda table: table.name)
def test_every_table_fences_its_writer(table: Table, lake: Lake) -> None:
    """The hole that was found by experiment: a refreshed handle alone does not notice a rival."""
    first, second = Writer(lake, table), Writer(lake, table)
    for each in (first, second):
        each.progress("app")
    first.record({"app": 5})
    second.handle.update_incremental()  # the zombie's handle is new, what it knows is old
    with pytest.raises(Fenced, match="progress of app from None to 5"):
        second.record({"app": 5})
    first.record({"app": 6})


def test_a_commit_on_a_stale_handle_is_refused(lake: Lake) -> None:
    """Even if the commit in between is harmless in Delta's eyes: what was computed was computed without it."""
    writer = Writer(lake, events.TABLE)
    writer.progress("app")
    writer.refresh()
    lake.append(events.TABLE, events.TABLE.empty())
    with pytest.raises(CommitFailedError):
        writer.commit(events.TABLE.empty(), {"app": 1})
    assert lake.open(events.TABLE).transaction_version("app") is None
    writer.record({"app": 1})
    assert lake.open(events.TABLE).transaction_version("app") == 1


def test_progress_never_goes_back(lake: Lake) -> None:
    writer = Writer(lake, outcomes.TABLE)
    writer.progress("app")
    writer.record({"app": 5})
    with pytest.raises(ValueError, match="app"):
        writer.record({"app": 4})
    assert lake.open(outcomes.TABLE).transaction_version("app") == 5


def test_a_writer_that_goes_on_after_a_failure_skips_nothing(
    held: FrameSource, tmp_path: Path, undisturbed: Lake
) -> None:
    """A step failed between bronze and silver: the same writer must not step over what silver lacks."""
    lake = EventfulLake(new_lake(tmp_path / "lake").url)
    batches = writer(lake, held)

    def fail() -> None:
        msg = "No space left on device"
        raise OSError(msg)

    lake.happenings = {next_moment(lake, held, "before writing silver/events"): fail}
    with pytest.raises(OSError, match="No space left"):
        batches.step()
    with contextlib.suppress(Fenced):  # to refuse is right, too
        while batches.step() is not None:
            pass
    assert_nothing_lost_or_doubled("", lake, held, undisturbed)


def next_moment(lake: EventfulLake, held: FrameSource, what: str) -> int:
    """The number of the next moment of a kind in a step: found by a rehearsal on a copy."""
    copy = EventfulLake(f"{lake.url}-rehearsal")
    shutil.copytree(lake.url, copy.url)
    rehearsal = writer(copy, held)
    before = len(copy.moments)
    rehearsal.step()
    shutil.rmtree(copy.url)
    return len(lake.moments) + copy.moments[before:].index(what) + 1
