"""Funnels on the fly: steps, order, window and breakdown as people choose them."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import streamlit as st
from pydantic import ValidationError

from platform_assets.semantics.funnels import Funnel
from platform_assets.serving import questions
from platform_assets.serving.dashboard import filters
from platform_assets.serving.dashboard.funnel_steps import TOGETHER, draw_steps, times
from platform_assets.serving.dashboard.layout import Figure, Nothing, duration, figures, plain, section, share, whole
from platform_assets.serving.dashboard.source import Source

_WINDOWS = {"1h": "1 hour", "1d": "1 day", "7d": "7 days", "14d": "14 days", "30d": "30 days"}
_ORDERS = {"ordered": "In order", "strict": "One right after another", "unordered": "In any order"}
_MOST_STEPS = 8
_FIRST_STEPS = ("product_viewed", "checkout_started", "order_completed")


def body(source: Source) -> None:
    """The widgets, and the answer to what they say."""
    st.caption("Choose the steps in their order. Each person counts once, with the attempt that got furthest.")
    with st.container(horizontal=True):
        first, last = filters.days(source, default="7d", longest=28)
        people = filters.people(source, first, last)
    asked, split = _asked(source, first, last)
    only = {questions.FACT_COLUMNS[dimension]: value for dimension, value in people.items()}
    found = questions.explored(source.catalog, asked, first, last, source.zone, only)
    if found.is_empty() or not found["persons"].sum():
        msg = "Nobody took the first step in these days: choose other days, another first step, or fewer filters."
        raise Nothing(msg)
    order = [TOGETHER]
    if split:
        found = found.with_columns(pl.col("breakdown").cast(pl.String))
        order = found.filter(step=1).sort("persons", descending=True)["breakdown"].to_list()
    else:
        found = found.with_columns(breakdown=pl.lit(TOGETHER))
    _figures(found)
    with section("Steps", "People at each step, and their share of those who entered."):
        draw_steps(found, order)
    with section("Time from the step before", "Half of the people were faster than this."):
        times(found, "p50_seconds", "Median")


def _asked(source: Source, first: date, last: date) -> tuple[Funnel, bool]:
    names = questions.event_names(source.catalog, first, last)
    chosen = filters.some_of("Steps, in order", names, "steps", _FIRST_STEPS, _MOST_STEPS)
    with st.container(horizontal=True):
        window = filters.one_of("Within", list(_WINDOWS), "within", named=_WINDOWS.__getitem__, default="7d")
        order = filters.one_of("Steps are taken", list(_ORDERS), "order", named=_ORDERS.__getitem__)
        by = filters.one_of(
            "Break down by",
            ["all", *questions.FACT_COLUMNS],
            "break",
            named=lambda n: "Nothing" if n == "all" else n.capitalize(),
        )
    if len(chosen) < 2:
        msg = "Choose at least two steps."
        raise Nothing(msg)
    said: dict[str, Any] = {"steps": [{"event": name} for name in chosen], "window": window, "order": order}
    if by != "all":
        said["breakdown"] = {"properties": [questions.FACT_COLUMNS[by]], "limit": 6}
    try:
        return Funnel.model_validate(said), by != "all"
    except ValidationError as error:
        msg = "; ".join(plain(wrong["msg"]) for wrong in error.errors(include_url=False))
        raise Nothing(msg) from error


def _figures(found: pl.DataFrame) -> None:
    persons = found.group_by("step").agg(pl.col("persons").sum()).sort("step")["persons"]
    entered, ended = int(persons[0]), int(persons[-1])
    slowest = found.drop_nulls("p50_seconds").sort("p50_seconds", descending=True)
    shown = [
        Figure("Entered", whole(entered), state="open"),
        Figure("Got to the end", whole(ended), state="open"),
        Figure("Conversion", share(ended / entered), state="open", explained="Read from the events just now."),
    ]
    if not slowest.is_empty():
        row = slowest.row(0, named=True)
        shown.append(Figure("Slowest step", duration(row["p50_seconds"]), against=f"to {row['name']}"))
    figures(shown)
