"""A child process that dies with us: start it, wait until it answers, stop it.

Here belongs what every server of the local stack needs to run as a child: nothing that knows what the
server is. What belongs in that server's own module: its command line, its settings, and the question that
tells whether it is ready.

The file is also its children's launcher (see [`ChildProcess.start`]), and imports the standard library alone.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

LOOPBACK = "127.0.0.1"
_TAIL_LINES = 30
_POLL_SECONDS = 0.1
_SLEEP_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


class ProcessFailed(RuntimeError):
    """A child ended before it was ready, or was not ready in time; the message ends with its log's tail."""


def free_port() -> int:
    """A loopback TCP port that nothing listens on now.

    It is not held: another process may take it before the caller's server does, so the server must end when
    it cannot bind, and its readiness question must tell it from a stranger on the same port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens on a TCP port now."""
    with socket.socket() as probe:
        # Else connections of a server that stopped a moment ago (TIME_WAIT) would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def listens(host: str, port: int) -> bool:
    """Whether something listens on a TCP port now."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def wait_for_ctrl_c() -> NoReturn:
    """Wait until Ctrl-C raises `KeyboardInterrupt`; call it from the main thread.

    A wait for an event or a lock would not end: with Polars loaded, the kernel begins it anew after a signal.
    """
    while True:
        time.sleep(_SLEEP_SECONDS)


def tail(log_file: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, or a remark in brackets where there are none."""
    if not log_file.exists():
        return "(no log was written)"
    text = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:]) or "(the log is empty)"


class ChildProcess:
    """One child, which may be started again once it has stopped.

    The kernel kills the child (SIGKILL) when the *thread* that started it ends, so that a test run or a
    `headwater up` that is killed leaves no server behind: start it from a thread that outlives its use. The
    main thread does. Only Linux can do this; elsewhere the child outlives a parent that is killed.

    The child has its own session: Ctrl-C reaches us alone, and we stop our children in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_file: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        """Keep what to start; nothing starts here.

        Args:
            name: What errors call it.
            command: The program and its arguments.
            log_file: Takes its standard output and error, behind what the file already holds.
            environment: Variables to add to ours.
            user: Id of the user to run as, for a server that refuses to run as root; ours where None.
        """
        self.name = name
        self.command = list(command)
        self.log_file = log_file
        self._environment = dict(environment or {})
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child, without waiting until it is ready.

        A Python of its own asks the kernel for the death signal and then becomes the command: `preexec_fn`
        would run between fork and exec of this process, where another thread's lock can be held for ever.

        Raises:
            ProcessFailed: It runs already.
        """
        if self.running:
            raise ProcessFailed(f"{self.name} is already running, as process {self.pid}")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid())]
        launcher.append("" if self._user is None else str(self._user))
        with self.log_file.open("ab") as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    def said(self) -> bytes:
        """What it has written since it was started."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_began)
            return log.read()

    def await_ready(self, not_ready: Callable[[], str | None], within: float) -> None:
        """Ask again and again until the child is ready; stop it where it does not become so.

        Args:
            not_ready: Returns None once the child is ready, else what is still missing. It should itself
                return within about a second.
            within: Seconds until we give up.

        Raises:
            ProcessFailed: The child ended, or was not ready in time.
        """
        deadline = time.monotonic() + within
        ready = False
        try:
            while self.running:
                missing = not_ready()
                if missing is None:
                    ready = True
                    return
                if time.monotonic() >= deadline:
                    raise self._failure(f"was not ready within {within:g} s: {missing}")
                time.sleep(_POLL_SECONDS)
            raise self._failure(f"ended with status {self._status()} before it was ready")
        finally:  # whatever ends the wait, Ctrl-C too: a child that is not ready is nobody's
            if not ready:
                self.kill()

    def stop(self, grace: float = 20.0, by: signal.Signals = signal.SIGTERM) -> None:
        """End the child with a signal, and with SIGKILL where it still runs after `grace` seconds.

        Does nothing where it does not run.
        """
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the child at once, as a crash would; does nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _status(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _failure(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"{self.name} {what}; the end of {self.log_file}:\n{tail(self.log_file)}")


class Server(ABC):
    """A server of the local stack over one child; a context manager, or `start` and `stop` by hand."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ProcessFailed: It cannot be started; the message says why.
        """

    @abstractmethod
    def stop(self, grace: float = 20.0) -> None:
        """Stop it in order, by force after `grace` seconds; does nothing where it does not run."""

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()

    @property
    def running(self) -> bool:
        """Whether the process is there; it may still be starting."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return None if self._child is None else self._child.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _become(parent: int, user: int | None, command: list[str]) -> None:
    """Become `command`, to be killed when the thread that started us ends, and to end on the signals that end others.

    A signal that our parent ignores (a shell's background job ignores SIGINT, and what runs in it may copy that to
    SIGTERM) would stay ignored, and then nothing but force would end the command.

    Raises:
        OSError: The kernel refuses the request, or the program cannot be started.
    """
    if user is not None:  # before the request: a change of user takes it back
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it ended before we asked: no signal will come
            os.kill(os.getpid(), signal.SIGKILL)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None, sys.argv[3:])
