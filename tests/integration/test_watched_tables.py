"""Tables other than events that are watched: facts, whose hours are rebuilt, and the database's changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from partitions import Window
from platform_assets.alerts.of_tables import of_checks
from platform_assets.alerts.watched import Watched
from platform_assets.gold import fact_events
from platform_assets.ops import computations
from platform_assets.quality import profiles
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.quality.evaluations import Evaluation, new_evaluations
from platform_assets.silver import activity_hours, events, row_changes
from platform_assets.table import Table
from platform_assets.tables import WATCHED
from support.changes import TOPIC, change, user
from support.changes import encoded as encoded_change
from support.platforms import Run
from support.profiled import Count, invent
from support.records import START, Record, at, encoded, event, frame

HOUR = timedelta(hours=1)
NOW = at(6 * 60)
A_DAY = 24
HISTORY = 20 * A_DAY
PER_HOUR = 300
FIRST, SECOND = START, START + HOUR
ANOMALIES = {check.name for check in anomaly_checks(WATCHED)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.over(tmp_path, [], NOW, oltp_changes_topic=TOPIC)
    made.source.partitions = {**made.source.partitions, TOPIC: 1}
    return made


def act(run: Run, first: float, minutes: float) -> None:
    """Events of twenty users, who act in turn; they arrive when they occur."""
    times = [first + number * 60 / PER_HOUR for number in range(round(PER_HOUR * minutes / 60))]
    made = ((event(f"e{minute}", minute, user_id=f"u{n % 20}"), at(minute)) for n, minute in enumerate(times))
    run.send((encoded(fields), arrived) for fields, arrived in made)
    run.drain()


def change_rows(run: Run, *changes: tuple[float, dict[str, object]]) -> None:
    """Changes of the database, each with the minute of its arrival."""
    first = run.source.held(TOPIC)[0].high
    made = [
        Record(0, first + number, at(minute), encoded_change(value), topic=TOPIC)
        for number, (minute, value) in enumerate(changes)
    ]
    run.source.records = pl.concat([run.source.records, frame(made)])
    run.execute("advance_changes")


def cart(number: int) -> dict[str, object]:
    """A change of a table that is no dimension, six of which are a minute's."""
    return change("carts", "u", number + 1, number / 6, {"cart_id": "c1"})


def before(first: datetime, counts: Sequence[Count]) -> dict[datetime, Sequence[Count]]:
    """Hours of some weeks before one, that differ a little."""
    return {
        first - back * HOUR: [
            (measure, subject, value, rows + (back * 37) % 11, of_rows + (back * 37) % 11)
            for measure, subject, value, rows, of_rows in counts
        ]
        for back in range(HISTORY, 0, -1)
    }


def said(run: Run, table: Table) -> dict[tuple[str, str | None], Evaluation]:
    """The newest evaluation of each check and partition of a table."""
    told, _ = new_evaluations(run.instance, None)
    return {(t.check, t.partition): t for t in told if t.table == table.name}


def profiled(run: Run, table: Table) -> dict[tuple[datetime, str, str, str | None], int]:
    rows = run.lake.scan(profiles.TABLE).filter(source_table=table.name)
    told = rows.filter(pl.col("hour") >= START).select("hour", "measure", "subject", "value", "rows").collect()
    return {(*key, value): count for *key, value, count in told.iter_rows()}  # type: ignore[misc]


def test_a_join_that_breaks_is_warned_of_and_an_ordinary_hour_is_not(run: Run) -> None:
    """The table of users is emptied at the end of the first hour: from then on facts find nobody."""
    change_rows(run, *((0, change("users", "c", n + 1, -60, user(f"u{n}"))) for n in range(20)))
    act(run, 0, 60)
    change_rows(run, (60, change("users", "t", 100, 60)))
    act(run, 60, 80)
    nulls: Count = ("null", "user_plan", None, 0, PER_HOUR)
    plans: Count = ("value", "user_plan", "free", PER_HOUR, PER_HOUR)
    invent(run, fact_events.TABLE, before(FIRST, [("rows", profiles.ALL_ROWS, None, PER_HOUR, PER_HOUR), nulls, plans]))
    run.restate(run.sensor("fact_restatements"))
    run.restate(run.sensor("profiling"))
    told = said(run, fact_events.TABLE)
    ordinary, broken = (f"{hour:%Y-%m-%d-%H:%M}" for hour in (FIRST, SECOND))
    assert {key for key, evaluation in told.items() if not evaluation.passed and key[1]} == {("null_share", broken)}
    failed = told["null_share", broken]
    assert "user_plan at 2026-11-20 23:00 UTC: too high: 100.0% of 300 rows" in failed.description
    assert failed.severity == "warning"
    assert told["null_share", ordinary].passed
    assert "2 of 2 hours of series are as usual" in told["volume", broken].description


