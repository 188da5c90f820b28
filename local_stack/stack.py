"""What a local stack leaves on disk, and who holds it: folders, state file, lock, and processes left behind.

Everything is below one folder, `var` by default. The lock tells whether someone holds the stack: the kernel
releases it when its holder ends, however it ends, so neither a stale file nor a recycled process id can deceive.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from pydantic import SecretStr

from resources.settings import Settings, environment_name, iso8601

ROOT = Path(__file__).resolve().parents[1]
"""The project's folder."""

MARK = "HEADWATER_STACK"
"""Environment variable of every process that a stack starts: the stack's folder. Written, and read by nobody else."""

_LONGEST_TMPDIR = 80
_OPTIONAL_SOURCES = ("backend_logs_topic", "oltp_changes_topic", "schema_registry_url")

CHANGES_TOPIC = "oltp_changes"
"""Topic of the embedded database's changes, unless the settings name another."""

BACKEND_TOPIC = "backend_logs"
"""Topic of the simulated backend's events, unless the settings name another."""

Role = Literal["up", "doctor"]


class StackRefused(RuntimeError):
    """The stack cannot do what was asked; the message says why and what to do."""


class StackHeld(StackRefused):
    """Someone else holds the stack."""


class Holder(NamedTuple):
    """Who holds a stack."""

    role: str
    pid: int


class Stop(msgspec.Struct, frozen=True):
    """How far a topic of the embedded broker was produced and read when the stack was stopped in order.

    Attributes:
        topic: The topic.
        epoch: Its epoch then.
        ends: Per topic partition, the offset behind its last record.
        read: Per topic partition, the progress recorded in bronze.
    """

    topic: str
    epoch: int
    ends: dict[int, int]
    read: dict[int, int]

    @property
    def unread(self) -> int:
        """Records that were produced and never read."""
        return sum(max(0, end - self.read.get(partition, 0)) for partition, end in self.ends.items())


class State(msgspec.Struct, frozen=True):
    """What `headwater up` must know of the times before.

    Attributes:
        lake_url: The lake.
        start_date: First day of the partitions.
        kafka: Bootstrap servers in use.
        embedded: Whether they are the embedded broker's.
        filling: A history is being put into the lake; found at a start, it means that this never ended.
        stops: How the last orderly stop went, a topic each; none while up, or after a crash.
        database: URL of the embedded database, once it was started.
        registry: URL of the embedded schema registry, once it was started.
    """

    lake_url: str
    start_date: date
    kafka: str
    embedded: bool
    filling: bool = False
    stops: tuple[Stop, ...] = ()
    database: str | None = None
    registry: str | None = None

    def stop_of(self, topic: str) -> Stop | None:
        """How the last orderly stop went for a topic."""
        return next((stop for stop in self.stops if stop.topic == topic), None)


