"""Before anything is started: what stands in the way, what earlier starts kept, the settings of every part."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from local_stack.process import LOOPBACK, is_free
from local_stack.stack import Stack, StackRefused, State
from local_stack.up.options import Options
from resources.settings import Settings

CANARY_EVERY = timedelta(minutes=1)
"""How often a canary is sent to the embedded broker, unless the settings say otherwise."""

_PYTHON = (3, 11)
_DISK_BYTES = 2 * 2**30


class Embedded(NamedTuple):
    """Which servers are the stack's own: those that the settings name no other for."""

    broker: bool
    database: bool
    registry: bool

    @classmethod
    def of(cls, options: Options, given: Settings) -> Embedded:
        """Those of a start. With a Kafka of somebody else's there are none."""
        broker = "kafka_bootstrap_servers" not in given.model_fields_set
        database = broker and options.database and given.oltp_url is None
        return cls(broker, database, broker and given.schema_registry_url is None)


def refuse_where_it_cannot(stack: Stack, options: Options, given: Settings) -> None:
    """Say what stands in the way, before anything is started.

    Raises:
        StackRefused: Something does.
    """
    if sys.version_info[:2] != _PYTHON:
        msg = f"this is Python {sys.version.split()[0]}; Headwater needs Python {'.'.join(map(str, _PYTHON))}"
        raise StackRefused(msg)
    if (holder := stack.holder()) is not None:
        msg = f"`headwater {holder.role}` is running as process {holder.pid}; `make down` stops a stack that is up"
        raise StackRefused(msg)
    existing = next(folder for folder in (stack.var, *stack.var.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < _DISK_BYTES:
        msg = f"{free / 2**30:.1f} GB are free on the disk of {existing}; {_DISK_BYTES / 2**30:.0f} GB are needed"
        raise StackRefused(msg)
    embedded = Embedded.of(options, given)
    for is_wanted, host, port, variable, what in (
        (True, options.host, options.port, "PORT", "the web UI"),
        (True, options.host, options.metrics_port, "METRICS_PORT", "the metrics"),
        (True, options.host, options.dashboard_port, "DASHBOARD_PORT", "the dashboard"),
        (bool(given.api_tokens), options.host, options.api_port, "API_PORT", "the HTTP API"),
        (embedded.broker, LOOPBACK, options.kafka_port, "KAFKA_PORT", "the broker"),
        (embedded.database, LOOPBACK, options.postgres_port, "POSTGRES_PORT", "the database"),
        (embedded.registry, LOOPBACK, options.registry_port, "REGISTRY_PORT", "the schema registry"),
    ):
        if is_wanted and not is_free(host, port):
            msg = (
                f"port {port} on {host}, wanted for {what}, is in use: stop what listens there, or choose another "
                f"with `make up {variable}={port + 1}`"
            )
            raise StackRefused(msg)


def state_of(stack: Stack, options: Options, given: Settings) -> State:
    """What this start is to keep: what the starts before kept, where it fits to the environment.

    Raises:
        StackRefused: It does not fit.
    """
    chosen, embedded = given.model_fields_set, Embedded.of(options, given).broker
    lake_url = given.lake_url if "lake_url" in chosen else str(stack.lake)
    if "://" not in lake_url:
        lake_url = str(Path(lake_url).resolve())
    kafka = f"{LOOPBACK}:{options.kafka_port}" if embedded else given.kafka_bootstrap_servers
    before = stack.state()
    if before is not None and before.filling:
        _start_over(stack, before)
        before = None
    if before is None:
        start_date = given.start_date
        if embedded and "start_date" not in chosen:
            start_date = datetime.now(given.zone).date() - timedelta(days=options.days)
        return State(lake_url, start_date, kafka, embedded)
    if before.lake_url != lake_url:
        msg = f"this stack's lake is {before.lake_url}, not {lake_url}: give another lake a stack of its own (VAR=…)"
        raise StackRefused(msg)
    if before.embedded != embedded:
        fed, now = ("the embedded broker", kafka) if before.embedded else (before.kafka, "the embedded broker")
        msg = (
            f"this stack's lake was fed by {fed}, and now it would be by {now}, whose offsets mean something else. "
            "Give it a stack and a lake of its own (`make up VAR=…`)"
        )
        raise StackRefused(msg)
    if "start_date" in chosen and given.start_date != before.start_date:
        msg = (
            f"HEADWATER_START_DATE is {given.start_date}, but this stack's partitions begin on {before.start_date} "
            "and must not move: unset it, or set it to that day"
        )
        raise StackRefused(msg)
    return replace(before, kafka=kafka)


def settings_of(stack: Stack, options: Options, given: Settings, state: State) -> Settings:
    """The settings of every part: those of the environment; what it leaves open is as this start has it."""
    update = {
        "lake_url": state.lake_url,
        "start_date": state.start_date,
        "kafka_bootstrap_servers": state.kafka,
        "landing_url": given.landing_url or str(stack.landing),
        "ui_url": given.ui_url if "ui_url" in given.model_fields_set else options.url(options.port),
    }
    if state.embedded and "canary_every" not in given.model_fields_set:  # its topics are ours to write to
        update["canary_every"] = CANARY_EVERY
    return given.model_copy(update=update)


def _start_over(stack: Stack, before: State) -> None:
    """Remove what an interrupted first start left: half of a simulated history."""
    if before.lake_url != str(stack.lake):
        msg = f"the first start was interrupted: {before.lake_url} holds half a history. Empty it, and `make reset`"
        raise StackRefused(msg)
    for folder in (stack.lake, stack.dagster_home):
        if folder.exists():
            shutil.rmtree(folder)
