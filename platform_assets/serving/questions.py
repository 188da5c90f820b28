"""What the pages ask of the lake: typed functions, each one SQL query over a `Catalog`, or a few.

All SQL of the dashboard is here, and nothing of what it looks like. Rows come back sorted. Days are of the reporting
timezone, both ends included; instants are UTC. Rows that say how final they are have ``state``: ``final``, ``closed``
(late events may still change it) or ``open`` (its window has not ended), as in semantics 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets.gold import revenue as revenue_table
from platform_assets.gold.published_numbers import Explanation
from platform_assets.ops.canaries import OUTCOMES
from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.events import CANARY, STRAGGLES_AFTER, raw_id
from platform_assets.semantics.funnels import Funnel, Step, attempts, furthest, summary
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.semantics.sessions import OURS
from platform_assets.serving.catalog import Catalog, sql_name
from platform_assets.serving.views import PERSON, WHOSE
from platform_assets.silver import events as silver
from platform_assets.streams.epochs import watermark_of
from platform_assets.table import Table

CONVERSIONS: tuple[str, ...] = OURS.conversion.events or ()
"""The names of the events that are conversions, as sessions count them."""

MOST_DAYS = 31
"""The most days of a funnel that is asked on the fly."""

MOST_ROWS = 5_000_000
"""The most events that a funnel reads that is asked on the fly."""

FACT_COLUMNS = {"platform": "platform", "country": "country", "plan": "user_plan"}
"""The columns of `gold/fact_events` by the dimension that they are: values as of the event."""

UNKNOWN = "not known"
"""What a value is called that is null."""

_HOUR = timedelta(hours=1)
_RECENT = timedelta(days=2)
_STATE = "CASE WHEN is_final THEN 'final' WHEN is_closed THEN 'closed' ELSE 'open' END AS state"
_LATE = f"event_hour + INTERVAL {int(STRAGGLES_AFTER.total_seconds())} SECOND < ingestion_hour"
_NO_RESTATEMENT = ("first publication", "new events", "finality")


_EVERYBODY: Mapping[str, str] = {}


class TooMuch(ValueError):
    """A question on the fly would read more than it may; the message says how to ask for less."""


def metric_tables(catalog: Catalog, folder: str) -> dict[str, Table]:
    """The tables of the metrics of one kind, by the metric's name: those of `gold/<folder>`.

    Args:
        catalog: The tables.
        folder: ``funnels``, ``retention``, ``lifecycle``, ``experiment_results``.
    """
    start = f"gold/{folder}/"
    found = [table for table in catalog.tables.values() if table.name.startswith(start)]
    return {table.name.removeprefix(start): table for table in sorted(found, key=lambda table: table.name)}


def newest_day(catalog: Catalog, table: Table) -> date | None:
    """The newest ``day`` of a table; None of an empty one."""
    found: date | None = catalog.sql(f"SELECT max(day) AS day FROM {sql_name(table)}").item()
    return found


# --- Now


@dataclass(frozen=True)
class Freshness:
    """How far the stream of events has come.

    Attributes:
        watermark: Up to here nothing more is expected but late events; None before the first event.
        newest_event: The greatest event time; None before the first event.
        newest_arrival: The greatest ingestion time of the last two days' events; where there are none, of those of the
            newest day that has some.
        behind: Commits of `silver/events` that `gold/live_metrics` has not taken in.
    """

    watermark: datetime | None
    newest_event: datetime | None
    newest_arrival: datetime | None
    behind: int


def freshness(catalog: Catalog, now: datetime) -> Freshness:
    """How far the stream has come, by the logs of its tables."""
    others = "silver.events WHERE NOT (is_test AND event_name = $canary)"
    query = f"SELECT max(occurred_at) AS event, max(ingested_at) AS arrival FROM {others} AND event_date >= $since"
    given = {"since": (now - _RECENT).astimezone(UTC).date(), "canary": CANARY}
    newest = catalog.sql(query, given).row(0, named=True)
    if newest["event"] is None:
        since = catalog.sql(f"SELECT max(event_date) FROM {others}", {"canary": CANARY}).item()
        newest = catalog.sql(query, {**given, "since": since}).row(0, named=True)
    events, live = catalog.handle("silver.events"), catalog.handle("gold.live_metrics")
    taken_in = live.transaction_version(silver.FOLLOWS) or 0
    return Freshness(watermark_of(events), newest["event"], newest["arrival"], max(0, events.version() - taken_in))


def end_to_end(catalog: Catalog, now: datetime) -> float | None:
    """Seconds from being sent to being readable in gold, of the newest canary of the last hour; None without one."""
    query = """
        SELECT freshness_seconds FROM ops.canaries
        WHERE sent_at > $since AND freshness_seconds IS NOT NULL ORDER BY sent_at DESC, topic LIMIT 1"""
    found = catalog.sql(query, {"since": now - _HOUR})
    return None if found.is_empty() else float(found.item())


def canaries(catalog: Catalog, now: datetime) -> pl.DataFrame:
    """How the platform's own events of the last day fared, by topic.

    Returns:
        ``topic``, ``sent``, ``arrived``, ``lost``, ``refused``, ``unsent``, ``waiting``: how many; ``p50``, ``p95``,
        ``slowest``: seconds from being sent to being readable in gold.
    """
    counts = ", ".join(f"count(*) FILTER (WHERE outcome = '{name}') AS {name}" for name in OUTCOMES)
    query = f"""
        SELECT topic, count(*) AS sent, {counts}, quantile_cont(freshness_seconds, 0.5) AS p50,
            quantile_cont(freshness_seconds, 0.95) AS p95, max(freshness_seconds) AS slowest
        FROM ops.canaries WHERE sent_at > $since GROUP BY topic ORDER BY topic"""
    return catalog.sql(query, {"since": now - timedelta(days=1)})


def events_per_minute(catalog: Catalog, window: Window, platform: str | None = None) -> pl.DataFrame:
    """Events by minute and platform: ``minute``, ``platform``, ``events``. Minutes without any have no row."""
    query = f"""
        SELECT minute, coalesce(platform, '{UNKNOWN}') AS platform, sum(events)::BIGINT AS events
        FROM gold.live_metrics WHERE {_MINUTES} GROUP BY ALL HAVING sum(events) != 0 ORDER BY ALL"""
    return catalog.sql(query, _of_minutes(window, platform))


def events_by_name(catalog: Catalog, window: Window, platform: str | None = None) -> pl.DataFrame:
    """Events by name, the most frequent first: ``event_name``, ``events``."""
    query = f"""
        SELECT event_name, sum(events)::BIGINT AS events FROM gold.live_metrics WHERE {_MINUTES}
        GROUP BY ALL HAVING sum(events) != 0 ORDER BY events DESC, event_name"""
    return catalog.sql(query, _of_minutes(window, platform))


def platforms(catalog: Catalog, window: Window) -> list[str]:
    """The platforms that events of a window came from."""
    return events_per_minute(catalog, window)["platform"].unique().sort().to_list()


def active_persons(
    catalog: Catalog, windows: Sequence[Window], passive_events: frozenset[str], platform: str | None = None
) -> list[int]:
    """How many persons were active in each of some windows (semantics 5), as `silver/persons` knows them now.

    An id belongs to whom it belonged at its last event of the window.
    """
    whole = Window(min(w.start for w in windows), max(w.end for w in windows))
    within = [f"occurred_at >= $start_{k} AND occurred_at < $end_{k}" for k in range(len(windows))]
    spans: dict[str, Any] = {}
    for k, window in enumerate(windows):
        spans |= {f"start_{k}": window.start, f"end_{k}": window.end}
    lasts = ", ".join(f"max(occurred_at) FILTER (WHERE {told}) AS last_{k}" for k, told in enumerate(within))
    query = f"""
        SELECT user_id, anonymous_id, {lasts} FROM silver.events
        WHERE event_date BETWEEN $first AND $last AND ({" OR ".join(f"({told})" for told in within)})
            AND NOT is_bot AND NOT is_test AND NOT list_contains($passive, event_name)
            AND ($platform IS NULL OR coalesce(platform, '{UNKNOWN}') = $platform)
        GROUP BY user_id, anonymous_id"""
    given = {"first": whole.first_date, "last": whole.last_date, "passive": sorted(passive_events), **spans}
    seen = catalog.sql(query, {**given, "platform": platform}).with_columns(raw_id=raw_id())
    whose = _persons_of(catalog, seen["raw_id"])
    counted = []
    for k in range(len(windows)):
        acted = seen.lazy().select("raw_id", occurred_at=f"last_{k}").drop_nulls()
        counted.append(joined(acted, whose.lazy()).select(pl.col("person_id").n_unique()).collect().item())
    return counted


_MINUTES = f"""event_date BETWEEN $first AND $last AND minute >= $start AND minute < $end
    AND ($platform IS NULL OR coalesce(platform, '{UNKNOWN}') = $platform)"""


def _instants(window: Window) -> dict[str, Any]:
    """A window's instants, and its UTC dates."""
    return {"first": window.first_date, "last": window.last_date, "start": window.start, "end": window.end}


