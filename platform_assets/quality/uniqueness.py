"""Whether what there is one of stands once."""

from __future__ import annotations

import polars as pl

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, rows_of
from platform_assets.quality.verdict import SHOWN, Verdict
from platform_assets.table import Table


def has_unique_key(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no two rows of a window share the table's key."""
    counted = rows_of(platform, table, window).group_by(table.key).len().filter(pl.col("len") > 1)
    repeated = counted.collect(engine="streaming")
    return Verdict.of_wrong(
        repeated.height,
        "keys",
        f"{repeated.height} keys ({', '.join(table.key)}) stand more than once",
        repeated.head(SHOWN).to_dicts(),
        int(repeated["len"].sum()),
    )


def unique_key_check(table: Table, *, blocking: bool) -> Check:
    """The check that no two rows of a table share its key."""
    once = f"No two rows share ({', '.join(table.key)})."
    return Check(table, "unique_key", has_unique_key, once, blocking=blocking, pillar="uniqueness")


def has_no_id_conflict(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no event id of a source stands for events of different times (semantics 2: kept, and warned of)."""
    conflicts = (
        rows_of(platform, table, window)
        .group_by("source", "event_id")
        .agg(pl.col("client_occurred_at").n_unique(), rows=pl.len())
        .filter(pl.col("client_occurred_at") > 1)
        .collect(engine="streaming")
    )
    return Verdict.of_wrong(
        conflicts.height,
        "event ids",
        f"{conflicts.height} event ids stand for events of different times",
        conflicts.head(SHOWN).to_dicts(),
        int(conflicts["rows"].sum()),
    )
