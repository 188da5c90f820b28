"""*Revenue*: what was sold and refunded, by day, and by when buyers bought first."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import streamlit as st

from partitions import Window
from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, filters
from platform_assets.serving.dashboard.layout import Figure, Nothing, figures, page, section, share, whole
from platform_assets.serving.dashboard.source import Source

_ANONYMOUS = "nobody named"
_MOST_COHORTS = 6


def show() -> None:
    """The page."""
    page("Revenue", "What was sold and refunded, by the shop's database. Currencies are never added up.", _body)


def _body(source: Source) -> None:
    with st.container(horizontal=True):
        first, last = filters.days(source)
        held = questions.currencies(source.catalog, first, last)
        if not held:
            msg = "No order was made in these days: choose other days, or see on *Health* whether changes come in."
            raise Nothing(msg)
        currency = filters.one_of("Currency", held, "currency")
    filters.of_everybody(
        "revenue is told by currency and by the month of the first purchase. By the buyers' country or plan it is a "
        "query: docs/serving.md."
    )
    found = questions.revenue(source.catalog, first, last).filter(pl.col("currency") == currency)
    state = questions.revenue_state(source.catalog, Window.of_days(first, last, source.zone))
    _figures(found, currency, state)
    with section("By day", "Refunds hang down on the day that they were made. The database may correct any day later."):
        tall = found.unpivot(["sales", "refunds"], index="day", variable_name="of", value_name="amount")
        tall = charts.clocked(tall.with_columns(pl.col("amount").cast(pl.Float64)), source.zone, "day")
        charts.draw(charts.stacked(tall, "amount", currency, "of", ["sales", "refunds"], ",.0f"), "Revenue by day")
    with section(
        "By month of the first purchase", "Net revenue of each month: from new buyers, and from earlier ones."
    ):
        by_cohort = questions.revenue_by_cohort(source.catalog, currency, first, last)
        told = cohorts_named(by_cohort)
        order = told["cohort"].unique(maintain_order=True).to_list()
        drawn = charts.clocked(told.rename({"month": "day"}), source.zone, "day")
        chart = charts.stacked(drawn, "net", f"net {currency}", "cohort", order, ",.0f", form="%b %Y")
        charts.draw(chart, "Net revenue by month and cohort")


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
