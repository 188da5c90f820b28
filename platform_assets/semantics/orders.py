"""Orders as entries of revenue: a sale each, and a refund with a negative amount (semantics 9).

An order's changes say what it is now; when it was refunded, only the changes themselves know.
"""

from __future__ import annotations

import polars as pl

from platform_assets.semantics.dimensions import ORDER, applied

REFUNDED = "refunded"
"""The status of an order that was paid back."""

_KEY = ["order_id"]
_COLUMNS = ["user_id", "status", "amount", "currency", "ordered_at"]


def entries(changes: pl.LazyFrame, refunded: str = REFUNDED) -> pl.LazyFrame:
    """The entries of every order that there is: its sale and, where it is refunded, its refund.

    Both have the amount as it stands, so that a refunded order sums to nothing. An order that was deleted, also by a
    truncation, has no entries; one that came again begins anew.

    A refund is at the commit time of the change with which the order became refunded and has been so since (a choice):
    of refunded, placed, refunded it is the second, and an order that is no longer refunded has none. Of an order that
    the first snapshot found refunded, it is the time of the snapshot. As in `dimensions.versions`, a commit time before
    an earlier change's is taken as that one's, and of several changes at one instant the last counts.

    Args:
        changes: As for `dimensions.versions`: ``lsn``, ``sequence``, ``op``, ``changed_at``, and ``order_id``,
            ``user_id``, ``status``, ``amount`` (decimal), ``currency``, ``ordered_at``.
        refunded: The status that says that an order was paid back.

    Returns:
        ``order_id``, ``entry`` (`sale`, `refund`), ``user_id``, ``amount`` (of a refund negative), ``currency``,
        ``entry_at`` (UTC; of a sale ``ordered_at`` or, where the source says none, the commit time of the change with
        which the order came); by order, the refund first.
    """
    lives = (
        applied(changes, _KEY, _COLUMNS)
        .sort(*_KEY, *ORDER)
        .with_columns(changed_at=pl.col("changed_at").cum_max().over(_KEY), is_gone=pl.col("op") == "d")
        # Of an instant what it leaves behind: a snapshot taken anew empties the table and fills it at one instant.
        .unique([*_KEY, "changed_at"], keep="last", maintain_order=True)
        # What comes after the last deletion is the order's present life.
        .filter(pl.col("is_gone").cum_sum(reverse=True).over(_KEY) == 0)
        .with_columns(is_refunded=pl.col("status").eq_missing(refunded))
    )
    is_last_run = (~pl.col("is_refunded")).cum_sum(reverse=True) == 0
    standing = lives.group_by(_KEY, maintain_order=True).agg(
        pl.col("user_id", "amount", "currency").last(),
        sold_at=pl.coalesce(pl.col("ordered_at").last(), pl.col("changed_at").first()),
        refunded_at=pl.col("changed_at").filter(is_last_run).first(),
    )
    names = [*_KEY, "entry", "user_id", "amount", "currency", "entry_at"]
    sales = standing.with_columns(entry=pl.lit("sale"), entry_at="sold_at")
    refunds = standing.filter(pl.col("refunded_at").is_not_null()).with_columns(
        entry=pl.lit("refund"), amount=-pl.col("amount"), entry_at="refunded_at"
    )
    return pl.concat([sales.select(names), refunds.select(names)]).sort(*_KEY, "entry")
