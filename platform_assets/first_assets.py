"""`take_in_firsts`: the op job that brings `silver/person_firsts` up to what silver did."""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

import dagster as dg

from platform_assets.platform import Platform
from platform_assets.quality.metadata import whole_metadata
from platform_assets.silver import person_firsts

FIRSTS_POOL = "firsts"
"""The pool whose one slot the writer of firsts takes, be it the job or the asset."""


@dg.op(
    pool=FIRSTS_POOL,
    description="Touched hours of silver → the firsts that they move.",
    retry_policy=dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL),
)
def take_in_touched_hours(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Take in what silver did since, and show what the table holds."""
    moved = person_firsts.advance(platform)
    context.log.info(f"{moved} firsts came, moved or went")
    metadata = {**whole_metadata(platform, person_firsts.TABLE), "firsts changed": dg.MetadataValue.int(moved)}
    context.log_event(dg.AssetMaterialization(asset_key=person_firsts.TABLE.asset_key, metadata=metadata))


@dg.job(
    description="Bring first-ever events up to date. Requested by the sensor `first_events`.",
    executor_def=dg.in_process_executor,
)
def take_in_firsts() -> None:
    """Take in what silver did."""
    take_in_touched_hours()
