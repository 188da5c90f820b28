"""Avro, Protobuf and a schema registry through Dagster's own API: evolution, what slips through, replay."""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import fastavro
import polars as pl
import pytest
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from local_stack.process import free_port
from local_stack.registry import SchemaRegistry
from partitions import Window
from platform_assets.bronze import backend_logs, client_events, dead_letters, oltp_changes
from platform_assets.quality.freshness import is_there
from platform_assets.quality.records_told import conserves_changes, conserves_records
from platform_assets.quality.validity import keeps_schemas
from platform_assets.silver import admissions, events, outcomes, quarantine, row_changes, users
from platform_assets.streams import rebuilds
from platform_assets.table import Table
from resources.schemas import RegistryUnavailable
from sensors.micro_batches import changes, micro_batches
from support.changes import change, user
from support.platforms import Run
from support.records import START, Record, at, encoded, event, frame
from support.wire import EVENT_V1, filled, framed, log_message, typed

BACKEND, CHANGES, CLIENTS = "backend_logs", "oltp_changes", "client_events"
NOW = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
HOUR = Window.of_hour(START)
OUTCOME = ("topic", "outcome")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    with SchemaRegistry(free_port(), folder / "registry.jsonl", folder / "registry.log") as running:
        yield running


@pytest.fixture
def client(registry: SchemaRegistry) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": registry.url})


@pytest.fixture
def subject() -> str:
    return f"client_events-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(tmp_path: Path, registry: SchemaRegistry) -> Run:
    made = Run.over(
        tmp_path,
        [],
        NOW,
        backend_logs_topic=BACKEND,
        oltp_changes_topic=CHANGES,
        schema_registry_url=registry.url,
    )
    made.source.partitions = {CLIENTS: 1, BACKEND: 1, CHANGES: 1}
    return made


def send(run: Run, topic: str, *values: bytes | None, minute: float = 1) -> None:
    """Append records to a topic's only partition."""
    first = run.source.held(topic)[0].high
    made = frame(Record(0, first + n, at(minute), value, topic=topic) for n, value in enumerate(values))
    run.source.records = pl.concat([run.source.records, made])


def registered(client: SchemaRegistryClient, subject: str, schema: dict[str, Any]) -> int:
    return client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))


def serialized(client: SchemaRegistryClient, schema: dict[str, Any], told: dict[str, Any], topic: str) -> bytes:
    """An event as Confluent's own serializer writes it."""
    serialize = AvroSerializer(client, json.dumps(schema))
    return bytes(serialize(filled(schema, told), SerializationContext(topic, MessageField.VALUE)) or b"")


def told(run: Run) -> list[tuple[Any, ...]]:
    """What silver holds: topic, event id, user."""
    return run.lake.scan(events.TABLE).select("topic", "event_id", "user_id").sort(pl.all()).collect().rows()


def refused(run: Run, table: Table) -> list[list[str]]:
    return run.lake.scan(table).sort("topic", "offset").collect()["reasons"].to_list()


def counted(run: Run) -> Counter[tuple[Any, ...]]:
    rows = run.lake.scan(outcomes.TABLE).group_by(OUTCOME).agg(pl.col("records").sum())
    return Counter({row[:-1]: row[-1] for row in rows.collect().iter_rows() if row[-1]})


def asks(run: Run, sensor: Any) -> bool:
    found = sensor(dg.build_sensor_context(instance=run.instance, resources={"platform": run.platform}))
    return isinstance(found, dg.RunRequest)


def replay(run: Run, **config: Any) -> dict[str, Any]:
    """Put what was refused in the hour through again, as from the launchpad; what the materialization tells."""
    window = {"ingested_from": HOUR.start.isoformat(), "ingested_until": HOUR.end.isoformat()}
    ops = {"ops": {"replay_refused": {"config": {**window, **config}}}}
    result = run.execute("replay_records", run_config=ops)
    (shown,) = result.asset_materializations_for_node("replay_refused")
    return {name: value.value for name, value in shown.metadata.items()}


def holds(run: Run) -> bool:
    """Whether every record has one outcome, and every change."""
    first = conserves_records(run.platform, outcomes.TABLE, HOUR)
    second = conserves_changes(run.platform, oltp_changes.TABLE, HOUR)
    return first.passed and second.passed


