"""`headwater up` and what belongs to it: what it refuses, what it keeps, what it says, and that it leaves nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from rich.console import Console

from local_stack import cli
from local_stack.broker import Broker, create_topic, free_port
from local_stack.ends import EmbeddedSource, fetched_ends
from local_stack.new_epoch import open_new_epoch, situation
from local_stack.stack import MARK, ROOT, Stack, StackHeld, StackRefused, State, Stop
from local_stack.up import Options, down
from local_stack.up.lake import lost
from local_stack.up.preflight import refuse_where_it_cannot, state_of
from local_stack.up.runs import cancel_runs
from local_stack.up.signals import Interrupted, Signals
from platform_assets.bronze import client_events
from platform_assets.gold import active_users
from platform_assets.silver import users
from platform_assets.streams import epochs
from platform_assets.streams.micro_batches import MicroBatches
from platform_assets.streams.stream import CLIENT_EVENTS
from platform_assets.tables import create_tables
from resources.kafka import KafkaSource
from resources.lake import Lake
from resources.records import TopicRecreated
from resources.settings import Settings
from support.records import TOPIC, encoded, event

DAY = date(2026, 11, 20)
TOKEN = "a-secret-of-the-test"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("HEADWATER_", "KAFKA_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    stack = Stack.at(tmp_path / "var")
    stack.var.mkdir()
    return stack


def options(stack: Stack, port: int = 0, kafka_port: int = 0, days: int = 10) -> Options:
    ports = {"port": port or free_port(), "kafka_port": kafka_port or free_port()}
    ports |= {"postgres_port": free_port(), "registry_port": free_port(), "metrics_port": free_port()}
    ports |= {"dashboard_port": free_port(), "api_port": free_port()}
    return Options(var=stack.var, days=days, **ports)


# --- what it refuses


def test_a_port_in_use_is_named_with_the_way_out(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackRefused, match=rf"port {port} on 127.0.0.1.*web UI.*make up PORT={port + 1}"):
            refuse_where_it_cannot(stack, options(stack, port=port), Settings())
        with pytest.raises(StackRefused, match=rf"port {port}.*broker.*make up KAFKA_PORT={port + 1}"):
            refuse_where_it_cannot(stack, options(stack, kafka_port=port), Settings())
        refuse_where_it_cannot(stack, options(stack, kafka_port=port), Settings(kafka_bootstrap_servers="a:1"))
        without_a_token = dataclasses.replace(options(stack), api_port=port)
        refuse_where_it_cannot(stack, without_a_token, Settings())
        monkeypatch.setenv("HEADWATER_API_TOKENS", json.dumps([TOKEN]))
        with pytest.raises(StackRefused, match=rf"port {port}.*HTTP API.*make up API_PORT={port + 1}"):
            refuse_where_it_cannot(stack, without_a_token, Settings())


def test_too_little_disk_and_another_python_are_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 2**29))
        with pytest.raises(StackRefused, match=r"0\.5 GB are free.*2 GB are needed"):
            refuse_where_it_cannot(stack, options(stack), Settings())
    monkeypatch.setattr("local_stack.up.preflight._PYTHON", (3, 99))
    with pytest.raises(StackRefused, match=r"Headwater needs Python 3\.99"):
        refuse_where_it_cannot(stack, options(stack), Settings())


def test_what_takes_seconds_to_import_keeps_no_refusal_waiting() -> None:
    script = "import sys, local_stack.up; print({'dagster', 'polars', 'deltalake', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, cwd=ROOT) == "set()\n"


def test_a_stack_that_is_up_is_not_started_again(stack: Stack) -> None:
    with stack.held("up"):
        with pytest.raises(StackRefused, match=rf"running as process {os.getpid()}"):
            refuse_where_it_cannot(stack, options(stack), Settings())
        with pytest.raises(StackHeld), stack.held("doctor"):
            pass
    assert stack.holder() is None


def test_what_a_lake_was_fed_by_and_where_it_begins_may_not_change(stack: Stack) -> None:
    kept = State(str(stack.lake), DAY, "127.0.0.1:9092", embedded=True)
    stack.keep(kept)
    assert stack.state() == kept
    assert state_of(stack, options(stack, kafka_port=7), Settings()).kafka == "127.0.0.1:7"
    with pytest.raises(StackRefused, match=r"fed by the embedded broker, and now it would be by a:1"):
        state_of(stack, options(stack), Settings(kafka_bootstrap_servers="a:1"))
    with pytest.raises(StackRefused, match="2026-11-20 and must not move"):
        state_of(stack, options(stack), Settings(start_date=date(2026, 1, 1)))
    with pytest.raises(StackRefused, match="a stack of its own"):
        state_of(stack, options(stack), Settings(lake_url="s3://bucket/lake"))


def test_a_first_start_that_was_interrupted_starts_over(stack: Stack) -> None:
    stack.lake.mkdir()
    stack.keep(State(str(stack.lake), DAY, "127.0.0.1:9092", embedded=True, filling=True))
    fresh = state_of(stack, options(stack, days=3), Settings())
    assert not stack.lake.exists()
    assert not fresh.filling
    assert fresh.start_date == datetime.now(UTC).date() - timedelta(days=3)
    stack.lake.mkdir()
    stack.keep(State("s3://bucket/lake", DAY, "127.0.0.1:9092", embedded=True, filling=True))
    with pytest.raises(StackRefused, match="holds half a history"):
        state_of(stack, options(stack), Settings())
    assert stack.lake.exists()


def test_a_damaged_state_file_is_named(stack: Stack) -> None:
    (stack.var / "stack.json").write_text("{")
    with pytest.raises(StackRefused, match=r"stack\.json is damaged"):
        stack.state()


# --- what it says and keeps


def test_it_says_what_became_of_the_records() -> None:
    read_all = Stop(TOPIC, 2, {0: 5, 1: 7}, {0: 5, 1: 7})
    assert lost(read_all, 2) == "nothing was lost: all 12 records of epoch 2 had been read"
    some = Stop(TOPIC, 2, {0: 5, 1: 1_007}, {0: 5, 1: 7})
    assert lost(some, 2).startswith("1,000 records were produced but not read")
    assert "not stop in order" in lost(None, 2)
    assert "not stop in order" in lost(read_all, 3)


def test_the_first_signal_stops_and_the_second_hurries() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signals = Signals()
    signals.install()
    try:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        assert not signals.hurry
        signal.raise_signal(signal.SIGINT)
        assert signals.hurry
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_a_run_that_has_not_begun_is_canceled_and_not_called_failed() -> None:
    @dg.op
    def never() -> None: ...

    @dg.job
    def idle() -> None:
        never()

    with dg.DagsterInstance.ephemeral() as instance:
        run_id = instance.create_run_for_job(idle, status=dg.DagsterRunStatus.STARTING).run_id
        cancel_runs(instance)
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.CANCELED


def test_down_with_nothing_up_says_so(stack: Stack) -> None:
    said = io.StringIO()
    assert down(stack.var, Console(file=said)) == 0
    assert "nothing is up" in said.getvalue()


def test_down_asks_the_holder_and_kills_it_where_it_is_deaf(stack: Stack) -> None:
    script = (
        "import pathlib, signal, time; from local_stack.stack import Stack\n"
        f"with Stack(pathlib.Path({str(stack.var)!r})).held('up'):\n"
        "    DEAF\n    print('held', flush=True)\n    time.sleep(60)"
    )
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    for does, status in (("pass", -signal.SIGTERM), (deaf, -signal.SIGKILL)):
        with subprocess.Popen([sys.executable, "-c", script.replace("DEAF", does)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            assert down(stack.var, Console(file=io.StringIO()), within=1.0) == 0
        assert holder.returncode == status
    assert stack.holder() is None


def test_only_processes_of_this_stack_are_ended(stack: Stack) -> None:
    ours = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(stack.var)})
    spared = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(stack.var)})
    others = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(stack.var) + "-other"})
    try:
        assert stack.end_leftovers({spared.pid}) == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert others.poll() is None
        assert spared.poll() is None
    finally:
        for process in (ours, spared, others):
            process.kill()
            process.wait()


def test_reset_deletes_the_local_data_and_nothing_else(stack: Stack) -> None:
    for folder in (stack.lake, stack.dagster_home, stack.logs, stack.var / "other"):
        folder.mkdir()
    warehouse = stack.var / "warehouse.duckdb"
    warehouse.touch()
    stack.keep(State(str(stack.lake), DAY, "127.0.0.1:9092", embedded=True))
    assert cli.main(["reset", "--var", str(stack.var)]) == 1
    assert stack.lake.exists()
    assert warehouse.exists()
    assert cli.main(["reset", "--var", str(stack.var), "--yes"]) == 0
    assert not stack.lake.exists()
    assert not warehouse.exists()
    assert not stack.dagster_home.exists()
    assert stack.state() is None
    assert (stack.var / "other").exists()


def test_the_commands_say_what_is_wrong_with_a_setting(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWATER_REPORTING_TIMEZONE", "Mars/Olympus")
    assert cli.main(["up", "--var", str(stack.var)]) == 2
    assert "no IANA time zone" in capsys.readouterr().out
    monkeypatch.delenv("HEADWATER_REPORTING_TIMEZONE")
    assert cli.main(["settings"]) == 0
    assert "| `KAFKA_BOOTSTRAP_SERVERS` |" in capsys.readouterr().out


def test_the_data_dictionary_is_written_from_the_declarations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.main(["dictionary", "--check"]) == 1
    assert cli.main(["dictionary"]) == 0
    assert cli.main(["dictionary", "--check"]) == 0
    assert "## gold/active_users" in (tmp_path / cli.DICTIONARY).read_text(encoding="utf-8")


# --- epochs, over the real broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(free_port(), tmp_path_factory.mktemp("broker") / "broker.log") as running:
        yield running


def produce(config: dict[str, str], topic: str, first: int, count: int) -> None:
    producer = Producer({**config, "linger.ms": "50"})
    for number in range(first, first + count):
        producer.produce(topic, encoded(event(f"e{number}", number / 60)), b"%d" % number)
    assert producer.flush(10) == 0


def test_ends_are_told_as_a_fetch_finds_them(broker: Broker) -> None:
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, "ends", partitions=2)
    assert fetched_ends(config, "ends", {0: 0, 1: 0}) == {0: 0, 1: 0}
    produce(config, "ends", 0, 200)
    ends = fetched_ends(config, "ends", {0: 0, 1: 0})
    assert sum(ends.values()) == 200
    with EmbeddedSource(config) as source:
        assert {p: held.high for p, held in source.held("ends").items()} == ends


def test_after_a_recreated_topic_a_new_epoch_is_opened_on_demand(
    broker: Broker, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = {"bootstrap.servers": broker.bootstrap_servers}
    create_topic(config, TOPIC, partitions=2)
    produce(config, TOPIC, 0, 100)
    lake = Lake(str(stack.lake))
    create_tables(lake)
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers)
    with EmbeddedSource(config) as source, MicroBatches(lake, source, settings) as batches:
        while batches.step() is not None:
            pass
    stack.keep(State(str(stack.lake), DAY, broker.bootstrap_servers, embedded=True))
    assert cli.main(["new-epoch", "--var", str(stack.var), "--yes"]) == 1
    assert "Nothing is broken" in capsys.readouterr().out

    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    admin.delete_topics([TOPIC])[TOPIC].result(10)
    create_topic(config, TOPIC, partitions=2)
    produce(config, TOPIC, 100, 10)
    with KafkaSource(config) as source:
        found = situation(lake, CLIENT_EVENTS, source, settings)
    assert found is not None
    assert isinstance(found.broken, TopicRecreated)
    assert cli.main(["new-epoch", "--var", str(stack.var)]) == 1
    assert "there is no terminal to ask on: say --yes" in capsys.readouterr().out
    assert cli.main(["new-epoch", "--var", str(stack.var), "--yes"]) == 0
    said = capsys.readouterr().out
    assert "in the topic's former life" in said
    assert f"epoch 2 of {TOPIC} is open" in said

    with EmbeddedSource(config) as source, MicroBatches(lake, source, settings) as batches:
        while batches.step() is not None:
            pass
        assert batches.position().epoch == 2
        assert sum(batches.position().offsets.values()) == 10
        assert open_new_epoch(lake, CLIENT_EVENTS, source, settings, "latest") == 3
        position = epochs.recorded(lake.open(client_events.TABLE), TOPIC)
        assert position is not None
        assert sum(position.offsets.values()) == 10
    assert lake.scan(client_events.TABLE).collect().height == 110


# --- the whole


class Up:
    """A `headwater up` of its own."""

    def __init__(self, stack: Stack, port: int, kafka_port: int, days: int = 1) -> None:
        self.stack = stack
        self.port = port
        self.said = stack.var.parent / "said.txt"
        command = [sys.executable, "-m", "local_stack.cli", "up", "--var", str(stack.var), "--days", str(days)]
        ports = ["--port", str(port), "--kafka-port", str(kafka_port), "--postgres-port", str(free_port())]
        ports += ["--registry-port", str(free_port()), "--metrics-port", str(free_port())]
        self.api_port = free_port()
        ports += ["--dashboard-port", str(free_port()), "--api-port", str(self.api_port)]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [*command, *ports, "--persons", "300"], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def await_up(self) -> str:
        deadline = time.monotonic() + 300
        while "Everything is up" not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.2)
        return self.text()

    def ended(self) -> int:
        return self.process.wait(90)


def marked(stack: Stack) -> list[int]:
    """The processes of a stack."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={stack.var}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


