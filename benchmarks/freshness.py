"""From a producer's send to readable in `gold/live_metrics`: `python -m benchmarks.freshness [--small]`.

Once a second a *canary* is sent, an event whose name no other has; a reader polls the table as a dashboard would, and
sees when a row with that name is there. The load is sent by a process of its own. It all happens on one machine:
broker, load, platform and reader share its cores, and the table says who took what.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
from confluent_kafka import Producer
from rich.console import Console

from benchmarks import report
from benchmarks.timing import percentile
from benchmarks.traffic import PARTITIONS, RATE, fill, since
from local_stack.broker import Broker, create_topic, free_port
from local_stack.simulator.world import rfc3339
from platform_assets.gold import live_metrics
from platform_assets.silver import events
from platform_assets.tables import create_tables
from resources.envelope import WireEvent
from resources.lake import Lake
from resources.settings import Settings

ROOT = Path(__file__).parents[1]
TOPIC = "client_events"
CANARY = "bench_canary_"
FRESH = 30.0
"""Seconds within which an event is readable where the platform has caught up (the aim for the 99th percentile)."""

_TICKS = os.sysconf("SC_CLK_TCK")
_POLL = 0.1


@dataclass(frozen=True)
class Plan:
    """What is measured; times in seconds, rates in events per second.

    Attributes:
        mean_rate: Of the mean phase, and of the traffic while a backlog is eaten.
        mean_seconds: With Dagster.
        plain_seconds: Without Dagster.
        peak_rate: Of the peak phase.
        peak_seconds: Of the peak phase.
        backlog_seconds: How much of the mean rate piles up while nothing runs.
        patience: How long a catching up may take.
    """

    mean_rate: float = RATE
    mean_seconds: float = 600
    plain_seconds: float = 180
    peak_rate: float = 15_000
    peak_seconds: float = 60
    backlog_seconds: float = 3_600
    patience: float = 2_400


SMALL = Plan(
    mean_rate=200, mean_seconds=20, plain_seconds=20, peak_rate=600, peak_seconds=20, backlog_seconds=60, patience=150
)


class Canaries:
    """Sends one a second, from a thread, until closed."""

    def __init__(self, config: dict[str, str]) -> None:
        self.sent: dict[int, float] = {}
        """When each was sent, in seconds since 1970, before it was handed to the producer."""
        self._producer = Producer({**config, "linger.ms": 0, "acks": "all"})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            now = rfc3339(time.time_ns() // 1_000)
            event = WireEvent(
                event_id=f"canary-{number}-{now}",
                source="backend",
                event_name=f"{CANARY}{number}",
                schema_ref="canary/1",
                client_occurred_at=now,
                received_at=now,
                user_id=f"canary-{number % 97}",
            )
            self.sent[number] = time.time()
            self._producer.produce(TOPIC, msgspec.json.encode(event), f"canary-{number}".encode())
            self._producer.flush(5)
            if self._stop.wait(1):
                return


class Reader:
    """Polls `gold/live_metrics` from a thread and notes when each canary could be read."""

    def __init__(self, lake: Lake) -> None:
        self.readable: dict[int, float] = {}
        self._lake = lake
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Poll no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        handle = self._lake.open(live_metrics.TABLE)
        known: set[str] = set()
        while not self._stop.wait(_POLL):
            before = handle.version()
            handle.update_incremental()
            if handle.version() == before:
                continue
            paths = set(pl.DataFrame(handle.get_add_actions(flatten=True))["path"])
            new = [f"{self._lake.uri(live_metrics.TABLE)}/{path}" for path in sorted(paths - known)]
            known = paths
            if not new:
                continue
            names = (
                pl.scan_parquet(new, hive_partitioning=False)
                .select("event_name")
                .filter(pl.col("event_name").str.starts_with(CANARY))
            )
            found = names.collect().to_series()
            now = time.time()
            for name in found:
                self.readable.setdefault(int(name.removeprefix(CANARY)), now)


class Platform:
    """The platform's processes: with Dagster its daemon, which starts everything else; without, the plain loop."""

    def __init__(self, folder: Path, environment: dict[str, str], *, dagster: bool) -> None:
        self._folder = folder
        self._environment = environment
        self._dagster = dagster
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, with a Dagster instance that knows of no run."""
        self._starts += 1
        environment = {**os.environ, **self._environment}
        if self._dagster:
            home = self._folder / f"dagster-{self._starts}"
            home.mkdir()
            shutil.copy(ROOT / "dagster.yaml", home)
            environment["DAGSTER_HOME"] = str(home)
            daemon = str(Path(sys.executable).with_name("dagster-daemon"))
            command = [daemon, "run", "--workspace", str(ROOT / "workspace.yaml")]
        else:
            command = [sys.executable, "-m", "benchmarks.plain_loop"]
        with (self._folder / "platform.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        """Kill it and all that it started: it must bear that."""
        if self._process is not None:
            for pid in _of_session(self._process.pid):
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        return 0.0 if self._process is None else sum(map(_cpu_seconds, _of_session(self._process.pid)))


@dataclass
class Scene:
    """Everything that runs during a measurement."""

    folder: Path
    plan: Plan
    broker: Broker
    canaries: Canaries
    reader: Reader
    platform: Platform
    console: Console
    phases: list[dict[str, object]] = field(default_factory=list)

    @property
    def config(self) -> dict[str, str]:
        """Of Kafka."""
        return {"bootstrap.servers": self.broker.bootstrap_servers}

    def cold_start(self) -> None:
        """From nothing running to the first event readable."""
        began = time.time()
        self.platform.start()
        took = self._wait(lambda: bool(self.reader.readable), began)
        self.phases.append({"phase": "cold start", "caught_up_seconds": took})

    def steady(self, name: str, rate: float, seconds: float) -> None:
        """Load at a rate; the latency of the canaries sent meanwhile, and how long until the load was taken in."""
        self.console.log(f"{name}: {rate:,.0f}/s for {seconds:g} s")
        busy = {"broker": _cpu_seconds(self.broker.pid or 0), "platform": self.platform.cpu_seconds}
        began = time.time()
        load = self._load(rate, seconds)
        sent = json.loads(load.finish())
        ended = time.time()
        spent = {
            "broker": _cpu_seconds(self.broker.pid or 0) - busy["broker"],
            "platform": self.platform.cpu_seconds - busy["platform"],
            "load": load.cpu_seconds,
        }
        after = self._load(self.plan.mean_rate, self.plan.patience)
        taken_in = self._wait(lambda: any(self.canaries.sent[n] >= ended for n in list(self.reader.readable)), ended)
        after.stop()
        self.phases.append(
            {
                "phase": name,
                "rate": rate,
                "seconds": round(ended - began, 1),
                **sent,
                "latencies": self._latencies(began, ended),
                "caught_up_seconds": taken_in,
                "cores_used": {who: round(used / (ended - began), 2) for who, used in spent.items()},
            }
        )

    def backlog(self) -> None:
        """Nothing runs for some time; then the platform starts, and traffic goes on."""
        self.platform.stop()
        time.sleep(1)
        wanted = int(self.plan.mean_rate * self.plan.backlog_seconds)
        began = time.time_ns() // 1_000 - int(self.plan.backlog_seconds * 1e6)
        records = since(began, self.plan.mean_rate)
        self.console.log(f"backlog: {wanted:,} events")
        before, done = _resident(self.broker.pid or 0), 0
        room = wanted
        while done < min(wanted, room):
            done += fill(self.config, TOPIC, itertools.islice(records, min(200_000, wanted - done)))
            per_record = max(1.0, (_resident(self.broker.pid or 0) - before) / done)
            room = done + int(0.5 * _available() / per_record) if _available() < 4 * 2**30 else wanted
        load = self._load(self.plan.mean_rate, self.plan.patience)
        started = time.time()
        self.platform.start()

        def is_fresh() -> bool:
            readable = dict(self.reader.readable)
            return any(
                at - self.canaries.sent[n] < FRESH for n, at in readable.items() if self.canaries.sent[n] > started
            )

        took = self._wait(is_fresh, started)
        load.stop()
        self.phases.append(
            {
                "phase": "backlog",
                "rate": self.plan.mean_rate,
                "sent": done,
                "wanted": wanted,
                "bytes_per_record_in_broker": round(per_record),
                "caught_up_seconds": took,
                "events_per_second_caught_up": None
                if took is None
                else round((done + took * self.plan.mean_rate) / took),
            }
        )

    def lost(self, lake: Lake) -> dict[int, dict[str, int]]:
        """The canaries that never became readable, and how often silver and live metrics have each."""
        self._wait(lambda: len(self.reader.readable) == len(self.canaries.sent), time.time(), within=60)
        found = {}
        for number in sorted(set(self.canaries.sent) - set(self.reader.readable)):
            is_it = pl.col("event_name") == f"{CANARY}{number}"
            in_silver = lake.scan(events.TABLE).filter(is_it).select(pl.len()).collect().item()
            in_gold = lake.scan(live_metrics.TABLE).filter(is_it).select(pl.col("events").sum()).collect().item()
            found[number] = {"silver": in_silver, "live_metrics": in_gold}
        return found

    def _load(self, rate: float, seconds: float) -> Load:
        return Load(self.folder / f"load-{time.monotonic_ns()}.json", self.broker.bootstrap_servers, rate, seconds)

    def _latencies(self, began: float, ended: float) -> list[float | None]:
        """Of the canaries sent in between; those still on the way get the rest of the patience."""
        sent = {n: at for n, at in dict(self.canaries.sent).items() if began <= at < ended}
        self._wait(lambda: set(sent) <= set(self.reader.readable), ended, within=60)
        return [
            round(self.reader.readable[n] - at, 3) if n in self.reader.readable else None
            for n, at in sorted(sent.items())
        ]

    def _wait(self, is_so: Callable[[], bool], since: float, within: float | None = None) -> float | None:
        """Seconds from an instant until something is so; None where it is not within the patience."""
        deadline = time.time() + (within or self.plan.patience)
        while time.time() < deadline:
            if is_so():
                return round(time.time() - since, 2)
            time.sleep(_POLL)
        return None


class Load:
    """The process that sends the traffic."""

    def __init__(self, outcome: Path, bootstrap: str, rate: float, seconds: float) -> None:
        self._outcome = outcome
        arguments = [bootstrap, TOPIC, f"{rate:g}", f"{seconds:g}", str(outcome)]
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.traffic", *arguments], cwd=ROOT)
        self.cpu_seconds = 0.0

    def finish(self) -> bytes:
        """Wait for the end; what was sent, as JSON."""
        while self._process.poll() is None:
            self.cpu_seconds = max(self.cpu_seconds, _cpu_seconds(self._process.pid))
            time.sleep(0.2)
        return self._outcome.read_bytes()

    def stop(self) -> None:
        """End it early."""
        self._process.terminate()
        self._process.wait()


def measure(plan: Plan, folder: Path, console: Console, *, dagster: bool) -> list[dict[str, object]]:
    """All phases, on a broker and a lake of their own."""
    folder.mkdir()
    lake = Lake(str(folder / "lake"))
    create_tables(lake)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(free_port(), folder / "broker.log"))
        config = {"bootstrap.servers": broker.bootstrap_servers}
        create_topic(config, TOPIC, PARTITIONS)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "HEADWATER_LAKE_URL": lake.url,
            "HEADWATER_START_DATE": str((datetime.now(UTC) - timedelta(days=10)).date()),
        }
        platform = Platform(folder, environment, dagster=dagster)
        stack.callback(platform.stop)
        canaries, reader = Canaries(config), Reader(lake)
        stack.callback(canaries.close)
        stack.callback(reader.close)
        scene = Scene(folder, plan, broker, canaries, reader, platform, console)
        scene.cold_start()
        scene.steady("mean", plan.mean_rate, plan.mean_seconds if dagster else plan.plain_seconds)
        scene.steady("peak", plan.peak_rate, plan.peak_seconds)
        if dagster:
            scene.backlog()
        canaries.close()
        scene.phases.append({"phase": "lost", "caught_up_seconds": "", "lost": scene.lost(lake)})
        return scene.phases


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness", description=__doc__)
    parser.add_argument("--small", action="store_true", help="phases of 20 s at low rates, to see that it runs")
    small = parser.parse_args().small
    plan = SMALL if small else Plan()
    console = Console(stderr=True)
    with report.scratch("freshness") as folder:
        console.log("without Dagster")
        plain = measure(plan, folder / "plain", console, dagster=False)
        console.log("with Dagster")
        whole = measure(plan, folder / "dagster", console, dagster=True)
    _report(plan, plain, whole, small=small)
    return 0


def _report(plan: Plan, plain: list[dict[str, object]], whole: list[dict[str, object]], *, small: bool) -> None:
    settings = Settings()
    rows, medians = [], {}
    lost = {how: phases.pop()["lost"] for how, phases in (("plain loop", plain), ("Dagster", whole))}
    for how, phases in (("plain loop", plain), ("Dagster", whole)):
        for phase in phases:
            latencies = [value for value in phase.get("latencies", []) if value is not None]  # type: ignore[attr-defined]
            told = [f"{percentile(latencies, share):.1f}" for share in (0.5, 0.95, 0.99)] if latencies else ["", "", ""]
            if latencies:
                medians[how, phase["phase"]] = [percentile(latencies, share) for share in (0.5, 0.95, 0.99)]
            cores = dict(phase.get("cores_used", {}))  # type: ignore[call-overload]
            caught = phase["caught_up_seconds"]
            rows.append(
                [
                    phase["phase"],
                    how,
                    f"{phase['rate']:,.0f}" if "rate" in phase else "",
                    f"{phase['sent']:,}" if "sent" in phase else "",
                    *told,
                    f"not within {plan.patience:g}" if caught is None else caught,
                    ", ".join(f"{who} {used}" for who, used in cores.items()),
                ]
            )
    overhead = {
        phase: [round(with_dagster - without, 2) for with_dagster, without in zip(values, medians[key], strict=True)]
        for (how, phase), values in medians.items()
        if how == "Dagster" and (key := ("plain loop", phase)) in medians
    }
    report.write(
        "freshness",
        small=small,
        columns=[
            "phase",
            "driven by",
            "events/s",
            "records",
            "p50, s",
            "p95, s",
            "p99, s",
            "taken in after, s",
            "cores",
        ],
        rows=rows,
        measured={
            "plan": dataclasses.asdict(plan),
            "plain_loop": plain,
            "dagster": whole,
            "overhead": overhead,
            "lost": lost,
        },
        notes=[
            (
                f"Dagster's own overhead, p50/p95/p99 in s: {overhead}. Both pace micro-batches by a trigger interval "
                f"of {settings.trigger_interval.total_seconds():g} s."
            ),
            (
                "Taken in after: seconds from the end of the load until an event sent after it was readable; at the "
                "cold start, from the process's start; after the backlog, from then until one was readable within "
                f"{FRESH:g} s."
            ),
            f"Canaries that never became readable, and how often silver and live metrics hold them: {lost}.",
            "The load, the broker and the reader share the cores with the platform.",
        ],
    )


def _of_session(session: int) -> Iterator[int]:
    """The processes of a session that we began."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))) and int(fields[3]) == session:
            yield int(folder.name)


def _cpu_seconds(pid: int) -> float:
    """Of a process and its children that have ended."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    """The fields of `/proc/<pid>/stat` from the third on (the state)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE")


def _available() -> int:
    """Bytes of memory left on the machine."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
