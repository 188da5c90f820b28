"""Persons through Dagster's own API: a login restates the days that it explains, and no other."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import polars as pl
import pytest

from platform_assets.gold import active_users, person_days
from platform_assets.identity_assets import impact, is_behind, no_super_nodes, preview_persons
from platform_assets.silver import identity_links, persons
from platform_assets.silver.persons import CHANGES
from sensors.restatement import RANGE_END, RANGE_START
from support.platforms import Run

TODAY = datetime(2026, 2, 10, tzinfo=UTC)
NOON = TODAY + timedelta(hours=12)


def event(
    at: datetime, anonymous: str | None = None, user: str | None = None, **more: object
) -> tuple[bytes, datetime]:
    name = more.pop("event_name", "page_viewed")
    fields = {
        "event_id": f"{anonymous}-{user}-{name}-{at:%j%H%M}",
        "source": "web",
        "event_name": name,
        "schema_ref": f"{name}/1",
        "client_occurred_at": at.isoformat(),
        "received_at": at.isoformat(),
        "anonymous_id": anonymous,
        "user_id": user,
        **more,
    }
    return msgspec.json.encode(fields), at


def days_ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def day(ago: int) -> date:
    return (TODAY - timedelta(days=ago)).date()


def numbers(run: Run) -> dict[date, tuple[int, int, int]]:
    rows = run.lake.scan(active_users.TABLE).select("day", "dau", "wau", "mau").collect()
    return {day: (dau, wau, mau) for day, dau, wau, mau in rows.iter_rows()}


def restated(run: Run) -> list[tuple[str, ...]]:
    return [done for done in run.restate() if done[0] != "restate_hours"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A device seen on three days by nobody known, and a user on another device."""
    values = [
        event(days_ago(7), "phone"),
        event(days_ago(4), "phone"),
        event(days_ago(2), "phone"),
        event(days_ago(2), "laptop", "anna"),
        event(NOON, "bot", is_bot=True),  # so that no day becomes final in what follows
    ]
    return Run.over(tmp_path, values, NOON)


def test_a_login_restates_the_days_that_it_explains(run: Run) -> None:
    run.drain()
    run.restate()
    assert numbers(run)[day(2)] == (2, 2, 2)
    assert numbers(run)[day(7)] == (1, 1, 1)

    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "phone", "anna")])
    run.drain()
    assert restated(run) == [("restate_persons",), ("restate_days", str(day(7)), str(day(0)))]
    assert numbers(run)[day(2)] == (1, 1, 1)
    assert numbers(run)[day(4)] == (1, 1, 1)
    assert numbers(run)[day(0)] == (1, 1, 1)
    assert set(run.lake.scan(person_days.TABLE).select("person_id").collect()["person_id"]) == {"u:anna"}
    changed = run.lake.scan(CHANGES).filter(pl.col("resolution") == 2).select("day", "raw_ids").sort("day").collect()
    assert changed.rows() == [(day(7), 1), (day(4), 1), (day(2), 1)]
    assert restated(run) == []


def test_another_event_of_a_known_user_resolves_nothing_anew(run: Run) -> None:
    run.drain()
    run.restate()
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "tablet"), event(run.now, None, "anna")])
    run.drain()
    assert restated(run) == [("restate_days", str(day(0)), str(day(0)))]
    assert not is_behind(run.platform)


