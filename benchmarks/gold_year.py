"""Gold as a shop of some size would have it after some days, written row by row by the tables' declarations.

Numbers are made up, but fit together: sizes, keys, layout by partition and finality are as the platform leaves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import polars as pl

from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    fact_events,
    live_metrics,
    published_numbers,
    revenue,
    revenue_by_slice,
)
from platform_assets.ops import computations
from platform_assets.silver import events, outcomes, persons, quarantine
from platform_assets.table import Table
from platform_assets.tables import create_tables, tables
from resources.lake import Lake

PLATFORMS = {"web": 0.5, "ios": 0.27, "android": 0.23}
COUNTRIES = {"US": 0.35, "DE": 0.2, "IN": 0.18, "GB": 0.15, "BR": 0.12}
PLANS = {None: 0.55, "free": 0.25, "plus": 0.13, "pro": 0.07}
STEPS = ("product_viewed", "cart_item_added", "checkout_started", "order_completed")
NAMES = (*STEPS, "page_viewed", "app_opened", "signed_up", "logged_in", "push_received", "order_refunded")
_FINAL_AFTER, _SHARES = 8, (1.0, 0.72, 0.53, 0.39)
_BLANK = {
    pl.String: "",
    pl.Int64: 0,
    pl.Int32: 0,
    pl.Boolean: False,
    pl.Float64: 0.0,
    pl.Decimal: Decimal(0),
    pl.List: [],
    pl.Date: date(2026, 1, 1),
    pl.Datetime: datetime(2026, 1, 1, tzinfo=UTC),
}


def declared(table: Table, rows: pl.DataFrame | list[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows with all columns of a table: null or blank where nothing is said."""
    given = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    blank = {c.name: None if c.nullable else _BLANK[type(c.dtype)] for c in table.columns}
    return given.select(
        (pl.col(c.name) if c.name in given.columns else pl.lit(blank[c.name])).cast(c.dtype).alias(c.name)
        for c in table.columns
    )


def fill(lake: Lake, now: datetime, days: int, users: int, live_days: int = 2, events_a_day: int = 20_000) -> None:
    """Make all tables, and fill those that the pages read.

    Args:
        lake: An empty lake.
        now: The end of the last, open day's events, UTC.
        days: Days of history.
        users: Daily active users, about.
        live_days: The newest days that have live metrics, facts and events.
        events_a_day: Of these.
    """
    create_tables(lake)
    all_days = [now.date() - timedelta(days=n) for n in reversed(range(days))]
    for table, rows in _daily(all_days, users).items():
        lake.append(_named(table), declared(_named(table), rows))
    lake.append(published_numbers.TABLE, _published(all_days, users))
    lake.append(outcomes.TABLE, _outcomes(all_days))
    lake.append(quarantine.TABLE, declared(quarantine.TABLE, [_refused(d, n) for d in all_days for n in range(20)]))
    lake.append(computations.TABLE, _computations(all_days))
    recent = all_days[-live_days:]
    lake.append(live_metrics.TABLE, pl.concat([_minutes(day, now) for day in recent]))
    acted = pl.concat([_acted(day, now, events_a_day, users) for day in recent])
    lake.append(fact_events.TABLE, declared(fact_events.TABLE, acted))
    lake.append(events.TABLE, declared(events.TABLE, acted.filter(pl.col("event_date") >= recent[-2])))
    lake.append(persons.TABLE, _persons(users))


def _named(name: str) -> Table:
    return next(table for table in tables() if table.name == name)


def _daily(days: list[date], users: int) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of the tables of numbers by the day."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for number, day in enumerate(days):
        state = _state(len(days) - 1 - number)
        dau = _dau(day, number, users) // (1 if number < len(days) - 1 else 3)
        _add(told, active_users.TABLE.name, [{"day": day, **_active(dau), **state}])
        by = {"platform": PLATFORMS, "country": COUNTRIES, "plan": PLANS}
        for dimension, parts in by.items():
            rows = [
                {"day": day, "dimension": dimension, "value": value, **_active(int(dau * part)), **state}
                for value, part in parts.items()
            ]
            _add(told, active_users_by_slice.TABLE.name, rows)
        _add(told, "gold/lifecycle/lifecycle_by_day", _lifecycle(day, dau, state, ended=number < len(days) - 1))
        _add(told, "gold/funnels/checkout", _funnel(day, dau, state))
        _add(told, "gold/experiment_results/checkout_experiment", _experiment(day, number, state))
        sold = _revenue(day, days[0], dau)
        _add(told, revenue.TABLE.name, sold)
        for dimension in revenue_by_slice.DIMENSIONS:
            _add(told, revenue_by_slice.TABLE.name, _of_slices(sold, dimension, by[dimension]))
        if day.weekday() == 0:
            _add(
                told, "gold/lifecycle/lifecycle_by_week", _lifecycle(day, 4 * dau, state, ended=number < len(days) - 7)
            )
            _add(told, "gold/retention/weekly_return", _cohort(day, days[-1], 4 * dau, timedelta(days=7), 9, state))
        if day.day == 1:
            _add(told, "gold/retention/first_orders", _cohort(day, days[-1], dau, timedelta(days=31), 7, state))
    return told


