"""`quality/profiles`: what the rows of each hour are like, in counts. What is usual is told by these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from partitions import Window, floor_hour
from platform_assets.ops import computations
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.restatement import ranges, settled_hours, stale_hours
from platform_assets.semantics.events import is_canary
from platform_assets.silver import events, outcomes, touched_hours
from platform_assets.streams.epochs import watermark_of
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import Lake, retrying

OUTCOMES = ("silver", "duplicate", "quarantined", "dead_lettered")
MEASURES = (*OUTCOMES, "late", "rows", "distinct", "null", "value", "other_values")

ALL_ROWS = "all rows"
"""The subject of `rows` where they are not counted by a column."""

MOST_VALUES = 100
"""How many values of a column an hour tells one by one."""

HISTORY = timedelta(weeks=8)
"""How far back from the watermark hours are profiled without being asked: what verdicts read, and some days more."""

TABLE = Table(
    name="quality/profiles",
    description=(
        "What the rows of each closed hour of the tables that are watched are like: how many there are, how many lack "
        "a column, and which values they have; of events also what became of the records that arrived in the hour, and "
        "how many of them came late. Anomalies are found in these counts. Records are counted by the hour of arrival, "
        "which late events do not change; rows by the hour of their own table's time."
    ),
    grain="source table × hour × measure × topic or column × value",
    key=("source_table", "hour", "measure", "subject", "value"),
    columns=(
        Column("source_table", pl.String(), "Name of the table that is profiled."),
        Column(
            "hour",
            TIMESTAMP,
            "UTC hour: of arrival for outcomes and `late`, else of the time that the table's windows are on.",
        ),
        Column(
            "measure",
            pl.String(),
            "What is counted: records by outcome; `late`, those of `silver` whose event is older than the hour before; "
            "`rows`; `distinct`, the values of a column; `null`, rows that lack the column; `value`, rows that have "
            "the value; `other_values`, those of all values that are not told one by one.",
            accepted=MEASURES,
        ),
        Column(
            "subject",
            pl.String(),
            f"The topic, of outcomes and `late`; of `rows` the value that they are counted by, or `{ALL_ROWS}`; else "
            "the column.",
        ),
        Column("value", pl.String(), "The value, of `value`.", nullable=True),
        Column("rows", pl.Int64(), "How many.", unit="rows", minimum=0),
        Column("of_rows", pl.Int64(), "Of how many: all records, all of `silver`, all rows.", unit="rows", minimum=0),
        Column("hour_date", pl.Date(), "UTC date of `hour`."),
    ),
    partition_by=("hour_date",),
    window_on="hour",
    partitions="hour",
    cluster_by=("source_table", "measure", "subject"),
    update="rebuild",
    service_level=timedelta(hours=2),
    version=2,
    stats=("hour",),
)

_HOUR = timedelta(hours=1)


def of_outcomes(counted: pl.DataFrame) -> pl.DataFrame:
    """What became of the records of some hours of arrival, by topic.

    Args:
        counted: `outcomes.of_producers`, of whole hours of arrival.
    """
    by = ["hour", "subject"]
    told = counted.rename({"ingestion_hour": "hour", "topic": "subject"})
    records = told.group_by(*by, "outcome").agg(rows=pl.col("records").sum())
    records = records.with_columns(of_rows=pl.col("rows").sum().over(by), measure=pl.col("outcome"))
    in_time = pl.col("event_hour") >= pl.col("hour") - _HOUR  # `late_arrivals.arrived_on_time`
    late = (
        told.filter(outcome="silver")
        .group_by(by)
        .agg(rows=pl.col("records").filter(~in_time).sum(), of_rows=pl.col("records").sum())
        .with_columns(measure=pl.lit("late"))
    )
    columns = [*by, "measure", "rows", "of_rows"]
    return _finished(pl.concat([records.select(columns), late.select(columns)]), events.TABLE)


def of_rows(table: Table, rows: pl.LazyFrame) -> pl.DataFrame:
    """Rows, and distinct values, nulls and values of the watched columns, of some hours of a table.

    Args:
        table: The table; it says what of it is watched. Of the others' columns none is read.
        rows: Rows of it, of whole hours of its windows' time.

    Raises:
        ValueError: The table is not watched.
    """
    watch = table.watch
    if watch is None:
        msg = f"table {table.name}: nothing of it is profiled, because it has no watch; say one in its file"
        raise ValueError(msg)
    hour = pl.col(table.window_on).dt.truncate("1h").alias("hour")
    subject = pl.lit(ALL_ROWS) if watch.by is None else pl.col(watch.by)
    counts = rows.group_by(hour, subject=subject).agg(rows=pl.len())
    nulls = rows.group_by(hour).agg(pl.len().alias("of_rows"), pl.col(watch.nulls).null_count())
    distinct = rows.group_by(hour).agg(pl.len().alias("of_rows"), pl.col(watch.distinct).drop_nulls().n_unique())
    values = [rows.group_by(hour, value=pl.col(name)).agg(pl.len().alias("rows")) for name in watch.values]
    counted, lacking, different, *by_value = pl.collect_all([counts, nulls, distinct, *values], engine="streaming")
    none = pl.lit(None, pl.String)
    parts = [
        told.unpivot(names, index=["hour", "of_rows"], variable_name="subject", value_name="rows").with_columns(
            measure=pl.lit(measure), value=none
        )
        for told, names, measure in ((lacking, watch.nulls, "null"), (different, watch.distinct, "distinct"))
    ]
    if not watch.outcomes:
        parts.append(
            counted.with_columns(of_rows=pl.col("rows").sum().over("hour"), measure=pl.lit("rows"), value=none)
        )
    for name, told in zip(watch.values, by_value, strict=True):
        known = told.drop_nulls("value").with_columns(of_rows=pl.col("rows").sum().over("hour"), subject=pl.lit(name))
        ranked = known.sort("hour", "rows", "value", descending=[False, True, False])
        shown = pl.int_range(pl.len()).over("hour") < MOST_VALUES
        others = ranked.filter(~shown).group_by("hour", "subject").agg(pl.col("rows").sum(), pl.col("of_rows").first())
        parts += [
            ranked.filter(shown).with_columns(measure=pl.lit("value")),
            others.with_columns(measure=pl.lit("other_values"), value=none),
        ]
    columns = ["hour", "subject", "measure", "value", "rows", "of_rows"]
    told_of_all = pl.concat(part.select(columns).cast({"rows": pl.Int64, "of_rows": pl.Int64}) for part in parts)
    return _finished(told_of_all, table)


def rebuild(platform: Platform, window: Window, tables: Sequence[Table]) -> None:
    """Profile a window: of each table the closed hours that it is done with, and of no others.

    Args:
        platform: The platform.
        window: The window.
        tables: Those that are watched.
    """
    lake = platform.lake
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> None:
            handle = lake.open(TABLE)  # before its sources are read: a rival that read them later is a conflict
            ledger = lake.scan(computations.TABLE).collect()
            profiled = []
            for table in tables:
                hours = settled(platform, table, ledger, part)["event_hour"]
                if not hours.is_empty():
                    rows, version = _profile(lake, table, part)
                    profiled.append((table, hours, rows.filter(pl.col("hour").is_in(hours.implode())), version))
            made = lake.replace(TABLE, handle, pl.concat([TABLE.empty(), *(rows for _, _, rows, _ in profiled)]), part)
            for table, hours, rows, version in profiled:
                for first, last in ranges(hours, _HOUR, REBUILD_AT_ONCE):
                    count = rows.filter(pl.col("hour").is_between(first, last)).height
                    platform.record(TABLE, Window(first, last + _HOUR), table, version, made, count)

        retrying(f"rebuild of {TABLE.name}", attempt)


def missing(table: Table, hours: pl.DataFrame, ledger: pl.DataFrame) -> list[datetime]:
    """Starts of a table's settled hours that were never profiled, in order; silent ones among them.

    Args:
        table: The table.
        hours: `settled`.
        ledger: `ops/computations`.
    """
    return stale_hours(hours.select("event_hour", silver_version=pl.lit(-1)), _of(table, ledger))


def stale(table: Table, hours: pl.DataFrame, ledger: pl.DataFrame) -> list[datetime]:
    """Starts of a table's settled hours that changed since they were profiled, in order; arguments as of `missing`."""
    behind = stale_hours(hours.rename({"version": "silver_version"}), _of(table, ledger))
    return sorted(set(behind).difference(missing(table, hours, ledger)))