def rebuilt_alike(run: Run) -> bool:
    """Whether rebuilding all that the streams of events feed changes nothing."""

    def snapshot() -> tuple[object, ...]:
        return told(run), refused(run, quarantine.TABLE), refused(run, dead_letters.TABLE), counted(run)

    before, day = snapshot(), Window(START - timedelta(hours=4), START + timedelta(hours=2))
    for rebuild in (rebuilds.rebuild_late_arrivals, rebuilds.rebuild_events, rebuilds.rebuild_quarantine):
        rebuild(run.platform, day)
    rebuilds.rebuild_dead_letters(run.platform, day)
    run.drain()
    rebuilds.rebuild_outcomes(run.platform, day)
    return snapshot() == before


def test_a_topic_that_is_silent_is_late_though_another_one_flows(run: Run) -> None:
    run.now = at(600)
    hours = [Window.of_hour(at(60 * number)) for number in (0, 5)]
    received = (client_events.TABLE, backend_logs.TABLE)
    assert all(is_there(run.platform, table, hours[0]).passed for table in received), "nothing was ever taken in"
    send(run, CLIENTS, encoded(event("c1", 61)), minute=61)
    for number in range(2, 8):
        send(run, BACKEND, encoded(event(f"b{number}", 60 * number)), minute=60 * number)
    run.drain()
    assert [is_there(run.platform, client_events.TABLE, hour).passed for hour in hours] == [True, False]
    assert [is_there(run.platform, backend_logs.TABLE, hour).passed for hour in hours] == [True, True]
    assert is_there(run.platform, events.TABLE, hours[1]).passed


def test_clients_and_the_backend_come_to_one_table_in_any_format(
    run: Run, registry: SchemaRegistry, client: SchemaRegistryClient
) -> None:
    message = log_message(event("b1", source="backend", user_id="anna", properties={"order_id": "o1"}))
    logged = ProtobufSerializer(type(message), client, {"use.deprecated.format": False})
    send(run, CLIENTS, encoded(event("c1", user_id="anna")))
    send(run, CLIENTS, serialized(client, EVENT_V1, event("c2", user_id="ben"), CLIENTS))
    send(run, BACKEND, logged(message, SerializationContext(BACKEND, MessageField.VALUE)))
    assert asks(run, micro_batches)
    run.execute("advance")
    assert told(run) == [
        ("backend_logs", "b1", "anna"),
        ("client_events", "c1", "anna"),
        ("client_events", "c2", "ben"),
    ]
    assert run.lake.scan(backend_logs.TABLE).collect().height == 1
    assert not asks(run, micro_batches)
    assert holds(run)


def test_one_event_that_both_topics_bring_is_one_event(run: Run) -> None:
    same = event("e1", user_id="anna")
    send(run, BACKEND, encoded(same), minute=2)
    send(run, CLIENTS, encoded(same), minute=1)
    run.drain()
    assert told(run) == [("client_events", "e1", "anna")]  # the first arrival, whatever its topic
    assert counted(run) == {("backend_logs", "duplicate"): 1, ("client_events", "silver"): 1}
    assert rebuilt_alike(run)


def test_the_watermark_waits_for_the_slower_topic(run: Run) -> None:
    send(run, CLIENTS, encoded(event("c", 20)), minute=20)
    send(run, BACKEND, encoded(event("b", 18)), minute=18)
    run.drain()
    assert run.platform.watermark() == at(18) - run.platform.settings.expected_disorder


def test_schemas_evolve(run: Run, client: SchemaRegistryClient, subject: str) -> None:
    """A field added, an optional one removed, one renamed by an alias, a type widened; one refused by the registry."""
    plain = {
        **EVENT_V1,
        "fields": [{**f, "type": "int"} if f["name"] == "session_seq" else f for f in EVENT_V1["fields"]],
    }
    plain["fields"] = [
        {k: v for k, v in f.items() if (f["name"], k) != ("session_seq", "default")} for f in plain["fields"]
    ]
    added = {**plain, "fields": [*plain["fields"], {"name": "referrer", "type": "string", "default": ""}]}
    removed = {**added, "fields": [f for f in added["fields"] if f["name"] != "country"]}
    renamed = {
        **removed,
        "fields": [
            {**f, "name": "url", "aliases": ["page_url"]} if f["name"] == "page_url" else f for f in removed["fields"]
        ],
    }
    widened = {
        **renamed,
        "fields": [{**f, "type": "long"} if f["name"] == "session_seq" else f for f in renamed["fields"]],
    }
    told_of = {
        "session_seq": 1,
        "country": "DE",
        "page_url": "https://shop/x",
        "url": "https://shop/x",
        "referrer": "r",
    }
    for number, schema in enumerate((plain, added, removed, renamed, widened)):
        schema_id = registered(client, subject, schema)
        send(run, CLIENTS, framed(schema_id, typed(schema, {**event(f"v{number}"), **told_of})))
    broken = {**widened, "fields": [{**f, "type": "long"} if f["name"] == "event_id" else f for f in widened["fields"]]}
    with pytest.raises(SchemaRegistryError) as error:
        registered(client, subject, broken)
    assert error.value.http_status_code == 409

    run.drain()
    columns = ("event_id", "country", "referrer", "page_url", "session_seq")
    assert run.lake.scan(events.TABLE).select(columns).sort("event_id").collect().rows() == [
        ("v0", "DE", None, "https://shop/x", 1),
        ("v1", "DE", "r", "https://shop/x", 1),
        ("v2", None, "r", "https://shop/x", 1),
        ("v3", None, "r", "https://shop/x", 1),
        ("v4", None, "r", "https://shop/x", 1),
    ]
    assert refused(run, quarantine.TABLE) == []


