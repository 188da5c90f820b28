"""The ledger of published numbers through Dagster's own API: what was said, and why it is different now."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import msgspec
import polars as pl
import pytest
from rich.console import Console

from local_stack.why import answer
from partitions import Window
from platform_assets.gold import active_users, published_numbers
from platform_assets.gold.published_numbers import as_known_at, explained, history
from sensors.publication import publish_numbers
from sensors.restatement import RANGE_END, RANGE_START
from support.platforms import Run

TODAY = datetime(2026, 2, 10, tzinfo=UTC)
NOON = TODAY + timedelta(hours=12)
DAU, WAU, MAU = "active_users.dau", "active_users.wau", "active_users.mau"


def event(
    at: datetime, anonymous: str | None = None, user: str | None = None, *, sent: datetime | None = None
) -> tuple[bytes, datetime]:
    """A view; received, and recorded, when it was sent."""
    sent = at if sent is None else sent
    fields = {
        "event_id": f"{anonymous}-{user}-{at:%j%H%M}",
        "source": "web",
        "event_name": "page_viewed",
        "schema_ref": "page_viewed/1",
        "client_occurred_at": at.isoformat(),
        "client_sent_at": sent.isoformat(),
        "received_at": sent.isoformat(),
        "anonymous_id": anonymous,
        "user_id": user,
    }
    return msgspec.json.encode(fields), sent


def ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def day(back: int) -> date:
    return (TODAY - timedelta(days=back)).date()


def window(back: int) -> Window:
    return Window.of_days(day(back), day(back), ZoneInfo("UTC"))


def told(run: Run, metric: str, back: int) -> list[tuple[int, list[str]]]:
    """All that was said of a number: values and causes."""
    rows = history(run.platform, metric, window(back)).select("value", "causes").rows()
    return [(int(value), causes) for value, causes in rows]


def changed(run: Run) -> set[tuple[str, date, str]]:
    """Every number that is another than at first: metric, day, why."""
    rows = run.lake.scan(published_numbers.TABLE).filter(pl.col("change") != 0).collect()
    return {
        (row["metric"].split(".")[1], row["window_start"].date(), " and ".join(row["causes"]))
        for row in rows.iter_rows(named=True)
    }


def assert_agrees(run: Run) -> None:
    """Assert that what was published last is what the gold table holds, and that the changes add up."""
    entries = run.lake.scan(published_numbers.TABLE).sort("revision").collect()
    last = published_numbers.latest(entries.lazy())
    for row in run.lake.scan(active_users.TABLE).collect().iter_rows(named=True):
        of_day = last.filter(pl.col("window_start").dt.date() == row["day"])
        said = dict(of_day.select("metric", "value").iter_rows())
        assert {DAU: said[DAU], WAU: said[WAU], MAU: said[MAU]} == {DAU: row["dau"], WAU: row["wau"], MAU: row["mau"]}
    sums = entries.group_by("metric", "window_start").agg(
        by_change=pl.col("value").first() + pl.col("change").sum(), now=pl.col("value").last()
    )
    assert sums.filter(pl.col("now").is_not_null(), pl.col("by_change") != pl.col("now")).is_empty()


@pytest.fixture(scope="module")
def first_published(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A device seen on three days by nobody known, and a user on another device; all published."""
    values = [event(ago(back), "phone") for back in (7, 4, 2)]
    values += [event(ago(2), "laptop", "anna"), event(NOON, "tablet")]
    made = Run.over(tmp_path_factory.mktemp("published"), values, NOON)
    published(made)
    return made


@pytest.fixture
def run(first_published: Run, tmp_path: Path) -> Run:
    return first_published.copied(tmp_path)


def published(run: Run) -> None:
    run.drain()
    run.restate()


