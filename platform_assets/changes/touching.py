"""What a change of a dimension touches: the hours of facts whose attributes as of then are others.

Facts know the version of a dimension that they read (`ops/computations`). A change of a dimension is told in
`silver/dimension_changes` before it is committed: the version that it makes, the hours that it found in the facts, and
the version of the facts that it found them in. An hour of facts is stale (`restatement.stale_attributes`) that did not
read the change, and was named by it, or was written after the change had looked, if the change reaches it at all.

Why no hour is missed, whatever runs at the same time: take an hour whose rows came about without the change, and one
of which has another attribute with it.

- It read an older version of the dimension than the change makes. Both are told: the commit of a dimension carries
  progress, so it makes the next version or fails, and the number told beforehand is the number it has. An attempt that
  failed leaves a row too many, never one too few.
- Its rows were committed in a version of the facts that the change looked into: then the change saw that row, and named
  the hour. Or in a later one: then the ledger says so, and the change reaches the hour, because its span holds the row.
- Computations of one hour follow each other: each opens the facts before it reads anything, and conflicts with
  whatever was committed to them since. So the newest entries of the ledger are those of the rows that are there.
- A crash between the commit of the facts and its entries: the entries are those of the rows before. If the events are
  the same, a change that looked before that commit named the hour by those. If not, silver's entry is an older one,
  too, because it is written last, and the hour is stale by its events.

Of orders, which no fact joins, `gold/order_changes` tells the hours whose entries came, changed or went: not what is
stale, which `gold.revenue` compares, but why revenue is another than it was.
"""

from __future__ import annotations

import polars as pl

from partitions import Window
from platform_assets.changes.dimension import Dimension
from platform_assets.gold import fact_events, order_changes, orders
from platform_assets.semantics.dimensions import changed_spans
from platform_assets.silver import dimension_changes
from resources.lake import Lake


def note(lake: Lake, dimension: Dimension, before: pl.LazyFrame, after: pl.DataFrame, change: int) -> None:
    """Tell what a change of a dimension touches, before it is committed; nothing where nobody reads it by time.

    Args:
        lake: The lake.
        dimension: The dimension.
        before: Its rows that are about to be replaced, all of each key.
        after: The rows of the same keys that take their place.
        change: The Delta version that the commit makes.
    """
    if dimension is orders.DIMENSION:
        entered = order_changes.transform(before.collect(), after, change)
        if not entered.is_empty():
            lake.append(order_changes.TABLE, entered)
    for join in fact_events.JOINS:
        if join.dimension is not dimension:
            continue
        spans = changed_spans(before, after.lazy(), dimension.key, join.attributes).collect()
        if spans.is_empty():
            continue
        facts = lake.open(fact_events.TABLE)
        reach = Window(spans.select(pl.col("since").min()).item(), spans.select(pl.col("until").max()).item())
        hours = (
            lake.scan(fact_events.TABLE, reach, facts)
            .select(*dimension.key, "occurred_at")
            .join(spans.lazy(), on=dimension.key)
            .filter(pl.col("occurred_at") >= pl.col("since"), pl.col("occurred_at") < pl.col("until"))
            .select(event_hour=pl.col("occurred_at").dt.truncate("1h"))
            .unique()
            .sort("event_hour")
            .collect(engine="streaming")["event_hour"]
        )
        told = dimension_changes.transform(spans, hours, dimension.table.name, dimension.key, change, facts.version())
        lake.append(dimension_changes.TABLE, told)
