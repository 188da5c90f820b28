"""*Why did it change*: what was published, what it became, and because of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import streamlit as st

from partitions import Window
from platform_assets.gold.published_numbers import Explanation, finality, shown, signed
from platform_assets.publication import slice_words
from platform_assets.serving import metrics, questions
from platform_assets.serving.dashboard import charts, choices, comparisons, filters
from platform_assets.serving.dashboard.layout import Figure, Nothing, figures, page, plain, section, whole
from platform_assets.serving.dashboard.source import Source

_ORDINARY = frozenset({"first publication", "new events", "finality"})
_CAUSES = ("late events", "identity merge", "dimension change", "definition change", "backfill")
_DEFAULT = "active_users.dau"
_CAUSES_WIDTH = 280


def show() -> None:
    """The page."""
    page(
        "Why did it change",
        "Every number that was ever published, each change of it, and its cause. Nothing here is ever overwritten.",
        _body,
    )


def _body(source: Source) -> None:
    people = choices.people()
    with st.container(horizontal=True):
        first, last = filters.days(source)
        window = Window.of_days(first, last, source.zone)
        offered = questions.published_metrics(source.catalog, window)
        metric = filters.one_of("Number", offered, "metric", default=_DEFAULT)
        slices = questions.published_slices(source.catalog, metric, window)
        default = next((text for text in slices if people and is_of(text, people)), None)
        sliced = filters.one_of(
            "Slice", slices, "slice", named=lambda text: slice_words(text) or "the total", default=default
        )
        known_by = filters.known_at(source)
    if not is_of(sliced, people):
        filters.of_everybody(
            "this is another slice. Choose theirs, or a number that has it, as `active_users_by_slice.dau`."
        )
    told = _told(source, metric, sliced, window, known_by)
    if not told:
        msg = f"Nothing was published of {plain(metric)} in these days by then: choose other days, or a later instant."
        raise Nothing(msg)
    _figures(told)
    with section("One number", "Of the window that was chosen: what was said of it, and when."):
        _one(source, told)
    with section("All windows"):
        now = None if known_by is None else _told(source, metric, sliced, window, None)
        st.dataframe(
            table(told, now),
            hide_index=True,
            height=38 + 35 * min(12, len(told)),
            column_config={"because of": st.column_config.TextColumn(width=_CAUSES_WIDTH)},
        )
    with section("Restatements of all numbers", "Changes after publication, by the day that they were published on."):
        _restatements(source, known_by or source.now())


def is_of(slice_text: str, people: Mapping[str, str]) -> bool:
    """Whether a slice is of the people who were chosen, and of no others."""
    told = slice_words(slice_text).split(", ")
    return all(
        {f"{dimension}={value}", f"breakdown={value}"} & {*told}
        or (value == questions.UNKNOWN and f"{dimension} is {value}" in told)
        for dimension, value in people.items()
    )


def _told(source: Source, metric: str, sliced: str, window: Window, known_by: datetime | None) -> list[Explanation]:
    entries = metrics.published(source.catalog, metric, sliced, window, known_by)
    return questions.explanations(entries, source.zone, known_by)


def restated(of: Explanation) -> bool:
    """Whether it changed for another reason than that its window went on."""
    return any(not _ORDINARY.issuperset(causes) for causes in of.entries["causes"].to_list())


def table(told: Sequence[Explanation], now: Sequence[Explanation] | None = None) -> pl.DataFrame:
    """A row for each window, the newest first: what it was at first, what it became, and because of what.

    Args:
        told: What was said; by an instant, or by now.
        now: What was said by now, where the former is by an instant.
    """
    values = {of.window: of.entries.row(-1, named=True)["value"] for of in now or ()}
    rows = []
    for of in reversed(told):
        first, last = of.entries.row(0, named=True), of.entries.row(-1, named=True)
        causes = sorted({cause for told in of.entries["causes"].to_list() for cause in told} - {"first publication"})
        moved = None if None in {first["value"], last["value"]} else last["value"] - first["value"]
        rows.append(
            {
                "window": _window(of),
                "first said": shown(first["value"]),
                **(
                    {"now": shown(last["value"])}
                    if now is None
                    else {"known then": shown(last["value"]), "now": shown(values[of.window])}
                ),
                "change": "" if not moved else signed(moved),
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
    st.info(plain(of.sentence), icon=":material/history:")
    rows = of.entries.with_columns(pl.col("value").cast(pl.Float64), why=pl.col("causes").list.join(", "))
    if rows.height > 1:
        drawn = charts.clocked(rows.select("published_at", "value", "why"), source.zone, "published_at")
        charts.draw(comparisons.published(drawn), "Value by time of publication", 220)


def _restatements(source: Source, until: datetime) -> None:
    until = until.astimezone(UTC)
    month = until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = questions.restatements(source.catalog, Window(month, until + timedelta(microseconds=1)))
    if found.is_empty():
        msg = f"Nothing was restated in {month:%B}. Try it: `make late` sends an event of three days ago."
        raise Nothing(msg)
    order = [*_CAUSES, *sorted(set(found["cause"]) - set(_CAUSES))]
    drawn = charts.clocked(found, source.zone, "day")
    charts.draw(charts.stacked(drawn, "changes", "changes", "cause", order), "Restatements by day and cause", 240)


def _window(of: Explanation) -> str:
    start = of.window.start.astimezone(of.zone)
    grain = of.entries.row(0, named=True)["grain"]
    return f"{start:%Y-%m-%d}" if grain == "day" else f"{start:%Y-%m-%d} ({grain})"