@pytest.mark.slow
def test_a_number_is_published_with_what_it_rests_on(run: Run) -> None:
    (row,) = history(run.platform, MAU, window(2)).iter_rows(named=True)
    assert (row["value"], row["change"], row["revision"]) == (Decimal(2), None, 1)
    assert row["causes"] == ["first publication"]
    assert (row["is_closed"], row["is_final"], row["is_person_final"]) == (True, False, False)
    assert row["watermark"] == NOON - timedelta(minutes=15)
    assert (row["definition_version"], row["published_at"]) == ("1", NOON)
    versions = json.loads(row["source_versions"])
    gold = run.lake.scan(active_users.TABLE).filter(pl.col("day") == day(2)).collect().row(0, named=True)
    assert versions["gold/person_days"] == gold["person_days_version"]
    assert versions["silver/persons"] == 1
    assert set(versions) == {
        "gold/active_users",
        "gold/person_days",
        "silver/activity_hours",
        "silver/events",
        "silver/persons",
    }
    assert row["expected_late_share"] is None, "no window before is final: there is nothing to tell it by"
    assert_agrees(run)


def test_a_late_event(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(ago(3), "stranger", sent=run.now)])
    published(run)
    late = {("dau", day(3), "late events")}
    late |= {(metric, day(back), "late events") for metric in ("wau", "mau") for back in (3, 2, 1, 0)}
    stickiness = {change for change in changed(run) if change[0] == "stickiness"}
    assert changed(run) - stickiness == late
    assert {why for _, _, why in stickiness} == {"late events"}
    assert told(run, DAU, 3) == [(0, ["first publication"]), (1, ["late events"])]
    assert told(run, DAU, 2) == [(2, ["first publication"])]
    assert_agrees(run)


def test_what_came_in_time_is_not_late(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "stranger")])
    published(run)
    assert told(run, DAU, 0) == [(1, ["first publication"]), (2, ["new events"])]
    assert {why for _, _, why in changed(run)} == {"new events"}
    assert {of for _, of, _ in changed(run)} == {day(0)}


@pytest.mark.slow
def test_a_login(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "phone", "anna")])
    published(run)
    assert told(run, DAU, 2) == [(2, ["first publication"]), (1, ["identity merge"])]
    assert {why for _, of, why in changed(run) if of != day(0)} == {"identity merge"}
    assert told(run, DAU, 0)[1:] == [(2, ["new events"])], "nobody else's events of today were claimed"
    assert told(run, MAU, 0)[1:] == [(2, ["new events", "identity merge"])], "either can have moved it"
    assert_agrees(run)


def test_a_late_event_and_a_login_at_once(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(run.now, "phone", "anna"), event(ago(2) + timedelta(hours=1), "stranger", sent=run.now)])
    run.send([event(ago(2) + timedelta(hours=2), "other", sent=run.now)])
    published(run)
    assert told(run, DAU, 2)[1:] == [(3, ["late events", "identity merge"])]


def test_a_cause_that_had_no_effect_is_not_blamed_later(run: Run) -> None:
    """A late event of somebody who was counted already changes nothing: the login after it is the only cause."""
    run.now = NOON + timedelta(hours=2)
    run.send([event(ago(2) + timedelta(hours=1), "phone", sent=run.now)])
    published(run)
    assert changed(run) == set()
    run.now = NOON + timedelta(hours=4)
    run.send([event(run.now, "phone", "anna")])
    published(run)
    assert told(run, DAU, 2)[1:] == [(1, ["identity merge"])]


