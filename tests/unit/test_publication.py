"""What a gold table's rows are as numbers: names, slices, windows, exact values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from partitions import Window
from platform_assets.gold import active_users
from platform_assets.gold.published_numbers import Explanation, shown, signed
from platform_assets.publication import Ends, Metric, Publication, Reach, settled, slice_text, slice_words
from platform_assets.table import MONEY, TIMESTAMP, Column, Table

BERLIN = ZoneInfo("Europe/Berlin")


def a_table(*columns: Column) -> Table:
    return Table(
        name="gold/sales",
        description="",
        grain="",
        key=("day",),
        columns=(Column("day", pl.Date(), ""), *columns),
        partition_by=("day",),
        window_on="day",
        partitions="day",
        cluster_by=("day",),
        update="rebuild",
        service_level=timedelta(0),
        stats=("day",),
        version=3,
    )


SALES = a_table(
    Column("platform", pl.String(), ""), Column("revenue", MONEY, ""), Column("share", pl.Float64(), "", nullable=True)
)


def publication(**changes: object) -> Publication:
    told = Publication(SALES, (Metric("revenue"), Metric("share")), ("platform",), watermark=None, definition=None)
    return replace(told, **changes)  # type: ignore[arg-type]


def rows(*given: tuple[date, str | None, str, float | None]) -> pl.LazyFrame:
    frame = pl.DataFrame(
        [(day, platform, Decimal(revenue), share) for day, platform, revenue, share in given],
        schema=SALES.schema,
        orient="row",
    )
    return frame.lazy()


def test_rows_become_numbers_and_money_stays_exact() -> None:
    found = publication().numbers(rows((date(2026, 3, 29), "ios", "12345678901.000001", 1 / 3)), BERLIN)
    told = found.sort("metric").select("metric", "slice", "value", "window_start", "window_end", "definition_version")
    # The day on which the clocks go forward has 23 hours.
    window = (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert told.rows() == [
        ("sales.revenue", "platform=ios", Decimal("12345678901.000001"), *window, "3"),
        ("sales.share", "platform=ios", Decimal("0.333333333"), *window, "3"),
    ]
    assert found.schema["value"] == pl.Decimal(38, 9)


@pytest.mark.parametrize("share", [1e28, -1e300, float("inf"), float("nan")])
def test_a_float_that_no_value_holds_is_not_known_and_hides_no_other(share: float) -> None:
    day = date(2026, 3, 1)
    found = publication().numbers(rows((day, "ios", "1", share), (day, "web", "2", -9e27)), ZoneInfo("UTC"))
    shares = found.filter(metric="sales.share").sort("slice")["value"].to_list()
    assert shares[0] is None
    assert float(shares[1]) == pytest.approx(-9e27)
    assert found.filter(metric="sales.revenue")["value"].sum() == 3


def test_a_number_that_stands_twice_is_refused() -> None:
    twice = rows((date(2026, 3, 29), "ios", "1", None), (date(2026, 3, 29), "web", "2", None))
    with pytest.raises(ValueError, match=r"sales.revenue of 2026-03-29 and slice '' stands more than once"):
        publication(slices=()).numbers(twice, BERLIN)


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"publication of gold/sales: it names \['margin'\]"):
        publication(metrics=(Metric("margin"),))


@pytest.mark.parametrize(
    ("platform", "country", "text"),
    [
        ("ios", "DE", "country=DE,platform=ios"),
        (None, "DE", "country=DE,platform"),
        ("", None, "country,platform="),
        ("a,b=c%", "DE", "country=DE,platform=a%2Cb%3Dc%25"),
    ],
)
def test_a_slice_has_one_text(platform: str | None, country: str | None, text: str) -> None:
    frame = pl.DataFrame({"platform": [platform], "country": [country]}, schema=["platform", "country"])
    frame = frame.with_columns(pl.all().cast(pl.String))
    for order in (("platform", "country"), ("country", "platform")):
        assert frame.select(slice_text(order)).item() == text
    assert frame.select(slice_text(())).item() == ""


def test_metrics_may_be_named_in_the_rows() -> None:
    table = a_table(
        Column("metric", pl.String(), ""), Column("value", pl.Int64(), ""), Column("digest", pl.String(), "")
    )
    frame = pl.DataFrame(
        [(date(2026, 1, 1), "signups", 4, "ab"), (date(2026, 1, 1), "orders", 2, "cd")],
        schema=table.schema,
        orient="row",
    )
    told = Publication(table, (Metric("value"),), named_by="metric", watermark=None, definition="digest")
    found = told.numbers(frame.lazy(), BERLIN).sort("metric").select("metric", "value", "definition_version")
    assert found.rows() == [("orders", 2, "cd"), ("signups", 4, "ab")]


def test_windows_of_each_grain() -> None:
    utc = ZoneInfo("UTC")
    weekly, monthly = publication(grain="week"), publication(grain="month")
    assert weekly.window(date(2026, 1, 5), utc) == Window.of_days(date(2026, 1, 5), date(2026, 1, 11), utc)
    assert monthly.window(date(2026, 2, 1), utc) == Window.of_days(date(2026, 2, 1), date(2026, 2, 28), utc)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert publication(grain="hour").window(noon, utc) == Window.of_hour(noon)

    before = islice(monthly.windows_before(monthly.window(date(2026, 3, 1), utc), utc), 2)
    assert [window.start.date() for window in before] == [date(2026, 2, 1), date(2026, 1, 1)]
    daily = publication()
    before = islice(daily.windows_before(daily.window(date(2026, 3, 30), BERLIN), BERLIN), 2)
    assert list(before) == [daily.window(date(2026, 3, 29), BERLIN), daily.window(date(2026, 3, 28), BERLIN)]


def test_reach_is_counted_in_days_of_the_zone() -> None:
    day = Window.of_days(date(2026, 3, 30), date(2026, 3, 30), BERLIN)
    reached = Reach(before=1, after=2).around(day, BERLIN)
    assert reached == Window.of_days(date(2026, 3, 29), date(2026, 4, 1), BERLIN)
    assert Reach().around(day, BERLIN) == day


def test_a_slice_of_a_dimension_is_said_by_its_name() -> None:
    assert slice_words("dimension=country,value=DE") == "country=DE"
    assert slice_words("currency=EUR,dimension=plan,value=pro") == "currency=EUR, plan=pro"
    assert slice_words("currency=EUR,dimension=plan,value") == "currency=EUR, plan is not known"


def test_the_numbers_of_active_users() -> None:
    names = {metric.column for metric in active_users.PUBLISHES.metrics}
    assert names == {"dau", "wau", "mau", "stickiness"}


@pytest.mark.parametrize(
    ("value", "text"),
    [("0E-9", "0"), ("1200.000000000", "1,200"), ("0.250000000", "0.25"), ("-3.000000000", "-3"), (None, "not known")],
)
def test_values_for_people(value: str | None, text: str) -> None:
    assert shown(None if value is None else Decimal(value)) == text


@pytest.mark.parametrize(("change", "text"), [("1", "+1"), ("-1234.50", "-1,234.5"), ("0", "0")])
def test_changes_for_people(change: str, text: str) -> None:
    assert signed(Decimal(change)) == text


def entries(*given: tuple[str, str | None, list[str]]) -> pl.DataFrame:
    """(value, change, causes), an hour apart."""
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    return pl.DataFrame(
        [
            (Decimal(value), None if change is None else Decimal(change), causes, at + n * timedelta(hours=1))
            for n, (value, change, causes) in enumerate(given)
        ],
        schema={
            "value": pl.Decimal(38, 9),
            "change": pl.Decimal(38, 9),
            "causes": pl.List(pl.String),
            "published_at": TIMESTAMP,
        },
        orient="row",
    ).with_columns(
        is_closed=True,
        is_final=False,
        is_person_final=False,
        expected_late_share=pl.lit(0.012),
        source_versions=pl.lit("{}"),
    )


def test_an_open_window_that_grew_is_one_step() -> None:
    window = Window.of_days(date(2026, 1, 5), date(2026, 1, 5), BERLIN)
    grown = entries(
        ("4", None, ["first publication"]),
        ("5", "1", ["new events"]),
        ("9", "4", ["new events"]),
        ("9", "0", ["finality"]),
        ("8", "-1", ["identity merge"]),
    )
    found = Explanation("active_users.dau", "", window, BERLIN, grown)
    assert found.steps.select("causes", "change", "value", "publications").rows() == [
        (["first publication"], None, 4, 1),
        (["new events"], 5, 9, 2),
        (["finality"], 0, 9, 1),
        (["identity merge"], -1, 8, 1),
    ]
    assert found.sentence == (
        "active_users.dau of 2026-01-05 was first published as 4 (2026-01-05 12:00 UTC), then "
        "+5 for new events (2026-01-05 14:00 UTC); -1 for identity merge (2026-01-05 16:00 UTC): 8 now. "
        "Its window is closed; 1.2% of its events are still expected."
    )


def test_what_never_changed_and_what_never_was() -> None:
    window = Window.of_days(date(2026, 1, 5), date(2026, 1, 5), BERLIN)
    once = Explanation("m", "platform=ios", window, BERLIN, entries(("4", None, ["first publication"])))
    assert once.sentence.startswith("m of 2026-01-05 (platform=ios) was first published as 4 (2026-01-05 12:00 UTC), ")
    assert "has not changed since" in once.sentence
    never = Explanation("m", "", window, BERLIN, entries())
    assert never.sentence == "m of 2026-01-05 was never published."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("platform=ios", "platform=ios"),
        ("plan", "plan is not known"),
        ("dimension=plan,value", "plan is not known"),
        ("dimension=plan,value=pro", "plan=pro"),
        ("breakdown=a%2Cb%253D,step=2", "breakdown=a,b%3D, step=2"),
    ],
)
def test_a_slice_in_words(text: str, words: str) -> None:
    assert slice_words(text) == words


def test_what_is_said_of_a_slice_is_what_its_text_encodes() -> None:
    frame = pl.DataFrame(
        {"page": ["a,b=c%", None, "%2C"], "value": [None, "x", "y"]}, schema_overrides={"value": pl.String}
    )
    told = frame.select(slice_text(("page", "value"))).to_series().to_list()
    assert [slice_words(text) for text in told] == [
        "page=a,b=c%, value is not known",
        "page is not known, value=x",
        "page=%2C, value=y",
    ]


def test_days_have_passed_by_the_clock_of_the_zone_and_in_elapsed_time() -> None:
    def settles(day: date, ahead: int) -> str:
        return f"{settled(day, ahead, BERLIN).astimezone(BERLIN):%Y-%m-%d %H}"

    assert settles(date(2026, 6, 1), 2) == "2026-06-04 00"
    assert settles(date(2026, 10, 24), 1) == "2026-10-26 00", "a day of 25 hours has not passed after 24"
    assert settles(date(2026, 3, 28), 1) == "2026-03-30 01", "nor 24 hours with a day of 23"


def test_rows_of_a_day_may_settle_one_after_another() -> None:
    table = a_table(Column("interval", pl.Int64(), ""), Column("persons", pl.Int64(), ""))
    day = date(2026, 1, 5)
    ends = Ends("interval", lambda day: {k: day + timedelta(days=k) for k in (0, 1)})
    reach = {table.name: Reach(after=9)}
    told = Publication(
        table, (Metric("persons"),), ("interval",), watermark=None, definition=None, reach=reach, ends=ends
    )
    rows = pl.DataFrame([(day, k, 7) for k in (0, 1, 2)], schema=table.schema, orient="row")
    found = told.numbers(rows.lazy(), ZoneInfo("UTC")).sort("slice")["settles_at"].to_list()
    at = [datetime(2026, 1, 6, tzinfo=UTC), datetime(2026, 1, 7, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC)]
    assert found == at, "of one that has no end of its own it is that of all"
    with pytest.raises(ValueError, match="its rows end by 'interval', which is none of its slices"):
        Publication(table, (Metric("persons"),), watermark=None, definition=None, ends=ends)
