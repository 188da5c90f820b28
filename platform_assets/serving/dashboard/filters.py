"""What people choose: each choice is in the page's address, so that a link shows what they saw."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta

import streamlit as st

from platform_assets.gold import active_users
from platform_assets.serving import questions
from platform_assets.serving.catalog import Catalog
from platform_assets.serving.dashboard import choices
from platform_assets.serving.dashboard.layout import Nothing, plain
from platform_assets.serving.dashboard.source import Source

_PERIODS = {"7d": 7, "28d": 28, "90d": 90, "12m": 365}
_PERIOD_NAMES = {"7d": "7 days", "28d": "28 days", "90d": "90 days", "12m": "12 months", "own": "From – to"}


def days(source: Source, default: str = "28d", longest: int | None = None) -> tuple[date, date]:
    """The days to look at, up to the newest that there are numbers of; both included.

    Args:
        source: The lake.
        default: The period that is chosen at first.
        longest: The most days that can be chosen by a period.

    Raises:
        Nothing: There are no numbers of any day, or the address has the days in the wrong order.
    """
    newest = questions.newest_day(source.catalog, active_users.TABLE)
    if newest is None:
        msg = "No day has been computed yet. `make up` computes the open day within five minutes of its first event."
        raise Nothing(msg)
    offered = [name for name, length in _PERIODS.items() if longest is None or length <= longest]
    choices.bring("period", [*offered, "own"])
    chosen = st.segmented_control(
        "Days",
        [*offered, "own"],
        format_func=_PERIOD_NAMES.__getitem__,
        default=default,
        required=True,
        key="period",
        wrap=True,
        bind="query-params",
    )
    choices.note("period", chosen, _PERIOD_NAMES[chosen], is_default=chosen == default)
    if chosen != "own":
        return newest - timedelta(days=_PERIODS[chosen] - 1), newest
    choices.bring("days")
    given = st.date_input(
        "From – to",
        value=(newest - timedelta(days=6), newest),
        max_value=newest,
        width=240,
        key="days",
        bind="query-params",
        format="YYYY-MM-DD",
    )
    chosen_days = given if isinstance(given, tuple) else (given,)
    if not chosen_days:
        msg = "Choose the days to look at."
        raise Nothing(msg)
    choices.note("days", given, [str(day) for day in chosen_days], is_default=False)
    first, last = chosen_days[0], chosen_days[-1]
    if last < first:
        msg = f"{last} is before {first}: choose the earlier day first."
        raise Nothing(msg)
    return first, last


def one_of(
    label: str, options: Sequence[str], key: str, *, named: Callable[[str], str] = str, default: str | None = None
) -> str:
    """One of some values.

    Raises:
        Nothing: There are none.
    """
    if not options:
        msg = f"There is nothing to choose as “{label}” in these days: choose other days."
        raise Nothing(msg)
    index = options.index(default) if default in options else 0
    return st.selectbox(
        label, options, index=index, format_func=named, key=key, bind="query-params", width=_width(options)
    )


def switch(label: str, options: Sequence[str], key: str, *, named: Callable[[str], str] = str.capitalize) -> str:
    """One of a few values, all of them in sight."""
    return st.segmented_control(
        label, options, format_func=named, default=options[0], required=True, key=key, bind="query-params"
    )


def only(label: str, options: Sequence[str], key: str) -> str | None:
    """One of some values, or None for all of them together; the same on every page that has it.

    What was chosen is offered even where there is nothing of it: it is not to be dropped without a word.
    """
    wanted = choices.people().get(key)
    held = [choices.ALL, *options, *([] if wanted is None or wanted in options else [wanted])]
    choices.bring(key, held)
    chosen = one_of(label, held, key)
    choices.note(key, chosen, chosen, is_default=chosen == choices.ALL)
    return None if chosen == choices.ALL else chosen


def people(
    source: Source,
    first: date,
    last: date,
    dimensions: Sequence[str] = choices.PEOPLE,
    values: Callable[[Catalog, str, date, date], list[str]] = questions.slices,
) -> dict[str, str]:
    """Whom to look at: a box for each dimension that a page's numbers are told by.

    Args:
        source: The lake.
        first: The first day.
        last: The last day.
        dimensions: Those of the boxes.
        values: Asks for the values of a dimension in these days.

    Returns:
        The values chosen, by dimension; nothing of one where all of its values are.
    """
    found = {}
    for dimension in dimensions:
        value = only(dimension.capitalize(), values(source.catalog, dimension, first, last), dimension)
        if value is not None:
            found[dimension] = value
    return found


def known_at(source: Source) -> datetime | None:
    """The instant as known at which numbers are shown; None for now."""
    chosen = st.datetime_input(
        "As known at",
        value=None,
        key="known_at",
        bind="query-params",
        format="YYYY-MM-DD",
        width=200,
        help=f"By the clock of {source.zone.key}. What was published later is left out; empty is now.",
    )
    return None if chosen is None else chosen.replace(tzinfo=source.zone)


def of_everybody(why: str, told_by: Collection[str] = ()) -> None:
    """Say so where numbers are not narrowed to the people who were chosen.

    Args:
        why: Why not, and what to do.
        told_by: The dimensions that they are narrowed by.
    """
    ignored = {dimension: value for dimension, value in choices.people().items() if dimension not in told_by}
    if ignored:
        named = " and ".join(f"{dimension} {value}" for dimension, value in ignored.items())
        st.warning(f"Not of {plain(named)} alone: {why}", icon=":material/filter_alt_off:")


def some_of(label: str, options: Sequence[str], key: str, default: Sequence[str], most: int) -> list[str]:
    """Some values, in the order that they are chosen in."""
    return st.multiselect(
        label,
        options,
        default=[value for value in default if value in options],
        max_selections=most,
        key=key,
        bind="query-params",
    )


def readable(name: str) -> str:
    """A metric's name for people."""
    return name.replace("_", " ").capitalize()


def _width(options: Sequence[str]) -> int:
    """Of a box that shows its longest value."""
    return min(420, max(150, 90 + 8 * max(map(len, options))))
