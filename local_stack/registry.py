"""The embedded schema registry of the local stack: Confluent's REST API over HTTP, kept in a journal.

`python -m local_stack.registry --file var/registry.jsonl`. Confluent's clients and serializers work against it.
It has no modes, contexts, metadata, rules or associations, and pages nothing. What it was told is written to the
journal, and is on the disk, before it answers: schema ids survive any kill, and are never given twice.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import re
import signal
import sys
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from avro.errors import AvroWarning

from local_stack.process import LOOPBACK, ChildProcess, ProcessFailed, Server
from local_stack.schema_formats import SchemaType
from local_stack.subjects import (
    Compatibility,
    Journal,
    JournalBroken,
    Json,
    Reference,
    Refused,
    Registry,
    Schema,
    Version,
)

__all__ = ["Compatibility", "Journal", "Reference", "Refused", "Registry", "Schema", "SchemaRegistry", "server_of"]

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_LISTENS = "the schema registry listens on"


class _Registration(msgspec.Struct, rename="camel"):
    """The body of a request with a schema; metadata and rules are read to be refused, not to be lost."""

    schema: str
    schema_type: SchemaType = "AVRO"
    references: tuple[Reference, ...] | None = None
    metadata: Json | None = None
    rule_set: Json | None = None


class _Level(msgspec.Struct):
    compatibility: str


class _Request(NamedTuple):
    """What a handler is given: the parts of the path that vary, the query, the body."""

    parts: tuple[str, ...]
    query: dict[str, list[str]]
    body: bytes

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[-1].lower() == "true"

    def schema(self) -> Schema:
        try:
            told = msgspec.json.decode(self.body, type=_Registration)
        except msgspec.DecodeError as error:
            raise Refused(42201, f"Invalid schema: {error}") from error
        if told.metadata is not None or told.rule_set is not None:
            raise Refused(42201, "Invalid schema: the local registry keeps no metadata and no rules")
        return Schema(told.schema, told.schema_type, told.references or ())

    def level(self) -> str:
        try:
            return msgspec.json.decode(self.body, type=_Level).compatibility
        except msgspec.DecodeError as error:
            raise Refused(42203, f"Invalid compatibility level: {error}") from error


_Answer = Callable[[Registry, _Request], Any]


def _version(found: Version) -> Json:
    told: Json = {"subject": found.subject, "version": found.version, "id": found.schema_id}
    return {**told, **msgspec.to_builtins(found.schema)}


def _schema_id(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        raise Refused(40403, f"Schema {text} not found")
    return int(text)


def _compatible(registry: Registry, request: _Request) -> Json:
    version = request.parts[1] if len(request.parts) > 1 else None
    problems = registry.problems(request.parts[0], request.schema(), version)
    told: Json = {"is_compatible": not problems}
    return {**told, "messages": problems} if request.flag("verbose") else told


def _config(registry: Registry, request: _Request) -> Json:
    subject = request.parts[0] if request.parts else None
    return {"compatibilityLevel": registry.compatibility(subject, or_default=request.flag("defaultToGlobal"))}


def _set_config(registry: Registry, request: _Request) -> Json:
    return {"compatibility": registry.set_compatibility(request.level(), *request.parts)}


def _unset_config(registry: Registry, request: _Request) -> Json:
    return {"compatibilityLevel": registry.unset_compatibility(*request.parts)}


_ONE = "([^/]+)"
_ROUTES: list[tuple[str, str, _Answer]] = [
    ("GET", "/", lambda _, __: {}),
    ("GET", "/schemas/types", lambda _, __: ["AVRO", "JSON", "PROTOBUF"]),
    # A Protobuf schema is kept serialised: with `?format=serialized` and without.
    ("GET", f"/schemas/ids/{_ONE}", lambda to, asked: to.schema(_schema_id(asked.parts[0]))),
    (
        "GET",
        f"/schemas/ids/{_ONE}/versions",
        lambda to, asked: [
            {"subject": use.subject, "version": use.version}
            for use in to.uses(_schema_id(asked.parts[0]), deleted=asked.flag("deleted"))
        ],
    ),
    ("GET", "/subjects", lambda to, asked: to.subjects(deleted=asked.flag("deleted"))),
    (
        "POST",
        f"/subjects/{_ONE}",
        lambda to, asked: _version(to.lookup(asked.parts[0], asked.schema(), deleted=asked.flag("deleted"))),
    ),
    (
        "DELETE",
        f"/subjects/{_ONE}",
        lambda to, asked: to.delete_subject(asked.parts[0], permanent=asked.flag("permanent")),
    ),
    ("GET", f"/subjects/{_ONE}/versions", lambda to, asked: to.versions(*asked.parts, deleted=asked.flag("deleted"))),
    ("POST", f"/subjects/{_ONE}/versions", lambda to, asked: {"id": to.register(asked.parts[0], asked.schema())}),
    (
        "GET",
        f"/subjects/{_ONE}/versions/{_ONE}",
        lambda to, asked: _version(to.version(*asked.parts, deleted=asked.flag("deleted"))),
    ),
    (
        "DELETE",
        f"/subjects/{_ONE}/versions/{_ONE}",
        lambda to, asked: to.delete_version(*asked.parts, permanent=asked.flag("permanent")),
    ),
    ("GET", f"/config(?:/{_ONE})?", _config),
    ("PUT", f"/config(?:/{_ONE})?", _set_config),
    ("DELETE", f"/config(?:/{_ONE})?", _unset_config),
    ("POST", f"/compatibility/subjects/{_ONE}/versions(?:/{_ONE})?", _compatible),
]


class _Handler(BaseHTTPRequestHandler):
    """Answers requests; a subclass made by `server_of` has the registry."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the head and the body in one packet: the client's delayed acknowledgement would cost 40 ms
    registry: Registry
    credentials: str | None

    def handle_any(self) -> None:
        try:
            told = self._answer(self._body())
        except Refused as refused:
            self._send(refused.status, {"error_code": refused.code, "message": refused.message})
        else:
            self._send(200, told)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names are the server's

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of a request that was answered."""

    def _body(self) -> bytes:
        """The body, which must be read for the connection's next request, whatever becomes of this one."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(411, "HTTP 411 Length Required")
        return self.rfile.read(int(length))

    def _answer(self, body: bytes) -> Any:
        given = self.headers.get("Authorization", "")
        if self.credentials is not None and not hmac.compare_digest(given.encode(), self.credentials.encode()):
            raise Refused(401, "Unauthorized")
        url = urlsplit(self.path)
        path = url.path.rstrip("/") or "/"
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                parts = tuple(unquote(part) for part in found.groups() if part is not None)
                return answer(self.registry, _Request(parts, parse_qs(url.query), body))
        raise Refused(404, f"HTTP 404 Not Found: {self.command} {path}")

    def _send(self, status: int, told: Any) -> None:
        body = msgspec.json.encode(told)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="schema registry"')
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def server_of(registry: Registry, host: str, port: int, user: str | None = None) -> ThreadingHTTPServer:
    """An HTTP server of a registry, which listens; its `serve_forever` answers.

    Args:
        registry: The registry.
        host: Address to listen on.
        port: TCP port.
        user: `name:password` that requests must have; None lets everyone in.

    Raises:
        OSError: The port is in use.
    """
    credentials = None if user is None else f"Basic {base64.b64encode(user.encode()).decode()}"
    handler = type("Handler", (_Handler,), {"registry": registry, "credentials": credentials})
    return ThreadingHTTPServer((host, port), handler)


