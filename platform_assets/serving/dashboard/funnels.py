"""*Funnels*: how far people get, where they stop, how long they take; and funnels built on the fly."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from platform_assets.gold.metric_numbers import own_metrics
from platform_assets.semantics.funnels import Funnel
from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, explorer, filters
from platform_assets.serving.dashboard.funnel_steps import TOGETHER, draw_steps, times
from platform_assets.serving.dashboard.layout import Figure, Nothing, beginning, figures, page, section, share, whole
from platform_assets.serving.dashboard.source import Source
from platform_assets.table import Table

_ALL, _EACH = "*all", "*each"
_SHOWN = {_ALL: "All together", _EACH: "Each apart"}


def show() -> None:
    """The page."""
    page("Funnels", "How far people get through the steps, where they stop, and how long they take.", _body)


def _body(source: Source) -> None:
    view = filters.switch(
        "Funnel", ["defined", "explore"], "view", named={"defined": "Defined", "explore": "Build one"}.__getitem__
    )
    if view == "explore":
        explorer.body(source)
        return
    offered = questions.metric_tables(source.catalog, "funnels")
    with st.container(horizontal=True):
        chosen = filters.one_of("Name", list(offered), "funnel", named=filters.readable)
        first, last = filters.days(source)
        table = offered[chosen]
        values = questions.breakdowns(source.catalog, table, first, last)
        dimension = told_by(table)
        options = [_ALL, _EACH, *(values if dimension is None else ())]
        shown = filters.one_of("Break down", options, "of", named=lambda value: _SHOWN.get(value, value))
        people = {} if dimension is None else filters.people(source, first, last, [dimension])
    st.caption(f"{beginning(table.description)} People count on the day of their first step, once on each.")
    filters.of_everybody(
        f"this funnel is told by {dimension or 'none of these'} only. *Build one* counts it from the events; or "
        "declare one with such a `breakdown` (docs/metrics.md).",
        people,
    )
    only = [*people.values(), *([] if shown in _SHOWN else [shown])]
    found = _of(questions.funnel(source.catalog, table, first, last), only)
    if found.is_empty():
        msg = "Nobody entered this funnel in these days: choose other days, or fewer filters."
        raise Nothing(msg)
    whole_funnel = together(found)
    by_day = _of(questions.funnel_by_day(source.catalog, table, first, last), only)
    _figures(whole_funnel, by_day)
    drawn, order = (found, values) if shown == _EACH else (whole_funnel, [TOGETHER])
    with section("Steps", "People at each step, and their share of those who entered."):
        draw_steps(drawn, order)
    with section("Time from the step before", "On average over everybody who took the step."):
        times(drawn, "mean_seconds", "Mean")
    with section("Conversion by day of entry", "Share of those who entered on the day who got to the end."):
        _by_day(source, by_day, values if shown == _EACH else None)


def told_by(table: Table) -> str | None:
    """The dimension that the breakdown of a funnel's table is; None where it is something else, or nothing."""
    for metric in own_metrics().metrics:
        if metric.table_name == table.name and isinstance(metric.specification, Funnel):
            breakdown = metric.specification.breakdown
            by = () if breakdown is None else breakdown.properties
            return next((name for name, column in questions.FACT_COLUMNS.items() if by == (column,)), None)
    return None


def _of(found: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    """The rows of some breakdowns; all of them where none is named."""
    return found.filter(pl.col("breakdown").is_in(values)) if values else found


def together(found: pl.DataFrame) -> pl.DataFrame:
    """The rows of `questions.funnel` over all its breakdowns; of funnels that tell a person in one of them."""
    took = pl.col("mean_seconds").is_not_null() * pl.col("persons")
    summed = found.group_by("step", maintain_order=True).agg(
        pl.col("name").first(),
        pl.col("persons").sum(),
        mean_seconds=(pl.col("mean_seconds") * pl.col("persons")).sum() / took.sum(),
        timed=took.sum(),
    )
    return (
        summed.sort("step")
        .with_columns(
            breakdown=pl.lit(TOGETHER),
            from_first=pl.col("persons") / pl.col("persons").first(),
            from_previous=(pl.col("persons") / pl.col("persons").shift(1)).fill_null(1.0),
            mean_seconds=pl.when(pl.col("timed") > 0).then("mean_seconds"),
        )
        .select(found.columns)
    )


def _figures(found: pl.DataFrame, by_day: pl.DataFrame) -> None:
    entered, ended = found.row(0, named=True), found.row(-1, named=True)
    worst = found.slice(1).sort("from_previous").row(0, named=True)
    state = next((state for state in ("open", "closed") if (by_day["state"] == state).any()), "final")
    explained = "Open: people who entered may still go on; of their days, some have not ended."
    figures(
        [
            Figure("Entered", whole(entered["persons"]), state=state),
            Figure("Got to the end", whole(ended["persons"]), state=state),
            Figure("Conversion", share(ended["from_first"]), state=state, explained=explained),
            Figure(
                "Most are lost before",
                str(worst["name"]),
                against=f"{share(1 - worst['from_previous'])} stop there",
                explained="The step that the least share of those at the step before it took.",
            ),
        ]
    )


def _by_day(source: Source, by_day: pl.DataFrame, order: list[str] | None) -> None:
    if order is None:
        by_day = (
            by_day.group_by("day", maintain_order=True)
            .agg(pl.col("entered", "converted").sum(), pl.col("state").first())
            .with_columns(breakdown=pl.lit(TOGETHER), share=pl.col("converted") / pl.col("entered"))
        )
    shown = order or [TOGETHER]
    drawn = charts.clocked(by_day.drop_nulls("share"), source.zone, "day")
    charts.draw(charts.lines(drawn, "share", "conversion", "breakdown", shown, number=".0%"), "Conversion by day", 240)
