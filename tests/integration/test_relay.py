"""From a real PostgreSQL by way of the relay: what changes are told, and that a kill loses none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import psycopg
import pytest

from local_stack.database import Database
from local_stack.pgoutput import Decoder, lsn_of, value
from local_stack.process import ProcessFailed, free_port
from local_stack.relay import Outgoing, Relay
from local_stack.shop import Shop
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.silver import devices, orders, products, quarantine, row_changes, users
from platform_assets.streams.change_batches import ChangeBatches
from resources.kafka import KafkaSource
from resources.settings import Settings
from support.changes import new_lake

from .conftest import Topic

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("database")
    with Database(free_port(), folder / "data", folder / "log") as database:
        yield database


@pytest.fixture
def database(server: Database) -> Iterator[psycopg.Connection[Any]]:
    """The server, with nothing in it."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        connection.execute("DROP PUBLICATION IF EXISTS headwater")
        connection.execute("DROP SCHEMA IF EXISTS headwater_relay CASCADE")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        yield connection


class Kept:
    """A topic in memory."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.flushed = 0

    def send(self, record: Outgoing) -> None:
        self.sent.append(record)

    def flush(self) -> None:
        self.flushed = len(self.sent)

    def told(self) -> list[tuple[Any, ...]]:
        """(op, key, before, after) of what was sent; a tombstone is (None, key)."""
        found: list[tuple[Any, ...]] = []
        for record in self.sent:
            key = None if record.key is None else json.loads(record.key)
            if record.value is None:
                found.append((None, key))
            else:
                event = json.loads(record.value)
                found.append((event["op"], key, event["before"], event["after"]))
        self.sent.clear()
        return found


def relay(server: Database, kept: Kept) -> Any:
    return closing(Relay(server.url, kept))  # type: ignore[arg-type]  # all that it needs of a sink


TABLE = "CREATE TABLE users (user_id text PRIMARY KEY, plan text, amount numeric(8, 2))"


def test_a_snapshot_first_and_then_what_was_committed(server: Database, database: psycopg.Connection[Any]) -> None:
    database.execute(TABLE)
    database.execute("INSERT INTO users VALUES ('anna', 'free', 1.5)")
    kept = Kept()
    with relay(server, kept) as reading:
        assert reading.prepare(snapshot=False) == 1
        assert kept.told() == [
            ("t", None, None, None),
            ("r", {"user_id": "anna"}, None, {"user_id": "anna", "plan": "free", "amount": "1.50"}),
        ]
        with database.transaction():
            database.execute("INSERT INTO users VALUES ('ben', NULL, NULL)")
            database.execute("UPDATE users SET plan = 'pro' WHERE user_id = 'anna'")
        with database.transaction(force_rollback=True):  # it never was
            database.execute("DELETE FROM users WHERE user_id = 'anna'")
        database.execute("DELETE FROM users WHERE user_id = 'ben'")
        assert reading.relay() == 4
        assert kept.told() == [
            ("c", {"user_id": "ben"}, None, {"user_id": "ben", "plan": None, "amount": None}),
            ("u", {"user_id": "anna"}, None, {"user_id": "anna", "plan": "pro", "amount": "1.50"}),
            ("d", {"user_id": "ben"}, {"user_id": "ben"}, None),
            (None, {"user_id": "ben"}),
        ]
        assert reading.relay() == 0


def test_a_changed_key_a_truncation_and_a_migration(server: Database, database: psycopg.Connection[Any]) -> None:
    database.execute(TABLE)
    database.execute("INSERT INTO users VALUES ('anna', 'free', 1)")
    kept = Kept()
    with relay(server, kept) as reading:
        reading.prepare(snapshot=False)
        kept.told()
        database.execute("UPDATE users SET user_id = 'anna-b' WHERE user_id = 'anna'")
        database.execute("ALTER TABLE users ADD COLUMN country text DEFAULT 'DE'")
        database.execute("UPDATE users SET plan = 'pro'")
        database.execute("CREATE TABLE later (id int PRIMARY KEY)")
        database.execute("INSERT INTO later VALUES (7)")
        database.execute("TRUNCATE users, later")
        reading.relay()
        row = {"user_id": "anna-b", "plan": "free", "amount": "1.00"}
        assert kept.told() == [
            ("d", {"user_id": "anna"}, {"user_id": "anna"}, None),
            (None, {"user_id": "anna"}),
            ("c", {"user_id": "anna-b"}, None, row),
            ("u", {"user_id": "anna-b"}, None, {**row, "plan": "pro", "country": "DE"}),
            ("c", {"id": 7}, None, {"id": 7}),
            ("t", None, None, None),
            ("t", None, None, None),
        ]


def test_what_kafka_did_not_take_is_sent_again(server: Database, database: psycopg.Connection[Any]) -> None:
    database.execute(TABLE)

    class Refusing(Kept):
        def flush(self) -> None:
            raise ConnectionError

    kept = Kept()
    with relay(server, kept) as reading:
        reading.prepare(snapshot=False)
    database.execute("INSERT INTO users VALUES ('anna', 'free', 1)")
    with relay(server, Refusing()) as reading, pytest.raises(ConnectionError):
        reading.relay()
    kept.told()
    with relay(server, kept) as reading:
        assert reading.prepare(snapshot=False) == 0
        assert reading.relay() == 1
    assert [op for op, *_ in kept.told()] == ["c"]


def test_a_snapshot_that_never_ended_is_taken_anew(server: Database, database: psycopg.Connection[Any]) -> None:
    database.execute(TABLE)
    database.execute("INSERT INTO users VALUES ('anna', 'free', 1)")

    class Dying(Kept):
        def send(self, record: Outgoing) -> None:
            if record.key is not None:
                raise ConnectionError
            super().send(record)

    with relay(server, Dying()) as reading, pytest.raises(ConnectionError):
        reading.prepare(snapshot=False)
    kept = Kept()
    with relay(server, kept) as reading:
        assert reading.prepare(snapshot=False) == 1
    with relay(server, kept) as reading:
        assert reading.prepare(snapshot=False) == 0
        assert reading.prepare(snapshot=True) == 1


@pytest.mark.parametrize(
    ("oid", "text", "wanted"),
    [
        (16, "t", True),
        (16, "f", False),
        (20, "9223372036854775807", 2**63 - 1),
        (701, "1.5", 1.5),
        (1700, "12.50", "12.50"),
        (25, "7", "7"),
        (1184, "2026-11-20 22:00:00.000001+00", "2026-11-20T22:00:00.000001Z"),
        (1184, "infinity", "infinity"),
        (1114, "1970-01-01 00:00:01", 1_000_000),
        (1082, "1970-01-03", 2),
    ],
)
def test_values_are_what_debezium_writes(oid: int, text: str, wanted: object) -> None:
    assert value(oid, text) == wanted


def test_a_message_of_another_protocol_is_named() -> None:
    with pytest.raises(ValueError, match="a message of kind 'S'"):
        Decoder().decode(b"S")
    assert lsn_of("16/B374D848") == 0x16B374D848


def test_a_shop_with_a_past_has_orders_of_each_of_its_days(database: psycopg.Connection[Any]) -> None:
    now = datetime.now(UTC)
    since = now - timedelta(days=4)
    assert Shop(database, persons=60).open(since)
    by_day = "SELECT count(*) FROM orders GROUP BY floor(extract(epoch FROM ordered_at - %s) / 86400)"
    counts = [count for (count,) in database.execute(by_day, (since,))]
    assert len(counts) == 4
    assert min(counts) > 30
    outside = "SELECT count(*) FROM orders WHERE ordered_at NOT BETWEEN %s AND now()"
    assert database.execute(outside, (since,)).fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM users WHERE created_at > %s", (since,)).fetchone() == (0,)


def test_killed_again_and_again_it_loses_nothing(
    server: Database, database: psycopg.Connection[Any], topic: Topic, tmp_path: Path
) -> None:
    """The shop goes on, the relay and the platform's writer die at random; in the end silver is what the shop has."""
    rng = Random(7)
    shop = Shop(database, persons=60)
    assert shop.open()
    assert not shop.open()
    lake = new_lake(tmp_path / "lake")
    settings = Settings(kafka_bootstrap_servers=topic.bootstrap_servers, oltp_changes_topic=topic.name)
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": topic.bootstrap_servers,
        "HEADWATER_OLTP_CHANGES_TOPIC": topic.name,
        "HEADWATER_OLTP_URL": server.url,
    }

    def read() -> None:
        with KafkaSource(settings.kafka_config()) as source, ChangeBatches(lake, source, settings) as batches:
            batches.catch_up()
            while batches.step() is not None:
                pass

    killed = 0
    for _ in range(4):
        command = [sys.executable, "-m", "local_stack.relay"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline().startswith(b"snapshot: ")
            for _ in range(rng.randrange(5, 40)):
                shop.happen()
            child.kill()
            killed += child.wait() == -signal.SIGKILL
        read()
    assert killed == 4
    for act in (shop.order, shop.change_plan, shop.close_account, shop.reset_device, shop.change_price, shop.refund):
        act()
    with subprocess.Popen([sys.executable, "-m", "local_stack.relay"], cwd=ROOT, env=environment) as last:
        end = database.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert end is not None
        await_true(lambda: confirmed(database) >= lsn_of(end[0]))
        last.terminate()
        assert last.wait(30) == 0
    read()

    def told(table: Any, *columns: str) -> list[tuple[Any, ...]]:
        rows = lake.scan(table).filter(pl.col("is_current") if "is_current" in table.schema else ~pl.col("is_deleted"))
        return rows.select(columns).collect().sort(columns[0]).rows()

    for table, name, columns in (
        (users.DIMENSION.table, "users", ("user_id", "plan", "country")),
        (products.DIMENSION.table, "products", ("product_id", "category", "price")),
        (devices.DIMENSION.table, "devices", ("anonymous_id", "os", "app_version")),
        (orders.DIMENSION.table, "orders", ("order_id", "status", "amount", "ordered_at")),
    ):
        wanted = database.execute(f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1").fetchall()
        assert told(table, *columns) == wanted, name
    assert lake.scan(quarantine.TABLE).collect().is_empty()
    versions = lake.scan(users.DIMENSION.table).group_by("user_id").len().collect()
    assert max(versions["len"]) > 1, "no plan ever changed: nothing was shown"
    seen = set(lake.scan(row_changes.TABLE).select("op").collect()["op"])
    assert {"c", "u", "d", "r", "t"} <= seen
    assert len(DIMENSIONS) == 6


def confirmed(database: psycopg.Connection[Any]) -> int:
    """How far the slot has come."""
    row = database.execute("SELECT confirmed_flush_lsn::text FROM pg_replication_slots").fetchone()
    return 0 if row is None else lsn_of(row[0])


def await_true(condition: Callable[[], bool], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_a_database_that_was_killed_starts_again_and_one_in_use_is_left_alone(tmp_path: Path) -> None:
    first = Database(free_port(), tmp_path / "data", tmp_path / "log")
    first.start()
    try:
        with psycopg.connect(first.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
            beside = Database(free_port(), tmp_path / "data", tmp_path / "log")
            with pytest.raises(ProcessFailed, match="is in use by processes"):
                beside.start()
            first.kill()
        with Database(free_port(), tmp_path / "data", tmp_path / "log") as second:
            with psycopg.connect(second.url) as connection:
                assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
            assert second.running
        assert not second.running
    finally:
        first.kill()
