"""A receiver of alerts on this machine: prints what `json://` URLs of `HEADWATER_ALERT_URLS` send it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from rich.console import Console

from local_stack.process import LOOPBACK, wait_for_ctrl_c


class Webhook:
    """A web server on loopback that takes messages; a context manager.

    Args:
        port: Its port; 0 for any that is free.
        received: Called with each message's title, text and type (`failure`, `warning`, `success`) before the answer
            is sent; what it raises is an answer of 500.

    Attributes:
        status: What it answers; another than 200 refuses, and nothing is received.
    """

    def __init__(self, port: int, received: Callable[[str, str, str], None]) -> None:
        self.status = 200
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = self.rfile.read(int(self.headers["Content-Length"]))
                status = webhook.status
                if status == 200:
                    try:
                        message = json.loads(told)
                        received(message["title"], message["message"], message["type"])
                    except (ValueError, KeyError):
                        status = 400
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server names it
                """Say nothing: what comes in is told by `received`."""

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The entry of `HEADWATER_ALERT_URLS` that reaches it."""
        return f"json://{LOOPBACK}:{self._server.server_port}/alerts"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def listen(port: int, console: Console) -> int:
    """Print what comes in until Ctrl-C. Returns the exit status."""

    def show(title: str, text: str, _kind: str) -> None:
        console.print(f"{title}\n{text}\n", markup=False, highlight=False)

    try:
        with Webhook(port, show) as webhook:
            console.print(f"waiting for alerts: HEADWATER_ALERT_URLS='[\"{webhook.url}\"]'", markup=False)
            wait_for_ctrl_c()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        console.print(f"port {port} on {LOOPBACK}: {error.strerror}; choose another with --port", markup=False)
        return 1
    return 0