def _add(told: dict[str, list[Mapping[str, Any]]], name: str, rows: list[Mapping[str, Any]]) -> None:
    told.setdefault(name, []).extend(rows)


def _state(age: int) -> dict[str, bool]:
    return {"is_closed": age > 0, "is_final": age >= _FINAL_AFTER}


def _dau(day: date, number: int, users: int) -> int:
    weekend = 0.85 if day.weekday() >= 5 else 1.0
    return int(users * weekend * (1 + number / 600) * (0.97 + (day.toordinal() * 7919 % 61) / 1000))


def _active(dau: int) -> dict[str, Any]:
    mau = int(dau * 4.6)
    return {"dau": dau, "wau": int(dau * 2.9), "mau": mau, "stickiness": dau / mau if mau else None}


def _lifecycle(day: date, dau: int, state: Mapping[str, bool], *, ended: bool) -> list[Mapping[str, Any]]:
    shares = {"new": 0.22, "returning": 0.5, "resurrecting": 0.28, "dormant": -0.46}
    return [
        {"day": day, "status": status, "persons": int(dau * part) if ended else None, "is_complete": ended, **state}
        for status, part in shares.items()
    ]


def _funnel(day: date, dau: int, state: Mapping[str, bool]) -> list[Mapping[str, Any]]:
    return [
        {"day": day, "breakdown": platform, "step": k, "name": name, "persons": int(dau * part * share)}
        | {"from_first": share, "from_previous": share / _SHARES[max(0, k - 2)]}
        | dict.fromkeys(("mean_seconds", "p50_seconds", "p90_seconds"), None if k == 1 else 600.0 * k)
        | state
        for platform, part in PLATFORMS.items()
        for k, (name, share) in enumerate(zip(STEPS, _SHARES, strict=True), 1)
    ]


