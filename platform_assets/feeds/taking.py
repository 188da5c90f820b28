"""Taking in what landed: folder → bronze → quarantine and the feeds' silver tables, file by file.

The order of the commits makes every crash harmless. A file's rows go to bronze and to quarantine first, in the place
of whatever an earlier attempt left of the same content; only then is its delivery recorded, with the number that is
the progress. Each feed's table records up to which delivery it has taken files in, in the commit of its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from platform_assets.bronze import landed_files, partner_files
from platform_assets.bronze.landed_files import LANDINGS
from platform_assets.feeds.feed import Feed, parse, why_useless
from platform_assets.feeds.formats import BadFile, read
from platform_assets.feeds.rebuilding import rows_of_days
from platform_assets.silver import quarantined_rows
from platform_assets.table import Table
from resources.lake import Lake, Writer, retrying
from resources.landing import LandedFile, Landing

_REPORTED = 10
"""Bad rows that a delivery's report tells; all of them are in quarantine."""

Span = tuple[date, date]
"""First and last day, both included."""


class Deliveries:
    """The writer of what third parties deliver.

    Args:
        lake: The lake; the tables must exist.
        landing: The landing folder.
        feeds: The feeds; a file of any other is set aside.
        clock: What time it is.

    Raises:
        Fenced: From any method that writes: another writer took over; stop.
    """

    def __init__(self, lake: Lake, landing: Landing, feeds: Sequence[Feed], clock: Callable[[], datetime]) -> None:
        self._lake = lake
        self._landing = landing
        self._feeds = {feed.name: feed for feed in feeds}
        self._clock = clock
        self._landed = Writer(lake, landed_files.TABLE)
        self._tables = {feed.name: Writer(lake, feed.table) for feed in feeds}

    def take(self, file: LandedFile) -> pl.DataFrame:
        """Take a file in, or set it aside. Returns its delivery, a row of `bronze/landed_files`.

        Raises:
            FileChanged: It is being written; nothing was taken.
        """
        data = self._landing.read(file)
        file_id, now = hashlib.sha256(data).hexdigest(), self._clock()
        number = (self._landed.progress(LANDINGS) or 0) + 1
        delivery = {
            "landing": number,
            "feed": file.feed,
            "name": file.name,
            "file_id": file_id,
            "size_bytes": file.size_bytes,
            "modified_at": file.modified_at,
            "landed_at": now,
            "landing_date": now.date(),
            **self._taken(file, file_id, data, now),
        }
        row = pl.DataFrame([delivery], schema=landed_files.TABLE.schema)
        self._landed.append(row, {LANDINGS: number})
        return row

    def catch_up(self) -> Iterator[tuple[Feed, list[Span]]]:
        """Bring each feed's table to the newest delivery. Yields the feeds that changed, and which days."""
        for feed in self._feeds.values():
            spans = self._catch_up(feed)
            if spans:
                yield feed, spans

    def _taken(self, file: LandedFile, file_id: str, data: bytes, now: datetime) -> dict[str, object]:
        """What becomes of a file's content, its rows being in bronze and in quarantine afterwards."""
        if file.feed not in self._feeds:
            known = ", ".join(sorted(self._feeds))
            where = f"{file.feed!r} is no feed" if file.feed else "the file lies in no feed's folder"
            return _set_aside(f"{where}; known are {known}")
        before = deliveries(self._lake).filter(feed=file.feed, file_id=file_id, outcome="taken")
        if not before.is_empty():
            same = before.select("outcome", "rows", "bad_rows", "first_day", "last_day", "report")
            return same.row(0, named=True)
        try:
            rows = read(file.name, data)
        except BadFile as error:
            return _set_aside(str(error))
        feed = self._feeds[file.feed]
        parsed = parse(feed, rows, now.date())
        if parsed.valid.is_empty():
            return _set_aside(why_useless(feed, parsed.bad))
        arrived = {"feed": file.feed, "file_id": file_id, "landed_at": now, "landing_date": now.date()}
        self._put(partner_files.TABLE, rows, arrived)
        self._put(quarantined_rows.TABLE, parsed.bad, {**arrived, "name": file.name})
        told = [
            f"line {line}: {', '.join(why)}"
            for line, why in parsed.bad.head(_REPORTED).select("line", "reasons").rows()
        ]
        more = parsed.bad.height - len(told)
        return {
            "outcome": "taken",
            "rows": rows.height,
            "bad_rows": parsed.bad.height,
            "first_day": parsed.valid["day"].min(),
            "last_day": parsed.valid["day"].max(),
            "report": "; ".join(told) + (f"; and {more} more" if more else "") or None,
        }

    def _put(self, table: Table, rows: pl.DataFrame, arrived: dict[str, object]) -> None:
        """Make a content's rows in a table these ones."""
        whole = rows.with_columns(
            pl.lit(value, table.schema[name]).alias(name) for name, value in arrived.items()
        ).select(table.schema.names())

        def attempt() -> int:
            wanted = f"file_id = '{arrived['file_id']}' AND feed = '{arrived['feed']}'"
            return self._lake.write(table, self._lake.open(table), whole, wanted, {}, None)

        retrying(f"rows of a file to {table.name}", attempt)

    def _catch_up(self, feed: Feed) -> list[Span]:
        writer = self._tables[feed.name]
        goal, since = self._landed.progress(LANDINGS) or 0, writer.progress(LANDINGS) or 0
        if goal == since:
            return []

        def attempt() -> list[Span]:
            writer.refresh()
            landings = deliveries(self._lake).filter(pl.col("landing") <= goal, feed=feed.name)
            spans = touched(landings, since)
            if not spans:
                writer.commit(feed.table.empty(), {LANDINGS: goal})
                return []
            rows = rows_of_days(self._lake, feed, landings, spans)
            wanted = " OR ".join(f"(day >= '{first}' AND day <= '{last}')" for first, last in spans)
            writer.commit(rows, {LANDINGS: goal}, predicate=wanted)
            return spans

        return retrying(f"deliveries to {feed.table.name}", attempt)


