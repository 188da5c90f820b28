"""Published numbers to read: which there are, what they are, and what they were as known at an instant.

All of it comes from `gold/published_numbers`, which forgets nothing; so what was answered once can be answered again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from partitions import Window
from platform_assets.gold import published_numbers
from platform_assets.publication import Publication, slice_part
from platform_assets.semantics.calendar import Interval
from platform_assets.serving.catalog import Catalog

COLUMNS = (
    "slice",
    "window_start",
    "window_end",
    "revision",
    "value",
    "change",
    "causes",
    "expected_late_share",
    "is_closed",
    "is_final",
    "is_person_final",
    "watermark",
    "definition_version",
    "published_at",
)
"""What is told of each value: columns of `gold/published_numbers`."""

_LEDGER = "gold.published_numbers"


class UnknownMetric(LookupError):
    """There is no such metric, or no such slice of it; the message names what there is."""


@dataclass(frozen=True)
class Offer:
    """A metric that can be read.

    Attributes:
        name: `active_users.dau`.
        description: Of its column.
        unit: Of its values; None for shares.
        grain: The length of the windows that its values are of.
        slices: The columns that tell its values of a window apart.
        table: The gold table that it is computed in.
    """

    name: str
    description: str
    unit: str | None
    grain: Interval
    slices: tuple[str, ...]
    table: str


def offers(publications: Iterable[Publication]) -> dict[str, Offer]:
    """What can be read, by name: the declared numbers of some publications."""
    found = {}
    for publication in publications:
        columns = {column.name: column for column in publication.table.columns}
        for name, metric in publication.names.items():
            column = columns[metric.column]
            found[name] = Offer(
                name, column.description, column.unit, publication.grain, publication.slices, publication.table.name
            )
    return found


def offered(known: Mapping[str, Offer], name: str) -> Offer:
    """The metric of a name.

    Raises:
        UnknownMetric: There is none.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
        msg = f"metric {name!r} is not published; {hint}"
        raise UnknownMetric(msg)
    return known[name]


def values(
    catalog: Catalog,
    offer: Offer,
    window: Window,
    where: Sequence[tuple[str, str | None]] = (),
    as_known_at: datetime | None = None,
    *,
    limit: int,
    offset: int = 0,
    every_revision: bool = False,
) -> pl.DataFrame:
    """What was published of the windows that begin within a window of instants: `COLUMNS` of `published`.

    Args:
        catalog: The lake.
        offer: The metric.
        window: The instants.
        where: Values that columns of the slices must have; None where the column is null.
        as_known_at: An instant, with a timezone; None for now.
        limit: Most rows.
        offset: Rows to leave out before them.
        every_revision: Every value that was published by then, instead of the last of each window and slice.

    Raises:
        UnknownMetric: The metric is not sliced by a column.
    """
    for column, _ in where:
        if column not in offer.slices:
            sliced = f"sliced by {', '.join(offer.slices)}" if offer.slices else "not sliced"
            msg = f"where: {offer.name} has no slices by {column!r}; it is {sliced}"
            raise UnknownMetric(msg)
    conditions = [f"list_contains(string_split(slice, ','), $part_{number})" for number in range(len(where))]
    parts = {f"part_{number}": slice_part(*pair) for number, pair in enumerate(where)}
    last = "QUALIFY row_number() OVER (PARTITION BY slice, grain, window_start ORDER BY revision DESC) = 1"
    query = _published(COLUMNS, conditions, as_known_at)
    ordered = "ORDER BY window_start, grain, slice, revision LIMIT $limit OFFSET $offset"
    return catalog.sql(
        f"{query} {'' if every_revision else last} {ordered}",
        {**_given(offer.name, window, as_known_at), **parts, "limit": limit, "offset": offset},
    )


def published(
    catalog: Catalog, name: str, slice_text: str, window: Window, as_known_at: datetime | None = None
) -> pl.DataFrame:
    """All that was said, by an instant, of one number's windows that begin within a window of instants.

    Args:
        catalog: The lake.
        name: Of the metric; of one that is published no more, too.
        slice_text: As `publication.slice_text` has it; empty for the total.
        window: The instants.
        as_known_at: An instant, with a timezone; None for now.

    Returns:
        The columns of `gold/published_numbers`; by ``window_start``, ``revision``.
    """
    query = _published(("*",), ["slice = $slice"], as_known_at)
    given = {**_given(name, window, as_known_at), "slice": slice_text}
    return catalog.sql(f"{query} ORDER BY window_start, revision", given)


def _published(columns: Sequence[str], conditions: Sequence[str], as_known_at: datetime | None) -> str:
    """The rows of the ledger that were published of a metric's windows by an instant; parameters of `_given`."""
    asked = [
        "metric = $metric",
        "window_start >= $start AND window_start < $end",
        "window_date BETWEEN $first_date AND $last_date",
        *(["published_at <= $as_known_at"] if as_known_at is not None else []),
        *conditions,
    ]
    return f"SELECT {', '.join(columns)} FROM {_LEDGER} WHERE {' AND '.join(asked)}"


def _given(name: str, window: Window, as_known_at: datetime | None) -> dict[str, Any]:
    dates = {"first_date": window.first_date, "last_date": window.last_date}
    known = {} if as_known_at is None else {"as_known_at": as_known_at}
    return {"metric": name, "start": window.start, "end": window.end, **dates, **known}


def known_until(catalog: Catalog) -> datetime | None:
    """The instant by which the newest answers are known, UTC: what was said by it stays; None where nothing was.

    To be asked before the values that are given as known at it.
    """
    return published_numbers.known_until(catalog.handle(_LEDGER))
