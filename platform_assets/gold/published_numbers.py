"""`gold/published_numbers`: every number that was published, what it was computed from, and why it changed.

What is published is compared, not announced: `publish` compares the rows of a gold table, as they stand, with what the
ledger said last, and appends what differs, with the version of the gold table that it compared, in one commit. A
process that dies between the gold table's commit and this one loses nothing, because the next comparison finds the
same; two that compare at once conflict, and one compares again. No row of the ledger is ever changed or removed, so "as
known at" is a read of it, not a travel in time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import fact_events, order_changes, orders
from platform_assets.lineage import (
    CAUSES,
    LOG,
    Basis,
    Cause,
    Lineage,
    log_of_dimension,
    log_of_events,
    log_of_orders,
    log_of_persons,
)
from platform_assets.ops import computations
from platform_assets.platform import Platform
from platform_assets.publication import VALUE, Publication, slice_words
from platform_assets.semantics.lateness import share_still_expected
from platform_assets.semantics.watermark import PERSON_FINAL_AFTER, is_closed, is_final, is_person_final
from platform_assets.silver import dimension_changes, events, outcomes, persons, touched_hours
from platform_assets.table import TIMESTAMP, Column, Table
from resources.delta_log import files_of
from resources.lake import STATS_PRECISION, VersionGone, Writer, retrying

TABLE = Table(
    name="gold/published_numbers",
    description=(
        "The ledger of restatements: each number that was published, each time that it changed, why, and what it was "
        "computed from. What a number was as known at some moment is the last of its rows published by then."
    ),
    grain="metric × slice × window × publication that said something else than the one before",
    key=("metric", "slice", "grain", "window_start", "revision"),
    columns=(
        Column("metric", pl.String(), "Name of the number: `active_users.dau`."),
        Column("slice", pl.String(), "Of which slice: `platform=ios`; empty for the total."),
        Column("grain", pl.String(), "Length of the window.", accepted=("hour", "day", "week", "month")),
        Column("window_start", TIMESTAMP, "Start of the window, UTC."),
        Column("window_end", TIMESTAMP, "End of the window, exclusive, UTC."),
        Column("revision", pl.Int64(), "From 1, a number and window.", minimum=1),
        Column("value", VALUE, "The number; null while it is not known, or from 10^28 on.", nullable=True),
        Column("change", VALUE, "Value less the one before; null at first, or where either is.", nullable=True),
        Column("causes", pl.List(pl.String()), f"Why it is published: of {', '.join(CAUSES)}; in this order."),
        Column(
            "expected_late_share",
            pl.Float64(),
            "Share of the events it is made of that is still expected: what had not come yet when past windows were as "
            "old. Null where there are none to tell it by, and of numbers of the database, where nothing comes late.",
            nullable=True,
        ),
        Column("is_closed", pl.Boolean(), "Whether the watermark had passed the end of all that the number is about."),
        Column(
            "is_final",
            pl.Boolean(),
            "Whether it had passed the allowed lateness, too. Never of numbers of the database, which may change an "
            "order of any day at any time.",
        ),
        Column(
            "is_person_final",
            pl.Boolean(),
            "Whether it was 30 days past the end: no login can change it any more. Never of numbers of the database.",
        ),
        Column(
            "watermark",
            TIMESTAMP,
            "Watermark that it was computed at: of events or, of numbers of the database, of its changes.",
            nullable=True,
        ),
        Column("definition_version", pl.String(), "Version, or digest, of the definition that it was computed by."),
        Column(
            "source_versions",
            pl.String(),
            "JSON object: tables on the way to the newest version of each that was read (of persons: the resolution).",
            provenance=True,
        ),
        Column(
            "published_at",
            TIMESTAMP,
            "When, by the clock of the machine; after all that was published before, of whatever number.",
            provenance=True,
        ),
        Column("source_table", pl.String(), "Name of the gold table that has the number."),
        Column("window_date", pl.Date(), "UTC date of `window_start`."),
    ),
    partition_by=("window_date",),
    window_on="window_start",
    partitions=None,
    cluster_by=("metric", "slice", "window_start"),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("window_start", "published_at", "revision"),
    append_only=True,
)

PAST_WINDOWS = 28
"""How many windows before tell what share of one is still expected."""

_RECORDED_WITHIN = 20
"""How many versions of a gold table may come before the record of one is written, where runs overlap."""

_INSTANT = timedelta(microseconds=1)

_KEY = ("metric", "slice", "grain", "window_start")


def publish_all(platform: Platform, publications: Sequence[Publication]) -> None:
    """Publish what differs in some gold tables; of a new metric whose table no run has made yet, nothing."""
    for publication in publications:
        if platform.lake.exists(publication.table):
            publish(platform, publication)


def publish(platform: Platform, publication: Publication) -> pl.DataFrame:
    """Compare a gold table with what the ledger said last, and append what differs.

    Returns:
        The rows appended.

    Raises:
        ValueError: A number stands twice in the gold table.
    """
    lake = platform.lake

    def attempt() -> pl.DataFrame:
        # Before the numbers are read: who reads older ones than a rival published must be the one who conflicts.
        writer = Writer(lake, TABLE)
        compared = writer.progress(publication.progress)
        source = lake.open(publication.table)
        if compared is not None and compared >= source.version():
            return TABLE.empty()
        said = lake.scan(TABLE, handle=writer.handle).filter(pl.col("source_table") == publication.table.name)
        held = lake.scan(publication.table, handle=source)
        days = None if compared is None else _days_since(platform, publication, compared, source, said)
        if days is not None:
            starts = pl.Series([publication.window(day, platform.settings.zone).start for day in days], dtype=TIMESTAMP)
            is_touched = pl.col("window_start").is_in(starts.implode())
            said = said.filter(pl.col("window_date").is_in(starts.dt.date().unique().implode()), is_touched)
            held = held.filter(pl.col(publication.starts_on).is_in(pl.Series(days, dtype=pl.Date).implode()))
        now = publication.numbers(held, platform.settings.zone)
        clock, known = platform.clock(), known_until(writer.handle)
        at = clock if known is None else max(clock, known + _INSTANT)
        rows = _Comparison(platform, publication, compared, source.version()).rows(now, latest(said), at)
        writer.commit(rows, {publication.progress: source.version()})
        return rows

    return retrying(f"publication of {publication.table.name}", attempt)


def _days_since(
    platform: Platform, publication: Publication, compared: int, source: DeltaTable, said: pl.LazyFrame
) -> list[date] | None:
    """The days of a gold table that may say something else than when they were compared.

    Those of which a file came or went since, and those of the newest records of `ops/computations`, which are written
    after the data.

    Args:
        platform: The platform.
        publication: Whose numbers.
        compared: The version of the gold table that was compared.
        source: The version of now.
        said: What was published of it.

    Returns:
        The days, in order; None where it has to be all: its log no longer tells, it is not laid out by the day that
        its windows start on, or some of them were days of another timezone.
    """
    lake, table, on = platform.lake, publication.table, publication.starts_on
    if table.partition_by != (on,) or table.schema[on] != pl.Date():
        return None
    zone = platform.settings.zone
    starts = said.select(pl.col("window_start").unique()).collect()["window_start"]
    if any(publication.window(start.astimezone(zone).date(), zone).start != start for start in starts):
        return None
    try:
        before = files_of(lake, table, lake.open(table, compared))
    except VersionGone:
        return None
    touched = before ^ files_of(lake, table, source)
    of_files = {date.fromisoformat(match[1]) for file in touched if (match := re.search(rf"/{on}=([\d-]+)/", file))}
    recorded = lake.scan(computations.TABLE).filter(
        pl.col("table") == table.name, pl.col("table_version") > compared - _RECORDED_WITHIN
    )
    spans = recorded.select("window_start", "window_end").unique().collect().rows()
    of_records = {day for start, end in spans for day in Window(start, end).days(zone)}
    return sorted(of_files | of_records)


def is_behind(platform: Platform, publication: Publication) -> bool:
    """Whether the gold table has a version that was not compared yet. A table that was never made has none."""
    if not platform.lake.exists(publication.table):
        return False
    compared = platform.lake.open(TABLE).transaction_version(publication.progress)
    return compared is None or compared < platform.lake.open(publication.table).version()


def known_until(handle: DeltaTable) -> datetime | None:
    """An instant, UTC, that nothing in a version of the ledger was published after, and all that is in later ones was.

    So what was said by it, or by one before, is the same in every later version. By the log, to the millisecond; None
    where nothing was published.
    """
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    newest = None if files.is_empty() else files["max.published_at"].max()
    return newest + STATS_PRECISION - _INSTANT if isinstance(newest, datetime) else None


def latest(entries: pl.LazyFrame) -> pl.DataFrame:
    """Of rows of the table, the last of each metric, slice and window: a day is not the week from it on."""
    return entries.sort("revision").unique(_KEY, keep="last").collect()


class _Comparison:
    """What differs between the numbers of a gold table and what was said last, and why.

    Args:
        platform: For the ledgers that tell why; read when they are needed.
        publication: Whose numbers.
        compared: The version of the gold table at the comparison before; None if there was none.
        version: The version of the gold table now.
    """

    def __init__(self, platform: Platform, publication: Publication, compared: int | None, version: int) -> None:
        self._platform, self._publication = platform, publication
        self._table = publication.table.name
        self._compared, self._version = -1 if compared is None else compared, version
        self._zone, self._lateness = platform.settings.zone, platform.settings.allowed_lateness
        self._becomes_final = publication.table.source == "events"
        self._known: dict[tuple[object, ...], Any] = {}
        self._arrivals: tuple[datetime, pl.DataFrame] | None = None

    def rows(self, now: pl.DataFrame, last: pl.DataFrame, at: datetime) -> pl.DataFrame:
        """The rows to append.

        Args:
            now: `Publication.numbers`.
            last: `latest`.
            at: When they are published.
        """
        known = last.select(*_KEY, pl.exclude(*_KEY, "source_table", "window_date").name.prefix("last_"))
        now = now.with_columns(grain=pl.lit(self._publication.grain))
        both = self._complete(now).join(known, on=_KEY, how="left")
        changed = [*both.filter(self._differs()).iter_rows(named=True)]
        absent = pl.lit(self._publication.absent, VALUE)
        gone = known.join(now, on=_KEY, how="anti").filter(pl.col("last_value").ne_missing(absent))
        changed += [self._absent(row) for row in gone.iter_rows(named=True)]
        rows = [self._row(row, at) for row in changed]
        return pl.DataFrame(rows, schema=TABLE.schema, orient="row").sort("window_start", "metric", "slice")

    @cached_property
    def _lineage(self) -> Lineage:
        platform = self._platform
        return Lineage(
            platform.lake.scan(computations.TABLE).collect(),
            change_logs(platform),
            self._publication.reach,
            platform.settings.zone,
        )

    def _complete(self, now: pl.DataFrame) -> pl.DataFrame:
        """With the watermark and the definition from `ops/computations`, where the table's rows do not tell them."""
        told = (self._publication.watermark, self._publication.definition)
        if None not in told:
            return now
        recorded = []
        for start, end in now.select("window_start", "window_end").unique().iter_rows():
            window = Window(start, end)
            watermark = self._lineage.watermark(self._table, window, self._version)
            recorded.append((start, watermark, self._lineage.definition(self._table, window, self._version)))
        schema = pl.Schema({"window_start": TIMESTAMP, "recorded_at": TIMESTAMP, "recorded_definition": pl.Int64()})
        both = now.join(pl.DataFrame(recorded, schema=schema, orient="row"), on="window_start")
        if self._publication.watermark is None:
            both = both.with_columns(watermark="recorded_at")
        if self._publication.definition is None:
            definition = pl.col("recorded_definition").cast(pl.String)
            both = both.with_columns(definition_version=pl.coalesce(definition, "definition_version"))
        return both.drop("recorded_at", "recorded_definition")

    def _differs(self) -> pl.Expr:
        """Whether a number, how final it is, or its definition is another than was said; true where nothing was."""
        end, at = pl.col("settles_at"), pl.col("watermark")
        flags = {
            "is_closed": at >= end,
            "is_final": (at >= end + self._lateness) & self._becomes_final,
            "is_person_final": (at >= end + PERSON_FINAL_AFTER) & self._becomes_final,
        }
        return pl.any_horizontal(
            pl.col("last_revision").is_null(),
            pl.col("value").ne_missing(pl.col("last_value")),
            pl.col("definition_version").ne_missing(pl.col("last_definition_version")),
            *(flag.fill_null(value=False) != pl.col(f"last_{name}") for name, flag in flags.items()),
        )

    def _absent(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A number that was published and has no row any more."""
        window = Window(row["window_start"], row["last_window_end"])
        watermark = self._lineage.watermark(self._table, window, self._version)
        definition = self._lineage.definition(self._table, window, self._version)
        absent, own = self._publication.absent, len(self._publication.metrics) == 1
        return {
            **row,
            "window_end": window.end,
            "part": None,
            "settles_at": self._publication.settles_at(window, self._zone),
            "value": None if absent is None else Decimal(absent),
            "column": self._publication.metrics[0].column if own else row["metric"].rsplit(".", 1)[1],
            "watermark": row["last_watermark"] if watermark is None else watermark,
            "definition_version": row["last_definition_version"] if definition is None else str(definition),
        }

    def _row(self, row: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        window, watermark = Window(row["window_start"], row["window_end"]), row["watermark"]
        settles_at = row["settles_at"]
        value, last_value, is_first = row["value"], row["last_value"], row["last_revision"] is None
        told = {
            table.name: row[name]
            for name, table in self._publication.versions.items()
            if row.get(name) is not None  # a number that has no row any more tells nothing
        }
        after = Basis(self._version, told)
        return {
            "metric": row["metric"],
            "slice": row["slice"],
            "grain": row["grain"],
            "window_start": window.start,
            "window_end": window.end,
            "revision": 1 if is_first else row["last_revision"] + 1,
            "value": value,
            "change": None if value is None or last_value is None else value - last_value,
            "causes": ["first publication"] if is_first else list(self._causes(row, window, after)),
            "expected_late_share": self._expected(window, watermark, row["part"], settles_at),
            "is_closed": is_closed(settles_at, watermark),
            "is_final": self._becomes_final and is_final(settles_at, watermark, self._lateness),
            "is_person_final": self._becomes_final and is_person_final(settles_at, watermark),
            "watermark": watermark,
            "definition_version": row["definition_version"],
            "source_versions": self._sources(window, after),
            "published_at": at,
            "source_table": self._table,
            "window_date": window.start.date(),
        }

    def _causes(self, row: Mapping[str, Any], window: Window, after: Basis) -> tuple[Cause, ...]:
        redefined: set[Cause] = set()
        if row["definition_version"] != row["last_definition_version"]:
            redefined = {"definition change"}
        if row["value"] == row["last_value"]:
            return tuple(redefined) or ("finality",)
        said = json.loads(row["last_source_versions"])
        names = [table.name for table in self._publication.versions.values()]
        before = Basis(self._compared, {name: said[name] for name in names if name in said})
        metric = self._publication.metric(row["column"])
        reach, apart_from = metric.reach, tuple(table.name for table in metric.unmoved_by)
        key = ("causes", window, reach, apart_from, *before.told.values(), *after.told.values(), row["last_watermark"])
        if key not in self._known:
            within = None if reach is None else reach.around(window, self._zone)
            # What was compared since, and was the same, was told at a later watermark.
            compared_at = self._lineage.watermark(self._table, window, self._compared)
            told_at = max((at for at in (row["last_watermark"], compared_at) if at is not None), default=None)
            self._known[key] = self._lineage.causes(self._table, window, before, after, told_at, within, apart_from)
        named = redefined.union(self._known[key])
        return tuple(cause for cause in CAUSES if cause in named) or ("backfill",)

    def _sources(self, window: Window, basis: Basis) -> str:
        key = ("sources", window, *basis.told.values())
        if key not in self._known:
            self._known[key] = json.dumps(self._lineage.sources(self._table, window, basis), sort_keys=True)
        return str(self._known[key])

    def _expected(
        self, window: Window, watermark: datetime | None, part: int | None, settles_at: datetime
    ) -> float | None:
        if watermark is None or not self._becomes_final:
            return None
        if is_final(settles_at, watermark, self._lateness):
            return 0.0  # whatever comes now is refused as too late
        key = ("expected", window, watermark, part)
        if key not in self._known:
            before = self._publication.windows_before(window, self._zone)
            spans = ((past.start, self._publication.settles_at(past, self._zone, part)) for past in before)
            past = [*islice((span for span in spans if is_final(span[1], watermark, self._lateness)), PAST_WINDOWS)]
            arrivals = self._arrivals_since(min(start for start, _ in past))
            self._known[key] = share_still_expected(arrivals, past, watermark - settles_at)
        found: float | None = self._known[key]
        return found

    def _arrivals_since(self, start: datetime) -> pl.DataFrame:
        """When the events of hours from an instant on came: ``event_hour``, ``ingestion_hour``, ``events``."""
        if self._arrivals is None or start < self._arrivals[0]:
            self._arrivals = (start, outcomes.arrivals_since(self._platform.lake, start))
        return self._arrivals[1]


def change_logs(platform: Platform) -> dict[str, pl.DataFrame]:
    """What is known of why tables changed, by table: see `lineage.LOG`."""
    lake = platform.lake
    touched = lake.scan(touched_hours.TABLE).select("event_hour", "silver_version", "added", "removed").collect()
    resolved = lake.scan(persons.CHANGES).select("day", "resolution").collect()
    changed = lake.scan(dimension_changes.TABLE).collect()
    entered = lake.scan(order_changes.TABLE).select("change", "entry_hour", "came", "altered").collect()
    facts = fact_events.TABLE.name
    return {
        events.TABLE.name: log_of_events(touched),
        persons.TABLE.name: log_of_persons(resolved, platform.settings.zone),
        orders.TABLE.name: log_of_orders(entered),
        **{join.dimension.table.name: LOG.to_frame() for join in fact_events.JOINS},
        **{str(name): log_of_dimension(rows, facts) for (name,), rows in changed.group_by("dimension")},
    }


def published_from(platform: Platform, start: datetime) -> pl.DataFrame:
    """The numbers that were published of windows from an instant on: ``metric``, ``slice``, ``window_end``, sorted."""
    began = platform.lake.scan(TABLE).filter(
        pl.col("window_date") == start.astimezone(UTC).date(), pl.col("window_start") == start
    )
    return began.select("metric", "slice", "window_end").unique().sort("metric", "slice", "window_end").collect()


def history(platform: Platform, metric: str, window: Window, slice: str = "") -> pl.DataFrame:  # noqa: A002
    """All that was ever said of a number, in order.

    Args:
        platform: The platform.
        metric: Its name: `active_users.dau`.
        window: The window.
        slice: `platform=ios`; empty for the total.

    Returns:
        Rows of the table, by ``revision``; none where it was never published.
    """
    is_asked = (
        pl.col("window_date") == window.first_date,
        pl.col("window_start") == window.start,
        pl.col("window_end") == window.end,
    )
    rows = platform.lake.scan(TABLE).filter(*is_asked, metric=metric, slice=slice)
    return rows.sort("revision").collect()


def as_known_at(
    platform: Platform,
    metric: str,
    window: Window,
    instant: datetime,
    slice: str = "",  # noqa: A002
) -> dict[str, Any] | None:
    """What a number was as known at an instant: the row published last by then, None where nothing was yet.

    Raises:
        ValueError: The instant has no timezone.
    """
    return explained(platform, metric, window, slice).known_at(instant)


@dataclass(frozen=True)
class Explanation:
    """What was said of a number, and why it is different now.

    Attributes:
        metric: Its name.
        slice: Its slice.
        window: Its window.
        zone: The reporting timezone.
        entries: All that was said, by ``revision``: rows of the table.
        known_by: The instant after which nothing was read; None where that is now.
    """

    metric: str
    slice: str
    window: Window
    zone: ZoneInfo
    entries: pl.DataFrame
    known_by: datetime | None = None

    @cached_property
    def steps(self) -> pl.DataFrame:
        """First the first value, then each change; those in a row that had the same causes are one.

        Returns:
            ``causes``, ``change`` (the sum; null at first, or where a value was not known), ``value``,
            ``published_at``, ``publications`` and the other columns of the table: of the last of each.
        """
        run = pl.col("causes").list.join(", ").rle_id()
        is_unknown = pl.col("change").null_count() > 0
        total = pl.when(~is_unknown).then(pl.col("change").sum()).cast(VALUE)
        others = pl.exclude("causes", "change").last()
        folded = self.entries.group_by(run.alias("run"), maintain_order=True).agg(
            pl.col("causes").first(), total.alias("change"), others, publications=pl.len()
        )
        return folded.drop("run")

    def known_at(self, instant: datetime) -> dict[str, Any] | None:
        """What it was as known at an instant; see `as_known_at`."""
        if instant.tzinfo is None:
            msg = f"instant {instant.isoformat()!r} has no timezone; write it with one: {instant.isoformat()}+00:00"
            raise ValueError(msg)
        said = self.entries.filter(pl.col("published_at") <= instant)
        return None if said.is_empty() else said.row(-1, named=True)

    @property
    def sentence(self) -> str:
        """The answer, for people."""
        name = _name(self.metric, self.window, self.slice, self.zone)
        if self.entries.is_empty():
            return f"{name} was never published."
        first, last = self.entries.row(0, named=True), self.entries.row(-1, named=True)
        told = f"{name} was first published as {shown(first['value'])} ({_at(first['published_at'])})"
        moved = [row for row in self.steps.slice(1).iter_rows(named=True) if row["causes"] != ["finality"]]
        if not moved:
            since = "since" if self.known_by is None else f"until {_at(self.known_by)}"
            return f"{told}, and has not changed {since}. {_finality(last)}"
        then = "now" if self.known_by is None else f"as known at {_at(self.known_by)}"
        steps = "; ".join(f"{_difference(row['change'])} for {_why(row)} ({_at(row['published_at'])})" for row in moved)
        return f"{told}, then {steps}: {shown(last['value'])} {then}. {_finality(last)}"


def explained(platform: Platform, metric: str, window: Window, slice: str = "") -> Explanation:  # noqa: A002
    """What was said of a number, and why it is different now; see `history` for the arguments."""
    return Explanation(metric, slice, window, platform.settings.zone, history(platform, metric, window, slice))


def shown(value: Decimal | None) -> str:
    """A published value for people: no zeros behind the point, a sign between thousands."""
    if value is None:
        return "not known"
    return f"{value.normalize():,f}"


def signed(change: Decimal) -> str:
    """How much a published value moved, for people; with its sign."""
    return f"{'+' if change > 0 else ''}{shown(change)}"


def in_words(row: Mapping[str, Any], zone: ZoneInfo) -> str:
    """A row of the table in words: which number changed, by how much, and why; days are the zone's."""
    name = _name(row["metric"], Window(row["window_start"], row["window_end"]), row["slice"], zone)
    return f"{name}: {_difference(row['change'])} to {shown(row['value'])} for {_why(row)} ({_at(row['published_at'])})"


def finality(row: Mapping[str, Any]) -> str:
    """How final a row of the table is: ``open``, ``closed``, ``final`` or ``person-final``."""
    if row["is_person_final"]:
        return "person-final"
    if row["is_final"]:
        return "final"
    return "closed" if row["is_closed"] else "open"


def _why(row: Mapping[str, Any]) -> str:
    return " and ".join(row["causes"])


def _difference(change: Decimal | None) -> str:
    if change is None:
        return "came or went"
    return "no difference" if change == 0 else signed(change)


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _name(metric: str, window: Window, slice_text: str, zone: ZoneInfo) -> str:
    sliced = f" ({slice_words(slice_text)})" if slice_text else ""
    days = window.days(zone)
    if Window.of_days(days[0], days[-1], zone) != window:
        return f"{metric} of {_at(window.start)} to {_at(window.end)}{sliced}"
    return f"{metric} of {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}{sliced}"


def _finality(row: Mapping[str, Any]) -> str:
    """How far a number can be relied on."""
    if row["is_person_final"]:
        return "It is final: neither events nor logins can change it."
    if row["is_final"]:
        return "No event can change it any more; a login still can, until 30 days after its end."
    state = "Its window is closed" if row["is_closed"] else "Its window is open"
    if orders.TABLE.name in json.loads(row["source_versions"]):
        return f"{state}; the database may change it at any time."
    expected = row["expected_late_share"]
    if expected is None:
        return f"{state}; how many of its events are still to come cannot be told yet."
    return f"{state}; {expected:.1%} of its events are still expected."
