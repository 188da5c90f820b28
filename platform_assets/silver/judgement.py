"""Bronze records judged one by one: valid, quarantined or dead-lettered.

What is decided here depends on the record alone. Which of the valid ones is a duplicate is decided after, by
comparing them (`silver/events`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from platform_assets.bronze import dead_letters
from platform_assets.semantics.events import judged, reasons, straggles
from platform_assets.silver import quarantine
from platform_assets.silver.outcomes import tally
from resources.json_events import decode
from resources.records import COORDINATES


@dataclass(frozen=True)
class Judgement:
    """What became of some bronze records.

    Attributes:
        accepted: Valid events with the columns of `silver/events`, duplicates among them.
        quarantined: Rows of `silver/quarantine`.
        dead_lettered: Rows of `bronze/dead_letters`.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    dead_lettered: pl.DataFrame

    def tallies(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """The three, counted by topic partition, ingestion hour and event hour."""
        dead = self.dead_lettered.with_columns(occurred_at=pl.lit(None, pl.Datetime("us", "UTC")))
        return tally(self.accepted), tally(self.quarantined), tally(dead)


def judge(records: pl.DataFrame, allowed_lateness: timedelta) -> Judgement:
    """Decode records and judge each.

    Args:
        records: Rows of `resources.records.RECORD_SCHEMA`.
        allowed_lateness: Later events are quarantined.
    """
    decoded = decode(records)
    events = judged(decoded.events.lazy(), allowed_lateness).collect()
    unbelievable = (
        events.filter(~pl.col("is_valid"))
        .with_columns(reasons=reasons(allowed_lateness))
        .select(
            *COORDINATES,
            pl.when(pl.col("occurred_at").dt.year().is_between(1, 9999)).then("occurred_at"),
            "reasons",
        )
        .join(records, on=COORDINATES, how="left", maintain_order="left")
    )
    malformed = decoded.malformed.with_columns(occurred_at=pl.lit(None, pl.Datetime("us", "UTC")))
    valid = events.filter("is_valid").with_columns(
        pl.col("is_bot", "is_test").fill_null(value=False),
        is_straggler=straggles(),
        event_date=pl.col("occurred_at").dt.date(),
    )
    return Judgement(
        accepted=valid.drop("is_valid", "bad_timestamps"),
        quarantined=pl.concat([quarantine.transform(malformed), quarantine.transform(unbelievable)]),
        dead_lettered=dead_letters.transform(decoded.undecodable),
    )