@pytest.mark.slow
def test_a_backfill_by_other_settings(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.reconfigure(passive_events=["page_viewed"])
    run.execute("restate_hours", tags={RANGE_START: f"{day(2)}-12:00", RANGE_END: f"{day(2)}-12:00"})
    run.execute("restate_days", tags={RANGE_START: str(day(2)), RANGE_END: str(day(2))})
    assert told(run, DAU, 2) == [(2, ["first publication"]), (0, ["backfill"])]
    assert {why for _, _, why in changed(run)} == {"backfill"}
    assert {of for _, of, _ in changed(run)} == {day(2)}
    assert_agrees(run)


@pytest.mark.slow
def test_a_backfill_that_changes_nothing_is_not_told(run: Run) -> None:
    before = run.lake.scan(published_numbers.TABLE).collect()
    run.execute("restate_days", tags={RANGE_START: str(day(7)), RANGE_END: str(day(0))})
    assert run.lake.scan(published_numbers.TABLE).collect().equals(before)


@pytest.mark.slow
def test_another_definition(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.now = NOON + timedelta(hours=2)
    monkeypatch.setattr(active_users, "TABLE", replace(active_users.TABLE, version=2))
    run.execute("restate_days", tags={RANGE_START: str(day(2)), RANGE_END: str(day(2))})
    assert told(run, DAU, 2) == [(2, ["first publication"]), (2, ["definition change"])]
    assert history(run.platform, DAU, window(2))["definition_version"].to_list() == ["1", "2"]
    assert told(run, DAU, 1) == [(0, ["first publication"])]


@pytest.mark.slow
def test_another_definition_of_what_it_is_computed_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from platform_assets.gold import person_days

    run.now = NOON + timedelta(hours=2)
    monkeypatch.setattr(person_days, "TABLE", replace(person_days.TABLE, version=3))
    run.reconfigure(passive_events=["page_viewed"])  # so that the number moves
    run.execute("restate_hours", tags={RANGE_START: f"{day(2)}-12:00", RANGE_END: f"{day(2)}-12:00"})
    run.execute("restate_days", tags={RANGE_START: str(day(2)), RANGE_END: str(day(2))})
    assert told(run, DAU, 2) == [(2, ["first publication"]), (0, ["definition change"])]


@pytest.mark.slow
def test_finality_is_published_and_the_share_still_expected(run: Run) -> None:
    run.now = NOON + timedelta(days=9)
    run.send([event(ago(-8) + timedelta(minutes=n), "tablet") for n in range(20)])
    run.send([event(run.now + timedelta(minutes=n), "tablet") for n in range(20)])
    published(run)
    rows = history(run.platform, DAU, window(2))
    assert rows.select("causes", "is_final", "expected_late_share").rows() == [
        (["first publication"], False, None),
        (["finality"], True, 0.0),
    ]
    # All that ever came of the final days came within the hour: nothing more is expected of a day that is closed.
    closed = history(run.platform, DAU, window(-8)).row(-1, named=True)
    assert (closed["is_closed"], closed["is_final"], closed["expected_late_share"]) == (True, False, 0.0)
    # At noon, all that came at noon of the days before was still to come.
    assert history(run.platform, DAU, window(-9)).row(-1, named=True)["expected_late_share"] == 1.0

    run.now = NOON + timedelta(days=35)
    run.send([event(run.now + timedelta(minutes=n), "tablet") for n in range(20)])
    published(run)
    assert history(run.platform, DAU, window(2))["is_person_final"].to_list() == [False, False, True]
    assert told(run, DAU, 2)[-1] == (2, ["finality"])
    assert "neither events nor logins can change it" in explained(run.platform, DAU, window(2)).sentence
    assert run.requested() == []


@pytest.mark.slow
def test_as_known_at_any_moment(run: Run) -> None:
    for hours in (2, 26):
        run.now = NOON + timedelta(hours=hours)
        run.send([event(ago(3), f"stranger-{hours}", sent=run.now)])
        published(run)

    def known(at: datetime) -> Decimal | None:
        row = as_known_at(run.platform, DAU, window(3), at)
        return None if row is None else row["value"]

    moments = [NOON - timedelta(seconds=1), NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=2), run.now]
    assert [known(at) for at in moments] == [None, 0, 0, 1, 2]
    with pytest.raises(ValueError, match="has no timezone"):
        known(datetime(2026, 2, 10))  # noqa: DTZ001
    sentence = explained(run.platform, DAU, window(3)).sentence
    assert f"active_users.dau of {day(3)} was first published as 0 (2026-02-10 12:00 UTC)" in sentence
    assert "then +2 for late events (2026-02-11 14:00 UTC): 2 now." in sentence


@pytest.mark.slow
def test_the_answer_outlives_the_history_of_the_tables(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(ago(3), "stranger", sent=run.now)])
    published(run)
    before = explained(run.platform, DAU, window(3))
    for table in (active_users.TABLE, published_numbers.TABLE):
        handle = run.lake.open(table)
        handle.create_checkpoint()
        handle.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert explained(run.platform, DAU, window(3)).entries.equals(before.entries)


