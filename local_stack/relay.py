"""Change data capture of the local stack: reads PostgreSQL's log, writes Debezium-shaped events to Kafka.

`python -m local_stack.relay`, configured by the settings `oltp_url` and `oltp_changes_topic`. First a snapshot of every
table of the schema `public`, then what was committed after it, in the order of the commits. The slot's position moves
only when Kafka has everything before it: what a kill leaves in between is sent again, and the platform applies one
change once. Whoever runs Debezium needs none of this.

A snapshot that is taken anew (`--snapshot`: a broker that forgets has lost changes) begins with a truncation of each
table at the same instant: rows that are gone meanwhile end there, rows that are still the same go on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from local_stack.pgoutput import Begun, Committed, Decoder, Json, Row, RowEvent, Truncated, lsn_of, value
from local_stack.sink import Sink
from resources.settings import Settings

SLOT = "headwater"
"""The name of the slot and of the publication. The schema with the relay's own notes has another: a user's tables go
into the schema that is called as they are."""

_AT_ONCE = 10_000
_IDLE_SECONDS = 0.2
_UTC = "-c timezone=UTC -c datestyle=ISO"


class Outgoing(NamedTuple):
    """A record to write."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class Relay:
    """Relays the changes of one database to one topic.

    Args:
        url: The database; its user must be allowed to replicate, and `wal_level` must be `logical`.
        sink: The topic.
    """

    def __init__(self, url: str, sink: Sink) -> None:
        self._url = url
        self._sink = sink
        self._decoder = Decoder()
        self._connection = psycopg.connect(url, autocommit=True, options=_UTC)
        self._transaction = Begun(0, 0)

    def close(self) -> None:
        """Hang up; the slot stays, and keeps the log from where it is."""
        self._connection.close()

    def prepare(self, *, snapshot: bool) -> int:
        """Take a snapshot where there is none yet, or where one is asked for. Returns the rows sent.

        Args:
            snapshot: Take one anew.
        """
        self._run("CREATE SCHEMA IF NOT EXISTS headwater_relay")
        self._run("CREATE TABLE IF NOT EXISTS headwater_relay.snapshots (taken_at timestamptz NOT NULL)")
        if not self._run("SELECT 1 FROM pg_publication WHERE pubname = 'headwater'"):
            self._run("CREATE PUBLICATION headwater FOR TABLES IN SCHEMA public")
        is_there = bool(self._run("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'headwater'"))
        is_whole = bool(self._run("SELECT 1 FROM headwater_relay.snapshots"))
        if is_there and is_whole and not snapshot:
            return 0
        if is_there:  # of a snapshot that never ended, or to be taken anew
            self._run("SELECT pg_drop_replication_slot('headwater')")
        self._run("DELETE FROM headwater_relay.snapshots")
        rows = self._take_snapshot()
        self._run("INSERT INTO headwater_relay.snapshots VALUES (now())")
        return rows

    def relay(self) -> int:
        """Send what was committed since; returns the number of row changes."""
        found = self._run(
            "SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes('headwater', NULL, %s, "
            "'proto_version', '1', 'publication_names', 'headwater')",
            _AT_ONCE,
        )
        sent, end = 0, 0
        for lsn, data in found:
            message = self._decoder.decode(bytes(data))
            if isinstance(message, Begun):
                self._transaction = message
            elif isinstance(message, Committed):
                end = message.end_lsn
            elif message is not None:
                for event in self._events(lsn_of(lsn), message):
                    self._sink.send(event)
                    sent += 1
        if end:
            self._sink.flush()
            self._run("SELECT pg_replication_slot_advance('headwater', %s::pg_lsn)", _text(end))
        return sent

    def _events(self, lsn: int, message: RowEvent | Truncated) -> Iterator[Outgoing]:
        at_us = self._transaction.committed_at_us
        if isinstance(message, Truncated):
            for relation in message.relations:
                yield _outgoing(None, _envelope("t", None, None, _source(relation.name, lsn, at_us)))
            return
        relation, key = message.relation, message.relation.key
        source = _source(relation.name, lsn, at_us)
        if message.op == "u" and message.before is not None and message.after is not None:
            before, after = (_key(row, key) for row in (message.before, message.after))
            if before != after:  # as Debezium does: the old row goes, a new one comes
                yield _outgoing(before, _envelope("d", message.before, None, source))
                yield _outgoing(before, None)
                yield _outgoing(after, _envelope("c", None, message.after, source))
                return
        row = message.before if message.op == "d" else message.after
        told = _key(row or {}, key)
        yield _outgoing(told, _envelope(message.op, message.before, message.after, source))
        if message.op == "d":
            yield _outgoing(told, None)

    def _take_snapshot(self) -> int:
        """Make the slot, and send every row as it was at the slot's very position."""
        with psycopg.connect(self._url, autocommit=True, replication="database") as replication:
            made = replication.execute(
                "CREATE_REPLICATION_SLOT headwater LOGICAL pgoutput (SNAPSHOT 'export')"
            ).fetchone()
            assert made is not None  # noqa: S101 - the command answers with one row
            lsn, name = lsn_of(made[1]), made[2]
            with psycopg.connect(self._url, options=_UTC) as reading:
                reading.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                reading.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
                rows = self._send_tables(reading, lsn)
        self._sink.flush()
        return rows

    def _send_tables(self, reading: psycopg.Connection[Any], lsn: int) -> int:
        at_us, rows = time.time_ns() // 1000, 0
        tables = reading.execute(
            "SELECT tablename FROM pg_publication_tables WHERE pubname = 'headwater' ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            key = [name for (name,) in reading.execute(_KEY, [table]).fetchall()]
            self._sink.send(_outgoing(None, _envelope("t", None, None, _source(table, lsn, at_us, sequence=0))))
            name = sql.Identifier(table)
            columns = reading.execute(sql.SQL("SELECT * FROM public.{} LIMIT 0").format(name)).description or []
            # Copied out as text, which is how the log tells of values.
            copying = sql.SQL("COPY (SELECT * FROM public.{}) TO STDOUT").format(name)
            with reading.cursor() as cursor, cursor.copy(copying) as copied:
                for values in copied.rows():
                    row = {
                        column.name: None if text is None else value(column.type_code, text)
                        for column, text in zip(columns, values, strict=True)
                    }
                    source = _source(table, lsn, at_us, sequence=1)
                    self._sink.send(_outgoing(_key(row, key), _envelope("r", None, row, source)))
                    rows += 1
        return rows

    def _run(self, query: LiteralString, *arguments: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(query, arguments or None, binary=False)
        return cursor.fetchall() if cursor.description else []


_KEY: LiteralString = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indisprimary AND i.indrelid = ('public.' || quote_ident(%s))::regclass ORDER BY a.attnum
"""


def _source(table: str, lsn: int, at_us: int, sequence: int | None = None) -> dict[str, object]:
    told: dict[str, object] = {
        "connector": "postgresql",
        "name": SLOT,
        "schema": "public",
        "table": table,
        "lsn": lsn,
        "ts_ms": at_us // 1000,
        "ts_us": at_us,
    }
    return told if sequence is None else {**told, "sequence": sequence}


def _envelope(op: str, before: Row | None, after: Row | None, source: dict[str, object]) -> dict[str, object]:
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": time.time_ns() // 1_000_000}


def _key(row: Row, key: list[str] | tuple[str, ...]) -> dict[str, Json]:
    return {name: row.get(name) for name in key}


def _outgoing(key: dict[str, Json] | None, event: dict[str, object] | None) -> Outgoing:
    return Outgoing(
        None if key is None else json.dumps(key).encode(),
        None if event is None else json.dumps(event, ensure_ascii=False).encode(),
        time.time_ns() // 1_000_000,
    )


def _text(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def main(arguments: list[str] | None = None) -> int:
    """Relay until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", action="store_true", help="take a snapshot anew")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    settings = Settings()
    if settings.oltp_url is None or settings.oltp_changes_topic is None:
        parser.error("set HEADWATER_OLTP_URL and HEADWATER_OLTP_CHANGES_TOPIC")
    with Sink(settings.kafka_config(), settings.oltp_changes_topic) as sink:
        relay = Relay(settings.oltp_url.get_secret_value(), sink)
        sys.stdout.write(f"snapshot: {relay.prepare(snapshot=options.snapshot)} rows\n")
        sys.stdout.flush()
        while not ended.is_set():
            if relay.relay() == 0:
                ended.wait(_IDLE_SECONDS)
        relay.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