def _of_minutes(window: Window, platform: str | None) -> dict[str, Any]:
    return {**_instants(window), "platform": platform}


def _persons_of(catalog: Catalog, raw_ids: pl.Series) -> pl.DataFrame:
    """The rows of `silver/persons` of some ids."""
    query = f"SELECT {', '.join(PERSONS.names())} FROM silver.persons WHERE raw_id IN (SELECT unnest($ids))"
    return catalog.sql(query, {"ids": raw_ids.unique().sort().to_list()})


# --- Growth


def active_users(catalog: Catalog, first: date, last: date) -> pl.DataFrame:
    """Active users by day: ``day``, ``dau``, ``wau``, ``mau``, ``stickiness``, ``state``, ``watermark``."""
    query = f"""
        SELECT day, dau, wau, mau, stickiness, {_STATE}, watermark FROM gold.active_users
        WHERE day BETWEEN ? AND ? ORDER BY day"""
    return catalog.sql(query, [first, last])


def slices(catalog: Catalog, dimension: str, first: date, last: date) -> list[str]:
    """The values of a dimension of `gold/active_users_by_slice`, those with the most monthly users first."""
    query = f"""
        SELECT coalesce(value, '{UNKNOWN}') AS value FROM gold.active_users_by_slice
        WHERE dimension = ? AND day BETWEEN ? AND ? GROUP BY ALL ORDER BY max(mau) DESC, value"""
    return catalog.sql(query, [dimension, first, last])["value"].to_list()


