"""Checks that warn of hours that are not as usual (`semantics.anomalies`), which `quality/profiles` tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import dagster as dg
import polars as pl

from partitions import Window
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality import profiles
from platform_assets.quality.check import EVER, Check
from platform_assets.quality.evaluations import Pillar
from platform_assets.quality.verdict import Verdict
from platform_assets.semantics.anomalies import NOT_JUDGED, VERDICTS, Anomalies, judged, shifts
from platform_assets.table import Table, Watch

SPECIFICATION = Anomalies()
"""The thresholds of all checks here."""

_HOUR = timedelta(hours=1)
_VALUES_COMPARED = 50
"""How many values of a column are told apart when distributions are compared; the others count as one."""
_COUNTS = ("rows", "values")
_TOLD = 3
_SHOWN = 20


@dataclass(frozen=True)
class Measure:
    """What is watched of a table, as series of hours.

    Attributes:
        name: The name of its check.
        what: What is checked, for the UI.
        unit: Of what is observed.
        pillar: What its check is about.
        series: From the table's profiles to what `semantics.anomalies` judges.
    """

    name: str
    what: str
    unit: Literal["rows", "values", "share", "distance"]
    pillar: Pillar
    series: Callable[[pl.DataFrame], pl.DataFrame]


def counted(measure: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """How many there are in an hour, by topic, column or value."""

    def series(profiled: pl.DataFrame) -> pl.DataFrame:
        return _by_subject(profiled.filter(measure=measure), value=pl.col("rows").sum(), rows=pl.col("rows").sum())

    return series


def late_share(profiled: pl.DataFrame) -> pl.DataFrame:
    """How many of the rows that arrived in an hour are of an event older than the hour before, by topic."""
    return _by_subject(profiled.filter(measure="late"), value=pl.col("rows").sum(), rows=pl.col("of_rows").sum())


def outcome_share(*outcomes: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """How many of the records that arrived in an hour came to some outcomes, by topic."""

    def series(profiled: pl.DataFrame) -> pl.DataFrame:
        is_one = pl.col("measure").is_in(outcomes)
        records = profiled.filter(pl.col("measure").is_in(profiles.OUTCOMES))
        return _by_subject(records, value=pl.col("rows").filter(is_one).sum(), rows=pl.col("rows").sum())

    return series


def null_share(profiled: pl.DataFrame) -> pl.DataFrame:
    """How many rows of an hour lack a column, by column."""
    return profiled.filter(measure="null").select("hour", series="subject", value="rows", rows="of_rows")


def values(profiled: pl.DataFrame) -> pl.DataFrame:
    """The rows of an hour by value, by column; rare values as one, which is null."""
    told = profiled.filter(pl.col("measure").is_in(("value", "other_values")))
    known = told.filter(measure="value").group_by("subject", "value").agg(pl.col("rows").sum())
    often = known.sort("subject", "rows", "value", descending=[False, True, False]).filter(
        pl.int_range(pl.len()).over("subject") < _VALUES_COMPARED
    )
    is_often = pl.struct("subject", "value").is_in(often.select(pl.struct("subject", "value")).to_series().implode())
    return told.group_by("hour", series="subject", category=pl.when(is_often).then(pl.col("value"))).agg(
        value=pl.col("rows").sum()
    )


_OF_OUTCOMES = (
    Measure("volume", "As many rows arrive an hour, by topic, as usual.", "rows", "volume", counted("silver")),
    Measure("late_share", "As many rows come late as usual.", "share", "freshness", late_share),
    Measure(
        "duplicate_share", "As many records are duplicates as usual.", "share", "uniqueness", outcome_share("duplicate")
    ),
    Measure(
        "refused_share",
        "As many records are quarantined or dead-lettered as usual.",
        "share",
        "validity",
        outcome_share("quarantined", "dead_lettered"),
    ),
)


def measures_of(watch: Watch) -> Iterator[Measure]:
    """What is judged of a table that says what of it is watched."""
    if watch.outcomes:
        yield from _OF_OUTCOMES
    else:
        by = "" if watch.by is None else f", by `{watch.by}`,"
        yield Measure("volume", f"As many rows are of an hour{by} as usual.", "rows", "volume", counted("rows"))
    if watch.distinct:
        several = "As many values of a column are in an hour as usual."
        yield Measure("distinct_values", several, "values", "volume", counted("distinct"))
    if watch.nulls:
        yield Measure("null_share", "As many rows lack a column as usual.", "share", "completeness", null_share)
    if watch.values:
        spread = "The values of a column are distributed as usual."
        yield Measure("distribution", spread, "distance", "distribution", values)


def verdicts_of(platform: Platform, table: Table, measure: Measure, window: Window) -> pl.DataFrame:
    """What the profiled hours of a window are (`semantics.anomalies.VERDICTS`), told by those before them.

    Hours that were not profiled are not judged; what lies before such an hour tells nothing.
    """
    since = window.start - SPECIFICATION.reads
    profiled = profiled_hours(platform, table, Window(since, window.end))
    gaps = [hour for hour in _hours(since, window.start) if hour not in profiled]
    known = Window(max([since, *(gap + _HOUR for gap in gaps)]), window.end)
    rows = platform.lake.scan(profiles.TABLE, known).filter(source_table=table.name).collect()
    series, zone = measure.series(rows), platform.settings.zone
    if measure.unit == "distance":
        found = shifts(series, SPECIFICATION, zone, window.end)
    else:
        kind: Literal["count", "share"] = "share" if measure.unit == "share" else "count"
        found = judged(series, SPECIFICATION, kind, zone, window.end)
    wanted = [hour for hour in _hours(window.start, window.end) if hour in profiled]
    return found.filter(pl.col("hour").is_in(wanted))


def is_usual(measure: Measure) -> Callable[[Platform, Table, Window], Verdict]:
    """Whether the hours of a window are as those before say. An hour that cannot be told passes, and is told so.

    Of a table without partitions those hours are judged that were profiled last. Hours that are judged together have no
    numbers: those of one are not those of another.
    """

    def judge(platform: Platform, table: Table, window: Window) -> Verdict:
        asked = _profiled_last(platform, table) if window == EVER else window
        found = pl.DataFrame(schema=VERDICTS) if asked is None else verdicts_of(platform, table, measure, asked)
        told = found.sort(pl.col("is_anomaly"), pl.col("score").abs(), descending=True, nulls_last=True)
        wrong = told.filter("is_anomaly")
        open_ones = found.filter(pl.col("reason").is_in(NOT_JUDGED))
        is_one = window == EVER or window.end - window.start == _HOUR
        parts = [_in_words(row, measure) for row in wrong.head(_TOLD).iter_rows(named=True)]
        if wrong.height > _TOLD:
            parts.append(f"and {wrong.height - _TOLD} more")
        if found.is_empty():
            parts.append("not judged: the hour is not closed, or not profiled yet")
        elif wrong.is_empty():
            usual = found.height - open_ones.height
            parts.append(f"{usual} of {found.height} hours of series are as usual")
        for (reason,), rows in open_ones.group_by("reason", maintain_order=True):
            names = ", ".join(rows["series"].unique().sort().head(_TOLD))
            parts.append(f"{rows.height} not judged: {reason} ({names})")
        return Verdict(
            passed=wrong.is_empty(),
            description="; ".join(parts),
            is_told=not found.is_empty(),
            metadata={"hours": str(told.head(_SHOWN).to_dicts())},
            **(told.select("observed", "least", "most").row(0, named=True) if is_one and not found.is_empty() else {}),
            unit=measure.unit,
            sample=str(wrong.head(_TOLD).to_dicts()) if wrong.height else None,
        )

    return judge


def anomaly_checks(tables: Sequence[Table]) -> tuple[Check, ...]:
    """The checks that warn of anomalies in those of some tables that are watched.

    The sensor `profiling` has them judge; the schedule of due partitions does not. An hour that was an anomaly stays
    one: what is told of it ends with a later hour that is as usual.
    """
    return tuple(
        Check(
            table,
            measure.name,
            is_usual(measure),
            f"{measure.what} Judged once, when the hour is closed.",
            severity=dg.AssetCheckSeverity.WARN,
            later_ends=True,
            reads=(profiles.TABLE,),
            pillar=measure.pillar,
        )
        for table in tables
        if table.watch is not None
        for measure in measures_of(table.watch)
    )


def profiled_hours(platform: Platform, table: Table, window: Window) -> set[datetime]:
    """The hours of a window that were profiled of a table, told by the ledger: a silent hour has no rows."""
    done = _of_profiles(platform, table).filter(
        pl.col("window_start") < window.end, pl.col("window_end") > window.start
    )
    spans = done.select("window_start", "window_end").collect().iter_rows()
    return {hour for start, end in spans for hour in _hours(max(start, window.start), min(end, window.end))}


def _by_subject(profiled: pl.DataFrame, **counts: pl.Expr) -> pl.DataFrame:
    return profiled.group_by("hour", series="subject").agg(**counts)


def _profiled_last(platform: Platform, table: Table) -> Window | None:
    """The newest hours of a table that were profiled, together; None where none ever was."""
    done = _of_profiles(platform, table).select("window_start", "window_end", "computed_at")
    newest = done.sort("window_end", "computed_at").tail(1).collect()
    return None if newest.is_empty() else Window(*newest.row(0)[:2])


def _of_profiles(platform: Platform, table: Table) -> pl.LazyFrame:
    """The computations of a table's profiles."""
    ledger = platform.lake.scan(computations.TABLE)
    return ledger.filter(pl.col("table") == profiles.TABLE.name, pl.col("upstream") == table.name)


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    hour = start
    while hour < end:
        yield hour
        hour += _HOUR


def _in_words(row: dict[str, Any], measure: Measure) -> str:
    def said(number: float) -> str:
        return {"share": f"{number:.1%}", "distance": f"{number:.2f}"}.get(
            measure.unit, f"{number:,.0f} {measure.unit}"
        )

    over = "" if row["bucket_hours"] == 1 else f" in the {row['bucket_hours']} hours up to its end"
    of_rows = "" if measure.unit in _COUNTS else f" of {row['rows']:,} rows"
    what = f"{said(row['observed'])} from the usual one" if measure.unit == "distance" else said(row["observed"])
    return (
        f"{row['series']} at {row['hour']:%Y-%m-%d %H:%M} UTC: {row['reason']}: {what}{of_rows}{over}, "
        f"expected {said(row['expected'])} ({said(row['least'])} to {said(row['most'])})"
    )
