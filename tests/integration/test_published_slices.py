"""A table of another make in the ledger: by slice, by week, with what it was computed from on record only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from partitions import Window
from platform_assets.gold import active_users
from platform_assets.gold.published_numbers import TABLE, explained, history, publish
from platform_assets.ops.computations import TABLE as LEDGER
from platform_assets.ops.computations import Computation
from platform_assets.publication import Metric, Publication
from platform_assets.serving.catalog import Catalog
from platform_assets.serving.metrics import offers, values
from platform_assets.silver import events
from platform_assets.table import MONEY, Column, Table
from support.published import Restated

WEEK = date(2026, 1, 5)
REVENUE = Table(
    name="gold/revenue",
    description="Revenue by week and platform.",
    grain="week × platform",
    key=("week", "platform"),
    columns=(Column("week", pl.Date(), ""), Column("platform", pl.String(), ""), Column("amount", MONEY, "")),
    partition_by=("week",),
    window_on="week",
    partitions="day",
    cluster_by=("week",),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("week",),
    version=4,
)
PUBLISHES = Publication(
    REVENUE,
    (Metric("amount"),),
    ("platform",),
    grain="week",
    starts_on="week",
    watermark=None,
    definition=None,
    absent=0,
)


@pytest.fixture
def world(tmp_path: Path) -> Restated:
    made = Restated.begin(tmp_path / "lake")
    made.platform.lake.create(REVENUE)
    return made


def computed(
    world: Restated,
    silver: int,
    watermark: datetime,
    *,
    by: Publication = PUBLISHES,
    start: date = WEEK,
    **amounts: str,
) -> None:
    """A window's revenue by platform, from a version of silver."""
    lake, table, window = world.platform.lake, by.table, by.window(start, world.platform.settings.zone)
    rows = [(start, platform, Decimal(amount)) for platform, amount in amounts.items()]
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    made = lake.replace_days(table, lake.open(table), frame, start, start)
    done = Computation(table, window, events.TABLE.name, silver, made, len(rows), watermark)
    lake.append(LEDGER, done.row(world.platform.clock()))


def told(world: Restated, platform: str) -> list[tuple[Decimal, Decimal | None, list[str]]]:
    window = PUBLISHES.window(WEEK, world.platform.settings.zone)
    rows = history(world.platform, "revenue.amount", window, f"platform={platform}")
    return rows.select("value", "change", "causes").rows()


def test_slices_come_change_and_go(world: Restated) -> None:
    closed = datetime(2026, 1, 12, 6, tzinfo=UTC)
    computed(world, 0, closed, ios="10.10", web="5")
    publish(world.platform, PUBLISHES)
    world.late_event(WEEK)
    computed(world, 1, closed, ios="10.40", android="1")
    publish(world.platform, PUBLISHES)
    computed(world, 1, closed + timedelta(days=7), ios="10.40", android="1")
    publish(world.platform, PUBLISHES)

    first, late = ["first publication"], ["late events"]
    assert told(world, "ios") == [
        (Decimal("10.1"), None, first),
        (Decimal("10.4"), Decimal("0.3"), late),
        (Decimal("10.4"), 0, ["finality"]),
    ]
    assert told(world, "web") == [(5, None, first), (0, -5, late)], "it has no row any more: nothing, as declared"
    assert told(world, "android")[0] == (1, None, first)
    rows = world.platform.lake.scan(TABLE).collect()
    assert set(rows["definition_version"]) == {"4"}
    assert set(rows["grain"]) == {"week"}
    assert set(rows["watermark"]) == {closed, closed + timedelta(days=7)}
    window = Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
    sentence = explained(world.platform, "revenue.amount", window, "platform=ios").sentence
    assert sentence.startswith("revenue.amount of 2026-01-05 to 2026-01-11 (platform=ios) was first published as 10.1 ")
    assert "then +0.3 for late events" in sentence
    assert publish(world.platform, PUBLISHES).is_empty()


