"""A command in a terminal of its own, and a person who types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from local_stack.stack import ROOT

CTRL_C, CTRL_D = "\x03", "\x04"
_TICKS = os.sysconf("SC_CLK_TCK")


class Terminal:
    """`headwater` with arguments, in a pseudo-terminal: what is typed reaches it as from a keyboard, Ctrl-C as SIGINT.

    A context manager; what still runs at its end is killed.
    """

    def __init__(self, *arguments: str, within: float = 60.0) -> None:
        """Keep what to start.

        Args:
            arguments: Of the command.
            within: Seconds that anything awaited may take.
        """
        self._command = ["setsid", "--ctty", sys.executable, "-m", "local_stack.cli", *arguments]
        self._within = within
        self._said = b""

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"}
        )
        os.close(theirs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def await_text(self, text: str) -> None:
        """Wait until it says something, after what was awaited before."""
        self._await(lambda: text.encode() in self._said, f"it does not say {text!r}")
        self._said = self._said.partition(text.encode())[2]

    def await_work(self, seconds: float) -> None:
        """Wait until it has computed for so long."""
        enough = self._computed() + seconds
        self._await(lambda: self._computed() >= enough, "it computes nothing")

    def ended(self) -> int:
        """Wait until it ends; its exit status."""
        self._await(lambda: self._process.poll() is not None, "it goes on")
        return self._process.returncode

    def _computed(self) -> float:
        with open(f"/proc/{self._process.pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _await(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._within
        while not is_so():
            assert time.monotonic() < deadline, f"{otherwise}: {self._said.decode(errors='replace')}"
            if select.select([self._ours], [], [], 0.05)[0]:
                try:
                    self._said += os.read(self._ours, 65536)
                except OSError:  # it has ended, and nobody has the terminal open
                    time.sleep(0.05)
