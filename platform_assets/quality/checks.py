"""Asset checks, made from the tables' declarations by one factory.

A check judges partition by partition. In a run over a range Dagster would record the evaluation for no partition
at all, so each partition's evaluation is logged on its own, and what is returned is the sum of them, which decides
whether a blocking check stops what comes after. What a judge measured goes into the evaluation's metadata
(`quality.evaluations.Measures`), and from there into `quality/check_results`.
"""

# Dagster reads the annotation of `context` when the check is made: no `from __future__ import annotations` here.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter
from typing import Any, Self

import dagster as dg
import pandera.polars as pa
import polars as pl
from dagster import AssetCheckEvaluation
from pandera.config import ValidationDepth, config_context

from partitions import Partitions, Window, floor_hour
from platform_assets.bronze import dead_letters, landed_files, oltp_changes
from platform_assets.bronze import records as received
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.followed import ANSWERED, Followed
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.quality.conservation import CONSERVATIONS, Conservation, Finding
from platform_assets.quality.evaluations import DUE, Measures, Pillar, end_of_earlier, sum_of
from platform_assets.quality.references import orphans
from platform_assets.semantics.lateness import share_still_expected
from platform_assets.semantics.privacy import holds_address, may_hold_address
from platform_assets.semantics.watermark import is_final
from platform_assets.silver import events, outcomes, quarantine, row_changes, touched_hours
from platform_assets.streams import epochs
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.table import Table, contract
from resources.lake import changed_since, within
from resources.records import in_ranges

