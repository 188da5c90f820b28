"""*Funnels*: how far people get, where they stop, how long they take; and funnels built on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from platform_assets.gold.metric_files import Metric
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
        asked = specification(table, source.metrics)
        dimension = told_by(asked)
        options = [*((_ALL, _EACH) if adds_up(asked) else (_EACH,)), *(values if dimension is None else ())]
        shown = filters.one_of("Break down", options, "of", named=lambda value: _SHOWN.get(value, value))
        people = {} if dimension is None else filters.people(source, first, last, [dimension])
    st.caption(f"{beginning(table.description)} People count on the day of their first step, once on each.")
    filters.of_everybody(
        f"this funnel is told by {dimension or 'none of these'} only. *Build one* counts it from the events; or "
        "declare one with such a `breakdown` (docs/metrics.md).",
        people,
    )
    only = [*people.values(), *([] if shown in _SHOWN else [shown])]
    found = _of(questions.funnel(source.catalog, table, asked, first, last), only)
    if not found["persons"].sum():
        msg = "Nobody entered this funnel in these days: choose other days, or fewer filters."
        raise Nothing(msg)
    whole_funnel = together(found, asked)
    by_day = _of(questions.funnel_by_day(source.catalog, table, first, last), only)
    if adds_up(asked) or found["breakdown"].n_unique() == 1:
        _figures(whole_funnel, by_day, asked)
    else:
        st.caption("A person counts in each value that they had, so there are no figures of all: choose one.")
    drawn, order = (found, values) if shown == _EACH else (whole_funnel, [TOGETHER])
    with section("Steps", "People at each step, and their share of those who entered."):
        draw_steps(drawn, order)
    with section("Time from the step before", "On average over everybody who took the step."):
        times(drawn, "mean_seconds", "Mean")
    with section("Conversion by day of entry", "Share of those who entered on the day who got to the end."):
        _by_day(source, by_day, values if shown == _EACH else None)


def specification(table: Table, metrics: Sequence[Metric]) -> Funnel:
    """The funnel that a table holds.

    Args:
        table: The table.
        metrics: What the files of metrics say.

    Raises:
        KeyError: None of them declares it.
    """
    declared = ((metric.table_name, metric.specification) for metric in metrics)
    return {name: said for name, said in declared if isinstance(said, Funnel)}[table.name]


def told_by(asked: Funnel) -> str | None:
    """The dimension that the breakdown of a funnel is; None where it is something else, or nothing."""
    by = () if asked.breakdown is None else asked.breakdown.properties
    return next((name for name, column in questions.FACT_COLUMNS.items() if by == (column,)), None)


def adds_up(asked: Funnel) -> bool:
    """Whether a person is in one breakdown of a funnel at most, so that all of them together are so many people."""
    return asked.breakdown is None or asked.breakdown.attribution in {"first", "last"}


def _of(found: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    """The rows of some breakdowns; all of them where none is named."""
    return found.filter(pl.col("breakdown").is_in(values)) if values else found


def together(found: pl.DataFrame, asked: Funnel) -> pl.DataFrame:
    """The rows of `questions.funnel` over all its breakdowns; of funnels that tell a person in one of them."""
    took = pl.col("mean_seconds").is_not_null() * pl.col("persons")
    summed = found.group_by("step", maintain_order=True).agg(
        pl.col("name").first(),
        pl.col("persons").sum(),
        mean_seconds=(pl.col("mean_seconds") * pl.col("persons")).sum() / took.sum(),
        timed=took.sum(),
    )
    told = summed.with_columns(
        breakdown=pl.lit(TOGETHER), mean_seconds=pl.when(pl.col("timed") > 0).then("mean_seconds")
    )
    return questions.with_shares(told, asked).select(found.columns)


def most_lost(found: pl.DataFrame, asked: Funnel) -> dict[str, Any] | None:
    """The required step that the least share took of those at the step before it; None of a funnel of one step."""
    optional = [k for k, step in enumerate(asked.steps, 1) if step.optional]
    later = found.filter(pl.col("step") > 1, ~pl.col("step").is_in(optional)).drop_nulls("from_previous")
    return next(later.sort("from_previous", "step").iter_rows(named=True), None)


def _figures(found: pl.DataFrame, by_day: pl.DataFrame, asked: Funnel) -> None:
    entered, ended = found.row(0, named=True), found.row(-1, named=True)
    worst = most_lost(found, asked)
    state = next((state for state in ("open", "closed") if (by_day["state"] == state).any()), "final")
    explained = "Open: people who entered may still go on; of their days, some have not ended."
    shown = [
        Figure("Entered", whole(entered["persons"]), state=state),
        Figure("Got to the end", whole(ended["persons"]), state=state),
        Figure("Conversion", share(ended["from_first"]), state=state, explained=explained),
    ]
    if worst is not None:
        shown.append(
            Figure(
                "Most are lost before",
                str(worst["name"]),
                against=f"{share(1 - worst['from_previous'])} stop there",
                explained="The step that the least share of those at the step before it took.",
            )
        )
    figures(shown)


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