def test_a_merge_that_arrives_late_can_be_previewed_and_restates_its_days(run: Run) -> None:
    run.send([event(days_ago(2), "desk", "anna-at-work"), event(days_ago(1), None, "anna-at-work")])
    run.drain()
    run.restate()
    assert numbers(run)[day(1)] == (1, 3, 3)
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, None, "anna", event_name="alias", properties={"previous_id": "anna-at-work"})])
    run.drain()
    hours = [request for request in run.requested() if request.job_name == "restate_hours"]
    for request in hours:
        run.execute("restate_hours", tags=request.tags)

    found = impact(run.platform)
    assert found.days.rows() == [(day(2), 3, 2), (day(1), 1, 1)]
    assert (found.merged, found.created) == (1, 0)
    before = numbers(run)
    result = run.execute(preview_persons.name)
    (told,) = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert f"{day(2)} | 3 | 2 | -1" in str(told.asset_observation_data.asset_observation.metadata["days"].value)
    assert numbers(run) == before

    assert restated(run) == [("restate_persons",), ("restate_days", str(day(2)), str(day(0)))]
    assert numbers(run)[day(2)] == (2, 2, 2)
    assert numbers(run)[day(1)] == (1, 2, 2)


def test_two_persons_in_one_hour_on_one_device(run: Run) -> None:
    at = days_ago(1)
    run.send(
        [
            event(at, "kiosk", "ben"),
            event(at + timedelta(minutes=5), "kiosk"),
            event(at + timedelta(minutes=10), "kiosk", "cleo"),
            event(at + timedelta(minutes=20), "kiosk", event_name="push_received"),
            event(at + timedelta(minutes=25), "kiosk", "dora", event_name="push_received"),
        ]
    )
    run.drain()
    run.restate()
    # The hour's anonymous page view is Cleo's, who logs in next; things only happened to Dora.
    assert numbers(run)[day(1)][0] == 2
    found = run.lake.scan(person_days.TABLE).filter(pl.col("day") == day(1), pl.col("history") % 2 == 1).collect()
    assert sorted(found["person_id"]) == ["u:ben", "u:cleo"]


def test_days_have_their_turn_where_hours_are_always_due(run: Run) -> None:
    def requested() -> set[str]:
        return {request.job_name or "" for request in run.requested()}

    def take(job: str) -> None:
        for request in run.requested():
            assert request.job_name == job
            run.execute(job, tags=request.tags)

    run.drain()
    take("restate_hours")
    for minute in (3, 6):  # the open hour is due again as soon as it is done
        run.now = NOON + timedelta(minutes=minute)
        run.send([event(run.now, "phone", f"user-{minute}")])
        run.drain()
        assert requested() == {"restate_persons"}
        take("restate_persons")
        assert requested() == {"restate_days"}
        take("restate_days")
        assert requested() == {"restate_hours"}
        take("restate_hours")


def test_a_backfill_in_any_order_gives_the_same(run: Run) -> None:
    run.drain()
    run.restate()
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "phone", "anna")])
    run.drain()
    run.restate()
    wanted = run.lake.scan(person_days.TABLE).sort("day", "person_id").collect()
    for ago in (4, 7, 0, 2):
        run.execute("restate_days", tags={RANGE_START: str(day(ago)), RANGE_END: str(day(ago))})
    assert run.lake.scan(person_days.TABLE).sort("day", "person_id").collect().equals(wanted)
    handle = run.lake.open(identity_links.TABLE)
    handle.delete()
    run.execute("restate_hours", tags={RANGE_START: f"{day(7)}-00:00", RANGE_END: f"{day(4)}-00:00"})
    run.execute("restate_hours", tags={RANGE_START: f"{day(4)}-00:00", RANGE_END: f"{day(0)}-23:00"})
    before = run.lake.scan(persons.TABLE).sort("raw_id").collect()
    run.execute("restate_persons")
    assert run.lake.scan(persons.TABLE).sort("raw_id").collect().equals(before)


def test_an_id_that_links_too_many_fails_the_check(run: Run) -> None:
    run.send([event(days_ago(1) + timedelta(seconds=n), "kiosk", f"user-{n}") for n in range(501)])
    run.drain()
    run.restate()
    result = no_super_nodes(run.platform)
    assert isinstance(result, dg.AssetCheckResult)
    assert not result.passed
    assert "a:kiosk | 501" in str(result.metadata["ids"].value)
    assert set(run.lake.scan(persons.TABLE).collect()["raw_id"]) == {"a:laptop"}
