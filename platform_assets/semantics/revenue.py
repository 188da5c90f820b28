"""Revenue: by day, by cohort of first purchase, per user, and over a lifetime (semantics 9).

Money is decimal and never added across currencies: every amount stands beside its currency. A refund is an entry of its
own with a negative amount, at its own time.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from platform_assets.semantics.calendar import Interval, WeekStart, with_buckets
from platform_assets.semantics.engines import Frame, collected, lazy

SALE, REFUND = "sale", "refund"
"""What an entry is."""

_SUM = nw.Decimal(38, 6)
_UTC = ZoneInfo("UTC")


def revenue(
    entries: object,
    zone: ZoneInfo = _UTC,
    interval: Interval = "day",
    week_start: WeekStart = "monday",
    *,
    by: tuple[str, ...] = (),
    actor: str = "person_id",
) -> Frame:
    """Revenue of each day, week or month, by currency.

    Args:
        entries: ``order_id``, ``entry`` (`sale`, `refund`), ``amount`` (decimal, of a refund negative; null adds
            nothing), ``currency`` (null is a currency of its own), ``entry_at``, the actor (null is nobody), and the
            columns of ``by``. One row per order and entry.
        zone: The reporting timezone.
        interval: Of the buckets.
        week_start: The first day of a week.
        by: Further columns to group by.
        actor: Who bought.

    Returns:
        ``bucket`` (see `calendar`), ``currency``, the columns of ``by``; ``sales``, ``refunds`` (not positive), ``net``
        (Decimal(38, 6)); ``orders``, ``refunded_orders`` (Int64); ``buyers`` (Int64, actors with a sale in the bucket,
        currency and group: they add up over none of them).
    """
    told = with_buckets(lazy(entries), interval, zone, week_start, instant="entry_at")
    return _summed(told, ["bucket", "currency", *by], actor)


def with_cohorts(
    entries: object,
    zone: ZoneInfo = _UTC,
    interval: Interval = "month",
    week_start: WeekStart = "monday",
    *,
    actor: str = "person_id",
) -> Frame:
    """Add to each entry the bucket of its actor's first purchase, over all entries given and all currencies.

    Args:
        entries: See `revenue`; all of each actor's.
        zone: The reporting timezone.
        interval: Of the cohorts.
        week_start: The first day of a week.
        actor: Who bought.

    Returns:
        The entries with ``cohort`` (Int64, see `calendar`; null where the actor is unknown or never bought) and
        ``age`` (Int64, buckets from the cohort's to the entry's).
    """
    told = with_buckets(lazy(entries), interval, zone, week_start, instant="entry_at", name="entry_bucket")
    is_purchase = (nw.col("entry") == SALE) & ~nw.col(actor).is_null()
    firsts = (
        told.filter(is_purchase)
        .group_by(actor)
        .agg(cohort=nw.col("entry_bucket").min().cast(nw.Int64))
        .select(nw.col(actor).alias("buyer"), "cohort")
    )
    names = [name for name in told.collect_schema().names() if name != "entry_bucket"]
    joined = told.join(firsts, left_on=actor, right_on="buyer", how="left")
    return joined.with_columns(age=nw.col("entry_bucket") - nw.col("cohort")).select(*names, "cohort", "age")


def cohort_revenue(
    entries: object,
    zone: ZoneInfo = _UTC,
    interval: Interval = "month",
    week_start: WeekStart = "monday",
    *,
    actor: str = "person_id",
) -> Frame:
    """Revenue of each cohort of first purchase, bucket after bucket.

    Args:
        entries: See `with_cohorts`. Entries of nobody are in no cohort.
        zone: The reporting timezone.
        interval: Of cohorts and of the time since.
        week_start: The first day of a week.
        actor: Who bought.

    Returns:
        ``cohort``, ``age`` (0 is the bucket of the first purchase), ``currency``, and what `revenue` sums up. Where
        nobody of a cohort bought or was refunded there is no row.
    """
    told = with_cohorts(entries, zone, interval, week_start, actor=actor).filter(~nw.col("cohort").is_null())
    return _summed(told, ["cohort", "age", "currency"], actor)


def cohort_sizes(
    entries: object,
    zone: ZoneInfo = _UTC,
    interval: Interval = "month",
    week_start: WeekStart = "monday",
    *,
    actor: str = "person_id",
) -> Frame:
    """How many first bought in each bucket: ``cohort``, ``size`` (Int64). Arguments as of `cohort_revenue`."""
    told = with_cohorts(entries, zone, interval, week_start, actor=actor)
    people = told.filter(~nw.col("cohort").is_null()).group_by(actor).agg(cohort=nw.col("cohort").min())
    return people.group_by("cohort").agg(size=nw.len().cast(nw.Int64))


def lifetime_values(revenue_of_cohorts: object, sizes: object, last: int) -> pl.DataFrame:
    """What a customer of each cohort has been worth by each age: cumulated net revenue, divided by the cohort's size.

    Args:
        revenue_of_cohorts: As `cohort_revenue` has it.
        sizes: As `cohort_sizes` has it.
        last: The last bucket that has ended: what is after it is not known yet and has no row.

    Returns:
        ``cohort``, ``currency``, ``age`` (every one from 0 to ``last``), ``size``, ``net`` (of that bucket),
        ``cumulative_net`` (Decimal(38, 6)), ``ltv`` (Decimal(38, 6), rounded there and nowhere before), in that order.
        A currency is a cohort's if it ever bought or was refunded in it.
    """
    told = collected(lazy(revenue_of_cohorts)).select("cohort", "currency", "age", "net")
    counted = collected(lazy(sizes)).select("cohort", "size")
    ages = (
        told.select("cohort", "currency")
        .unique()
        .filter(pl.col("cohort") <= last)
        .with_columns(age=pl.int_ranges(0, last - pl.col("cohort") + 1))
        .explode("age")
    )
    return (
        ages.join(told, on=["cohort", "currency", "age"], how="left", nulls_equal=True)
        .join(counted, on="cohort")
        .with_columns(pl.col("net").fill_null(0))
        .sort("cohort", "currency", "age")
        .with_columns(cumulative_net=pl.col("net").cum_sum().over("cohort", "currency"))
        .with_columns(ltv=_divided("cumulative_net", "size"))
        .select("cohort", "currency", "age", "size", "net", "cumulative_net", "ltv")
    )


def per_user(revenue_of_buckets: object, active: object) -> pl.DataFrame:
    """Average revenue per active user (ARPU) and per paying user (ARPPU) of each bucket and currency.

    Args:
        revenue_of_buckets: As `revenue` has it, without further columns.
        active: ``bucket``, ``users`` (Int64): the active users of each bucket.

    Returns:
        ``bucket``, ``currency``, ``net``, ``buyers``, ``users``; ``arpu`` (net per user) and ``arppu`` (net per buyer),
        Decimal(38, 6), null without any user, or buyer. In order of bucket and currency.
    """
    counted = collected(lazy(active)).select("bucket", pl.col("users").cast(pl.Int64))
    return (
        collected(lazy(revenue_of_buckets))
        .join(counted, on="bucket", how="left")
        .with_columns(arpu=_divided("net", "users"), arppu=_divided("net", "buyers"))
        .select("bucket", "currency", "net", "buyers", "users", "arpu", "arppu")
        .sort("bucket", "currency")
    )


def _summed(told: Frame, keys: list[str], actor: str) -> Frame:
    """Amounts, orders and buyers of groups; null keys are groups, too."""
    is_sale, is_refund = nw.col("entry") == SALE, nw.col("entry") == REFUND
    one, none = nw.lit(1, nw.Int64), nw.lit(0, nw.Int64)
    amount = nw.col("amount").cast(_SUM)
    counted = told.with_columns(
        sale_amount=nw.when(is_sale).then(amount),
        refund_amount=nw.when(is_refund).then(amount),
        sale_1=nw.when(is_sale).then(one).otherwise(none),
        refund_1=nw.when(is_refund).then(one).otherwise(none),
        buyer=nw.when(is_sale).then(nw.col(actor)),
    )
    # Buyers are counted once by first summing up each: how engines count distinct nulls differs.
    each = counted.group_by(*keys, "buyer").agg(
        sales=nw.col("sale_amount").sum().cast(_SUM),
        refunds=nw.col("refund_amount").sum().cast(_SUM),
        orders=nw.col("sale_1").sum().cast(nw.Int64),
        refunded_orders=nw.col("refund_1").sum().cast(nw.Int64),
    )
    zero = nw.lit(0, nw.Int64).cast(_SUM)
    each = each.with_columns(
        sales=nw.when(nw.col("sales").is_null()).then(zero).otherwise(nw.col("sales")),
        refunds=nw.when(nw.col("refunds").is_null()).then(zero).otherwise(nw.col("refunds")),
        is_buyer=nw.when(nw.col("buyer").is_null()).then(none).otherwise(one),
    )
    summed = each.group_by(*keys).agg(
        sales=nw.col("sales").sum().cast(_SUM),
        refunds=nw.col("refunds").sum().cast(_SUM),
        orders=nw.col("orders").sum().cast(nw.Int64),
        refunded_orders=nw.col("refunded_orders").sum().cast(nw.Int64),
        buyers=nw.col("is_buyer").sum().cast(nw.Int64),
    )
    net = (nw.col("sales") + nw.col("refunds")).cast(_SUM)
    return summed.with_columns(net=net).select(*keys, "sales", "refunds", "net", "orders", "refunded_orders", "buyers")


def _divided(amount: str, count: str) -> pl.Expr:
    """An amount for each of some, rounded to six places; null for none."""
    by = pl.when(pl.col(count) > 0).then(pl.col(count)).cast(pl.Decimal(38, 6))
    return (pl.col(amount).cast(pl.Decimal(38, 6)) / by).cast(pl.Decimal(38, 6))