def test_what_slipped_through_is_kept_told_and_let_in_once_it_is_mended(
    run: Run, client: SchemaRegistryClient, subject: str
) -> None:
    registered(client, subject, EVENT_V1)
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.NONE))
    slipped = {
        **EVENT_V1,
        "fields": [{**f, "name": "id"} if f["name"] == "event_id" else f for f in EVENT_V1["fields"]],
    }
    schema_id = registered(client, subject, slipped)
    send(run, CLIENTS, framed(schema_id, typed(slipped, {**event("e1"), "id": "e1"})), encoded(event("e2")))
    run.drain()
    assert told(run) == [("client_events", "e2", None)]
    assert refused(run, quarantine.TABLE) == [["missing:event_id", f"schema:{schema_id}"]]
    verdict = keeps_schemas(run.platform, quarantine.TABLE, HOUR)
    assert not verdict.passed
    assert f"schema:{schema_id}" in (verdict.sample or "")

    shown = replay(run)
    assert (shown["put through again"], shown["admitted"]) == (1, 0)
    assert "missing:event_id | 1" in shown["still refused"]

    run.reconfigure(field_aliases={"id": "event_id"})
    assert rebuilt_alike(run)  # mending alone lets nothing in: what was refused stays so, until it is put through again
    shown = replay(run, reasons=[f"schema:{schema_id}"])
    assert (shown["put through again"], shown["admitted"], shown["gone from bronze"]) == (1, 1, 0)
    assert asks(run, micro_batches)  # though Kafka has nothing new
    run.reconfigure(field_aliases={})  # a writer that knows nothing of the fix: the admission has its rules with it
    run.execute("advance")
    assert told(run) == [("client_events", "e1", None), ("client_events", "e2", None)]
    assert refused(run, quarantine.TABLE) == []
    assert keeps_schemas(run.platform, quarantine.TABLE, HOUR).passed
    assert counted(run) == {("client_events", "silver"): 2}
    assert holds(run)
    assert rebuilt_alike(run)
    assert replay(run)["admitted"] == 0
    assert not asks(run, micro_batches)


def test_an_unknown_schema_waits_in_the_dead_letters_until_it_is_known(
    run: Run, client: SchemaRegistryClient, subject: str
) -> None:
    own = {**EVENT_V1, "name": f"E{uuid.uuid4().hex[:8]}"}
    unknown = client.register_schema(subject, Schema(json.dumps({**own, "doc": "the last one"}), "AVRO")) + 1
    payload = framed(unknown, typed(own, event("e1", user_id="anna")))
    send(run, CLIENTS, payload, payload, encoded(event("e2")))
    send(run, CHANGES, framed(unknown, b"x"))
    run.drain()
    run.execute("advance_changes")
    assert [why for (why,) in refused(run, dead_letters.TABLE)] == [f"unknown_schema:{unknown}"] * 3
    assert not keeps_schemas(run.platform, dead_letters.TABLE, HOUR).passed

    assert registered(client, subject, {**own, "doc": "registered late"}) == unknown
    assert rebuilt_alike(run)  # the registry knows it now, and still nothing moves by itself
    shown = replay(run)
    assert (shown["put through again"], shown["admitted"]) == (3, 2)  # the third is no change event in this schema
    assert replay(run)["admitted"] == 0  # not taken in yet, and admitted already
    run.execute("advance")
    assert told(run) == [("client_events", "e1", "anna"), ("client_events", "e2", None)]
    assert counted(run) == {("client_events", "silver"): 2, ("client_events", "duplicate"): 1}
    assert [row[0] for row in refused(run, dead_letters.TABLE)] == [f"unknown_schema:{unknown}"]
    assert holds(run)
    assert rebuilt_alike(run)


