"""Whatever is restated, computed and published in whatever order: the ledger tells what was said, and nothing twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.gold import active_users, published_numbers
from platform_assets.gold.published_numbers import as_known_at
from support.published import NOW, START, Restated

DAYS = [START + timedelta(days=n) for n in range(3)]
COUNTS = st.integers(0, 3)

ACTS = st.one_of(
    st.tuples(st.just("compute"), st.sampled_from(DAYS), COUNTS, COUNTS, st.integers(0, 60), st.booleans()),
    st.tuples(st.just("late event"), st.sampled_from(DAYS)),
    st.tuples(st.just("merge"), st.sampled_from(DAYS)),
    st.tuples(st.just("compact")),
    st.tuples(st.just("publish")),
)


@contextmanager
def a_lake() -> Iterator[Restated]:
    with tempfile.TemporaryDirectory() as folder:
        yield Restated.begin(Path(folder) / "lake")


def act(world: Restated, what: str, *how: object) -> None:
    if what == "compute":
        day, dau, more, days_on, recorded = how
        watermark = datetime(2026, 1, 10, tzinfo=UTC) + timedelta(days=days_on)  # type: ignore[arg-type]
        world.compute(day, dau, dau + more, dau + more, watermark, recorded=recorded)  # type: ignore[arg-type, operator]
    elif what == "late event":
        world.late_event(*how)  # type: ignore[arg-type]
    elif what == "merge":
        world.merge(*how)  # type: ignore[arg-type]
    elif what == "compact":
        for table in (active_users.TABLE, published_numbers.TABLE):
            world.platform.lake.open(table).optimize.compact()
    else:
        world.publish()


def said_by_gold(world: Restated) -> dict[tuple[str, object], object]:
    """Every number as the gold table has it, with how final it is."""
    numbers = active_users.PUBLISHES.numbers(world.platform.lake.scan(active_users.TABLE), world.platform.settings.zone)
    return {(row["metric"], row["window_start"]): row["value"] for row in numbers.iter_rows(named=True)}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACTS, max_size=14))
def test_the_ledger_says_what_gold_says(acts: list[tuple[object, ...]]) -> None:
    with a_lake() as world:
        known: list[tuple[datetime, dict[tuple[str, object], object]]] = []
        for what, *how in [*acts, ("publish",)]:
            act(world, str(what), *how)
            if what == "publish":
                known.append((world.platform.clock(), said_by_gold(world)))

        entries = world.entries()
        last = published_numbers.latest(entries.lazy())
        said = {(row["metric"], row["window_start"]): row["value"] for row in last.iter_rows(named=True)}
        assert said == said_by_gold(world)
        assert world.publish().is_empty(), "nothing is left to publish"

        told = ["value", "definition_version", "is_closed", "is_final", "is_person_final"]
        for (metric, start), rows in entries.group_by("metric", "window_start", maintain_order=True):
            assert rows["revision"].to_list() == list(range(1, rows.height + 1))
            assert rows["published_at"].is_sorted()
            assert rows["causes"].to_list()[0] == ["first publication"]
            assert rows["causes"].list.len().min() > 0  # type: ignore[operator]
            states = rows.select(told).rows()
            assert all(former != later for former, later in pairwise(states)), "an empty entry"
            for former, later in pairwise(rows.iter_rows(named=True)):
                assert (later["causes"] == ["finality"]) == (later["value"] == former["value"])
            if rows["value"].null_count() == 0:
                assert rows["value"][0] + (rows["change"].sum() or 0) == rows["value"][-1]
            # As known at any publication: what gold said then.
            window = Window(start, rows["window_end"][0])
            for instant, then in known:
                row = as_known_at(world.platform, str(metric), window, instant)
                assert (None if row is None else row["value"]) == then.get((metric, start))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACTS, max_size=10), seconds=st.lists(st.integers(-5, 5), min_size=1))
def test_what_was_known_by_an_instant_stays(acts: list[tuple[object, ...]], seconds: list[int]) -> None:
    """Whatever the clock says: it stands still here, and goes back."""
    with a_lake() as world:
        hands = cycle(seconds)
        world.platform = replace(world.platform, clock=lambda: NOW + timedelta(seconds=next(hands)))
        known: list[tuple[datetime, pl.DataFrame]] = []
        for what, *how in [*acts, ("compute", START, 1, 0, 0, True), ("publish",)]:
            act(world, str(what), *how)
            until = published_numbers.known_until(world.platform.lake.open(published_numbers.TABLE))
            if until is not None:
                known.append((until, world.entries()))
        assert known
        for until, then in known:
            assert world.entries().filter(pl.col("published_at") <= until).equals(then)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    causes=st.lists(
        st.tuples(st.sampled_from(["late event", "merge", "nothing"]), st.sampled_from(DAYS)), min_size=1, max_size=6
    )
)
def test_causes_are_those_that_lie_between_two_publications(causes: list[tuple[str, object]]) -> None:
    """The last day counts itself and the days before it, so whatever is put in reaches its MAU."""
    with a_lake() as world:
        watermark = datetime(2026, 1, 14, tzinfo=UTC)
        day, metric = DAYS[-1], "active_users.mau"
        world.compute(day, 1, 1, 1, watermark)
        world.publish()
        names = {"late event": "late events", "merge": "identity merge", "nothing": "backfill"}
        for number, (what, of) in enumerate(causes):
            if what != "nothing":
                act(world, what, of)
            world.compute(day, 1, 1, 2 + number, watermark)
            world.publish()
        found = world.entries().filter(pl.col("metric") == metric)["causes"].to_list()
        assert found == [["first publication"], *([names[what]] for what, _ in causes)]
