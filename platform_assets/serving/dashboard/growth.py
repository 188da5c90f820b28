"""*Growth*: how many people use the product, how often they return, and where they come from and go to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl
import streamlit as st

from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, filters
from platform_assets.serving.dashboard.layout import (
    Figure,
    Nothing,
    day_name,
    figures,
    page,
    section,
    share,
    signed_share,
    whole,
)
from platform_assets.serving.dashboard.source import Source

_COUNTS = {"dau": "on the day", "wau": "within 7 days", "mau": "within 28 days"}
_STATUSES = ("new", "returning", "resurrecting", "dormant")
_WEEK = timedelta(days=7)
_MOST_SLICES = 6


def show() -> None:
    """The page."""
    page("Growth", "How many people use the product, how often they come back, and whether it grows.", _body)


def _body(source: Source) -> None:
    with st.container(horizontal=True):
        first, last = filters.days(source)
        by = filters.one_of(
            "Split by",
            ["all", "platform", "country", "plan"],
            "by",
            named=lambda name: "Nothing" if name == "all" else name.capitalize(),
        )
        people = filters.people(source, first, last)
    if len({*people, by} - {"all"}) > 1:
        msg = (
            "Active people are told by platform, by country or by plan, and not by two of them together: set the "
            "others to All. *Funnels*, Build one, counts by several."
        )
        raise Nothing(msg)
    _figures(source, people, last)
    if by == "all":
        with section("Active people", "On the day (DAU), within 7 days (WAU), within 28 days (MAU)."):
            _active(source, people, first, last)
        with section("Stickiness", "Of those active within 28 days, the share that was active on the day (DAU / MAU)."):
            _stickiness(source, people, first, last)
    else:
        with section(f"Active people by {by}", "Who had two values in the time counts in both: lines do not add up."):
            _sliced(source, by, people, first, last)
    with section(
        "Where they come from and go to",
        "New: first event ever. Returning: active in the one before, too. Resurrecting: back after a break. "
        "Dormant: gone since the one before.",
    ):
        _lifecycle(source, first, last)


def _users(source: Source, people: Mapping[str, str], first: date, last: date) -> pl.DataFrame:
    """Active users by day, of everybody or of those with one value; see `questions.active_users`."""
    for dimension, value in people.items():
        return questions.active_users_of(source.catalog, dimension, [value], first, last)
    return questions.active_users(source.catalog, first, last)


def _figures(source: Source, people: Mapping[str, str], last: date) -> None:
    """The newest day that has ended, against the same weekday before."""
    found = _users(source, people, last - 2 * _WEEK, last)
    ended = found.filter(pl.col("state") != "open")
    if found.is_empty():
        msg = f"No numbers of {last} and the two weeks before: choose other days, or other people."
        raise Nothing(msg)
    newest = (found if ended.is_empty() else ended).row(-1, named=True)
    before = found.filter(pl.col("day") == newest["day"] - _WEEK).to_dicts()
    old = before[0] if before else dict.fromkeys(newest)
    against = f"vs {day_name(newest['day'] - _WEEK)}" if before else None
    shown = [
        Figure(
            f"{name.upper()}, {day_name(newest['day'])}",
            whole(newest[name]),
            signed_share(newest[name], old[name]),
            against,
            newest["state"],
            f"Distinct people active {within}; the newest day that has ended.",
        )
        for name, within in _COUNTS.items()
    ]
    sticky = (newest["stickiness"], old["stickiness"])  # None of a day in whose 28 days nobody was active
    change = None if None in sticky else f"{100 * (sticky[0] - sticky[1]):+.1f} points"
    shown.append(Figure("Stickiness", share(newest["stickiness"]), change, against, newest["state"], "DAU / MAU."))
    figures(shown)


def _active(source: Source, people: Mapping[str, str], first: date, last: date) -> None:
    found = _some(_users(source, people, first, last))
    names = {name: name.upper() for name in _COUNTS}
    tall = found.unpivot(list(_COUNTS), index=["day", "state"], variable_name="of", value_name="people")
    tall = charts.clocked(tall.with_columns(pl.col("of").replace_strict(names)), source.zone, "day")
    charts.draw(charts.lines(tall, "people", "people", "of", list(names.values())), "Active people by day")


def _stickiness(source: Source, people: Mapping[str, str], first: date, last: date) -> None:
    found = _some(_users(source, people, first, last)).with_columns(of=pl.lit("stickiness"))
    chart = charts.lines(
        charts.clocked(found, source.zone, "day"), "stickiness", "DAU / MAU", "of", ["stickiness"], number=".0%"
    )
    charts.draw(chart, "Stickiness by day", height=220)


def _sliced(source: Source, by: str, people: Mapping[str, str], first: date, last: date) -> None:
    offered = [people[by]] if by in people else questions.slices(source.catalog, by, first, last)
    with st.container(horizontal=True):
        measure = filters.switch("Count", list(_COUNTS), "count", named=str.upper)
        chosen = filters.some_of(by.capitalize(), offered, f"{by}_values", offered[:4], _MOST_SLICES)
    if not chosen:
        msg = f"Choose at least one {by}."
        raise Nothing(msg)
    found = _some(questions.active_users_of(source.catalog, by, chosen, first, last))
    chart = charts.lines(
        charts.clocked(found, source.zone, "day"), measure, f"{measure.upper()}, people", "value", chosen
    )
    charts.draw(chart, f"Active people by day and {by}")


def _lifecycle(source: Source, first: date, last: date) -> None:
    filters.of_everybody(
        "these tables have no slices. One of a platform or country is a file of its own, with "
        "`activity: {where: …}` (docs/metrics.md)."
    )
    offered = questions.metric_tables(source.catalog, "lifecycle")
    names = {name: name.removeprefix("lifecycle_by_") for name in offered}
    chosen = filters.one_of("Lifecycle", list(offered), "lifecycle", named=lambda name: f"By {names[name]}")
    found = questions.lifecycle(source.catalog, offered[chosen], first, last)
    if found.is_empty():
        msg = f"No {names[chosen]} of this time has ended yet: choose more days, or a shorter bucket."
        raise Nothing(msg)
    drawn = charts.clocked(found.drop_nulls("persons"), source.zone, "day")
    charts.draw(charts.stacked(drawn, "persons", "people", "status", _STATUSES), "People by day and status")


def _some(found: pl.DataFrame) -> pl.DataFrame:
    if found.is_empty():
        msg = "No numbers of these days: choose other days."
        raise Nothing(msg)
    return found