def test_events_that_are_too_late_are_let_in_when_somebody_says_so(run: Run) -> None:
    old = event("old", -9 * 24 * 60, user_id="anna")
    send(run, CLIENTS, encoded({**old, "received_at": at(0).isoformat()}), encoded(event("e2")))
    run.drain()
    assert refused(run, quarantine.TABLE) == [["too_late"]]
    assert replay(run)["admitted"] == 0
    assert replay(run, allow_late=True)["admitted"] == 1
    run.execute("advance")
    assert told(run) == [("client_events", "e2", None), ("client_events", "old", "anna")]
    day = Window.of_hour(at(-9 * 24 * 60))
    for rebuild in (rebuilds.rebuild_late_arrivals, rebuilds.rebuild_events):
        rebuild(run.platform, day)
    assert told(run) == [("client_events", "e2", None), ("client_events", "old", "anna")]
    assert holds(run)


def test_changes_in_avro_and_refused_changes_put_through_again(
    run: Run, client: SchemaRegistryClient, subject: str
) -> None:
    row = {
        "type": "record",
        "name": "Users",
        "fields": [
            *(
                {"name": n, "type": ["null", "string"], "default": None}
                for n in ("user_id", "email", "plan", "country")
            ),
            {
                "name": "created_at",
                "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
                "default": None,
            },
        ],
    }
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", row], "default": None},
            {"name": "after", "type": ["null", "Users"], "default": None},
            {"name": "op", "type": "string"},
            {
                "name": "source",
                "type": {
                    "type": "record",
                    "name": "Source",
                    "fields": [
                        {"name": "table", "type": "string"},
                        *({"name": n, "type": "long"} for n in ("lsn", "sequence", "ts_us")),
                    ],
                },
            },
        ],
    }
    schema_id = registered(client, subject, envelope)

    def as_avro(told: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        after = {**dict.fromkeys(("user_id", "email", "plan", "country", "created_at")), **(told.get("after") or {})}
        after["created_at"] = START
        source = {**told["source"], "sequence": 0}
        fastavro.schemaless_writer(
            out, fastavro.parse_schema(envelope), {"before": None, "after": after, "op": told["op"], "source": source}
        )
        return framed(schema_id, out.getvalue())

    send(run, CHANGES, as_avro(change("users", "c", 1, 0, user("anna", "plus"))), b'{"op": "c"}')
    assert asks(run, changes)
    run.execute("advance_changes")
    found = run.lake.scan(users.DIMENSION.table).select("user_id", "plan", "created_at").collect().rows()
    assert found == [("anna", "plus", START)]
    assert refused(run, quarantine.TABLE) == [["missing:source"]]
    assert holds(run)
    assert replay(run)["admitted"] == 0
    assert not asks(run, changes)
    assert run.lake.scan(row_changes.TABLE).collect().height == 1


def test_without_the_registry_what_is_known_is_read_and_what_is_not_stops_the_reading(
    run: Run, tmp_path: Path, client: SchemaRegistryClient
) -> None:
    with SchemaRegistry(free_port(), tmp_path / "registry.jsonl", tmp_path / "registry.log") as own:
        run.reconfigure(schema_registry_url=own.url, schema_registry_options={"max.retries": "0"})
        asked = SchemaRegistryClient({"url": own.url})
        first = registered(asked, "s", EVENT_V1)
        send(run, CLIENTS, framed(first, typed(EVENT_V1, event("e1"))))
        run.drain()
        second = registered(asked, "s", {**EVENT_V1, "doc": "again"})
    send(run, CLIENTS, framed(first, typed(EVENT_V1, event("e2"))))
    run.drain()
    assert [row[1] for row in told(run)] == ["e1", "e2"]
    assert rebuilt_alike(run)

    send(run, CLIENTS, framed(second, typed(EVENT_V1, event("e3"))))
    with pytest.raises(RegistryUnavailable, match="does not answer for schema 2"):
        run.drain()
    assert [row[1] for row in told(run)] == ["e1", "e2"]
    with SchemaRegistry(own.port, tmp_path / "registry.jsonl", tmp_path / "registry.log"):
        run.drain()
    assert [row[1] for row in told(run)] == ["e1", "e2", "e3"]
    assert refused(run, dead_letters.TABLE) == []
    assert run.lake.scan(admissions.TABLE).collect().is_empty()
