"""Canaries go through a real broker, and what became of each is told by the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from integration.conftest import Topic
from platform_assets.alerts.of_streams import of_canaries
from platform_assets.bronze import client_events
from platform_assets.gold import live_metrics
from platform_assets.ops import canaries
from platform_assets.platform import Platform
from platform_assets.quality import end_to_end
from platform_assets.semantics.events import CANARY
from platform_assets.silver import events, touched_hours
from platform_assets.streams import epochs
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.tables import create_tables
from resources.delta_log import reached_at
from resources.lake import Lake
from sensors.canaries import canaries as sensor


@dataclass
class Scene:
    """A platform on a topic of its own, with a clock that can be put forward."""

    lake: Lake
    topic: Topic
    ahead: timedelta = timedelta(0)

    @property
    def platform(self) -> Platform:
        settings = self.topic.settings(lake_url=self.lake.url, canary_every=timedelta(minutes=1))
        return Platform(self.lake, settings, clock=lambda: datetime.now(UTC) + self.ahead)

    def read(self) -> None:
        """Take in all that the topic holds."""
        with self.platform.source() as source, MicroBatches(self.lake, source, self.platform.settings) as batches:
            batches.catch_up()
            while batches.step() is not None:
                pass

    def tick(self) -> list[str]:
        """The outcomes that a tick wrote."""
        return end_to_end.tick(self.platform)["outcome"].to_list()

    def told(self) -> dict[str, object]:
        """The one canary that there is."""
        rows = self.lake.scan(canaries.TABLE).collect()
        assert rows.height == 1
        return rows.row(0, named=True)

    def conditions(self, later: timedelta = timedelta(0)) -> list[tuple[str, str]]:
        """Kind and severity of what is wrong."""
        self.ahead += later
        return [(c.kind.name, c.severity) for c in of_canaries(self.platform, self.platform.clock())]


@pytest.fixture
def scene(tmp_path: Path, topic: Topic) -> Scene:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    made = Scene(lake, topic)
    made.read()
    return made


def test_a_canary_is_timed_by_the_commits_that_brought_it(scene: Scene) -> None:
    before = datetime.now(UTC)
    assert scene.tick() == ["waiting"]
    assert scene.tick() == [], "one a minute, and nothing is known of it yet"
    scene.read()
    assert scene.tick() == ["arrived"]
    told = scene.told()
    in_silver, in_gold = told["in_silver_at"], told["in_gold_at"]
    assert isinstance(in_silver, datetime)
    assert isinstance(in_gold, datetime)
    assert before <= told["sent_at"] <= in_silver <= in_gold <= datetime.now(UTC)  # type: ignore[operator]
    assert told["freshness_seconds"] == pytest.approx((in_gold - told["sent_at"]).total_seconds())  # type: ignore[operator]
    row = scene.lake.scan(events.TABLE).collect().row(0, named=True)
    assert (row["event_name"], row["is_test"], row["occurred_at"]) == (CANARY, True, told["sent_at"])
    assert (row["partition"], row["offset"]) == (told["partition"], told["offset"])
    verdict = end_to_end.END_TO_END.judged(scene.platform)
    assert verdict.passed
    assert verdict.observed == told["freshness_seconds"]
    assert scene.conditions() == []


def test_the_sensor_sends_and_looks_up(scene: Scene) -> None:
    def ticked() -> str | None:
        told = sensor(dg.build_sensor_context(resources={"platform": scene.platform}))
        assert isinstance(told, dg.SkipReason)
        return told.skip_message

    assert ticked() == "1 waiting"
    scene.read()
    assert ticked() == "1 arrived"
    assert ticked() == "no canary is due, and none came"


def test_canaries_enter_no_number_and_move_no_watermark(scene: Scene) -> None:
    scene.tick()
    scene.read()
    for table in (live_metrics.TABLE, touched_hours.TABLE):
        assert scene.lake.scan(table).collect().is_empty()
    assert scene.platform.watermark() is None


def test_canaries_go_to_each_partition_in_turn(scene: Scene) -> None:
    for _ in range(4):
        scene.tick()
        scene.ahead += timedelta(minutes=1)
    assert sorted(scene.lake.scan(canaries.TABLE).collect()["partition"]) == [0, 1, 2, 3]


def test_an_outage_of_days_leaves_a_few_that_wait(scene: Scene) -> None:
    for _ in range(end_to_end.MOST_WAITING + 5):
        scene.tick()
        scene.ahead += timedelta(minutes=1)
    assert scene.lake.scan(canaries.TABLE).collect().height == end_to_end.MOST_WAITING
    scene.ahead = timedelta(0)
    scene.read()
    assert scene.tick().count("arrived") == end_to_end.MOST_WAITING


def test_nothing_is_sent_before_a_topic_was_read(tmp_path: Path, topic: Topic) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    assert Scene(lake, topic).tick() == []


def test_one_that_waits_for_too_long_is_told_and_recovers(scene: Scene) -> None:
    scene.tick()
    assert scene.conditions() == []
    assert scene.conditions(later=timedelta(minutes=6)) == [("events_slow", "error")]
    assert not end_to_end.END_TO_END.judged(scene.platform).passed
    scene.read()
    assert sorted(scene.tick()) == ["arrived", "waiting"]
    assert scene.conditions() == []


def test_that_none_is_sent_any_more_is_told(scene: Scene) -> None:
    (told,) = of_canaries(scene.platform, scene.platform.clock())
    assert (told.kind.name, told.patience) == ("events_slow", timedelta(minutes=5)), "the first may still come"
    scene.tick()
    scene.read()
    scene.tick()
    assert scene.conditions() == []
    assert scene.conditions(later=timedelta(minutes=6)) == [("events_slow", "error")]
    scene.ahead += 2 * end_to_end.LATELY
    assert not end_to_end.END_TO_END.judged(scene.platform).passed


def test_a_topic_that_is_read_no_more_is_nobodys_alarm(scene: Scene) -> None:
    scene.tick()
    settings = scene.platform.settings.model_copy(update={"client_events_topic": "another"})
    other = Platform(scene.lake, settings, clock=lambda: datetime.now(UTC) + timedelta(hours=2))
    assert end_to_end.tick(other).is_empty()
    assert list(of_canaries(other, other.clock())) == []


def test_one_whose_row_is_gone_is_lost(scene: Scene) -> None:
    scene.tick()
    scene.read()
    scene.lake.open(events.TABLE).delete()
    assert scene.tick() == ["lost"]
    assert "lacks it" in str(scene.told()["reason"])
    assert scene.conditions() == [("events_lost", "critical")]
    assert end_to_end.END_TO_END.judged(scene.platform).rows_failed == 1
    assert "events_lost" not in dict(scene.conditions(later=end_to_end.LATELY))


def test_one_that_is_quarantined_says_why(scene: Scene) -> None:
    scene.ahead = timedelta(hours=1)
    scene.tick()
    scene.read()
    assert scene.tick() == ["refused"]
    assert scene.told()["reason"] == "received_in_the_future"
    assert scene.conditions() == [("events_lost", "error")]


def test_one_that_an_epoch_left_behind_is_lost(scene: Scene) -> None:
    scene.tick()
    with scene.platform.source() as source:
        epochs.open_next(scene.lake, client_events.TABLE, source, scene.topic.name, "latest")
    scene.read()
    assert scene.tick() == ["lost"]
    assert "epoch" in str(scene.told()["reason"])


def test_one_that_kafka_does_not_take_is_told(scene: Scene) -> None:
    scene.topic.delete()
    assert scene.tick() == ["unsent"]
    assert scene.topic.name in str(scene.told()["reason"])
    assert scene.conditions() == [("events_slow", "error")]
    assert not end_to_end.END_TO_END.judged(scene.platform).passed


def test_where_logs_are_gone_it_arrived_all_the_same(scene: Scene) -> None:
    scene.tick()
    scene.read()
    for table in (events.TABLE, live_metrics.TABLE):
        scene.lake.open(table).create_checkpoint()
        for entry in Path(scene.lake.uri(table), "_delta_log").glob("*.json"):
            entry.unlink()
    assert scene.tick() == ["arrived"]
    assert scene.told()["freshness_seconds"] is None


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_the_commit_that_reached_a_number_is_found(lake: Lake, number: int) -> None:
    table = touched_hours.TABLE
    for reached in range(2, 40, 2):
        lake.write(table, lake.open(table), table.empty(), None, {"an app": reached}, None)
    found = reached_at(lake, table, "an app", number)
    assert (found and found.version) == (None if number > 38 else (number + 1) // 2)
