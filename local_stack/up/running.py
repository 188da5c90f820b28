"""A stack that is up: what its parts share, and the processes of all of them."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from local_stack.process import ChildProcess, Server, tail
from local_stack.stack import ROOT, Stack, State
from local_stack.up.options import Options
from local_stack.up.preflight import Embedded
from local_stack.up.signals import Signals
from local_stack.up.told import Told
from resources.settings import Settings

_WATCH_SECONDS = 0.5
_HURRIED_SECONDS = 0.1


class ComponentDied(RuntimeError):
    """A part of the stack ended while it should have been up; the message ends with its log's tail."""


@dataclass
class Running:
    """A stack that is up, or on its way.

    Attributes:
        stack: Its folder.
        options: How it was started.
        told: What people see.
        signals: Whether to hurry.
        embedded: Which servers are its own.
        state: What is kept, with how the last stop went.
        settings: Of every part. An embedded server adds where it is, and the topic of what it tells.
        is_lake_ready: Whether the lake has its tables, and what the start puts into them.
    """

    stack: Stack
    options: Options
    told: Told
    signals: Signals
    embedded: Embedded
    state: State
    settings: Settings
    is_lake_ready: bool = False
    _processes: dict[str, ChildProcess | Server] = field(default_factory=dict)

    @property
    def kafka_config(self) -> dict[str, str]:
        """The configuration of librdkafka, which else writes its remarks between our lines."""
        return {**self.settings.kafka_config(), "log_level": "3"}

    def lay_out(self) -> None:
        """Make the folders that the parts need, and Dagster's settings in its home."""
        for folder in (self.stack.dagster_home, self.stack.logs, self.stack.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "dagster.yaml", self.stack.dagster_home / "dagster.yaml")

    def mark(self) -> None:
        """Take the stack's environment as ours: an embedded server is given no other, and so has the mark."""
        os.environ.update(self.stack.environment(self.settings))

    def log_file(self, name: str) -> Path:
        """Where a process writes its log."""
        return self.stack.logs / f"{name}.log"

    def add(self, name: str, process: ChildProcess | Server) -> None:
        """Watch over a process from now on, and end it with the stack."""
        self._processes[name] = process

    def child(self, name: str, program: str, *arguments: str) -> ChildProcess:
        """A process of the stack's, not started yet: a program of our environment, or a path."""
        here = Path(sys.executable).parent / program
        command = [str(here) if here.exists() else program, *arguments]
        environment = self.stack.environment(self.settings)
        child = ChildProcess(name, command, self.log_file(name), environment=environment)
        self.add(name, child)
        return child

    def has(self, name: str) -> bool:
        """Whether a process was begun, be it up or not."""
        return name in self._processes

    def pids(self, *names: str) -> set[int]:
        """The ids of those processes that are up."""
        found = (self._processes[name].pid for name in names if name in self._processes)
        return {pid for pid in found if pid is not None}

    def watch(self) -> NoReturn:
        """Look after the processes until one ends.

        Raises:
            ComponentDied: One did.
        """
        while True:
            time.sleep(_WATCH_SECONDS)
            for name, process in self._processes.items():
                if not process.running:
                    raise ComponentDied(last_words(name, self.log_file(name)))

    def stop(self, name: str, grace: float) -> None:
        """Stop a process in order, or by force after some seconds; does nothing where it was not begun."""
        if name in self._processes:
            self._processes[name].stop(_HURRIED_SECONDS if self.signals.hurry else grace)

    def end(self) -> None:
        """Whatever happened: nothing that we started goes on."""
        for process in self._processes.values():
            process.kill()
        self.stack.end_leftovers()
        shutil.rmtree(self.stack.temporary, ignore_errors=True)


def last_words(name: str, log_file: Path) -> str:
    """What a process left behind that ended by itself."""
    return f"the {name} ended while it should be up; the end of {log_file}:\n{tail(log_file)}"
