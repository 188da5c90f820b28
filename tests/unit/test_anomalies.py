"""What is an anomaly and what is none, of series made up by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from pydantic import ValidationError

from platform_assets.semantics.anomalies import INSTANT, VERDICTS, Anomalies, judged, shifts

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEK = 168
UTC_ZONE = ZoneInfo("UTC")
LAST = 5 * WEEK


def wobble(hour: int) -> float:
    """Noise that is the same each time: at most a few percent."""
    return 1 + 0.02 * math.sin(hour * 12.9898) + 0.015 * math.cos(hour * 78.233)


def traffic(hour: int) -> int:
    """About 5,000 rows an hour, by the hour of the day and the day of the week."""
    of_day = 1 + 0.5 * math.sin((hour % 24 - 9) / 24 * 2 * math.pi)
    return round(5_000 * of_day * (0.6 if hour // 24 % 7 >= 5 else 1.0) * wobble(hour))


def counts(rows: Callable[[int], int], hours: int = LAST + 1, series: str = "a") -> pl.DataFrame:
    made = [(series, START + n * HOUR, rows(n), rows(n)) for n in range(hours)]
    return _frame(made)


def shares(share: Callable[[int], float], rows: int = 5_000, hours: int = LAST + 1) -> pl.DataFrame:
    return _frame([("a", START + n * HOUR, round(share(n) * rows), rows) for n in range(hours)])


def _frame(rows: list[tuple[str, datetime, int, int]]) -> pl.DataFrame:
    schema = {"series": pl.String(), "hour": INSTANT, "value": pl.Int64(), "rows": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def last(verdicts: pl.DataFrame) -> dict[str, object]:
    return verdicts.sort("hour").row(-1, named=True)


def anomalies(verdicts: pl.DataFrame) -> list[int]:
    """The numbers of the hours that are anomalies."""
    return [(hour - START) // HOUR for hour in verdicts.filter("is_anomaly")["hour"]]


@pytest.mark.parametrize(
    ("factor", "reason"), [(0.5, "too low"), (2, "too high"), (0, "too low"), (1, "as expected"), (0.85, "as expected")]
)
def test_the_last_hour_is_judged_by_those_before(factor: float, reason: str) -> None:
    told = last(
        judged(counts(lambda n: round(traffic(n) * (factor if n == LAST else 1))), Anomalies(), "count", UTC_ZONE)
    )
    assert told["reason"] == reason
    assert told["is_anomaly"] == (reason != "as expected")
    assert told["bucket_hours"] == 1
    assert told["expected"] == pytest.approx(traffic(LAST), rel=0.1)
    assert told["least"] < told["expected"] < told["most"]  # type: ignore[operator]


def test_what_is_told_has_the_declared_columns_and_an_hour_a_row() -> None:
    told = judged(counts(traffic), Anomalies(), "count", UTC_ZONE)
    assert told.schema == VERDICTS
    assert told["hour"].to_list() == [START + n * HOUR for n in range(LAST + 1)]
    assert judged(counts(traffic, 0), Anomalies(), "count", UTC_ZONE).schema == VERDICTS


def test_hours_without_a_row_are_hours_of_nothing() -> None:
    silent = counts(traffic).filter(pl.col("hour") < START + LAST * HOUR)
    told = last(judged(silent, Anomalies(), "count", UTC_ZONE, until=START + (LAST + 1) * HOUR))
    assert (told["observed"], told["reason"]) == (0.0, "too low")


def test_without_two_weeks_of_history_there_is_no_verdict() -> None:
    told = judged(counts(lambda n: 0 if n in (2 * WEEK - 1, 2 * WEEK) else traffic(n)), Anomalies(), "count", UTC_ZONE)
    of_hour = dict(told.select("hour", "reason").iter_rows())
    assert of_hour[START + (2 * WEEK - 1) * HOUR] == "not enough history"
    assert of_hour[START + 2 * WEEK * HOUR] == "too low"
    young = told.filter(pl.col("hour") < START + 2 * WEEK * HOUR)
    assert young["reason"].unique().to_list() == ["not enough history"]
    assert young.select(pl.col("expected", "least", "most", "score").is_null().all()).row(0) == (True,) * 4


def test_an_anomaly_does_not_become_what_is_usual() -> None:
    """An outage of half a day, and the same hours of the week after it: only the outage is one."""
    first = 4 * WEEK + 9
    outage = range(first, first + 12)
    told = judged(counts(lambda n: 0 if n in outage else traffic(n), LAST + 48), Anomalies(), "count", UTC_ZONE)
    assert anomalies(told) == list(outage)


def test_a_change_for_good_is_usual_after_a_day() -> None:
    first = 3 * WEEK
    told = judged(
        counts(lambda n: traffic(n) * (2 if n >= first else 1), first + 4 * WEEK), Anomalies(), "count", UTC_ZONE
    )
    found = anomalies(told)
    assert found == list(range(first, first + len(found)))
    assert 24 <= len(found) <= 26


def test_few_rows_widen_the_bucket() -> None:
    told = judged(counts(lambda n: traffic(n) // 50), Anomalies(), "count", UTC_ZONE).filter(
        pl.col("reason") == "as expected"
    )
    assert told["bucket_hours"].n_unique() > 1
    assert told["expected"].min() >= Anomalies().least_rows  # type: ignore[operator]
    narrower = told.filter(pl.col("bucket_hours") > 1)
    assert (narrower["expected"] / narrower["bucket_hours"]).max() < Anomalies().least_rows  # type: ignore[operator]


def test_an_outage_of_few_rows_is_found_when_it_has_lasted() -> None:
    first = LAST - 12
    told = judged(counts(lambda n: 0 if n >= first else traffic(n) // 50), Anomalies(), "count", UTC_ZONE)
    found = anomalies(told)
    assert found[0] >= first
    assert found[-1] == LAST


def test_too_few_rows_in_a_day_are_not_judged() -> None:
    told = last(judged(counts(lambda n: n % 7), Anomalies(), "count", UTC_ZONE))
    assert (told["reason"], told["is_anomaly"], told["bucket_hours"]) == ("too few rows", False, 24)


@pytest.mark.parametrize(
    ("usual", "now", "reason"),
    [
        (0.05, 0.15, "too high"),
        (0.05, 0.06, "as expected"),  # less than two points
        (0.0, 1.0, "too high"),
        (0.0, 0.0, "as expected"),
        (1.0, 0.5, "too low"),
        (0.4, 0.6, "too high"),
        (0.4, 0.45, "as expected"),  # less than a quarter of 0.4
        (0.98, 0.9, "too low"),
    ],
)
def test_shares(usual: float, now: float, reason: str) -> None:
    told = last(judged(shares(lambda n: now if n == LAST else usual), Anomalies(), "share", UTC_ZONE))
    assert told["reason"] == reason
    assert told["expected"] == pytest.approx(usual, abs=1e-3)


def test_a_share_of_nothing_is_none() -> None:
    nothing = shares(lambda _: 0.1).with_columns(
        pl.when(pl.col("hour") < START + (LAST - 30) * HOUR).then(pl.col("value", "rows")).otherwise(0)
    )
    told = last(judged(nothing, Anomalies(), "share", UTC_ZONE))
    assert (told["reason"], told["observed"]) == ("no rows", None)


def mix(of_last: dict[str | None, int], usual: dict[str | None, int]) -> pl.DataFrame:
    rows = [
        ("platform", START + n * HOUR, value, round(rows * wobble(n + 7 * place)))
        for n in range(LAST + 1)
        for place, (value, rows) in enumerate((of_last if n == LAST else usual).items())
    ]
    schema = {"series": pl.String(), "hour": INSTANT, "category": pl.String(), "value": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


USUAL: dict[str | None, int] = {"web": 3_000, "ios": 1_500, "android": 500, None: 100}


@pytest.mark.parametrize(
    ("of_last", "is_one"),
    [
        (USUAL, False),
        ({value: rows // 3 for value, rows in USUAL.items()}, False),  # fewer, in the same shares
        ({**USUAL, "android": 450}, False),
        ({**USUAL, "web": 0}, True),
        ({"unknown": 5_000}, True),
        ({**USUAL, "new": 1_000}, True),
        ({**USUAL, None: 2_000}, True),
    ],
)
def test_another_distribution(of_last: dict[str | None, int], *, is_one: bool) -> None:
    told = last(shifts(mix(of_last, USUAL), Anomalies(), UTC_ZONE))
    assert told["reason"] == ("another distribution" if is_one else "as expected")
    assert 0 <= told["observed"] <= 1  # type: ignore[operator]


def test_the_distance_is_that_of_jensen_and_shannon() -> None:
    """Of (1, 0) and (1/2, 1/2), to base 2: √(1/2 (log₂ 4/3 + 1/2 log₂ 2/3 + 1/2))."""
    told = last(shifts(mix({"a": 5_000}, {"a": 2_500, "b": 2_500}), Anomalies(), UTC_ZONE))
    by_hand = math.sqrt((math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2)
    assert told["observed"] == pytest.approx(by_hand, abs=0.005)


def test_a_strange_hour_is_not_what_the_next_week_is_compared_with() -> None:
    usual = mix(USUAL, USUAL)
    strange = mix({"unknown": 5_000}, USUAL).filter(pl.col("hour") == START + LAST * HOUR)
    week_before = strange.with_columns(pl.col("hour") - WEEK * HOUR)
    told = shifts(
        pl.concat([usual.filter(pl.col("hour") != START + (LAST - WEEK) * HOUR), week_before]), Anomalies(), UTC_ZONE
    )
    assert anomalies(told) == [LAST - WEEK]


def test_thresholds_are_fields() -> None:
    halved = counts(lambda n: traffic(n) // (2 if n == LAST else 1))
    assert last(judged(halved, Anomalies(), "count", UTC_ZONE))["is_anomaly"]
    assert not last(judged(halved, Anomalies(least_change=0.6), "count", UTC_ZONE))["is_anomaly"]
    assert last(judged(halved, Anomalies(history="6w"), "count", UTC_ZONE))["reason"] == "not enough history"


@pytest.mark.parametrize(
    ("wrong", "names"),
    [({"buckets": (3, 1)}, "buckets"), ({"history": "3d"}, "history"), ({"pooled_over": "5m"}, "pooled_over")],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, object], names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        Anomalies.model_validate(wrong)
