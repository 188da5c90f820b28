"""The embedded servers of a stack: database, schema registry, broker.

What they are is in `local_stack.database`, `registry` and `broker`; here they get their place in the stack.
"""

from __future__ import annotations

import time

import psycopg
from msgspec.structs import replace
from pydantic import SecretStr

from local_stack.broker import Broker, create_topic
from local_stack.database import Database
from local_stack.registry import SchemaRegistry
from local_stack.shop import Shop
from local_stack.stack import BACKEND_TOPIC, CHANGES_TOPIC
from local_stack.up.running import Running
from platform_assets.streams.stream import streams_of

_PARTITIONS = 4


def start_database(running: Running) -> None:
    """Start the database with the shop's tables. It comes first: it has none of the stack's marks."""
    from local_stack.first_history import Past  # noqa: PLC0415 - it takes seconds, and only this server needs it

    options, settings, began = running.options, running.settings, time.monotonic()
    with running.told.starting("database"):
        database = Database(options.postgres_port, running.stack.database, running.log_file("database"))
        running.add("database", database)
        database.start()
        with psycopg.connect(database.url, autocommit=True) as connection:
            past = Past.of_days(options.days, options.persons, settings.zone)
            Shop(connection).open(past.start if options.days > 0 else None)
    topic = settings.oltp_changes_topic or CHANGES_TOPIC
    _is_at(running, "database", database.url, began, oltp_url=SecretStr(database.url), oltp_changes_topic=topic)


def start_registry(running: Running) -> None:
    """Start the schema registry."""
    began = time.monotonic()
    with running.told.starting("registry"):
        running.mark()
        file, log_file = running.stack.registry, running.log_file("registry")
        registry = SchemaRegistry(running.options.registry_port, file, log_file)
        running.add("registry", registry)
        registry.start()
    topic = running.settings.backend_logs_topic or BACKEND_TOPIC
    _is_at(running, "registry", registry.url, began, schema_registry_url=registry.url, backend_logs_topic=topic)


def start_broker(running: Running) -> None:
    """Start the broker, and create the topics of all streams."""
    settings, began = running.settings, time.monotonic()
    with running.told.starting("broker"):
        running.mark()
        broker = Broker(running.options.kafka_port, running.log_file("broker"))
        running.add("broker", broker)
        broker.start()
        for stream in streams_of(settings):
            create_topic(running.kafka_config, stream.required_topic(settings), _PARTITIONS)
    what = f"{broker.bootstrap_servers}, topic {settings.client_events_topic}, {_PARTITIONS} partitions"
    running.told.ready("broker", what, began)


def _is_at(running: Running, name: str, url: str, began: float, **settings: object) -> None:
    """Keep where a server is, let the parts that come after it know, and say that it is ready."""
    running.state = replace(running.state, **{name: url})
    running.settings = running.settings.model_copy(update=settings)
    running.told.ready(name, url, began)
