"""What a check of a table is, and how it judges partition by partition.

In a run over a range Dagster would record the evaluation for no partition at all, so each partition's evaluation is
logged on its own, and what is returned is the sum of them, which decides whether a blocking check stops what comes
after. What a judge measured goes into the evaluation's metadata (`quality.evaluations.Measures`), and from there into
`quality/check_results`.
"""

# Dagster reads the annotation of `context` when the check is made: no `from __future__ import annotations` here.

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter

import dagster as dg
import polars as pl
from dagster import AssetCheckEvaluation

from partitions import Partitions, Window
from platform_assets.platform import Platform
from platform_assets.quality.evaluations import Measures, Pillar, end_of_earlier, sum_of
from platform_assets.quality.verdict import Verdict
from platform_assets.table import Table
from resources.lake import within

_AT_ONCE = 2_000_000
"""Most rows that are judged together, so that a check of a long range stays within memory."""
EVER = Window(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""The window that a table without partitions is judged by."""

Judge = Callable[[Platform, Table, Window], Verdict]


@dataclass(frozen=True)
class Check:
    """A check of one table, partition by partition; of one without partitions, of all of it (`EVER`).

    Attributes:
        table: The table.
        name: The check's name.
        judge: Judges the window of one partition.
        description: What is checked, for the UI.
        pillar: What it is about.
        blocking: Whether a failure stops what comes after in a run.
        severity: Of a failure.
        newest_only: Whether of a range only the newest partition is judged. What was said of earlier ones is over.
        later_ends: Whether a partition that holds ends what was said of earlier ones: of what cannot be mended.
        one_by_one: Whether the partitions of a range are never judged together, because a share of the rows may be
            wrong: one partition would make up for another.
        reads: Other tables that it reads; in a run that makes them, it judges after they are made.
    """

    table: Table
    name: str
    judge: Judge
    description: str
    blocking: bool = False
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    newest_only: bool = False
    later_ends: bool = False
    one_by_one: bool = False
    reads: tuple[Table, ...] = ()
    pillar: Pillar = field(kw_only=True)

    @property
    def key(self) -> dg.AssetCheckKey:
        """Its key in Dagster."""
        return dg.AssetCheckKey(self.table.asset_key, self.name)

    def judged(self, platform: Platform, window: Window = EVER) -> Verdict:
        """Judge a window, and take down how long that took, and of which version of the table."""
        version, began = platform.lake.open(self.table).version(), perf_counter()
        verdict = self.judge(platform, self.table, window)
        return replace(verdict, seconds=perf_counter() - began, table_version=version)

    def metadata(self, verdict: Verdict) -> dict[str, dg.MetadataValue]:
        """What was seen, as an evaluation carries it."""
        measures = Measures(
            self.pillar,
            verdict.observed,
            verdict.least,
            verdict.most,
            verdict.unit,
            verdict.rows_failed,
            verdict.sample,
            verdict.seconds,
            verdict.table_version,
        )
        more = {
            name: value if isinstance(value, dg.MetadataValue) else dg.MetadataValue.text(str(value))
            for name, value in verdict.metadata.items()
        }
        ends = self.newest_only or (self.later_ends and verdict.passed and verdict.is_told)
        return {**measures.metadata(), **(end_of_earlier() if ends else {}), **more}

    def evaluation(self, verdict: Verdict, partition: str | None) -> AssetCheckEvaluation:
        """The event that tells Dagster what was seen of one partition, or of the whole table."""
        return AssetCheckEvaluation(
            asset_key=self.table.asset_key,
            check_name=self.name,
            passed=verdict.passed,
            metadata=self.metadata(verdict),
            severity=self.severity,
            description=verdict.description,
            blocking=self.blocking,
            partition=partition,
        )


def rows_of(platform: Platform, table: Table, window: Window) -> pl.LazyFrame:
    """The rows of a window of a table; all of one without partitions."""
    rows = platform.lake.scan(table)
    if table.partitions is None:
        return rows
    if table.schema[table.window_on] == pl.Date():
        days = window.days(platform.settings.zone)
        return rows.filter(pl.col(table.window_on).is_between(days[0], days[-1]))
    return rows.filter(within(table, window))


def asset_check(check: Check, partitions: Partitions) -> dg.AssetChecksDefinition:
    """The asset check of a declaration; it judges each partition of a run, one or a range, or the table as a whole."""
    table, grain = check.table, check.table.partitions
    if grain is None:
        return whole_check(check)

    @dg.asset_check(
        asset=table.asset_key,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        partitions_def=partitions.of(grain),
        additional_deps=[read.asset_key for read in check.reads],
    )
    def judged(context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        execution = context.op_execution_context
        keys = sorted(execution.partition_keys)[-1 if check.newest_only else 0 :]
        verdicts = judge_each(platform, check, {key: platform.partitions.window(grain, key, key) for key in keys})
        if execution.has_partition_key_range:
            for key, verdict in verdicts.items():
                execution.log_event(check.evaluation(verdict, key))  # type: ignore[arg-type]  # accepted, not annotated
        failed = {key: verdict for key, verdict in verdicts.items() if not verdict.passed}
        shown = verdicts[keys[-1]] if not failed else next(iter(failed.values()))
        tally = "" if len(keys) == 1 else f"{len(failed)} of {len(keys)} partitions fail. "
        return dg.AssetCheckResult(
            passed=not failed,
            severity=check.severity,
            description=tally + shown.description,
            metadata={
                **check.metadata(shown),
                **(sum_of(len(keys)) if execution.has_partition_key_range else {}),
                **({"failed partitions": dg.MetadataValue.text(", ".join(failed))} if failed else {}),
            },
        )

    return judged


def whole_check(check: Check) -> dg.AssetChecksDefinition:
    """The asset check of a declaration whose table has no partitions; it judges all of it."""

    @dg.asset_check(
        asset=check.table.asset_key,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        additional_deps=[read.asset_key for read in check.reads],
    )
    def judged(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        verdict = check.judged(platform)
        return dg.AssetCheckResult(
            passed=verdict.passed,
            severity=check.severity,
            description=verdict.description,
            metadata=check.metadata(verdict),
        )

    return judged


def judge_each(platform: Platform, check: Check, windows: Mapping[str, Window]) -> dict[str, Verdict]:
    """Judge partitions one by one, or all together where they are small and none is wrong.

    Args:
        platform: The platform.
        check: The check.
        windows: Consecutive partitions, by key.
    """
    whole = Window(min(w.start for w in windows.values()), max(w.end for w in windows.values()))
    if len(windows) > 1 and not check.one_by_one and _rows_of_dates(platform, check.table, whole) <= _AT_ONCE:
        verdict = check.judged(platform, whole)
        if verdict.passed:
            description = f"{verdict.description} ({whole.start} to {whole.end})"
            told = replace(verdict, description=description, seconds=(verdict.seconds or 0) / len(windows))
            return dict.fromkeys(windows, told)
    return {key: check.judged(platform, window) for key, window in windows.items()}


def _rows_of_dates(platform: Platform, table: Table, window: Window) -> int:
    """How many rows the dates of a window hold, as the table's log counts them."""
    files = pl.DataFrame(platform.lake.open(table).get_add_actions(flatten=True))
    if files.is_empty():
        return 0
    dates = pl.col(f"partition.{table.partition_by[0]}").is_between(window.first_date, window.last_date)
    return int(files.filter(dates)["num_records"].sum())