def active_users_of(catalog: Catalog, dimension: str, values: Sequence[str], first: date, last: date) -> pl.DataFrame:
    """Active users by day and slice: ``day``, ``value``, and the columns of `active_users`.

    Slices do not add up: a person counts in each value they had.
    """
    query = f"""
        SELECT day, coalesce(value, '{UNKNOWN}') AS value, dau, wau, mau, stickiness, {_STATE}, watermark
        FROM gold.active_users_by_slice
        WHERE dimension = ? AND day BETWEEN ? AND ? AND list_contains(?, coalesce(value, '{UNKNOWN}'))
        ORDER BY day, value"""
    return catalog.sql(query, [dimension, first, last, list(values)])


def lifecycle(catalog: Catalog, table: Table, first: date, last: date) -> pl.DataFrame:
    """Persons by bucket and status: ``day``, ``status``, ``persons``, ``state``; dormant ones negative.

    Buckets that have not ended have no numbers, and no rows here.
    """
    query = f"""
        SELECT day, status, persons, {_STATE} FROM {sql_name(table)}
        WHERE day BETWEEN ? AND ? AND is_complete ORDER BY day, status"""
    return catalog.sql(query, [first, last])


# --- Retention


def retention(catalog: Catalog, table: Table, first: date, last: date) -> pl.DataFrame:
    """Cohorts that begin in some days: ``day``, ``interval``, ``persons``, ``cohort_size``, ``share``, ``is_complete``,
    ``state``. A cell that is not complete has no number.
    """
    query = f"""
        SELECT day, interval, persons, cohort_size, share, is_complete, {_STATE} FROM {sql_name(table)}
        WHERE day BETWEEN ? AND ? ORDER BY day, interval"""
    return catalog.sql(query, [first, last])


