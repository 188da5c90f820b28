"""The simulator's other wire formats: the same events, whatever carries them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from local_stack.simulator import Corruption, Delivery, World, history
from local_stack.simulator.formats import Formats
from platform_assets.silver.judgement import Judgement, Rules, judge
from resources.schemas import Registry
from support.records import Record, frame

ROUGH = Corruption(duplicate_rate=0.1, offline_rate=0.2, garbage_rate=0.1)
DIFFERS = {"properties", "consent", "topic", "partition", "offset"}


@pytest.fixture(scope="module")
def deliveries() -> list[Delivery]:
    world = World(seed=7, persons=60, start=datetime(2026, 10, 1, tzinfo=UTC), days=5)
    return list(history(world, ROUGH, allowed_lateness=timedelta(days=7)))


def judged(records: list[Record], rules: Rules) -> Judgement:
    return judge(frame(records), rules)


def of(topic: str, offset: int, delivery: Delivery) -> Record:
    at = datetime.fromtimestamp(delivery.timestamp_ms / 1000, UTC)
    return Record(0, offset, at, delivery.value, topic=topic)


def rows(judgement: Judgement) -> list[dict[str, Any]]:
    return judgement.accepted.sort("offset").to_dicts()


def test_an_event_is_the_same_in_every_format(deliveries: list[Delivery]) -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    formats = Formats(client, "clients", "backend")
    rules = Rules(timedelta(days=7), Registry({"url": "mock://"}, client))
    routed = [formats.route(delivery) for delivery in deliveries]
    as_json = judged([of("clients", n, d) for n, d in enumerate(deliveries)], rules)
    as_sent = judged([of(topic, n, d) for n, (topic, d) in enumerate(routed)], rules)
    told, sent = rows(as_json), rows(as_sent)
    assert len(told) == len(sent) > 500
    for one, other in zip(told, sent, strict=True):
        assert {k: v for k, v in one.items() if k not in DIFFERS} == {
            k: v for k, v in other.items() if k not in DIFFERS
        }
        assert (one["consent"] or []) == (other["consent"] or [])
        assert as_texts(one["properties"]) == as_texts(other["properties"])
        assert other["topic"] == ("backend" if one["source"] == "backend" else "clients")
    for name in ("quarantined", "dead_lettered"):
        was, now = (getattr(j, name).select("offset", "reasons").sort("offset").rows() for j in (as_json, as_sent))
        assert [row[0] for row in was] == [row[0] for row in now]
        assert was  # the channel is rough


def test_every_format_is_used(deliveries: list[Delivery]) -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    formats = Formats(client, "clients", "backend")
    sent = [formats.route(delivery) for delivery in deliveries]
    firsts = pl.DataFrame({"topic": [topic for topic, _ in sent], "first": [(d.value or b"-")[:1] for _, d in sent]})
    used = set(firsts.unique().iter_rows())
    assert {("backend", b"\x00"), ("clients", b"\x00"), ("clients", b"{")} <= used
    assert ("backend", b"{") not in used
    again = Formats(client, "clients", "backend")  # a second start registers nothing new
    assert again.route(deliveries[0]) == formats.route(deliveries[0])


def as_texts(properties: str) -> dict[str, str]:
    """Properties with every value as its text: a map of texts keeps no types."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in json.loads(properties).items()
    }
