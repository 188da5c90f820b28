"""What serves those who read the lake: metrics, dashboard, and the HTTP API where someone may ask it."""

from __future__ import annotations

import sys

from local_stack.process import ChildProcess, listens
from local_stack.up.running import Running

_READY_SECONDS = 120.0
_SHOWN_AT = {"metrics": "/metrics", "api": "/docs"}


def ports(running: Running) -> dict[str, int]:
    """The ports of what serves readers, by the command that does; the API only where a token is set."""
    always = {"metrics": running.options.metrics_port, "dashboard": running.options.dashboard_port}
    return {**always, "api": running.options.api_port} if running.settings.api_tokens else always


def url(running: Running, name: str) -> str:
    """Where people find one of them."""
    return running.options.url(ports(running)[name], _SHOWN_AT.get(name, ""))


def start(running: Running) -> dict[str, ChildProcess]:
    """Start them all, and wait for none: what loads meanwhile is the rest."""
    started = {}
    for name, port in ports(running).items():
        where = ("--host", running.options.host, "--port", str(port))
        started[name] = running.child(name, sys.executable, "-m", "local_stack.cli", name, *where)
        started[name].start()
    return started


def await_ready(running: Running, started: dict[str, ChildProcess], began: float) -> None:
    """Wait until each listens."""
    for name, port in ports(running).items():

        def not_listening(port: int = port) -> str | None:
            return None if listens(running.options.reached, port) else "it does not listen yet"

        with running.told.starting(name):
            started[name].await_ready(not_listening, _READY_SECONDS)
        running.told.ready(name, url(running, name), began)
