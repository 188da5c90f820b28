"""The loader against Kafka: real purchases arrive as they are in the file, and no kill loses one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local_stack import apache_kafka
from local_stack.apache_kafka import ApacheKafka
from local_stack.broker import Broker, create_topic, free_port
from local_stack.loader import (
    BadRow,
    BadRowFound,
    DeliveryFailed,
    Loaded,
    LoadRefused,
    Mapping,
    State,
    Watcher,
    default_state_file,
    load,
    main,
)
from platform_assets.gold import live_metrics
from platform_assets.silver import events, outcomes
from resources.kafka import KafkaSource, KafkaUnreachable
from resources.lake import Lake
from resources.records import TopicMissing
from resources.settings import Settings
from support.lakes import drain

pytestmark = pytest.mark.kafka

PROJECT = Path(__file__).parents[2]
PURCHASES = PROJECT.parent / "shared" / "conformance" / "datasets" / "CDNOW_master.txt"
PARTITIONS = 4
ROWS = 30_000

MAPPING: dict[str, Any] = {
    "time": {"column": "at", "format": "epoch_seconds"},
    "fields": {
        "source": {"constant": "test"},
        "event_name": {"constant": "clicked"},
        "schema_ref": {"constant": "clicked/1"},
        "anonymous_id": "who",
    },
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(free_port(), tmp_path_factory.mktemp("broker") / "broker.log") as running:
        yield running


@pytest.fixture
def config(broker: Broker) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap_servers}


@pytest.fixture
def topic(config: dict[str, str], request: pytest.FixtureRequest) -> str:
    name = re.sub(r"\W", "_", request.node.name)
    create_topic(config, name, PARTITIONS)
    return name


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """Row n, from 0, is on line n + 2, and happened n minutes after an instant of 2017."""
    path = tmp_path / "clicks.csv"
    lines = (f"{1_500_000_000 + 60 * n},v{n % 500}\n" for n in range(ROWS))
    path.write_text("at,who\n" + "".join(lines))
    return path


def ids(config: dict[str, str], topic: str) -> list[str]:
    """The event ids in a topic, one for each record."""
    consumer = Consumer({**config, "group.id": "test", "enable.partition.eof": "true"})
    found, ended = [], 0
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        while ended < PARTITIONS:
            for message in consumer.consume(10_000, timeout=1):
                if message.error() is not None:
                    ended += 1
                    continue
                value = message.value()
                assert value is not None
                found.append(json.loads(value)["event_id"])
    finally:
        consumer.close()
    return found


def lines_of(event_ids: list[str]) -> list[int]:
    return sorted(int(event_id.rpartition("-")[2]) for event_id in event_ids)


def test_real_purchases_arrive_as_they_are_in_the_file(
    config: dict[str, str], topic: str, lake: Lake, tmp_path: Path
) -> None:
    if not PURCHASES.exists():
        pytest.skip("the CDNOW dataset is not beside the project (../shared/conformance/datasets/CDNOW_master.txt)")
    documented = re.search(r"```yaml\n(.*?)```", (PROJECT / "docs" / "loading.md").read_text(), re.DOTALL)
    assert documented is not None
    mapping = Mapping.model_validate(yaml.safe_load(documented[1]))

    bad: list[BadRow] = []
    loaded = load(
        PURCHASES, mapping, config, topic, state_file=tmp_path / "state.json", watcher=Watcher(bad=bad.append)
    )
    assert loaded is not None
    assert bad == []

    settings = Settings(start_date=date(1997, 1, 1), client_events_topic=topic)
    with KafkaSource(config) as source:
        drain(lake, source, settings)

    # The truth, straight from the file.
    purchases = [line.split() for line in PURCHASES.read_text().splitlines()[1:] if line.strip()]
    per_day: Counter[date] = Counter()
    buyers: defaultdict[date, set[str]] = defaultdict(set)
    for customer, day, _, _ in purchases:
        at = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date()
        per_day[at] += 1
        buyers[at].add(customer)
    units = Counter((customer, day, int(units), dollars) for customer, day, units, dollars in purchases)
    assert len(purchases) == 69_659
    assert max(units.values()) > 1, "identical purchases are two events"

    silver = lake.scan(events.TABLE).collect()
    assert loaded.state.delivered == silver.height == len(purchases)
    assert set(silver["user_id"]) == {customer for customer, *_ in purchases}
    days = silver.group_by(pl.col("occurred_at").dt.date().alias("day")).agg(pl.len(), pl.col("user_id").n_unique())
    assert {day: count for day, count, _ in days.iter_rows()} == per_day
    assert {day: active for day, _, active in days.iter_rows()} == {day: len(who) for day, who in buyers.items()}
    payload = pl.Struct({"number_of_cds": pl.Int64, "dollar_value": pl.String})
    bought = silver.select("user_id", "occurred_at", pl.col("properties").str.json_decode(payload)).unnest("properties")
    assert (
        Counter(
            (who, at.strftime("%Y%m%d"), count, dollars)
            for who, at, count, dollars in bought.select(
                "user_id", "occurred_at", "number_of_cds", "dollar_value"
            ).iter_rows()
        )
        == units
    )

    assert (silver["ingested_at"] == silver["occurred_at"]).all()
    assert dict(lake.scan(outcomes.TABLE).group_by("outcome").agg(pl.col("records").sum()).collect().iter_rows()) == {
        "silver": len(purchases)
    }
    live = lake.scan(live_metrics.TABLE).group_by("event_date").agg(pl.col("events").sum()).collect()
    assert dict(live.iter_rows()) == per_day


def test_a_stopped_load_goes_on_after_what_was_acknowledged(config: dict[str, str], topic: str, clicks: Path) -> None:
    mapping, stop = Mapping.model_validate(MAPPING), threading.Event()

    def first_checkpoint(_: Loaded) -> None:
        stop.set()

    first = load(clicks, mapping, config, topic, stop=stop, watcher=Watcher(progress=first_checkpoint))
    assert first is not None
    assert not first.state.complete
    assert 0 < first.delivered < ROWS
    assert State.read(default_state_file(clicks)) == first.state
    assert lines_of(ids(config, topic)) == list(range(2, first.state.line + 1))

    second = load(clicks, mapping, config, topic)
    assert second is not None
    assert second.state.complete
    assert first.delivered + second.delivered == second.state.delivered == ROWS
    assert lines_of(ids(config, topic)) == list(range(2, ROWS + 2))

    notes: list[str] = []
    third = load(clicks, mapping, config, topic, watcher=Watcher(note=notes.append))
    assert third is not None
    assert third.delivered == 0
    assert "--restart" in notes[0]
    assert len(ids(config, topic)) == ROWS
    again = load(clicks, mapping, config, topic, restart=True)
    assert again is not None
    assert Counter(Counter(ids(config, topic)).values()) == {2: ROWS}, "the same file again is only duplicates"


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_process_that_is_ended_loses_nothing(
    config: dict[str, str], topic: str, clicks: Path, tmp_path: Path, ending: signal.Signals, code: int
) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps(MAPPING))
    command = [str(clicks), "--mapping", str(mapping), "--bootstrap", config["bootstrap.servers"], "--topic", topic]
    child = subprocess.Popen([sys.executable, "-m", "local_stack.loader", *command], cwd=PROJECT)
    wait_for(lambda: line_of(default_state_file(clicks)) > 0)
    child.send_signal(ending)
    assert child.wait(30) == code
    kept = State.read(default_state_file(clicks))
    assert kept is not None
    assert not kept.complete

    there = ids(config, topic)
    assert lines_of(there)[: kept.delivered] == list(range(2, kept.line + 1)), "what the state says is there"
    assert len(there) - kept.delivered <= (10_000 if ending == signal.SIGKILL else 0)

    assert main(command) == 0
    delivered = Counter(lines_of(ids(config, topic)))
    assert sorted(delivered) == list(range(2, ROWS + 2))
    assert delivered.total() == ROWS + len(there) - kept.delivered, "re-sent is only what was not acknowledged"


def line_of(state_file: Path) -> int:
    state = State.read(state_file)
    return 0 if state is None else state.line


def has_leaders(config: dict[str, str], topic: str) -> bool:
    """Whether a topic made a moment ago can be asked for its offsets."""
    with KafkaSource(config) as source:
        try:
            source.held(topic)
        except (KafkaUnreachable, TopicMissing):
            return False
    return True


def wait_for(happened: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bad_rows_are_reported_once_and_strict_stops_at_the_first(
    config: dict[str, str], topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, report, mapping = tmp_path / "f.csv", tmp_path / "bad.jsonl", tmp_path / "m.json"
    file.write_text("at,who\n1500000000,a\nnever,b\n1500000060,c\n1500000120,\n")
    mapping.write_text(json.dumps(MAPPING))
    with pytest.raises(BadRowFound, match=r"f\.csv:3: client_occurred_at: 'never' is no time"):
        load(file, Mapping.model_validate(MAPPING), config, topic, strict=True)
    assert lines_of(ids(config, topic)) == [2]
    command = ["--mapping", str(mapping), "--bootstrap", config["bootstrap.servers"], "--topic", topic]
    assert main([str(file), *command, "--report", str(report)]) == 0
    assert lines_of(ids(config, topic)) == [2, 4]
    named = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in named] == [(str(file), 3), (str(file), 5)]
    assert named[1]["reason"] == "anonymous_id, user_id: no value in either"
    told = capsys.readouterr().err
    assert f"{file}:3: client_occurred_at: 'never' is no time of the format epoch_seconds" in told
    assert "of 4 rows 2 are delivered in all, 2 are bad" in told


def test_what_is_refused_before_anything_is_sent(config: dict[str, str], topic: str, clicks: Path) -> None:
    mapping = Mapping.model_validate(MAPPING)
    brief = f"{topic}_brief"
    admin = AdminClient(config)
    admin.create_topics([NewTopic(brief, PARTITIONS, 1, config={"retention.ms": "86400000"})])[brief].result()
    with pytest.raises(LoadRefused, match=r"retention\.ms=86400000 \(1 day.*--ignore-retention"):
        load(clicks, mapping, config, brief)
    assert ids(config, brief) == []
    assert not default_state_file(clicks).exists()
    assert load(clicks, mapping, config, brief, ignore_retention=True) is not None
    with pytest.raises(LoadRefused, match="the topic is another"):
        load(clicks, mapping, config, topic)
    with pytest.raises(TopicMissing, match="create it"):
        load(clicks, mapping, config, "absent")


def test_a_broker_that_forgot_is_noticed(tmp_path: Path, clicks: Path) -> None:
    broker = Broker(free_port(), tmp_path / "broker.log")
    config, stop = {"bootstrap.servers": broker.bootstrap_servers}, threading.Event()
    mapping = Mapping.model_validate(MAPPING)
    with broker:
        create_topic(config, "t", PARTITIONS)
        load(clicks, mapping, config, "t", stop=stop, watcher=Watcher(progress=lambda _: stop.set()))
    with broker:
        create_topic(config, "t", PARTITIONS)
        with pytest.raises(LoadRefused, match="the topic was made again"):
            load(clicks, mapping, config, "t")
    quiet = {**config, "log_level": "0", "socket.timeout.ms": "1000"}
    with pytest.raises(KafkaUnreachable):
        load(clicks, mapping, quiet, "t")


def test_a_broker_that_goes_away_is_an_error_and_the_load_can_go_on(tmp_path: Path, clicks: Path) -> None:
    broker = Broker(free_port(), tmp_path / "broker.log")
    config = {"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": "1500", "log_level": "0"}
    with broker:
        create_topic({"bootstrap.servers": broker.bootstrap_servers}, "t", PARTITIONS)
        with pytest.raises(
            DeliveryFailed, match=r"records after line \d+ did not reach 't': .*goes on after that line"
        ):
            load(
                clicks,
                Mapping.model_validate(MAPPING),
                config,
                "t",
                watcher=Watcher(progress=lambda _: broker.stop(0)),
            )
    state = State.read(default_state_file(clicks))
    assert state is not None
    assert 0 < state.delivered == state.line - 1 < ROWS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_apache_kafka_tells_what_it_would_do_to_history(tmp_path: Path, clicks: Path) -> None:
    missing = apache_kafka.unavailable()
    if missing is not None:
        pytest.skip(missing)
    mapping = Mapping.model_validate(MAPPING)
    with ApacheKafka(PROJECT / "var" / "apache-kafka", free_port(), data=tmp_path / "kafka") as kafka:
        config = {"bootstrap.servers": kafka.bootstrap_servers}
        admin = AdminClient(config)
        for topic, settings, told in (
            ("brief", {"retention.ms": "604800000"}, r"retention\.ms=604800000 \(7 days"),
            ("stamped", {"message.timestamp.type": "LogAppendTime"}, "LogAppendTime"),
            ("narrow", {"message.timestamp.before.max.ms": "1000"}, r"before\.max\.ms=1000"),
        ):
            admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=settings)])[topic].result()
            wait_for(lambda topic=topic: has_leaders(config, topic))
            with pytest.raises(LoadRefused, match=told):
                load(clicks, mapping, config, topic)
        create_topic(config, "kept", PARTITIONS)
        wait_for(lambda: has_leaders(config, "kept"))
        loaded = load(clicks, mapping, config, "kept")
        assert loaded is not None
        assert loaded.delivered == ROWS
        assert lines_of(ids(config, "kept")) == list(range(2, ROWS + 2))
