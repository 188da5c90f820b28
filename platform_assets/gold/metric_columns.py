"""What metrics may ask of facts and of hours of activity; what is not there is an error that names the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import narwhals as nw
import polars as pl

from platform_assets.gold import fact_events
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics.specification import EventPredicate

ACTIVITY_COLUMNS = ("day", "event_name", "platform", "country")
"""The columns of hours of activity that metrics read."""


def fact_columns(metric: Metric, references: Iterable[str]) -> tuple[str, ...]:
    """The columns of facts that some properties are in, and those that every number reads.

    Raises:
        MetricFileError: A property is in none.
    """
    known = fact_events.TABLE.schema
    found = {"occurred_at", "event_name"}
    for reference in references:
        column = reference if reference in known else reference.split(".", 1)[0]
        if column not in known:
            msg = (
                f"{metric.at(says=reference)}: property {reference!r} is none of gold/fact_events; say one of its "
                "columns or properties.<key>"
            )
            raise MetricFileError(msg)
        found.add(column)
    return tuple(sorted(found))


NO_VALUE = "$none"
"""What stands for a value that is missing, among several."""


def told_together(values: Sequence[pl.Expr]) -> pl.Expr:
    """The values of a breakdown as one text, the same for the same values only; null where all are missing.

    One value is itself. Several are joined by ` / `, a missing one as `NO_VALUE`: so ``%`` and ``/`` in them are
    percent-encoded, and a value that reads like a missing one has its first sign so.
    """
    if len(values) == 1:
        return values[0]
    parts = []
    for value in values:
        encoded = value.str.replace_all("%", "%25", literal=True).str.replace_all("/", "%2F", literal=True)
        reads_like_none = encoded == NO_VALUE
        parts.append(pl.when(reads_like_none).then(pl.lit(f"%24{NO_VALUE[1:]}")).otherwise(encoded).fill_null(NO_VALUE))
    is_missing = pl.all_horizontal(value.is_null() for value in values)
    return pl.when(~is_missing).then(pl.concat_str(parts, separator=" / "))


def of_names(predicates: Sequence[EventPredicate]) -> nw.Expr | None:
    """Which events any of some predicates could match, by their names; None where one takes any event."""
    wanted: set[str] = set()
    for predicate in predicates:
        if predicate.events is None:
            return None
        wanted.update(predicate.events)
    return nw.col("event_name").is_in(sorted(wanted))


def check_activity(metric: Metric, *fields: str) -> None:
    """Whether hours of activity can tell what some fields of a metric, each a predicate, ask for.

    Raises:
        MetricFileError: They cannot.
    """
    for name in fields:
        predicate: EventPredicate = getattr(metric.specification, name)
        for reference in predicate.properties:
            if reference not in ACTIVITY_COLUMNS:
                at = metric.at(name, says=reference)
                msg = f"{at}: property {reference!r}: activity is known by {', '.join(ACTIVITY_COLUMNS)} only"
                raise MetricFileError(msg)
        if predicate.first_ever:
            msg = f"{metric.at(name, 'first_ever')}: first_ever: a day does not read all history; leave it out"
            raise MetricFileError(msg)
