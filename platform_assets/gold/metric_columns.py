"""What metrics may ask of facts and of hours of activity; what is not there is an error that names the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import narwhals as nw

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
