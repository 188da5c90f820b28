"""Anomalies of drawn series: what must not move a verdict does not, and what is as usual raises none."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.semantics.anomalies import INSTANT, Anomalies, judged, shifts

HOUR = timedelta(hours=1)
HOURS = 24 * 24
NARROW = Anomalies(buckets=(1, 3))
START = datetime(2026, 3, 9, tzinfo=UTC)


def drawn_rows(seed: int, mean: int) -> list[int]:
    """Rows of each hour with a day's rhythm, noise of 3 % and some hours far off."""
    rng = random.Random(seed)
    rhythm = [rng.uniform(0.5, 1.5) for _ in range(24)]
    rows = [round(mean * rhythm[hour % 24] * rng.gauss(1, 0.03)) for hour in range(HOURS)]
    for hour in rng.sample(range(HOURS - 200, HOURS), 4):
        rows[hour] = round(rows[hour] * rng.choice((0.0, 0.4, 2.5)))
    return rows


def series(rows: list[int], name: str = "a", start: datetime = START) -> pl.DataFrame:
    made = [(name, start + number * HOUR, value, value) for number, value in enumerate(rows)]
    schema = {"series": pl.String(), "hour": INSTANT, "value": pl.Int64(), "rows": pl.Int64()}
    return pl.DataFrame(made, schema=schema, orient="row")


def verdicts(rows: pl.DataFrame, zone: str = "UTC") -> pl.DataFrame:
    return judged(rows, NARROW, "count", ZoneInfo(zone))


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=8)
@given(seed=seeds, factor=st.sampled_from((2, 10, 1_000)))
def test_a_scale_moves_no_verdict_where_there_are_many_rows(seed: int, factor: int) -> None:
    rows = drawn_rows(seed, 200_000)
    plain, scaled = verdicts(series(rows)), verdicts(series([factor * value for value in rows]))
    assert plain["is_anomaly"].any()
    assert scaled.select("hour", "reason").equals(plain.select("hour", "reason"))


@settings(max_examples=8)
@given(rows=st.integers(0, 10**9), series_count=st.integers(1, 3))
def test_a_constant_series_raises_none(rows: int, series_count: int) -> None:
    told = verdicts(pl.concat(series([rows] * HOURS, f"{number}") for number in range(series_count)))
    assert told.height == series_count * HOURS
    assert not told["is_anomaly"].any()


@settings(max_examples=8)
@given(seed=seeds, order=seeds)
def test_the_order_of_rows_and_other_series_change_nothing(seed: int, order: int) -> None:
    rows = series(drawn_rows(seed, 3_000))
    beside = pl.concat([rows, series(drawn_rows(order, 500), "b")])
    told = verdicts(beside.sample(fraction=1, shuffle=True, seed=order % 2**32))
    assert told.equals(verdicts(beside))
    assert told.filter(series="a").equals(verdicts(rows))


@settings(max_examples=6)
@given(seed=seeds, order=seeds)
def test_the_order_of_values_changes_no_distribution(seed: int, order: int) -> None:
    rng = random.Random(seed)
    made = [
        ("c", START + hour * HOUR, value, rng.randrange(500, 700))
        for hour in range(HOURS)
        for value in ("x", "y", None)
    ]
    schema = {"series": pl.String(), "hour": INSTANT, "category": pl.String(), "value": pl.Int64()}
    counts = pl.DataFrame(made, schema=schema, orient="row")
    told = shifts(counts, NARROW, ZoneInfo("UTC"))
    assert shifts(counts.sample(fraction=1, shuffle=True, seed=order), NARROW, ZoneInfo("UTC")).equals(told)


@settings(max_examples=8)
@given(
    seed=seeds,
    zone=st.sampled_from(("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns")),
    change=st.sampled_from((datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC))),
)
def test_a_change_of_the_clocks_raises_none(seed: int, zone: str, change: datetime) -> None:
    """People do at the same hours of their clock what they did: three weeks before, and some after."""
    rng = random.Random(seed)
    rhythm = [rng.uniform(0.4, 1.6) for _ in range(168)]
    start = change - timedelta(days=18)
    rows = []
    for number in range(HOURS + 240):
        local = (start + number * HOUR).astimezone(ZoneInfo(zone))
        rows.append(round(20_000 * rhythm[local.weekday() * 24 + local.hour] * rng.gauss(1, 0.01)))
    told = judged(series(rows, start=start), Anomalies(buckets=(1,)), "count", ZoneInfo(zone))
    assert (told["reason"] == "as expected").sum() > 240
    assert told.filter("is_anomaly").is_empty()


@settings(max_examples=6)
@given(seed=seeds, cut=st.integers(HOURS - 150, HOURS - 1))
def test_what_comes_later_changes_no_verdict(seed: int, cut: int) -> None:
    rows = series(drawn_rows(seed, 4_000))
    whole, so_far = verdicts(rows), verdicts(rows.filter(pl.col("hour") < START + cut * HOUR))
    assert so_far.equals(whole.filter(pl.col("hour") < START + cut * HOUR))
