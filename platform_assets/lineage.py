"""Why a number changed: what the ledgers say came between two computations of it.

`ops/computations` says which version of what each window was computed from; the *change logs* say which version of
silver touched an hour, which resolution of persons a day, which version of a dimension an hour. A change whose version
lies between the one that the former computation read and the one that the new computation read, and that is within
reach, is a cause. All here is pure; nothing is read from a table's own history, which a vacuum ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import polars as pl

from partitions import Window
from platform_assets.publication import Reach
from platform_assets.table import TIMESTAMP

Cause = Literal[
    "first publication",
    "new events",
    "late events",
    "identity merge",
    "dimension change",
    "definition change",
    "backfill",
    "finality",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
"""In the order in which they are told.

Those of semantics 11, and three for what it does not call a change of what was said: the first publication, *new
events* (they came into an hour that the watermark had not passed when the number was told: an open window grows), and
*finality* (the number stayed, and became closed or final). *Backfill* is what is told where a number changed and no log
names anything else: somebody computed it again, by other settings or from rows that were taken out.

Of revenue, a sale or a refund that comes is an event, at its time; and a *dimension change* is a row of the database
that was there and is another now: its amount, its time, its buyer, or that it is gone.
"""

LOG = pl.Schema(
    {
        "since": TIMESTAMP,
        "until": TIMESTAMP,
        "version": pl.Int64(),
        "cause": pl.String(),
        "looked": pl.Int64(),
        "looked_in": pl.String(),
    }
)
"""A change log: between which instants of event time (half-open) a version of a table brought a change, and which.