def settled(platform: Platform, table: Table, ledger: pl.DataFrame, window: Window | None = None) -> pl.DataFrame:
    """The closed hours that a table is done with: the watermark of what it is made of has passed them, and so has it.

    Args:
        platform: The platform.
        table: The table.
        ledger: `ops/computations`.
        window: The hours asked about; from the table's first rows, or from `HISTORY` before the watermark on, where
            None.

    Returns:
        ``event_hour``, in order; ``version``, that with which the hour last changed: of silver for `silver/events`, of
        the table itself where it is rebuilt, -1 where no ledger tells.
    """
    lake = platform.lake
    # What follows silver is a batch behind it: an hour is closed once its last rows are known to all.
    followed = lake.open(touched_hours.TABLE)
    silver = lake.open(events.TABLE, followed.transaction_version(events.FOLLOWS) or 0)
    watermark = watermark_of(silver) if table.source == "events" else platform.watermark(table.source)
    closed = _closed(platform, table, watermark, window)
    touched = touched_hours.TABLE.empty()
    if not closed.is_empty() and (table.update == "rebuild" or table is events.TABLE):
        touched = lake.scan(touched_hours.TABLE, Window(closed[0], closed[-1] + _HOUR), followed).collect()
    if table.update == "rebuild":
        computed = ledger.filter(table=table.name, upstream=events.TABLE.name)
        return settled_hours(closed, touched, computed, _of(table, ledger))
    newest = touched.group_by("event_hour").agg(version=pl.col("silver_version").max())
    told = closed.to_frame("event_hour").join(newest, on="event_hour", how="left", maintain_order="left")
    return told.with_columns(pl.col("version").fill_null(-1))


