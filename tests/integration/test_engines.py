"""Every gold number rebuilt with each engine over one lake: the same rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from local_stack.simulator import World, history
from partitions import Window
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    person_day_slices,
    person_days,
    sessions,
)
from platform_assets.gold.metric_files import load
from platform_assets.gold.metric_numbers import numbers
from platform_assets.platform import Platform
from platform_assets.silver import activity_hours, identity_links, persons
from platform_assets.table import Table
from resources.engine import EngineUnavailable
from support.engines import spark_remote
from support.platforms import Run

START = datetime(2026, 11, 30, tzinfo=UTC)  # a Monday; a month begins on the day after
DAYS = 2
ALL = Window(START, START + timedelta(days=DAYS))
PEOPLE_OF = """
metric: cohort
description: Whose last event was on the web or of Germany, and who has not ordered twice.
of:
  all:
    - any: [{property: platform, value: web}, {property: country, value: DE}]
    - none: [{did: {event: order_completed}, at_least: 2, days: 2}]
"""
ROLLING = """
metric: retention
description: Of those who saw a product, how many came back, by day.
start: {event: product_viewed}
interval: day
intervals: 2
kind: first_time
"""

pytestmark = pytest.mark.slow

Rebuild = Callable[[Platform, Window], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A few days of the simulator's shop, in the lake up to where numbers begin."""
    folder: Path = tmp_path_factory.mktemp("engines")
    world = World(seed=3, persons=250, start=START, days=DAYS)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    sent = [(d.value, epoch + timedelta(milliseconds=d.timestamp_ms)) for d in history(world)]
    made = Run.over(folder, sent, ALL.end - timedelta(minutes=1), start_date=START.date())
    made.drain()
    for table in (activity_hours, identity_links, fact_events):
        table.rebuild(made.platform, ALL)
    persons.resolve(made.platform)
    made.execute("take_in_firsts")
    own = folder / "metrics"
    own.mkdir()
    (own / "people_of.yaml").write_text(PEOPLE_OF)
    (own / "rolling.yaml").write_text(ROLLING)
    few = ("checkout", "checkout_experiment", "lifecycle_by_day")
    made.measure([n for n in made.numbers if n.table.name.split("/")[-1] in few] + list(numbers(load(own))))
    return made


def rebuilds(run: Run) -> list[tuple[Table, Rebuild]]:
    """The gold tables of numbers, each before those that read it."""
    modules = (person_days, active_users, person_day_slices, active_users_by_slice, sessions, conversions)
    return [(m.TABLE, m.rebuild) for m in modules] + [(number.table, number.rebuild) for number in run.numbers]


def rebuilt(run: Run, **settings: str) -> dict[str, pl.DataFrame]:
    """What the tables say once they were rebuilt under some settings."""
    run.reconfigure(**settings)
    found = {}
    for table, rebuild in rebuilds(run):
        rebuild(run.platform, ALL)
        found[table.name] = run.lake.scan(table).select(table.substance).sort(*table.key).collect()
    return found


@pytest.fixture(scope="module")
def by_polars(run: Run) -> dict[str, pl.DataFrame]:
    return rebuilt(run, engine="polars")


def assert_the_same(found: dict[str, pl.DataFrame], wanted: dict[str, pl.DataFrame]) -> None:
    assert {name for name, rows in wanted.items() if rows.is_empty()} == set()
    for name, rows in wanted.items():
        # Floats are added in another order.
        assert_frame_equal(found[name], rows, rel_tol=1e-9, abs_tol=1e-12, check_exact=False)


def test_duckdb_says_the_same(run: Run, by_polars: dict[str, pl.DataFrame]) -> None:
    assert_the_same(rebuilt(run, engine="duckdb"), by_polars)


def test_spark_connect_says_the_same(run: Run, by_polars: dict[str, pl.DataFrame]) -> None:
    assert_the_same(rebuilt(run, engine="spark", spark_remote=spark_remote()), by_polars)


def test_no_table_is_computed_by_another_engine_than_was_set(run: Run) -> None:
    run.reconfigure(engine="spark", spark_remote="sc://127.0.0.1:1")
    for _, rebuild in rebuilds(run):
        with pytest.raises(EngineUnavailable, match=r"nobody answers at 127\.0\.0\.1:1 .*HEADWATER_SPARK_REMOTE"):
            rebuild(run.platform, ALL)
