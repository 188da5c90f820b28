"""Dagster's processes: one server of our code, the web server, the daemon; and what the web server says of them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from local_stack.process import LOOPBACK, ChildProcess, free_port, listens
from local_stack.up.options import Options
from local_stack.up.running import ComponentDied, Running, last_words

LOCATION = "platform_assets.definitions"
"""The code location's name: the same as with `dagster dev`, so that sensors and schedules keep their state."""

_CODE_SECONDS = 180.0
_DAEMON_SECONDS = 120.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_HEALTH = """{
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } }
  workspaceOrError { __typename
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
      ... on PythonError { message } } } } }
}"""


class DagsterServers:
    """The processes of one stack's Dagster."""

    def __init__(self, running: Running) -> None:
        """Nothing is started yet: the code server has its port, and the workspace names it."""
        self._running = running
        self._told = running.told
        self._options = running.options
        self._code_port = free_port()
        self._workspace = running.stack.dagster_home / "workspace.yaml"
        server = {"host": LOOPBACK, "port": self._code_port, "location_name": LOCATION}
        workspace = {"load_from": [{"grpc_server": server}]}
        self._workspace.write_text(json.dumps(workspace), encoding="utf-8")  # JSON is YAML

    def start_code(self) -> None:
        """Start one server of our code for all of Dagster, and do not wait for it."""
        where = ("--host", LOOPBACK, "--port", str(self._code_port), "--location-name", LOCATION)
        self._code = self._running.child("code", "dagster", "code-server", "start", *where, "-m", LOCATION)
        self._code.start()

    def start_web(self) -> None:
        """Start the web server when the code server listens; it is not awaited yet."""
        with self._told.starting("Dagster") as show:

            def not_listening() -> str | None:
                show("starting the code server")
                return None if listens(LOOPBACK, self._code_port) else "nothing listens yet"

            self._code.await_ready(not_listening, _CODE_SECONDS)
        address = ("--host", self._options.host, "--port", str(self._options.port))
        self._web = self._running.child("web", "dagster-webserver", *address, "--workspace", str(self._workspace))
        self._web.start()

    def await_web(self, began: float) -> None:
        """Wait until the web server has loaded the definitions.

        Raises:
            ComponentDied: They do not load, or the code server ended.
        """
        self._await("Dagster", self._web, self._web_lacks, _CODE_SECONDS)
        self._told.ready("Dagster", self._options.url(self._options.port), began)

    def start_daemon(self) -> None:
        """Start the daemon, and wait until all its parts are healthy."""
        began, since = time.monotonic(), time.time()
        daemon = self._running.child("daemon", "dagster-daemon", "run", "--workspace", str(self._workspace))
        daemon.start()
        self._await("daemon", daemon, lambda: self._daemon_lacks(since), _DAEMON_SECONDS)
        self._told.ready("daemon", "sensors, schedules and backfills are running", began)

    def _await(self, name: str, server: ChildProcess, lacks: Callable[[], str | None], within: float) -> None:
        with self._told.starting(name) as show:

            def not_ready() -> str | None:
                missing = lacks()
                show(missing or "")
                return missing

            server.await_ready(not_ready, within)

    def _web_lacks(self) -> str | None:
        answer = _health(self._options)
        if answer is None:
            return "the web server does not answer yet"
        entries = answer["workspaceOrError"].get("locationEntries", [])
        location = next((e["locationOrLoadError"] for e in entries if e["name"] == LOCATION), None)
        if location is None:
            return "the definitions are not loaded yet"
        if location["__typename"] == "PythonError":
            if not self._code.running:
                raise ComponentDied(last_words("code server", self._code.log_file))
            if "UNAVAILABLE" in location["message"] or "Deadline" in location["message"]:
                return "the code server does not answer yet"
            msg = f"the definitions do not load: {location['message']}"
            raise ComponentDied(msg)
        return None

    def _daemon_lacks(self, since: float) -> str | None:
        answer = _health(self._options)
        statuses = [] if answer is None else answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        # A daemon of the last start counts as healthy for some minutes: ours is one whose heart beat since.
        ill = [
            status["daemonType"].lower()
            for status in statuses
            if status["required"] and not (status["healthy"] and status["lastHeartbeatTime"] > since)
        ]
        return f"waiting for {', '.join(ill)}" if ill or not statuses else None


def _health(options: Options) -> Any | None:
    """What the web server says of the code location and of the daemons; None where it does not answer."""
    body = json.dumps({"query": _HEALTH}).encode()
    url = f"http://{options.reached}:{options.port}/graphql"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with _DIRECTLY.open(request, timeout=5) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return None
