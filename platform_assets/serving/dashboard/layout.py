"""How every page is laid out: title, figures, sections, and what is shown where there is nothing to show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

import streamlit as st
from pydantic import ValidationError

from platform_assets.serving.catalog import UNREADABLE
from platform_assets.serving.dashboard import choices
from platform_assets.serving.dashboard.source import Source, opened
from platform_assets.serving.questions import TooMuch

STATES = {"final": "●", "closed": "◐", "open": "○"}
"""How final a number is, and its sign."""

_MEANINGS = "● final: it stays as it is · ◐ closed: late events may still change it · ○ open: its time has not ended"

_UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_MARKUP = re.compile(r"[\\`*_\[\]:$<!#~]")


class Nothing(Exception):
    """There is nothing to show; the message says what to do, in Markdown: what of it is data is `plain`."""


@dataclass(frozen=True)
class Figure:
    """A number that a page begins with.

    Attributes:
        label: What it is.
        value: What it is now, for people.
        change: How it changed, for people; a sign decides its colour.
        against: What it is compared with.
        state: How final it is: a key of `STATES`.
        explained: Shown on the question mark; Markdown, the others are shown as they are.
        good: Whether more is good: `normal`; bad: `inverse`; neither: `off`.
    """

    label: str
    value: str
    change: str | None = None
    against: str | None = None
    state: str | None = None
    explained: str | None = None
    good: str = "normal"


def page(title: str, caption: str, body: Callable[[Source], None]) -> None:
    """A whole page.

    Args:
        title: Its name.
        caption: What it answers, in a sentence.
        body: Draws it.
    """
    choices.begin(title)
    st.title(title, anchor=False)
    st.caption(caption)
    with told():
        body(opened())
    st.caption(_MEANINGS)


@contextmanager
def section(title: str, caption: str = "") -> Iterator[None]:
    """A part of a page, that fails alone."""
    st.subheader(title, anchor=False)
    if caption:
        st.caption(caption)
    with told():
        yield


@contextmanager
def told() -> Iterator[None]:
    """Say what stands in the way of the block, and what to do about it."""
    try:
        yield
    except (Nothing, TooMuch) as error:
        st.info(str(error) if isinstance(error, Nothing) else plain(error), icon=":material/info:")
    except FileNotFoundError as error:
        said = "There is no data yet. Start the platform with `make up`, or point HEADWATER_LAKE_URL at its lake."
        st.info(f"{said}  \n{plain(_first_line(error))}", icon=":material/hourglass_empty:")
    except ValidationError as error:
        wrong = "  \n".join(
            plain(f"{'.'.join(map(str, e['loc']))}: {e['msg']}") for e in error.errors(include_url=False)
        )
        st.error(f"A setting is wrong; correct it and start the dashboard again.  \n{wrong}", icon=":material/error:")
    except UNREADABLE as error:
        said = "The lake could not be read just now. Load the page again; `headwater doctor` looks for damage."
        st.error(f"{said}  \n{plain(_first_line(error))}", icon=":material/error:")


def figures(shown: Sequence[Figure]) -> None:
    """Some figures in a row, as many as fit."""
    with st.container(horizontal=True, gap="small"):
        for figure in shown:
            sign = "" if figure.state is None else f" {STATES[figure.state]}"
            change = figure.change or ""
            is_still = not set(change) & set("123456789")  # +0.0% is neither more nor less
            st.metric(
                plain(figure.label) + sign,
                plain(figure.value),
                plain(change.lstrip("+-") if is_still else change) or None,
                delta_color="off" if is_still else figure.good,  # type: ignore[arg-type]
                delta_arrow="off" if is_still else "auto",
                delta_description=None if figure.against is None else plain(figure.against),
                help=figure.explained,
                border=True,
                width="stretch",
                height="stretch",
            )


def beginning(text: str) -> str:
    """The first sentence of a description."""
    first, point, _ = text.partition(". ")
    return first + point.rstrip()


def signed_share(new: float | None, old: float | None) -> str | None:
    """How much more one number is than another, for people; None where that cannot be said."""
    if new is None or not old:
        return None
    return f"{(new - old) / abs(old):+.1%}"


def share(part: float | None, digits: int = 1) -> str:
    """A share for people."""
    return "–" if part is None else f"{part:.{digits}%}"


def whole(number: int | None) -> str:
    """A count for people."""
    return "–" if number is None else f"{number:,}"


def day_name(day: date) -> str:
    """A day for people."""
    return f"{day:%a %-d %b}"


def ago(then: datetime | None, now: datetime) -> str:
    """When something was, for people."""
    return "never" if then is None else f"{since(then, now)} ago"


def since(then: datetime, now: datetime) -> str:
    """How long ago something was, for people."""
    return duration((now - then).total_seconds())


def duration(seconds: float | None) -> str:
    """A length of time for people: two units at most."""
    if seconds is None:
        return "–"
    left = round(max(0.0, seconds))
    if left < 60:
        return f"{left} s"
    unit, finer = next((unit, finer) for unit, finer in pairwise(_UNITS) if left >= _UNITS[unit])
    rest = 0 if unit == "min" and left >= 600 else left % _UNITS[unit] // _UNITS[finer]
    return f"{left // _UNITS[unit]} {unit}" + (f" {rest} {finer}" if rest else "")


def plain(told: object) -> str:
    """Markdown of what is told, on one line, as it is: nothing in it is markup."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(told).split()))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
