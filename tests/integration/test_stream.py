"""A stream through a real broker: Kafka → bronze → silver → what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from integration.conftest import Topic
from local_stack.process import free_port
from partitions import Window
from platform_assets.bronze import client_events
from platform_assets.bronze import records as received
from platform_assets.refusal import RebuildRefused
from platform_assets.silver import events, outcomes
from platform_assets.streams import epochs
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.tables import create_tables
from resources.kafka import KafkaSource, KafkaUnreachable
from resources.lake import Lake
from resources.records import Position, RecordsGone, TopicMissing, TopicRecreated
from resources.settings import Settings

pytestmark = pytest.mark.kafka

START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def event(number: int) -> bytes:
    at = (START + timedelta(seconds=number)).isoformat()
    return msgspec.json.encode(
        {
            "event_id": f"e{number}",
            "source": "web",
            "event_name": "page_viewed",
            "schema_ref": "page_viewed/1",
            "client_occurred_at": at,
            "received_at": at,
            "anonymous_id": f"a{number % 7}",
        }
    )


def records(numbers: range, partition: int | None = None) -> list[tuple[int, bytes, datetime]]:
    return [(n % 4 if partition is None else partition, event(n), START + timedelta(seconds=n)) for n in numbers]


@pytest.fixture
def settings(topic: Topic) -> Settings:
    return topic.settings(micro_batch_records=400)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    return lake


def drain(lake: Lake, settings: Settings) -> int:
    """Take in everything that Kafka holds, with a writer of its own. Returns the number of records."""
    records = 0
    with KafkaSource(settings.kafka_config()) as source, MicroBatches(lake, source, settings) as batches:
        while (step := batches.step()) is not None:
            records += step.records
    return records


def test_records_arrive_once_whatever_the_writers(lake: Lake, settings: Settings, topic: Topic) -> None:
    topic.produce(records(range(1000)))
    assert drain(lake, settings) == 1000
    assert drain(lake, settings) == 0
    topic.produce(records(range(900, 1300)))
    assert drain(lake, settings) == 400
    found = lake.scan(events.TABLE).select("event_id").collect()["event_id"]
    assert sorted(found) == sorted(f"e{n}" for n in range(1300))
    counted = lake.scan(outcomes.TABLE).group_by("outcome").agg(pl.col("records").sum()).collect()
    assert dict(counted.iter_rows()) == {"silver": 1300, "duplicate": 100}


def test_a_backlog_is_eaten_in_bounded_bites_cut_at_one_record_time(settings: Settings, topic: Topic) -> None:
    # One partition holds the early records and another the late ones: none may run ahead.
    topic.produce([*records(range(1500), partition=0), *records(range(1500, 2000), partition=3)])
    with KafkaSource(settings.kafka_config()) as source:
        position = Position(topic.name, 1, dict.fromkeys(range(4), 0))
        newest = START - timedelta(seconds=1)
        offsets = []
        while (batch := source.read(position, max_records=400, max_bytes=2**20)) is not None:
            times = batch.records["ingested_at"]
            assert times.min() > newest  # type: ignore[operator]
            newest = times.max()  # type: ignore[assignment]
            offsets += batch.records.select("partition", "offset").rows()
            position = batch.next_position
        assert sorted(offsets) == [*((0, n) for n in range(1500)), *((3, n) for n in range(500))]
        assert position.offsets == {0: 1500, 1: 0, 2: 0, 3: 500}


def test_a_topic_made_again_is_a_hard_stop_and_a_new_epoch_is_the_way_on(
    lake: Lake, settings: Settings, topic: Topic
) -> None:
    topic.produce(records(range(400)))
    assert drain(lake, settings) == 400
    topic.make_again()
    topic.produce(records(range(400, 420)))
    with pytest.raises(TopicRecreated, match="new-epoch"):
        drain(lake, settings)
    topic.produce(records(range(420, 1400)))  # now its offsets are higher, and yet it is another topic
    with pytest.raises(TopicRecreated, match="made again"):
        drain(lake, settings)
    with KafkaSource(topic.config) as source:
        assert epochs.open_next(lake, client_events.TABLE, source, topic.name, "earliest") == 2
    assert drain(lake, settings) == 1000
    assert lake.scan(events.TABLE).select(pl.len()).collect().item() == 1400


def test_what_retention_took_unread_is_a_hard_stop(lake: Lake, settings: Settings, topic: Topic) -> None:
    if not topic.is_apache:
        pytest.skip("the embedded broker forgets no records; Apache Kafka does (`--kafka apache`)")
    topic.produce(records(range(100)))
    drain(lake, settings)
    topic.produce(records(range(100, 200)))
    topic.forget(partition=0, before=30)
    with pytest.raises(RecordsGone, match="offsets 25 to 29 are gone"):
        drain(lake, settings)
    assert lake.scan(client_events.TABLE).select(pl.len()).collect().item() == 100


def test_bronze_is_rebuilt_from_kafka_only_while_kafka_holds_it(lake: Lake, settings: Settings, topic: Topic) -> None:
    topic.produce(records(range(400)))
    drain(lake, settings)
    hour = Window.of_hour(START)
    before = lake.scan(client_events.TABLE).collect()
    with KafkaSource(settings.kafka_config()) as source:
        received.rebuild(lake, client_events.TABLE, source, hour)
        assert lake.scan(client_events.TABLE).collect().height == before.height
        _lose_some_rows(lake)
        assert lake.scan(client_events.TABLE).collect().height < before.height
        received.rebuild(lake, client_events.TABLE, source, hour)
        by = ["partition", "offset"]
        assert_frame_equal(lake.scan(client_events.TABLE).sort(by).collect(), before.sort(by))
    topic.make_again()
    with (
        KafkaSource(settings.kafka_config()) as source,
        pytest.raises(RebuildRefused, match="offsets 0 to 99; Kafka now holds 0 to -1"),
    ):
        received.rebuild(lake, client_events.TABLE, source, hour)


def _lose_some_rows(lake: Lake) -> None:
    """Damage bronze as a lost file would: rows between others are gone."""
    handle = lake.open(client_events.TABLE)
    handle.alter.set_table_properties({"delta.appendOnly": "false"})
    handle.delete("offset IN (10, 11)")
    handle.alter.set_table_properties({"delta.appendOnly": "true"})


def test_a_missing_topic_and_a_missing_broker_are_named(settings: Settings) -> None:
    with (
        KafkaSource(settings.kafka_config()) as source,
        pytest.raises(TopicMissing, match="no topic 'nowhere'"),
    ):
        source.held("nowhere")
    alone = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    with KafkaSource(alone) as source, pytest.raises(KafkaUnreachable, match="does not answer"):
        source.held("client_events")
