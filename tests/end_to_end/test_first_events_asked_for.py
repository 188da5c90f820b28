"""First-ever events through Dagster's own API: sensor, job, asset; and whose they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from platform_assets.silver import person_firsts
from sensors.first_events import first_events
from support.platforms import Run
from support.records import at, encoded, event

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAYS = 24 * 60


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A device that was anonymous for forty days; then Anna logs in on it, and Ben after her."""
    made = Run.over(tmp_path, [], NOW, allowed_lateness="P90D")
    act(
        made,
        event("early", -40 * DAYS, anonymous_id="phone"),
        event("claimed", -20 * DAYS, anonymous_id="phone"),
        event("again", -10 * DAYS, anonymous_id="phone"),
        event("login", 0, anonymous_id="phone", user_id="anna", event_name="logged_in"),
        event("ben", 60, anonymous_id="phone", user_id="ben", event_name="logged_in"),
        event("after", 90, anonymous_id="phone"),
        event("robot", -50 * DAYS, anonymous_id="phone", is_bot=True),
    )
    return made


def act(run: Run, *events: dict[str, object]) -> None:
    run.send([(encoded(fields), at(60 * 3)) for fields in events])
    run.drain()


def asks(run: Run, cursor: str | None) -> tuple[bool, str | None]:
    """Whether the sensor asks for a run, and its cursor afterwards."""
    context = dg.build_sensor_context(instance=run.instance, cursor=cursor, resources={"platform": run.platform})
    found = first_events(context)
    return isinstance(found, dg.RunRequest), context.cursor


def rows(run: Run) -> list[tuple[object, ...]]:
    return run.lake.scan(person_firsts.TABLE).select("raw_id", "event_name", "first_at").sort("raw_id").collect().rows()


def test_the_sensor_asks_the_job_runs_and_the_asset_comes_to_the_same(run: Run) -> None:
    asked, cursor = asks(run, None)
    assert asked
    result = run.execute("take_in_firsts")
    (shown,) = result.asset_materializations_for_node("take_in_touched_hours")
    assert shown.asset_key == person_firsts.TABLE.asset_key
    assert shown.metadata["firsts changed"].value == 3
    wanted = [
        ("a:phone", "page_viewed", at(-40 * DAYS)),
        ("u:anna", "logged_in", at(0)),
        ("u:ben", "logged_in", at(60)),
    ]
    assert rows(run) == wanted
    assert asks(run, cursor) == (False, cursor)

    act(run, event("more", 100, user_id="cleo"))
    assert asks(run, cursor) == (False, cursor), "an hour has not passed"
    run.now += timedelta(hours=1)
    asked, later = asks(run, cursor)
    assert asked
    assert later != cursor
    run.execute("take_in_firsts")
    assert rows(run) == [*wanted, ("u:cleo", "page_viewed", at(100))]

    run.lake.open(person_firsts.TABLE).delete()
    result = run.defs.get_implicit_global_asset_job_def().execute_in_process(
        instance=run.instance, asset_selection=[person_firsts.TABLE.asset_key]
    )
    assert result.success
    assert rows(run) == [*wanted, ("u:cleo", "page_viewed", at(100))]
    assert asks(run, None) == (False, None)


def test_firsts_of_persons_on_a_device_that_changes_hands(run: Run) -> None:
    run.execute("take_in_firsts")
    run.restate()
    found = person_firsts.firsts_of_persons(run.platform).sort("person_id", "event_name").collect()
    assert found.rows() == [
        ("a:phone", "page_viewed", at(-40 * DAYS)),
        ("u:anna", "logged_in", at(0)),
        ("u:anna", "page_viewed", at(-20 * DAYS)),
        ("u:ben", "logged_in", at(60)),
        ("u:ben", "page_viewed", at(90)),
    ]
