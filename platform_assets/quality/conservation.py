"""What a table must have of the layer above it, no more and no less, because its definition says so.

A stream goes on while a check reads, and a window may be waiting to be computed again. So each comparison is with
what the window was computed from, or with what is there now where the ledgers say that nothing has changed since; a
window of which neither can be told waits, and is not judged. What is read first is always the table itself: what it
was computed from is then there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    live_metrics,
    orders,
    person_day_slices,
    person_days,
    revenue,
    revenue_by_slice,
)
from platform_assets.gold.order_numbers import OrderNumber
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.check import Check
from platform_assets.quality.verdict import Finding, Verdict
from platform_assets.restatement import stale_hours
from platform_assets.semantics.activity import is_activity
from platform_assets.semantics.events import is_of_people
from platform_assets.silver import activity_hours, events, row_changes, touched_hours
from platform_assets.silver import orders as standing_orders
from platform_assets.table import Table
from resources.delta_log import changes, reached_at
from resources.lake import Lake, VersionGone

_COMPUTATIONS = 5
"""How many of a day's last computations are looked at: the one that made what is there is among them."""
_WHOLE = 1e-9
"""How far from one the parts of an order may add up to: floats."""


Comparison = Callable[[Platform, Window | None], Finding]
"""Compares a window of a table with what is above it; all of a table without partitions, where the window is None."""


@dataclass(frozen=True)
class Conservation:
    """Something that a table has in common with the layer above it, by definition.

    Attributes:
        table: The table.
        name: Of the check.
        says: What holds, in a sentence.
        compare: Looks whether it does.
    """

    table: Table
    name: str
    says: str
    compare: Comparison


def conserves(conservation: Conservation, platform: Platform, _table: Table, window: Window) -> Verdict:
    """Whether a window has of the layer above what it must have by definition."""
    return Verdict.of_finding(conservation.compare(platform, window), "differences")


def conservation_check(conservation: Conservation, *, blocking: bool) -> Check:
    """The check that a table has of the layer above what it must have by definition."""
    judge = partial(conserves, conservation)
    return Check(
        conservation.table, conservation.name, judge, conservation.says, blocking=blocking, pillar="consistency"
    )


def hours_of_silver(
    platform: Platform, window: Window, table: Table, told: pl.Expr, taken: pl.Expr, unit: str = "events"
) -> Finding:
    """Compare the hours of a table that is rebuilt from `silver/events` with the events that are there.

    Args:
        platform: The platform.
        window: Whole hours.
        table: The table; it is windowed on an instant of event time.
        told: How many events some rows of it stand for.
        taken: Which events it takes.
        unit: What is counted.
    """
    lake = platform.lake
    of_table = pl.col("table") == table.name, pl.col("upstream") == events.TABLE.name
    near = pl.col("window_start") < window.end, pl.col("window_end") > window.start
    ledger = lake.scan(computations.TABLE).filter(*of_table, *near).collect()
    handle = lake.open(table)
    known = lake.open(touched_hours.TABLE)
    touches = lake.scan(touched_hours.TABLE, window, known).select("event_hour", "silver_version").collect()
    silver = lake.open(events.TABLE)
    waiting = stale_hours(touches, ledger)
    both = _hour_by_hour(lake, window, (table, handle, told), silver, taken)
    off = both.filter(pl.col("taken") != pl.col("told"), ~pl.col("hour").is_in(waiting))
    if not off.is_empty():
        # What silver did that the ledger of touched hours does not tell yet.
        since, until = known.transaction_version(events.FOLLOWS) or 0, silver.version()
        off = off.filter(~pl.col("hour").is_in(_hours_changed(lake, since, until)))
    judged = both.filter(~pl.col("hour").is_in(waiting)).select(pl.col("taken", "told").sum()).row(0)
    late = f"; {len(waiting)} hours wait to be computed" if waiting else ""
    return Finding(f"{judged[0]} {unit} above, {judged[1]} told; {off.height} hours differ{late}", off)


def minutes_of_silver(platform: Platform, window: Window) -> Finding:
    """Compare `gold/live_metrics` with the version of `silver/events` that it has taken in, minute by minute."""
    lake = platform.lake
    handle = lake.open(live_metrics.TABLE)
    silver = lake.open(events.TABLE, handle.transaction_version(events.FOLLOWS) or 0)
    by = ["minute", "event_name", "platform"]
    of_people = lake.scan(events.TABLE, window, silver).filter(is_of_people())
    taken = of_people.group_by(pl.col("occurred_at").dt.truncate("1m").alias("minute"), "event_name", "platform")
    told = lake.scan(live_metrics.TABLE, window, handle).group_by(by).agg(told=pl.col("events").sum())
    both = _side_by_side(taken.agg(taken=pl.len()), told, by)
    off = both.filter(pl.col("taken") != pl.col("told"))
    total = both.select(pl.col("taken", "told").sum()).row(0)
    return Finding(f"{total[0]} events above, {total[1]} told; {off.height} minutes differ", off)