``cause`` is one of `CAUSES`, or null for events, whose hour tells whether they were late. ``looked`` is the version of
the table ``looked_in`` that the change looked into to name its hours; of that table the change counts, where it is set,
only for what was written after it.
"""


_NOT_LOOKED = {"looked": pl.lit(None, pl.Int64), "looked_in": pl.lit(None, pl.String)}


@dataclass(frozen=True)
class Basis:
    """What a number was computed from.

    Attributes:
        version: The Delta version of its table, up to which `ops/computations` is believed.
        told: Versions of tables above it that the row itself told.
    """

    version: int
    told: Mapping[str, int] = field(default_factory=dict)


class Lineage:
    """What is known of how some numbers came about.

    Args:
        computations: `ops/computations`.
        logs: Change logs (`LOG`) by the name of the table whose versions they tell of; with an empty log a table is
            one whose changes are known, too.
        reach: Per table, how far around a window of it what it reads lies.
        zone: The reporting timezone.
    """

    def __init__(
        self,
        computations: pl.DataFrame,
        logs: Mapping[str, pl.DataFrame],
        reach: Mapping[str, Reach],
        zone: ZoneInfo,
    ) -> None:
        self._logs, self._reach, self._zone = logs, reach, zone
        self._edges: dict[str, dict[str, pl.DataFrame]] = {}
        for (table, upstream), rows in computations.group_by("table", "upstream"):
            if table != upstream:  # a clustering is recorded so
                self._edges.setdefault(str(table), {})[str(upstream)] = rows

    def basis(self, table: str, window: Window, version: int) -> dict[str, int]:
        """The versions of the tables right above that the newest computation of a window had read.

        Args:
            table: Name of the table.
            window: The window.
            version: Delta version of the table; what was computed after it is not looked at.
        """
        found = {}
        for upstream, edge in self._edges.get(table, {}).items():
            read = _over(edge, window).filter(pl.col("table_version") <= version)["upstream_version"].max()
            if isinstance(read, int):
                found[upstream] = read
        return found

    def sources(self, table: str, window: Window, basis: Basis) -> dict[str, int]:
        """The versions of all tables on the way, this one first: of each the newest that was read.

        Args:
            table: Name of the table.
            window: The window of the number.
            basis: What it was computed from.
        """
        found = {table: basis.version}
        direct = {**self.basis(table, window, basis.version), **basis.told}
        for upstream, version in sorted(direct.items()):
            below = {upstream: version}
            if upstream not in self._logs and upstream in self._edges:
                below = self.sources(upstream, self._around(table, window), Basis(version))
            for name, read in below.items():
                found[name] = max(read, found.get(name, read))
        return found

    def watermark(self, table: str, window: Window, version: int) -> datetime | None:
        """The watermark at the newest computation of a window, None where none is recorded or there was none."""
        rows = self._computed(table, window).filter(pl.col("table_version") <= version)
        known = rows.sort("table_version", "computed_at")["watermark"]
        return known[-1] if len(known) else None

    def definition(self, table: str, window: Window, version: int) -> int | None:
        """The version of the definition by which a window was last computed, None where it is not recorded."""
        rows = self._computed(table, window).filter(pl.col("table_version") <= version)
        known = rows.sort("table_version", "computed_at")["definition_version"]
        return known[-1] if len(known) else None

    def causes(
        self,
        table: str,
        window: Window,
        before: Basis,
        after: Basis,
        told_at: datetime | None,
        within: Window | None,
        apart_from: Collection[str] = (),
    ) -> tuple[Cause, ...]:
        """What the logs name as having come between two computations of a number, in the order of `CAUSES`.

        Where nothing lies between what is on record, what came since counts, too: a process that died between its
        commit and its record had read it.

        Args:
            table: Name of the number's table.
            window: The number's window.
            before: What its former value was computed from.
            after: What its new value was computed from.
            told_at: The watermark that the former value was told at.
            within: What alone can move it; None for all that is read.
            apart_from: Tables right above that were read and cannot move it.
        """
        for open_ended in (False, True):
            changes = self._between(table, window, before, after, open_ended=open_ended, apart_from=apart_from)
            if within is not None:
                changes = changes.filter(pl.col("since") < within.end, pl.col("until") > within.start)
            was_passed = pl.lit(value=False) if told_at is None else pl.col("until") <= told_at
            events = pl.when(was_passed).then(pl.lit("late events")).otherwise(pl.lit("new events"))
            named = set(changes.select(pl.col("cause").fill_null(events))["cause"])
            if named:
                return tuple(cause for cause in CAUSES if cause in named)
        return ()

    def _between(
        self,
        table: str,
        window: Window,
        before: Basis,
        after: Basis,
        *,
        open_ended: bool,
        apart_from: Collection[str] = (),
    ) -> pl.DataFrame:
        """The rows of change logs, and changes of definitions, between two computations of a window: `LOG`."""
        found = [LOG.to_frame()]
        for upstream, edge in self._edges.get(table, {}).items():
            if upstream in apart_from:
                continue
            computed = _over(edge, window)
            is_known = pl.col("table_version") <= before.version
            is_new = ~is_known if open_ended else ~is_known & (pl.col("table_version") <= after.version)
            old, new = computed.filter(is_known), computed.filter(is_new)
            found.append(_redefined(old, new))
            if upstream in self._logs:
                known = self._spans(table, old, window, before.told.get(upstream))
                if open_ended:
                    read = self._spans(table, computed, window, after.told.get(upstream))
                    read = read.with_columns(upstream_version=pl.lit(None, pl.Int64))
                else:
                    read = self._spans(table, new, window, after.told.get(upstream))
                found.append(_unseen(self._logs[upstream], table, known, read))
            elif upstream in self._edges:
                for span, former, newest in _pairs(
                    old, computed if open_ended else new, window, before, after, upstream
                ):
                    around = self._around(table, span)
                    found.append(self._between(upstream, around, Basis(former), Basis(newest), open_ended=open_ended))
        return pl.concat(found)

    def _spans(self, table: str, computed: pl.DataFrame, window: Window, told: int | None) -> pl.DataFrame:
        """What computations had read: ``from``, ``to``, ``upstream_version``, ``table_version``."""
        rows = computed.select("window_start", "window_end", "upstream_version", "table_version").rows()
        if told is not None:
            rows.append((window.start, window.end, told, None))
        spans = [(self._around(table, Window(start, end)), *versions) for start, end, *versions in rows]
        return pl.DataFrame(
            [(span.start, span.end, *versions) for span, *versions in spans], schema=_SPANS, orient="row"
        )

    def _around(self, table: str, window: Window) -> Window:
        return self._reach.get(table, Reach()).around(window, self._zone)

    def _computed(self, table: str, window: Window) -> pl.DataFrame:
        edges = list(self._edges.get(table, {}).values())
        return pl.concat([_over(edge, window) for edge in edges]) if edges else _NO_COMPUTATION


_SPANS = pl.Schema({"from": TIMESTAMP, "to": TIMESTAMP, "upstream_version": pl.Int64(), "table_version": pl.Int64()})
_NO_COMPUTATION = pl.DataFrame(
    schema={
        "table_version": pl.Int64(),
        "computed_at": TIMESTAMP,
        "watermark": TIMESTAMP,
        "definition_version": pl.Int64(),
    }
)


def _over(edge: pl.DataFrame, window: Window) -> pl.DataFrame:
    return edge.filter(pl.col("window_start") < window.end, pl.col("window_end") > window.start)


def _pairs(
    old: pl.DataFrame, new: pl.DataFrame, window: Window, before: Basis, after: Basis, upstream: str
) -> list[tuple[Window, int, int]]:
    """Windows computed anew, each with the version that its former computation had read and the new one did."""
    if upstream in after.told:
        former = max(before.told.get(upstream, -1), _newest(old))
        return [(window, former, after.told[upstream])]
    found = []
    for start, end in new.select("window_start", "window_end").unique().sort("window_start", "window_end").rows():
        part = Window(start, end)
        found.append((part, _newest(_over(old, part)), _newest(_over(new, part))))
    return found


def _newest(computed: pl.DataFrame) -> int:
    newest = computed["upstream_version"].max()
    return newest if isinstance(newest, int) else -1


def _redefined(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Windows computed by another definition than before, as rows of a log."""
    names = ("window_start", "window_end", "definition_version", "table_version")
    last = new.sort("table_version").group_by("window_start", "window_end").last().select(names)
    found = []
    for start, end, definition, version in last.rows():
        former = _over(old, Window(start, end)).sort("table_version")["definition_version"]
        if len(former) and former[-1] != definition:
            found.append((start, end, version, "definition change", None, None))
    return pl.DataFrame(found, schema=LOG, orient="row")


