"""`silver/persons` as an asset without partitions, the check of its super nodes, and the preview of a resolution."""

# Dagster reads the annotation of `context` when the asset is made: no `from __future__ import annotations` here.

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
import narwhals as nw
import polars as pl

from partitions import Window
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, whole_check
from platform_assets.quality.verdict import Verdict
from platform_assets.semantics import identity
from platform_assets.semantics.engines import lazy
from platform_assets.silver import activity_hours, identity_links, persons
from platform_assets.table import Table, ui_metadata
from resources.engine import POLARS

IDENTITY_POOL = "identity"
"""The pool whose one slot the writer of persons takes, and whoever counts by person.

A resolution tells which days it touches by the activity that it sees. Were a day counted meanwhile, by the former
persons and from newer activity, nothing would tell that it is stale.
"""

_SHOWN = 50


@dg.asset(
    key=persons.TABLE.asset_key,
    deps=[identity_links.TABLE.asset_key, activity_hours.TABLE.asset_key],
    description=f"{persons.TABLE.description}\n\nGrain: {persons.TABLE.grain}.",
    group_name=persons.TABLE.layer,
    kinds={"deltalake", "polars", persons.TABLE.layer},
    owners=[persons.TABLE.owner],
    metadata=ui_metadata(persons.TABLE),
    code_version=str(persons.TABLE.version),
    pool=IDENTITY_POOL,
)
def persons_asset(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult[None]:
    """Resolve all the evidence there is."""
    changed = persons.resolve(platform)
    days = _table(["day", "raw ids"], changed.select("day", "raw_ids").rows())
    return dg.MaterializeResult(metadata={**persons_metadata(platform), "days changed": dg.MetadataValue.md(days)})


def persons_metadata(platform: Platform) -> dict[str, dg.MetadataValue]:
    """What a materialization of the persons shows."""
    handle = platform.lake.open(persons.TABLE)
    rows = platform.lake.scan(persons.TABLE, handle=handle).select(pl.len()).collect().item()
    return {
        "dagster/row_count": dg.MetadataValue.int(rows),
        "delta version": dg.MetadataValue.int(handle.version()),
        "resolution": dg.MetadataValue.int(persons.resolution_of(handle)),
    }


def has_no_super_node(platform: Platform, _: Table, __: Window) -> Verdict:
    """Whether no id links too many; those that do are named."""
    evidence = identity.in_force(platform.lake.scan(identity_links.TABLE))
    found = identity.super_nodes(evidence).sort("links", descending=True).collect()
    told = f"{found.height} ids have more than {identity.MOST_LINKS} partners and link nobody"
    verdict = Verdict.of_wrong(found.height, "ids", told, found.head(_SHOWN).rows())
    return replace(verdict, metadata={"ids": dg.MetadataValue.md(_table(["id", "partners"], found.rows()))})


no_super_nodes = whole_check(
    Check(
        persons.TABLE,
        "no_super_nodes",
        has_no_super_node,
        f"No id is linked with more than {identity.MOST_LINKS} others; one that is links nobody.",
        pillar="validity",
    )
)


@dg.op(description="What the evidence that is not applied yet would change: days, persons, daily active users.")
def preview_impact(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Tell the impact of the next resolution as an observation of `silver/persons`; nothing is changed."""
    found = impact(platform)
    rows = [(day, before, after, after - before) for day, before, after in found.days.rows()]
    context.log.info(f"{found.merged} persons would go, {found.created} would come, on {len(rows)} days")
    context.log_event(
        dg.AssetObservation(
            asset_key=persons.TABLE.asset_key,
            metadata={
                "persons that would go": dg.MetadataValue.int(found.merged),
                "persons that would come": dg.MetadataValue.int(found.created),
                "days": dg.MetadataValue.md(_table(["day", "DAU now", "DAU then", "difference"], rows)),
            },
        )
    )


@dg.job(
    description="Shows what the next resolution of persons would change, before it is applied.",
    executor_def=dg.in_process_executor,
)
def preview_persons() -> None:
    """Preview the next resolution."""
    preview_impact()


def impact(platform: Platform) -> identity.Impact:
    """What the evidence that is not applied yet would change."""
    lake = platform.lake
    before = lake.scan(persons.TABLE).select(identity.PERSONS.names()).collect()
    after = identity.persons(lake.scan(identity_links.TABLE))
    active = lake.scan(activity_hours.TABLE).select("raw_id", "event_hour", "day").unique()
    times = persons.timed(platform, lazy(active), lazy(pl.concat([before, after])), POLARS)
    return identity.impact(nw.to_native(times), before.lazy(), after.lazy())


def is_behind(platform: Platform) -> bool:
    """Whether there is evidence that persons do not know of yet."""
    newest = platform.lake.open(identity_links.TABLE).version()
    known = platform.lake.open(persons.TABLE).transaction_version(identity_links.TABLE.name)
    return newest > (known or 0)


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(map(str, row)) for row in rows[:_SHOWN]]
    more = [f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "\n".join([" | ".join(headings), " | ".join("---" for _ in headings), *lines, *more])
