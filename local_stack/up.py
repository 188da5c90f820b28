"""`headwater up`: starts every part of the local stack, watches over them, and stops them all in order.

With the embedded broker, which forgets everything when it stops, a start is one of two things. The first one
simulates some days of history and puts them into the lake. Every later one finds an empty topic, which `up` knows
for a broker that it has just started itself: it says what became of the records, and opens a new epoch.

With `KAFKA_BOOTSTRAP_SERVERS` set, Kafka is somebody else's: nothing is created, simulated or opened.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local_stack.process import LOOPBACK, ChildProcess, ProcessFailed, free_port, is_free, listens, tail
from local_stack.stack import BACKEND_TOPIC, CHANGES_TOPIC, ROOT, Stack, StackHeld, StackRefused, State, Stop
from resources.settings import Settings

if TYPE_CHECKING:  # these take seconds to import: a refusal comes first
    from dagster import DagsterInstance, DagsterRun

    from local_stack.broker import Broker
    from local_stack.database import Database
    from local_stack.registry import SchemaRegistry
    from platform_assets.platform import Platform
    from platform_assets.streams.stream import Stream
    from resources.lake import Lake

LOCATION = "platform_assets.definitions"
"""The code location's name: the same as with `dagster dev`, so that sensors and schedules keep their state."""

CANARY_EVERY = timedelta(minutes=1)
"""How often a canary is sent to the embedded broker, unless the settings say otherwise."""

_PARTITIONS = 4
_PYTHON = (3, 11)
_DISK_BYTES = 2 * 2**30
_CODE_SECONDS = 180.0
_READY_SECONDS = 120.0
_DRAIN_SECONDS = 20.0
_CANCEL_SECONDS = 5.0
_WATCH_SECONDS = 0.5
_PLAIN_SECONDS = 5.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SHOWN_AT = {"metrics": "/metrics", "api": "/docs"}
_HEALTH = """{
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } }
  workspaceOrError { __typename
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
      ... on PythonError { message } } } } }
}"""


@dataclass(frozen=True)
class Options:
    """How to start.

    Attributes:
        var: The stack's folder; None for `var` in the project.
        host: Address of the web UI.
        port: Port of the web UI.
        kafka_port: Port of the embedded broker, on loopback.
        postgres_port: Port of the embedded database, on loopback.
        registry_port: Port of the embedded schema registry, on loopback.
        metrics_port: Port of the metrics for Prometheus, on the web UI's address.
        dashboard_port: Port of the dashboard, on the web UI's address.
        api_port: Port of the HTTP API, on the web UI's address; it is started where a token is set.
        database: Whether to start the embedded database, where the settings name no other.
        rate: Simulated events per second; 0 for none.
        simulate: Send simulated traffic to a Kafka of your own, too.
        days: Length of the first start's history; 0 for none.
        persons: Of that history.
    """

    var: Path | None = None
    host: str = LOOPBACK
    port: int = 3000
    kafka_port: int = 9092
    postgres_port: int = 5433
    registry_port: int = 8081
    metrics_port: int = 9464
    dashboard_port: int = 8501
    api_port: int = 8080
    database: bool = True
    rate: float = 2.0
    simulate: bool = False
    days: int = 10
    persons: int = 10_000


class Show(Protocol):
    """Shows how far a component is on its way."""

    def __call__(self, note: str, share: float | None = None) -> None: ...  # noqa: D102


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: stop in order."""


class ComponentDied(RuntimeError):
    """A part of the stack ended while it should have been up; the message ends with its log's tail."""


class Told:
    """What people see: a spinner with a bar while a component is not ready, one line when it is.

    Without a terminal, plain lines only.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        """One line."""
        self._console.print(escape(text))

    @contextmanager
    def starting(self, name: str) -> Iterator[Show]:
        """Show that a component is on its way; the block is handed what to call with a note and a share."""
        if not self._console.is_terminal:
            yield self._plainly(name)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(f"{name:<10}", total=None, note="")

            def show(note: str, share: float | None = None) -> None:
                progress.update(task, note=escape(note), total=None if share is None else 1.0, completed=share or 0.0)

            yield show

    def ready(self, name: str, what: str, since: float) -> None:
        """A component is ready."""
        self._console.print(
            f"[green]{name:<10} ready[/]  {escape(what)}  [dim]({time.monotonic() - since:.1f} s)[/]", highlight=False
        )

    def _plainly(self, name: str) -> Show:
        last = time.monotonic()

        def show(note: str, share: float | None = None) -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                done = "" if share is None else f" {share:.0%}"
                self.line(f"{name:<10}{done} {note}")

        return show


class Signals:
    """Ctrl-C, SIGTERM and a closed terminal: the first raises `Interrupted`, a later one asks to hurry.

    Attributes:
        hurry: Whether to leave out what takes long.
    """

    def __init__(self) -> None:
        self.hurry = False
        self._raises = True

    def install(self) -> None:
        """Take the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._came)

    def hold_back(self) -> None:
        """From now on no signal interrupts."""
        self._raises = False

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        if self._raises:
            self._raises = False
            raise Interrupted
        self.hurry = True


