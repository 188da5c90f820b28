"""The steps of a funnel, as bars and as times: of those defined, and of those built on the fly."""

from __future__ import annotations

import polars as pl
import streamlit as st

from platform_assets.serving.dashboard import charts, comparisons
from platform_assets.serving.dashboard.layout import duration

TOGETHER = "everybody"
"""What the one series is called where nothing is broken down."""


def draw_steps(found: pl.DataFrame, order: list[str]) -> None:
    """The steps as bars, those of each breakdown side by side."""
    shown = [value for value in order if value in found["breakdown"]]
    drawn = found.with_columns(label=pl.format("{}. {}", "step", "name"))
    height = 40 + found["step"].n_unique() * max(44, 26 * len(shown))
    charts.draw(comparisons.steps(drawn, "breakdown", shown), "People by step", height + 30 * (len(shown) > 1))


def times(found: pl.DataFrame, column: str, title: str) -> None:
    """How long each step took, as a table: a column a breakdown."""
    breakdowns, heading = found["breakdown"].unique().sort().to_list(), "step"
    while heading in breakdowns:  # a breakdown may be called anything
        heading += " "
    taken = found.filter(pl.col("step") > 1).select(
        "breakdown",
        pl.format("{}. {}", "step", "name").alias(heading),
        lasted=pl.col(column).map_elements(duration, return_dtype=pl.String, skip_nulls=False),
    )
    if len(breakdowns) == 1:
        told = taken.select(heading, pl.col("lasted").alias(title.lower()))
    else:
        told = taken.pivot("breakdown", index=heading, values="lasted", sort_columns=True)
    st.dataframe(told, hide_index=True)
