"""What is started, in which order, and stopped again.

With the embedded broker, which forgets everything when it stops, a start is one of two things. The first one
simulates some days of history and puts them into the lake. Every later one finds an empty topic, which `up` knows
for a broker that it has just started itself: it says what became of the records, and opens a new epoch.

With `KAFKA_BOOTSTRAP_SERVERS` set, Kafka is somebody else's: nothing is created, simulated or opened.
"""

# ruff: noqa: PLC0415 - what takes seconds to import waits until it is needed: a refusal comes first

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape

from local_stack.stack import Stack
from local_stack.up import readers
from local_stack.up.dagster_servers import DagsterServers
from local_stack.up.options import Options
from local_stack.up.preflight import Embedded, refuse_where_it_cannot, settings_of, state_of
from local_stack.up.running import Running
from local_stack.up.signals import Interrupted, Signals
from local_stack.up.told import Told
from resources.settings import Settings


def up(options: Options, console: Console) -> int:
    """Start everything, and stay until Ctrl-C, SIGTERM or the end of a component.

    Call it from the main thread: the children end with the thread that started them.

    Returns:
        The exit status: 0 after an orderly stop, 1 where something failed or died.

    Raises:
        StackRefused: It cannot start; nothing was started.
        pydantic.ValidationError: A setting is not what it should be.
    """
    stack = Stack.at(options.var)
    given = Settings()
    refuse_where_it_cannot(stack, options, given)
    told = Told(console)
    signals = Signals()
    with stack.held("up"):
        if ended := stack.end_leftovers():
            told.line(f"{ended} processes that an earlier stack left behind were ended")
        embedded, state = Embedded.of(options, given), state_of(stack, options, given)
        settings = settings_of(stack, options, given, state)
        running = Running(stack, options, told, signals, embedded, state, settings)
        signals.install()
        try:
            _start(running)
            running.watch()
        except Interrupted:
            _stop(running)
            return 0
        except _failures() as error:
            signals.hold_back()
            console.print(f"[red]{escape(str(error))}[/]", highlight=False)
            _stop(running)
            return 1
        finally:
            signals.hold_back()
            running.end()


def _start(running: Running) -> None:
    """Start the parts, each when what it rests on is ready."""
    began = time.monotonic()
    running.lay_out()
    if not (running.stack.dagster_home / "event_log.db").exists():
        from local_stack.up.runs import make_instance

        make_instance(running)
    if running.embedded.broker:
        from local_stack.up import servers

        if running.embedded.database:
            servers.start_database(running)
        if running.embedded.registry:
            servers.start_registry(running)
        servers.start_broker(running)
    web_began = time.monotonic()
    dagster = DagsterServers(running)
    dagster.start_code()
    from local_stack.up import lake, runs, sources  # meanwhile the code server's own imports go on

    runs.end_dead_runs(running, "was in progress when the stack ended")
    dagster.start_web()
    lake.prepare(running)
    dagster.await_web(web_began)
    readers_began = time.monotonic()
    serving = readers.start(running)
    dagster.start_daemon()
    if running.settings.oltp_url is not None and running.settings.oltp_changes_topic is not None:
        sources.start_relay(running)
    if running.options.rate > 0 and (running.embedded.broker or running.options.simulate):
        sources.start_traffic(running)
        sources.deliver_reports(running)
    readers.await_ready(running, serving, readers_began)
    _say_where(running, time.monotonic() - began)


def _stop(running: Running) -> None:
    """Stop in order: first what brings work, then what does it; then read what is left in the topics."""
    running.told.line("stopping; once more to hurry")
    running.stop("traffic", 10)
    running.stop("shop", 5)
    running.stop("relay", 10)
    running.stop("daemon", 5)
    for name in readers.ports(running):
        running.stop(name, 2)
    if running.has("code"):
        from local_stack.up.runs import cancel_in_order

        cancel_in_order(running)
    running.stop("web", 3)
    running.stop("code", 2)
    running.stack.end_leftovers(running.pids("broker", "registry"))  # they are needed to read what is left
    if running.is_lake_ready:
        from local_stack.up import lake, runs

        runs.end_dead_runs(running, "was ended with the stack")
        if running.pids("broker"):
            lake.drain(running)
    running.stop("registry", 5)
    running.stop("database", 20)
    running.stop("broker", 1)
    running.told.line("stopped")


def _say_where(running: Running, seconds: float) -> None:
    options, settings, line = running.options, running.settings, running.told.line
    without = "not started: no token is set (HEADWATER_API_TOKENS)"
    line("")
    line(f"dashboard  {readers.url(running, 'dashboard')}")
    line(f"API        {readers.url(running, 'api') if 'api' in readers.ports(running) else without}")
    line(f"Dagster    {options.url(options.port)}")
    line(f"lake       {settings.lake_url}")
    if running.embedded.database:
        line(f"database   {running.state.database}")
    if running.embedded.registry:
        line(f"registry   {running.state.registry}")
    line(f"landing    {settings.landing_url}")
    line(f"logs       {running.stack.logs}")
    line(f"Everything is up after {seconds:.0f} s. Ctrl-C or `make down` stops it all and keeps the data.")


def _failures() -> tuple[type[Exception], ...]:
    from local_stack.up.failures import FAILURES

    return FAILURES