def test_an_hour_is_profiled_when_its_own_table_is_done_with_it(run: Run) -> None:
    act(run, 0, 200)
    sensor, hours = run.sensor("profiling"), [START + n * HOUR for n in range(3)]
    run.restate(sensor)
    assert {hour for hour, *_ in profiled(run, events.TABLE)} == set(hours)
    assert profiled(run, fact_events.TABLE) == {}
    told = {key: t.number for key, t in said(run, fact_events.TABLE).items() if key[0] in ANOMALIES}
    run.restate(run.sensor("fact_restatements"))
    again = {key: t.number for key, t in said(run, fact_events.TABLE).items() if key[0] in ANOMALIES}
    assert again == told, "facts are judged when they are profiled, not when they are computed"
    (request,) = run.requested(sensor)
    judged = {key.asset_key for key in request.asset_check_keys or ()}
    assert fact_events.TABLE.asset_key in judged
    assert events.TABLE.asset_key not in judged, "they were"
    run.restate(sensor)
    facts = profiled(run, fact_events.TABLE)
    assert {hour: facts[hour, "rows", profiles.ALL_ROWS, None] for hour in hours} == dict.fromkeys(hours, PER_HOUR)
    volume = {partition for check, partition in said(run, fact_events.TABLE) if check == "volume"}
    assert volume == {None, *(f"{hour:%Y-%m-%d-%H:%M}" for hour in hours)}
    run.restate()
    run.restate(sensor)
    ids = profiled(run, activity_hours.TABLE)
    assert [ids[hour, "distinct", "raw_id", None] for hour in hours] == [20, 20, 20]


def test_an_hour_that_a_table_is_done_with_while_a_run_begins_is_judged_by_it(run: Run) -> None:
    act(run, 0, 80)
    sensor, hour = run.sensor("profiling"), f"{FIRST:%Y-%m-%d-%H:%M}"
    (request,) = run.requested(sensor)
    run.restate(run.sensor("fact_restatements"))
    run.launch(request)
    assert run.requested(sensor) == []
    facts, activity = (said(run, table)["volume", hour] for table in (fact_events.TABLE, activity_hours.TABLE))
    assert "not enough history" in facts.description
    assert "not profiled yet" in activity.description
    assert (facts.ends_earlier, activity.ends_earlier) == (True, False)


def test_silent_hours_of_facts_are_hours_of_nothing(run: Run) -> None:
    """Nobody ever computes an hour that silver has nothing in: it is profiled nevertheless, and no gap."""
    act(run, 0, 60)
    act(run, 180, 80)
    run.restate(run.sensor("fact_restatements"))
    run.restate(run.sensor("profiling"))
    ledger = run.lake.scan(computations.TABLE).collect()
    settled = profiles.settled(run.platform, fact_events.TABLE, ledger)
    assert settled["event_hour"].to_list() == [START + n * HOUR for n in range(4)]
    assert profiles.missing(fact_events.TABLE, settled, ledger) == []
    assert {hour for hour, *_ in profiled(run, fact_events.TABLE)} == {START, START + 3 * HOUR}


def test_facts_that_were_computed_again_are_profiled_again_once_a_day(run: Run) -> None:
    act(run, 0, 140)
    sensor = run.sensor("profiling")
    run.restate(run.sensor("fact_restatements"))
    run.restate(sensor)
    before_it = profiled(run, fact_events.TABLE)
    fact_events.rebuild(run.platform, Window(FIRST, SECOND))
    assert run.requested(sensor) == []
    run.now += timedelta(days=1)
    (request,) = run.requested(sensor)
    assert {key.asset_key for key in request.asset_check_keys or ()} == {profiles.TABLE.asset_key}
    run.restate(sensor)
    assert profiled(run, fact_events.TABLE) == before_it


def test_a_rebuild_of_all_tables_gives_the_same(run: Run) -> None:
    change_rows(run, *((n / 6, cart(n)) for n in range(900)))
    act(run, 0, 140)
    run.restate(run.sensor("fact_restatements"))
    run.restate()
    run.restate(run.sensor("profiling"))
    told = run.lake.scan(profiles.TABLE).sort(pl.all()).collect()
    assert set(told["source_table"]) == {table.name for table in WATCHED}
    profiles.rebuild(run.platform, Window(START - HOUR, START + 6 * HOUR), WATCHED)
    assert run.lake.scan(profiles.TABLE).sort(pl.all()).collect().equals(told)


def test_a_table_of_the_database_that_changes_no_more_is_warned_of_until_it_does(run: Run) -> None:
    """Nothing comes for an hour and a half; only with the next changes is that hour closed."""
    usual: list[Count] = [("rows", "carts", None, 360, 360), ("value", "op", "u", 360, 360)]
    invent(run, row_changes.TABLE, before(FIRST, usual))
    change_rows(run, *((n / 6, cart(n)) for n in range(360)))
    change_rows(run, *((n / 6, cart(n)) for n in range(960, 1380)))
    sensor, check = run.sensor("profiling"), "volume"
    run.restate(sensor)
    failed = said(run, row_changes.TABLE)[check, None]
    assert not failed.passed
    assert "carts at 2026-11-20 23:00 UTC: too low: 0 rows" in failed.description
    assert "carts at 2026-11-20 22:00" not in failed.description
    assert profiled(run, row_changes.TABLE)[FIRST, "value", "op", "u"] == 360
    open_now, _ = new_evaluations(run.instance, None)
    watched = Watched(checks=[dg.AssetCheckKey(row_changes.TABLE.asset_key, check)])
    assert [c.cause for c in of_checks(open_now, {}, watched)] == ["check:silver/row_changes:volume"]
    change_rows(run, *((n / 6, cart(n)) for n in range(1380, 1900)))
    run.restate(sensor)
    assert said(run, row_changes.TABLE)[check, None].passed
    told, _ = new_evaluations(run.instance, None)
    assert list(of_checks(told, {}, watched)) == []
