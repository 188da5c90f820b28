"""The dashboard as people see it: every page in Chromium, filters by address, and what was just committed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.gold_year import declared, fill
from benchmarks.pixel import QUIET, served
from platform_assets.silver import events
from resources.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]

CHROMIUM = shutil.which("chromium")
PATHS = {"": "Now", "growth": "Growth", "retention": "Retention", "funnels": "Funnels", "experiments": "Experiments"}
PATHS |= {"revenue": "Revenue", "why": "Why did it change", "health": "Health"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(str(tmp_path_factory.mktemp("dashboard") / "lake"))
    fill(made, datetime.now(UTC), days=40, users=300, events_a_day=2_000)
    return made


@pytest.fixture(scope="module")
def url(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `headwater dashboard` serves."""
    with served(lake, tmp_path_factory.mktemp("var")) as address:
        yield address


@pytest.fixture
def page() -> Iterator[Page]:
    """A phone in California, whose clock is another than the reporting timezone's."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        context = browser.new_context(viewport={"width": 390, "height": 844}, timezone_id="America/Los_Angeles")
        page = context.new_page()
        page.set_default_timeout(90_000)
        yield page
        browser.close()


def test_every_page_is_drawn_and_asks_nobody_else(url: str, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path, title in PATHS.items():
        page.goto(f"{url}/{path}")
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=90_000)
        expect(page.get_by_text("final: it stays as it is")).to_be_visible(timeout=90_000)
        expect(page.get_by_test_id("stMetric").first).to_be_visible()
        expect(page.get_by_test_id("stException")).to_have_count(0)
        assert "Traceback" not in page.content()
    assert [request for request in asked if not request.startswith((url, "data:", "blob:"))] == []


def test_a_link_shows_what_somebody_saw(url: str, page: Page) -> None:
    page.goto(f"{url}/growth?by=Country&period=7+days")
    expect(page.get_by_role("heading", name="Active people by country")).to_be_visible(timeout=90_000)
    page.get_by_role("radio", name="90 days").or_(page.get_by_role("button", name="90 days")).first.click()
    page.wait_for_url("**period=90*")
    assert "by=Country" in page.url


def test_what_was_chosen_goes_along_to_the_other_pages(url: str, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{url}/growth?country=DE&period=7+days")
    country = page.get_by_test_id("stSelectbox").filter(has_text="Country").get_by_role("combobox")
    expect(country).to_have_value("DE", timeout=90_000)
    page.get_by_role("link", name="Retention").click()
    expect(page.get_by_text("Not of country DE alone")).to_be_visible()
    page.wait_for_function("location.pathname == '/retention' && location.search.includes('country=DE')")
    page.get_by_role("link", name="Growth").click()
    expect(country).to_have_value("DE")
    page.wait_for_function("location.search.includes('period=7') && location.search.includes('country=DE')")


def test_the_first_page_has_an_address_to_share(url: str, page: Page) -> None:
    page.goto(f"{url}/now?platform=ios&span=2+hours")
    platform = page.get_by_test_id("stSelectbox").filter(has_text="Platform").get_by_role("combobox")
    expect(platform).to_have_value("ios", timeout=90_000)
    expect(page.get_by_text("Page not found")).to_have_count(0)


def test_what_is_committed_is_seen_without_a_reload(url: str, page: Page, lake: Lake) -> None:
    page.goto(url)
    figure = page.get_by_test_id("stMetric").filter(has_text="Active, last 5 min").get_by_test_id("stMetricValue")
    expect(figure).to_be_visible(timeout=90_000)
    before, now = int(figure.inner_text().replace(",", "")), datetime.now(UTC)
    row = {"event_id": "new", "event_name": "app_opened", "user_id": "somebody-new", "platform": "web"}
    lake.append(
        events.TABLE,
        declared(events.TABLE, [{**row, "occurred_at": now, "ingested_at": now, "event_date": now.date()}]),
    )
    expect(figure).not_to_have_text(f"{before:,}", timeout=30_000)
