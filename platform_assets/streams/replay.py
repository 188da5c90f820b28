"""Refused records put through again after a fix: what is valid now is admitted, once.

An admission is only a row of `silver/admissions`. The writer of the record's stream takes it in, as it takes in what is
new in Kafka: by progress of its own in each table, so that a kill at any point loses nothing and doubles nothing.
"""

# Dagster reads the annotation of `context` when the op is made: no `from __future__ import annotations` here.

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
import polars as pl
from pydantic import Field

from partitions import Window
from platform_assets.bronze import dead_letters
from platform_assets.platform import Platform
from platform_assets.silver import admissions, quarantine
from platform_assets.streams.judging import Judging, rules_of
from platform_assets.streams.stream import STREAMS
from platform_assets.table import TIMESTAMP
from resources.lake import Writer
from resources.records import COORDINATES

REPLAY_POOL = "replay"
"""The pool whose one slot a replay takes."""

_SHOWN = 50


class ReplayConfig(dg.Config):
    """Which refused records to put through again."""

    ingested_from: str = Field(description="Records that arrived at or after this instant: `2026-11-22T00:00:00Z`.")
    ingested_until: str = Field(description="Records that arrived before this instant.")
    reasons: list[str] = Field(
        default=[],
        description="Only records refused for a reason that begins with one of these (`unknown_schema:7`); "
        "whatever the reason where the list is empty.",
    )
    allow_late: bool = Field(
        default=False, description="Let in events that are later than the allowed lateness (reason `too_late`)."
    )

    def window(self) -> Window:
        """The window of ingestion.

        Raises:
            ValueError: One of the two is no instant with an offset, or they are in the wrong order.
        """
        start, end = (self._instant(name) for name in ("ingested_from", "ingested_until"))
        if start >= end:
            msg = f"ingested_from {self.ingested_from!r} is not before ingested_until {self.ingested_until!r}"
            raise ValueError(msg)
        return Window(start, end)

    def _instant(self, name: str) -> datetime:
        value = getattr(self, name)
        wanted = f"{name} {value!r} is no instant; write one such as '2026-11-22T00:00:00Z', with its offset"
        try:
            found = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(wanted) from error
        if found.tzinfo is None:
            raise ValueError(wanted)
        return found


@dataclass
class Replayed:
    """What a replay found.

    Attributes:
        records: Refused records that were put through again.
        admitted: Those that are valid now.
        gone: Those whose bytes bronze no longer holds.
        reasons: Why the others are refused still, and how many are.
    """

    records: int = 0
    admitted: int = 0
    gone: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def replay(platform: Platform, config: ReplayConfig, run_id: str) -> Replayed:
    """Judge refused records again, by the rules of now, and admit those that are valid.

    What was admitted before, taken in or not, is left alone: a replay that is repeated admits nothing twice.

    Raises:
        ValueError: The configuration names no window.
        RegistryUnavailable: The schema of a record cannot be told now.
        Fenced: Another replay ran at the same time; this one stops.
    """
    window, lake = config.window(), platform.lake
    refused = _refused(platform, window, config.reasons)
    rules = rules_of(lake, platform.settings)
    rules = rules.however_late() if config.allow_late else rules
    found = Replayed()
    for stream in STREAMS:
        writer = Writer(lake, admissions.TABLE)
        number = writer.progress(admissions.taken_in(stream.name)) or 0
        before = lake.scan(admissions.TABLE, handle=writer.handle).select(COORDINATES)
        waiting = refused.join(before.collect(), on=COORDINATES, how="anti")
        records = Judging(lake, stream, rules).records_at(waiting)
        judgement = stream.judge(records, rules)
        found.records += records.height
        for part in (judgement.quarantined, judgement.dead_lettered):
            found.reasons.update(part["reasons"].explode().drop_nulls().to_list())
        rows = _rows(judgement.accepted, waiting).with_columns(
            stream=pl.lit(stream.name),
            is_late_allowed=pl.lit(config.allow_late),
            field_aliases=pl.lit(json.dumps(dict(rules.aliases), sort_keys=True)),
            admitted_at=pl.lit(platform.clock(), TIMESTAMP),
            run_id=pl.lit(run_id),
        )
        for part in rows.iter_slices(admissions.MOST_AT_ONCE):
            number += 1
            numbered = part.with_columns(admission=pl.lit(number, pl.Int64)).select(admissions.TABLE.schema.names())
            writer.append(numbered, {admissions.taken_in(stream.name): number})
            found.admitted += part.height
        refused = refused.join(records, on=COORDINATES, how="anti")
    found.gone = refused.join(lake.scan(admissions.TABLE).collect(), on=COORDINATES, how="anti").height
    return found


def _refused(platform: Platform, window: Window, reasons: Sequence[str]) -> pl.DataFrame:
    """What was refused in a window, for one of some reasons: coordinates, and what it was refused as."""
    tables = {"quarantined": quarantine.TABLE, "dead_lettered": dead_letters.TABLE}
    parts = []
    for kind, table in tables.items():
        rows = platform.lake.scan(table, window)
        at = pl.col("occurred_at") if kind == "quarantined" else pl.lit(None, TIMESTAMP)
        told = rows.select(
            *COORDINATES, "ingested_at", "reasons", "ingestion_date", refused_as=pl.lit(kind), refused_at=at
        )
        if reasons:
            wanted = pl.any_horizontal(pl.element().str.starts_with(reason) for reason in reasons)
            told = told.filter(pl.col("reasons").list.eval(wanted).list.any())
        parts.append(told)
    return pl.concat(parts).collect()


def _rows(accepted: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    """Refused records that are valid now, each with its event time; a change has none."""
    at = pl.col("occurred_at") if "occurred_at" in accepted.columns else pl.lit(None, TIMESTAMP)
    return refused.join(accepted.select(*COORDINATES, occurred_at=at), on=COORDINATES)


@dg.op(pool=REPLAY_POOL, description="Judge refused records again; admit those that are valid now.")
def replay_refused(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform], config: ReplayConfig) -> None:
    """Put dead letters and quarantine through again."""
    try:
        found = replay(platform, config, context.run_id)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    rows = [f"{reason} | {count}" for reason, count in found.reasons.most_common(_SHOWN)]
    context.log.info(f"{found.admitted} of {found.records} refused records are admitted; {found.gone} are gone")
    context.log_event(
        dg.AssetMaterialization(
            asset_key=admissions.TABLE.asset_key,
            metadata={
                "put through again": dg.MetadataValue.int(found.records),
                "admitted": dg.MetadataValue.int(found.admitted),
                "gone from bronze": dg.MetadataValue.int(found.gone),
                "still refused": dg.MetadataValue.md("\n".join(["reason | records", "--- | ---", *rows])),
            },
        )
    )


@dg.job(
    description="Puts dead letters and quarantine through again after a fix (docs/operations.md, 'Replay'). What is "
    "valid now goes into silver with the next micro-batch, once.",
    executor_def=dg.in_process_executor,
)
def replay_records() -> None:
    """Replay."""
    replay_refused()
