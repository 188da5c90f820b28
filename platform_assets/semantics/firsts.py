"""First-ever events: when an id did something for the first time (semantics 5 and 6), kept as events come and go."""

from __future__ import annotations

import polars as pl

from platform_assets.semantics.events import is_of_people, raw_id
from platform_assets.semantics.identity import ALWAYS

PAIR = ["raw_id", "event_name"]
"""What has a first: a raw id and an event name."""


def of_people(events: pl.LazyFrame) -> pl.LazyFrame:
    """Events that are neither bot nor test, passive ones among them: ``raw_id``, ``event_name``, ``occurred_at``.

    Args:
        events: ``is_bot``, ``is_test``, ``anonymous_id``, ``user_id``, ``event_name``, ``occurred_at``.
    """
    return events.filter(is_of_people()).select("event_name", "occurred_at", raw_id=raw_id())


def firsts(acted: pl.LazyFrame) -> pl.LazyFrame:
    """The first event of each id and name: `PAIR`, ``first_at``.

    Args:
        acted: `of_people`.
    """
    return acted.group_by(PAIR).agg(first_at=pl.col("occurred_at").min())


def compared(stored: pl.LazyFrame, found: pl.DataFrame, lost: pl.Series) -> pl.DataFrame:
    """What a change of some hours means for the firsts that were known before it.

    A first that is known still stands unless its own hour lost rows. Where it did, and the hours that changed hold
    nothing of that id and name as early as it, its event is gone, and what is first now may lie in any hour from then
    on: the hours that did not change hold nothing before it, or it would not have been the first.

    Args:
        stored: `PAIR`, ``first_at``: the firsts before the change, each pair once.
        found: `PAIR`, ``first_at``: the firsts among what the hours that changed hold now, each pair once.
        lost: Those of these hours that lost rows; a rewritten row may count as lost, too.

    Returns:
        `PAIR`, ``was`` (null where there was none), ``first_at``, ``is_gone``. Of a first that is gone, ``first_at`` is
        what the hours that changed know, or null: look it up. Pairs that the change does not concern are left out.
    """
    now = found.lazy().rename({"first_at": "now"})
    in_lost = pl.col("was").dt.truncate("1h").is_in(lost.implode())
    known = (
        stored.select(*PAIR, was="first_at")
        .join(now, on=PAIR, how="left")
        .filter(pl.col("now").is_not_null() | in_lost)
        .with_columns(is_gone=in_lost & (pl.col("now").is_null() | (pl.col("now") > pl.col("was"))))
        .select(*PAIR, "was", "now", "is_gone")
        .collect(engine="streaming")
    )
    new = found.rename({"first_at": "now"}).join(known, on=PAIR, how="anti")
    new = new.with_columns(was=pl.lit(None, known.schema["was"]), is_gone=False).select(known.columns)
    first = pl.when("is_gone").then("now").otherwise(pl.min_horizontal("was", "now"))
    return pl.concat([known, new]).select(*PAIR, "was", first_at=first, is_gone="is_gone")


def handed_over(firsts: pl.LazyFrame, whose: pl.LazyFrame) -> pl.LazyFrame:
    """The ids and names that belonged to somebody else after their first: `PAIR`, ``since``, the first time they did.

    Args:
        firsts: `PAIR`, ``first_at``.
        whose: `identity.PERSONS`.
    """
    turns = pl.concat([whose.select("raw_id", since=end) for end in ("valid_from", "valid_to")])
    return (
        firsts.join(turns.filter(pl.col("since") < ALWAYS[1]), on="raw_id")
        .filter(pl.col("since") > pl.col("first_at"))
        .group_by(PAIR)
        .agg(pl.col("since").min())
    )