def _closed(platform: Platform, table: Table, watermark: datetime | None, window: Window | None) -> pl.Series:
    """Starts of the hours before a watermark, in order."""
    until = None if watermark is None else floor_hour(watermark)
    since: datetime | None
    if window is not None:
        since, until = window.start, None if until is None else min(until, window.end)
    else:
        since = _first_hour(platform.lake, table)
        if since is not None and until is not None:
            since = max(since, until - HISTORY, platform.partitions.hourly.start.astimezone(UTC))
    if since is None or until is None:
        return pl.Series(dtype=TIMESTAMP)
    return pl.datetime_range(since, until, "1h", closed="left", time_zone="UTC", eager=True)


def _first_hour(lake: Lake, table: Table) -> datetime | None:
    """The hour of a table's first row, as its log tells; None where it has no rows."""
    files = pl.DataFrame(lake.open(table).get_add_actions(flatten=True))
    name = f"min.{table.window_on}"
    first = files[name].min() if name in files.columns else None
    return floor_hour(first) if isinstance(first, datetime) else None


def _profile(lake: Lake, table: Table, window: Window) -> tuple[pl.DataFrame, int]:
    """What the rows of a window are like, and the version that the table was read at."""
    if table is not events.TABLE:
        handle = lake.open(table)
        return of_rows(table, lake.scan(table, window, handle)), handle.version()
    # At the version of silver that the outcomes have taken in.
    counted = lake.open(outcomes.TABLE)
    silver = lake.open(events.TABLE, counted.transaction_version(events.FOLLOWS) or 0)
    told = outcomes.of_producers(lake, window.start, window.end, counted)
    rows = of_rows(table, lake.scan(events.TABLE, window, silver).filter(~is_canary()))
    return pl.concat([of_outcomes(told), rows]), silver.version()


def _of(table: Table, ledger: pl.DataFrame) -> pl.DataFrame:
    """The computations of a table's profiles."""
    return ledger.filter(table=TABLE.name, upstream=table.name)


def _finished(counts: pl.DataFrame, source: Table) -> pl.DataFrame:
    value = [] if "value" in counts.columns else [pl.lit(None, pl.String).alias("value")]
    return counts.with_columns(*value, source_table=pl.lit(source.name), hour_date=pl.col("hour").dt.date()).select(
        TABLE.schema.names()
    )
