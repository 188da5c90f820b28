"""The command line: ``headwater load``, or ``python -m local_stack.loader``."""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from local_stack.loader.load import BadRow, BadRowFound, DeliveryFailed, Loaded, Watcher, load
from local_stack.loader.mapping import Mapping, MappingInvalid
from local_stack.loader.state import LoadRefused
from local_stack.stack import Stack, StackRefused
from resources.records import TopicMissing

_REFUSALS = (MappingInvalid, LoadRefused, BadRowFound, DeliveryFailed, TopicMissing, StackRefused)
_SHOWN = 20
"""Bad rows named on the terminal; the report has them all."""


def main(arguments: list[str] | None = None) -> int:
    """Load one file; 0 when all of it was read, 1 where it was refused or failed, 130 where it was stopped."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        loaded = _load(options, stop, console)
    except (*_REFUSALS, KafkaException, OSError) as error:  # KafkaUnreachable is an OSError
        console.print(f"[red]{escape(str(error))}")
        return 1
    if loaded is None:
        console.print("stopped before the first row was sent")
        return 130
    state = loaded.state
    console.print(
        f"{loaded.delivered:,} records delivered to {state.topic}; "
        f"of {loaded.rows:,} rows {state.delivered:,} are delivered in all, {state.bad:,} are bad"
    )
    if not state.complete:
        console.print(f"stopped after line {state.line:,}; the same command goes on from there")
        return 130
    return 0


def _load(options: argparse.Namespace, stop: threading.Event, console: Console) -> Loaded | None:
    settings = Stack.at(options.var).settings()
    config = settings.kafka_config()
    if options.bootstrap is not None:
        config["bootstrap.servers"] = options.bootstrap
    with ExitStack() as stack:
        report = None if options.report is None else stack.enter_context(options.report.open("a", buffering=1))
        progress = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
        task = progress.add_task("reading", total=None)
        numbers = itertools.count(1)

        def bad(row: BadRow) -> None:
            if report is not None:
                report.write(json.dumps(asdict(row)) + "\n")
            if next(numbers) <= _SHOWN:
                console.print(escape(str(row)))

        def show(loaded: Loaded) -> None:
            done = loaded.state.delivered + loaded.state.bad
            progress.update(task, description="loading", completed=done, total=loaded.rows)

        return load(
            options.file,
            Mapping.read(options.mapping),
            config,
            options.topic or settings.client_events_topic,
            state_file=options.state,
            strict=options.strict,
            ignore_retention=options.ignore_retention,
            restart=options.restart,
            stop=stop,
            watcher=Watcher(note=lambda text: console.print(escape(text)), bad=bad, progress=show),
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_stack.loader",
        description="Puts a file of events through Kafka with its historical record times. See docs/loading.md.",
    )
    parser.add_argument("file", type=Path, help="JSON Lines, CSV or Parquet; the first two also as .gz")
    parser.add_argument("--mapping", type=Path, required=True, help="YAML or JSON: how columns become the envelope")
    parser.add_argument("--var", type=Path, help="the stack's folder (default: var in the project)")
    parser.add_argument("--bootstrap", help="host:port of Kafka (default: the stack's, or the platform's settings)")
    parser.add_argument("--topic", help="an existing topic (default: the platform's client_events_topic)")
    parser.add_argument("--state", type=Path, help="keeps how far the load is (default: <file>.headwater-load.json)")
    parser.add_argument("--report", type=Path, help="JSON Lines file to which the bad rows are added")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument(
        "--ignore-retention", action="store_true", help="go on where the topic deletes records as old as these"
    )
    parser.add_argument("--restart", action="store_true", help="begin again with the first line")
    return parser
