"""`quality/service_levels`: how each table kept its service level, by week, and what is left of its error budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.quality import check_results
from platform_assets.quality.evaluations import DUE
from platform_assets.semantics.service_levels import LOOKS, PROMISES, service_levels
from platform_assets.table import Column, Table
from resources.lake import retrying

TABLE = Table(
    name="quality/service_levels",
    description=(
        "The service-level report: of the partitions that a table owed in a week, how many were there when they fell "
        "due, and what is left of the misses that the objective allows. Told by the first evaluation of "
        f"`{DUE}` after a partition fell due, which comes by schedule within the hour."
    ),
    grain="table × ISO week",
    key=("asset", "week"),
    columns=(
        Column("asset", pl.String(), "Name of the table."),
        Column("week", pl.Date(), "Monday of the ISO week that the partitions begin in, in the reporting timezone."),
        Column("week_name", pl.String(), "The week by its ISO name: `2026-W48`."),
        Column(
            "partitions",
            pl.Int64(),
            "Partitions of the week that fall due in the end. A table's first week counts from the first look at it.",
            unit="partitions",
            minimum=0,
        ),
        Column("due", pl.Int64(), "Those that fell due by now.", unit="partitions", minimum=0),
        Column("met", pl.Int64(), "Those that were there then.", unit="partitions", minimum=0),
        Column("missed", pl.Int64(), "Those that were not.", unit="partitions", minimum=0),
        Column(
            "unjudged", pl.Int64(), "Those that nobody looked at since they fell due.", unit="partitions", minimum=0
        ),
        Column("objective", pl.Float64(), "The share that shall be met (`HEADWATER_SERVICE_LEVEL_OBJECTIVE`)."),
        Column(
            "attained", pl.Float64(), "Share of the judged that was met; null where none was judged.", nullable=True
        ),
        Column(
            "budget_left",
            pl.Float64(),
            "Share left of the misses that the objective allows of the whole week: 1 where none was missed, 0 where "
            "all are used up, negative where there were more.",
        ),
        Column("is_open", pl.Boolean(), "Whether partitions of the week are still to fall due."),
    ),
    partition_by=("week",),
    window_on="week",
    partitions=None,
    cluster_by=("asset",),
    update="rebuild",
    service_level=timedelta(hours=2),
    stats=("week",),
)


def rebuild(platform: Platform, tables: Sequence[Table]) -> None:
    """Compute all weeks from `quality/check_results`, and write those that are not what is there.

    Args:
        platform: The platform.
        tables: Every table; those that owe partitions have a service level.
    """
    lake, zone = platform.lake, platform.settings.zone

    def attempt() -> None:
        handle = lake.open(TABLE)  # before the results are read: a rival that read later and wrote first is a conflict
        results = lake.scan(check_results.TABLE).filter(check_name=DUE)
        promises = promises_of(tables, platform.settings.service_level_objective)
        wanted = service_levels(looks_of(results, promises, zone), promises, zone, platform.clock())
        wanted = wanted.select(TABLE.schema.names())
        stored = lake.scan(TABLE, handle=handle).collect()
        pairs = ((wanted, stored), (stored, wanted))
        differing = [one.join(other, on=wanted.columns, how="anti", nulls_equal=True)["week"] for one, other in pairs]
        weeks = pl.concat(differing).unique().sort().to_list()
        if weeks:
            rows = wanted.filter(pl.col("week").is_between(weeks[0], weeks[-1]))
            lake.replace_days(TABLE, handle, rows, weeks[0], weeks[-1])

    retrying(f"rebuild of {TABLE.name}", attempt)


def promises_of(tables: Sequence[Table], objective: float) -> pl.DataFrame:
    """What some tables promise (`semantics.service_levels.PROMISES`): those that every hour or day brings rows to."""
    steady = [table for table in tables if table.steady and table.partitions is not None]
    rows = [(table.name, table.partitions, table.service_level, objective) for table in steady]
    return pl.DataFrame(rows, schema=PROMISES, orient="row")


def looks_of(results: pl.LazyFrame, promises: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """Evaluations of whether a due partition is there, as looks (`semantics.service_levels.LOOKS`).

    Args:
        results: Rows of `quality/check_results` of that check.
        promises: What the tables promise.
        zone: The reporting timezone.
    """
    told = (
        results.filter(pl.col("partition_key").is_not_null())
        .select("asset", "partition_key", "passed", "evaluated_at")
        .join(promises.lazy().select("asset", "grain"), on="asset")
        .collect()
    )
    keys = pl.col("partition_key")
    of_hours = told.filter(grain="hour").with_columns(start=keys.str.to_datetime("%Y-%m-%d-%H:%M", time_zone="UTC"))
    of_days = told.filter(grain="day")
    starts = {key: _start(key, zone) for key in of_days["partition_key"].unique()}
    of_days = of_days.with_columns(start=keys.replace_strict(starts, default=None, return_dtype=LOOKS["start"]))
    return pl.concat([of_hours.cast({"start": LOOKS["start"]}), of_days]).select(LOOKS.names())


def _start(key: str, zone: ZoneInfo) -> datetime:
    day = date.fromisoformat(key)
    return Window.of_days(day, day, zone).start
