"""*Revenue*: what was sold and refunded, by day, and by when buyers bought first."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl
import streamlit as st

from partitions import Window
from platform_assets.gold import revenue, revenue_by_slice
from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, filters
from platform_assets.serving.dashboard.layout import Figure, Nothing, figures, page, plain, section, share, whole
from platform_assets.serving.dashboard.source import Source

_ANONYMOUS = "nobody named"
_MOST_COHORTS = 6
_MOST_VALUES = 8


def show() -> None:
    """The page."""
    page("Revenue", "What was sold and refunded, by the shop's database. Currencies are never added up.", _body)


def _body(source: Source) -> None:
    with st.container(horizontal=True):
        first, last = filters.days(source)
        held = questions.currencies(source.catalog, first, last)
        if not held:
            msg = (
                "No order of these days is computed: choose other days, or see on *Health* whether changes come in. "
                "What came just now follows within minutes."
            )
            raise Nothing(msg)
        currency = filters.one_of("Currency", held, "currency")
        people = filters.people(source, first, last, revenue_by_slice.DIMENSIONS, questions.buyers_values)
    filters.of_everybody("orders are told by the country and the plan of the buyer's account.", people)
    if len(people) > 1:
        msg = "Revenue is told by country or by plan, and not by both together: set one of them to All."
        raise Nothing(msg)
    table = revenue_by_slice.TABLE if people else revenue.TABLE
    state = questions.revenue_state(source.catalog, Window.of_days(first, last, source.zone), table)
    found = questions.revenue(source.catalog, first, last, people).filter(pl.col("currency") == currency)
    if found.is_empty():
        msg = f"No order in {plain(currency)} was made by them in these days: choose other days, or other people."
        raise Nothing(msg)
    _figures(found, currency, state)
    with section("By day", "Refunds hang down on the day that they were made. The database may correct any day later."):
        tall = found.unpivot(["sales", "refunds"], index="day", variable_name="of", value_name="amount")
        tall = charts.clocked(tall.with_columns(pl.col("amount").cast(pl.Float64)), source.zone, "day")
        charts.draw(charts.stacked(tall, "amount", currency, "of", ["sales", "refunds"], ",.0f"), "Revenue by day")
    with section(
        "By month of the first purchase", "Net revenue of each month: from new buyers, and from earlier ones."
    ):
        by_cohort = questions.revenue_by_cohort(source.catalog, currency, first, last, people)
        told = cohorts_named(by_cohort)
        order = told["cohort"].unique(maintain_order=True).to_list()
        drawn = charts.clocked(told.rename({"month": "day"}), source.zone, "day")
        chart = charts.stacked(drawn, "net", f"net {currency}", "cohort", order, ",.0f", form="%b %Y")
        charts.draw(chart, "Net revenue by month and cohort")
    if not people:
        _by_account(source, currency, first, last)


def _by_account(source: Source, currency: str, first: date, last: date) -> None:
    with section(
        "By whose account",
        f"Net revenue by what the buyer's account was at the time; the greatest {_MOST_VALUES}.",
    ):
        columns = st.columns(len(revenue_by_slice.DIMENSIONS))
        for column, dimension in zip(columns, revenue_by_slice.DIMENSIONS, strict=True):
            found = questions.revenue_by(source.catalog, dimension, currency, first, last).head(_MOST_VALUES)
            drawn = found.select("value", pl.col("net").cast(pl.Float64))
            with column:
                st.caption(f"By {dimension}")
                chart = charts.ranked(drawn, "value", "net", f"net {currency}", number=",.0f")
                charts.draw(chart, f"Net revenue by {dimension}", 40 + 28 * drawn.height)


def cohorts_named(found: pl.DataFrame) -> pl.DataFrame:
    """Rows of `questions.revenue_by_cohort` with a ``cohort`` to read: the newest by name, the older ones together."""
    months = found["cohort_month"].drop_nulls().unique().sort(descending=True)
    kept = months.head(_MOST_COHORTS - 2)
    named = (
        pl.when(pl.col("cohort_month").is_null())
        .then(pl.lit(_ANONYMOUS))
        .when(pl.col("cohort_month").is_in(kept.implode()))
        .then(pl.col("cohort_month").dt.strftime("%b %Y"))
        .otherwise(pl.lit("earlier"))
    )
    summed = (
        found.with_columns(cohort=named)
        .group_by("month", "cohort")
        .agg(pl.col("net").sum().cast(pl.Float64), newest=pl.col("cohort_month").max())
    )
    return summed.sort("newest", "month", nulls_last=True).drop("newest")


def _figures(found: pl.DataFrame, currency: str, state: str) -> None:
    sales, refunds, net = (Decimal(found[name].sum() or 0) for name in ("sales", "refunds", "net"))
    orders = int(found["orders"].sum())
    each = sales / orders if orders else None
    returned = float(-refunds / sales) if sales else None
    explained = "A day of the database is closed when its changes have come in; it is never final."
    figures(
        [
            Figure(f"Net, {currency}", money(net), state=state, explained=explained),
            Figure(f"Sales, {currency}", money(sales), state=state),
            Figure("Orders", whole(orders), state=state),
            Figure(f"A sale on average, {currency}", "–" if each is None else f"{each:,.2f}", state=state),
            Figure("Refunded", share(returned), state=state, explained="Share of sales, by amount."),
        ]
    )


def money(amount: Decimal) -> str:
    """An amount for people: whole units from ten thousand on."""
    return f"{amount:,.0f}" if abs(amount) >= 10_000 else f"{amount:,.2f}"
