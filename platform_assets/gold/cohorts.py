"""`gold/cohorts/…`: a saved set of persons of `gold/metrics`, as it stands at the end of each day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets.gold import fact_events
from platform_assets.gold.daily_numbers import DailyNumber, Reading, daily_table
from platform_assets.gold.metric_columns import fact_columns, of_names
from platform_assets.gold.metric_files import Metric, MetricFileError
from platform_assets.semantics.cohorts import Cohort, Did, DidInSequence, FirstDid, leaves, members, told_by_firsts
from platform_assets.semantics.engines import collected
from platform_assets.semantics.specification import EventPredicate, Filter
from platform_assets.table import Column, Table

KNOWN_FOR = 28
"""Days that a person's properties are known for: those of their last event within them."""


def table(metric: Metric) -> Table:
    """The declaration of a cohort's table."""
    return daily_table(
        metric,
        says=(
            f"Members as of the end of each day; a person's properties are those of their last "
            f"event within {KNOWN_FOR} days."
        ),
        grain="day × person",
        day="Day at whose end they are members",
        by=("person_id",),
        columns=(Column("person_id", pl.String(), "The person, as `silver/persons` has it.", personal=True),),
        steady=False,
    )


def number(metric: Metric, cohort: Cohort) -> DailyNumber:
    """A cohort as a table by the day.

    Args:
        metric: What its file says.
        cohort: The cohort.

    Raises:
        MetricFileError: It asks for more of all history than firsts tell, or for what facts do not have.
    """
    wanted: set[str] = set()
    predicates, days, reads_all_firsts = [], [1], False
    for leaf, way in zip(leaves(cohort), _ways(cohort.of), strict=True):
        if isinstance(leaf, Filter):
            wanted.add(leaf.property)
            days.append(KNOWN_FOR)
        elif told_by_firsts(leaf):
            reads_all_firsts = True
        else:
            predicates += _of_days_alone(metric.at(*way), leaf)
            days.append(leaf.days or 1)
    wanted.update(reference for predicate in predicates for reference in predicate.properties)
    has_filters = any(isinstance(leaf, Filter) for leaf in leaves(cohort))
    return DailyNumber(
        table=table(metric),
        source=fact_events.TABLE,
        columns=fact_columns(metric, wanted),
        compute=lambda reading: rows(reading, cohort),
        back=max(days) - 1,
        keep=None if has_filters else of_names(predicates),
        needs_firsts=True,
        reads_all_firsts=reads_all_firsts,
    )


def _of_days_alone(at: str, leaf: Did | FirstDid | DidInSequence) -> list[EventPredicate]:
    """The predicates of what only events tell, which are read for some days.

    Args:
        at: File and line of it.
        leaf: What is asked.

    Raises:
        MetricFileError: It needs the events of all history.
    """
    if isinstance(leaf, FirstDid):
        msg = (
            f"{at}: of: first_did {leaf.first_did.label!r}: firsts are known by the event's name only; "
            "leave where and first_ever out"
        )
        raise MetricFileError(msg)
    field, asked = ("did", [leaf.did]) if isinstance(leaf, Did) else ("sequence", list(leaf.sequence))
    named = f"{at}: of: {field} {', '.join(repr(predicate.label) for predicate in asked)}"
    if leaf.days is None:
        known = "of all history it is known who ever did something, or (exactly: 0) never, by its name only; "
        msg = f"{named}: {known if field == 'did' else ''}say days"
        raise MetricFileError(msg)
    if any(predicate.first_ever for predicate in asked):
        msg = f"{named}: first_ever: a day does not read all history; leave it out, or say first_did"
        raise MetricFileError(msg)
    return asked


def _ways(of: object, way: tuple[int | str, ...] = ("of",)) -> Iterator[tuple[int | str, ...]]:
    """The way to each of a cohort's `leaves` in its file, in their order."""
    combination = next((name for name in ("all", "any", "none") if hasattr(of, name)), None)
    if combination is None:
        yield way
        return
    for number_of, part in enumerate(getattr(of, combination)):
        yield from _ways(part, (*way, combination, number_of))


def rows(reading: Reading, cohort: Cohort) -> pl.DataFrame:
    """The members as of some days, without what says how final they are."""
    found = list(_of_days(reading, cohort))
    return pl.concat(found).select("day", "person_id")


def _of_days(reading: Reading, cohort: Cohort) -> Iterator[pl.DataFrame]:
    engine, first_events = reading.engine, reading.first_events.collect().lazy()
    firsts, events = engine.frame(first_events), engine.held(reading.events)
    known = engine.frame(first_events.group_by("person_id").agg(first_at=pl.col("first_at").min()))
    properties = sorted(set(events.collect_schema().names()) - {"person_id", "occurred_at"})
    has_filters = any(isinstance(leaf, Filter) for leaf in leaves(cohort))
    for day in reading.days:
        window = Window.of_days(day - timedelta(days=KNOWN_FOR - 1), day, reading.zone)
        everybody = known.filter(nw.col("first_at") < window.end).select("person_id")
        if has_filters:
            at = nw.col("occurred_at")
            # Of several events at one instant the same one counts on every engine: the greatest.
            last = events.filter(at >= window.start, at < window.end).unique(
                ["person_id"], keep="last", order_by=["occurred_at", *properties]
            )
            everybody = everybody.join(last.drop("occurred_at"), on="person_id", how="left")
        told = collected(members(events, everybody, cohort, day, reading.zone, firsts=firsts))
        yield told.select("person_id", day=pl.lit(day))
