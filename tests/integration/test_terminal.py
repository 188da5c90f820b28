"""What a person types at a terminal: Ctrl-C ends what is under way and no more, and ends the commands that wait."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from local_stack.process import free_port
from local_stack.stack import ROOT, Stack
from platform_assets.tables import create_tables
from resources.lake import Lake
from support.terminal import CTRL_C, CTRL_D, Terminal

ENDLESS = "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range * b.range % 7 = 3;\n"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack that nothing was taken into."""
    for name in list(os.environ):
        if name.startswith(("HEADWATER_", "KAFKA_", "DAGSTER_")):
            monkeypatch.delenv(name)
    made = Stack.at(tmp_path / "var")
    create_tables(Lake(str(made.lake)))
    made.dagster_home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", made.dagster_home)
    return made


def test_ctrl_c_cancels_the_query_and_the_shell_goes_on_until_ctrl_d(stack: Stack) -> None:
    with Terminal("sql", "--var", str(stack.var)) as terminal:
        terminal.await_text("headwater> ")
        terminal.type(ENDLESS)
        terminal.await_work(0.3)
        terminal.type(CTRL_C)
        terminal.await_text("cancelled")
        terminal.await_text("headwater> ")
        terminal.type("SELECT nonsense\n")
        terminal.await_text("...> ")
        terminal.type(CTRL_C)
        terminal.await_text("headwater> ")
        terminal.type("SELECT 40 + 2;\n")
        terminal.await_text("42")
        terminal.await_text("headwater> ")
        terminal.type(CTRL_D)
        assert terminal.ended() == 0


@pytest.mark.slow
def test_ctrl_c_ends_the_metrics(stack: Stack) -> None:
    with Terminal("metrics", "--var", str(stack.var), "--port", str(free_port())) as terminal:
        terminal.await_text("metrics on ")
        terminal.type(CTRL_C)
        assert terminal.ended() == 0


def test_ctrl_c_ends_the_webhook() -> None:
    with Terminal("webhook", "--port", str(free_port())) as terminal:
        terminal.await_text("waiting for alerts")
        terminal.type(CTRL_C)
        assert terminal.ended() == 0
