"""The `headwater` command: one sub-command for each thing that a person does with the platform.

Here are the words and options; what is done is in the modules that each command imports when it is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from local_stack.stack import ROOT, Stack, StackRefused

Command = Callable[[argparse.Namespace, Console], int]

DICTIONARY = Path("docs") / "data_dictionary.md"
DATA_MODEL = "docs/data_model.md"
_DELEGATED = ("simulate", "load")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status, 2 where it was refused before it began."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in _DELEGATED:  # they have parsers of their own
        return _delegated(given[0], given[1:])
    options = _parser().parse_args(given)
    console = Console(soft_wrap=True)
    command: Command = options.run
    try:
        return command(options, console)
    except StackRefused as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False):
            console.print(f"[red]{'.'.join(map(str, wrong['loc']))}: {escape(wrong['msg'])}[/]", highlight=False)
    return 2


def _delegated(command: str, rest: list[str]) -> int:
    if command == "load":
        from local_stack import loader  # noqa: PLC0415 - only what a command needs is imported

        return loader.main(rest)
    from local_stack.simulator import __main__ as simulator  # noqa: PLC0415

    return simulator.main(rest)


def _up(options: argparse.Namespace, console: Console) -> int:
    from local_stack.up import Options, up  # noqa: PLC0415

    return up(Options(**{field.name: getattr(options, field.name) for field in fields(Options)}), console)


def _down(options: argparse.Namespace, console: Console) -> int:
    from local_stack.up import down  # noqa: PLC0415

    return down(options.var, console)


def _reset(options: argparse.Namespace, console: Console) -> int:
    from local_stack.up import reset  # noqa: PLC0415

    stack = Stack.at(options.var)
    if not (options.yes or _confirmed(console, f"Delete the lake, the runs and the logs in {stack.var}?")):
        console.print("nothing was deleted")
        return 1
    return reset(options.var, console)


def _new_epoch(options: argparse.Namespace, console: Console) -> int:
    from local_stack.new_epoch import open_new_epoch, situation  # noqa: PLC0415
    from platform_assets.streams.stream import named  # noqa: PLC0415
    from resources.kafka import KafkaSource, KafkaUnreachable  # noqa: PLC0415
    from resources.lake import Fenced, Lake  # noqa: PLC0415
    from resources.records import TopicMissing  # noqa: PLC0415

    settings, stream = Stack.at(options.var).settings(), named(options.stream)
    if options.topic is not None:
        settings = settings.model_copy(update={f"{stream.name}_topic": options.topic})
    lake = Lake.from_settings(settings)
    try:
        topic = stream.required_topic(settings)
        with KafkaSource(settings.kafka_config()) as source:
            found = situation(lake, stream, source, settings)
            if found is None:
                console.print(f"{topic} was never read: its first epoch opens by itself")
                return 1
            table = Shown(title=f"{topic}, epoch {found.position.epoch}: offsets")
            for heading in ("partition", "read", "the topic holds", "gone"):
                table.add_column(heading)
            for partition, read, holds, gone in found.rows:
                table.add_row(str(partition), read, holds, gone)
            console.print(table)
            if found.broken is None and not options.force:
                console.print(
                    "Nothing is broken: the topic holds what comes next. A new epoch would read what it holds "
                    "once more; --force does so all the same."
                )
                return 1
            ahead = "from the oldest record held" if options.start_at == "earliest" else "with new records only"
            console.print(f"Epoch {found.position.epoch + 1} would begin {ahead}. What was read stays as it is.")
            if not (options.yes or _confirmed(console, "Open it?")):
                console.print("nothing was changed")
                return 1
            epoch = open_new_epoch(lake, stream, source, settings, options.start_at)
    except (KafkaUnreachable, TopicMissing, Fenced, FileNotFoundError, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    console.print(f"epoch {epoch} of {topic} is open; reading goes on by itself")
    return 0


def _confirmed(console: Console, question: str) -> bool:
    if not sys.stdin.isatty():
        console.print("there is no terminal to ask on: say --yes")
        return False
    return console.input(f"{escape(question)} [dim](y/N)[/] ").strip().lower() in {"y", "yes"}


def _dictionary(options: argparse.Namespace, console: Console) -> int:
    from platform_assets.gold.metric_numbers import own_metrics  # noqa: PLC0415
    from platform_assets.table import data_dictionary, data_model  # noqa: PLC0415
    from platform_assets.tables import tables  # noqa: PLC0415

    if own_metrics().wrong:  # what is written would lack their tables
        console.print(f"[red]{escape(own_metrics().faults)}[/]", highlight=False)
        return 1
    status = 0
    for name, text in ((DICTIONARY, data_dictionary(tables())), (DATA_MODEL, data_model(tables()))):
        file = ROOT / name
        if options.check:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                console.print(f"{name} is out of date: `headwater dictionary` writes it")
                status = 1
            continue
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        console.print(f"wrote {name}")
    return status


def _contracts(options: argparse.Namespace, console: Console) -> int:
    from local_stack.contracts import compared, written  # noqa: PLC0415

    told = compared(ROOT, options.against) if options.against is not None else written(ROOT, check=options.check)
    for line in told.refused:
        console.print(f"[red]{escape(line)}[/]", highlight=False)
    for line in told.done:
        console.print(escape(line), highlight=False)
    return 1 if told.refused else 0


def _settings(_options: argparse.Namespace, _console: Console) -> int:
    from resources.settings import settings_table  # noqa: PLC0415

    sys.stdout.write(settings_table())
    return 0


def _doctor(options: argparse.Namespace, console: Console) -> int:
    from local_stack.doctor import visit  # noqa: PLC0415

    return visit(Stack.at(options.var), console, mend=options.mend)


def _why(options: argparse.Namespace, console: Console) -> int:
    from local_stack.why import answer  # noqa: PLC0415

    settings = Stack.at(options.var).settings()
    return answer(settings, console, options.metric, options.day, options.slice, options.at)


def _metrics(options: argparse.Namespace, console: Console) -> int:
    from local_stack.metrics import serve  # noqa: PLC0415

    return serve(Stack.at(options.var), options.host, options.port, console)


def _webhook(options: argparse.Namespace, console: Console) -> int:
    from local_stack.webhook import listen  # noqa: PLC0415

    return listen(options.port, console)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no day; write it as 2026-11-20"
        raise argparse.ArgumentTypeError(msg) from error


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no time; write it as 2026-11-21T09:00"
        raise argparse.ArgumentTypeError(msg) from error


def _api(options: argparse.Namespace, console: Console) -> int:
    from local_stack.serving import serve  # noqa: PLC0415

    return serve(Stack.at(options.var).settings(), console, options.host, options.port)


def _dashboard(options: argparse.Namespace, console: Console) -> int:
    from local_stack.serving import show  # noqa: PLC0415

    return show(Stack.at(options.var).settings(), console, options.host, options.port)


def _sql(options: argparse.Namespace, console: Console) -> int:
    from local_stack.serving import ask  # noqa: PLC0415

    return ask(Stack.at(options.var).settings(), console, options.query)


def _warehouse(options: argparse.Namespace, console: Console) -> int:
    from local_stack.serving import refresh_warehouse  # noqa: PLC0415

    return refresh_warehouse(Stack.at(options.var).settings(), console, options.copy)


def _add_readers(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    """The commands of who reads the tables."""
    dashboard = add("dashboard", _dashboard, "serve the dashboard until Ctrl-C")
    dashboard.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    dashboard.add_argument("--port", type=int, default=8501, help="port to listen on (default: 8501)")

    api = add("api", _api, "serve published numbers over HTTP (HEADWATER_API_TOKENS)")
    api.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    api.add_argument("--port", type=int, default=8080, help="port to listen on (default: 8080)")

    sql = add("sql", _sql, "ask the lake by SQL; gold/funnels/checkout is gold.funnels_checkout")
    sql.add_argument("query", nargs="?", help="one SELECT of DuckDB's SQL, or .tables; without it, a shell")

    warehouse = add("warehouse", _warehouse, "make the DuckDB file anew that other SQL tools open")
    warehouse.add_argument("--copy", type=Path, metavar="FILE", help="write gold without personal data, to take along")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headwater", description="The Headwater data platform.")
    commands = parser.add_subparsers(required=True, metavar="command")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--var", type=Path, help="the stack's folder (default: var in the project)")

    def add(name: str, run: Command, explained: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[shared], help=explained, description=explained)
        added.set_defaults(run=run)
        return added

    up = add("up", _up, "start everything and stay; Ctrl-C stops it all and keeps the data")
    up.add_argument("--host", default="127.0.0.1", help="address of the web UI (default: 127.0.0.1)")
    up.add_argument("--port", type=int, default=3000, help="port of the web UI (default: 3000)")
    up.add_argument("--kafka-port", type=int, default=9092, help="port of the embedded broker (default: 9092)")
    up.add_argument("--registry-port", type=int, default=8081, help="port of the schema registry (default: 8081)")
    up.add_argument("--postgres-port", type=int, default=5433, help="port of the embedded database (default: 5433)")
    up.add_argument("--metrics-port", type=int, default=9464, help="port of the metrics (default: 9464)")
    up.add_argument("--dashboard-port", type=int, default=8501, help="port of the dashboard (default: 8501)")
    up.add_argument("--api-port", type=int, default=8080, help="port of the HTTP API (default: 8080)")
    up.add_argument(
        "--no-database", dest="database", action="store_false", help="no embedded database, and no changes of one"
    )
    up.add_argument("--rate", type=float, default=2.0, help="simulated events a second, 0 for none (default: 2)")
    up.add_argument("--simulate", action="store_true", help="send simulated events to a Kafka of your own, too")
    up.add_argument("--days", type=int, default=10, help="length of the first start's history (default: 10)")
    up.add_argument("--persons", type=int, default=10_000, help="of that history (default: 10000)")

    add("down", _down, "stop what `headwater up` started")

    reset = add("reset", _reset, "delete the local stack's data: lake, runs, logs")
    reset.add_argument("--yes", action="store_true", help="do not ask")

    new_epoch = add("new-epoch", _new_epoch, "go on reading after a topic was recreated or lost what was never read")
    new_epoch.add_argument("--stream", default="client_events", help="client_events (default) or oltp_changes")
    new_epoch.add_argument("--topic", help="default: the stream's topic by the settings")
    new_epoch.add_argument("--start-at", choices=["earliest", "latest"], default="earliest", help="default: earliest")
    new_epoch.add_argument("--yes", action="store_true", help="do not ask")
    new_epoch.add_argument("--force", action="store_true", help="even if nothing is broken")

    doctor = add("doctor", _doctor, "look for damage in the lake's tables, and for wrong files of metrics")
    doctor.add_argument("--mend", action="store_true", help="mend what can be mended; nothing else may be running")

    why = add("why", _why, "say what a number was first published as, and why it is different now")
    why.add_argument("metric", help="its name, as in active_users.dau")
    why.add_argument("day", type=_day, help="first day of its window, in the reporting timezone: 2026-11-20")
    why.add_argument(
        "--slice", default="", help="of which slice, as in dimension=platform,value=ios (default: the total)"
    )
    why.add_argument("--at", type=_instant, help="also say what it was as known at this instant: 2026-11-21T09:00")

    _add_readers(add)

    metrics = add("metrics", _metrics, "serve metrics for Prometheus until Ctrl-C")
    metrics.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    metrics.add_argument("--port", type=int, default=9464, help="default: 9464")

    webhook = add("webhook", _webhook, "receive alerts on this machine, and print them")
    webhook.add_argument("--port", type=int, default=9099, help="default: 9099")

    _add_documents(add)
    commands.add_parser("simulate", help="simulated traffic; see `headwater simulate --help`", add_help=False)
    commands.add_parser("load", help="load a file of your own events; see `headwater load --help`", add_help=False)
    return parser


def _add_documents(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    """The commands that write or print what is generated from declarations."""
    dictionary = add("dictionary", _dictionary, f"write {DICTIONARY} and {DATA_MODEL} from the tables' declarations")
    dictionary.add_argument("--check", action="store_true", help="only say whether they are up to date")
    contracts = add("contracts", _contracts, "write docs/contracts (ODCS) from the tables' declarations")
    contracts.add_argument("--check", action="store_true", help="only say whether they are up to date")
    contracts.add_argument("--against", metavar="REF", help="only say what breaks the contracts of a commit: HEAD~1")
    add("settings", _settings, "print the table of settings")


if __name__ == "__main__":
    sys.exit(main())
