"""Bronze records judged one by one: valid, quarantined or dead-lettered.

What is decided here depends on the record alone. Which of the valid ones is a duplicate is decided after, by
comparing them (`silver/events`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import polars as pl

from platform_assets.bronze import dead_letters
from platform_assets.semantics.events import judged, reasons, straggles
from platform_assets.silver import quarantine
from platform_assets.silver.events import without_addresses
from platform_assets.silver.outcomes import Tallies, tally
from resources.events import decode
from resources.records import COORDINATES
from resources.schemas import Schemas

EVER = timedelta(days=3_650_000)
"""An allowed lateness that nothing exceeds."""


@dataclass(frozen=True)
class Rules:
    """What records are judged by, beside themselves.

    Attributes:
        allowed_lateness: Later events are quarantined.
        schemas: Tells writers' schemas.
        aliases: The envelope's names of fields that writers' schemas name otherwise.
    """

    allowed_lateness: timedelta
    schemas: Schemas
    aliases: Mapping[str, str] = field(default_factory=dict)

    def however_late(self) -> Rules:
        """The same, but for lateness, of which none is too much."""
        return replace(self, allowed_lateness=EVER)

    def by_names(self, aliases: Mapping[str, str]) -> Rules:
        """The same, but for the names of fields."""
        return replace(self, aliases=aliases)


@dataclass(frozen=True)
class Judgement:
    """What became of some bronze records.

    Attributes:
        accepted: Rows of the stream's silver table, duplicates among them.
        quarantined: Rows of `silver/quarantine`.
        dead_lettered: Rows of `bronze/dead_letters`.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    dead_lettered: pl.DataFrame

    @classmethod
    def of_all(cls, parts: Sequence[Judgement]) -> Judgement:
        """Several judgements as one."""
        return cls(
            pl.concat(part.accepted for part in parts),
            pl.concat(part.quarantined for part in parts),
            pl.concat(part.dead_lettered for part in parts),
        )

    def without(self, records: pl.DataFrame) -> Judgement:
        """What became of all but some records, given by their coordinates."""
        parts = (self.accepted, self.quarantined, self.dead_lettered)
        return Judgement(*(part.join(records, on=COORDINATES, how="anti", maintain_order="left") for part in parts))

    def tallies(self) -> Tallies:
        """The three of events, counted by topic partition, ingestion hour and event hour."""
        dead = self.dead_lettered.with_columns(occurred_at=pl.lit(None, pl.Datetime("us", "UTC")))
        return Tallies(tally(self.accepted), tally(self.quarantined), tally(dead))


def judge(records: pl.DataFrame, rules: Rules) -> Judgement:
    """Decode records of events and judge each.

    Args:
        records: Rows of `resources.records.RECORD_SCHEMA`.
        rules: What they are judged by.

    Raises:
        RegistryUnavailable: The schema of a record cannot be told now.
    """
    decoded = decode(records, rules.schemas, rules.aliases)
    events = judged(decoded.events.lazy(), rules.allowed_lateness).collect()
    unbelievable = (
        events.filter(~pl.col("is_valid"))
        .with_columns(reasons=reasons(rules.allowed_lateness))
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
        accepted=without_addresses(valid.drop("is_valid", "bad_timestamps")),
        quarantined=pl.concat([quarantine.transform(malformed), quarantine.transform(unbelievable)]),
        dead_lettered=dead_letters.transform(decoded.undecodable),
    )
