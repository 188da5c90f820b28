"""The numbers against the truth: the simulator's uncorrupted world, counted in plain Python by semantics 5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from local_stack.simulator import TruthRow, World, history
from local_stack.simulator.corrupt import BREAKS_CONTRACT, UNDECODABLE
from platform_assets.gold import active_users, live_metrics
from platform_assets.silver import events, outcomes
from support.platforms import Run

DAYS = 32
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=DAYS)


def owner(row: TruthRow, logins: dict[str, list[tuple[int, str]]]) -> str:
    """Whose an event is (semantics 4): its user's, else who is next to log in on its device, else who was last."""
    if row.user_id:
        return row.user_id
    assert row.anonymous_id
    seen = logins[row.anonymous_id]
    later = [one for one in seen if row.occurred_at <= one[0] <= row.occurred_at + 30 * 86_400_000_000]
    earlier = [one for one in seen if one[0] < row.occurred_at]
    return min(later)[1] if later else max(earlier)[1] if earlier else row.anonymous_id


def counted(truth: Sequence[TruthRow]) -> dict[date, tuple[int, int, int]]:
    """DAU, WAU and MAU of each day, straight from the definition."""
    logins: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in truth:
        if row.user_id and row.anonymous_id and not row.is_too_late:
            logins[row.anonymous_id].append((row.occurred_at, row.user_id))
    active: dict[date, set[str]] = defaultdict(set)
    for row in truth:
        if row.is_bot or row.is_test or row.is_passive or row.is_too_late:
            continue
        day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row.occurred_at)).date()
        active[day].add(owner(row, logins))
    spans = (1, 7, 28)
    return {
        day: tuple(len(set().union(*(active[day - timedelta(days=k)] for k in range(span)))) for span in spans)  # type: ignore[misc]
        for day in (START.date() + timedelta(days=n) for n in range(DAYS))
    }


@pytest.mark.slow
def test_the_drained_numbers_are_the_true_ones(tmp_path: Path) -> None:
    truth: list[TruthRow] = []
    world = World(seed=7, persons=150, start=START, days=DAYS)
    deliveries = list(history(world, on_truth=truth.append))
    run = Run.over(
        tmp_path,
        [(d.value, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=d.timestamp_ms)) for d in deliveries],
        END - timedelta(minutes=1),
        start_date=START.date(),
        micro_batch_records=1500,
    )
    run.drain()
    run.restate()

    rows = run.lake.scan(active_users.TABLE).select("day", "dau", "wau", "mau").collect()
    found = {day: (dau, wau, mau) for day, dau, wau, mau in rows.iter_rows()}
    expected = counted(truth)
    assert {day: found.get(day) for day in expected} == expected
    # Persons, not ids: more devices were active than persons.
    last = max(expected)
    month = {row.anonymous_id for row in truth if row.anonymous_id and not (row.is_bot or row.is_test)}
    assert expected[last][2] < len(month)
    # The corruption is not to be seen in the numbers, but it was there.
    counts = run.lake.scan(outcomes.TABLE).group_by("outcome").agg(pl.col("records").sum()).collect()
    told = dict(counts.iter_rows())
    kinds: dict[str, int] = defaultdict(int)
    for delivery in deliveries:
        kinds[delivery.kind] += 1
    assert told["dead_lettered"] == sum(kinds[kind] for kind in UNDECODABLE) > 0
    assert told["quarantined"] == sum(kinds[kind] for kind in BREAKS_CONTRACT) + kinds["too_late"] > 0
    assert told["duplicate"] == kinds["duplicate"] > 0
    assert told["silver"] == kinds["first"] == sum(not row.is_too_late for row in truth)
    # Every event stands at its true time, whatever the device's clock said.
    true_times = {(row.source, row.event_id): row.occurred_at for row in truth if not row.is_too_late}
    stored = run.lake.scan(events.TABLE).select("source", "event_id", pl.col("occurred_at").dt.epoch("us")).collect()
    assert {(source, event): at for source, event, at in stored.iter_rows()} == true_times
    live = run.lake.scan(live_metrics.TABLE).select(pl.col("events").sum()).collect().item()
    assert live == sum(not (row.is_too_late or row.is_bot or row.is_test) for row in truth)
