"""What third parties would deliver: yesterday's reports, file by file, into the stack's landing folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

from local_stack.simulator.population import CAMPAIGNS

_COUNTRIES = ("DE", "FR", "US")
_PAID = [campaign for campaign in CAMPAIGNS if campaign.medium in {"cpc", "social"}]
_STORES = ("app_store", "google_play")


def deliver(landing: Path, days: Sequence[date], seed: int = 1) -> int:
    """Write the reports of some days that are not there yet. The first day's spend has one row that is refused.

    Args:
        landing: The landing folder.
        days: The days reported on.
        seed: Of the figures.

    Returns:
        The number of files written.
    """
    written = 0
    for number, day in enumerate(days):
        rng = Random(f"{seed} {day}")  # noqa: S311 - figures, no secrets
        for path, text in (
            (landing / "ad_spend" / f"{day}.csv", _ad_spend(day, rng, spoilt=number == 0)),
            (landing / "app_store_reports" / f"{day}.jsonl", _app_store_report(day, rng)),
        ):
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.part")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.rename(path)
            written += 1
    return written


def reported_days(first: date, today: date) -> list[date]:
    """The days that partners have reported on: all before today."""
    return [first + timedelta(days=n) for n in range((today - first).days)]


def _ad_spend(day: date, rng: Random, *, spoilt: bool) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["Date", "Network", "Campaign Name", "Country", "Cost", "Currency", "Impressions", "Clicks"])
    for campaign in _PAID:
        for country in _COUNTRIES:
            clicks = rng.randint(20, 400)
            cost = f"{clicks * rng.randint(20, 90) / 100:.2f}"
            rows.writerow([day, campaign.source, campaign.name, country, cost, "EUR", clicks * 40, clicks])
    if spoilt:
        rows.writerow([day, "instagram", "creators", "IT", "n/a", "EUR", "", ""])
    return text.getvalue()


def _app_store_report(day: date, rng: Random) -> str:
    lines = [
        json.dumps(
            {
                "date": str(day),
                "store": store,
                "app_id": "com.example.shop",
                "country": country,
                "downloads": rng.randint(5, 80),
                "updates": rng.randint(50, 300),
                "proceeds": rng.randint(0, 20_000) / 100,
                "currency": "EUR",
            }
        )
        for store in _STORES
        for country in _COUNTRIES
    ]
    return "\n".join(lines) + "\n"
