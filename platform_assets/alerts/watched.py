"""What is looked at: the tables, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from platform_assets.streams.stream import STREAMS, Stream
from platform_assets.table import Table

KAFKA = "kafka"
"""Kafka's node in the graph of what waits for what."""

OWNER = "team:data-platform"
"""Who answers for what is no table's."""

LONGEST_SEEN = 600
"""Most characters of what was seen that are told."""


@dataclass(frozen=True)
class Watched:
    """What is looked at.

    Attributes:
        tables: The tables, by name.
        upstream: For each table the names of what it is computed from; a stream's table stands on its stream, a
            stream on Kafka.
    """

    tables: Mapping[str, Table]
    upstream: Mapping[str, Collection[str]]

    @classmethod
    def of(cls, tables: Sequence[Table], assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]) -> Watched:
        """What some tables and their assets say."""
        specs = [spec for a in assets for spec in (a.specs if isinstance(a, dg.AssetsDefinition) else [a])]
        upstream: dict[str, set[str]] = {
            "/".join(spec.key.path): {"/".join(dep.asset_key.path) for dep in spec.deps} for spec in specs
        }
        for stream in STREAMS:
            upstream.setdefault(stream.table.name, set()).add(stream_node(stream))
            upstream[stream_node(stream)] = {KAFKA}
        return cls({table.name: table for table in tables}, upstream)

    def owner(self, table: str) -> str:
        """Who answers for a table."""
        return self.tables[table].owner if table in self.tables else OWNER


def stream_node(stream: Stream) -> str:
    """A stream's node in the graph of what waits for what."""
    return f"stream:{stream.name}"
