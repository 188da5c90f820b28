"""What was chosen for all pages: it goes along from page to page, in the address of each.

Streamlit keeps the value of a box only as long as the box is drawn, and each page draws its own. What every page
understands (days, platform, country, plan) is noted here, and given to the next box of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

PEOPLE = ("platform", "country", "plan")
"""By what people are told apart: names in the address, and dimensions of `gold/active_users_by_slice`."""

ALL = "All"
"""What a box says that leaves nobody out."""

_PAGE, _NOTED, _DRAWN, _DRAWN_BEFORE = (f"choices: {name}" for name in ("page", "noted", "drawn", "drawn before"))


def begin(page: str) -> None:
    """Begin a run of a page: what its address says of people is chosen, be there a box for it or not."""
    state = st.session_state
    is_same = state.get(_PAGE) == page
    state[_DRAWN_BEFORE] = state.get(_DRAWN, set()) if is_same else set()
    state[_PAGE], state[_DRAWN] = page, set()
    context = get_script_run_ctx()
    if context is not None and context.is_history_navigation:
        state[_NOTED] = {}  # who goes back is shown what the address of then says
    noted = state.setdefault(_NOTED, {})
    if not is_same:
        said = {name: st.query_params[name] for name in PEOPLE if name in st.query_params}
        noted |= {name: (text, text) for name, text in said.items() if text not in {"", ALL}}
        for name, value in people().items():
            _say(name, value)


def bring(key: str, options: Collection[Any] | None = None) -> None:
    """Give a box what was chosen elsewhere, where it was not drawn before; call it before the box.

    Args:
        key: Of the box, and in the address.
        options: What it can be given; None for anything.
    """
    state = st.session_state
    state[_DRAWN].add(key)
    if key in state[_DRAWN_BEFORE] or key not in state[_NOTED]:
        return
    value, text = state[_NOTED][key]
    if options is None or value in options:
        state[key] = value
        _say(key, text)


def note(key: str, value: object, text: str | Sequence[str], *, is_default: bool) -> None:
    """Keep what a box says for the other pages.

    Args:
        key: Of the box.
        value: What it says.
        text: That in the address.
        is_default: Whether it is what the box says by itself: there is nothing to keep.
    """
    if is_default:
        st.session_state[_NOTED].pop(key, None)
    else:
        st.session_state[_NOTED][key] = (value, text)


def people() -> dict[str, str]:
    """Whom to look at: the values chosen, by dimension; nothing where all are."""
    noted = st.session_state[_NOTED]
    return {name: noted[name][0] for name in PEOPLE if name in noted}


def _say(key: str, text: str | Sequence[str]) -> None:
    """Put a choice into the address; `st.query_params` refuses what a box has put there."""
    if key not in st.query_params:
        st.query_params[key] = text