# --- Funnels


def breakdowns(catalog: Catalog, table: Table, first: date, last: date) -> list[str]:
    """The values that a funnel is told by, those that most entered with first."""
    query = f"""
        SELECT coalesce(breakdown, '{UNKNOWN}') AS breakdown FROM {sql_name(table)}
        WHERE day BETWEEN ? AND ? AND step = 1 GROUP BY ALL ORDER BY sum(persons) DESC, breakdown"""
    return catalog.sql(query, [first, last])["breakdown"].to_list()


def funnel(catalog: Catalog, table: Table, asked: Funnel, first: date, last: date) -> pl.DataFrame:
    """A funnel over some days, by breakdown: ``breakdown``, ``step``, ``name``, ``persons`` (each day that somebody
    entered counts), ``mean_seconds`` from the step before, and what `with_shares` adds.

    Means are of all who took the step; medians of days do not add up to one of many days, so there is none.
    """
    query = f"""
        SELECT coalesce(breakdown, '{UNKNOWN}') AS breakdown, step, any_value(name) AS name,
            sum(persons)::BIGINT AS persons,
            sum(mean_seconds * persons) / nullif(sum(persons) FILTER (WHERE mean_seconds IS NOT NULL), 0)
                AS mean_seconds
        FROM {sql_name(table)} WHERE day BETWEEN ? AND ? GROUP BY ALL ORDER BY ALL"""
    return with_shares(catalog.sql(query, [first, last]), asked)


def with_shares(counted: pl.DataFrame, asked: Funnel) -> pl.DataFrame:
    """Add ``from_first`` and ``from_previous`` to the ``persons`` of each ``breakdown`` and ``step``: their share of
    those who took the first step, and the required step before; null of none. Sorted by breakdown and step.
    """
    before = {k: r or k for k, r in asked.steps_before.items()}
    of_step = pl.col("persons").replace(0, None)
    earlier = counted.select("breakdown", pl.col("step").alias("before"), of_step.alias("took"))
    return (
        counted.sort("breakdown", "step")
        .with_columns(before=pl.col("step").replace_strict(before, default=None, return_dtype=counted.schema["step"]))
        .join(earlier, on=["breakdown", "before"], how="left", maintain_order="left")
        .with_columns(
            from_first=pl.col("persons") / of_step.first().over("breakdown"),
            from_previous=pl.col("persons") / pl.col("took"),
        )
        .drop("before", "took")
    )


def funnel_by_day(catalog: Catalog, table: Table, first: date, last: date) -> pl.DataFrame:
    """How many of those who entered on each day got to the end: ``day``, ``breakdown``, ``entered``, ``converted``,
    ``share``, ``p50_seconds``, ``p90_seconds`` (of the last step, from the one before), ``state``.
    """
    query = f"""
        WITH ends AS (SELECT max(step) AS last FROM {sql_name(table)})
        SELECT day, coalesce(breakdown, '{UNKNOWN}') AS breakdown,
            max(persons) FILTER (WHERE step = 1) AS entered, max(persons) FILTER (WHERE step = last) AS converted,
            converted / nullif(entered, 0) AS share,
            max(p50_seconds) FILTER (WHERE step = last) AS p50_seconds,
            max(p90_seconds) FILTER (WHERE step = last) AS p90_seconds,
            CASE WHEN bool_and(is_final) THEN 'final' WHEN bool_and(is_closed) THEN 'closed' ELSE 'open' END AS state
        FROM {sql_name(table)}, ends WHERE day BETWEEN ? AND ? GROUP BY ALL ORDER BY ALL"""
    return catalog.sql(query, [first, last])


