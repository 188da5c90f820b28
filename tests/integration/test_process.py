"""Children of the local stack: they become ready or say why not, they stop, and they do not outlive us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_stack.process import ChildProcess, ProcessFailed, tail


def shell(tmp_path: Path, script: str) -> ChildProcess:
    return ChildProcess("the child", ["sh", "-c", script], tmp_path / "logs" / "child.log")


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_it_is_ready_when_the_question_says_so_and_stops_when_told(tmp_path: Path) -> None:
    child = shell(tmp_path, "echo up; exec sleep 60")
    child.start()
    child.await_ready(lambda: None if tail(child.log_file) == "up" else "no word yet", 10)
    assert child.running
    assert child.pid is not None
    with pytest.raises(ProcessFailed, match="already running"):
        child.start()

    child.stop()
    assert not child.running
    assert child.pid is None
    child.stop()

    child.start()
    assert child.running
    child.kill()
    assert not child.running


def test_a_child_stops_in_order_whatever_its_parent_ignores(tmp_path: Path) -> None:
    child = shell(tmp_path, "trap 'echo in order; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        child.start()
        child.await_ready(lambda: None if tail(child.log_file) == "up" else "no word yet", 10)
        child.stop(10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert tail(child.log_file).endswith("in order")


def test_a_child_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    child = shell(tmp_path, "echo out of luck; exit 3")
    child.start()
    with pytest.raises(ProcessFailed, match=r"(?s)the child ended with status 3 .*out of luck"):
        child.await_ready(lambda: "not asked", 10)


def test_a_child_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    child = shell(tmp_path, "exec sleep 60")
    child.start()
    with pytest.raises(ProcessFailed, match=r"(?s)within 0.3 s: no answer.*\(the log is empty\)"):
        child.await_ready(lambda: "no answer", 0.3)
    assert not child.running


def test_a_wait_cut_short_leaves_no_child(tmp_path: Path) -> None:
    def interrupted() -> str | None:
        raise KeyboardInterrupt

    child = shell(tmp_path, "exec sleep 60")
    child.start()
    with pytest.raises(KeyboardInterrupt):
        child.await_ready(interrupted, 10)
    assert not child.running


def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    child = shell(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    child.start()
    child.await_ready(lambda: None if tail(child.log_file) == "deaf" else "no word yet", 10)
    child.stop(grace=0.3)
    assert not child.running


def test_an_unknown_program_is_named(tmp_path: Path) -> None:
    child = ChildProcess("the child", ["no-such-program"], tmp_path / "child.log")
    child.start()
    with pytest.raises(ProcessFailed, match="FileNotFoundError"):
        child.await_ready(lambda: "no answer", 10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal; from local_stack.process import ChildProcess\n"
        f"child = ChildProcess('child', ['sleep', '60'], pathlib.Path({str(tmp_path / 'child.log')!r}))\n"
        "child.start(); print(child.pid, flush=True); signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        os.kill(parent.pid, signal.SIGKILL)
    await_gone(pid)
