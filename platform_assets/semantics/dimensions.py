"""Dimensions out of change events: every version (SCD2), or the latest (SCD1), and facts joined as of their time.

A change event says what a row of a source table was after it (semantics 3): created (`c`), updated (`u`), read by a
snapshot (`r`), deleted (`d`), or the whole table truncated (`t`). Changes are applied in the order of their source, by
``lsn`` and ``sequence``, whatever order they arrive in; the same change twice is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import polars as pl

END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
"""`valid_to` of the version that is valid now."""

BEGINNING_OF_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Before all events."""

_INSTANT = pl.Datetime("us", "UTC")
ORDER = ["lsn", "sequence"]
"""The order of the source's log, in which changes are applied."""


def versions(changes: pl.LazyFrame, key: Sequence[str], tracked: Sequence[str]) -> pl.LazyFrame:
    """Every version of each row: SCD2.

    A version begins when a change of a tracked column was committed, and ends, exclusively, when the next one begins or
    the row was deleted. While a row exists there are neither gaps nor overlaps; an update of other columns makes no
    version; a row that comes again after its deletion opens a new one. Of several changes of one row at one instant the
    last counts. A commit time that lies before an earlier change's (a source whose clock was set back) is taken as that
    one's.

    Args:
        changes: ``lsn``, ``sequence``, ``op``, ``changed_at`` (commit time, UTC), the key and the tracked columns: of a
            deleted row the key as it was, of a truncation null.
        key: The columns that identify a row.
        tracked: The columns whose changes make versions.

    Returns:
        Key, tracked columns, ``valid_from``, ``valid_to`` (half-open; `END_OF_TIME` where open), ``is_current``; by key
        and ``valid_from``.
    """
    names = [*key, *tracked]
    state = ["exists", *tracked]
    ordered = (
        applied(changes, key, tracked)
        .sort(*key, *ORDER)
        .with_columns(exists=pl.col("op") != "d", valid_from=pl.col("changed_at").cum_max().over(key))
        .with_columns(pl.when("exists").then(pl.col(name)).alias(name) for name in tracked)
        # The state that an instant leaves behind: of its changes, the last.
        .unique([*key, "valid_from"], keep="last", maintain_order=True)
    )
    is_news = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift().over(key)) for name in state)
    began = ordered.filter(is_news | (pl.int_range(pl.len()).over(key) == 0))
    end = pl.col("valid_from").shift(-1).over(key).fill_null(pl.lit(END_OF_TIME, _INSTANT))
    return (
        began.with_columns(valid_to=end)
        .filter("exists")
        .with_columns(is_current=pl.col("valid_to") == pl.lit(END_OF_TIME, _INSTANT))
        .select(*names, "valid_from", "valid_to", "is_current")
    )


def latest(changes: pl.LazyFrame, key: Sequence[str], columns: Sequence[str]) -> pl.LazyFrame:
    """The latest values of each row: SCD1.

    Args:
        changes: As for `versions`, with ``columns``.
        key: The columns that identify a row.
        columns: The columns wanted.

    Returns:
        Key, ``columns`` (of a deleted row as they last were), ``first_seen_at``, ``last_seen_at`` (the earliest and
        the latest commit time of a change of the row), ``is_deleted``; by key.
    """
    last = [pl.col(name).filter(pl.col("op") != "d").last() for name in columns]
    return (
        applied(changes, key, columns)
        .sort(*key, *ORDER)
        .group_by(key)
        .agg(
            *last,
            first_seen_at=pl.col("changed_at").min(),
            last_seen_at=pl.col("changed_at").max(),
            is_deleted=pl.col("op").last() == "d",
        )
        .sort(key)
    )


def as_of(
    facts: pl.LazyFrame,
    dimension: pl.LazyFrame,
    key: Sequence[str],
    attributes: Sequence[str],
    at: str = "occurred_at",
    prefix: str = "",
) -> pl.LazyFrame:
    """Facts with a dimension's attributes as of their time, and as they are now: `as_it_was` and `as_it_is`."""
    return as_it_is(as_it_was(facts, dimension, key, attributes, at, prefix), dimension, key, attributes, prefix)


def as_it_was(
    facts: pl.LazyFrame,
    dimension: pl.LazyFrame,
    key: Sequence[str],
    attributes: Sequence[str],
    at: str = "occurred_at",
    prefix: str = "",
) -> pl.LazyFrame:
    """Facts with a dimension's attributes as of their time.

    Args:
        facts: The key and an instant.
        dimension: `versions`.
        key: The columns that identify a row of the dimension; the facts have them by the same names.
        attributes: The columns wanted.
        at: The column of the instant, not null.
        prefix: Goes before the attributes' names.

    Returns:
        The facts, sorted by ``at``, with ``<prefix><attribute>``, null where no version was valid then.

    Raises:
        ValueError: The facts have a column of such a name.
    """
    named = {attribute: f"{prefix}{attribute}" for attribute in attributes}
    _refuse_taken(facts, named.values())
    found = facts.sort(at).join_asof(
        dimension.sort("valid_from").rename(named).select(*key, *named.values(), "valid_from", "valid_to"),
        left_on=at,
        right_on="valid_from",
        by=list(key),
        strategy="backward",
        check_sortedness=False,  # sorted just now; with `by`, Polars could not check it
    )
    was_valid = pl.col(at) < pl.col("valid_to")
    return found.with_columns(pl.when(was_valid).then(pl.col(name)).alias(name) for name in named.values()).drop(
        "valid_from", "valid_to", strict=False
    )


