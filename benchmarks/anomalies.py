"""How many faults the checks find, and how often they cry wolf: `python -m benchmarks.anomalies [--small]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from benchmarks import report
from platform_assets.semantics.anomalies import INSTANT, Anomalies, judged, shifts

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2025, 9, 12, tzinfo=UTC)
"""Sixty days from here on have an end of daylight saving in them."""
SERIES, DAYS = 20, 60
HOURS = 24 * DAYS
FIRST_FAULT = 21 * 24
SPECIFICATION = Anomalies()
_KINDS = {"halved": 0.5, "doubled": 2.0, "none": 0.0}


@dataclass(frozen=True)
class Case:
    """Some series with faults of one kind.

    Attributes:
        rows: Of an hour, in the mean.
        noise: The standard deviation of an hour beyond chance, as a share of what it would be.
        lasts: How many hours a fault lasts.
        faults: How many a series has.
    """

    rows: int
    noise: float
    lasts: int
    faults: int = 12


CASES = (Case(5_000, 0.05, 1), Case(5_000, 0.10, 1), Case(200, 0.05, 1), Case(200, 0.05, 6, 6), Case(20, 0.05, 12, 3))


def usual(rows: float, noise: float, drawn: np.random.Generator) -> np.ndarray:
    """The rows of each hour of a series: days and weeks by the clock of a timezone, growth, drift, noise, chance."""
    local = [(START + timedelta(hours=hour)).astimezone(ZONE) for hour in range(HOURS)]
    of_day = np.array([at.hour for at in local])
    is_weekend = np.array([at.weekday() >= 5 for at in local])
    peak, depth = drawn.uniform(11, 20), drawn.uniform(0.3, 0.8)
    season = depth * np.cos((of_day - peak) / 24 * 2 * np.pi) + np.where(is_weekend, drawn.uniform(-0.5, 0.3), 0.0)
    growth = drawn.uniform(-0.03, 0.06) / 7 * np.arange(HOURS) / 24
    drift = np.zeros(HOURS)
    for hour in range(1, HOURS):
        drift[hour] = 0.95 * drift[hour - 1] + drawn.normal(0, 0.015)
    expected = np.exp(season + growth + drift)
    expected *= rows / expected.mean() * drawn.gamma(1 / noise**2, noise**2, HOURS)
    return drawn.poisson(expected)


def faulty(case: Case, seed: int) -> tuple[pl.DataFrame, dict[tuple[str, int], str]]:
    """Series with faults: ``series``, ``hour``, ``value``, ``rows``; and by series and first hour what was done."""
    drawn = np.random.default_rng(seed)
    apart = max(6, 3 * case.lasts)
    parts, done = [], {}
    for number in range(SERIES):
        values = usual(case.rows, case.noise, drawn)
        slots = drawn.permutation(np.arange(FIRST_FAULT, HOURS - apart, apart))[: case.faults]
        for place, first in enumerate(sorted(int(slot) for slot in slots)):
            kind = list(_KINDS)[(place + number) % len(_KINDS)]
            span = slice(first, first + case.lasts)
            values[span] = drawn.binomial(values[span], 0.5) if kind == "halved" else values[span] * int(_KINDS[kind])
            done[f"{number}", first] = kind
        hours = [START + timedelta(hours=hour) for hour in range(HOURS)]
        parts.append(pl.DataFrame({"series": f"{number}", "hour": hours, "value": values}))
    rows = pl.concat(parts).with_columns(pl.col("hour").cast(INSTANT), pl.col("value").cast(pl.Int64))
    return rows.with_columns(rows=pl.col("value")), done


def by_ours(hours: pl.DataFrame) -> pl.DataFrame:
    """The platform's verdicts: ``series``, ``hour``, ``bucket_hours``, ``is_anomaly``."""
    return judged(hours, SPECIFICATION, "count", ZONE)


def by_ours_at_4(hours: pl.DataFrame) -> pl.DataFrame:
    """The same with a threshold of four spreads, however many rows there are."""
    return judged(hours, Anomalies(k=4.0), "count", ZONE)


def by_mean(hours: pl.DataFrame) -> pl.DataFrame:
    """An hour is one where it is more than three standard deviations from the mean of the four weeks before."""
    value, weeks = pl.col("value").cast(pl.Float64), 28 * 24
    before = value.shift(1)
    mean = before.rolling_mean(weeks, min_samples=14 * 24).over("series")
    spread = before.rolling_std(weeks, min_samples=14 * 24).over("series")
    return _alone(hours, (value - mean).abs() > 3 * spread)


def by_hour_of_week(hours: pl.DataFrame) -> pl.DataFrame:
    """An hour is one where it is more than three spreads from the median of the same hour in the four weeks before."""
    local = pl.col("hour").dt.convert_time_zone(ZONE.key)
    slotted = hours.with_columns(slot=local.dt.weekday().cast(pl.Int32) * 24 + local.dt.hour())
    before = [pl.col("value").cast(pl.Float64).shift(weeks).over("series", "slot") for weeks in range(1, 5)]
    told = slotted.with_columns(weeks=pl.concat_list(before).list.drop_nulls())
    told = told.with_columns(median=pl.col("weeks").list.median())
    off = pl.col("weeks").list.eval((pl.element() - pl.element().median()).abs().median()).list.first() * 1.4826
    is_anomaly = (pl.col("value") - pl.col("median")).abs() > 3 * off
    return _alone(told, is_anomaly & (pl.col("weeks").list.len() >= 2))


