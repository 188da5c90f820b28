"""The simulator's command line; see `--help`. Progress goes to stderr, nothing to stdout."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.schema_registry import SchemaRegistryClient
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local_stack.simulator.corrupt import Corruption, Delivery, history
from local_stack.simulator.formats import Formats
from local_stack.simulator.producer import Produced, live, produce_history
from local_stack.simulator.truth import TruthFile
from local_stack.simulator.world import World
from local_stack.sink import DeliveryFailed
from resources.settings import Settings

_DAY_MS = 86_400_000


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, also after SIGINT or SIGTERM, 1 where Kafka did not take all records."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings()
    config = settings.kafka_config()
    if options.bootstrap is not None:
        config["bootstrap.servers"] = options.bootstrap
    topic = options.topic or settings.client_events_topic
    corruption = Corruption.none() if options.clean else Corruption()
    console = Console(stderr=True)
    try:
        if options.command == "live":
            formats = _formats(settings, topic)
            produced = _live(options, config, topic, formats, corruption=corruption, stop=stop, console=console)
        else:
            produced = _history(
                options,
                config,
                topic,
                corruption=corruption,
                allowed_lateness=settings.allowed_lateness,
                stop=stop,
                console=console,
            )
    except DeliveryFailed as error:
        console.print(f"[red]{error}")
        return 1
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in produced.kinds.most_common())
    console.print(f"{produced.records:,} records in {produced.seconds:.1f} s to {topic}: {kinds}")
    return 0


def _live(
    options: argparse.Namespace,
    config: dict[str, str],
    topic: str,
    formats: Formats | None,
    *,
    corruption: Corruption,
    stop: threading.Event,
    console: Console,
) -> Produced:
    with _progress(console) as progress:
        task = progress.add_task("live", total=options.seconds, note="")

        def show(produced: Produced) -> None:
            rate = produced.records / produced.seconds
            note = f"{produced.records:,} records, {rate:,.0f}/s"
            if produced.behind_seconds > 1:
                note += f", [red]{produced.behind_seconds:.1f} s behind"
            progress.update(task, completed=produced.seconds, note=note)

        return live(
            config,
            topic,
            options.rate,
            options.seconds,
            seed=options.seed,
            corruption=corruption,
            stop=stop,
            on_progress=show,
            formats=formats,
        )


def _formats(settings: Settings, topic: str) -> Formats | None:
    """Other formats than JSON, where the settings name a registry and a topic of the backend's."""
    config = settings.registry_config()
    if config is None or settings.backend_logs_topic is None:
        return None
    return Formats(SchemaRegistryClient(config), topic, settings.backend_logs_topic)


def _history(
    options: argparse.Namespace,
    config: dict[str, str],
    topic: str,
    *,
    corruption: Corruption,
    allowed_lateness: timedelta,
    stop: threading.Event,
    console: Console,
) -> Produced:
    start = datetime.now(UTC) - timedelta(days=options.days)
    world = World(options.seed, options.persons, start, options.days)
    with ExitStack() as stack:
        truth = None if options.truth is None else stack.enter_context(TruthFile(options.truth))
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("history", total=options.days, note="")

        def show(produced: Produced, latest: Delivery) -> None:
            days = (latest.timestamp_ms - world.start_us // 1_000) / _DAY_MS
            note = f"{produced.records:,} records, {produced.records / produced.seconds:,.0f}/s"
            progress.update(task, completed=days, note=note)

        deliveries = history(
            world,
            corruption,
            allowed_lateness=allowed_lateness,
            on_truth=None if truth is None else truth.add,
        )
        return produce_history(config, topic, deliveries, stop=stop, on_progress=show)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--bootstrap", help="host:port of Kafka (default: the platform's settings)")
    shared.add_argument("--topic", help="an existing topic (default: the platform's client_events_topic)")
    shared.add_argument("--seed", type=int, default=1, help="of persons and ids (default: 1)")
    shared.add_argument("--clean", action="store_true", help="nothing goes wrong on the way")
    parser = argparse.ArgumentParser(prog="python -m local_stack.simulator", description="Simulated traffic.")
    commands = parser.add_subparsers(dest="command", required=True)
    now = commands.add_parser("live", parents=[shared], help="traffic on the wall clock, until SIGINT")
    now.add_argument("--rate", type=float, default=50.0, help="true events per second (default: 50)")
    now.add_argument("--seconds", type=float, help="how long (default: until SIGINT or SIGTERM)")
    past = commands.add_parser("history", parents=[shared], help="the days up to now, as fast as Kafka takes")
    past.add_argument("--days", type=float, default=30.0, help="length (default: 30)")
    past.add_argument("--persons", type=int, default=5_000, help="of the world (default: 5000)")
    past.add_argument("--truth", type=Path, help="Parquet file for one row of truth per event that arrived")
    return parser


if __name__ == "__main__":
    sys.exit(main())