_SHOWN = 10
_OF_SCHEMAS = ("schema:", "unknown_schema:", "unsupported_schema:", "not_avro:", "not_protobuf:")
"""Reasons that name a schema (`resources.wire.framing`, `resources.events`)."""
_UNIQUE = "No two rows share ({})."
_AT_ONCE = 2_000_000
"""Most rows that are judged together, so that a check of a long range stays within memory."""
EVER = Window(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""The window that a table without partitions is judged by."""

_PAST_HOURS = 168
"""How many hours before one tell how late its events come: a week of them."""


@dataclass(frozen=True)
class Verdict:
    """What a check says of one partition.

    Partitions that are judged together, and hold, have one verdict: its numbers must be those of each of them.

    Attributes:
        passed: Whether it holds.
        description: What was seen, for people.
        is_told: Whether there was anything to tell it by; else it passes, and says nothing of what came before.
        metadata: What else people should see.
        observed: The number that was judged.
        least: The least that it may be.
        most: The most that it may be.
        unit: Unit of the three.
        rows_failed: How many rows do not hold; None where the check is not about rows.
        sample: Some of what does not hold.
        seconds: How long the judgement took; of partitions judged together, the share of this one.
        table_version: The table's Delta version when it began. Of a table that a stream adds to, a later one may have
            been read.
    """

    passed: bool
    description: str
    is_told: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    observed: float | None = None
    least: float | None = None
    most: float | None = None
    unit: str | None = None
    rows_failed: int | None = None
    sample: str | None = None
    seconds: float | None = None
    table_version: int | None = None

    @classmethod
    def of_wrong(
        cls, found: float, unit: str, description: str, sample: object = None, rows_failed: int | None = None
    ) -> Self:
        """The verdict of a check that nothing may be found by.

        Args:
            found: How much is wrong.
            unit: What of.
            description: What was seen, for people.
            sample: Some of it.
            rows_failed: How many rows are concerned, where it is about rows.
        """
        return cls(
            passed=found == 0,
            description=description,
            observed=found,
            most=0,
            unit=unit,
            rows_failed=rows_failed,
            sample=str(sample) if found and sample is not None else None,
        )


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


def keeps_contract(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the rows of a window have the declared types, are complete, and hold only accepted values."""
    rows = _rows(platform, table, window)
    schema = contract(table)
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            checked = schema.validate(rows.collect(), lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        of_rows = cases["index"].null_count() == 0  # else of a column, as its type is
        return Verdict.of_wrong(
            cases.height,
            "failures",
            f"{cases.height} failures: {', '.join(sorted(set(cases['check'].cast(pl.String))))}",
            cases.head(_SHOWN).to_dicts(),
            cases["index"].n_unique() if of_rows else None,
        )
    told = Verdict.of_wrong(0, "failures", f"{checked.height} rows keep the contract", rows_failed=0)
    return replace(told, metadata={"rows": checked.height})


def keeping_up_check(table: Table, followed: Followed) -> Check:
    """The check that a table which answers another one's changes has taken them in within its service level.

    A table without partitions owes none, and where nothing changes it need not be materialized: so neither a freshness
    policy nor a due partition tells that it is late.
    """

    def keeps_up(platform: Platform, _table: Table, _window: Window) -> Verdict:
        lake, above = platform.lake, followed.table
        taken_in = lake.open(table).transaction_version(followed.app) or 0
        since = changed_since(lake, above, taken_in)
        waited = timedelta(0) if since is None else platform.clock() - since
        told = f"version {taken_in} of {above.name} is taken in"
        return Verdict(
            passed=waited <= table.service_level,
            description=told if since is None else f"{told}; what changed at {since} is not",
            observed=waited.total_seconds(),
            most=table.service_level.total_seconds(),
            unit="seconds",
        )

    what = f"What changed in {followed.table.name} is taken in within {table.service_level}."
    return Check(table, "keeps_up", keeps_up, what, pillar="freshness")


def has_unique_key(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no two rows of a window share the table's key."""
    counted = _rows(platform, table, window).group_by(table.key).len().filter(pl.col("len") > 1)
    repeated = counted.collect(engine="streaming")
    return Verdict.of_wrong(
        repeated.height,
        "keys",
        f"{repeated.height} keys ({', '.join(table.key)}) stand more than once",
        repeated.head(_SHOWN).to_dicts(),
        int(repeated["len"].sum()),
    )


def conserves_records(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the outcomes of an ingestion hour add up to the records consumed, per topic partition.

    Both are taken at one version of silver: that which the outcomes have taken in.
    """
    lake = platform.lake
    counted = lake.open(table)
    silver = lake.open(events.TABLE, counted.transaction_version(events.FOLLOWS) or 0)
    by = ["topic", "epoch", "partition", "ingestion_hour"]  # of a range, one hour must not make up for another
    hour = pl.col("ingested_at").dt.truncate("1h").alias("ingestion_hour")
    received_in = (lake.scan(s.table, window).select(*by[:3], hour, "offset") for s in EVENT_STREAMS)
    bronze = pl.concat(received_in).collect()
    consumed = bronze.filter(in_ranges({}, received.progress_of(silver, bronze))).group_by(by).len("consumed")
    told = lake.scan(table, window, counted).group_by(by).agg(told=pl.col("records").sum()).collect()
    both = consumed.join(told, on=by, how="full", coalesce=True).fill_null(0)
    off = both.filter(pl.col("consumed") != pl.col("told"))
    total = both.select(pl.col("consumed", "told").sum()).row(0)
    return Verdict.of_wrong(
        off.height,
        "topic partitions",
        f"{total[0]} records consumed, {total[1]} outcomes told; {off.height} topic partitions differ",
        off.head(_SHOWN).to_dicts(),
    )


def conserves_changes(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether every change event of an ingestion hour became a row change, a tombstone, or was refused with a reason.

    What a table below bronze has not taken in yet is not looked for.
    """
    lake, by = platform.lake, ["topic", "epoch", "partition"]
    below = (row_changes.TABLE, quarantine.TABLE, dead_letters.TABLE)
    handles = {below_bronze.name: lake.open(below_bronze) for below_bronze in below}
    bronze = lake.scan(table, window).select(*by, "offset", is_tombstone=pl.col("value").is_null()).collect()
    progress = [received.progress_of(handle, bronze) for handle in handles.values()]
    level = {key: min(taken[key] for taken in progress) for key in progress[0]}
    records = bronze.filter(in_ranges({}, level))
    consumed = records.group_by(by).agg(pl.len().alias("consumed"), tombstones=pl.col("is_tombstone").sum())
    # A record that a replay lets in stands above and below for a moment: it is one record.
    told = pl.concat(
        lake.scan(t, window, handles[t.name]).filter(in_ranges({}, level)).select(*by, "offset").collect()
        for t in below
    ).unique()
    both = consumed.join(told.group_by(by).len("told"), on=by, how="left").fill_null(0)
    off = both.filter(pl.col("consumed") != pl.col("told") + pl.col("tombstones"))
    total = both.select(pl.col("consumed", "told", "tombstones").sum()).row(0)
    return Verdict.of_wrong(
        off.height,
        "topic partitions",
        f"{total[0]} records consumed, {total[1]} told, {total[2]} tombstones; {off.height} differ",
        off.head(_SHOWN).to_dicts(),
    )


def keeps_references(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether the rows that those of a window name in other tables are there."""
    finding = orphans(platform, table, _rows(platform, table, window))
    return replace(_verdict(finding, "values"), rows_failed=int(finding.off["rows"].sum()))


def conserves(conservation: Conservation, platform: Platform, _table: Table, window: Window) -> Verdict:
    """Whether a window has of the layer above what it must have by definition."""
    return _verdict(conservation.compare(platform, window), "differences")


def _verdict(finding: Finding, unit: str) -> Verdict:
    return Verdict.of_wrong(finding.off.height, unit, finding.description, finding.off.head(_SHOWN).to_dicts())


def keeps_schemas(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no record was refused for the schema that it was written with: all that its producer sends may be."""
    reason = pl.col("reasons")
    refused = (
        _rows(platform, table, window)
        .select(reason.explode())
        .filter(pl.any_horizontal(reason.str.starts_with(prefix) for prefix in _OF_SCHEMAS))
        .group_by("reasons")
        .len("records")
        .sort("records", descending=True)
        .collect()
    )
    return Verdict.of_wrong(
        refused.height,
        "schemas",
        f"{refused['records'].sum()} records were refused for {refused.height} schemas",
        refused.head(_SHOWN).rows(),
        int(refused["records"].sum()),
    )


def keeps_addresses_out(table: Table) -> bool:
    """Whether a table declares that it holds no plain addresses."""
    return table.layer != "bronze" and any(column.protected for column in table.columns)


def has_no_address(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no text of a window that may be personal holds a plain e-mail or IP address."""
    names = [column.name for column in table.columns if column.protected]
    rows = _rows(platform, table, window).select(names).filter(pl.any_horizontal(map(may_hold_address, names)))
    told = rows.unique().collect(engine="streaming")
    found = {name: int(holds_address(told[name]).sum()) for name in names}
    holding = {name: count for name, count in found.items() if count}
    total = sum(holding.values())
    return Verdict.of_wrong(total, "texts", f"{total} texts hold a plain e-mail or IP address", holding)


def has_no_id_conflict(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no event id of a source stands for events of different times (semantics 2: kept, and warned of)."""
    conflicts = (
        _rows(platform, table, window)
        .group_by("source", "event_id")
        .agg(pl.col("client_occurred_at").n_unique(), rows=pl.len())
        .filter(pl.col("client_occurred_at") > 1)
        .collect(engine="streaming")
    )
    return Verdict.of_wrong(
        conflicts.height,
        "event ids",
        f"{conflicts.height} event ids stand for events of different times",
        conflicts.head(_SHOWN).to_dicts(),
        int(conflicts["rows"].sum()),
    )


def has_no_bad_rows(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether no row of the files that stand for some days is in quarantine."""
    days = window.days(platform.settings.zone)
    landings = platform.lake.scan(landed_files.TABLE).filter(pl.col("feed") == table.name.split("/")[1]).collect()
    standing = landed_files.standing(landings).filter(
        pl.col("bad_rows") > 0, pl.col("first_day") <= days[-1], pl.col("last_day") >= days[0]
    )
    told = dict(standing.select("name", "report").iter_rows())
    bad = int(standing["bad_rows"].sum())
    return Verdict.of_wrong(bad, "rows", f"{bad} rows of {standing.height} files are in quarantine", told, bad)


def is_there(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether a partition that is due exists.

    A stream's partition is there when the stream has come past it, one of received records when its own topic has, a
    feed's when a file brought rows of it. A rebuilt one is there when it was computed, or when silver has nothing in
    it. How much of it may still come, which the watermark waits for, is `is_complete`'s to judge. Runs judge what they
    make, too: of what is not due yet nothing is owed.
    """
    due_at = window.end + table.service_level
    if platform.clock() < due_at:
        return Verdict(passed=True, description=f"not due before {due_at}")
    if table.update == "landed; rebuild":
        if platform.lake.scan(table).select(pl.len()).collect().item() == 0:
            return Verdict(passed=True, description="no file of this feed was ever taken: none is owed")
        rows = _rows(platform, table, window).select(pl.len()).collect().item()
        told = f"{rows} rows were delivered for it"
        return Verdict(passed=rows > 0, description=told, observed=rows, least=1, unit="rows")
    if table.update != "rebuild":
        come = _come_to(platform, table)
        if come is None:
            return Verdict(passed=True, description="no event was ever taken in: none is owed")
        told = f"the stream has come to {come}, the partition ends at {window.end}"
        return Verdict.of_wrong(_seconds_short(window, come), "seconds", told)
    lake = platform.lake
    ledger = lake.scan(computations.TABLE).filter(
        (pl.col("table") == table.name) & (pl.col("window_start") < window.end) & (pl.col("window_end") > window.start)
    )
    computed = ledger.select("window_start", "window_end").sort("window_start").collect()
    reached = window.start
    for start, end in computed.iter_rows():
        if start <= reached:
            reached = max(reached, end)
    touched = lake.scan(touched_hours.TABLE, window).select(pl.len()).collect().item()
    told = f"computed up to {reached}; silver touched it {touched} times"
    return Verdict.of_wrong(_seconds_short(window, reached) if touched else 0, "seconds", told)


def _come_to(platform: Platform, table: Table) -> datetime | None:
    """The event time that a stream's table has come to; None before the first event.

    Of received records it is that of their own topic: one that is silent does not hold the watermark back.
    """
    for stream in EVENT_STREAMS:
        if stream.table is table:
            position = epochs.recorded(platform.lake.open(table), stream.required_topic(platform.settings))
            silver = platform.lake.open(stream.silver)
            return None if position is None else epochs.come_to(silver, position, platform.settings.idle_after)
    watermark = platform.watermark()
    return None if watermark is None else watermark + platform.settings.expected_disorder


def is_complete(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether about all events of an hour are in, by the watermark and by how late those of past hours came.

    How many an hour will have is not known; what share of them is in is told by the hours before it that are final:
    that which they had in when the watermark was as far past their end (`semantics.lateness`). Where none of a week of
    them is final, nothing can be told, and nothing is warned of.
    """
    watermark, lateness = platform.watermark(), platform.settings.allowed_lateness
    if watermark is None:
        return Verdict(passed=True, description="no event was ever taken in: there is nothing to tell it by")
    share: float | None = 1.0
    if not is_final(window.end, watermark, lateness):
        latest = floor_hour(min(window.start, watermark - lateness))
        starts = [latest - timedelta(hours=back) for back in range(1, _PAST_HOURS + 1)]
        arrivals = outcomes.arrivals_since(platform.lake, starts[-1])
        past = [(start, start + timedelta(hours=1)) for start in starts]
        late = share_still_expected(arrivals, past, watermark - window.end)
        share = None if late is None else 1 - late
    if share is None:
        return Verdict(passed=True, description=f"no hour of the {_PAST_HOURS} before {latest} has an event")
    least = platform.settings.completeness_share
    told = f"about {share:.1%} of its events are in; the watermark is at {watermark}"
    return Verdict(passed=share >= least, description=told, observed=share, least=least, unit="share of events")


def bad_rows_check(table: Table) -> Check:
    """The check that warns of quarantined rows, of a feed's table."""
    usable = "No row of the files that stand for the day is in quarantine."
    warn = dg.AssetCheckSeverity.WARN
    return Check(table, "no_bad_rows", has_no_bad_rows, usable, severity=warn, pillar="validity")


def address_check(table: Table) -> Check:
    """The check that a table holds no plain addresses."""
    none = "No text that is declared as protected holds a plain e-mail or IP address."
    return Check(table, "no_plain_addresses", has_no_address, none, pillar="validity")


def references_check(table: Table) -> Check:
    """The check that warns of rows that refer to nothing: what they name may only be late."""
    there = "; ".join(reference.text for reference in table.references)
    return Check(
        table,
        "references",
        keeps_references,
        f"What rows name is there: {there}.",
        severity=dg.AssetCheckSeverity.WARN,
        one_by_one=any(reference.share for reference in table.references),
        pillar="consistency",
    )


def conservation_check(conservation: Conservation, *, blocking: bool) -> Check:
    """The check that a table has of the layer above what it must have by definition."""
    judge = partial(conserves, conservation)
    return Check(
        conservation.table, conservation.name, judge, conservation.says, blocking=blocking, pillar="consistency"
    )


def whole_checks_of(tables: Sequence[Table]) -> list[Check]:
    """All checks of those of some tables that have no partitions, and are judged whole: of dimensions and ledgers.

    Types and completeness are Delta's to enforce there, which refuses the write. Keys are counted where one database
    brings them; those of ledgers are their writers' own, and those of persons are as many as there ever were. For
    addresses all of them are looked through, as only what may be one is kept in memory.
    """
    made, dimensions = [], {dimension.table.name for dimension in DIMENSIONS}
    for table in tables:
        if table.partitions is not None:
            continue
        if table.name in dimensions:
            made.append(
                Check(table, "unique_key", has_unique_key, _UNIQUE.format(", ".join(table.key)), pillar="uniqueness")
            )
        if keeps_addresses_out(table):
            made.append(address_check(table))
        if table.references:
            made.append(references_check(table))
        made += [conservation_check(c, blocking=False) for c in CONSERVATIONS if c.table is table]
        made += [keeping_up_check(table, followed) for followed in ANSWERED if table in followed.followers]
    return made


def checks_of(tables: Sequence[Table]) -> list[Check]:
    """All checks of some tables, from their declarations; of those without partitions only of what is rebuilt whole."""
    made = []
    for table in tables:
        if table.partitions is None and table.update != "rebuild":
            continue
        # A wrong table must not feed the next one; the stream, though, is never stopped by a check.
        guards = table.update == "rebuild"
        unique = _UNIQUE.format(", ".join(table.key))
        declared = "Types, completeness, accepted values and ranges are as declared."
        due = "The partition is there; judged for the latest one that is due, by schedule."
        made += [
            Check(table, "contract", keeps_contract, declared, blocking=guards, pillar="validity"),
            Check(table, "unique_key", has_unique_key, unique, blocking=guards, pillar="uniqueness"),
        ]
        if table.partitions is None:
            continue
        if keeps_addresses_out(table):
            made.append(address_check(table))
        if table.references:
            made.append(references_check(table))
        made += [conservation_check(c, blocking=guards) for c in CONSERVATIONS if c.table is table]
        if table.steady:
            made.append(Check(table, DUE, is_there, due, newest_only=True, pillar="freshness"))
        if table.update == "landed; rebuild":
            made.append(bad_rows_check(table))
    adds_up = "Silver, duplicate, quarantined and dead-lettered add up to the records consumed."
    made.append(Check(outcomes.TABLE, "conservation", conserves_records, adds_up, pillar="consistency"))
    all_told = "Changes, tombstones, quarantined and dead-lettered add up to the records consumed."
    made.append(Check(oltp_changes.TABLE, "conservation", conserves_changes, all_told, pillar="consistency"))
    kept = "No record was refused for the schema that it was written with."
    made += [
        Check(refusals, "schemas_kept", keeps_schemas, kept, pillar="schema")
        for refusals in (quarantine.TABLE, dead_letters.TABLE)
    ]
    one_time = "No event id stands for events of different times."
    warn = dg.AssetCheckSeverity.WARN
    all_in = "About all events of the hour are in, by the watermark and by how late those of past hours came."
    made.append(
        Check(
            events.TABLE,
            "completeness",
            is_complete,
            all_in,
            severity=warn,
            newest_only=True,
            pillar="completeness",
        )
    )
    made.append(Check(events.TABLE, "id_conflicts", has_no_id_conflict, one_time, severity=warn, pillar="uniqueness"))
    return made


def _seconds_short(window: Window, reached: datetime) -> float:
    """How much of a window, in seconds, is not there yet."""
    return max(timedelta(0), window.end - reached).total_seconds()


def _rows_of_dates(platform: Platform, table: Table, window: Window) -> int:
    """How many rows the dates of a window hold, as the table's log counts them."""
    files = pl.DataFrame(platform.lake.open(table).get_add_actions(flatten=True))
    if files.is_empty():
        return 0
    dates = pl.col(f"partition.{table.partition_by[0]}").is_between(window.first_date, window.last_date)
    return int(files.filter(dates)["num_records"].sum())


def _rows(platform: Platform, table: Table, window: Window) -> pl.LazyFrame:
    rows = platform.lake.scan(table)
    if table.partitions is None:
        return rows
    if table.schema[table.window_on] == pl.Date():
        days = window.days(platform.settings.zone)
        return rows.filter(pl.col(table.window_on).is_between(days[0], days[-1]))
    return rows.filter(within(table, window))
