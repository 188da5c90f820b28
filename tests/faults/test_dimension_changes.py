"""Facts computed while a dimension changes: whichever comes between which, no hour keeps what it should not."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from platform_assets.changes.following import rebuild as rebuild_dimension
from platform_assets.gold import fact_events
from platform_assets.silver import users
from resources.lake import Lake
from support.changes import change, user
from support.facts import ALL, act, assert_level, facts, follow, new_lake, platform, settle, tell
from support.lakes import EventfulLake, Killed, die
from support.records import event

SENT = [event(f"anna-{hour}", hour * 60 + 10, user_id="anna") for hour in (0, 2)]
LATER = [event("anna-new", 80, user_id="anna"), event("anna-newer", 90, user_id="anna")]

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Facts of two hours; the hour between them, whose facts are not computed; a change in it that is not taken in."""
    lake = new_lake(tmp_path / "base")
    tell(lake, change("users", "c", 10, -5, user("anna")), change("users", "u", 30, 100, user("anna", "plus")))
    follow(lake)
    act(lake, SENT)
    settle(lake)
    act(lake, SENT + LATER[:1])
    tell(lake, change("users", "u", 20, 30, user("anna", "trial")))
    return tmp_path / "base"


def eventful(base: Path, work: Callable[[Lake], object], happening: Callable[[Lake], object]) -> Iterator[Lake]:
    """Lakes in which a work was done, and something happened at its first moment, at its second, and so on."""
    for moment in count(1):
        folder = base.parent / f"at-{moment}"
        shutil.copytree(base, folder)
        plain = Lake(str(folder))
        lake = EventfulLake(str(folder))
        lake.happenings = {moment: lambda plain=plain: happening(plain)}  # type: ignore[misc]
        with contextlib.suppress(Killed):
            work(lake)
        if lake.happenings:
            return
        yield plain


def compute(lake: Lake) -> None:
    fact_events.rebuild(platform(lake), ALL)


def plans(lake: Lake) -> list[str]:
    return facts(lake)["user_plan"].to_list()


def test_a_change_of_a_dimension_while_facts_are_computed(base: Path) -> None:
    moments = 0
    for moments, lake in enumerate(eventful(base, compute, follow), start=1):  # noqa: B007
        settle(lake)
        assert plans(lake) == ["free", "plus", "trial"]
        assert_level(lake)
    assert moments > 5


def test_facts_computed_while_a_dimension_changes(base: Path) -> None:
    def happening(lake: Lake) -> None:
        act(lake, SENT + LATER)
        compute(lake)

    moments = 0
    for moments, lake in enumerate(eventful(base, follow, happening), start=1):  # noqa: B007
        settle(lake)
        assert plans(lake) == ["free", "plus", "trial", "trial"]
        assert_level(lake)
    assert moments > 10


@pytest.mark.parametrize("work", [follow, lambda lake: rebuild_dimension(users.DIMENSION, platform(lake))])
def test_a_change_that_dies_at_any_moment_is_caught_up(base: Path, work: Callable[[Lake], object]) -> None:
    lake = Lake(str(base))
    lake.open(users.DIMENSION.table).delete("plan = 'plus'")  # so that a rebuild has something to change, too
    compute(lake)
    for lake in eventful(base, work, lambda _: die()):
        work(Lake(lake.url))
        follow(lake)
        settle(lake)
        assert plans(lake) == ["free", "plus", "trial"]
        assert_level(lake)


def test_facts_that_die_at_any_moment_are_computed_again(base: Path) -> None:
    follow(Lake(str(base)))
    for lake in eventful(base, compute, lambda _: die()):
        settle(lake)
        assert plans(lake) == ["free", "plus", "trial"]
        assert_level(lake)
