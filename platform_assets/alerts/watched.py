"""What is looked at: the tables, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
        upstream: For each asset the names of what it is computed from; a stream's table stands on its stream, a
            stream on Kafka.
        checks: The checks that there are.
        jobs: Names of the jobs that there are.
        partitions: For each asset that has partitions by time their definition.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    upstream: Mapping[str, Collection[str]] = field(default_factory=dict)
    checks: Collection[dg.AssetCheckKey] = ()
    jobs: Collection[str] = ()
    partitions: Mapping[str, dg.TimeWindowPartitionsDefinition] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Sequence[Table], repository: dg.RepositoryDefinition) -> Watched:
        """What some tables say, and what Dagster has loaded."""
        graph = repository.asset_graph
        nodes = {"/".join(node.key.path): node for node in graph.asset_nodes}
        upstream = {name: {"/".join(key.path) for key in node.parent_keys} for name, node in nodes.items()}
        for stream in STREAMS:
            upstream.setdefault(stream.table.name, set()).add(stream_node(stream))
            upstream[stream_node(stream)] = {KAFKA}
        return cls(
            {table.name: table for table in tables},
            upstream,
            graph.asset_check_keys,
            frozenset(repository.job_names),
            {
                name: node.partitions_def
                for name, node in nodes.items()
                if isinstance(node.partitions_def, dg.TimeWindowPartitionsDefinition)
            },
        )

    def judges(self, table: str, check: str, partition: str | None) -> bool:
        """Whether a check is still there, and what it judged: a partition, or all of the table.

        Which checks a table has whose file is wrong is not known: they are taken to be there.
        """
        is_wrong = table in self.upstream and table not in self.tables
        is_there = is_wrong or dg.AssetCheckKey(dg.AssetKey(table.split("/")), check) in self.checks
        return is_there and (partition is None or partition >= self.first_partition(table))

    def runs(self, name: str) -> bool:
        """Whether a job, or an asset, is still there."""
        return name in self.jobs or name in self.upstream

    def first_partition(self, asset: str) -> str:
        """The key of an asset's first partition; empty where it has none. Keys are ordered as time is."""
        definition = self.partitions.get(asset)
        return "" if definition is None else definition.start.strftime(definition.fmt)

    def owner(self, table: str) -> str:
        """Who answers for a table."""
        return self.tables[table].owner if table in self.tables else OWNER


def stream_node(stream: Stream) -> str:
    """A stream's node in the graph of what waits for what."""
    return f"stream:{stream.name}"
