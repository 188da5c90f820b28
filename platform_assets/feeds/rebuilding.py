"""Days of a feed's table as a function of the files that stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from partitions import Window
from platform_assets.bronze import landed_files, partner_files
from platform_assets.feeds.feed import Feed, parse
from platform_assets.platform import Platform
from resources.lake import Lake, retrying


def rows_of_days(lake: Lake, feed: Feed, landings: pl.DataFrame, spans: Sequence[tuple[date, date]]) -> pl.DataFrame:
    """What the standing files of a feed say about some days; of one key, what landed last stands.

    Args:
        lake: The lake.
        feed: The feed.
        landings: All its deliveries that count, rows of `bronze/landed_files`.
        spans: First and last days, both included.
    """
    standing = landed_files.standing(landings).filter(
        pl.any_horizontal((pl.col("first_day") <= last) & (pl.col("last_day") >= first) for first, last in spans)
    )
    wanted = pl.any_horizontal(pl.col("day").is_between(first, last) for first, last in spans)
    parts = [feed.table.empty().with_columns(landing=pl.lit(0, pl.Int64))]
    is_standing = pl.col("file_id").is_in(standing["file_id"].implode()) & (pl.col("feed") == feed.name)
    stored = lake.scan(partner_files.TABLE).filter(is_standing).collect()
    numbers = dict(standing.select("file_id", "landing").iter_rows())
    for (file_id, landed_at), rows in stored.group_by("file_id", "landed_at"):
        valid = parse(feed, rows.sort("line"), landed_at.date()).valid.filter(wanted)
        came = {"file_id": file_id, "landed_at": landed_at, "landing": numbers[str(file_id)]}
        schema = parts[0].schema
        parts.append(
            valid.with_columns(pl.lit(value, schema[name]).alias(name) for name, value in came.items()).select(
                schema.names()
            )
        )
    return (
        pl.concat(parts)
        .sort("landing")
        .unique(feed.table.key, keep="last")
        .sort(feed.table.key)
        .select(feed.table.schema.names())
    )


def rebuild(feed: Feed, platform: Platform, window: Window) -> None:
    """Make a window's days of a feed's table equal to what the standing files say."""
    lake, days = platform.lake, platform.days(window)
    first, last = min(days), max(days)

    def attempt() -> int:
        handle = lake.open(feed.table)
        landings = lake.scan(landed_files.TABLE).filter(pl.col("feed") == feed.name).collect()
        return lake.replace_days(feed.table, handle, rows_of_days(lake, feed, landings, [(first, last)]), first, last)

    retrying(f"rebuild of {feed.table.name}", attempt)
