"""Third-party files: whatever lands in which order, and whatever dies in between, the standing files are what counts.

The world is tiny: three names, a handful of contents that share keys and days, one that cannot be used. Deliveries,
kills between any two commits and rebuilds are drawn; a plain-Python reference says what must be there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from partitions import Window
from platform_assets.bronze import landed_files, partner_files
from platform_assets.feeds.job import FEEDS
from platform_assets.feeds.rebuilding import rebuild
from platform_assets.feeds.taking import Deliveries, deliveries, undelivered, untaken
from platform_assets.platform import Platform
from platform_assets.silver import ad_spend, app_store_reports, quarantined_rows
from resources.lake import Lake
from resources.landing import Landing
from resources.settings import Settings
from support.lakes import EventfulLake, Killed, die

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TABLES = (
    landed_files.TABLE,
    partner_files.TABLE,
    quarantined_rows.TABLE,
    ad_spend.TABLE,
    app_store_reports.TABLE,
)
NAMES = ("a.csv", "b.csv", "deep/c.csv")
BAD = "x"

Row = tuple[int, str, int]
"""Day of November, campaign, spend; a spend of -1 stands for a row that is refused."""

rows = st.tuples(st.integers(1, 4), st.sampled_from(["p", "q"]), st.sampled_from([-1, 1, 2, 3]))
contents = st.one_of(
    st.just(BAD),
    st.lists(rows, min_size=1, max_size=4, unique_by=lambda row: row[:2]).filter(
        lambda drawn: any(spend > 0 for _, _, spend in drawn)
    ),
)


@dataclass(frozen=True)
class Put:
    """Some files are written into the folder, over what had their names; then they are taken, or that is killed."""

    files: dict[str, list[Row] | str]
    killed_at: int | None


@dataclass(frozen=True)
class Rebuild:
    """A rebuild of days from the UI."""

    first: int
    last: int


scripts = st.lists(
    st.one_of(
        st.builds(
            Put,
            st.dictionaries(st.sampled_from(NAMES), contents, min_size=1, max_size=2),
            st.one_of(st.none(), st.integers(1, 40)),
        ),
        st.builds(lambda first, more: Rebuild(first, first + more), st.integers(1, 4), st.integers(0, 2)),
    ),
    min_size=1,
    max_size=7,
)


def text(content: list[Row] | str) -> bytes:
    if isinstance(content, str):
        return content.encode()
    lines = [
        f"2026-11-{day:02},n,{campaign},DE,{spend if spend > 0 else 'free'},EUR" for day, campaign, spend in content
    ]
    return "\n".join(["day,network,campaign,country,spend,currency", *lines]).encode()


class World:
    """A landing folder, a lake, and what must be in it."""

    def __init__(self, folder: Path) -> None:
        self.landing = Landing(str(folder / "landing"))
        self.lake = EventfulLake(str(folder / "lake"))
        for table in TABLES:
            self.lake.create(table)
        self._folder = folder / "landing" / "ad_spend"
        self._written = 0
        self.taken: list[tuple[str, bytes]] = []
        self.meant: dict[bytes, list[Row]] = {}

    def write(self, name: str, content: list[Row] | str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(content))
        self._written += 1
        at = (NOW - timedelta(hours=1) + timedelta(seconds=self._written)).timestamp()
        os.utime(path, (at, at))
        if not isinstance(content, str):
            self.meant[text(content)] = content

    def take(self) -> None:
        lake = self.lake
        taking = Deliveries(lake, self.landing, FEEDS, lambda: NOW)
        for file in undelivered(lake, self.landing.files(NOW, timedelta(0))):
            taking.take(file)
        for _ in taking.catch_up():
            pass

    def note(self) -> None:
        """What the folder shows counts from now on as delivered."""
        known = deliveries(Lake(self.lake.url))
        self.taken = [
            (name, self._content(file_id))
            for name, file_id, outcome in known.select("name", "file_id", "outcome").iter_rows()
            if outcome == "taken"
        ]

    def _content(self, file_id: str) -> bytes:
        return next(data for data in self.meant if hashlib.sha256(data).hexdigest() == file_id)

    def expected(self) -> dict[tuple[date, str], Decimal]:
        """By day and campaign: of each name the last content; of each key, what landed last."""
        standing: dict[str, bytes] = {}
        for name, data in self.taken:
            standing.pop(name, None)
            standing[name] = data
        found: dict[tuple[date, str], Decimal] = {}
        for data in standing.values():
            for day, campaign, spend in self.meant[data]:
                if spend > 0:
                    found[date(2026, 11, day), campaign] = Decimal(spend)
        return found

    def stored(self) -> Iterator[tuple[tuple[date, str], Decimal]]:
        for day, campaign, spend in self.lake.scan(ad_spend.TABLE).select("day", "campaign", "spend").collect().rows():
            yield (day, campaign), spend


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(scripts)
def test_the_standing_files_are_what_counts(script: list[Put | Rebuild]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        platform = Platform(world.lake, Settings(), clock=lambda: NOW)
        for act in script:
            if isinstance(act, Rebuild):
                zone = platform.settings.zone
                days = Window.of_days(date(2026, 11, act.first), date(2026, 11, act.last), zone)
                rebuild(ad_spend.FEED, platform, days)
                continue
            for name, content in sorted(act.files.items()):
                world.write(name, content)
            if act.killed_at is not None:
                world.lake.happenings = {len(world.lake.moments) + act.killed_at: die}
            try:
                world.take()
            except Killed:
                event("killed")
            world.lake.happenings = {}
        world.take()
        world.note()

        stored = list(world.stored())
        assert len(dict(stored)) == len(stored), "a key stands twice"
        assert dict(stored) == world.expected()
        assert untaken(world.lake, FEEDS) == []
        assert undelivered(world.lake, world.landing.files(NOW, timedelta(0))) == []
        landed = deliveries(world.lake)
        assert landed["landing"].to_list() == list(range(1, landed.height + 1))
        # What a kill left of a content that never came again belongs to no delivery.
        counted = landed.filter(outcome="taken").unique("file_id")
        of_deliveries = pl.col("file_id").is_in(counted["file_id"].implode())
        brought = world.lake.scan(partner_files.TABLE).filter(of_deliveries).select("file_id", "line").collect()
        assert brought.is_unique().all(), "a row is in bronze twice"
        assert brought.height == counted["rows"].sum()
        refused = world.lake.scan(quarantined_rows.TABLE).filter(of_deliveries).collect()
        assert refused.height == counted["bad_rows"].sum()
