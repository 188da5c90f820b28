"""A number is as final in the ledger as it is in gold, whatever days after its own it is made of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
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


def compute(platform: Platform, number: DailyNumber, watermark: datetime, value: int) -> pl.DataFrame:
    """The day's one row in gold, as it says itself how final it is."""
    table = number.table
    row = {column.name: any_value(column) for column in table.columns}
    assert number.publishes is not None
    row |= {metric.column: value for metric in number.publishes.metrics}
    rows = pl.DataFrame([row]).cast(dict(table.schema)).select(table.schema.names())
    told = number._with_finality(rows.drop(*FLAGS), platform, [DAY], watermark)  # as its rebuild does
    made = platform.lake.replace_days(table, platform.lake.open(table), told, DAY, DAY)
    window = Window.of_days(DAY, DAY, platform.settings.zone)
    done = Computation(table, window, number.source.name, 0, made, 1, watermark)
    platform.lake.append(computations.TABLE, done.row(platform.clock()))
    return told.select(FLAGS)


@pytest.mark.parametrize("number", PUBLISHED, ids=[number.table.name for number in PUBLISHED])
def test_the_ledger_is_as_sure_as_gold(number: DailyNumber, tmp_path: Path) -> None:
    platform = Platform(Lake(str(tmp_path)), Settings(reporting_timezone="Asia/Kolkata"))
    for table in (*TABLES, number.table):
        platform.lake.create(table)
    end = datetime(2026, 6, 2, tzinfo=ZoneInfo("Asia/Kolkata")).astimezone(UTC)
    reach, lateness = timedelta(days=number.ahead), platform.settings.allowed_lateness
    moments = sorted({end + shift for shift in (-reach, timedelta(0), reach, lateness, reach + lateness)})
    seen = set()
    for value, moment in enumerate(moments):
        for watermark in (moment - timedelta(seconds=1), moment):
            in_gold = compute(platform, number, watermark, value)
            assert number.publishes is not None
            published_numbers.publish(platform, number.publishes)
            latest = published_numbers.latest(platform.lake.scan(published_numbers.TABLE))
            assert latest.select(FLAGS).unique().rows() == in_gold.rows(), watermark
            seen.add(in_gold.row(0))
            shares = latest["expected_late_share"]
            assert ((shares == 0) & ~latest["is_final"]).sum() == 0, "something is still to come"
    assert (False, False) in seen
    assert (True, True) in seen or number.table.source != "events"