def up(options: Options, console: Console) -> int:
    """Start everything, and stay until Ctrl-C, SIGTERM or the end of a component.

    Call it from the main thread: the children end with the thread that started them.

    Returns:
        The exit status: 0 after an orderly stop, 1 where something failed or died.

    Raises:
        StackRefused: It cannot start; nothing was started.
        pydantic.ValidationError: A setting is not what it should be.
    """
    stack = Stack.at(options.var)
    given = Settings()
    embedded = "kafka_bootstrap_servers" not in given.model_fields_set
    refuse_where_it_cannot(stack, options, embedded=embedded)
    told = Told(console)
    signals = Signals()
    with stack.held("up"):
        if ended := stack.end_leftovers():
            told.line(f"{ended} processes that an earlier stack left behind were ended")
        running = _Running(stack, options, told, signals, given, _state(stack, given, options, embedded=embedded))
        signals.install()
        try:
            running.start()
            running.watch()
        except Interrupted:
            running.stop()
            return 0
        except _failures() as error:
            signals.hold_back()
            console.print(f"[red]{escape(str(error))}[/]", highlight=False)
            running.stop()
            return 1
        finally:
            signals.hold_back()
            running.end()
    return 0


def down(var: Path | None, console: Console, within: float = 60.0) -> int:
    """Ask the supervisor to stop, and wait until it has. Returns the exit status."""
    stack = Stack.at(var)
    holder = stack.holder()
    if holder is None:
        console.print("nothing is up", highlight=False)
        return 0
    if holder.role != "up" or holder.pid == 0:
        console.print(f"`headwater {holder.role}`, process {holder.pid}, holds the stack: wait for it", highlight=False)
        return 1
    console.print(f"stopping process {holder.pid} …", highlight=False)
    # Whoever holds the lock is alive, and wrote the number itself; the handle stays with that process.
    process = os.pidfd_open(holder.pid)
    try:
        if stack.holder() == holder:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], within)[0]:
            console.print(f"it did not stop within {within:g} s: it is killed", highlight=False)
            signal.pidfd_send_signal(process, signal.SIGKILL)  # the kernel ends its children with it
            select.select([process], [], [], within)
    finally:
        os.close(process)
    with suppress(StackHeld), stack.held("up"):
        stack.end_leftovers()
    console.print("stopped", highlight=False)
    return 0


def reset(var: Path | None, console: Console) -> int:
    """Delete what a stack keeps; a lake outside its folder stays. Returns the exit status.

    Raises:
        StackRefused: The stack is up.
    """
    from local_stack.database import data_folder  # noqa: PLC0415

    stack = Stack.at(var)
    with stack.held("up"):
        stack.end_leftovers()
        for folder in (stack.lake, stack.dagster_home, stack.logs, data_folder(stack.database)):
            if folder.exists():
                shutil.rmtree(folder)
        elsewhere = stack.lake_elsewhere()
        if elsewhere is None:  # else it has what was written with the registry's ids, which must not be given anew
            stack.registry.unlink(missing_ok=True)
        stack.forget()
    console.print("deleted", highlight=False)
    if elsewhere is not None:
        console.print(f"the lake {escape(elsewhere)} is outside the stack's folder and was left alone", highlight=False)
    return 0


