"""The dimensions as functions of `silver/row_changes`: brought up to date by the rows touched, or computed anew."""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from platform_assets.changes import touching
from platform_assets.changes.dimension import Dimension
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.changes.judgement import bucket_of, typed
from platform_assets.platform import Platform
from platform_assets.silver import row_changes
from platform_assets.streams.epochs import WATERMARK_APP
from resources.delta_log import changes
from resources.lake import Lake, VersionGone, Writer, retrying


@dataclass(frozen=True)
class Touched:
    """The rows of source tables that changed.

    Attributes:
        keys: ``source_table``, ``row_key``, ``bucket``, each once.
        truncated: The source tables that were emptied.
    """

    keys: pl.DataFrame
    truncated: frozenset[str]


class Dimensions:
    """The one writer of the dimensions.

    Args:
        lake: The lake; the tables must exist.

    Raises:
        Fenced: From `catch_up`: another writer took over; stop.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._writers = {dimension.table.name: Writer(lake, dimension.table) for dimension in DIMENSIONS}

    def catch_up(self) -> list[Dimension]:
        """Take in what `silver/row_changes` holds, in one commit a dimension. Returns those whose rows changed.

        Raises:
            VersionGone: Its log no longer tells what came since; materialize the dimension.
        """
        source = self._lake.open(row_changes.TABLE)
        taken = {name: writer.progress(row_changes.FOLLOWS) or 0 for name, writer in self._writers.items()}
        spans = {since: touched(self._lake, since, source.version()) for since in set(taken.values())}
        return [
            dimension
            for dimension in DIMENSIONS
            if self._take_in(dimension, spans[taken[dimension.table.name]], source)
        ]

    def _take_in(self, dimension: Dimension, span: Touched, source: DeltaTable) -> bool:
        writer = self._writers[dimension.table.name]
        if (writer.progress(row_changes.FOLLOWS) or 0) == source.version():
            return False
        keys = None
        if dimension.source_table not in span.truncated:
            keys = span.keys.filter(source_table=dimension.source_table)
        progress = {row_changes.FOLLOWS: source.version(), **_watermark(writer, source)}
        if keys is not None and keys.is_empty():
            writer.record(progress)
            return False

        def attempt() -> None:
            writer.refresh()
            rows = compute(self._lake, dimension, source, keys)
            present = self._lake.scan(dimension.table, handle=writer.handle)
            if keys is None:
                touching.note(self._lake, dimension, present, rows, writer.version + 1)
                writer.commit(rows, progress, predicate="bucket >= 0")
                return
            buckets = keys["bucket"].unique().sort()
            there = present.filter(pl.col("bucket").is_in(buckets.implode())).collect()
            touched_rows = _columns_of(dimension, keys["row_key"])
            former = there.join(touched_rows, on=dimension.key, how="semi")
            touching.note(self._lake, dimension, former.lazy(), rows, writer.version + 1)
            others = there.join(touched_rows, on=dimension.key, how="anti")
            wanted = f"bucket IN ({', '.join(map(str, buckets))})"
            writer.commit(pl.concat([others, rows]), progress, predicate=wanted)

        retrying(f"merge into {dimension.table.name}", attempt)
        return True


def touched(lake: Lake, since: int, until: int) -> Touched:
    """What changed in `silver/row_changes` after one version up to another, by its log.

    Raises:
        VersionGone: The log no longer tells.
    """
    columns = ["source_table", "op", "row_key"]
    rows = [
        part
        for change in changes(lake, row_changes.TABLE, since, until, columns)
        for part in (change.added, change.removed)
    ]
    found = pl.concat([row_changes.TABLE.empty().select(columns), *rows])
    keys = found.filter(pl.col("row_key").is_not_null()).select("source_table", "row_key").unique()
    buckets = [bucket_of(table, key) for table, key in keys.iter_rows()]
    return Touched(
        keys.with_columns(bucket=pl.Series(buckets, dtype=pl.Int32)),
        frozenset(found.filter(op="t")["source_table"]),
    )


def compute(lake: Lake, dimension: Dimension, source: DeltaTable, keys: pl.DataFrame | None) -> pl.DataFrame:
    """Rows of a dimension out of a version of `silver/row_changes`.

    Args:
        lake: The lake.
        dimension: The dimension.
        source: The version of the changes.
        keys: The rows wanted, ``row_key`` and ``bucket``; all where None.
    """
    told = lake.scan(row_changes.TABLE, handle=source).filter(pl.col("source_table") == dimension.source_table)
    if keys is not None:
        of_keys = pl.col("bucket").is_in(keys["bucket"].unique().implode()) & pl.col("row_key").is_in(
            keys["row_key"].implode()
        )
        told = told.filter(of_keys | (pl.col("op") == "t"))
    wanted = told.filter(pl.col("row").is_not_null() | (pl.col("op") == "t")).collect()
    rows = typed(dimension, wanted.lazy()).collect()
    places = rows.filter(pl.col("row_key").is_not_null()).select(*dimension.key, "bucket").unique(dimension.key)
    return (
        dimension.compute(rows.lazy().drop("bucket"))
        .join(places.lazy(), on=dimension.key, how="left")
        .select(dimension.table.schema.names())
        .sort(dimension.table.key)
        .collect()
    )


def rebuild(dimension: Dimension, platform: Platform) -> None:
    """Compute a dimension anew, from the changes that it has taken in. Changes may come in meanwhile.

    Where the log no longer tells what it has taken in, it is computed from all there is, and goes on from there; a
    writer that is at it is fenced, and the next one goes on.
    """
    lake = platform.lake

    def attempt() -> None:
        writer = Writer(lake, dimension.table)
        taken = writer.progress(row_changes.FOLLOWS) or 0
        try:
            source = lake.open(row_changes.TABLE, taken)
        except VersionGone:
            source = lake.open(row_changes.TABLE)
        rows = compute(lake, dimension, source, None)
        touching.note(lake, dimension, lake.scan(dimension.table, handle=writer.handle), rows, writer.version + 1)
        # A commit with progress is the next version or fails, which `touching` rests on. Before any change there is
        # nothing to tell, and progress would fence a writer that has not begun.
        progress = {row_changes.FOLLOWS: source.version(), **_watermark(writer, source)} if source.version() else {}
        writer.commit(rows, progress, predicate="bucket >= 0")

    retrying(f"rebuild of {dimension.table.name}", attempt)


def _watermark(writer: Writer, source: DeltaTable) -> dict[str, int]:
    """The watermark of the changes taken in, as progress: how far a dimension's own log knows the database."""
    writer.progress(WATERMARK_APP)
    told = source.transaction_version(WATERMARK_APP)
    return {} if told is None else {WATERMARK_APP: told}


def _columns_of(dimension: Dimension, row_keys: pl.Series) -> pl.DataFrame:
    """The keys of rows as the columns that they are made of."""
    schema = {name: dimension.row_schema[name] for name in dimension.key}
    return pl.DataFrame([json.loads(key) for key in row_keys], schema=schema, orient="row")
