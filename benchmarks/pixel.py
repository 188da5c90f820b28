"""From a commit to the pixel on the dashboard's page *Now*: `python -m benchmarks.pixel [--small]`.

The dashboard serves a lake as a process of its own, a headless Chromium looks at the page, and micro-batches are
committed at random moments of its renewal: events to `silver/events`, then what `gold/live_metrics` makes of them.
Half of the events are conversions, so each commit moves *Conversions, last hour* by more than what leaves the hour
meanwhile. The page itself notes when a number was painted that was not there before. All of it shares one machine and
its clock.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from playwright.sync_api import Page, sync_playwright

from benchmarks import report
from benchmarks.gold_year import STEPS, declared, fill
from benchmarks.timing import percentile
from local_stack.process import LOOPBACK, ChildProcess, free_port, listens
from platform_assets.gold import live_metrics
from platform_assets.silver import events
from resources.lake import Lake
from resources.settings import environment_name

RENEWAL = 2.0
"""Seconds between two renewals of the page (`platform_assets.serving.dashboard.now`)."""

PROMISED = 5.0
"""Seconds from commit to pixel that the page promises."""

FIGURE = "Conversions, last hour"

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
"""Options of a Chromium that asks nobody anything."""

EVENTS = 1_000
"""Of a micro-batch."""

_READY_SECONDS = 180.0
_PATIENCE_MS = 60_000
_WATCH = """figure => {
    const told = () => {
        const metrics = [...document.querySelectorAll('[data-testid="stMetric"]')];
        const value = metrics.find(metric => metric.textContent.includes(figure))
            ?.querySelector('[data-testid="stMetricValue"]');
        return value ? Number(value.textContent.replaceAll(',', '')) : null;
    };
    window.painted = [];
    const note = () => {
        const number = told();
        if (number === null || number === window.painted.at(-1)?.number) return;
        const change = {number, at: null};
        window.painted.push(change);
        // What runs after the frame that the change is drawn in.
        requestAnimationFrame(() => setTimeout(() => { change.at = Date.now() / 1000; }));
    };
    note();
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
_NEWEST = "() => window.painted.at(-1)"
_AT_LEAST = "least => window.painted.find(change => change.at !== null && change.number >= least)"


@dataclass(frozen=True)
class Seen:
    """What became of one micro-batch: instants, in seconds since 1970.

    Attributes:
        silver: `silver/events` had it.
        gold: `gold/live_metrics` had it.
        painted: The page showed it.
    """

    silver: float
    gold: float
    painted: float


def commit(lake: Lake, number: int) -> tuple[float, float]:
    """Commit a micro-batch of this moment, as the stream does; when either table had it."""
    now = datetime.now(UTC)
    rows = declared(
        events.TABLE,
        pl.DataFrame({"row": range(EVENTS)}).select(
            event_id=pl.format("pixel-{}-{}", pl.lit(number), "row"),
            user_id=pl.format("{}", (pl.col("row") * 7919 + number) % 20_000),
            event_name=pl.when(pl.col("row") % 2 == 0).then(pl.lit("order_completed")).otherwise(pl.lit(STEPS[0])),
            platform=pl.lit("web"),
            occurred_at=pl.lit(now),
            ingested_at=pl.lit(now),
            event_date=pl.lit(now.date()),
        ),
    )
    version = lake.append(events.TABLE, rows)
    silver = time.time()
    counted = live_metrics.transform(rows, rows.clear(), version)
    lake.write(live_metrics.TABLE, lake.open(live_metrics.TABLE), counted, None, {events.FOLLOWS: version}, None)
    return silver, time.time()


@contextmanager
def served(lake: Lake, folder: Path) -> Iterator[str]:
    """The dashboard's address, for as long as the block lasts."""
    port = free_port()
    command = [sys.executable, "-m", "local_stack.cli", "dashboard", "--var", str(folder), "--port", str(port)]
    log, environment = folder / "dashboard.log", {environment_name("lake_url"): lake.url}
    child = ChildProcess("dashboard", command, log, environment=environment)
    child.start()
    try:
        child.await_ready(lambda: None if listens(LOOPBACK, port) else "it does not listen yet", _READY_SECONDS)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        child.stop()


@contextmanager
def shown(url: str) -> Iterator[Page]:
    """The page in Chromium, once it shows numbers, and notes when they change."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("there is no chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 1800})
        page.goto(url)
        page.get_by_test_id("stMetric").filter(has_text=FIGURE).wait_for(timeout=_PATIENCE_MS)
        page.evaluate(_WATCH, FIGURE)
        yield page
        browser.close()


def measured(lake: Lake, page: Page, numbers: range) -> Iterator[Seen]:
    """What became of each micro-batch; the next one is committed once it was seen, and a random moment later."""
    chance = random.Random(11)
    for number in numbers:
        page.wait_for_timeout(chance.uniform(0, RENEWAL) * 1000)
        before = page.evaluate(_NEWEST)["number"]
        silver, gold = commit(lake, number)
        least = before + EVENTS // 4  # half of its conversions: what leaves the hour meanwhile is less
        found = page.wait_for_function(_AT_LEAST, arg=least, polling=100, timeout=_PATIENCE_MS).json_value()
        yield Seen(silver, gold, found["at"])


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pixel", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few days and commits, to see that it runs")
    options = parser.parse_args()
    commits, earlier = (4, 10) if options.small else (60, 300)
    days, users, live_days, events_a_day = (10, 300, 2, 2_000) if options.small else (30, 20_000, 14, 100_000)
    with report.scratch("pixel") as folder:
        lake = Lake(str(folder / "lake"))
        fill(lake, datetime.now(UTC), days, users, live_days, events_a_day)
        for number in range(earlier):
            commit(lake, number)
        load_before = os.getloadavg()[0]
        with served(lake, folder) as url, shown(url) as page:
            found = list(measured(lake, page, range(earlier, earlier + commits)))
    waited = {
        "`gold/live_metrics`": [seen.painted - seen.gold for seen in found],
        "`silver/events`, the commit before": [seen.painted - seen.silver for seen in found],
    }
    rows = [
        [since, len(seconds), *(f"{percentile(seconds, share):.2f}" for share in (0.5, 0.95, 1.0))]
        for since, seconds in waited.items()
    ]
    report.write(
        "pixel",
        small=options.small,
        columns=["painted after the commit of", "commits", "p50, s", "p95, s", "max, s"],
        rows=rows,
        measured={"load_average_before": load_before, "seconds": waited},
        notes=[
            (
                f"*{FIGURE}* of *Now*, which renews itself every {RENEWAL:g} s; the promise is {PROMISED:g} s. "
                f"Load {load_before:.2f} before."
            ),
            (
                f"Micro-batches of {EVENTS:,} events, {earlier} of them since maintenance when it begins; {live_days} "
                f"days of live metrics, {events_a_day:,} events on each of the last two."
            ),
            "Dashboard, browser and writer share the cores.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
