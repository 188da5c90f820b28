"""From a table's declaration and its rebuild to a software-defined asset.

An asset only says which window to rebuild; what the table is stands in its own file. Every asset takes ranges:
a backfill runs many partitions in one run, one piece of work each.
"""

# Dagster reads the annotation of `context` when the asset is made: no `from __future__ import annotations` here.

from collections.abc import Callable, Sequence
from datetime import timedelta

import dagster as dg

from partitions import Partitions, Window, hours_of_day
from platform_assets.platform import Platform
from platform_assets.quality.metadata import partition_metadata, whole_metadata
from platform_assets.refusal import RebuildRefused
from platform_assets.table import Table, ui_metadata

Rebuild = Callable[[Platform, Window], None]

PARTITIONS_PER_RUN = {"hour": 168, "day": 28}
"""Most partitions that one run of a backfill takes: a week of hours, four weeks of days."""


def rebuilt_asset(
    table: Table, upstream: Sequence[Table], rebuild: Rebuild, partitions: Partitions, pool: str | None = None
) -> dg.AssetsDefinition:
    """The asset of a table: materializing a partition, or a range, rebuilds that window.

    Args:
        table: Its declaration; it must have partitions.
        upstream: The tables that it is computed from.
        rebuild: Makes a window of the table equal to the function of what is above it.
        partitions: The deployment's partitions.
        pool: The pool that its runs share a slot of.
    """
    grain = table.partitions
    if grain is None:
        msg = f"{table.name} has no partitions, so there is nothing to rebuild"
        raise ValueError(msg)

    @dg.asset(
        key=table.asset_key,
        deps=[_dependency(table, above, partitions) for above in upstream],
        description=f"{table.description}\n\nGrain: {table.grain}.",
        partitions_def=partitions.of(grain),
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN[grain]),
        group_name=table.layer,
        kinds={"deltalake", "polars", table.layer},
        owners=[table.owner],
        metadata=ui_metadata(table),
        code_version=str(table.version),
        freshness_policy=freshness(table),
        pool=pool,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL),
    )
    def asset(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        keys = sorted(context.partition_keys)
        window = platform.partitions.window(grain, keys[0], keys[-1])
        try:
            rebuild(platform, window)
        except RebuildRefused as refusal:
            raise dg.Failure(str(refusal), allow_retries=False) from refusal
        for key, metadata in partition_metadata(platform, table, keys).items():
            context.add_asset_metadata(metadata, partition_key=key)

    return asset


def whole_asset(
    table: Table, upstream: Sequence[Table], rebuild: Callable[[Platform], None], pool: str | None = None
) -> dg.AssetsDefinition:
    """The asset of a table without partitions: materializing it computes all of it anew.

    Args:
        table: Its declaration.
        upstream: The tables that it is computed from.
        rebuild: Makes the table equal to the function of what is above it.
        pool: The pool that its runs share a slot of.
    """

    @dg.asset(
        key=table.asset_key,
        deps=[above.asset_key for above in upstream],
        description=f"{table.description}\n\nGrain: {table.grain}.",
        group_name=table.layer,
        kinds={"deltalake", "polars", table.layer},
        owners=[table.owner],
        metadata=ui_metadata(table),
        code_version=str(table.version),
        pool=pool,
    )
    def asset(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult[None]:
        try:
            rebuild(platform)
        except RebuildRefused as refusal:
            raise dg.Failure(str(refusal), allow_retries=False) from refusal
        return dg.MaterializeResult(metadata=whole_metadata(platform, table))

    return asset


def ledger_spec(table: Table, upstream: Sequence[Table] = (), partitions: Partitions | None = None) -> dg.AssetSpec:
    """A table that is written on the way, and that nobody materializes.

    Args:
        table: Its declaration.
        upstream: The tables that it is written from.
        partitions: The deployment's partitions, where those of the table are judged one by one.
    """
    return dg.AssetSpec(
        key=table.asset_key,
        deps=[above.asset_key for above in upstream],
        description=f"{table.description}\n\nGrain: {table.grain}.",
        group_name=table.layer,
        kinds={"deltalake", table.layer},
        owners=[table.owner],
        metadata=ui_metadata(table),
        partitions_def=None if partitions is None or table.partitions is None else partitions.of(table.partitions),
    )


def freshness(table: Table) -> dg.FreshnessPolicy | None:
    """How long a table may go without a materialization: its service level and one partition."""
    if not table.steady:
        return None
    partition = timedelta(hours=1) if table.partitions == "hour" else timedelta(days=1)
    return dg.FreshnessPolicy.time_window(
        fail_window=partition + 2 * table.service_level, warn_window=partition + table.service_level
    )


def _dependency(table: Table, upstream: Table, partitions: Partitions) -> dg.AssetDep:
    if table.partitions == "day" and upstream.partitions == "hour":
        return dg.AssetDep(upstream.asset_key, partition_mapping=hours_of_day(partitions))
    return dg.AssetDep(upstream.asset_key)