class SchemaRegistry(Server):
    """A schema registry as a child process; a context manager, or `start` and `stop` by hand.

    Args:
        port: TCP port on loopback.
        file: The journal; kept from start to start.
        log_file: Receives the process's output, appended.
        compatibility: The level where none was set.
        user: `name:password` that requests must have; None lets everyone in.
    """

    def __init__(
        self,
        port: int,
        file: Path,
        log_file: Path,
        *,
        compatibility: Compatibility = Compatibility.BACKWARD,
        user: str | None = None,
    ) -> None:
        super().__init__()
        self.port = port
        self.file = file
        self.log_file = log_file
        self._options = ["--compatibility", compatibility, *([] if user is None else ["--user", user])]

    @property
    def url(self) -> str:
        """The URL for a client; without the user."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self, within: float = _START_SECONDS) -> None:
        """Start the process and wait until it listens.

        Args:
            within: Seconds it may take.

        Raises:
            ProcessFailed: It runs already, the port is in use, the journal cannot be read, or the process was not
                ready in time; the message ends with the log's tail.
        """
        if self.running:
            msg = f"the schema registry runs already on port {self.port}"
            raise ProcessFailed(msg)
        child = ChildProcess(
            f"the schema registry on port {self.port}",
            [
                *(sys.executable, "-m", "local_stack.registry", "--host", LOOPBACK, "--port", str(self.port)),
                *("--file", str(self.file), *self._options),
            ],
            self.log_file,
        )
        self._child = child
        child.start()
        # Its own word: on its port a stranger might answer.
        child.await_ready(lambda: None if _LISTENS.encode() in child.said() else "it does not listen yet", within)

    def stop(self, grace: float = _STOP_SECONDS) -> None:
        """Ask the process to end, kill it after `grace` seconds; does nothing where it does not run."""
        if self._child is not None:
            self._child.stop(grace)


def main(arguments: list[str] | None = None) -> int:
    """Answer requests until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on")
    parser.add_argument("--port", type=int, default=8081, help="TCP port")
    parser.add_argument("--file", type=Path, required=True, help="the journal")
    parser.add_argument(
        "--compatibility", type=Compatibility, choices=list(Compatibility), default="BACKWARD", help="level by default"
    )
    parser.add_argument("--user", metavar="NAME:PASSWORD", help="let only requests in that have these credentials")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    warnings.simplefilter("ignore", AvroWarning)  # a logical type that the package does not know is no fault
    try:
        registry = Registry(Journal(options.file), options.compatibility)
    except (OSError, JournalBroken) as error:
        sys.stderr.write(f"the journal {options.file} cannot be used: {error}\n")
        return 1
    try:
        server = server_of(registry, options.host, options.port, options.user)
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {error}\n")
        return 1
    sys.stdout.write(f"{_LISTENS} http://{options.host}:{options.port}\n")
    sys.stdout.flush()
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
