"""What is counted of a table that is watched, and what a table may declare to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.quality.anomalies import anomaly_checks, measures_of
from platform_assets.quality.profiles import ALL_ROWS, MOST_VALUES, TABLE, of_rows
from platform_assets.table import TIMESTAMP, Column, Table, Watch, data_dictionary, ui_metadata
from platform_assets.tables import TABLES, WATCHED

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
WATCH = Watch(by="shop", distinct=("buyer",), nulls=("plan", "buyer"), values=("plan",))
SALES = Table(
    name="gold/sales",
    description="What was sold.",
    grain="sale",
    key=("sold_at",),
    columns=(
        Column("sold_at", TIMESTAMP, "When."),
        Column("shop", pl.String(), "Where."),
        Column("buyer", pl.String(), "Who.", nullable=True),
        Column("plan", pl.String(), "The buyer's plan.", nullable=True),
        Column("pieces", pl.Int64(), "How many."),
        Column("day", pl.Date(), "UTC date of `sold_at`."),
    ),
    partition_by=("day",),
    window_on="sold_at",
    partitions="hour",
    cluster_by=("sold_at",),
    update="rebuild",
    service_level=HOUR,
    stats=("sold_at",),
    watch=WATCH,
)
Sale = tuple[int, str, str | None, str | None]
"""Minute, shop, buyer, plan."""


def sales(*rows: Sale) -> pl.LazyFrame:
    """Without the columns that are not watched: they are not read."""
    made = [(START + minute * HOUR / 60, *others) for minute, *others in rows]
    schema = {name: SALES.schema[name] for name in ("sold_at", "shop", "buyer", "plan")}
    return pl.LazyFrame(made, schema=schema, orient="row")


def told(table: Table, rows: pl.LazyFrame) -> dict[tuple[int, str, str, str | None], tuple[int, int]]:
    """How many, and of how many, by number of hour, measure, subject and value."""
    return {
        ((row["hour"] - START) // HOUR, row["measure"], row["subject"], row["value"]): (row["rows"], row["of_rows"])
        for row in of_rows(table, rows).iter_rows(named=True)
    }


def test_hours_are_counted_by_what_is_watched() -> None:
    rows = sales(
        (0, "north", "ann", "free"), (59, "south", "ann", None), (59, "south", None, None), (60, "north", "ben", "plus")
    )
    assert told(SALES, rows) == {
        (0, "rows", "north", None): (1, 3),
        (0, "rows", "south", None): (2, 3),
        (0, "distinct", "buyer", None): (1, 3),
        (0, "null", "plan", None): (2, 3),
        (0, "null", "buyer", None): (1, 3),
        (0, "value", "plan", "free"): (1, 1),
        (1, "rows", "north", None): (1, 1),
        (1, "distinct", "buyer", None): (1, 1),
        (1, "null", "plan", None): (0, 1),
        (1, "null", "buyer", None): (0, 1),
        (1, "value", "plan", "plus"): (1, 1),
    }


def test_where_nothing_is_named_rows_are_counted_together() -> None:
    rows = sales((0, "north", "ann", "free"), (1, "south", "ann", "free"))
    assert told(replace(SALES, watch=Watch()), rows) == {(0, "rows", ALL_ROWS, None): (2, 2)}
    assert told(replace(SALES, watch=Watch(outcomes=True)), rows) == {}, "they are counted as they arrive"


def test_no_rows_have_no_profile() -> None:
    assert of_rows(SALES, sales()).schema == TABLE.schema
    assert told(SALES, sales()) == {}


def test_a_table_that_is_not_watched_is_not_profiled() -> None:
    with pytest.raises(ValueError, match="gold/sales: nothing of it is profiled, because it has no watch"):
        of_rows(replace(SALES, watch=None), sales())


@given(plans=st.lists(st.one_of(st.none(), st.integers(0, 2 * MOST_VALUES).map(str)), max_size=400))
def test_each_row_counts_once_among_values_and_nulls(plans: list[str | None]) -> None:
    counts = told(SALES, sales(*((n % 120, "north", "ann", plan) for n, plan in enumerate(plans))))
    for hour in (0, 1):
        rows = sum(number % 120 // 60 == hour for number in range(len(plans)))
        of_column = {key: count for key, (count, _) in counts.items() if key[0] == hour and key[2] == "plan"}
        assert sum(of_column.values()) == rows
        assert sum(measure == "value" for _, measure, _, _ in of_column) <= MOST_VALUES


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (lambda: replace(SALES, watch=Watch(values=("pieces",))), r"\['pieces'\], which are no columns of text"),
        (lambda: replace(SALES, watch=Watch(values=("price",))), r"\['price'\], which are no columns of text"),
        (lambda: replace(SALES, watch=Watch(nulls=("shop",))), r"\['shop'\], which are no columns that may be null"),
        (lambda: replace(SALES, watch=Watch(nulls=("price",))), r"\['price'\], which are no columns that may be null"),
        (lambda: replace(SALES, watch=Watch(distinct=("price",))), r"\['price'\], which are no columns"),
        (lambda: replace(SALES, watch=Watch(by="plan")), r"\['plan'\], which may be null"),
        (lambda: replace(SALES, partitions="day"), "its partitions are 'day'"),
        (lambda: replace(SALES, update="merge"), "its update is 'merge'"),
        (lambda: replace(SALES, window_on="day", stats=("day",)), "its window is on 'day'"),
        (lambda: replace(SALES, stats=()), "name it in stats"),
    ],
)
def test_a_watch_of_what_cannot_be_watched_is_refused(table: Callable[[], Table], says: str) -> None:
    with pytest.raises(ValueError, match=f"table gold/sales: .*{says}"):
        table()


def test_checks_are_made_of_what_a_table_says() -> None:
    assert [check.name for check in anomaly_checks([SALES])] == [
        "volume",
        "distinct_values",
        "null_share",
        "distribution",
    ]
    assert [measure.name for measure in measures_of(Watch())] == ["volume"]
    assert anomaly_checks([replace(SALES, watch=None)]) == ()
    assert {check.table.name for check in anomaly_checks(TABLES)} == {table.name for table in WATCHED}


def test_what_is_watched_stands_with_the_table() -> None:
    text = "rows by shop; distinct values of buyer; nulls of plan, buyer; distribution of plan"
    assert ui_metadata(SALES)["watched"].value == text
    assert f"- **Watched**, by the hour: {text}\n" in data_dictionary([SALES])
    assert "watched" not in ui_metadata(replace(SALES, watch=None))
