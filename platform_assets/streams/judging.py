"""Records judged for the first time, or once more as they were judged then.

What becomes of a record depends on it alone, and on what is known of schemas; and a fix may change the rules. So what
was refused once stays refused, whoever judges it again (a table that catches up, a rebuild), until a replay admits it:
then it is let in, by every table as soon as that one has taken the admission in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from partitions import Window, floor_hour
from platform_assets.bronze import dead_letters
from platform_assets.bronze.schemas import KnownSchemas
from platform_assets.silver import admissions, quarantine
from platform_assets.silver.judgement import Judgement, Rules
from platform_assets.silver.outcomes import Tallies, tally
from platform_assets.streams.stream import Stream
from resources.lake import Lake, within
from resources.records import COORDINATES, RECORD_SCHEMA
from resources.schemas import registry_of
from resources.settings import Settings


def rules_of(lake: Lake, settings: Settings) -> Rules:
    """The rules of a deployment. Connects to nothing yet."""
    return Rules(settings.allowed_lateness, KnownSchemas(lake, registry_of(settings)), settings.field_aliases)


@dataclass(frozen=True)
class Admitted:
    """Records that were let in.

    Attributes:
        rows: Of `silver/admissions`.
        judgement: What becomes of them now.
    """

    rows: pl.DataFrame
    judgement: Judgement

    @property
    def let_in(self) -> pl.DataFrame:
        """The rows whose records are valid now; one that is refused all the same stays where it is."""
        return self.rows.join(self.judgement.accepted, on=COORDINATES, how="semi")

    def tallies(self) -> Tallies:
        """How the outcomes of events change: what the records are now, less what they were."""
        was = self.rows.with_columns(occurred_at="refused_at")
        quarantined, dead = (was.filter(refused_as=kind) for kind in ("quarantined", "dead_lettered"))
        before = Tallies(tally(was.clear()), tally(quarantined), tally(dead))
        return Tallies.total([self.judgement.tallies(), before.taken_back()])


class Judging:
    """The judge of a stream's records.

    Args:
        lake: The lake; the tables of refusals and admissions must exist.
        stream: The stream.
        rules: What records are judged by.

    Raises:
        RegistryUnavailable: From any method: the schema of a record cannot be told now.
    """

    def __init__(self, lake: Lake, stream: Stream, rules: Rules) -> None:
        self._lake = lake
        self._rules = rules
        self.stream = stream

    def first(self, records: pl.DataFrame) -> Judgement:
        """Judge records that nobody judged before."""
        return self.stream.judge(records, self._rules)

    def again(self, records: pl.DataFrame, level: int) -> Judgement:
        """Judge records as they were judged, with the admissions up to one.

        Args:
            records: Rows of `RECORD_SCHEMA`; some may never have been judged.
            level: The newest admission that counts.
        """
        if records.is_empty():
            return self.first(records)
        window = _ingested(records)
        told = self._admissions().filter(within(admissions.TABLE, window)).collect()
        told = told.join(records, on=COORDINATES, how="semi")
        counts = told.filter(pl.col("admission") <= level)
        plain = records.join(counts, on=COORDINATES, how="anti", maintain_order="left")
        judged = Judgement.of_all([self.first(plain), *self._by_their_own_rules(records, counts)])
        refused = Judgement.of_all(
            [self._refused(judged, records, window, told), self._not_yet(judged, records, told, level)]
        )
        overruled = pl.concat(part.select(COORDINATES) for part in (refused.quarantined, refused.dead_lettered))
        return Judgement.of_all([judged.without(overruled), refused])

    def admitted(self, since: int, until: int) -> Admitted:
        """What the admissions after one up to another let in."""
        rows = self._admissions().filter(pl.col("admission").is_between(since, until, closed="right")).collect()
        return Admitted(rows, self.again(self.records_at(rows), until))

    def admitted_late(self, window: Window, beyond: Window, level: int) -> pl.DataFrame:
        """Admitted records of a window of event time that were ingested outside another window.

        Args:
            window: Of event time.
            beyond: Of ingestion; what came in it is left out.
            level: The newest admission that counts.
        """
        outside = (pl.col("ingested_at") < beyond.start) | (pl.col("ingested_at") >= beyond.end)
        inside = (pl.col("occurred_at") >= window.start) & (pl.col("occurred_at") < window.end)
        return self.records_at(self._admissions().filter(inside, outside, pl.col("admission") <= level).collect())

    def records_at(self, places: pl.DataFrame) -> pl.DataFrame:
        """The stream's records at some coordinates.

        Args:
            places: ``topic``, ``epoch``, ``partition``, ``offset``, ``ingested_at``.
        """
        if places.is_empty():
            return pl.DataFrame(schema=RECORD_SCHEMA)
        return (
            self._lake.scan(self.stream.table, _ingested(places))
            .filter(pl.col("offset").is_between(places["offset"].min(), places["offset"].max()))
            .join(places.lazy().select(COORDINATES), on=COORDINATES, how="semi")
            .select(RECORD_SCHEMA.names())
            .collect()
        )

    def _by_their_own_rules(self, records: pl.DataFrame, admitted: pl.DataFrame) -> Iterator[Judgement]:
        """Judge admitted records by the rules that they were let in by, whatever the settings are now."""
        rules = ["is_late_allowed", "field_aliases"]
        for (is_late_allowed, aliases), rows in admitted.group_by(rules, maintain_order=True):
            those = records.join(rows, on=COORDINATES, how="semi", maintain_order="left")
            own = self._rules.by_names(json.loads(str(aliases)))
            yield self.stream.judge(those, own.however_late() if is_late_allowed else own)

    def _admissions(self) -> pl.LazyFrame:
        return self._lake.scan(admissions.TABLE).filter(pl.col("stream") == self.stream.name)

    def _refused(self, judged: Judgement, records: pl.DataFrame, window: Window, told: pl.DataFrame) -> Judgement:
        """What was refused and never admitted, as it stands in the tables of refusals."""
        stored = [
            self._lake.scan(table, window)
            .join(records.lazy().select(COORDINATES), on=COORDINATES, how="semi")
            .join(told.lazy().select(COORDINATES), on=COORDINATES, how="anti")
            .select(table.schema.names())
            .collect()
            for table in (quarantine.TABLE, dead_letters.TABLE)
        ]
        return Judgement(judged.accepted.clear(), *stored)

    @staticmethod
    def _not_yet(judged: Judgement, records: pl.DataFrame, told: pl.DataFrame, level: int) -> Judgement:
        """What was admitted later than the level, as it was refused."""
        later = told.filter(pl.col("admission") > level).select(
            *COORDINATES, "refused_as", "reasons", pl.col("refused_at").alias("occurred_at")
        )
        refused = records.join(later, on=COORDINATES)
        return Judgement(
            judged.accepted.clear(),
            quarantine.transform(refused.filter(refused_as="quarantined")),
            dead_letters.transform(refused.filter(refused_as="dead_lettered")),
        )


def _ingested(records: pl.DataFrame) -> Window:
    """The whole hours in which some records were ingested."""
    first, last = records.select(first=pl.col("ingested_at").min(), last=pl.col("ingested_at").max()).row(0)
    return Window(floor_hour(first), floor_hour(last) + timedelta(hours=1))