def event_names(catalog: Catalog, first: date, last: date) -> list[str]:
    """The names of the events of some UTC dates, the most frequent first."""
    query = """
        SELECT event_name FROM gold.live_metrics WHERE event_date BETWEEN ? AND ?
        GROUP BY ALL HAVING sum(events) > 0 ORDER BY sum(events) DESC, event_name"""
    return catalog.sql(query, [first, last])["event_name"].to_list()


def _names(steps: Sequence[Step]) -> list[str]:
    """The names of the events that some steps ask for."""
    return sorted({name for step in steps for name in step.events or ()})


def explored(
    catalog: Catalog,
    asked: Funnel,
    first: date,
    last: date,
    zone: ZoneInfo,
    only: Mapping[str, str] | None = None,
    most_rows: int = MOST_ROWS,
) -> pl.DataFrame:
    """A funnel asked on the fly, over `gold/fact_events`: of those who entered in some days, each person once.

    Args:
        catalog: The tables.
        asked: The funnel; its steps ask for events by name, its breakdown is a column of facts.
        first: The first day that people enter on.
        last: The last one; at most `MOST_DAYS` days.
        zone: The reporting timezone.
        only: Values of columns of facts that events must have, by column; `UNKNOWN` is null.
        most_rows: The most events to read.

    Returns:
        See `semantics.funnels.summary`; ``breakdown`` where there is one.

    Raises:
        TooMuch: There are more days, or more events.
    """
    if (days := (last - first).days + 1) > MOST_DAYS:
        msg = f"{days} days are asked for, and at most {MOST_DAYS} are read on the fly: choose fewer days"
        raise TooMuch(msg)
    entered = Window.of_days(first, last, zone)
    read = Window(entered.start, entered.end + asked.window)
    columns = asked.breakdown_columns
    properties = () if asked.breakdown is None else asked.breakdown.properties
    wanted = "event_date BETWEEN $first AND $last AND occurred_at >= $start AND occurred_at < $end"
    given = _instants(read)
    if asked.order != "strict":  # there, any other event of the person ends the attempt
        wanted += " AND list_contains($names, event_name)"
        given["names"] = _names(asked.steps)
    for column, value in (only or {}).items():
        wanted += f" AND coalesce({column}, '{UNKNOWN}') = ${column}"
        given[column] = value
    rows = catalog.sql(f"SELECT count(*) AS n FROM gold.fact_events AS facts WHERE {wanted}", given).item()
    if rows > most_rows:
        msg = (
            f"this funnel would read {rows:,} events, and at most {most_rows:,} are read on the fly: choose fewer "
            "days, or put it into platform_assets/gold/metrics as a file (docs/metrics.md)"
        )
        raise TooMuch(msg)
    # Whoever did not begin in the days has no attempt that counts: most events need not leave DuckDB.
    begin_with = asked.steps if asked.order == "unordered" else asked.steps[:1]
    given |= {"begin_with": _names(begin_with), "entered": entered.end}
    kept = ", ".join(f"facts.{name}" for name in ("occurred_at", "event_name", *properties))
    query = f"""
        WITH acted AS MATERIALIZED (
            SELECT {PERSON} AS person_id, {kept} FROM gold.fact_events AS facts {WHOSE} WHERE {wanted})
        SELECT * FROM acted WHERE person_id IN (
            SELECT person_id FROM acted WHERE list_contains($begin_with, event_name) AND occurred_at < $entered)"""
    of_persons = catalog.sql(query, given).lazy()
    tried = attempts(of_persons, asked, interval="day", zone=zone)
    begun = tried.filter(nw.col("bucket").is_between(bucket_of(first, "day"), bucket_of(last, "day"))).drop("bucket")
    told = summary(furthest(begun, ["person_id", *columns]), asked)
    if not columns:
        return told
    return told.with_columns(pl.col(columns[0]).fill_null(UNKNOWN)).rename({columns[0]: "breakdown"})


