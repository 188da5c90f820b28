"""The one composition: every asset, check, job, sensor and schedule, over one `Platform`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import dagster as dg

from partitions import Partitions
from platform_assets.assets import ledger_spec, rebuilt_asset, whole_asset
from platform_assets.bronze import (
    dead_letters,
    landed_files,
    oltp_changes,
    partner_files,
    schemas,
)
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.changes.following import rebuild as rebuild_dimension
from platform_assets.feeds.job import FEEDS, no_file_set_aside, take_files
from platform_assets.feeds.rebuilding import rebuild as rebuild_feed
from platform_assets.first_assets import FIRSTS_POOL, take_in_firsts
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
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_files import WrongFile
from platform_assets.gold.metric_numbers import own_metrics
from platform_assets.gold.order_numbers import OrderNumber
from platform_assets.identity_assets import IDENTITY_POOL, no_super_nodes, persons_asset, preview_persons
from platform_assets.maintenance import maintain, nightly, nightly_maintenance, regular_maintenance
from platform_assets.metric_assets import metric_files_check, wrong_assets
from platform_assets.ops import alert_deliveries, canaries, computations, incidents
from platform_assets.platform import Platform
from platform_assets.quality import check_results, end_to_end, profiles, service_levels
from platform_assets.quality.anomalies import anomaly_checks
from platform_assets.quality.check import asset_check, whole_check
from platform_assets.quality.checks import checks_of, whole_checks_of
from platform_assets.serving.warehouse import served, warehouse_asset
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
    users,
)
from platform_assets.streams import rebuilds
from platform_assets.streams.advance import advance, advance_changes
from platform_assets.streams.replay import replay_records
from platform_assets.streams.stream import EVENT_STREAMS, STREAMS
from platform_assets.tables import RESTATED, WATCHED, publications_of, tables
from resources.settings import Settings


def assets(partitions: Partitions, numbers: Sequence[DailyNumber]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of all tables."""
    silver, received = events.TABLE, [stream.table for stream in STREAMS]
    of_events = [stream.table for stream in EVENT_STREAMS]
    published = publications_of(numbers)
    by_day: tuple[OrderNumber | DailyNumber, ...] = (revenue.NUMBER, revenue_by_slice.NUMBER, *numbers)
    return [
        *(rebuilt_asset(s.table, [], partial(rebuilds.rebuild_received, s), partitions) for s in STREAMS),
        ledger_spec(schemas.TABLE, received),
        rebuilt_asset(dead_letters.TABLE, received, rebuilds.rebuild_dead_letters, partitions),
        rebuilt_asset(quarantine.TABLE, received, rebuilds.rebuild_quarantine, partitions),
        ledger_spec(admissions.TABLE, [dead_letters.TABLE, quarantine.TABLE]),
        whole_asset(row_changes.TABLE, [oltp_changes.TABLE], rebuilds.rebuild_row_changes),
        *(
            whole_asset(dimension.table, [row_changes.TABLE], partial(rebuild_dimension, dimension))
            for dimension in DIMENSIONS
        ),
        rebuilt_asset(late_arrivals.TABLE, of_events, rebuilds.rebuild_late_arrivals, partitions),
        rebuilt_asset(silver, [*of_events, late_arrivals.TABLE], rebuilds.rebuild_events, partitions),
        rebuilt_asset(outcomes.TABLE, [*of_events, silver], rebuilds.rebuild_outcomes, partitions),
        rebuilt_asset(
            profiles.TABLE, [*WATCHED, outcomes.TABLE], partial(profiles.rebuild, tables=WATCHED), partitions
        ),
        rebuilt_asset(live_metrics.TABLE, [silver], live_metrics.rebuild, partitions),
        rebuilt_asset(activity_hours.TABLE, [silver], activity_hours.rebuild, partitions),
        rebuilt_asset(identity_links.TABLE, [silver], identity_links.rebuild, partitions),
        persons_asset,
        ledger_spec(persons.CHANGES, [persons.TABLE]),
        whole_asset(person_firsts.TABLE, [silver, touched_hours.TABLE], person_firsts.rebuild, pool=FIRSTS_POOL),
        rebuilt_asset(
            person_days.TABLE,
            [activity_hours.TABLE, persons.TABLE],
            person_days.rebuild,
            partitions,
            pool=IDENTITY_POOL,
        ),
        rebuilt_asset(active_users.TABLE, [person_days.TABLE], active_users.rebuild, partitions),
        whole_asset(
            published_numbers.TABLE,
            [publication.table for publication in published],
            partial(published_numbers.publish_all, publications=published),
        ),
        rebuilt_asset(
            fact_events.TABLE,
            [silver, *(join.dimension.table for join in fact_events.JOINS)],
            fact_events.rebuild,
            partitions,
        ),
        ledger_spec(dimension_changes.TABLE, [join.dimension.table for join in fact_events.JOINS]),
        rebuilt_asset(
            person_day_slices.TABLE,
            [activity_hours.TABLE, persons.TABLE, users.DIMENSION.table],
            person_day_slices.rebuild,
            partitions,
            pool=IDENTITY_POOL,
        ),
        rebuilt_asset(
            active_users_by_slice.TABLE, [person_day_slices.TABLE], active_users_by_slice.rebuild, partitions
        ),
        rebuilt_asset(
            sessions.TABLE,
            [fact_events.TABLE, activity_hours.TABLE, persons.TABLE],
            sessions.rebuild,
            partitions,
            pool=IDENTITY_POOL,
        ),
        ledger_spec(sessions.REACHES, [sessions.TABLE]),
        rebuilt_asset(
            conversions.TABLE,
            [fact_events.TABLE, sessions.TABLE, persons.TABLE],
            conversions.rebuild,
            partitions,
            pool=IDENTITY_POOL,
        ),
        ledger_spec(order_changes.TABLE, [row_changes.TABLE]),
        *(
            rebuilt_asset(number.table, number.upstream, number.rebuild, partitions, pool=IDENTITY_POOL)
            for number in by_day
        ),
        *(rebuilt_asset(feed.table, [partner_files.TABLE], partial(rebuild_feed, feed), partitions) for feed in FEEDS),
        ledger_spec(landed_files.TABLE),
        ledger_spec(partner_files.TABLE, [landed_files.TABLE]),
        ledger_spec(quarantined_rows.TABLE, [partner_files.TABLE]),
        ledger_spec(touched_hours.TABLE),
        ledger_spec(canaries.TABLE, [live_metrics.TABLE]),
        ledger_spec(incidents.TABLE),
        ledger_spec(alert_deliveries.TABLE, [incidents.TABLE]),
        ledger_spec(computations.TABLE),
        ledger_spec(check_results.TABLE, partitions=partitions),
        whole_asset(
            service_levels.TABLE,
            [check_results.TABLE],
            partial(service_levels.rebuild, tables=tables(numbers)),
        ),
        warehouse_asset(served(tables(numbers))),
    ]


