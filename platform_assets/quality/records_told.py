"""Whether every record that was consumed is told of below: as what it became, or as refused."""

from __future__ import annotations

import polars as pl

from partitions import Window
from platform_assets.bronze import dead_letters
from platform_assets.bronze import records as received
from platform_assets.platform import Platform
from platform_assets.quality.verdict import SHOWN, Verdict
from platform_assets.silver import events, quarantine, row_changes
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.table import Table
from resources.records import in_ranges


def conserves_records(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the outcomes of an ingestion hour add up to the records consumed, per topic partition.

    Both are taken at one version of silver: that which the outcomes have taken in.
    """
    lake = platform.lake
    counted = lake.open(table)
    silver = lake.open(events.TABLE, counted.transaction_version(events.FOLLOWS) or 0)
    by = ["topic", "epoch", "partition", "ingestion_hour"]  # of a range, one hour must not make up for another
    hour = pl.col("ingested_at").dt.truncate("1h").alias("ingestion_hour")
    received_in = (lake.scan(s.table, window).select(*by[:3], hour, "offset") for s in EVENT_STREAMS)
    bronze = pl.concat(received_in).collect()
    consumed = bronze.filter(in_ranges({}, received.progress_of(silver, bronze))).group_by(by).len("consumed")
    told = lake.scan(table, window, counted).group_by(by).agg(told=pl.col("records").sum()).collect()
    both = consumed.join(told, on=by, how="full", coalesce=True).fill_null(0)
    off = both.filter(pl.col("consumed") != pl.col("told"))
    total = both.select(pl.col("consumed", "told").sum()).row(0)
    return Verdict.of_wrong(
        off.height,
        "topic partitions",
        f"{total[0]} records consumed, {total[1]} outcomes told; {off.height} topic partitions differ",
        off.head(SHOWN).to_dicts(),
    )


def conserves_changes(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether every change event of an ingestion hour became a row change, a tombstone, or was refused with a reason.

    What a table below bronze has not taken in yet is not looked for.
    """
    lake, by = platform.lake, ["topic", "epoch", "partition"]
    below = (row_changes.TABLE, quarantine.TABLE, dead_letters.TABLE)
    handles = {below_bronze.name: lake.open(below_bronze) for below_bronze in below}
    bronze = lake.scan(table, window).select(*by, "offset", is_tombstone=pl.col("value").is_null()).collect()
    progress = [received.progress_of(handle, bronze) for handle in handles.values()]
    level = {key: min(taken[key] for taken in progress) for key in progress[0]}
    records = bronze.filter(in_ranges({}, level))
    consumed = records.group_by(by).agg(pl.len().alias("consumed"), tombstones=pl.col("is_tombstone").sum())
    # A record that a replay lets in stands above and below for a moment: it is one record.
    told = pl.concat(
        lake.scan(t, window, handles[t.name]).filter(in_ranges({}, level)).select(*by, "offset").collect()
        for t in below
    ).unique()
    both = consumed.join(told.group_by(by).len("told"), on=by, how="left").fill_null(0)
    off = both.filter(pl.col("consumed") != pl.col("told") + pl.col("tombstones"))
    total = both.select(pl.col("consumed", "told", "tombstones").sum()).row(0)
    return Verdict.of_wrong(
        off.height,
        "topic partitions",
        f"{total[0]} records consumed, {total[1]} told, {total[2]} tombstones; {off.height} differ",
        off.head(SHOWN).to_dicts(),
    )
