"""*Why did it change*: what was published, what it became, and because of what."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from platform_assets.gold.published_numbers import Explanation, finality, shown
from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, comparisons, filters
from platform_assets.serving.dashboard.layout import Figure, Nothing, figures, page, section, whole
from platform_assets.serving.dashboard.source import Source

_ORDINARY = frozenset({"first publication", "new events", "finality"})
_CAUSES = ("late events", "identity merge", "dimension change", "definition change", "backfill")
_DEFAULT = "active_users.dau"


def show() -> None:
    """The page."""
    page(
        "Why did it change",
        "Every number that was ever published, each change of it, and its cause. Nothing here is ever overwritten.",
        _body,
    )


def _body(source: Source) -> None:
    with st.container(horizontal=True):
        first, last = filters.days(source)
        metrics = questions.published_metrics(source.catalog, first, last)
        metric = filters.one_of("Number", metrics, "metric", default=_DEFAULT)
        slices = questions.published_slices(source.catalog, metric, first, last)
        sliced = filters.one_of("Slice", slices, "slice", named=lambda text: text or "the total")
    entries = questions.published_values(source.catalog, metric, sliced, first, last)
    told = questions.explanations(entries, source.zone)
    _figures(told)
    with section("One number", "Of the window that was chosen: what was said of it, and when."):
        _one(source, told)
    with section("All windows"):
        st.dataframe(table(told), hide_index=True, height=38 + 35 * min(12, len(told)))
    with section("Restatements of all numbers", "Changes after publication, by the day that they were published on."):
        _restatements(source)


def restated(of: Explanation) -> bool:
    """Whether it changed for another reason than that its window went on."""
    return any(not _ORDINARY.issuperset(causes) for causes in of.entries["causes"].to_list())


def table(told: Sequence[Explanation]) -> pl.DataFrame:
    """A row for each window, the newest first: what it was at first, what it is now, and because of what."""
    rows = []
    for of in reversed(told):
        first, last = of.entries.row(0, named=True), of.entries.row(-1, named=True)
        causes = sorted({cause for told in of.entries["causes"].to_list() for cause in told} - {"first publication"})
        moved = None if None in {first["value"], last["value"]} else last["value"] - first["value"]
        rows.append(
            {
                "window": _window(of),
                "first said": shown(first["value"]),
                "now": shown(last["value"]),
                "change": "" if not moved else f"{'+' if moved > 0 else ''}{shown(moved)}",
                "because of": ", ".join(causes),
                "how final": finality(last),
                "times said": of.entries.height,
            }
        )
    return pl.DataFrame(rows)


def _figures(told: Sequence[Explanation]) -> None:
    changed = sum(1 for of in told if restated(of))
    said = sum(of.entries.height for of in told)
    firm = sum(1 for of in told if finality(of.entries.row(-1, named=True)) in {"final", "person-final"})
    figures(
        [
            Figure("Windows", whole(len(told))),
            Figure("Final", whole(firm), explained="Of these windows: no event can change them any more."),
            Figure("Restated", whole(changed), explained="Changed for another reason than that their time went on."),
            Figure("Times published", whole(said)),
        ]
    )


def _one(source: Source, told: Sequence[Explanation]) -> None:
    windows = {_window(of): of for of in reversed(told)}
    default = next((name for name, of in windows.items() if restated(of)), None)
    of = windows[filters.one_of("Window", list(windows), "window", default=default)]
    st.info(of.sentence, icon=":material/history:")
    rows = of.entries.with_columns(pl.col("value").cast(pl.Float64), why=pl.col("causes").list.join(", "))
    if rows.height > 1:
        drawn = charts.clocked(rows.select("published_at", "value", "why"), source.zone, "published_at")
        charts.draw(comparisons.published(drawn), "Value by time of publication", 220)


def _restatements(source: Source) -> None:
    today = source.now().date()
    found = questions.restatements(source.catalog, today.replace(day=1), today)
    if found.is_empty():
        msg = "Nothing was restated this month. Try it: `make late` sends an event of three days ago."
        raise Nothing(msg)
    order = [*_CAUSES, *sorted(set(found["cause"]) - set(_CAUSES))]
    drawn = charts.clocked(found, source.zone, "day")
    charts.draw(charts.stacked(drawn, "changes", "changes", "cause", order), "Restatements by day and cause", 240)


def _window(of: Explanation) -> str:
    start = of.window.start.astimezone(of.zone)
    grain = of.entries.row(0, named=True)["grain"]
    return f"{start:%Y-%m-%d}" if grain == "day" else f"{start:%Y-%m-%d} ({grain})"