@pytest.mark.slow
def test_what_was_not_published_is_asked_for(run: Run) -> None:
    def asked() -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=run.instance, resources={"platform": run.platform})
        found = run.sensor("publications")(context)
        return [found] if isinstance(found, dg.RunRequest) else []

    assert asked() == []
    run.now = NOON + timedelta(hours=2)
    run.reconfigure(passive_events=["page_viewed"])
    run.execute("restate_hours", tags={RANGE_START: f"{day(2)}-12:00", RANGE_END: f"{day(2)}-12:00"})
    job = dg.define_asset_job("by_hand", selection=["gold/person_days", "gold/active_users"])
    by_hand = dg.Definitions.merge(run.defs, dg.Definitions(jobs=[job])).get_job_def("by_hand")
    by_hand.execute_in_process(instance=run.instance, tags={RANGE_START: str(day(2)), RANGE_END: str(day(2))})
    assert len(told(run, DAU, 2)) == 1
    assert len(asked()) == 1
    run.execute(publish_numbers.name)
    assert told(run, DAU, 2)[1:] == [(0, ["backfill"])]
    assert asked() == []


@pytest.mark.slow
def test_the_ui_tells_the_changes_in_words(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(ago(3), "stranger", sent=run.now)])
    published(run)
    shown = run.instance.get_latest_materialization_event(published_numbers.TABLE.asset_key)
    assert shown is not None
    assert shown.asset_materialization is not None
    assert shown.asset_materialization.partition is None
    metadata = shown.asset_materialization.metadata
    assert f"- active_users.dau of {day(3)}: +1 to 1 for late events (2026-02-10 14:00 UTC)" in str(
        metadata["changes"].value
    )
    assert str(metadata["gold/active_users as published"].value).startswith("![plot](data:image/png;base64,")


@pytest.mark.slow
def test_why_on_the_command_line(run: Run) -> None:
    run.now = NOON + timedelta(hours=2)
    run.send([event(ago(3), "stranger", sent=run.now)])
    published(run)

    def said(tell: Callable[[Console], int]) -> tuple[int, str]:
        console = Console(file=StringIO(), width=200, soft_wrap=True)
        status = tell(console)
        assert isinstance(console.file, StringIO)
        return status, console.file.getvalue()

    settings = run.platform.settings
    status, text = said(lambda console: answer(settings, console, DAU, day(3), at=NOON))
    assert status == 0
    assert "first publication" in text
    assert "then +1 for late events" in text
    assert "As known at 2026-02-10T12:00:00+00:00, it was 0." in text
    status, text = said(lambda console: answer(settings, console, "active_users.dua", day(3)))
    assert status == 1
    assert "active_users.dua of 2026-02-07 was never published" in text
    assert "active_users.dau" in text


@pytest.mark.slow
def test_days_are_those_of_the_reporting_timezone(tmp_path: Path) -> None:
    zone = ZoneInfo("America/St_Johns")
    midnight = datetime(2026, 2, 9, tzinfo=zone)
    run = Run.over(
        tmp_path,
        [event(midnight - timedelta(minutes=1), "before"), event(midnight + timedelta(hours=30), "after")],
        midnight + timedelta(hours=30),
        reporting_timezone=zone.key,
    )
    published(run)
    run.now = (midnight + timedelta(hours=32)).astimezone(UTC)
    run.send([event(midnight - timedelta(minutes=2), "late", sent=run.now)])
    published(run)
    eighth = Window.of_days(date(2026, 2, 8), date(2026, 2, 8), zone)
    rows = history(run.platform, DAU, eighth).select("value", "causes").rows()
    assert rows == [(1, ["first publication"]), (2, ["late events"])]
    ninth = Window.of_days(date(2026, 2, 9), date(2026, 2, 9), zone)
    assert history(run.platform, DAU, ninth).height == 1
