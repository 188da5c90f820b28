"""`take_files`: the op job that takes in what landed, and the check that no file was set aside."""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import dagster as dg
import polars as pl

from partitions import Window
from platform_assets.bronze import landed_files, partner_files
from platform_assets.feeds.feed import Feed
from platform_assets.feeds.taking import Deliveries, Span, deliveries, undelivered
from platform_assets.platform import Platform
from platform_assets.quality.check import Check, whole_check
from platform_assets.quality.validity import bad_rows_check
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import ad_spend, app_store_reports
from platform_assets.table import Table
from resources.landing import FileChanged

FEEDS: tuple[Feed, ...] = (ad_spend.FEED, app_store_reports.FEED)
"""Every feed."""

LANDINGS_POOL = "landings"
"""The pool whose one slot the writer of deliveries takes."""


def set_aside(landings: pl.DataFrame) -> pl.DataFrame:
    """The names whose last delivery could not be used, with the reason: ``feed``, ``name``, ``report``.

    Args:
        landings: Rows of `bronze/landed_files`.
    """
    last = landings.sort("landing").unique(["feed", "name"], keep="last", maintain_order=True)
    return last.filter(outcome="set_aside").select("feed", "name", "report")


def has_none_set_aside(platform: Platform, _: Table, __: Window) -> Verdict:
    """Whether the last delivery of every name could be used."""
    unusable = set_aside(deliveries(platform.lake))
    told = "\n".join(f"- `{feed}/{name}`: {report}" for feed, name, report in unusable.iter_rows())
    verdict = Verdict.of_wrong(unusable.height, "files", f"{unusable.height} files are set aside")
    return replace(verdict, metadata={"files": dg.MetadataValue.md(told or "none")})


NONE_SET_ASIDE = Check(
    landed_files.TABLE,
    "no_file_set_aside",
    has_none_set_aside,
    "The last delivery of every file name could be used. A corrected file of the same name mends it.",
    pillar="validity",
)

no_file_set_aside = whole_check(NONE_SET_ASIDE)


@dg.op(pool=LANDINGS_POOL, description="Landing folder → bronze → quarantine and the feeds' tables, file by file.")
def take_landed_files(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Take in every file that is new or was written again."""
    landing = platform.landing()
    taking = Deliveries(platform.lake, landing, FEEDS, platform.clock)
    waiting = undelivered(platform.lake, landing.files(platform.clock(), platform.settings.landing_settled_for))
    taken, unread = [], list(landing.problems)
    for file in waiting:
        try:
            taken.append(taking.take(file))
        except FileChanged as change:
            context.log.warning(str(change))
        except OSError as error:  # one that may not be read must not keep the others out
            unread.append(f"{file.feed}/{file.name}: {error}")
    for feed, spans in taking.catch_up():
        _show_days(context, platform, feed, spans)
    if taken:
        _show_files(context, pl.concat(taken))
    verdict = NONE_SET_ASIDE.judged(platform)
    context.log_event(NONE_SET_ASIDE.evaluation(verdict, None))  # type: ignore[arg-type]  # accepted, not annotated
    if unread:
        raise dg.Failure("files could not be read, and are tried again: " + "; ".join(unread), allow_retries=False)


@dg.job(
    description="Take in the files that landed. Requested by the sensor `landed_files`.",
    executor_def=dg.in_process_executor,
)
def take_files() -> None:
    """Take in what landed."""
    take_landed_files()


def _show_files(context: dg.OpExecutionContext, taken: pl.DataFrame) -> None:
    rows = [
        f"| {feed}/{name} | {outcome} | {rows} | {bad} | {report or ''} |"
        for feed, name, outcome, rows, bad, report in taken.select(
            "feed", "name", "outcome", "rows", "bad_rows", "report"
        ).iter_rows()
    ]
    table = "\n".join(["| file | outcome | rows | bad rows | report |", "| --- | --- | --- | --- | --- |", *rows])
    for shown in (landed_files.TABLE, partner_files.TABLE):
        context.log_event(
            dg.AssetMaterialization(
                asset_key=shown.asset_key,
                metadata={
                    "dagster/row_count": dg.MetadataValue.int(
                        taken.height if shown is landed_files.TABLE else int(taken["rows"].sum())
                    ),
                    "deliveries": dg.MetadataValue.md(table),
                },
            )
        )


def _show_days(context: dg.OpExecutionContext, platform: Platform, feed: Feed, spans: Sequence[Span]) -> None:
    counted = platform.lake.scan(feed.table).group_by("day").len().collect()
    rows: dict[date, int] = dict(counted.iter_rows())
    zone, check = platform.settings.zone, bad_rows_check(feed.table)
    for first, last in spans:
        for day in Window.of_days(first, last, zone).days(zone):
            window = Window.of_days(day, day, zone)
            for key in platform.partitions.keys("day", window):
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key=feed.table.asset_key,
                        partition=key,
                        metadata={"dagster/row_count": dg.MetadataValue.int(rows.get(day, 0))},
                    )
                )
                verdict = check.judged(platform, window)
                context.log_event(check.evaluation(verdict, key))  # type: ignore[arg-type]  # accepted, not annotated