def refuse_where_it_cannot(stack: Stack, options: Options, *, embedded: bool) -> None:
    """Say what stands in the way, before anything is started.

    Raises:
        StackRefused: Something does.
    """
    if sys.version_info[:2] != _PYTHON:
        msg = f"this is Python {sys.version.split()[0]}; Headwater needs Python {'.'.join(map(str, _PYTHON))}"
        raise StackRefused(msg)
    if (holder := stack.holder()) is not None:
        msg = f"`headwater {holder.role}` is running as process {holder.pid}; `make down` stops a stack that is up"
        raise StackRefused(msg)
    existing = next(folder for folder in (stack.var, *stack.var.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < _DISK_BYTES:
        msg = f"{free / 2**30:.1f} GB are free on the disk of {existing}; {_DISK_BYTES / 2**30:.0f} GB are needed"
        raise StackRefused(msg)
    wanted = [
        (options.host, options.port, "PORT", "the web UI"),
        (options.host, options.metrics_port, "METRICS_PORT", "the metrics"),
        (options.host, options.dashboard_port, "DASHBOARD_PORT", "the dashboard"),
    ]
    if Settings().api_tokens:
        wanted.append((options.host, options.api_port, "API_PORT", "the HTTP API"))
    if embedded:
        wanted.append((LOOPBACK, options.kafka_port, "KAFKA_PORT", "the broker"))
        if options.database and Settings().oltp_url is None:
            wanted.append((LOOPBACK, options.postgres_port, "POSTGRES_PORT", "the database"))
        if Settings().schema_registry_url is None:
            wanted.append((LOOPBACK, options.registry_port, "REGISTRY_PORT", "the schema registry"))
    for host, port, variable, what in wanted:
        if not is_free(host, port):
            msg = (
                f"port {port} on {host}, wanted for {what}, is in use: stop what listens there, or choose another "
                f"with `make up {variable}={port + 1}`"
            )
            raise StackRefused(msg)


def _state(stack: Stack, given: Settings, options: Options, *, embedded: bool) -> State:
    """What this start is to keep: what the starts before kept, where it fits to the environment.

    Raises:
        StackRefused: It does not fit.
    """
    chosen = given.model_fields_set
    lake_url = given.lake_url if "lake_url" in chosen else str(stack.lake)
    if "://" not in lake_url:
        lake_url = str(Path(lake_url).resolve())
    kafka = f"{LOOPBACK}:{options.kafka_port}" if embedded else given.kafka_bootstrap_servers
    before = stack.state()
    if before is not None and before.filling:
        _start_over(stack, before)
        before = None
    if before is None:
        start_date = given.start_date
        if embedded and "start_date" not in chosen:
            start_date = datetime.now(given.zone).date() - timedelta(days=options.days)
        return State(lake_url, start_date, kafka, embedded)
    if before.lake_url != lake_url:
        msg = f"this stack's lake is {before.lake_url}, not {lake_url}: give another lake a stack of its own (VAR=…)"
        raise StackRefused(msg)
    if before.embedded != embedded:
        fed, now = ("the embedded broker", kafka) if before.embedded else (before.kafka, "the embedded broker")
        msg = (
            f"this stack's lake was fed by {fed}, and now it would be by {now}, whose offsets mean something else. "
            "Give it a stack and a lake of its own (`make up VAR=…`)"
        )
        raise StackRefused(msg)
    if "start_date" in chosen and given.start_date != before.start_date:
        msg = (
            f"HEADWATER_START_DATE is {given.start_date}, but this stack's partitions begin on {before.start_date} "
            "and must not move: unset it, or set it to that day"
        )
        raise StackRefused(msg)
    return replace(before, kafka=kafka)


def _start_over(stack: Stack, before: State) -> None:
    """Remove what an interrupted first start left: half of a simulated history."""
    if before.lake_url != str(stack.lake):
        msg = f"the first start was interrupted: {before.lake_url} holds half a history. Empty it, and `make reset`"
        raise StackRefused(msg)
    for folder in (stack.lake, stack.dagster_home):
        if folder.exists():
            shutil.rmtree(folder)


def _failures() -> tuple[type[Exception], ...]:
    """What can go wrong outside us: Kafka, the lake, the disk."""
    import psycopg  # noqa: PLC0415 - see `_Running.start`
    from confluent_kafka import KafkaException  # noqa: PLC0415
    from deltalake.exceptions import DeltaError  # noqa: PLC0415

    from local_stack.sink import DeliveryFailed  # noqa: PLC0415
    from resources.kafka import KafkaUnreachable  # noqa: PLC0415
    from resources.lake import ConflictNotResolved, Fenced, SchemaMismatch, VersionGone  # noqa: PLC0415
    from resources.records import ContinuityBroken, TopicMissing  # noqa: PLC0415

    ours = (KafkaUnreachable, TopicMissing, ContinuityBroken, Fenced, ConflictNotResolved, SchemaMismatch, VersionGone)
    return (
        ProcessFailed,
        ComponentDied,
        StackRefused,
        *ours,
        KafkaException,
        DeltaError,
        psycopg.Error,
        DeliveryFailed,
        OSError,
        ValueError,
    )


class _Running:
    """The parts that were started, and what is known of the lake."""

    def __init__(
        self, stack: Stack, options: Options, told: Told, signals: Signals, given: Settings, state: State
    ) -> None:
        self._stack = stack
        self._options = options
        self._told = told
        self._signals = signals
        self._state = state
        update = {
            "lake_url": state.lake_url,
            "start_date": state.start_date,
            "kafka_bootstrap_servers": state.kafka,
            "landing_url": given.landing_url or str(stack.landing),
            "ui_url": given.ui_url if "ui_url" in given.model_fields_set else self._url(options.port),
        }
        if state.embedded and "canary_every" not in given.model_fields_set:  # its topics are ours to write to
            update["canary_every"] = CANARY_EVERY
        self._settings = given.model_copy(update=update)
        # Else librdkafka writes its remarks between our lines.
        self._config = {**self._settings.kafka_config(), "log_level": "3"}
        self._broker: Broker | None = None
        self._database: Database | None = None
        self._registry: SchemaRegistry | None = None
        self._children: dict[str, ChildProcess] = {}
        self._is_lake_ready = False
        self._stop_before: dict[str, Stop] = {}

    def start(self) -> None:
        """Start the parts, each when what it rests on is ready."""
        began = time.monotonic()
        self._lay_out()
        self._make_instance()
        if self._state.embedded and self._options.database and self._settings.oltp_url is None:
            self._start_database()
        if self._state.embedded:
            if self._settings.schema_registry_url is None:
                self._start_registry()
            self._start_broker()
        web_began = time.monotonic()
        code = self._start_code()
        # These imports take seconds, in which the code server's own go on.
        from platform_assets.platform import Platform  # noqa: PLC0415

        self._end_dead_runs("was in progress when the stack ended")
        self._start_web(code)
        self._prepare_lake(Platform.from_settings(self._settings))
        self._await_web(web_began)
        served_began = time.monotonic()
        self._start_served()
        self._start_daemon()
        if self._settings.oltp_url is not None and self._settings.oltp_changes_topic is not None:
            self._start_relay()
        if self._options.rate > 0 and (self._state.embedded or self._options.simulate):
            self._start_traffic()
            self._deliver()
        self._await_served(served_began)
        self._say_where(time.monotonic() - began)

    def _make_instance(self) -> None:
        """Make Dagster's databases, once, before anything uses them: two processes at it at once break them."""
        if not (self._stack.dagster_home / "event_log.db").exists():
            with _instance(self._stack.dagster_home) as instance:
                instance.get_run_ids(limit=1)
                instance.get_asset_keys(limit=1)

    def watch(self) -> None:
        """Look after the parts until one ends.

        Raises:
            ComponentDied: One did.
        """
        while True:
            time.sleep(_WATCH_SECONDS)
            for name, child in self._children.items():
                if not child.running:
                    raise ComponentDied(_last_words(name, child.log_file))
            servers = {"broker": self._broker, "database": self._database, "registry": self._registry}
            for name, server in servers.items():
                if server is not None and not server.running:
                    raise ComponentDied(_last_words(name, server.log_file))

    def stop(self) -> None:
        """Stop in order: first what brings work, then what does it; then read what is left in the topic."""
        told = self._told
        told.line("stopping; once more to hurry")
        self._stop_child("traffic", 10)
        self._stop_child("shop", 5)
        self._stop_child("relay", 10)
        self._stop_child("daemon", 5)
        for name in self._served:
            self._stop_child(name, 2)
        if "code" in self._children:
            self._cancel_runs()
        self._stop_child("web", 3)
        self._stop_child("code", 2)
        needed = (self._broker, self._registry)  # to read what is left
        spared = {server.pid for server in needed if server is not None and server.pid is not None}
        self._stack.end_leftovers(spared)
        if self._is_lake_ready:
            self._end_dead_runs("was ended with the stack")
            if self._broker is not None and self._broker.running:
                self._drain()
        if self._registry is not None:
            self._registry.stop()
        if self._database is not None:
            self._database.stop(0.1 if self._signals.hurry else 20)
        told.line("stopped")

    def end(self) -> None:
        """Whatever happened: nothing that we started goes on."""
        for child in self._children.values():
            child.kill()
        if self._broker is not None:
            self._broker.stop()
        if self._registry is not None:
            self._registry.stop()
        if self._database is not None:
            self._database.kill()
        self._stack.end_leftovers()
        shutil.rmtree(self._stack.temporary, ignore_errors=True)

    def _lay_out(self) -> None:
        for folder in (self._stack.dagster_home, self._stack.logs, self._stack.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "dagster.yaml", self._stack.dagster_home / "dagster.yaml")

    def _start_database(self) -> None:
        """Start the embedded database with the shop's tables. It comes first: it has none of the stack's marks."""
        import psycopg  # noqa: PLC0415

        from local_stack.database import Database  # noqa: PLC0415
        from local_stack.first_history import Past  # noqa: PLC0415
        from local_stack.shop import Shop  # noqa: PLC0415

        began = time.monotonic()
        with self._told.starting("database"):
            database = Database(self._options.postgres_port, self._stack.database, self._stack.logs / "database.log")
            database.start()
            self._database = database
            with psycopg.connect(database.url, autocommit=True) as connection:
                past = Past.of_days(self._options.days, self._options.persons, self._settings.zone)
                Shop(connection).open(past.start if self._options.days > 0 else None)
        self._state = replace(self._state, database=database.url)
        topic = self._settings.oltp_changes_topic or CHANGES_TOPIC
        update = {"oltp_url": SecretStr(database.url), "oltp_changes_topic": topic}
        self._settings = self._settings.model_copy(update=update)
        self._told.ready("database", database.url, began)

    def _start_registry(self) -> None:
        from local_stack.registry import SchemaRegistry  # noqa: PLC0415

        began = time.monotonic()
        with self._told.starting("registry"):
            os.environ.update(self._stack.environment(self._settings))  # for its environment, and so its mark
            log_file = self._stack.logs / "registry.log"
            registry = SchemaRegistry(self._options.registry_port, self._stack.registry, log_file)
            registry.start()
            self._registry = registry
        self._state = replace(self._state, registry=registry.url)
        topic = self._settings.backend_logs_topic or BACKEND_TOPIC
        update = {"schema_registry_url": registry.url, "backend_logs_topic": topic}
        self._settings = self._settings.model_copy(update=update)
        self._told.ready("registry", registry.url, began)

    def _start_broker(self) -> None:
        from local_stack.broker import Broker, create_topic  # noqa: PLC0415

        began = time.monotonic()
        with self._told.starting("broker"):
            broker = Broker(self._options.kafka_port, self._stack.logs / "broker.log")
            os.environ.update(self._stack.environment(self._settings))  # for its environment, and so its mark
            broker.start()
            self._broker = broker
            for stream in self._streams():
                create_topic(self._config, stream.required_topic(self._settings), _PARTITIONS)
        what = f"{broker.bootstrap_servers}, topic {self._settings.client_events_topic}, {_PARTITIONS} partitions"
        self._told.ready("broker", what, began)

    def _start_code(self) -> int:
        """Start one server of our code for all of Dagster, and do not wait for it. Returns its port."""
        port = free_port()
        workspace = {"load_from": [{"grpc_server": {"host": LOOPBACK, "port": port, "location_name": LOCATION}}]}
        self._workspace.write_text(json.dumps(workspace), encoding="utf-8")  # JSON is YAML
        where = ("--host", LOOPBACK, "--port", str(port), "--location-name", LOCATION)
        self._child("code", "dagster", "code-server", "start", *where, "-m", LOCATION).start()
        return port

    def _start_web(self, code_port: int) -> None:
        """Start the web server when the code server listens; it is not awaited yet."""
        with self._told.starting("Dagster") as show:

            def not_listening() -> str | None:
                show("starting the code server")
                return None if listens(LOOPBACK, code_port) else "nothing listens yet"

            self._children["code"].await_ready(not_listening, _CODE_SECONDS)
        address = ("--host", self._options.host, "--port", str(self._options.port))
        self._child("web", "dagster-webserver", *address, "--workspace", str(self._workspace)).start()

    def _await_web(self, began: float) -> None:
        with self._told.starting("Dagster") as show:

            def not_ready() -> str | None:
                missing = self._web_lacks()
                show(missing or "")
                return missing

            self._children["web"].await_ready(not_ready, _CODE_SECONDS)
        self._told.ready("Dagster", self._url(self._options.port), began)

    def _web_lacks(self) -> str | None:
        answer = self._health()
        if answer is None:
            return "the web server does not answer yet"
        entries = answer["workspaceOrError"].get("locationEntries", [])
        location = next((e["locationOrLoadError"] for e in entries if e["name"] == LOCATION), None)
        if location is None:
            return "the definitions are not loaded yet"
        if location["__typename"] == "PythonError":
            if not self._children["code"].running:
                raise ComponentDied(_last_words("code server", self._children["code"].log_file))
            if "UNAVAILABLE" in location["message"] or "Deadline" in location["message"]:
                return "the code server does not answer yet"
            msg = f"the definitions do not load: {location['message']}"
            raise ComponentDied(msg)
        return None

    def _start_daemon(self) -> None:
        began, since = time.monotonic(), time.time()
        daemon = self._child("daemon", "dagster-daemon", "run", "--workspace", str(self._workspace))
        daemon.start()
        with self._told.starting("daemon") as show:

            def not_ready() -> str | None:
                answer = self._health()
                statuses = [] if answer is None else answer["instance"]["daemonHealth"]["allDaemonStatuses"]
                # A daemon of the last start counts as healthy for some minutes: ours is one whose heart beat since.
                ill = [
                    status["daemonType"].lower()
                    for status in statuses
                    if status["required"] and not (status["healthy"] and status["lastHeartbeatTime"] > since)
                ]
                missing = f"waiting for {', '.join(ill)}" if ill or not statuses else None
                show(missing or "")
                return missing

            daemon.await_ready(not_ready, _READY_SECONDS)
        self._told.ready("daemon", "sensors, schedules and backfills are running", began)

    def _start_served(self) -> None:
        """Start what serves readers, and wait for none of it: what loads meanwhile is the rest."""
        for name, port in self._served.items():
            where = ("--host", self._options.host, "--port", str(port))
            self._child(name, sys.executable, "-m", "local_stack.cli", name, *where).start()

    def _await_served(self, began: float) -> None:
        for name, port in self._served.items():

            def not_listening(port: int = port) -> str | None:
                return None if listens(self._reached, port) else "it does not listen yet"

            with self._told.starting(name):
                self._children[name].await_ready(not_listening, _READY_SECONDS)
            self._told.ready(name, self._url(port, _SHOWN_AT.get(name, "")), began)

    def _start_traffic(self) -> None:
        from resources.kafka import KafkaSource  # noqa: PLC0415

        began = time.monotonic()
        rate = ("--rate", str(self._options.rate))
        traffic = self._child("traffic", sys.executable, "-m", "local_stack.simulator", "live", *rate)
        topic = self._settings.client_events_topic
        with self._told.starting("traffic"), KafkaSource(self._config) as source:
            before = source.held(topic)
            traffic.start()
            traffic.await_ready(
                lambda: None if source.held(topic) != before else f"no record has come into {topic}", _READY_SECONDS
            )
        self._told.ready("traffic", f"{self._options.rate:g} simulated events a second", began)

    def _start_relay(self) -> None:
        """Relay the database's changes, and let things happen in the shop's own."""
        from platform_assets.streams.stream import OLTP_CHANGES  # noqa: PLC0415

        began, topic = time.monotonic(), OLTP_CHANGES.required_topic(self._settings)
        # What an embedded broker forgot before it was read, no log tells again.
        stop = self._stop_before.get(topic)
        is_whole = not self._state.embedded or (stop is not None and not stop.unread)
        arguments = () if is_whole else ("--snapshot",)
        relay = self._child("relay", sys.executable, "-m", "local_stack.relay", *arguments)
        relay.start()
        with self._told.starting("relay"):
            relay.await_ready(
                lambda: None if b"snapshot: " in relay.said() else "the snapshot is being taken", _READY_SECONDS
            )
        if self._database is not None and self._options.rate > 0:
            self._child("shop", sys.executable, "-m", "local_stack.shop").start()
        self._told.ready("relay", f"the database's changes go to {topic}", began)

    def _deliver(self) -> None:
        """Let partners report on the days before today, where the landing folder is the stack's own."""
        if self._settings.landing_url != str(self._stack.landing):
            return
        from local_stack.partners import deliver, reported_days  # noqa: PLC0415

        began = time.monotonic()
        days = reported_days(self._settings.start_date, datetime.now(self._settings.zone).date())
        files = deliver(self._stack.landing, days)
        self._told.ready("partners", f"{files} new files in {self._stack.landing}", began)

    def _prepare_lake(self, platform: Platform) -> None:
        """Make the tables; then a history, a new epoch, or nothing."""
        from platform_assets.gold.metric_numbers import own_metrics  # noqa: PLC0415
        from platform_assets.streams import epochs  # noqa: PLC0415
        from platform_assets.tables import create_tables  # noqa: PLC0415
        from resources.kafka import KafkaSource  # noqa: PLC0415

        began = time.monotonic()
        settings = self._settings
        create_tables(platform.lake)
        for file in own_metrics().wrong:
            for fault in file.faults.splitlines():
                self._told.line(f"{'metrics':<10} {fault}")
        self._stack.keep(self._state)
        told = []
        # Before anything is read: the writer of the events opens the epochs of all their topics.
        positions = {
            stream.name: epochs.recorded(platform.lake.open(stream.table), stream.required_topic(settings))
            for stream in self._streams()
        }
        for stream in self._streams():
            topic, position = stream.required_topic(settings), positions[stream.name]
            if not self._state.embedded:
                with KafkaSource(self._config) as kafka:
                    partitions = len(kafka.held(topic))
                told.append(f"{partitions} partitions of {topic} at {settings.kafka_bootstrap_servers}")
            elif position is not None:  # even where nothing came: the topic is another one now
                told.append(self._begin_anew(platform, stream, position.epoch))
            elif stream.name == "client_events" and position is None and self._options.days > 0:
                told.append(self._fill(platform))
            else:
                told.append(f"{settings.lake_url}, nothing of {topic} was read yet")
        self._stop_before = {stop.topic: stop for stop in self._state.stops}
        self._state = replace(self._state, stops=())
        self._stack.keep(self._state)
        self._is_lake_ready = True
        for what in told:
            self._told.ready("lake", what, began)

    def _begin_anew(self, platform: Platform, stream: Stream, epoch: int) -> str:
        """Open the next epoch of a topic that the embedded broker has forgotten. Returns what to say."""
        from local_stack.ends import EmbeddedSource  # noqa: PLC0415
        from local_stack.new_epoch import open_new_epoch  # noqa: PLC0415

        topic = stream.required_topic(self._settings)
        self._told.line(f"{'lake':<10} {_lost(self._state.stop_of(topic), epoch, topic)}")
        with EmbeddedSource(self._config) as source:
            opened = open_new_epoch(platform.lake, stream, source, self._settings, "earliest")
        return f"{self._settings.lake_url}, epoch {opened} of {topic}: the embedded broker began anew"

    def _fill(self, platform: Platform) -> str:
        from local_stack import first_history  # noqa: PLC0415
        from local_stack.ends import EmbeddedSource  # noqa: PLC0415

        self._stack.keep(replace(self._state, filling=True))
        settings = self._settings
        past = first_history.Past.of_days(self._options.days, self._options.persons, settings.zone)
        past = dataclasses.replace(past, start=max(past.start, settings.first_instant))
        with self._told.starting("lake") as show:
            records = first_history.produce(past, platform, show)
            with EmbeddedSource(self._config) as source:
                hours = first_history.take_in(platform, source, records, show)
            first_history.compute(platform, past, show)
            with _instance(self._stack.dagster_home) as instance:
                first_history.tell_dagster(instance, platform, past, hours, show)
        days = len(past.window.days(settings.zone))
        return f"{settings.lake_url}, {records:,} records of {days} days, from Kafka to gold"

    def _drain(self) -> None:
        """Read what is left in the topic, and keep how far that went: the broker forgets it all."""
        from platform_assets.streams.advance import WRITERS  # noqa: PLC0415
        from resources.lake import Lake  # noqa: PLC0415

        together: dict[type, list[Stream]] = {}
        for stream in self._streams():
            together.setdefault(WRITERS[stream.name], []).append(stream)
        stops: list[Stop] = []
        for streams in together.values():
            topics = " and ".join(stream.required_topic(self._settings) for stream in streams)
            try:
                records, stopped = self._read_out(Lake.from_settings(self._settings), streams)
            except _failures() as error:
                self._told.line(f"what is left in {topics} could not be read: {error}")
                continue
            stops += stopped
            unread = sum(stop.unread for stop in stopped)
            left = f"; {unread:,} are not read and go with the broker" if unread else ""
            self._told.line(f"the last {records:,} records of {topics} were read{left}")
        self._stack.keep(replace(self._state, stops=tuple(stops)))

    def _read_out(self, lake: Lake, streams: Sequence[Stream]) -> tuple[int, list[Stop]]:
        """Read streams that have one writer to their ends, or until time is up."""
        from local_stack.ends import EmbeddedSource  # noqa: PLC0415
        from platform_assets.streams.advance import WRITERS  # noqa: PLC0415

        deadline, records = time.monotonic() + _DRAIN_SECONDS, 0
        topics = [stream.required_topic(self._settings) for stream in streams]
        writer = WRITERS[streams[0].name]
        with EmbeddedSource(self._config) as source, writer(lake, source, self._settings) as batches:
            batches.catch_up()
            while not self._signals.hurry and time.monotonic() < deadline:
                step = batches.step()
                if step is None:
                    break
                records += step.records
            held = {topic: {p: at.high for p, at in source.held(topic).items()} for topic in topics}
            positions = {topic: batches.position(topic) for topic in topics}
        return records, [Stop(t, positions[t].epoch, held[t], dict(positions[t].offsets)) for t in topics]

    def _streams(self) -> list[Stream]:
        """The streams that there are."""
        from platform_assets.streams.stream import STREAMS  # noqa: PLC0415

        return [stream for stream in STREAMS if stream.topic(self._settings) is not None]

    def _cancel_runs(self) -> None:
        """Ask Dagster to cancel the runs in progress, as a person would; give them a moment."""
        with _instance(self._stack.dagster_home) as instance:
            cancel_runs(instance)
            deadline = time.monotonic() + _CANCEL_SECONDS
            while _in_progress(instance) and time.monotonic() < deadline and not self._signals.hurry:
                time.sleep(0.2)

    def _end_dead_runs(self, why: str) -> None:
        """Mark the runs that nothing executes any more: else they would hold their pool's slot for ever."""
        with _instance(self._stack.dagster_home) as instance:
            for run in _in_progress(instance):
                instance.report_run_canceled(run, message=f"The run {why}. What it committed counts.")
                self._told.line(f"run {run.run_id[:8]} of {run.job_name} {why}")

    def _health(self) -> Any | None:
        """What the web server says of the code location and of the daemons; None where it does not answer."""
        url = f"http://{self._reached}:{self._options.port}/graphql"
        body = json.dumps({"query": _HEALTH}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with _DIRECTLY.open(request, timeout=5) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            return None

    def _say_where(self, seconds: float) -> None:
        console = self._told
        console.line("")
        without = "not started: no token is set (HEADWATER_API_TOKENS)"
        api = self._url(self._served["api"], _SHOWN_AT["api"]) if "api" in self._served else without
        console.line(f"dashboard  {self._url(self._options.dashboard_port)}")
        console.line(f"API        {api}")
        console.line(f"Dagster    {self._url(self._options.port)}")
        console.line(f"lake       {self._settings.lake_url}")
        if self._database is not None:
            console.line(f"database   {self._database.url}")
        if self._registry is not None:
            console.line(f"registry   {self._registry.url}")
        console.line(f"landing    {self._settings.landing_url}")
        console.line(f"logs       {self._stack.logs}")
        console.line(f"Everything is up after {seconds:.0f} s. Ctrl-C or `make down` stops it all and keeps the data.")

    def _child(self, name: str, program: str, *arguments: str) -> ChildProcess:
        here = Path(sys.executable).parent / program
        command = [str(here) if here.exists() else program, *arguments]
        environment = self._stack.environment(self._settings)
        self._children[name] = ChildProcess(name, command, self._stack.logs / f"{name}.log", environment=environment)
        return self._children[name]

    def _stop_child(self, name: str, grace: float) -> None:
        if name in self._children:
            self._children[name].stop(0.1 if self._signals.hurry else grace)

    @property
    def _served(self) -> dict[str, int]:
        """The ports of what serves readers, by the command that does; the API only where someone may ask it."""
        always = {"metrics": self._options.metrics_port, "dashboard": self._options.dashboard_port}
        return {**always, "api": self._options.api_port} if self._settings.api_tokens else always

    def _url(self, port: int, path: str = "") -> str:
        return f"http://{self._options.host}:{port}{path}"

    @property
    def _reached(self) -> str:
        """The address that this machine reaches the web UI and what serves readers at."""
        return LOOPBACK if self._options.host in {"0.0.0.0", "::"} else self._options.host  # noqa: S104

    @property
    def _workspace(self) -> Path:
        return self._stack.dagster_home / "workspace.yaml"


@contextmanager
def _instance(home: Path) -> Iterator[DagsterInstance]:
    from local_stack.instance import instance_of  # noqa: PLC0415 - see `_Running.start`

    with instance_of(home) as instance:
        yield instance


def cancel_runs(instance: DagsterInstance) -> None:
    """Ask Dagster to cancel the runs that are executed; those that have not begun are canceled at once.

    Asked to cancel one that has not begun, Dagster ends its process and then calls it failed, which is an alert.
    """
    import dagster as dg  # noqa: PLC0415

    for run in _in_progress(instance):
        if run.status is dg.DagsterRunStatus.STARTED:
            with suppress(dg.DagsterInvariantViolationError):
                instance.run_launcher.terminate(run.run_id)
        elif run.status is not dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message="The stack was stopped before the run began.")


def _in_progress(instance: DagsterInstance) -> Sequence[DagsterRun]:
    """The runs that something executes, or was about to."""
    import dagster as dg  # noqa: PLC0415

    status = dg.DagsterRunStatus
    statuses = [status.NOT_STARTED, status.STARTING, status.STARTED, status.CANCELING]
    return instance.get_runs(dg.RunsFilter(statuses=statuses))


def _lost(stop: Stop | None, epoch: int, topic: str) -> str:
    """What became of the records that the embedded broker held when it stopped."""
    if stop is None or stop.topic != topic or stop.epoch != epoch:
        return (
            "the stack did not stop in order: records produced but not read by then are gone with the broker, "
            "how many is not known"
        )
    if stop.unread:
        return f"{stop.unread:,} records were produced but not read when the broker stopped: they are gone with it"
    return f"nothing was lost: all {sum(stop.read.values()):,} records of epoch {epoch} had been read"


def _last_words(name: str, log_file: Path) -> str:
    return f"the {name} ended while it should be up; the end of {log_file}:\n{tail(log_file)}"