def held_before(dimension: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
    """Versions of which the first one of each row holds for all time before it, too.

    Of a row that was there before the source told of it, as in a first snapshot, nothing better is known.

    Args:
        dimension: `versions`.
        key: The columns that identify a row of the dimension.
    """
    is_first = pl.col("valid_from") == pl.col("valid_from").min().over(key)
    return dimension.with_columns(
        valid_from=pl.when(is_first).then(pl.lit(BEGINNING_OF_TIME, _INSTANT)).otherwise("valid_from")
    )


def as_it_is(
    facts: pl.LazyFrame, dimension: pl.LazyFrame, key: Sequence[str], attributes: Sequence[str], prefix: str = ""
) -> pl.LazyFrame:
    """Facts with a dimension's attributes as they are now.

    Args:
        facts: The key.
        dimension: `versions`.
        key: As for `as_it_was`.
        attributes: The columns wanted.
        prefix: Goes before the attributes' names.

    Returns:
        The facts with ``current_<prefix><attribute>``, null where the row does not exist now.

    Raises:
        ValueError: The facts have a column of such a name.
    """
    named = {attribute: f"current_{prefix}{attribute}" for attribute in attributes}
    _refuse_taken(facts, named.values())
    now = dimension.filter("is_current").select(*key, *(pl.col(name).alias(new) for name, new in named.items()))
    return facts.join(now, on=list(key), how="left")


def changed_spans(
    before: pl.LazyFrame, after: pl.LazyFrame, key: Sequence[str], attributes: Sequence[str]
) -> pl.LazyFrame:
    """When the attributes as of then are others than before: what a change of a dimension means to facts.

    Only when they differ counts, not how the versions are cut: to close an open version touches the time from its end
    on; and no version says the same as one whose attributes are all null.

    Args:
        before: `versions` of some rows.
        after: `versions` of the same rows, later.
        key: The columns that identify a row.
        attributes: The columns compared.

    Returns:
        The key, ``since``, ``until``: half-open and without overlaps; neighbours may touch.
    """
    edges = [rows.select(*key, since=name) for rows in (before, after) for name in ("valid_from", "valid_to")]
    spans = (
        pl.concat(edges)
        .unique()
        .sort(*key, "since")
        .with_columns(until=pl.col("since").shift(-1).over(key))
        .filter(pl.col("until").is_not_null())
    )
    for rows, prefix in ((before, "before_"), (after, "after_")):
        spans = as_it_was(spans, rows, key, attributes, at="since", prefix=prefix)
    differs = [pl.col(f"before_{name}").ne_missing(pl.col(f"after_{name}")) for name in attributes]
    return spans.filter(pl.any_horizontal(differs)).select(*key, "since", "until").sort(*key, "since")


def applied(changes: pl.LazyFrame, key: Sequence[str], columns: Sequence[str]) -> pl.LazyFrame:
    """Each change once; a truncation as the deletion of every row that there ever was before it.

    Args:
        changes: As for `versions`, with ``columns``.
        key: The columns that identify a row.
        columns: The columns wanted.

    Returns:
        ``lsn``, ``sequence``, ``op`` (never `t`), ``changed_at``, the key, ``columns``; in no order.
    """
    # One position of the source's log may hold several rows: a snapshot's, or the two of a changed key.
    once = changes.select(*ORDER, "op", "changed_at", *key, *columns).unique([*ORDER, "op", *key], keep="any")
    of_rows = once.filter(pl.col("op") != "t")
    truncations = once.filter(pl.col("op") == "t").select(*ORDER, "changed_at")
    born = of_rows.sort(ORDER).group_by(key).agg(born=pl.col("lsn").first(), as_number=pl.col("sequence").first())
    is_after = (pl.col("lsn") > pl.col("born")) | (
        (pl.col("lsn") == pl.col("born")) & (pl.col("sequence") > pl.col("as_number"))
    )
    wiped = truncations.join(born, how="cross").filter(is_after).select(*ORDER, "changed_at", *key, op=pl.lit("d"))
    return pl.concat([of_rows, wiped], how="diagonal")


def _refuse_taken(facts: pl.LazyFrame, names: Iterable[str]) -> None:
    taken = set(names) & set(facts.collect_schema())
    if taken:
        msg = f"the facts have the columns {', '.join(sorted(taken))} already: give the dimension's a prefix"
        raise ValueError(msg)