# --- Experiments


def experiment(catalog: Catalog, table: Table, last: date) -> pl.DataFrame:
    """All rows of an experiment up to a day: the table's columns, and ``state``; by day, metric, variant."""
    query = f"SELECT *, {_STATE} FROM {sql_name(table)} WHERE day <= ? ORDER BY day, metric, variant"
    return catalog.sql(query, [last])


# --- Revenue


def _revenue_of(people: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The table of revenue of everybody, or of buyers with one value: SQL, and what its parameters are."""
    if len(people) > 1:
        msg = f"revenue is told by one dimension at a time, not by {' and '.join(people)}: leave out all but one"
        raise ValueError(msg)
    for dimension, value in people.items():
        of_one = f"dimension = $dimension AND coalesce(value, '{UNKNOWN}') = $value"
        return f"(FROM gold.revenue_by_slice WHERE {of_one})", {"dimension": dimension, "value": value}
    return "gold.revenue", {}


def currencies(catalog: Catalog, first: date, last: date) -> list[str]:
    """The currencies of some days, those with the most orders first."""
    query = f"""
        SELECT coalesce(currency, '{UNKNOWN}') AS currency FROM gold.revenue WHERE day BETWEEN ? AND ?
        GROUP BY ALL ORDER BY sum(orders) DESC, currency"""
    return catalog.sql(query, [first, last])["currency"].to_list()


def buyers_values(catalog: Catalog, dimension: str, first: date, last: date) -> list[str]:
    """The values of a dimension of `gold/revenue_by_slice`, those with the most orders first."""
    query = f"""
        SELECT coalesce(value, '{UNKNOWN}') AS value FROM gold.revenue_by_slice
        WHERE dimension = ? AND day BETWEEN ? AND ? GROUP BY ALL ORDER BY sum(orders) DESC, value"""
    return catalog.sql(query, [dimension, first, last])["value"].to_list()


def revenue(catalog: Catalog, first: date, last: date, people: Mapping[str, str] = _EVERYBODY) -> pl.DataFrame:
    """Revenue by day and currency: ``day``, ``currency``, ``sales``, ``refunds``, ``net``, ``orders``.

    Args:
        catalog: The catalog.
        first: The first day.
        last: The last day.
        people: Whose orders: a dimension of `gold/revenue_by_slice` and its value; nothing for everybody's.

    Raises:
        ValueError: There are two dimensions.
    """
    table, of_whom = _revenue_of(people)
    query = f"""
        SELECT day, coalesce(currency, '{UNKNOWN}') AS currency, sum(sales) AS sales, sum(refunds) AS refunds,
            sum(net) AS net, sum(orders)::BIGINT AS orders
        FROM {table} WHERE day BETWEEN $first AND $last GROUP BY ALL ORDER BY day, currency"""
    return catalog.sql(query, {"first": first, "last": last, **of_whom})


def revenue_state(catalog: Catalog, window: Window, table: Table = revenue_table.TABLE) -> str:
    """How final the revenue of a window of days is, in one of its tables: ``closed`` where its last day was computed
    with the database's changes past the window's end, else ``open``; never final (semantics 9).
    """
    query = """
        SELECT coalesce(max(watermark) >= $end, false) FROM ops.computations
        WHERE "table" = $table AND window_start < $end AND window_end >= $end"""
    found = catalog.sql(query, {"end": window.end, "table": table.name})
    return "closed" if found.item() else "open"


def revenue_by_cohort(
    catalog: Catalog, currency: str, first: date, last: date, people: Mapping[str, str] = _EVERYBODY
) -> pl.DataFrame:
    """Revenue in one currency by month and by the month of the buyers' first purchase: ``month``, ``cohort_month``
    (null where orders name nobody), ``net``, ``orders``. ``people``: see `revenue`.
    """
    table, of_whom = _revenue_of(people)
    query = f"""
        SELECT date_trunc('month', day)::DATE AS month, cohort_month, sum(net) AS net, sum(orders)::BIGINT AS orders
        FROM {table} WHERE coalesce(currency, '{UNKNOWN}') = $currency AND day BETWEEN $first AND $last
        GROUP BY ALL ORDER BY month, cohort_month NULLS LAST"""
    return catalog.sql(query, {"currency": currency, "first": first, "last": last, **of_whom})


def revenue_by(catalog: Catalog, dimension: str, currency: str, first: date, last: date) -> pl.DataFrame:
    """Revenue in one currency by a dimension of `gold/revenue_by_slice`: ``value``, ``sales``, ``refunds``, ``net``,
    ``orders``; those with the most net revenue first.
    """
    query = f"""
        SELECT coalesce(value, '{UNKNOWN}') AS value, sum(sales) AS sales, sum(refunds) AS refunds, sum(net) AS net,
            sum(orders)::BIGINT AS orders
        FROM gold.revenue_by_slice
        WHERE dimension = ? AND coalesce(currency, '{UNKNOWN}') = ? AND day BETWEEN ? AND ?
        GROUP BY ALL ORDER BY net DESC, value"""
    return catalog.sql(query, [dimension, currency, first, last])


# --- Why did it change


_BEGINS = """window_start >= $start AND window_start < $end
    AND window_date BETWEEN $first AND $last"""


def published_metrics(catalog: Catalog, window: Window) -> list[str]:
    """The names of the numbers that were published of windows that begin within a window of instants."""
    query = f"SELECT DISTINCT metric FROM gold.published_numbers WHERE {_BEGINS} ORDER BY metric"
    return catalog.sql(query, _instants(window))["metric"].to_list()


def published_slices(catalog: Catalog, metric: str, window: Window) -> list[str]:
    """The slices that a number was published of, of such windows; the empty one is the total."""
    query = f"SELECT DISTINCT slice FROM gold.published_numbers WHERE metric = $metric AND {_BEGINS} ORDER BY slice"
    return catalog.sql(query, {**_instants(window), "metric": metric})["slice"].to_list()


def explanations(entries: pl.DataFrame, zone: ZoneInfo, known_by: datetime | None = None) -> list[Explanation]:
    """What was said of a number by an instant, window by window: the rows of `metrics.published`."""
    told = []
    for (metric, sliced, start, end), rows in entries.group_by(
        "metric", "slice", "window_start", "window_end", maintain_order=True
    ):
        told.append(Explanation(str(metric), str(sliced), Window(start, end), zone, rows, known_by))
    return told


def restatements(catalog: Catalog, window: Window) -> pl.DataFrame:
    """How many published numbers were restated within a window, on each UTC date of it, by cause: ``day``, ``cause``,
    ``changes``. A change of several causes counts in each.
    """
    query = """
        WITH told AS (
            SELECT published_at::DATE AS day, unnest(causes) AS cause FROM gold.published_numbers
            WHERE published_at >= $start AND published_at < $end)
        SELECT day, cause, count(*) AS changes FROM told WHERE NOT list_contains($others, cause)
        GROUP BY ALL ORDER BY day, cause"""
    return catalog.sql(query, {"start": window.start, "end": window.end, "others": list(_NO_RESTATEMENT)})


# --- Health


def outcomes(catalog: Catalog, first: date, last: date) -> pl.DataFrame:
    """What became of the records that came on each UTC date.

    Returns:
        ``day``, ``records``, ``duplicate``, ``quarantined``, ``dead_lettered``, ``late`` (events in silver whose hour
        had ended over an hour before the hour that they came in), ``silver``.
    """
    counted = ", ".join(
        f"coalesce(sum(records) FILTER (WHERE outcome = '{outcome}'), 0)::BIGINT AS {outcome}"
        for outcome in ("duplicate", "quarantined", "dead_lettered", "silver")
    )
    query = f"""
        SELECT ingestion_date AS day, sum(records)::BIGINT AS records, {counted},
            coalesce(sum(records) FILTER (WHERE outcome = 'silver' AND {_LATE}), 0)::BIGINT AS late
        FROM silver.outcomes WHERE ingestion_date BETWEEN ? AND ? GROUP BY ALL ORDER BY day"""
    return catalog.sql(query, [first, last])


def refusals(catalog: Catalog, first: date, last: date) -> pl.DataFrame:
    """Why records were refused: ``table``, ``reason``, ``records``; a record counts for each of its reasons."""
    query = """
        WITH told AS (
            SELECT 'quarantine' AS "table", unnest(reasons) AS reason FROM silver.quarantine
            WHERE ingestion_date BETWEEN $first AND $last
            UNION ALL
            SELECT 'dead letters', unnest(reasons) FROM bronze.dead_letters
            WHERE ingestion_date BETWEEN $first AND $last)
        SELECT "table", reason, count(*) AS records FROM told GROUP BY ALL ORDER BY records DESC, "table", reason"""
    return catalog.sql(query, {"first": first, "last": last})


def computed(catalog: Catalog) -> pl.DataFrame:
    """When each table that is rebuilt was computed last: ``table``, ``computed_at``, ``newest_window`` (the end of the
    newest window computed), ``watermark`` of then. A table that was only sorted, by `maintain`, was not computed.
    """
    query = """
        SELECT "table", max(computed_at) AS computed_at, max(window_end) AS newest_window,
            arg_max(watermark, computed_at) AS watermark
        FROM ops.computations WHERE upstream <> "table" GROUP BY ALL ORDER BY "table\""""
    return catalog.sql(query)


def failing_checks(catalog: Catalog, since: datetime) -> pl.DataFrame:
    """The checks that fail: by partition, what the newest evaluation since an instant said, where it did not pass.

    Returns:
        ``asset``, ``check_name``, ``pillar``, ``severity``, ``partition_key`` (the newest that fails), ``partitions``
        (how many fail), ``description``, ``evaluated_at``; the worst first.
    """
    query = """
        WITH looks AS (
            SELECT *, row_number() OVER (PARTITION BY asset, check_name, partition_key ORDER BY event DESC) AS back
            FROM quality.check_results WHERE evaluated_date >= $date AND evaluated_at >= $since),
        failing AS (
            SELECT asset, check_name, arg_max(pillar, event) AS pillar, arg_max(severity, event) AS worst,
                max(partition_key) AS partition_key, count(*) AS partitions,
                arg_max(description, event) AS description, max(evaluated_at) AS evaluated_at
            FROM looks WHERE back = 1 AND NOT passed GROUP BY asset, check_name)
        SELECT asset, check_name, pillar, worst AS severity, partition_key, partitions, description, evaluated_at
        FROM failing ORDER BY worst = 'warning', partitions DESC, asset, check_name"""
    return catalog.sql(query, {"date": since.date(), "since": since})


def service_levels(catalog: Catalog, first_week: date) -> pl.DataFrame:
    """The service levels of weeks from a Monday on: ``week_name``, ``asset``, ``due``, ``met``, ``missed``,
    ``unjudged``, ``attained``, ``budget_left``; the newest week first, and in it the least budget.
    """
    query = """
        SELECT week_name, asset, due, met, missed, unjudged, attained, budget_left FROM quality.service_levels
        WHERE week >= ? AND due > 0 ORDER BY week DESC, budget_left, asset"""
    return catalog.sql(query, [first_week])


def newest_rows(catalog: Catalog, name: str, limit: int = 100) -> pl.DataFrame:
    """The newest rows of a ledger by its name in SQL, by the column that its windows are on.

    Raises:
        KeyError: The platform declares no such table.
    """
    table = catalog.tables[name]
    last = ", ".join(f'"{column}"' for column in table.key)
    return catalog.sql(f'SELECT * FROM {name} ORDER BY "{table.window_on}" DESC, {last} LIMIT {limit:d}')
