"""A lake of events over some days, with all that sessions and conversions rest on computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from partitions import Window
from platform_assets.gold import conversions, fact_events, sessions
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.restatement import stale_hours
from platform_assets.silver import activity_hours, identity_links, persons, touched_hours
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.settings import Settings
from support.lakes import drain
from support.records import START, Record, encoded, event, source

DAYS = 5
END = START + timedelta(days=DAYS)
LAST_DAY = END.date() + timedelta(days=1)
"""East of Greenwich the last event may be on the day after."""


@dataclass(frozen=True)
class Happened:
    """An event on a device; by a user where one is logged in."""

    number: int
    minute: int
    device: str | None
    user: str | None
    name: str = "page_viewed"
    more: Mapping[str, object] = field(default_factory=dict)

    def wire(self) -> dict[str, object]:
        told: dict[str, Any] = {"event_name": self.name, "anonymous_id": self.device, "user_id": self.user}
        return event(f"e{self.number:04}", self.minute, **told, **dict[str, Any](self.more))


def platform(folder: Path, zone: str = "UTC") -> Platform:
    """A platform over a new lake with all tables, empty."""
    lake = Lake(str(folder))
    create_tables(lake)
    for table in (sessions.TABLE, sessions.REACHES, conversions.TABLE):
        lake.create(table)
    return Platform(lake, Settings(reporting_timezone=zone), clock=lambda: END)


def act(where: Platform, events: Sequence[Happened]) -> None:
    """Take in events: all that were sent so far, in order."""
    sent = [Record(0, offset, END, encoded(one.wire())) for offset, one in enumerate(events)]
    drain(where.lake, source(sent, 1), where.settings)


def compute_hours(where: Platform) -> None:
    """Compute the hours that sessions rest on, as far as they are stale, and resolve persons."""
    lake = where.lake
    for module in (activity_hours, identity_links):
        ledger = lake.scan(computations.TABLE).filter(table=module.TABLE.name).collect()
        touched = lake.scan(touched_hours.TABLE).select("event_hour", "silver_version").collect()
        for hours in together(stale_hours(touched, ledger)):
            module.rebuild(where, hours)
    persons.resolve(where)
    compute_facts(where)


def compute_facts(where: Platform) -> None:
    for hours in together(sorted(fact_events.stale(where, where.lake.scan(computations.TABLE).collect()))):
        fact_events.rebuild(where, hours)


def together(hours: list[datetime]) -> list[Window]:
    """Hours as windows, where they follow one another in one."""
    found: list[Window] = []
    for hour in hours:
        if found and found[-1].end == hour:
            found[-1] = Window(found[-1].start, hour + timedelta(hours=1))
        else:
            found.append(Window.of_hour(hour))
    return found