@dataclass(frozen=True)
class Stack:
    """The folder of a stack.

    Attributes:
        var: The folder; absolute.
    """

    var: Path

    @classmethod
    def at(cls, var: Path | None) -> Stack:
        """The stack in a folder, by default `var` in the project's."""
        return cls((var or ROOT / "var").resolve())

    @property
    def lake(self) -> Path:
        """The lake's folder, unless `HEADWATER_LAKE_URL` names another."""
        return self.var / "lake"

    @property
    def landing(self) -> Path:
        """The folder that third-party files land in, unless `HEADWATER_LANDING_URL` names another."""
        return self.var / "landing"

    @property
    def database(self) -> Path:
        """The folder of the embedded database's data, unless `nobody` must get to it and cannot."""
        return self.var / "postgres"

    @property
    def registry(self) -> Path:
        """The journal of the embedded schema registry."""
        return self.var / "registry.jsonl"

    @property
    def dagster_home(self) -> Path:
        """Dagster's home: its settings and its storage."""
        return self.var / "dagster"

    @property
    def logs(self) -> Path:
        """The logs of the components."""
        return self.var / "log"

    @property
    def temporary(self) -> Path:
        """Where the components put what is gone when they are."""
        return self.var / "tmp"

    def state(self) -> State | None:
        """What was kept, or None before the first start.

        Raises:
            StackRefused: The file is damaged.
        """
        file = self._state_file
        if not file.exists():
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=State, strict=False)
        except msgspec.DecodeError as error:
            msg = f"{file} is damaged ({error}); `make reset CONFIRM=yes` starts anew and deletes the local lake"
            raise StackRefused(msg) from error

    def keep(self, state: State) -> None:
        """Replace what is kept, at once."""
        fresh = self.var / "stack.json.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        fresh.replace(self._state_file)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._state_file.unlink(missing_ok=True)

    def lake_elsewhere(self) -> str | None:
        """The lake, where it is not in the stack's folder."""
        with suppress(StackRefused):
            state = self.state()
            if state is not None and state.lake_url != str(self.lake):
                return state.lake_url
        return None

    def settings(self) -> Settings:
        """The settings of the environment; what it leaves open is as the stack has it.

        Raises:
            pydantic.ValidationError: See `Settings`.
            StackRefused: See `state`.
        """
        given = Settings()
        state = self.state()
        ours: dict[str, object] = {"lake_url": str(self.lake), "landing_url": str(self.landing)}
        if state is not None:
            ours |= {"lake_url": state.lake_url, "start_date": state.start_date}
            if "kafka_bootstrap_servers" not in given.model_fields_set:
                ours["kafka_bootstrap_servers"] = state.kafka
            if state.database is not None:
                ours |= {"oltp_url": SecretStr(state.database), "oltp_changes_topic": CHANGES_TOPIC}
            if state.registry is not None:
                ours |= {"schema_registry_url": state.registry, "backend_logs_topic": BACKEND_TOPIC}
        return given.model_copy(update={k: v for k, v in ours.items() if k not in given.model_fields_set})

    @contextmanager
    def held(self, role: Role) -> Iterator[None]:
        """Hold the stack for as long as the block lasts.

        Raises:
            StackHeld: Someone else does.
        """
        self.var.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                other = self.holder()
                who = "another process" if other is None else f"`headwater {other.role}`, process {other.pid},"
                msg = f"{who} holds the stack in {self.var}"
                raise StackHeld(msg) from error
            lock.truncate(0)
            lock.write(f"{role} {os.getpid()}\n")
            lock.flush()
            yield
            lock.truncate(0)

    def holder(self) -> Holder | None:
        """Who holds the stack now, or None."""
        if not self._lock_file.exists():
            return None
        with self._lock_file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                words = lock.read().split()
                return Holder(words[0], int(words[1])) if len(words) == 2 else Holder("up", 0)
        return None

    def environment(self, settings: Settings) -> dict[str, str]:
        """What the stack adds to the environment of its processes."""
        # Dagster's servers put sockets there, whose paths must be short.
        temporary = {"TMPDIR": str(self.temporary)} if len(str(self.temporary)) <= _LONGEST_TMPDIR else {}
        return {
            **temporary,
            MARK: str(self.var),
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            # A run that materializes many partitions stores their events together: nearly twice as fast.
            "DAGSTER_EVENT_BATCH_SIZE": "200",
            environment_name("lake_url"): settings.lake_url,
            environment_name("start_date"): settings.start_date.isoformat(),
            environment_name("kafka_bootstrap_servers"): settings.kafka_bootstrap_servers,
            environment_name("landing_url"): settings.landing_url or str(self.landing),
            environment_name("ui_url"): settings.ui_url,
            environment_name("canary_every"): iso8601(settings.canary_every),
            **self._sources_environment(settings),
        }

    def _sources_environment(self, settings: Settings) -> dict[str, str]:
        optional = {name: getattr(settings, name) for name in _OPTIONAL_SOURCES}
        found = {environment_name(name): value for name, value in optional.items() if value is not None}
        if settings.oltp_url is not None:
            found[environment_name("oltp_url")] = settings.oltp_url.get_secret_value()
        return found

    def end_leftovers(self, spared: Collection[int] = ()) -> int:
        """End every process that a stack in this folder started, told by its mark; hold the stack meanwhile.

        A stack that is killed takes its own children with it, but not their children: Dagster's run workers.

        Args:
            spared: Processes to leave alone.

        Returns:
            How many there were.
        """
        ended = 0
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile, or is another user's
                handle = os.pidfd_open(int(process.name))
                try:
                    marked = f"{MARK}={self.var}".encode() in (process / "environ").read_bytes().split(b"\0")
                    if marked and int(process.name) not in {os.getpid(), *spared}:
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        ended += 1
                finally:
                    os.close(handle)
        return ended

    @property
    def _state_file(self) -> Path:
        return self.var / "stack.json"

    @property
    def _lock_file(self) -> Path:
        return self.var / "stack.lock"
