"""*Experiments*: what a variant changed, how sure that is, and whether the split can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, comparisons, filters
from platform_assets.serving.dashboard.layout import (
    Figure,
    Nothing,
    beginning,
    day_name,
    figures,
    page,
    plain,
    section,
    share,
    whole,
)
from platform_assets.serving.dashboard.source import Source

_DRAWN = ("lift", "lift_low", "lift_high")


def show() -> None:
    """The page."""
    page("Experiments", "What a variant changed against control, and how sure that is.", _body)


def _body(source: Source) -> None:
    offered = questions.metric_tables(source.catalog, "experiment_results")
    with st.container(horizontal=True):
        chosen = filters.one_of("Experiment", list(offered), "experiment", named=filters.readable)
        _, last = filters.days(source)
    st.caption(beginning(offered[chosen].description))
    filters.of_everybody(
        "results have no slices. To look at some people only, declare an experiment whose `exposure` has `where` "
        "(docs/metrics.md); it is then offered here."
    )
    seen = pl.sum_horizontal("units", "control_units", "multiple_units") > 0
    rows = questions.experiment(source.catalog, offered[chosen], last).filter(seen.any().over("day"))
    if rows.is_empty():
        msg = f"Nobody was exposed by {last} yet: results come a day after the first exposure."
        raise Nothing(msg)
    newest = rows.filter(pl.col("day") == pl.col("day").max())
    _figures(newest)
    _warnings(newest)
    told = _named(newest)
    known = told.drop_nulls("lift")
    if known.is_empty():
        return
    with section(
        "Lift against control",
        "Thick: the 95 % interval, to be read once, at the end. Thin: always valid, may be looked at every day. "
        "Blue where the thin one does not hold zero.",
    ):
        charts.draw(comparisons.intervals(known), "Lift with intervals by metric", 90 + 46 * known.height)
    with section("As days went by", "The lift and its 95 % interval as of each day."):
        by_day = charts.clocked(_named(rows).drop_nulls("lift"), source.zone, "day")
        charts.draw(comparisons.lift_by_day(by_day), "Lift by day")
    with section("Figures"):
        _table(told)


def _figures(newest: pl.DataFrame) -> None:
    row = newest.row(0, named=True)
    day, state = day_name(row["day"]), row["state"]
    units = newest.unique("variant", maintain_order=True)
    shown = [Figure(f"In control, {day}", whole(row["control_units"]), state=state)]
    shown += [Figure(f"In {r['variant']}, {day}", whole(r["units"]), state=state) for r in units.iter_rows(named=True)]
    shown.append(
        Figure("In several variants", whole(row["multiple_units"]), state=state, explained="They are left out.")
    )
    p_value = row["sample_ratio_p_value"]
    shown.append(
        Figure(
            "Sample ratio",
            "Alarm" if row["is_sample_ratio_alarm"] else "As planned",
            against="–" if p_value is None else f"p = {p_value:.3g}",
            state=state,
            explained="Whether people were split as planned; p below 0.001 is an alarm, and hides the results.",
        )
    )
    figures(shown)


def _warnings(newest: pl.DataFrame) -> None:
    if newest["is_sample_ratio_alarm"].any():
        st.error(
            "People were not split as planned, so these results would mislead, and are hidden. Look for what keeps "
            "one variant from being exposed: redirects, crashes, bots.",
            icon=":material/error:",
        )
    for problem in newest["problem"].drop_nulls().unique().sort():
        st.warning(f"Some figures are missing: {plain(problem)}", icon=":material/warning:")


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with ``name``: the metric, and the variant where there are several."""
    several = rows["variant"].n_unique() > 1
    name = pl.format("{} · {}", "metric", "variant") if several else pl.col("metric")
    return rows.with_columns(name=name)


def _table(told: pl.DataFrame) -> None:
    st.dataframe([_figures_of(row) for row in told.iter_rows(named=True)], hide_index=True)


def _figures_of(row: Mapping[str, Any]) -> dict[str, str]:
    def between(low: str, high: str) -> str:
        return "–" if row[low] is None else f"{row[low]:+.1%} to {row[high]:+.1%}"

    def number(name: str, form: str) -> str:
        return "–" if row[name] is None else f"{row[name]:{form}}"

    return {
        "metric": row["name"],
        "control": number("control_mean", ",.4g"),
        "variant": number("mean", ",.4g"),
        "lift": number("lift", "+.1%"),
        "95 %": between("lift_low", "lift_high"),
        "always valid": between("sequential_lift_low", "sequential_lift_high"),
        "with CUPED": between("cuped_lift_low", "cuped_lift_high"),
        "p": probability(row["p_value"]),
        "people": share(1.0, 0) if row["units"] is None else whole(row["units"]),
    }


def probability(p_value: float | None) -> str:
    """A p-value for people: never nought."""
    if p_value is None:
        return "–"
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
