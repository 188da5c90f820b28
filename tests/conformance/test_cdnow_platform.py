"""Purchases of real customers through the platform, from records to cohorts, against plain loops over the file."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from partitions import Window
from platform_assets.gold.metric_files import load
from platform_assets.gold.metric_numbers import numbers
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.silver import activity_hours, identity_links, persons
from support.platforms import Run
from tests.conformance.test_cdnow import lines

INTERVALS = 15
FIRST, LAST = date(1997, 1, 1), date(1998, 6, 30)
NOW = datetime(1998, 7, 20, tzinfo=UTC)
METRIC = f"""
metric: retention
description: Of those who bought for the first time in a month, how many bought again.
start: {{event: order_completed}}
returning: {{event: order_completed}}
interval: month
intervals: {INTERVALS}
kind: first_time
"""


def purchase(number: int, customer: str, day: date) -> tuple[bytes, datetime]:
    """A purchase as an event that arrives when it occurs: of a day nothing more is known, so noon it is."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(milliseconds=number)
    told = {
        "event_id": f"o{number}",
        "source": "shop",
        "event_name": "order_completed",
        "schema_ref": "order_completed/1",
        "client_occurred_at": at.isoformat(),
        "received_at": at.isoformat(),
        "user_id": customer,
    }
    return json.dumps(told).encode(), at


@pytest.mark.slow
def test_cohorts_of_real_customers(tmp_path: Path) -> None:
    bought = sorted(lines(), key=lambda line: line[1])
    run = Run.over(tmp_path, [], NOW, start_date=FIRST)
    run.send([purchase(n, customer, day) for n, (customer, day, _) in enumerate(bought)])
    run.send([purchase(len(bought), "nobody", date(1998, 7, 12))])  # so that June's window is over
    run.drain()
    files = tmp_path / "metrics"
    files.mkdir()
    (files / "repeat_purchases.yaml").write_text(METRIC)
    (made,) = numbers(load(files))
    run.measure([made])
    cohorts = Window(datetime(1997, 1, 1, tzinfo=UTC), datetime(1997, 4, 1, tzinfo=UTC))
    whole = Window(cohorts.start, datetime(1998, 7, 13, tzinfo=UTC))
    for table in (activity_hours, identity_links):
        table.rebuild(run.platform, whole)
    persons.resolve(run.platform)
    run.execute("take_in_firsts")
    made.rebuild(run.platform, cohorts)

    months: dict[str, set[int]] = defaultdict(set)
    for customer, day, _ in bought:
        months[customer].add(bucket_of(day, "month"))
    expected: dict[tuple[date, int], int] = defaultdict(int)
    for active in months.values():
        for month in active:
            expected[start_of(min(active), "month").date(), month - min(active)] += 1
    told = run.lake.scan(made.table).sort("day", "interval").collect()
    assert told.select("day", "interval", "persons").rows() == [
        (start, interval, expected[start, interval])
        for start in (date(1997, month, 1) for month in (1, 2, 3))
        for interval in range(INTERVALS)
    ]
    assert told.filter(interval=0)["persons"].sum() == 23_570
    assert told["is_complete"].all()
    assert told["is_final"].all()
