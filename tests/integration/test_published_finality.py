"""A number is as final in the ledger as it is in gold, whatever days after its own it is made of."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from partitions import Window
from platform_assets.gold import published_numbers
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_numbers import own_numbers
from platform_assets.ops import computations
from platform_assets.ops.computations import Computation
from platform_assets.platform import Platform
from platform_assets.table import Column
from platform_assets.tables import TABLES
from resources.lake import Lake
from resources.settings import Settings

DAY = date(2026, 6, 1)
"""A Monday, and the first of a month: a bucket of any length begins on it."""
FLAGS = ["is_closed", "is_final"]
PUBLISHED = [number for number in own_numbers() if number.publishes is not None]
OF_ITSELF: dict[type, Any] = {pl.Date: DAY, pl.String: "x", pl.Boolean: False, pl.Datetime: datetime.now(UTC)}


def any_value(column: Column) -> Any:
    return column.accepted[0] if column.accepted else OF_ITSELF.get(type(column.dtype), 1)


def settling(number: DailyNumber, zone: ZoneInfo) -> dict[int | None, datetime]:
    """When the rows of the day settle, by what tells them apart where they differ in it."""
    if number.ends is None:
        return {None: datetime(2026, 6, 2, tzinfo=zone).astimezone(UTC) + timedelta(days=number.ahead)}
    after = {part: last + timedelta(days=1) for part, last in number.ends.last_days(DAY).items()}
    return {part: datetime.combine(day, time(), zone).astimezone(UTC) for part, day in after.items()}


def compute(platform: Platform, number: DailyNumber, watermark: datetime, value: int) -> dict[int | None, list[bool]]:
    """The day's rows in gold, one or one for each that settles by itself: as they say themselves how final they are."""
    table = number.table
    row = {column.name: any_value(column) for column in table.columns}
    assert number.publishes is not None
    row |= {metric.column: value for metric in number.publishes.metrics}
    parts: list[int | None] = [None] if number.ends is None else [*number.ends.last_days(DAY)]
    rows = [row if number.ends is None else row | {number.ends.by: part} for part in parts]
    held = pl.DataFrame(rows).cast(dict(table.schema)).select(table.schema.names())
    told = number._with_finality(held.drop(*FLAGS), platform, [DAY], watermark)  # as its rebuild does
    made = platform.lake.replace_days(table, platform.lake.open(table), told, DAY, DAY)
    window = Window.of_days(DAY, DAY, platform.settings.zone)
    done = Computation(table, window, number.source.name, 0, made, told.height, watermark)
    platform.lake.append(computations.TABLE, done.row(platform.clock()))
    return {
        (None if number.ends is None else one[number.ends.by]): [one[name] for name in FLAGS] for one in told.to_dicts()
    }


@pytest.mark.parametrize("number", PUBLISHED, ids=[number.table.name for number in PUBLISHED])
def test_the_ledger_is_as_sure_as_gold(number: DailyNumber, tmp_path: Path) -> None:
    platform = Platform(Lake(str(tmp_path)), Settings(reporting_timezone="Asia/Kolkata"))
    for table in (*TABLES, number.table):
        platform.lake.create(table)
    zone, lateness = platform.settings.zone, platform.settings.allowed_lateness
    settles = settling(number, zone)
    first, *_, last = [*sorted(settles.values()), max(settles.values())]
    moments = {Window.of_days(DAY, DAY, zone).end, first, last, first + lateness, last + lateness}
    seen = set()
    for value, moment in enumerate(sorted(moments)):
        for watermark in (moment - timedelta(seconds=1), moment):
            in_gold = compute(platform, number, watermark, value)
            wanted = {part: [watermark >= at, watermark >= at + lateness] for part, at in settles.items()}
            assert in_gold == wanted, watermark
            assert number.publishes is not None
            published_numbers.publish(platform, number.publishes)
            latest = published_numbers.latest(platform.lake.scan(published_numbers.TABLE))
            assert {of_slice(text, number): flags for text, *flags in latest.select("slice", *FLAGS).rows()} == wanted
            seen.update(tuple(flags) for flags in wanted.values())
            shares = latest["expected_late_share"]
            assert ((shares == 0) & ~latest["is_final"]).sum() == 0, "something is still to come"
    assert {(False, False), (True, True)} <= seen


def of_slice(text: str, number: DailyNumber) -> int | None:
    """What tells when the number of a slice settles."""
    return None if number.ends is None else int(text.removeprefix(f"{number.ends.by}="))
