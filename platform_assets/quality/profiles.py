"""`quality/profiles`: what the rows of each hour are like, in counts. What is usual is told by these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from partitions import Window, floor_hour
from platform_assets.platform import REBUILD_AT_ONCE, Platform
from platform_assets.restatement import stale_hours
from platform_assets.semantics.events import is_canary
from platform_assets.silver import events, outcomes, touched_hours
from platform_assets.table import TIMESTAMP, Column, Table
from resources.lake import retrying

MEASURES = ("silver", "duplicate", "quarantined", "dead_lettered", "late", "null", "value", "other_values")

NULLS_OF = ("anonymous_id", "user_id", "session_id", "app_version", "platform", "device_type", "country", "page_url")
"""The columns of `silver/events` whose null share is watched."""

VALUES_OF = ("event_name", "source", "platform", "device_type", "country")
"""The columns of `silver/events` whose distribution is watched."""

MOST_VALUES = 100
"""How many values of a column an hour tells one by one."""

HISTORY = timedelta(weeks=8)
"""How far back from the watermark hours are profiled without being asked: what verdicts read, and some days more."""

TABLE = Table(
    name="quality/profiles",
    description=(
        "What the rows of each closed hour are like: what became of the records that arrived in it, how many of them "
        "came late, and of the events of it how many lack a column, and which values they have. Anomalies are found "
        "in these counts. Records are counted by the hour of arrival, which late events do not change; columns by the "
        "hour of event time."
    ),
    grain="source table × hour × measure × topic or column × value",
    key=("source_table", "hour", "measure", "subject", "value"),
    columns=(
        Column("source_table", pl.String(), "Name of the table that is profiled."),
        Column("hour", TIMESTAMP, "UTC hour: of arrival for outcomes and `late`, else of event time."),
        Column(
            "measure",
            pl.String(),
            "What is counted: records by outcome; `late`, those of `silver` whose event is older than the hour before; "
            "`null`, events that lack the column; `value`, events that have the value; `other_values`, those of all "
            "values that are not told one by one.",
            accepted=MEASURES,
        ),
        Column("subject", pl.String(), "The topic, of outcomes and `late`; else the column."),
        Column("value", pl.String(), "The value, of `value`.", nullable=True),
        Column("rows", pl.Int64(), "How many.", unit="rows", minimum=0),
        Column("of_rows", pl.Int64(), "Of how many: all records, all of `silver`, all events.", unit="rows", minimum=0),
        Column("hour_date", pl.Date(), "UTC date of `hour`."),
    ),
    partition_by=("hour_date",),
    window_on="hour",
    partitions="hour",
    cluster_by=("source_table", "measure", "subject"),
    update="rebuild",
    service_level=timedelta(hours=2),
    stats=("hour",),
)


def of_outcomes(counted: pl.DataFrame) -> pl.DataFrame:
    """What became of the records of some hours of arrival, by topic.

    Args:
        counted: `outcomes.of_producers`, of whole hours of arrival.
    """
    by = ["hour", "subject"]
    told = counted.rename({"ingestion_hour": "hour", "topic": "subject"})
    records = told.group_by(*by, "outcome").agg(rows=pl.col("records").sum())
    records = records.with_columns(of_rows=pl.col("rows").sum().over(by), measure=pl.col("outcome"))
    in_time = pl.col("event_hour") >= pl.col("hour") - timedelta(hours=1)  # `late_arrivals.arrived_on_time`
    late = (
        told.filter(outcome="silver")
        .group_by(by)
        .agg(rows=pl.col("records").filter(~in_time).sum(), of_rows=pl.col("records").sum())
        .with_columns(measure=pl.lit("late"))
    )
    columns = [*by, "measure", "rows", "of_rows"]
    return _finished(pl.concat([records.select(columns), late.select(columns)]), events.TABLE)


def of_events(rows: pl.LazyFrame) -> pl.DataFrame:
    """Nulls and values of the watched columns of some hours, but for canaries.

    Args:
        rows: Rows of `silver/events`, of whole hours of event time.
    """
    hour = pl.col("occurred_at").dt.truncate("1h").alias("hour")
    rows = rows.filter(~is_canary())
    nulls = rows.group_by(hour).agg(pl.len().alias("of_rows"), pl.col(NULLS_OF).null_count())
    values = [rows.group_by(hour, value=pl.col(name)).agg(pl.len().alias("rows")) for name in VALUES_OF]
    counted, *by_value = pl.collect_all([nulls, *values], engine="streaming")
    parts = [
        counted.unpivot(NULLS_OF, index=["hour", "of_rows"], variable_name="subject", value_name="rows").with_columns(
            measure=pl.lit("null"), value=pl.lit(None, pl.String)
        )
    ]
    for name, told in zip(VALUES_OF, by_value, strict=True):
        known = told.drop_nulls("value").with_columns(of_rows=pl.col("rows").sum().over("hour"), subject=pl.lit(name))
        ranked = known.sort("hour", "rows", "value", descending=[False, True, False])
        shown = pl.int_range(pl.len()).over("hour") < MOST_VALUES
        others = ranked.filter(~shown).group_by("hour", "subject").agg(pl.col("rows").sum(), pl.col("of_rows").first())
        parts += [
            ranked.filter(shown).with_columns(measure=pl.lit("value")),
            others.with_columns(measure=pl.lit("other_values"), value=pl.lit(None, pl.String)),
        ]
    columns = ["hour", "subject", "measure", "value", "rows", "of_rows"]
    counts = pl.concat(part.select(columns).cast({"rows": pl.Int64, "of_rows": pl.Int64}) for part in parts)
    return _finished(counts, events.TABLE)


def rebuild(platform: Platform, window: Window) -> None:
    """Profile a window, at the version of silver that the outcomes have taken in."""
    lake = platform.lake
    for part in window.split(REBUILD_AT_ONCE):

        def attempt(part: Window = part) -> None:
            handle = lake.open(TABLE)  # before its sources are read: a rival that read them later is a conflict
            counted = lake.open(outcomes.TABLE)
            silver = lake.open(events.TABLE, counted.transaction_version(events.FOLLOWS) or 0)
            told = outcomes.of_producers(lake, part.start, part.end, counted)
            rows = pl.concat([of_outcomes(told), of_events(lake.scan(events.TABLE, part, silver))])
            made = lake.replace(TABLE, handle, rows, part)
            platform.record(TABLE, part, events.TABLE, silver.version(), made, rows.height)

        retrying(f"rebuild of {TABLE.name}", attempt)


def missing(platform: Platform, ledger: pl.DataFrame) -> list[datetime]:
    """Starts of the closed hours that were never profiled, in order; silent ones among them.

    From the first hour with events on, but no older ones than `HISTORY`.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
    """
    closed = _closed_hours(platform)
    return stale_hours(closed, ledger.filter(table=TABLE.name))


def stale(platform: Platform, ledger: pl.DataFrame) -> list[datetime]:
    """Starts of the profiled hours that silver touched since, in order.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
    """
    touched = platform.lake.scan(touched_hours.TABLE).select("event_hour", "silver_version").collect()
    closed = touched.join(_closed_hours(platform), on="event_hour", how="semi")
    return sorted(set(stale_hours(closed, ledger.filter(table=TABLE.name))).difference(missing(platform, ledger)))


def _closed_hours(platform: Platform) -> pl.DataFrame:
    """``event_hour``, and a version that whatever was computed has read."""
    watermark = platform.watermark()
    first = platform.lake.scan(touched_hours.TABLE).select(pl.col("event_hour").min()).collect().item()
    names = ("event_hour", "silver_version")
    schema = pl.Schema({name: touched_hours.TABLE.schema[name] for name in names})
    if watermark is None or first is None:
        return pl.DataFrame(schema=schema)
    until = floor_hour(watermark)
    since = max(first, until - HISTORY, platform.partitions.hourly.start.astimezone(UTC))
    hours = pl.datetime_range(since, until, "1h", closed="left", time_zone="UTC", eager=True)
    return pl.DataFrame({"event_hour": hours}).with_columns(silver_version=pl.lit(-1)).cast(schema)


def _finished(counts: pl.DataFrame, source: Table) -> pl.DataFrame:
    value = [] if "value" in counts.columns else [pl.lit(None, pl.String).alias("value")]
    return counts.with_columns(*value, source_table=pl.lit(source.name), hour_date=pl.col("hour").dt.date()).select(
        TABLE.schema.names()
    )