def persons_counted(platform: Platform, window: Window, table: Table, histories: Table, version: str) -> Finding:
    """Compare the monthly active persons of days with the histories that they were counted from: one row, one person.

    Args:
        platform: The platform.
        window: Whole days of the reporting timezone.
        table: The numbers: ``day``, ``mau``.
        histories: The histories: ``day``; a row has a bit of the last 28 days set, or is not there.
        version: The column of the table that has the version of the histories.
    """
    lake, days = platform.lake, window.days(platform.settings.zone)
    of_days = pl.col("day").is_between(days[0], days[-1])
    numbers = lake.scan(table).filter(of_days).group_by("day", version).agg(told=pl.col("mau").sum()).collect()

    def above(handle: DeltaTable, wanted: pl.Series) -> pl.DataFrame:
        rows = lake.scan(histories, handle=handle).filter(pl.col("day").is_in(wanted.implode()))
        return rows.group_by("day").agg(taken=pl.len().cast(pl.Int64)).collect(engine="streaming")

    both = numbers.join(above(lake.open(histories), numbers["day"]), on="day", how="left")
    both = both.with_columns(pl.col("taken").fill_null(0))
    off, waiting = both.filter(pl.col("taken") != pl.col("told")), 0
    parts = [off.clear()]
    for (number,), of_version in off.group_by(version):
        try:
            then = lake.open(histories, number)
            counted = of_version.drop("taken").join(above(then, of_version["day"]), on="day", how="left")
        except (VersionGone, FileNotFoundError):
            waiting += of_version.height  # what it was counted from is another thing by now, and so is due again
            continue
        parts.append(counted.with_columns(pl.col("taken").fill_null(0)).filter(pl.col("taken") != pl.col("told")))
    found = pl.concat(parts, how="diagonal").select("day", "taken", "told", version)
    late = f"; {waiting} days wait to be computed" if waiting else ""
    return Finding(f"{both['told'].sum()} persons of {both.height} days told; {found.height} days differ{late}", found)


def money_of_orders(platform: Platform, window: Window, number: OrderNumber) -> Finding:
    """Compare revenue with `gold/orders`: sales, refunds and their number, by day and currency.

    Args:
        platform: The platform.
        window: Days.
        number: A table of revenue; where it has slices, those of each dimension have all of it.
    """
    lake, zone, table = platform.lake, platform.settings.zone, number.table
    days, by = window.days(zone), ["day", "currency"]
    dimensions = pl.DataFrame({"dimension": number.attributes}) if number.attributes else None
    by += [] if dimensions is None else dimensions.columns
    sums, numbers = ["sales", "refunds"], ["orders", "refunded_orders"]
    handle = lake.open(table)
    told = (
        lake.scan(table, handle=handle)
        .filter(pl.col("day").is_between(days[0], days[-1]))
        .group_by(by)
        .agg(pl.col(*sums, *numbers).sum())
        .collect()
    )

    def above(source: DeltaTable) -> pl.DataFrame:
        entries = lake.scan(orders.TABLE, window, source).with_columns(
            day=pl.col("entry_at").dt.convert_time_zone(zone.key).dt.date(), is_sale=pl.col("entry") == "sale"
        )
        entries = entries if dimensions is None else entries.join(dimensions.lazy(), how="cross")
        amount = pl.col("amount").cast(table.schema["sales"])
        is_sale = pl.col("is_sale")
        counted = entries.group_by(by).agg(
            sales=amount.filter(is_sale).sum(),
            refunds=amount.filter(~is_sale).sum(),
            orders=is_sale.sum().cast(pl.Int64),
            refunded_orders=(~is_sale).sum().cast(pl.Int64),
        )
        return counted.collect(engine="streaming")

    def differing(source: DeltaTable) -> pl.DataFrame:
        there = above(source)
        sides = [("above", there, told), ("told", told, there)]
        names = [*by, *sums, *numbers]
        return pl.concat(
            mine.select(names).join(other, on=names, how="anti", nulls_equal=True).with_columns(side=pl.lit(side))
            for side, mine, other in sides
        )

    off = differing(lake.open(orders.TABLE))
    waiting: list[date] = []
    if not off.is_empty():
        off, waiting = _not_as_computed(platform, table, off, window, differing)
    late = f"; {len(waiting)} days wait to be computed" if waiting else ""
    counted = told["orders"].sum() // max(1, len(number.attributes))
    return Finding(f"{counted} orders told; {off['day'].n_unique()} days differ{late}", off)


