"""*Retention*: of those who began in a time, how many came back."""

from __future__ import annotations

import polars as pl
import streamlit as st

from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, comparisons, filters
from platform_assets.serving.dashboard.layout import Figure, Nothing, beginning, figures, page, section, share, whole
from platform_assets.serving.dashboard.source import Source

_MOST_COHORTS = 30


def show() -> None:
    """The page."""
    page("Retention", "Of the people who began in a week or month, how many came back later.", _body)


def _body(source: Source) -> None:
    offered = questions.metric_tables(source.catalog, "retention")
    names = sorted(offered, reverse=True)  # by week before by month
    with st.container(horizontal=True):
        chosen = filters.one_of("Retention", names, "retention", named=filters.readable)
        first, last = filters.days(source, default="90d")
    st.caption(beginning(offered[chosen].description))
    filters.of_everybody(
        "a retention has no slices. One of a platform or country is a file of its own, with `where` in `start` and "
        "`returning` (docs/metrics.md); it is then offered here."
    )
    found = questions.retention(source.catalog, offered[chosen], first, last).drop_nulls("cohort_size")
    if found.is_empty():
        msg = "No cohort that began in these days has ended yet: choose more days."
        raise Nothing(msg)
    averaged = average(found)
    _figures(found, averaged)
    with section(
        "Cohorts",
        "A row a cohort, with its size. Grey: it has not ended. Dashed: late events may still change it.",
    ):
        _cells(found)
    if averaged.height > 1:
        with section("All cohorts together", "Of all whose interval has ended; each cohort weighs as its size."):
            drawn = averaged.with_columns(interval=pl.format("interval {}", "interval"))
            charts.draw(
                charts.ranked(drawn, "interval", "share", "came back", number=".0%"),
                "Share that came back, by interval",
                height=40 + 30 * drawn.height,
            )


def average(found: pl.DataFrame) -> pl.DataFrame:
    """All cohorts together, of cells that are complete: ``interval``, ``persons``, ``of`` how many, ``share`` (null
    where that is nobody).
    """
    summed = (
        found.filter("is_complete")
        .group_by("interval")
        .agg(pl.col("persons").sum(), of=pl.col("cohort_size").sum())
        .sort("interval")
    )
    return summed.with_columns(share=pl.when(pl.col("of") > 0).then(pl.col("persons") / pl.col("of")))


def _figures(found: pl.DataFrame, averaged: pl.DataFrame) -> None:
    sizes = found.unique("day")["cohort_size"]
    shown = [
        Figure("Cohorts", whole(len(sizes))),
        Figure("People in them", whole(int(sizes.sum())), explained="A person counts in each cohort they are in."),
    ]
    for row in averaged.filter(pl.col("interval").is_in([1, 2])).iter_rows(named=True):
        states = found.filter("is_complete", interval=row["interval"])["state"]
        explained = f"{row['persons']:,} of {row['of']:,}, of all cohorts whose interval has ended."
        shown.append(
            Figure(
                f"Back in interval {row['interval']}",
                share(row["share"]),
                state=next(state for state in ("open", "closed", "final") if state in states),
                explained=explained,
            )
        )
    figures(shown)


def _cells(found: pl.DataFrame) -> None:
    begun = found["day"].unique().sort()
    days = begun.tail(_MOST_COHORTS)
    if len(begun) > len(days):
        st.caption(f"The newest {len(days)} of {len(begun)} cohorts; choose other days for earlier ones.")
    label = pl.format("{} · {}", pl.col("day").dt.strftime("%-d %b %Y"), charts.grouped("cohort_size"))
    told = found.filter(pl.col("day").is_in(days.implode())).with_columns(cohort=label).sort("day", "interval")
    cohorts = told["cohort"].unique(maintain_order=True).to_list()
    charts.draw(comparisons.cells(told, cohorts), "Share that came back by cohort and interval", 80 + 34 * len(cohorts))
