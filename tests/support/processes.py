"""Child processes over one lake, and faults injected into their system calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from platform_assets.table import Table
from resources.lake import Lake
from support.lakes import version_of
from support.records import Record, frame

TESTS = Path(__file__).parents[1]
PARTITIONS = 3

Moment = Literal["before", "after"]


@dataclass(frozen=True)
class Stream:
    """A topic in a file, and how a child reads it.

    Attributes:
        file: The records, as Parquet.
        size: Records per micro-batch.
    """

    file: Path
    size: int

    @classmethod
    def of(cls, records: Sequence[Record], folder: Path, size: int) -> Stream:
        frame(records).write_parquet(folder / "records.parquet")
        return cls(folder / "records.parquet", size)

    def command(self, lake: Lake) -> list[str]:
        script = str(TESTS / "support" / "child.py")
        return [sys.executable, script, lake.url, str(self.file), str(PARTITIONS), str(self.size)]

    def start(self, lake: Lake, strace: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a child; with options for strace, under it."""
        # Not with --seccomp-bpf: strace 6.1 then drops an injected signal now and then.
        traced = ["strace", "-f", "-qq", "-o", os.devnull, *strace, "--"] if strace else []
        return subprocess.Popen(
            [*traced, *self.command(lake)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=TESTS.parent,
            env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        )

    def run(self, lake: Lake, strace: Sequence[str] = ()) -> tuple[int, str]:
        """Run a child to its end; its exit status (negative: the signal) and its error output."""
        child = self.start(lake, strace)
        try:
            _, errors = child.communicate(timeout=120)
        finally:
            child.kill()
        return child.returncode, errors


def needs_strace() -> None:
    """Skip the test where system calls cannot be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: no fault can be injected into system calls")
    tried = subprocess.run(["strace", "-f", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("strace may not trace here (ptrace is forbidden): no fault can be injected into system calls")


def commit_file(lake: Lake, table: Table, version: int) -> str:
    return f"{lake.uri(table)}/_delta_log/{version:020}.json"


def killed_at(lake: Lake, table: Table, version: int, moment: Moment) -> list[str]:
    """Options for strace: SIGKILL right before a commit is published, or right after.

    delta-rs writes ``N.json#1``, links it to ``N.json`` (that is the commit), and unlinks the first name.
    """
    call, path = ("linkat", "") if moment == "before" else ("unlink", "#1")
    # With an error the call itself is not done, whatever the kernel makes of the signal first.
    fault = f"inject={call}:error=EIO:signal=SIGKILL"
    return ["-e", f"trace={call}", "-e", fault, "-P", commit_file(lake, table, version) + path]


def failing_at(lake: Lake, table: Table, version: int, error: str) -> list[str]:
    """Options for strace: publishing a commit fails with an error."""
    return ["-e", "trace=linkat", "-e", f"inject=linkat:error={error}", "-P", commit_file(lake, table, version)]


def versions(lake: Lake, tables: Sequence[Table]) -> dict[str, int]:
    return {table.name: version_of(lake, table) for table in tables}