def orders_sold(platform: Platform) -> Finding:
    """Compare the sales of `gold/orders` with the orders of `silver/orders` that stand: one each, of its amount.

    Both are functions of `silver/row_changes`, and are compared as of one version of it.
    """
    lake, there = platform.lake, standing_orders.DIMENSION.table
    told = lake.open(orders.TABLE)
    level = told.transaction_version(row_changes.FOLLOWS) or 0
    above = _at_progress(lake, there, row_changes.FOLLOWS, level)
    if above is None:
        return Finding(f"{there.name} is being brought up to date: judged next time", orders.TABLE.empty())
    names = ["order_id", "user_id", "amount", "currency"]
    sales = lake.scan(orders.TABLE, handle=told).filter(pl.col("entry") == "sale").select(names)
    standing = lake.scan(there, handle=above).filter(~pl.col("is_deleted")).select(names)
    missing = standing.join(sales, on=names, how="anti", nulls_equal=True).with_columns(side=pl.lit("above"))
    surplus = sales.join(standing, on=names, how="anti", nulls_equal=True).with_columns(side=pl.lit("told"))
    counts = [rows.select(pl.len()) for rows in (standing, sales)]
    off, *totals = pl.collect_all([pl.concat([missing, surplus]), *counts])
    return Finding(
        f"{totals[0].item()} orders above, {totals[1].item()} sales; {off.height} rows have no counterpart", off
    )


def credit_given(platform: Platform, window: Window) -> Finding:
    """Whether each model of `gold/conversions` gives all of each order: credit of one, and the same amount."""
    days = window.days(platform.settings.zone)
    shares = platform.lake.scan(conversions.TABLE).filter(pl.col("day").is_between(days[0], days[-1]))
    given = shares.group_by("order_id", "model").agg(pl.col("credit", "amount").sum())
    per_order = given.group_by("order_id").agg(
        models=pl.len(), amounts=pl.col("amount").n_unique(), least=pl.col("credit").min(), most=pl.col("credit").max()
    )
    is_whole = (
        (pl.col("models") == len(set(conversions.SPEC.models)))
        & (pl.col("amounts") == 1)
        & pl.all_horizontal((pl.col("least", "most") - 1).abs() <= _WHOLE)
    )
    found = per_order.with_columns(is_whole=is_whole).collect(engine="streaming")
    off = found.filter(~pl.col("is_whole")).drop("is_whole").sort("order_id")
    return Finding(f"{found.height} orders; of {off.height} a model gives more or less than all", off)


def _facts(platform: Platform, window: Window | None) -> Finding:
    return hours_of_silver(platform, _given(window), fact_events.TABLE, pl.len(), is_of_people())


def _activity(platform: Platform, window: Window | None) -> Finding:
    active = is_activity(platform.settings.passive_events)
    return hours_of_silver(platform, _given(window), activity_hours.TABLE, pl.col("events").sum(), active)


def _active(platform: Platform, window: Window | None) -> Finding:
    return persons_counted(platform, _given(window), active_users.TABLE, person_days.TABLE, "person_days_version")


def _active_by_slice(platform: Platform, window: Window | None) -> Finding:
    version = "person_day_slices_version"
    return persons_counted(platform, _given(window), active_users_by_slice.TABLE, person_day_slices.TABLE, version)


CONSERVATIONS: tuple[Conservation, ...] = (
    Conservation(
        activity_hours.TABLE,
        "conservation",
        "An hour's `events` add up to the rows of `silver/events` that are neither bots', test traffic nor passive.",
        _activity,
    ),
    Conservation(
        fact_events.TABLE,
        "conservation",
        "An hour has exactly the rows of `silver/events` that are neither bots' nor test traffic.",
        _facts,
    ),
    Conservation(
        live_metrics.TABLE,
        "conservation",
        "A minute's `events` add up to the rows of `silver/events` without bots and test traffic, at the version that "
        "is taken in.",
        lambda platform, window: minutes_of_silver(platform, _given(window)),
    ),
    Conservation(
        active_users.TABLE,
        "conservation",
        "A day's `mau` is the number of its rows in `gold/person_days`.",
        _active,
    ),
    Conservation(
        active_users_by_slice.TABLE,
        "conservation",
        "A day's `mau` add up to its rows in `gold/person_day_slices`.",
        _active_by_slice,
    ),
    Conservation(
        conversions.TABLE,
        "conservation",
        "Each model gives all of each order: `credit` adds up to one, and `amount` to the same by every model.",
        lambda platform, window: credit_given(platform, _given(window)),
    ),
    Conservation(
        revenue.TABLE,
        "conservation",
        "A day's sales, refunds and their numbers are those of `gold/orders`, by currency.",
        lambda platform, window: money_of_orders(platform, _given(window), revenue.NUMBER),
    ),
    Conservation(
        revenue_by_slice.TABLE,
        "conservation",
        "A day's sales, refunds and their numbers are those of `gold/orders`, by currency and dimension.",
        lambda platform, window: money_of_orders(platform, _given(window), revenue_by_slice.NUMBER),
    ),
    Conservation(
        orders.TABLE,
        "conservation",
        "Every order of `silver/orders` that is not deleted has one sale, of its amount.",
        lambda platform, _window: orders_sold(platform),
    ),
)
"""Every table that has something of the layer above by definition, but for those that `quality.records_told` has:
the outcomes of records. `gold/person_days` has persons, whose identity is another by the time that it is asked."""