def _alone(hours: pl.DataFrame, is_anomaly: pl.Expr) -> pl.DataFrame:
    has_history = pl.col("hour") >= START + SPECIFICATION.history
    return hours.select(
        "series", "hour", bucket_hours=pl.lit(1), is_anomaly=(is_anomaly & has_history).fill_null(value=False)
    )


@dataclass
class Score:
    """What was found of what was done, and what was found besides; counts."""

    found: dict[str, int]
    done: dict[str, int]
    false_hours: int = 0
    weeks: float = 0.0

    def add(self, verdicts: pl.DataFrame, faults: dict[tuple[str, int], str], lasts: int) -> None:
        """Compare verdicts with what was done. A fault is found where a bucket with an hour of it is an anomaly."""
        hit = set()
        wrong = verdicts.filter("is_anomaly").select(
            "series", "bucket_hours", number=(pl.col("hour") - START).dt.total_hours()
        )
        for series, width, hour in wrong.iter_rows():
            of = [first for first in range(hour - width - lasts + 2, hour + 1) if (series, first) in faults]
            hit |= {(series, first) for first in of}
            self.false_hours += not of
        for fault, kind in faults.items():
            self.done[kind] = self.done.get(kind, 0) + 1
            self.found[kind] = self.found.get(kind, 0) + (fault in hit)
        self.weeks += SERIES * (DAYS - SPECIFICATION.history.days) / 7

    def cells(self) -> list[str]:
        """Found of each kind, and false alarms a week and series."""
        kinds = [f"{self.found[k]} of {self.done[k]} ({self.found[k] / self.done[k]:.0%})" for k in _KINDS]
        return [*kinds, f"{self.false_hours / self.weeks:.3f}"]


METHODS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "Headwater": by_ours,
    "Headwater with k = 4": by_ours_at_4,
    "mean ± 3 deviations of 4 weeks": by_mean,
    "median ± 3 spreads of the hour of the week": by_hour_of_week,
}


def nulls_and_values(seed: int) -> list[list[object]]:
    """What is found of shares and distributions at 5,000 rows an hour: rows of a table of their own."""
    drawn = np.random.default_rng(seed)
    shares, counts = [], []
    faults: dict[tuple[str, int], str] = {}
    mix = np.array([0.5, 0.3, 0.15, 0.05])
    for number in range(SERIES):
        rows = usual(5_000, 0.05, drawn)
        share = np.clip(0.05 * drawn.gamma(100, 0.01, HOURS), 0, 1)
        lean = np.stack([mix * drawn.gamma(400, 1 / 400, 4) for _ in range(HOURS)])
        slots = drawn.permutation(np.arange(FIRST_FAULT, HOURS - 6, 6))[:12]
        for first in (int(slot) for slot in slots):
            share[first] += 0.10
            lean[first, 1] = 0.0  # one value of four is missing
            faults[f"{number}", first] = "fault"
        lean /= lean.sum(axis=1, keepdims=True)
        told = drawn.binomial(rows, share)
        split = drawn.multinomial(rows, lean)
        for hour in range(HOURS):
            at = START + timedelta(hours=hour)
            shares.append((f"{number}", at, int(told[hour]), int(rows[hour])))
            counts += [(f"{number}", at, f"{value}", int(split[hour, value])) for value in range(4)]
    of_shares = pl.DataFrame(
        shares, schema={"series": pl.String, "hour": INSTANT, "value": pl.Int64, "rows": pl.Int64}, orient="row"
    )
    of_values = pl.DataFrame(
        counts, schema={"series": pl.String, "hour": INSTANT, "category": pl.String, "value": pl.Int64}, orient="row"
    )
    found = []
    for what, verdicts in (
        ("null share 5 % → 15 %", judged(of_shares, SPECIFICATION, "share", ZONE)),
        ("a value with 30 % of the rows is missing", shifts(of_values, SPECIFICATION, ZONE)),
    ):
        score = Score({}, {})
        score.add(verdicts, faults, 1)
        found.append([what, score.found["fault"], score.done["fault"], score.false_hours / score.weeks])
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("--small", action="store_true", help="one draw, to see that it runs")
    small = parser.parse_args().small
    draws = 1 if small else 3
    rows: list[list[object]] = []
    measured = []
    seconds = []
    for case in CASES:
        for name, method in METHODS.items():
            score = Score({}, {})
            for seed in range(draws):
                hours, faults = faulty(case, seed)
                began = perf_counter()
                verdicts = method(hours)
                if name == "Headwater":
                    seconds.append(perf_counter() - began)
                score.add(verdicts, faults, case.lasts)
            rows.append([f"{case.rows:,}", f"{case.noise:.0%}", case.lasts, name, *score.cells()])
            measured.append({"case": case.__dict__, "method": name, **score.__dict__})
    others = nulls_and_values(0)
    notes = [
        (
            f"{SERIES} series × {DAYS} days × {draws} draws a case, {CASES[0].faults} faults a series (fewer of long "
            "ones), after three weeks. A false alarm is an hour whose bucket has no faulty hour; each is counted."
        ),
        f"To judge {SERIES} series of {DAYS} days takes {min(seconds):.1f} to {max(seconds):.1f} s.",
        *(
            f"{what}, one hour of 5,000 rows: {found} of {done} found, {false:.3f} false alarms a week and series."
            for what, found, done, false in others
        ),
    ]
    report.write(
        "anomalies",
        small=small,
        columns=["rows an hour", "noise", "hours a fault", "method", *_KINDS, "false alarms a week and series"],
        rows=rows,
        measured={"cases": measured, "others": others, "seconds": seconds},
        notes=notes,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
