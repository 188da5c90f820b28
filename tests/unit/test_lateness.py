"""What share of a window is still to come, worked out by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from platform_assets.semantics.lateness import share_still_expected

START = datetime(2026, 1, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
INSTANT = pl.Datetime("us", "UTC")


def arrivals(*rows: tuple[float, float, int]) -> pl.DataFrame:
    """(hour of the events, hours later that they came, how many)."""
    return pl.DataFrame(
        [(START + hour * HOUR, START + (hour + later) * HOUR, events) for hour, later, events in rows],
        schema={"event_hour": INSTANT, "ingestion_hour": INSTANT, "events": pl.Int64},
        orient="row",
    )


def days(*numbers: int) -> list[tuple[datetime, datetime]]:
    return [(START + n * DAY, START + (n + 1) * DAY) for n in numbers]


TWO_DAYS = arrivals(
    (10, 0, 60),  # at once
    (23, 1, 20),  # in the hour after the day's end
    (23, 3, 10),  # in the third hour after it
    (12, 24 * 3, 10),  # three days later: 60 hours after the day's end
    (24 + 10, 0, 100),
)
"""The first day has 100 events, of which 40 came after its end; the second has 100, and all of them came at once."""


@pytest.mark.parametrize(
    ("age", "share"),
    [
        (timedelta(0), 40 / 200),
        (HOUR, 20 / 200),
        (2 * HOUR, 20 / 200),
        (3 * HOUR, 10 / 200),
        (60 * HOUR, 10 / 200),
        (61 * HOUR, 0.0),
        (-13 * HOUR, 40 / 200),  # at 11 o'clock: what came by then is all that came at ten
        (-14 * HOUR, 200 / 200),  # at ten
    ],
)
def test_past_windows_at_the_same_age(age: timedelta, share: float) -> None:
    assert share_still_expected(TWO_DAYS, days(0, 1), age) == pytest.approx(share)


def test_an_hour_that_has_not_passed_counts_as_still_to_come() -> None:
    assert share_still_expected(TWO_DAYS, days(0), timedelta(minutes=59)) == pytest.approx(0.4)
    assert share_still_expected(TWO_DAYS, days(0), timedelta(minutes=60)) == pytest.approx(0.2)


def test_only_the_windows_asked_for_tell() -> None:
    assert share_still_expected(TWO_DAYS, days(0), timedelta(0)) == pytest.approx(0.4)
    assert share_still_expected(TWO_DAYS, days(1), timedelta(0)) == 0.0


def test_without_a_past_nothing_is_told() -> None:
    assert share_still_expected(TWO_DAYS, [], HOUR) is None
    assert share_still_expected(TWO_DAYS, days(5, 6), HOUR) is None
    assert share_still_expected(arrivals(), days(0), HOUR) is None


def test_an_event_that_gave_way_to_an_earlier_arrival_is_not_counted() -> None:
    """Counts are signed: what left silver again takes itself back."""
    moved = pl.concat([TWO_DAYS, arrivals((12, 24 * 3, -10), (12, 0, 10))])
    assert share_still_expected(moved, days(0), 3 * HOUR) == 0.0
