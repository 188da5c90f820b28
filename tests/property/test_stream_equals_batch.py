"""The platform's first promise: however the stream was read, silver and what follows it are the same.

The world is tiny, so that records meet often: a few events around midnight, delivered again and again by topic
partitions that run at different speeds, with record times that go backwards, late, too late, and broken. What
happens to them is drawn too: the size of the micro-batches, restarts, kills between any two commits, rebuilds of
any hours at any moment of a batch, compaction.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from partitions import Window
from platform_assets.gold import live_metrics
from platform_assets.ops import canaries
from platform_assets.platform import Platform
from platform_assets.quality import profiles
from platform_assets.semantics.events import CANARY, is_canary
from platform_assets.silver import admissions, events, outcomes, quarantine, touched_hours
from platform_assets.streams import rebuilds
from platform_assets.streams.epochs import watermark_of
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.streams.replay import ReplayConfig, replay
from resources.lake import Lake, Writer
from resources.records import FrameSource
from support.drawn import drawn
from support.lakes import (
    ALLOWED_LATENESS,
    COORDINATES,
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
    substance,
)
from support.records import START, TOPIC, Record, at, encoded, numbered, source
from support.records import event as an_event
from support.reference import expected

PARTITIONS = 3
WORLD = Window(START - timedelta(days=1), START + timedelta(days=1))

HOME = {"e0": 0.0, "e1": 59.9, "e2": 119.5, "e3": 121.0}
"""When each event occurred, by its own clock, in minutes; mostly, the same id has the same time."""


@st.composite
def event_values(draw: st.DrawFn) -> tuple[float, bytes]:
    """When an event was received, and its bytes; one in four breaks the contract in some way."""
    event_id = draw(st.sampled_from(sorted(HOME)))
    occurred = draw(st.sampled_from([HOME[event_id]] * 5 + [60.0, 180.0]))
    wait = draw(st.sampled_from([0.0, 0.0, 1.0, 70.0, 290.0]))
    travel = draw(st.sampled_from([0.0, 0.05, 0.2, 2.0, -5.0, -20.0]))
    received = occurred + wait + travel
    fields: dict[str, Any] = {
        "platform": draw(st.sampled_from([None, "web", "ios"])),
        "is_bot": draw(st.sampled_from([None, False, False, True])),
        "properties": draw(st.sampled_from([None, {}, {"n": 1}])),
    }
    if draw(st.integers(0, 7)) == 0:
        event_id = f"own-{event_id}"
        fields |= {"event_name": CANARY, "is_test": True}
    broken: dict[str, Any] = draw(
        st.sampled_from(
            [{}] * 12
            + [{"anonymous_id": None}, {"event_name": 7}, {"source": ""}, {"received_at": "noon"}]
            + [{"session_seq": 1.5, "event_name": None}, {"client_sent_at": "2026-11-20T22:00:00"}]
        )
    )
    sent = draw(st.sampled_from([None, occurred + wait, occurred + wait]))
    return received, encoded(an_event(event_id, occurred, received, sent, **{**fields, **broken}))


@st.composite
def topics(draw: st.DrawFn) -> list[Record]:
    """The records of a topic. A delivery may come again on any partition; record times may run backwards."""
    drawn: list[tuple[float, bytes | None]] = []
    values = event_values()
    for _ in range(draw(st.integers(1, 22))):
        again = drawn and draw(st.integers(0, 3)) == 0
        garbage = draw(st.integers(0, 11)) == 0
        if again:
            drawn.append(draw(st.sampled_from(drawn)))
        elif garbage:
            drawn.append((60.0, draw(st.sampled_from([b"", None, b"[1]", b"\xff", b"{"]))))
        else:
            drawn.append(draw(values))
    placed = []
    for received, value in drawn:
        delay = draw(st.sampled_from([0.0, 0.0, 0.1, 3.0, 61.0, 130.0]))
        placed.append((draw(st.integers(0, PARTITIONS - 1)), at(received + delay), value))
    records = numbered(placed)
    gap = draw(st.sampled_from([1, 1, 2]))  # a transaction's marker between any two
    return [Record(r.partition, r.offset * gap, r.ingested_at, r.value) for r in records]


windows = st.builds(
    lambda first, hours: Window(at(first * 60), at((first + hours) * 60)),
    st.sampled_from([-2, -1, 0, 0.5, 1, 1.5, 2, 3, 6]),
    st.sampled_from([0.5, 1, 1.5, 2, 4]),
)


@dataclass(frozen=True)
class Restart:
    """The writer ends between two batches, and another starts."""


@dataclass(frozen=True)
class Rebuild:
    """A rebuild of hours; at one of its moments, the writer takes a batch."""

    window: Window
    moment: int


@dataclass(frozen=True)
class Replay:
    """Refused events that are only too late are let in; at one of its moments, the process may end."""

    window: Window
    moment: int | None


@dataclass(frozen=True)
class Compact:
    """Small files become larger ones."""

    table: int


@dataclass(frozen=True)
class Batch:
    """A micro-batch; at one of its moments, the process may end or a rebuild may come in between."""

    size: int
    moment: int
    happening: Window | str | None


Act = Restart | Rebuild | Replay | Compact | Batch

scripts = st.lists(
    st.one_of(
        st.builds(Batch, st.integers(1, 8), st.integers(1, 26), st.one_of(st.none(), st.just("kill"), windows)),
        st.builds(Batch, st.integers(1, 8), st.integers(1, 26), st.one_of(st.none(), st.just("kill"), windows)),
        st.builds(Rebuild, windows, st.integers(0, 9)),
        st.builds(Replay, windows, st.one_of(st.none(), st.integers(1, 6))),
        st.just(Restart()),
        st.builds(Compact, st.integers(0, len(STREAM_TABLES) - 1)),
    ),
    min_size=1,
    max_size=7,
)


def play(lake: EventfulLake, held: FrameSource, script: list[Act]) -> None:
    """Let a script happen, then read what is left."""
    writer: MicroBatches | None = None

    def rebuild(window: Window, inside: Callable[[], object] | None = None, moment: int = 0) -> None:
        # A lake of its own: its moments are not the writer's.
        own = EventfulLake(lake.url, {moment: inside} if inside else {})
        rebuild_silver(own, window)

    for act in script:
        if isinstance(act, Restart):
            writer = None
        elif isinstance(act, Compact):
            lake.open(STREAM_TABLES[act.table]).optimize.compact()
        elif isinstance(act, Replay):
            replay_late(EventfulLake(lake.url, {act.moment: die} if act.moment else {}), held, act.window)
        elif isinstance(act, Rebuild):
            alive = writer
            rebuild(act.window, alive.step if alive else None, act.moment)
        else:
            happening = act.happening
            if happening == "kill":
                lake.happenings = {len(lake.moments) + act.moment: die}
            elif isinstance(happening, Window):
                lake.happenings = {len(lake.moments) + act.moment: functools.partial(rebuild, happening)}
            try:
                # The size is the writer's for its life.
                if writer is None:
                    writer = MicroBatches(lake, held, stream_settings(act.size))
                    writer.catch_up()
                writer.step()
            except Killed:
                event("killed")
                writer = None
            lake.happenings = {}
    drain(lake, held, stream_settings(7))
    assert any(moment.startswith("after writing") for moment in lake.moments), "no moment was ever offered"


def replay_late(lake: EventfulLake, held: FrameSource, window: Window) -> None:
    """Let in what is in quarantine for being too late, and nothing else."""
    calm = Lake(lake.url)
    stored = calm.scan(quarantine.TABLE, window).collect()
    late = {row[:4] for row in stored.filter(reasons=["too_late"]).select(COORDINATES).iter_rows()}
    known = {row[:4] for row in calm.scan(admissions.TABLE).select(COORDINATES).collect().iter_rows()}
    config = ReplayConfig(
        ingested_from=window.start.isoformat(), ingested_until=window.end.isoformat(), allow_late=True
    )
    try:
        found = replay(Platform(lake, stream_settings(), held), config, "a run")
    except Killed:
        event("a replay was killed")
        return
    event("something was let in" if found.admitted else "nothing was let in")
    assert found.admitted == len(late - known)


def copy_admissions(source: Lake, target: Lake) -> None:
    """Admit in one lake what another admitted, all in one admission."""
    writer = Writer(target, admissions.TABLE)
    app = admissions.taken_in("client_events")
    writer.progress(app)
    writer.append(source.scan(admissions.TABLE).with_columns(admission=pl.lit(1, pl.Int64)).collect(), {app: 1})


def check(records: list[Record], script: list[Act], folder: Path) -> None:
    held = source(records, PARTITIONS)
    streamed = EventfulLake(new_lake(folder / "streamed").url)
    play(streamed, held, script)
    batch = new_lake(folder / "batch")
    drain(batch, held)
    let_in = streamed.scan(admissions.TABLE).collect()
    assert let_in.select(COORDINATES).is_unique().all()
    copy_admissions(streamed, batch)
    drain(batch, held)

    assert_conserved(streamed, TOPIC)
    assert_as_expected(streamed, expected(records, ALLOWED_LATENESS, set(let_in.select(COORDINATES).iter_rows())))
    assert_same(streamed, batch)

    platform = Platform(streamed, stream_settings(), held)
    for rebuild in (
        rebuilds.rebuild_late_arrivals,
        rebuilds.rebuild_events,
        rebuilds.rebuild_quarantine,
        rebuilds.rebuild_dead_letters,
    ):
        rebuild(platform, WORLD)
    drain(streamed, held)  # what follows silver takes the rebuild in
    rebuilds.rebuild_outcomes(platform, WORLD)
    assert_conserved(streamed, TOPIC)
    assert_same(streamed, batch)


def given_a_world(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        limits = settings(
            max_examples=examples,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            phases=[phase for phase in Phase if phase is not Phase.explain],
        )
        return limits(given(records=topics(), script=scripts)(test))

    return decorate


@given_a_world(12)
def test_stream_equals_batch(records: list[Record], script: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(records, script, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given_a_world(25)
def test_stream_equals_batch_at_length(records: list[Record], script: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(records, script, Path(folder))


@drawn(10)
@given(records=topics())
def test_canaries_leave_everything_else_as_it_is(records: list[Record]) -> None:
    """The same topic with and without them: an offset may be missing, as where a transaction ended."""

    def is_ours(record: Record) -> bool:
        return record.value is not None and CANARY.encode() in record.value

    with tempfile.TemporaryDirectory() as folder:
        with_them, without = (new_lake(Path(folder) / name) for name in ("with", "without"))
        drain(with_them, source(records, PARTITIONS))
        drain(without, source([record for record in records if not is_ours(record)], PARTITIONS))
        event("with canaries" if any(map(is_ours, records)) else "without canaries")
        assert watermark_of(with_them.open(events.TABLE)) == watermark_of(without.open(events.TABLE))
        found, wanted = substance(with_them), substance(without)
        for table in (live_metrics.TABLE, touched_hours.TABLE):
            assert found[table.name] == wanted[table.name]
        others = with_them.scan(events.TABLE).filter(~is_canary()).collect()
        assert_frame_equal(others, without.scan(events.TABLE).collect(), check_row_order=False)
        assert profiled(with_them) == profiled(without)


def profiled(lake: Lake) -> list[tuple[Any, ...]]:
    """What is told of silver, and of what its topics brought, but for what was refused: canaries may be, too."""
    silver = lake.scan(events.TABLE)
    own = silver.filter(is_canary()).select(*COORDINATES, "ingested_at", sent_at="occurred_at").collect()
    told = own.with_columns(outcome=pl.lit("arrived"), sent_date=pl.col("sent_at").dt.date())
    lake.append(
        canaries.TABLE, pl.concat([canaries.TABLE.empty(), told], how="diagonal").select(canaries.TABLE.schema.names())
    )
    counted = outcomes.of_producers(lake, WORLD.start, WORLD.end).filter(outcome="silver")
    rows = [*profiles.of_outcomes(counted).rows(), *profiles.of_rows(events.TABLE, silver.filter(~is_canary())).rows()]
    return sorted([*rows, *outcomes.arrivals_since(lake, WORLD.start).rows()], key=repr)