WHOLE = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
]


class TestTheWhole:
    """Every part, for real."""

    pytestmark = WHOLE

    def test_it_starts_with_a_history_stops_and_goes_on_where_it_was(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port, kafka_port = free_port(), free_port()
        monkeypatch.setenv("HEADWATER_API_TOKENS", json.dumps([TOKEN]))
        first = Up(stack, port, kafka_port)
        second = None
        try:
            said = first.await_up()
            for name in (
                "database",
                "broker",
                "lake",
                "Dagster",
                "daemon",
                "relay",
                "traffic",
                "metrics",
                "dashboard",
                "api",
            ):
                assert re.search(rf"^{name} +ready ", said, re.MULTILINE), said
            assert f"http://127.0.0.1:{port}" in said
            assert re.search(rf"^API +http://127.0.0.1:{first.api_port}/docs$", said, re.MULTILINE), said
            assert published_metrics(first.api_port) >= {"active_users.dau"}
            lake = Lake(str(stack.lake))
            days = lake.scan(active_users.TABLE).sort("day").collect()
            assert days.height == 2
            assert days["dau"][0] > 0  # yesterday's: of a day that has just begun there may be nobody yet
            assert partitions_in_the_ui(port, "gold/active_users") == set(map(str, days["day"]))
            with pytest.raises(StackRefused, match=f"process {first.process.pid}"):
                refuse_where_it_cannot(stack, options(stack), Settings())

            assert cli.main(["down", "--var", str(stack.var)]) == 0
            assert first.ended() == 0
            assert marked(stack) == []
            state = stack.state()
            assert state is not None
            stop = state.stop_of(TOPIC)
            assert stop is not None
            assert stop.unread == 0
            records = sum(stop.read.values())
            assert lake.scan(client_events.TABLE).collect().height == records

            monkeypatch.delenv("HEADWATER_API_TOKENS")
            second = Up(stack, port, kafka_port)
            said = second.await_up()
            assert "API        not started: no token is set (HEADWATER_API_TOKENS)" in said
            assert f"nothing was lost: all {records:,} records of epoch 1 had been read" in said
            assert f"epoch 2 of {TOPIC}" in said
            await_read(lake, epoch=2)
            state = stack.state()
            assert state is not None
            assert state.database is not None
            await_change(state.database, lake)
        finally:
            end(stack, first, second)

    def test_a_part_that_dies_ends_it_and_a_kill_leaves_nothing(self, stack: Stack) -> None:
        port, kafka_port = free_port(), free_port()
        first = Up(stack, port, kafka_port, days=0)
        second = third = None
        try:
            first.await_up()
            await_read(Lake(str(stack.lake)), epoch=1)
            daemon = next(pid for pid in marked(stack) if "dagster-daemon" in command_of(pid))
            os.kill(daemon, signal.SIGKILL)
            assert first.ended() == 1
            assert "the daemon ended while it should be up" in first.text()
            assert marked(stack) == []

            second = Up(stack, port, kafka_port, days=0)
            second.await_up()
            await_read(Lake(str(stack.lake)), epoch=2)
            second.process.kill()  # no chance to stop anything
            second.ended()

            third = Up(stack, port, kafka_port, days=0)
            said = third.await_up()
            assert "did not stop in order" in said
            await_read(Lake(str(stack.lake)), epoch=3)
            os.kill(third.process.pid, signal.SIGINT)
            assert third.ended() == 0
            assert marked(stack) == []
        finally:
            end(stack, first, second, third)


def await_read(lake: Lake, epoch: int) -> None:
    """Wait until records of an epoch are in the lake: the sensor has started a run, and no dead run holds its slot."""
    deadline = time.monotonic() + 180
    while True:
        position = epochs.recorded(lake.open(client_events.TABLE), TOPIC)
        if position is not None and position.epoch == epoch and any(position.offsets.values()):
            return
        assert time.monotonic() < deadline, f"no record of epoch {epoch} came into the lake"
        time.sleep(0.5)


def await_change(database: str, lake: Lake) -> None:
    """Change a user's plan in the database, and wait until the dimension has the version."""
    with psycopg.connect(database, autocommit=True) as connection:
        changed = connection.execute(
            "UPDATE users SET plan = 'test' WHERE user_id = (SELECT min(user_id) FROM users) RETURNING user_id"
        ).fetchone()
    assert changed is not None
    versions = lake.scan(users.DIMENSION.table).filter(user_id=changed[0], plan="test", is_current=True)
    deadline = time.monotonic() + 120
    while versions.collect().is_empty():
        assert time.monotonic() < deadline, f"the new plan of {changed[0]} did not come into the lake"
        time.sleep(0.5)
        versions = lake.scan(users.DIMENSION.table).filter(user_id=changed[0], plan="test", is_current=True)


def partitions_in_the_ui(port: int, asset: str) -> set[str]:
    """The partitions of an asset that the web server shows as materialized."""
    path = json.dumps(asset.split("/"))
    query = f"{{ assetNodes(assetKeys: [{{path: {path}}}]) {{ assetMaterializations {{ partition }} }} }}"
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    [node] = answer_to(request)["data"]["assetNodes"]
    return {materialization["partition"] for materialization in node["assetMaterializations"]}


def published_metrics(port: int) -> set[str]:
    """The metrics that the HTTP API says it has."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    return {metric["name"] for metric in answer_to(request)["metrics"]}


def answer_to(request: urllib.request.Request) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)


def end(stack: Stack, *started: Up | None) -> None:
    for running in started:
        if running is not None:
            running.process.kill()
            running.process.wait()
    stack.end_leftovers()
