"""Every table that there is, in the order in which data flows, and what is kept of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from platform_assets.bronze import (
    backend_logs,
    client_events,
    dead_letters,
    landed_files,
    oltp_changes,
    partner_files,
    schemas,
)
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.feeds.job import FEEDS
from platform_assets.gold import (
    active_users,
    active_users_by_slice,
    conversions,
    fact_events,
    live_metrics,
    order_changes,
    person_day_slices,
    person_days,
    published_numbers,
    revenue,
    revenue_by_slice,
    sessions,
)
from platform_assets.gold.daily_numbers import DailyNumber, Restated, RestatedByDay
from platform_assets.gold.metric_numbers import own_numbers
from platform_assets.ops import alert_deliveries, canaries, computations, incidents
from platform_assets.publication import Publication
from platform_assets.quality import check_results, profiles, service_levels
from platform_assets.silver import (
    activity_hours,
    admissions,
    dimension_changes,
    events,
    identity_links,
    late_arrivals,
    outcomes,
    person_firsts,
    persons,
    quarantine,
    quarantined_rows,
    row_changes,
    touched_hours,
)
from platform_assets.table import Table
from resources.lake import Lake

TABLES: tuple[Table, ...] = (
    client_events.TABLE,
    backend_logs.TABLE,
    schemas.TABLE,
    dead_letters.TABLE,
    events.TABLE,
    quarantine.TABLE,
    admissions.TABLE,
    late_arrivals.TABLE,
    outcomes.TABLE,
    touched_hours.TABLE,
    activity_hours.TABLE,
    identity_links.TABLE,
    persons.TABLE,
    persons.CHANGES,
    person_firsts.TABLE,
    live_metrics.TABLE,
    person_days.TABLE,
    active_users.TABLE,
    published_numbers.TABLE,
    oltp_changes.TABLE,
    row_changes.TABLE,
    dimension_changes.TABLE,
    *(dimension.table for dimension in DIMENSIONS),
    fact_events.TABLE,
    person_day_slices.TABLE,
    active_users_by_slice.TABLE,
    sessions.TABLE,
    sessions.REACHES,
    conversions.TABLE,
    order_changes.TABLE,
    revenue.TABLE,
    revenue_by_slice.TABLE,
    landed_files.TABLE,
    partner_files.TABLE,
    quarantined_rows.TABLE,
    *(feed.table for feed in FEEDS),
    profiles.TABLE,
    canaries.TABLE,
    incidents.TABLE,
    alert_deliveries.TABLE,
    computations.TABLE,
    check_results.TABLE,
    service_levels.TABLE,
)
"""Every table that is declared in Python, in the order in which data flows."""

WATCHED = tuple(table for table in TABLES if table.watch is not None)
"""Those whose hours are profiled, and judged by what is usual."""

PUBLICATIONS: tuple[Publication, ...] = (
    active_users.PUBLISHES,
    active_users_by_slice.PUBLISHES,
    conversions.PUBLISHES,
    revenue.PUBLISHES,
    revenue_by_slice.PUBLISHES,
)
"""The tables declared in Python whose numbers are kept in `gold/published_numbers`."""


RESTATED: tuple[RestatedByDay, ...] = (
    Restated(sessions.TABLE, sessions.stale),
    Restated(conversions.TABLE, conversions.stale, conversions.PUBLISHES),
    Restated(revenue.TABLE, revenue.NUMBER.stale, revenue.PUBLISHES),
    Restated(revenue_by_slice.TABLE, revenue_by_slice.NUMBER.stale, revenue_by_slice.PUBLISHES),
    Restated(person_day_slices.TABLE, person_day_slices.stale),
    Restated(active_users_by_slice.TABLE, active_users_by_slice.stale, active_users_by_slice.PUBLISHES),
)
"""The tables declared in Python whose days the sensor of numbers keeps; others have sensors of their own."""


def tables(numbers: Sequence[DailyNumber] | None = None) -> tuple[Table, ...]:
    """Every table: those of Python, and those of metrics.

    Args:
        numbers: The metrics; by default the project's own, but for files that are wrong.
    """
    return (*TABLES, *(number.table for number in (own_numbers() if numbers is None else numbers)))


def publications_of(numbers: Sequence[DailyNumber]) -> tuple[Publication, ...]:
    """Everything whose numbers are kept in `gold/published_numbers`: tables of Python, and metrics."""
    return (*PUBLICATIONS, *(number.publishes for number in numbers if number.publishes is not None))


def create_tables(lake: Lake, numbers: Sequence[DailyNumber] | None = None) -> None:
    """Create every table that is missing.

    Raises:
        SchemaMismatch: A table exists with other columns than declared.
    """
    for table in tables(numbers):
        lake.create(table)