def deliveries(lake: Lake) -> pl.DataFrame:
    """All deliveries so far, in order."""
    return lake.scan(landed_files.TABLE).sort("landing").collect()


def undelivered(lake: Lake, files: Sequence[LandedFile]) -> list[LandedFile]:
    """Of the files in the folder, those that are new, or were written again since they were last looked at."""
    last = deliveries(lake).unique(["feed", "name"], keep="last", maintain_order=True)
    known = {LandedFile(*row) for row in last.select("feed", "name", "size_bytes", "modified_at").iter_rows()}
    return [file for file in files if file not in known]


def untaken(lake: Lake, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds whose tables have not taken in the newest delivery: a run ended in between."""
    newest = lake.open(landed_files.TABLE).transaction_version(LANDINGS) or 0
    return [feed for feed in feeds if (lake.open(feed.table).transaction_version(LANDINGS) or 0) < newest]


def touched(landings: pl.DataFrame, since: int) -> list[Span]:
    """The days that the deliveries after number ``since`` change: their own, and those of what they replace.

    Args:
        landings: All deliveries of one feed.
        since: The last delivery that is taken in already.

    Returns:
        Spans of days, in order, that do not meet.
    """
    new = landings.filter(pl.col("landing") > since, outcome="taken")
    reached = landings.filter(pl.col("name").is_in(new["name"].implode()), outcome="taken")
    spans: list[Span] = []
    for first, last in reached.select("first_day", "last_day").sort("first_day").iter_rows():
        if spans and first <= spans[-1][1] + timedelta(days=1):
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return spans


def _set_aside(why: str) -> dict[str, object]:
    nothing: dict[str, object] = dict.fromkeys(("first_day", "last_day"))
    return {"outcome": "set_aside", "rows": 0, "bad_rows": 0, "report": why, **nothing}
