"""A person's way: the README's command, the UI in a browser, the asset graph, a backfill over a range."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from local_stack.process import free_port, tail
from platform_assets.gold import live_metrics
from platform_assets.ops import canaries
from platform_assets.semantics.events import CANARY, is_canary
from platform_assets.silver import events
from resources.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "test-output"
CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BACKFILLS = """{ partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills {
    results { id status numPartitions partitionNames } } } }"""


@dataclass(frozen=True)
class Up:
    """A stack that is up: where Dagster is, and its lake."""

    url: str
    lake: Lake


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """What `make up` starts, on ports of its own, with a short history."""
    folder, port = tmp_path_factory.mktemp("up"), free_port()
    command = [sys.executable, "-m", "local_stack.cli", "up", "--var", str(folder / "var"), "--port", str(port)]
    command += ["--kafka-port", str(free_port()), "--postgres-port", str(free_port())]
    command += ["--registry-port", str(free_port()), "--metrics-port", str(free_port())]
    command += ["--dashboard-port", str(free_port())]
    command += ["--days", "3", "--persons", "300", "--rate", "5"]
    log = folder / "up.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "KAFKA_"))}
    with log.open("w") as out:
        started = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=own)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 600
        while "Ctrl-C" not in log.read_text():  # the last thing that it says when all is ready
            assert started.poll() is None, tail(log)
            assert time.monotonic() < deadline, tail(log)
            time.sleep(0.5)
        yield Up(address, Lake(str(folder / "var" / "lake")))
    finally:
        started.send_signal(signal.SIGINT)
        assert started.wait(120) is not None


@pytest.fixture
def url(stack: Up) -> str:
    return stack.url


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium (Debian: apt install chromium)")
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def newest_backfill(url: str) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/graphql", json.dumps({"query": BACKFILLS}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        results = json.load(answer)["data"]["partitionBackfillsOrError"]["results"]
    return results[0] if results else {}


def test_the_asset_graph_and_a_backfill_over_a_range_of_days(url: str, page: Page) -> None:
    page.goto(f"{url}/asset-groups")
    for group in ("bronze", "silver", "gold", "quality", "ops"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible(timeout=60_000)
    page.screenshot(path=PICTURES / "asset-graph.png")

    page.goto(f"{url}/assets/gold/person_days")
    expect(page.get_by_text("person × day").first).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_text("maximum of 28 partitions per run")).to_be_visible()
    page.screenshot(path=PICTURES / "launch-backfill.png")
    page.get_by_role("button", name="Launch backfill").click()

    deadline = time.monotonic() + 300
    while (found := newest_backfill(url)).get("status") != "COMPLETED_SUCCESS":
        assert found.get("status") in {None, "REQUESTED"}, found
        assert time.monotonic() < deadline, found
        time.sleep(1)
    assert found["numPartitions"] == len(found["partitionNames"]) >= 3  # type: ignore[arg-type]
    page.goto(f"{url}/runs/b/{found['id']}")
    expect(page.get_by_text("Succeeded").or_(page.get_by_text("Completed")).first).to_be_visible(timeout=60_000)
    page.screenshot(path=PICTURES / "backfill.png")


def test_a_materialization_shows_its_numbers_and_its_checks_by_partition(url: str, page: Page) -> None:
    page.goto(f"{url}/assets/gold/active_users?view=overview")
    for shown in ("watermark", "delta version", "final", "active users"):
        expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=60_000)
    page.screenshot(path=PICTURES / "active-users.png", full_page=True)
    page.goto(f"{url}/assets/gold/active_users?view=checks")
    expect(page.get_by_text("unique_key").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("latest_due_partition").first).to_be_visible()
    page.screenshot(path=PICTURES / "checks.png")


def test_what_the_stack_sends_itself_comes_to_gold(stack: Up) -> None:
    """To both topics of events, through the broker, the sensors and the runs that are there."""
    deadline = time.monotonic() + 300
    while True:
        fared = stack.lake.scan(canaries.TABLE).filter(pl.col("outcome") != "waiting").collect()
        assert set(fared["outcome"]) <= {"arrived"}, fared
        if fared["topic"].n_unique() == 2:
            break
        assert time.monotonic() < deadline, stack.lake.scan(canaries.TABLE).collect()
        time.sleep(1)
    assert fared["freshness_seconds"].is_between(0, 300).all()
    assert stack.lake.scan(events.TABLE).filter(is_canary()).collect().height >= 2
    numbers = stack.lake.scan(live_metrics.TABLE).filter(pl.col("event_name") == CANARY)
    assert numbers.collect().is_empty()