@contextmanager
def _knowing_what_is_beta() -> Iterator[None]:
    """What is used of Dagster's beta and preview is pinned by characterization tests: no word at each use."""
    with warnings.catch_warnings():
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        yield


@_knowing_what_is_beta()
def build_defs(
    platform: Platform, numbers: Sequence[DailyNumber] | None = None, wrong: Sequence[WrongFile] = ()
) -> dg.Definitions:
    """Everything that Dagster loads. Connects to nothing; the tables are made by what runs first.

    Args:
        platform: The lake, the settings and the way to Kafka; tests pass their own.
        numbers: The metrics; by default the project's own.
        wrong: Files of metrics that are wrong; by default, where the metrics are, the project's own.
    """
    # Sensors import the assets, so they are imported where everything is put together.
    from sensors.alerts import alerts_sensor  # noqa: PLC0415
    from sensors.canaries import canaries as canaries_sensor  # noqa: PLC0415
    from sensors.check_results import check_results as check_results_sensor  # noqa: PLC0415
    from sensors.due_partitions import check_latest_due, hourly_checks  # noqa: PLC0415
    from sensors.first_events import first_events  # noqa: PLC0415
    from sensors.landed_files import landed_files as landed_files_sensor  # noqa: PLC0415
    from sensors.metric_files import metric_files_sensor  # noqa: PLC0415
    from sensors.micro_batches import changes, micro_batches  # noqa: PLC0415
    from sensors.numbers import number_restatements, restate_numbers  # noqa: PLC0415
    from sensors.profiles import profile_hours, profiling  # noqa: PLC0415
    from sensors.publication import publications_sensor, publish_numbers  # noqa: PLC0415
    from sensors.restatement import (  # noqa: PLC0415
        fact_restatements,
        restate_days,
        restate_facts,
        restate_hours,
        restate_persons,
        restatements,
    )
    from sensors.service_levels import hourly_report, report_service_levels  # noqa: PLC0415
    from sensors.warehouse import refresh_warehouse, warehouse_sensor  # noqa: PLC0415

    partitions = platform.partitions
    if numbers is None:
        numbers, wrong = own_metrics().numbers, own_metrics().wrong
    declared = tables(numbers)
    kept = (*RESTATED, *numbers)
    failing = wrong_assets(wrong, partitions)
    restate = restate_numbers(kept, failing)
    made = [*assets(partitions, numbers), *failing]
    return dg.Definitions(
        assets=made,
        asset_checks=[
            *(asset_check(check, partitions) for check in (*checks_of(declared), *anomaly_checks(declared))),
            *(whole_check(check) for check in whole_checks_of(declared)),
            whole_check(end_to_end.END_TO_END),
            no_file_set_aside,
            metric_files_check(),
            no_super_nodes,
        ],
        jobs=[
            advance,
            advance_changes,
            replay_records,
            take_files,
            take_in_firsts,
            preview_persons,
            restate_persons,
            check_latest_due,
            maintain,
            nightly,
            restate_hours,
            restate_days,
            restate_facts,
            restate,
            publish_numbers,
            report_service_levels,
            profile_hours,
            refresh_warehouse,
        ],
        sensors=[
            micro_batches,
            changes,
            landed_files_sensor,
            restatements,
            fact_restatements,
            number_restatements(kept, restate),
            first_events,
            publications_sensor(publications_of(numbers)),
            metric_files_sensor(),
            profiling,
            alerts_sensor(declared),
            canaries_sensor,
            check_results_sensor,
            warehouse_sensor(served(declared)),
        ],
        schedules=[regular_maintenance, nightly_maintenance, hourly_checks, hourly_report],
        resources={"platform": platform},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` loads: the platform that the environment describes."""
    return build_defs(Platform.from_settings(Settings()))