def test_a_slice_that_comes_back(world: Restated) -> None:
    closed = datetime(2026, 1, 12, 6, tzinfo=UTC)
    for amounts in ({"ios": "1", "web": "2"}, {"ios": "1"}, {"ios": "1", "web": "3"}):
        computed(world, 0, closed, **amounts)
        publish(world.platform, PUBLISHES)
    assert [row[:2] for row in told(world, "web")] == [(2, None), (0, -2), (3, 3)]
    assert [row[2] for row in told(world, "web")[1:]] == [["backfill"], ["backfill"]]
    assert len(told(world, "ios")) == 1


def test_a_number_by_the_day_that_is_one_by_the_week_now(world: Restated) -> None:
    """The day that a week begins on is another window: it is taken back like the others, and the week is new."""
    closed, tuesday = datetime(2026, 1, 12, 6, tzinfo=UTC), WEEK + timedelta(days=1)
    by_day = replace(PUBLISHES, table=replace(REVENUE, version=3), grain="day", absent=None)
    computed(world, 0, closed, by=by_day, ios="1")
    computed(world, 0, closed, by=by_day, start=tuesday, ios="2")
    publish(world.platform, by_day)
    by_week = replace(PUBLISHES, absent=None)
    computed(world, 0, closed, by=by_week, ios="3")
    computed(world, 0, closed, by=by_week, start=tuesday)
    published = publish(world.platform, by_week).with_columns(days=pl.col("window_end") - pl.col("window_start"))
    redefined, day = ["definition change"], timedelta(days=1)
    assert published.sort("window_start", "grain").select("grain", "days", "revision", "value", "causes").rows() == [
        ("day", day, 2, None, redefined),
        ("week", 7 * day, 1, 3, ["first publication"]),
        ("day", day, 2, None, redefined),
    ]
    assert publish(world.platform, by_week).is_empty()
    with Catalog(world.platform.lake, [TABLE]) as catalog:
        offer = offers([by_week])["revenue.amount"]
        begun = Window.of_days(WEEK, WEEK, world.platform.settings.zone)
        assert values(catalog, offer, begun, limit=9)["value"].to_list() == [None, 3]


def test_days_that_nothing_came_to_are_not_read_again(world: Restated) -> None:
    lake, watermark = world.platform.lake, datetime(2026, 1, 14, tzinfo=UTC)
    first, last = date(2026, 1, 10), date(2026, 1, 11)
    for day in (first, last):
        world.compute(day, 1, 1, 1, watermark)
    for _ in range(25):  # records are written after their data, so the days of the newest versions are looked at again
        rows = lake.scan(active_users.TABLE).filter(day=last).collect()
        lake.replace_days(active_users.TABLE, lake.open(active_users.TABLE), rows, last, last)
    world.publish()
    for file in (Path(lake.url) / active_users.TABLE.name / f"day={first}").glob("*.parquet"):
        file.rename(file.with_suffix(".away"))
    world.compute(last, 2, 2, 2, watermark, recorded=False)
    assert world.publish().filter(metric="active_users.dau").select("value", "change").rows() == [(2, 1)]
    assert world.publish().is_empty()


def test_days_of_another_timezone_are_all_looked_at(world: Restated) -> None:
    watermark = datetime(2026, 1, 14, tzinfo=UTC)
    world.compute(date(2026, 1, 10), 1, 1, 1, watermark)
    world.publish()
    settings = world.platform.settings.model_copy(update={"reporting_timezone": "Europe/Berlin"})
    world.platform = replace(world.platform, settings=settings)
    world.compute(date(2026, 1, 11), 1, 1, 1, watermark)
    published = world.publish().filter(metric="active_users.dau").sort("window_start")
    assert published["window_start"].dt.hour().to_list() == [23, 0, 23], "the day as it was is no more"
    assert published["value"].to_list() == [1, None, 1]