def _unseen(log: pl.DataFrame, reader: str, known: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
    """The changes of a log that were read, and had not been known before.

    Args:
        log: `LOG`.
        reader: The table that was computed.
        known: What former computations had read, by span.
        read: What the new ones did; a version that is null is any.
    """
    if read.is_empty():
        return log.clear()
    near = log.filter(pl.col("until") > read["from"].min(), pl.col("since") < read["to"].max()).with_row_index("row")
    touches = (pl.col("since") < pl.col("to"), pl.col("until") > pl.col("from"))
    has_read = pl.col("upstream_version").is_null() | (pl.col("version") <= pl.col("upstream_version"))
    within = near.join_where(read, *touches).filter(has_read).select("row").unique()
    had = (
        near.join_where(known, *touches)
        .group_by("row")
        .agg(seen=pl.col("upstream_version").max(), made=pl.col("table_version").max())
    )
    is_unseen = pl.col("version") > pl.col("seen").fill_null(-1)
    applies = pl.col("looked_in").ne_missing(pl.lit(reader)) | (pl.col("looked") < pl.col("made"))
    unseen = near.join(within, on="row").join(had, on="row", how="left").filter(is_unseen, applies)
    return unseen.select(LOG.names())


def log_of_events(touched: pl.DataFrame) -> pl.DataFrame:
    """`silver/touched_hours` as a change log.

    An hour that gained rows got events. One that lost more than it gained was computed again by other rules, which is
    a backfill. One whose rows were only written again, as in a rebuild, changed nothing.

    Args:
        touched: ``event_hour``, ``silver_version``, ``added``, ``removed``.
    """
    net = pl.col("added") - pl.col("removed")
    return touched.filter(net != 0).select(
        since="event_hour",
        until=pl.col("event_hour").dt.offset_by("1h"),
        version="silver_version",
        cause=pl.when(net < 0).then(pl.lit("backfill")),
        **_NOT_LOOKED,
    )


def log_of_persons(changes: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """`silver/person_changes` as a change log; its versions are resolutions.

    Args:
        changes: ``day``, ``resolution``.
        zone: The reporting timezone.
    """
    days = changes["day"].unique()
    windows = [Window.of_days(day, day, zone) for day in days]
    spans = pl.DataFrame(
        {
            "day": days,
            "since": pl.Series([window.start for window in windows], dtype=TIMESTAMP),
            "until": pl.Series([window.end for window in windows], dtype=TIMESTAMP),
        }
    )
    return changes.join(spans, on="day").select(
        "since",
        "until",
        version="resolution",
        cause=pl.lit("identity merge"),
        **_NOT_LOOKED,
    )


def log_of_dimension(changes: pl.DataFrame, facts: str) -> pl.DataFrame:
    """`silver/dimension_changes` of one dimension as a change log: the hours it named, and its span for those after.

    Args:
        changes: ``change``, ``since``, ``until``, ``event_hours``, ``facts_version``.
        facts: Name of the table whose version that is; for other readers the span counts.
    """
    cause = pl.lit("dimension change")
    hours = changes.select(pl.col("event_hours").alias("since"), version="change").explode("since").drop_nulls("since")
    named = hours.select(
        "since", until=pl.col("since").dt.offset_by("1h"), version="version", cause=cause, **_NOT_LOOKED
    )
    spans = changes.select(
        "since", "until", version="change", cause=cause, looked="facts_version", looked_in=pl.lit(facts)
    )
    return pl.concat([named, spans])


def log_of_orders(changes: pl.DataFrame) -> pl.DataFrame:
    """`gold/order_changes` as a change log: an entry that came is an event of its hour, another one a changed row.

    Args:
        changes: ``change``, ``entry_hour``, ``came``, ``altered``.
    """
    causes = {"came": pl.lit(None, pl.String), "altered": pl.lit("dimension change")}
    return pl.concat(
        changes.filter(pl.col(column) > 0).select(
            since="entry_hour",
            until=pl.col("entry_hour").dt.offset_by("1h"),
            version="change",
            cause=cause,
            **_NOT_LOOKED,
        )
        for column, cause in causes.items()
    )
