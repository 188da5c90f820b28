"""*Now*: what is happening this minute, and how far behind it this page is."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import streamlit as st

from partitions import Window
from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, filters
from platform_assets.serving.dashboard.layout import (
    Figure,
    Nothing,
    ago,
    duration,
    figures,
    page,
    plain,
    section,
    since,
    told,
    whole,
)
from platform_assets.serving.dashboard.source import Source

_SPANS = {"30m": timedelta(minutes=30), "2h": timedelta(hours=2), "12h": timedelta(hours=12)}
_SPAN_NAMES = {"30m": "30 minutes", "2h": "2 hours", "12h": "12 hours"}
_FRESH = timedelta(minutes=2)
_MOST_NAMES = 12


_STEADY = '<style>[data-stale="true"] {opacity: 1 !important;}</style>'
"""Else all that is renewed fades for a moment, every two seconds."""


def show() -> None:
    """The page."""
    page("Now", "What people are doing at this moment. The page renews itself every two seconds.", _body)


def _body(source: Source) -> None:
    st.html(_STEADY)
    now = source.now()
    with st.container(horizontal=True):
        span = filters.switch("Look back", list(_SPANS), "span", named=_SPAN_NAMES.__getitem__)
        found = questions.platforms(source.catalog, Window(now - _SPANS["12h"], now + timedelta(minutes=1)))
        platform = filters.only("Platform", found, "platform")
    filters.of_everybody("live numbers are kept by platform; *Growth* has those of the days.", ["platform"])
    _live(source, _SPANS[span], platform)


@st.fragment(run_every="2s")
def _live(source: Source, span: timedelta, platform: str | None) -> None:
    with told():
        _figures(source, platform)
    with section("Events a minute"):
        _per_minute(source, span, platform)
    with section("What they did"):
        _by_name(source, span, platform)


def _figures(source: Source, platform: str | None) -> None:
    now = source.now()
    end = now + timedelta(minutes=1)
    hour = Window(now - timedelta(hours=1), end)
    passive = source.settings.passive_events
    windows = [Window(now - timedelta(minutes=minutes), end) for minutes in (5, 30)]
    five, thirty = questions.active_persons(source.catalog, windows, passive, platform)
    names = questions.events_by_name(source.catalog, hour, platform)
    converted = int(names.filter(pl.col("event_name").is_in(questions.CONVERSIONS))["events"].sum())
    fresh = questions.freshness(source.catalog, now)
    figures(
        [
            Figure("Active, last 5 min", whole(five), state="open", explained="Persons, not devices (semantics 5)."),
            Figure("Active, last 30 min", whole(thirty), state="open"),
            Figure(
                "Conversions, last hour",
                whole(converted),
                state="open",
                explained=f"Events named {', '.join(sorted(questions.CONVERSIONS))}.",
            ),
            Figure("Newest event", ago(fresh.newest_event, now), explained="By the time it happened."),
            Figure(
                "Event to number",
                duration(questions.end_to_end(source.catalog, now)),
                explained="How long the newest event that the platform sent itself took to be counted (*Health*).",
            ),
            Figure(
                "Complete up to",
                "–" if fresh.watermark is None else f"{fresh.watermark.astimezone(source.zone):%H:%M:%S}",
                explained="The watermark: before it, only late events are missing. After it, everything is open.",
            ),
        ]
    )
    if fresh.newest_arrival is None:
        msg = "No event has come yet. Produce some: `headwater simulate live --rate 5`."
        raise Nothing(msg)
    if now - fresh.newest_arrival > _FRESH:
        silent = since(fresh.newest_arrival, now)
        st.warning(f"Nothing has come for {silent}. Is traffic flowing, and the daemon running? *Health* says more.")
    elif fresh.behind:
        batches = "one micro-batch" if fresh.behind == 1 else f"{fresh.behind} micro-batches"
        st.caption(f"These numbers are {batches} behind the events.")


def _per_minute(source: Source, span: timedelta, platform: str | None) -> None:
    now = source.now()
    window = Window(now - span, now + timedelta(minutes=1))
    found = questions.events_per_minute(source.catalog, window, platform)
    if found.is_empty():
        raise Nothing(_silent(platform))
    order = sorted(found["platform"].unique(), key=lambda name: (name == questions.UNKNOWN, name))
    charts.draw(charts.minutes(found, window, source.zone, order), "Events by minute and platform")


def _by_name(source: Source, span: timedelta, platform: str | None) -> None:
    now = source.now()
    found = questions.events_by_name(source.catalog, Window(now - span, now + timedelta(minutes=1)), platform)
    if found.is_empty():
        raise Nothing(_silent(platform))
    st.caption("Events in this time by name; conversions in orange.")
    top = found.head(_MOST_NAMES)
    charts.draw(
        charts.ranked(top, "event_name", "events", "events", questions.CONVERSIONS),
        "Events by name",
        height=40 + 28 * top.height,
    )


def _silent(platform: str | None) -> str:
    of_it, or_all = ("", "") if platform is None else (f" on {plain(platform)}", ", or at all platforms")
    return f"No event happened{of_it} in this time: look further back{or_all}."
