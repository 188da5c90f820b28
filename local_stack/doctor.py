"""`headwater doctor`: looks for damage in the lake's tables, and mends what can be mended; tells wrong metric files.

Damage of these kinds was seen to happen to tables on a local disk: a commit, a checkpoint or a data file that a
power failure emptied or cut short (delta-rs calls no fsync), files that somebody deleted, temporary files of killed
writers. In an object store, where a file is there whole or not at all, the tables are only read.

Mending is never done beside a writer: not while the stack is up, nor while Dagster has a run in progress.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Shown

from local_stack.stack import Stack, StackHeld, StackRefused
from partitions import Partitions, Window
from platform_assets.bronze import dead_letters
from platform_assets.followed import FOLLOWED
from platform_assets.ops import computations
from platform_assets.quality import check_results
from platform_assets.silver import events, late_arrivals, quarantine, row_changes, touched_hours
from platform_assets.streams import epochs
from platform_assets.streams.stream import EVENT_STREAMS, OLTP_CHANGES, STREAMS, Stream
from platform_assets.table import Table
from resources.lake import Lake, disk_usage, local_path
from resources.records import Position
from resources.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

SMALL_BYTES = 16 * 2**20
"""A data file below this is counted as small."""

_WIDE = 120
"""Columns of a terminal that the table of figures needs; in a narrower one they are said line by line."""

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\..+)?\.parquet")
_LEFTOVER = re.compile(r".*(#\d+|\.tmp)")
_LAST_CHECKPOINT = "_last_checkpoint"
_ASIDE = "_damaged"
_ZONE = ZoneInfo("UTC")
_JUDGED = {
    **{
        stream.name: (dead_letters.TABLE, quarantine.TABLE, late_arrivals.TABLE, events.TABLE)
        for stream in EVENT_STREAMS
    },
    OLTP_CHANGES.name: (dead_letters.TABLE, quarantine.TABLE, row_changes.TABLE),
}
"""By stream, the tables that have its topic partitions' progress."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        table: The table's name.
        what: What is wrong.
        remedy: What mending does, or what a person can do.
        mend: Mends it, and returns what there is left to do; None where only a person can.
    """

    table: str
    what: str
    remedy: str
    mend: Callable[[], list[str]] | None = None


@dataclass(frozen=True)
class Figures:
    """The size of a table as its log has it.

    Attributes:
        version: The newest version.
        files: Data files.
        bytes: Their bytes.
        rows: Their rows.
        crowded: The most files of one date.
        small: Files below `SMALL_BYTES`.
        checkpoint: Version of the last checkpoint, if there is one.
        progress: Next offset per topic partition (`client_events/0`), in the current epoch.
    """

    version: int
    files: int
    bytes: int
    rows: int
    crowded: int
    small: int
    checkpoint: int | None
    progress: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Examined:
    """A table that was looked at; no figures where it cannot be opened."""

    table: Table
    figures: Figures | None
    findings: list[Finding]


class Doctor:
    """Looks at the tables of a lake.

    Args:
        lake: The lake.
        settings: Topic, and what the partitions are.
        tables: The tables; those that were never created are left out.
    """

    def __init__(self, lake: Lake, settings: Settings, tables: Sequence[Table]) -> None:
        self.lake = lake
        self._settings = settings
        self._tables = tables
        self._partitions = Partitions.starting(settings.start_date, settings.zone)

    def examine(self) -> list[Examined]:
        """Look at every table; changes nothing."""
        examined = [self._table(table) for table in self._tables if self._is_there(table)]
        if all(found.figures is not None for found in examined):
            there = {found.table.name for found in examined}
            ahead = [*self._ahead(there), *self._not_there_any_more(there)]
            examined = [
                Examined(e.table, e.figures, [*e.findings, *(f for f in ahead if f.table == e.table.name)])
                for e in examined
            ]
        return examined

    def _is_there(self, table: Table) -> bool:
        root = local_path(self.lake, table)
        # A log whose every commit is damaged is no Delta table any more for `exists`.
        return self.lake.exists(table) if root is None else (root / "_delta_log").is_dir()

    def _table(self, table: Table) -> Examined:
        root = local_path(self.lake, table)
        findings = [] if root is None else [*_in_the_log(table, root), *_leftovers(table, root)]
        try:
            handle = self.lake.open(table)
            figures = self._figures(table, handle, root)
        except (DeltaError, FileNotFoundError) as error:
            if not findings:
                findings.append(Finding(table.name, f"it cannot be opened: {error}", "restore it from a copy"))
            return Examined(table, None, findings)
        if root is not None:
            findings += self._in_the_files(table, root, handle)
        return Examined(table, figures, findings)

    def _figures(self, table: Table, handle: DeltaTable, root: Path | None) -> Figures:
        files = pl.DataFrame(handle.get_add_actions(flatten=True))
        by_date = None if files.is_empty() else files.group_by(f"partition.{table.partition_by[0]}").len()["len"]
        usage = disk_usage(handle)
        return Figures(
            version=handle.version(),
            files=usage["files"],
            bytes=usage["bytes"],
            rows=usage["rows"],
            crowded=0 if by_date is None else int(max(by_date)),
            small=0 if files.is_empty() else files.filter(pl.col("size_bytes") < SMALL_BYTES).height,
            checkpoint=None if root is None else max((v for v, _ in _checkpoints(root / "_delta_log")), default=None),
            progress=self._progress(handle),
        )

    def _progress(self, handle: DeltaTable) -> dict[str, int]:
        found = {}
        for stream in STREAMS:
            position = self._recorded(stream)
            if position is None:
                continue
            for partition in position.offsets:
                offset = handle.transaction_version(position.app(partition))
                if offset is not None:
                    found[f"{position.topic}/{partition}"] = offset
        return found

    def _recorded(self, stream: Stream) -> Position | None:
        """How far a stream was read into bronze, if it was."""
        topic = stream.topic(self._settings)
        if topic is None or not self._is_there(stream.table):
            return None
        return epochs.recorded(self.lake.open(stream.table), topic)

    def _in_the_files(self, table: Table, root: Path, handle: DeltaTable) -> Iterator[Finding]:
        """Data files that the log has and the disk has not, or has in another size."""
        files = pl.DataFrame(handle.get_add_actions(flatten=True))
        if files.is_empty():
            return
        sizes = {path: _size(root / path) for path in files["path"]}
        wrong = [path for path, size in zip(files["path"], files["size_bytes"], strict=True) if sizes[path] != size]
        if not wrong:
            return
        lost = files.filter(pl.col("path").is_in(wrong))
        missing = sum(sizes[path] is None for path in wrong)
        told = [f"{missing} data files are missing"] * bool(missing)
        told += [f"{len(wrong) - missing} data files are cut short"] * (missing < len(wrong))
        rows = int(lost["num_records"].sum())
        advice = self._advice(table, lost)

        def mend() -> list[str]:
            for path in wrong:
                if sizes[path] is not None:  # kept, out of the table's sight
                    aside = root / _ASIDE / path.replace("/", "__")
                    aside.parent.mkdir(exist_ok=True)
                    (root / path).rename(aside)
            self.lake.open(table).repair()
            return [f"{rows:,} rows of {table.name} are gone. {line}" for line in advice]

        remedy = f"take them out of the log; their {rows:,} rows are gone until they are computed again"
        yield Finding(table.name, " and ".join(told), remedy, mend)

    def _advice(self, table: Table, lost: pl.DataFrame) -> list[str]:
        """How the rows of some files can be computed again."""
        if table is computations.TABLE:
            return ["Nothing need be done: what it forgot is computed again by itself"]
        if table is touched_hours.TABLE:
            return ["Materialize silver/activity_hours for the hours that silver touched lately (all, if in doubt)"]
        if table is check_results.TABLE:
            return [f"Dagster's log has them: remove {self.lake.uri(table)}, and `make up` writes it anew"]
        if table.partitions is None:
            return ["There is no Dagster partition that computes them again"]
        keys = sorted({key for window in _windows(table, lost, self._settings) for key in self._keys(table, window)})
        if not keys:
            return ["They lie before the first partition; none computes them again"]
        span = keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"
        from_kafka = ", if Kafka still holds their records" if table in {stream.table for stream in STREAMS} else ""
        return [f"Materialize {table.name}, partitions {span} ({len(keys)}), in Dagster{from_kafka}"]

    def _keys(self, table: Table, window: Window) -> list[str]:
        return self._partitions.keys(table.partitions or "hour", window)

    def _ahead(self, there: set[str]) -> Iterator[Finding]:
        """Tables that have taken in what the one above them no longer has: its commits were lost."""
        for stream in STREAMS:
            position = self._recorded(stream)
            if position is None:
                continue
            for table in (table for table in _JUDGED[stream.name] if table.name in there):
                handle = self.lake.open(table)
                for partition, offset in position.offsets.items():
                    found = handle.transaction_version(position.app(partition))
                    if found is not None and found > offset:
                        where = f"{position.topic}/{partition}"
                        what = f"it has taken in {where} up to {found:,}, bronze only up to {offset:,}"
                        yield Finding(table.name, what, _AHEAD)
        for above, app, followers in (followed for followed in FOLLOWED if followed.table.name in there):
            newest = self.lake.open(above).version()
            for table in (table for table in followers if table.name in there):
                found = self.lake.open(table).transaction_version(app)
                if found is not None and found > newest:
                    what = f"it has taken in version {found} of {above.name}, which is at {newest}"
                    yield Finding(table.name, what, _AHEAD)

    def _not_there_any_more(self, there: set[str]) -> Iterator[Finding]:
        """Windows that the ledger says were computed, in versions that the table does not have."""
        if computations.TABLE.name not in there:
            return
        ledger = self.lake.scan(computations.TABLE).select("table", "table_version", "window_start", "window_end")
        for table in (table for table in self._tables if table.name in there and table.partitions is not None):
            newest = self.lake.open(table).version()
            lost = ledger.filter((pl.col("table") == table.name) & (pl.col("table_version") > newest)).collect()
            spans = lost.select("window_start", "window_end").unique().iter_rows()
            keys = sorted({key for start, end in spans for key in self._keys(table, Window(start, end))})
            if keys:
                span = keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"
                what = f"{len(keys)} partitions were computed in commits that are lost"
                yield Finding(table.name, what, f"materialize partitions {span} in Dagster")


_AHEAD = (
    "commits of the table above were lost (a power failure): do not go on with this table. Restore both from a copy "
    "of one time, or start this one anew (remove its folder) and materialize its partitions"
)


def visit(stack: Stack, console: Console, *, mend: bool) -> int:
    """Look at every table and every file of metrics, tell what was found, and mend it where asked to.

    Returns:
        The exit status: 0 where nothing is wrong (any more), 1 where something is.

    Raises:
        StackRefused: Mending was asked for beside a writer.
    """
    from platform_assets.gold.metric_numbers import own_metrics  # noqa: PLC0415 - see above
    from platform_assets.tables import tables  # noqa: PLC0415 - a second, which `--help` need not wait for

    settings = stack.settings()
    doctor = Doctor(Lake.from_settings(settings), settings, tables())
    local, wrong = "://" not in settings.lake_url, own_metrics().faults
    if not mend:
        return _tell(doctor.examine(), wrong, console, local=local)
    try:
        with stack.held("doctor"):
            refuse_beside_writers(stack)
            for round_ in range(2):  # what hides behind a broken log is found once that is mended
                mended = _mend(doctor.examine(), console)
                if not mended and round_ == 0:
                    console.print("there was nothing to mend")
                if not mended:
                    break
            return _tell(doctor.examine(), wrong, console, local=local)
    except StackHeld as error:
        msg = f"{error}: mending beside writers is not safe. Stop it first (`make down`)"
        raise StackRefused(msg) from error


def refuse_beside_writers(stack: Stack) -> None:
    """Assert that no Dagster run is in progress on the stack's instance.

    Raises:
        StackRefused: There is one.
    """
    if not (stack.dagster_home / "dagster.yaml").exists():
        return
    import dagster as dg  # noqa: PLC0415 - see `visit`

    from local_stack.instance import instance_of  # noqa: PLC0415

    status = dg.DagsterRunStatus
    busy = [status.QUEUED, status.NOT_STARTED, status.STARTING, status.STARTED, status.CANCELING]
    with instance_of(stack.dagster_home) as instance:
        runs: Sequence[dg.DagsterRun] = instance.get_runs(dg.RunsFilter(statuses=busy))
    if runs:
        told = ", ".join(f"{run.run_id[:8]} ({run.job_name}, {run.status.value.lower()})" for run in runs[:5])
        msg = (
            f"{len(runs)} Dagster runs are in progress: {told}. Mending beside writers is not safe. Cancel them, or "
            "let `headwater up` find out that nothing executes them any more"
        )
        raise StackRefused(msg)


def _mend(examined: Sequence[Examined], console: Console) -> int:
    mended = 0
    for finding in (finding for found in examined for finding in found.findings if finding.mend is not None):
        assert finding.mend is not None  # noqa: S101 - filtered above
        left = finding.mend()
        mended += 1
        console.print(f"[green]mended[/]  {finding.table}: {escape(finding.what)}", highlight=False)
        for line in left:
            console.print(f"        {escape(line)}", highlight=False)
    return mended


def _tell(examined: Sequence[Examined], wrong: str, console: Console, *, local: bool) -> int:
    wraps = console.is_terminal  # between words; what goes into a file keeps a line for each thing

    def say(text: str, indent: int = 0) -> None:
        console.print(
            Padding(text, (0, 0, 0, indent)) if wraps else " " * indent + text, highlight=False, soft_wrap=not wraps
        )

    if console.width < _WIDE:
        for found in examined:
            say(f"{found.table.name}: {'cannot be opened' if found.figures is None else _in_words(found.figures)}")
    else:
        console.print(_shown(examined))
    for found in examined:
        if found.figures is not None and found.figures.progress:
            told = ", ".join(f"{partition}: {offset:,}" for partition, offset in found.figures.progress.items())
            say(f"progress of {found.table.name}: {told}")
    if not local:
        say("The lake is in an object store: the tables were read, their files were not looked at.")
    findings = [finding for found in examined for finding in found.findings]
    for finding in findings:
        say(f"[red]{finding.table}: {escape(finding.what)}[/]")
        prefix = "`headwater doctor --mend` would " if finding.mend is not None else ""
        say(f"{prefix}{escape(finding.remedy)}", indent=4)
    if wrong:
        for fault in wrong.splitlines():
            say(f"[red]{escape(fault)}[/]")
        say("their numbers are not computed until the files are right, and loaded again", indent=4)
    if not findings and not wrong:
        say(f"[green]{len(examined)} tables, nothing is wrong[/]")
    return 1 if findings or wrong else 0


def _shown(examined: Sequence[Examined]) -> Shown:
    table = Shown()
    for heading in ("table", "version", "files", "MB", "rows", "files/date", "small", "checkpoint"):
        if heading == "table":
            table.add_column(heading, no_wrap=True, min_width=24)
        else:
            table.add_column(heading, justify="right")
    for found in examined:
        table.add_row(found.table.name, *(["cannot be opened"] if found.figures is None else _row(found.figures)))
    return table


def _in_words(figures: Figures) -> str:
    version, files, size, rows, crowded, small, checkpoint = _row(figures)
    told = f"version {version}, {rows} rows, {size} MB in {files} files ({small} small, at most {crowded} of a date)"
    return f"{told}, checkpoint {checkpoint}" if checkpoint else told


def _row(figures: Figures) -> list[str]:
    numbers = (figures.version, figures.files, figures.rows, figures.crowded, figures.small)
    version, files, rows, crowded, small = (f"{number:,}" for number in numbers)
    checkpoint = "" if figures.checkpoint is None else f"{figures.checkpoint:,}"
    return [version, files, f"{figures.bytes / 1e6:,.1f}", rows, crowded, small, checkpoint]


def _in_the_log(table: Table, root: Path) -> Iterator[Finding]:
    """Commits and checkpoints that cannot be read."""
    log = root / "_delta_log"
    commits = {int(found[1]): file for file in log.iterdir() if (found := _COMMIT.fullmatch(file.name))}
    newest = max(commits, default=-1)
    unreadable = {version for version, file in commits.items() if not _is_commit(file)}
    for version in sorted(unreadable):
        what = f"commit {version} is empty or cut short"
        if version != newest or version == 0:
            remedy = "nothing: later commits rest on it. Restore the table from a copy, or compute it again"
            yield Finding(table.name, what, remedy)
            continue

        def remove(file: Path = commits[version]) -> list[str]:
            file.unlink()
            return []

        yield Finding(table.name, what, "remove it: it never happened, and its rows come again", remove)
    broken = {version: files for version, files in _checkpoints(log) if not all(map(_is_parquet, files))}
    sound = {version for version, _ in _checkpoints(log)} - set(broken)
    pointed = _pointed_at(log)
    astray = pointed is not None and pointed not in {*sound, *broken}
    if not broken and not astray:
        return
    what = "; ".join(
        [f"checkpoint {version} cannot be read" for version in broken]
        + [f"{_LAST_CHECKPOINT} names a checkpoint that is not there"] * astray
    )
    since = max(sound, default=-1)
    needed = set(range(since + 1, newest + 1))
    if gone := needed - (set(commits) - unreadable | {newest}):
        remedy = f"nothing: without it, commits {min(gone)} to {max(gone)} were needed. Restore the table from a copy"
        yield Finding(table.name, what, remedy)
        return

    def drop() -> list[str]:
        for file in (file for files in broken.values() for file in files):
            file.unlink()
        (log / _LAST_CHECKPOINT).unlink(missing_ok=True)
        return []

    yield Finding(table.name, what, f"remove it and {_LAST_CHECKPOINT}: the commits say the same", drop)


def _leftovers(table: Table, root: Path) -> Iterator[Finding]:
    """Temporary files of writers that were killed."""
    found = [file for file in root.rglob("*") if _LEFTOVER.fullmatch(file.name) and file.is_file()]
    if not found:
        return

    def remove() -> list[str]:
        for file in found:
            file.unlink()
        return []

    yield Finding(table.name, f"{len(found)} temporary files of killed writers", "remove them", remove)


def _checkpoints(log: Path) -> list[tuple[int, list[Path]]]:
    """Versions with a checkpoint, and its files."""
    files: dict[int, list[Path]] = {}
    for file in sorted(log.iterdir()):
        if found := _CHECKPOINT.fullmatch(file.name):
            files.setdefault(int(found[1]), []).append(file)
    return sorted(files.items())


def _pointed_at(log: Path) -> int | None:
    """The version that `_last_checkpoint` names; -1 where it says nothing sensible, None where there is none."""
    file = log / _LAST_CHECKPOINT
    if not file.exists():
        return None
    try:
        return int(json.loads(file.read_bytes())["version"])
    except (ValueError, KeyError, TypeError):
        return -1


def _is_commit(file: Path) -> bool:
    """Whether a commit's file is whole: JSON objects, one a line, at least one."""
    lines = file.read_bytes().splitlines()
    try:
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        return False


def _is_parquet(file: Path) -> bool:
    """Whether a checkpoint can be read to its end."""
    try:
        with pq.ParquetFile(file) as opened:
            for group in range(opened.num_row_groups):
                opened.read_row_group(group)
    except (pa.ArrowException, OSError):
        return False
    return True


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def _windows(table: Table, lost: pl.DataFrame, settings: Settings) -> Iterator[Window]:
    """The windows of time that some files may hold rows of: by their statistics, else by their date."""
    low, high = f"min.{table.window_on}", f"max.{table.window_on}"
    is_day = table.schema[table.window_on] == pl.Date()
    for file in lost.iter_rows(named=True):
        first, last = file.get(low), file.get(high)
        if not is_day and isinstance(first, datetime) and isinstance(last, datetime):
            # Statistics are cut to the millisecond.
            yield Window(_utc(first), _utc(last) + timedelta(milliseconds=1))
            continue
        day: Any = file[f"partition.{table.partition_by[0]}"]
        if isinstance(day, date):
            yield Window.of_days(day, day, settings.zone if is_day else _ZONE)


def _utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
