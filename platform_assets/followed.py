"""Which tables follow another one's changes, and how each of them records how far it has come."""

from __future__ import annotations

from typing import NamedTuple

from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.gold import live_metrics
from platform_assets.silver import events, identity_links, outcomes, persons, row_changes, touched_hours
from platform_assets.table import Table


class Followed(NamedTuple):
    """A table that others follow, and the name under which they record the version of it that they have taken in."""

    table: Table
    app: str
    followers: tuple[Table, ...]


FOLLOWED = (
    Followed(events.TABLE, events.FOLLOWS, (outcomes.TABLE, live_metrics.TABLE, touched_hours.TABLE)),
    Followed(row_changes.TABLE, row_changes.FOLLOWS, tuple(dimension.table for dimension in DIMENSIONS)),
)
"""Every table whose log others catch up from, commit by commit."""

ANSWERED = (*FOLLOWED, Followed(identity_links.TABLE, identity_links.TABLE.name, (persons.TABLE,)))
"""Every table whose changes others answer, also those that compute all anew for that."""