def _experiment(day: date, number: int, state: Mapping[str, bool]) -> list[Mapping[str, Any]]:
    units = 400 * (number + 1)
    wide = 0.6 / (number + 4) ** 0.5
    rows = []
    for metric, lift in (("ordered", 0.08), ("orders", 0.115)):
        spans = {"lift": wide, "cuped_lift": wide * 0.95, "sequential_lift": wide * 1.6}
        told = {f"{n}_{end}": lift + s * w for n, w in spans.items() for end, s in (("low", -1), ("high", 1))}
        rows.append(
            {"day": day, "metric": metric, "variant": "treatment", "units": units, "control_units": units + 60}
            | {"mean": 0.7 * (1 + lift), "control_mean": 0.7, "lift": lift, "cuped_lift": lift, "p_value": 0.01}
            | {"sample_ratio_p_value": 0.4, "is_sample_ratio_alarm": False, "multiple_units": units // 50}
            | told
            | state
        )
    return rows


def _revenue(day: date, first: date, dau: int) -> list[Mapping[str, Any]]:
    months = sorted({(first + timedelta(days=n)).replace(day=1) for n in range((day - first).days + 1)})[-12:]
    rows: list[Mapping[str, Any]] = []
    for currency, month in product(("EUR", "USD"), months):
        orders = max(1, dau // (20 if month == months[-1] else 120))
        sales = Decimal(orders * (79 if currency == "EUR" else 55))
        refunds = -sales * Decimal("0.07")
        row = {"day": day, "currency": currency, "cohort_month": month, "sales": sales, "refunds": refunds}
        rows.append(row | {"net": sales + refunds, "orders": orders, "buyers": orders})
    return rows


def _of_slices(
    sold: list[Mapping[str, Any]], dimension: str, parts: Mapping[str | None, float]
) -> list[Mapping[str, Any]]:
    sums = ("sales", "refunds", "net", "orders", "buyers")
    return [
        row
        | {"dimension": dimension, "value": value}
        | {name: type(row[name])(row[name] * round(100 * part) // 100) for name in sums}
        for row, (value, part) in product(sold, parts.items())
    ]


def _cohort(
    day: date, last: date, size: int, step: timedelta, intervals: int, state: Mapping[str, bool]
) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for k in range(intervals):
        ended = day + (k + 1) * step <= last
        share = 1.0 if k == 0 else 0.42 * 0.88**k * (0.85 + (day.toordinal() * 7919 + k * 31) % 31 / 100)
        numbers = {"persons": int(size * share), "share": share} if ended else {"persons": None, "share": None}
        rows.append({"day": day, "interval": k, "cohort_size": size, "is_complete": ended, **numbers, **state})
    return rows


def _published(days: list[date], users: int) -> pl.DataFrame:
    """Forty numbers of each day, each published three times."""
    names = ["active_users.dau", "active_users.wau", "active_users.mau", *(f"funnels.checkout.{n}" for n in range(37))]
    causes = (["first publication"], ["new events"], ["late events"])
    start = pl.col("window_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    grid = (
        pl.DataFrame({"window_date": days})
        .join(pl.DataFrame({"metric": names}), how="cross")
        .join(pl.DataFrame({"revision": [1, 2, 3], "causes": causes, "change": [None, 90, 3]}), how="cross")
        .with_columns(window_start=start, window_end=start + pl.duration(days=1))
        .with_columns(
            published_at=pl.col("window_end") + pl.duration(hours=pl.col("revision") * 9),
            value=pl.lit(users) + pl.col("change").fill_null(0).cum_sum().over("window_date", "metric"),
            grain=pl.lit("day"),
            source_versions=pl.lit("{}"),
            is_closed=pl.col("revision") > 1,
            is_final=pl.col("window_date") < days[-1] - timedelta(days=_FINAL_AFTER),
        )
    )
    return declared(published_numbers.TABLE, grid)


def _outcomes(days: list[date]) -> pl.DataFrame:
    parts = {"silver": 0.98, "duplicate": 0.015, "quarantined": 0.003, "dead_lettered": 0.002}
    rows: list[Mapping[str, Any]] = []
    for day, hour, (outcome, part), late in product(days, range(24), parts.items(), (0, 3)):
        at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        rows.append(
            {"topic": "client_events", "epoch": 1, "partition": late, "ingestion_hour": at, "ingestion_date": day}
            | {"event_hour": at - timedelta(hours=late), "outcome": outcome}
            | {"records": int(10_000 * part * (0.01 if late else 1)), "silver_version": 1}
        )
    return declared(outcomes.TABLE, rows)


def _refused(day: date, number: int) -> dict[str, Any]:
    reasons = (["from_the_future"], ["no_actor"], ["too_late"])[number % 3]
    return {"topic": "client_events", "offset": number, "reasons": reasons, "ingestion_date": day}


def _computations(days: list[date]) -> pl.DataFrame:
    rows = []
    for day, table in product(days, [t.name for t in tables() if t.name.startswith("gold/")]):
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = at + timedelta(days=1)
        watermark = at if day == days[-1] else end
        computed_at = watermark + timedelta(hours=1)
        rows.append(
            {"table": table, "window_start": at, "window_end": end, "upstream": "silver/events"}
            | {"watermark": watermark, "computed_at": computed_at, "computed_date": computed_at.date()}
        )
    return declared(computations.TABLE, rows)


def _minutes(day: date, now: datetime) -> pl.DataFrame:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = min(start + timedelta(days=1), now)
    span = pl.datetime_range(start, end, "1m", closed="left", eager=True, time_unit="us").alias("minute")
    grid = pl.DataFrame(span).join(pl.DataFrame({"event_name": NAMES}), how="cross")
    grid = grid.join(pl.DataFrame({"platform": list(PLATFORMS), "part": list(PLATFORMS.values())}), how="cross")
    busy = 30 + 20 * (pl.col("minute").dt.hour().cast(pl.Float64) / 4).sin() + pl.col("minute").dt.minute() % 7
    share = pl.when(pl.col("event_name") == "product_viewed").then(1.0).otherwise(0.25)
    return declared(
        live_metrics.TABLE,
        grid.with_columns(events=(busy * pl.col("part") * share).cast(pl.Int64), event_date=pl.lit(day)),
    )


def _acted(day: date, now: datetime, rows: int, users: int) -> pl.DataFrame:
    """Events of a day, by `NAMES` in turn, each of somebody."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    seconds = min(86_400.0, (now - start).total_seconds())
    n = pl.int_range(pl.len())
    made = pl.DataFrame({"row": range(rows)}).with_columns(
        occurred_at=pl.lit(start) + pl.duration(microseconds=(n * (seconds * 1e6 / rows)).cast(pl.Int64)),
        raw_id=pl.format("u:{}", (n * 7919) % users),
        user_id=pl.format("{}", (n * 7919) % users),
        event_name=pl.Series(NAMES).gather((pl.Series(range(rows)) * 31 // 7) % len(NAMES)),
        platform=pl.Series(list(PLATFORMS)).gather(pl.Series(range(rows)) * 7919 % users % 3),
        country=pl.Series(list(COUNTRIES)).gather(pl.Series(range(rows)) * 7919 % users % 5),
        user_plan=pl.lit("free"),
        event_id=pl.format("{}-{}", pl.lit(str(day)), n),
        event_date=pl.lit(day),
    )
    return made.with_columns(ingested_at=pl.col("occurred_at"), received_at=pl.col("occurred_at"))


def _persons(users: int) -> pl.DataFrame:
    ids = [f"u:{number}" for number in range(users)]
    start, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    rows = {"raw_id": ids, "person_id": ids, "valid_from": [start] * users, "valid_to": [end] * users}
    return declared(persons.TABLE, pl.DataFrame(rows))
