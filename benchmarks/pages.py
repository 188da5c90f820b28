"""What the dashboard's pages ask of a year of gold: `python -m benchmarks.pages [--small]`.

Every question of each page is asked again and again, as the page asks it at first, each page from its first to its
last. Nothing is kept between two askings but the opened lake, as in the dashboard.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import polars as pl

from benchmarks import report
from benchmarks.gold_year import STEPS, fill
from partitions import Window
from platform_assets.gold.metric_numbers import own_metrics
from platform_assets.semantics.funnels import Funnel
from platform_assets.serving import metrics, questions
from platform_assets.serving.catalog import Catalog
from platform_assets.serving.dashboard import funnels
from platform_assets.serving.dashboard.source import HELD_BYTES
from platform_assets.tables import tables
from resources.lake import Lake
from resources.settings import Settings

Question = Callable[[], object]


def asked(catalog: Catalog, now: datetime) -> dict[str, dict[str, Question]]:
    """The questions of each page, over all of the year where people may choose that."""
    settings, last = Settings(), now.date()
    year, week = last - timedelta(days=364), last - timedelta(days=6)
    this_year = Window.of_days(year, last, settings.zone)
    of = {k: questions.metric_tables(catalog, k) for k in ("lifecycle", "retention", "funnels", "experiment_results")}
    checkout = of["funnels"]["checkout"]
    specification = funnels.specification(checkout, own_metrics().metrics)
    hour, passive = Window(now - timedelta(hours=1), now), settings.passive_events
    recent = [Window(now - timedelta(minutes=minutes), now) for minutes in (5, 30)]
    built = Funnel.model_validate({"steps": [{"event": name} for name in STEPS], "window": "7d"})
    strict = built.model_copy(update={"order": "strict"})
    said = "active_users.dau"
    return {
        "Now": {
            "freshness": lambda: questions.freshness(catalog, now),
            "active persons": lambda: questions.active_persons(catalog, recent, passive),
            "by minute": lambda: questions.events_per_minute(catalog, hour),
            "by name": lambda: questions.events_by_name(catalog, hour),
        },
        "Growth": {
            "active users": lambda: questions.active_users(catalog, year, last),
            "slices": lambda: questions.slices(catalog, "country", year, last),
            "of slices": lambda: questions.active_users_of(catalog, "country", ["US", "DE", "IN", "GB"], year, last),
            "lifecycle": lambda: questions.lifecycle(catalog, of["lifecycle"]["lifecycle_by_day"], year, last),
        },
        "Retention": {
            "cohorts": lambda: questions.retention(catalog, of["retention"]["weekly_return"], year, last),
        },
        "Funnels": {
            "breakdowns": lambda: questions.breakdowns(catalog, checkout, year, last),
            "funnel": lambda: questions.funnel(catalog, checkout, specification, year, last),
            "by day": lambda: questions.funnel_by_day(catalog, checkout, year, last),
            "event names, 7 days": lambda: questions.event_names(catalog, week, last),
            "built on the fly, 7 days": lambda: questions.explored(catalog, built, week, last, settings.zone),
            "… of a country": lambda: questions.explored(catalog, built, week, last, settings.zone, {"country": "DE"}),
            "… strict": lambda: questions.explored(catalog, strict, week, last, settings.zone),
        },
        "Experiments": {
            "results": lambda: questions.experiment(catalog, of["experiment_results"]["checkout_experiment"], last),
        },
        "Revenue": {
            "currencies": lambda: questions.currencies(catalog, year, last),
            "by day": lambda: questions.revenue(catalog, year, last),
            "by cohort": lambda: questions.revenue_by_cohort(catalog, "EUR", year, last),
            "by day, of a country": lambda: questions.revenue(catalog, year, last, {"country": "DE"}),
            "by cohort, of a country": lambda: questions.revenue_by_cohort(
                catalog, "EUR", year, last, {"country": "DE"}
            ),
            "by country": lambda: questions.revenue_by(catalog, "country", "EUR", year, last),
            "by plan": lambda: questions.revenue_by(catalog, "plan", "EUR", year, last),
            "countries": lambda: questions.buyers_values(catalog, "country", year, last),
        },
        "Why did it change": {
            "numbers": lambda: questions.published_metrics(catalog, this_year),
            "slices": lambda: questions.published_slices(catalog, said, this_year),
            "values": lambda: metrics.published(catalog, said, "", this_year, now),
            "restatements": lambda: questions.restatements(catalog, Window(now - timedelta(days=30), now)),
        },
        "Health": _of_health(catalog, last),
    }


def _of_health(catalog: Catalog, last: date) -> dict[str, Question]:
    month = last - timedelta(days=28)
    return {
        "outcomes": lambda: questions.outcomes(catalog, month, last),
        "refusals": lambda: questions.refusals(catalog, month, last),
        "computed": lambda: questions.computed(catalog),
        "failing checks": lambda: questions.failing_checks(catalog, datetime.now(UTC) - timedelta(days=7)),
        "service levels": lambda: questions.service_levels(catalog, month),
        "incidents": lambda: questions.newest_rows(catalog, "ops.incidents", 500),
    }


def measured(pages: dict[str, dict[str, Question]], rounds: int) -> pl.DataFrame:
    """Milliseconds of each asking: ``page``, ``question``, ``ms``; the first round is not counted."""
    rows = []
    for number in range(rounds + 1):
        for page, of_page in pages.items():
            for name, question in of_page.items():
                began = time.perf_counter()
                question()
                if number:
                    rows.append((page, name, (time.perf_counter() - began) * 1000))
    return pl.DataFrame(rows, schema=["page", "question", "ms"], orient="row")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few days and rounds, to see that it runs")
    options = parser.parse_args()
    days, users, rounds = (40, 300, 2) if options.small else (365, 20_000, 20)
    live_days, events_a_day = (2, 2_000) if options.small else (14, 100_000)
    now = datetime.now(UTC)
    with report.scratch("pages") as folder:
        lake = Lake(str(folder / "lake"))
        fill(lake, now, days, users, live_days, events_a_day)
        with Catalog(lake, tables(), held_bytes=HELD_BYTES) as catalog:
            found = measured(asked(catalog, now), rounds)
    told = found.group_by("page", "question", maintain_order=True).agg(
        p50=pl.col("ms").quantile(0.5, "linear"), p95=pl.col("ms").quantile(0.95, "linear")
    )
    everything = [f"{found['ms'].quantile(q, 'linear') or 0:,.0f}" for q in (0.5, 0.95)]
    rows = [[page, name, f"{p50:,.0f}", f"{p95:,.0f}"] for page, name, p50, p95 in told.iter_rows()]
    report.write(
        "pages",
        small=options.small,
        columns=["page", "question", "p50 (ms)", "p95 (ms)"],
        rows=[*rows, ["all", "", *everything]],
        measured={"questions": told.to_dicts(), "load_average": os.getloadavg()},
        notes=[
            (
                f"{days} days, {users:,} active users a day; live metrics by minute and facts of {live_days} days, "
                f"{events_a_day:,} events each; {rounds} rounds. The aim is a p95 of 300 ms."
            )
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