def _given(window: Window | None) -> Window:
    if window is None:
        msg = "a table with partitions is compared window by window; none was given"
        raise ValueError(msg)
    return window


def _hour_by_hour(
    lake: Lake, window: Window, below: tuple[Table, DeltaTable, pl.Expr], silver: DeltaTable, taken: pl.Expr
) -> pl.DataFrame:
    table, handle, told = below
    above = lake.scan(events.TABLE, window, silver).filter(taken)
    counted = above.group_by(hour=pl.col("occurred_at").dt.truncate("1h")).agg(taken=pl.len())
    rows = lake.scan(table, window, handle).group_by(hour=pl.col(table.window_on).dt.truncate("1h")).agg(told=told)
    return _side_by_side(counted, rows, ["hour"])


def _side_by_side(taken: pl.LazyFrame, told: pl.LazyFrame, by: list[str]) -> pl.DataFrame:
    counts = pl.col("taken", "told").fill_null(0).cast(pl.Int64)
    both = taken.join(told, on=by, how="full", coalesce=True, nulls_equal=True).with_columns(counts)
    return both.sort(by).collect(engine="streaming")


def _hours_changed(lake: Lake, since: int, until: int) -> list[datetime]:
    """Starts of the hours that commits of `silver/events` changed."""
    found: set[datetime] = set()
    for change in changes(lake, events.TABLE, since, until, ["occurred_at"]):
        for rows in (change.added, change.removed):
            found |= set(rows["occurred_at"].dt.truncate("1h"))
    return sorted(found)


def _not_as_computed(
    platform: Platform, table: Table, off: pl.DataFrame, window: Window, differing: Callable[[DeltaTable], pl.DataFrame]
) -> tuple[pl.DataFrame, list[date]]:
    """Of the days of revenue that differ from the orders of now, those that differ from what they were computed from.

    Args:
        platform: The platform.
        table: The table of revenue.
        off: What differs from the orders of now: ``day``.
        window: The days.
        differing: What differs from some version of the orders.

    Returns:
        The rows of ``off`` that remain, and the days of which it cannot be told any more.
    """
    lake, starts = platform.lake, {span.start: day for day, span in platform.days(window).items()}
    of_table = pl.col("table") == table.name, pl.col("upstream") == orders.TABLE.name
    ledger = lake.scan(computations.TABLE).filter(*of_table, pl.col("window_start").is_in(list(starts))).collect()
    last = ledger.sort("computed_at").group_by("window_start", maintain_order=True).tail(_COMPUTATIONS)
    read: dict[date, list[int]] = defaultdict(list)
    for start, version in last.select("window_start", "upstream_version").iter_rows():
        read[starts[start]].append(version)
    is_off: dict[int, set[date] | None] = {}
    for version in {version for day in set(off["day"]) for version in read[day]}:
        try:
            is_off[version] = set(differing(lake.open(orders.TABLE, version))["day"])
        except (VersionGone, FileNotFoundError):
            is_off[version] = None
    days = set(off["day"])
    told = {day: [is_off[version] for version in read[day]] for day in days}
    right = {
        day for day, offs in told.items() if any(off_then is not None and day not in off_then for off_then in offs)
    }
    waiting = sorted(day for day in days - right if not told[day] or told[day][-1] is None)
    return off.filter(~pl.col("day").is_in([*right, *waiting])), waiting


def _at_progress(lake: Lake, table: Table, app: str, level: int) -> DeltaTable | None:
    """A table as it was last with some version of another taken in; None where it has no such version at hand."""
    try:
        beyond = reached_at(lake, table, app, level + 1)
        handle = lake.open(table, None if beyond is None else beyond.version - 1)
    except VersionGone:
        return None
    return handle if (handle.transaction_version(app) or 0) == level else None
