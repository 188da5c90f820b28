"""`bronze/schemas`: the writers' schemas of all records in bronze, so that what was received stays readable."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from platform_assets.table import Column, Table
from resources.lake import Lake
from resources.schemas import Schemas, WriterSchema

TABLE = Table(
    name="bronze/schemas",
    description=(
        "The schemas that records were written with, as the schema registry told them when the first such record came: "
        "what is in bronze can be decoded without the registry, and is always decoded alike."
    ),
    grain="schema",
    key=("schema_id",),
    columns=(
        Column("schema_id", pl.Int64(), "Its id in the registry.", minimum=0),
        Column("kind", pl.String(), "Of the schema.", accepted=("AVRO", "PROTOBUF", "JSON")),
        Column("schema", pl.String(), "The schema; of Protobuf its file descriptor, serialised, in base64."),
        Column(
            "references",
            pl.List(pl.Struct({"name": pl.String(), "schema": pl.String()})),
            "The schemas that it imports, each after those that it imports itself.",
        ),
    ),
    partition_by=("kind",),
    window_on="schema_id",
    partitions=None,
    cluster_by=("schema_id",),
    update="append",
    service_level=timedelta(minutes=15),
    stats=("schema_id",),
)


_MISSED_SECONDS = 5.0
_MOST_MISSED = 200


class KnownSchemas:
    """The schemas that the lake knows, and those of the registry, which the lake knows from then on.

    Args:
        lake: The lake; the table must exist.
        registry: Asked for what the lake does not know.
    """

    def __init__(self, lake: Lake, registry: Schemas) -> None:
        self._lake = lake
        self._registry = registry
        self._known: dict[int, WriterSchema] = {}
        self._handle: DeltaTable | None = None
        self._missed: dict[int, float] = {}
        self._lock = threading.Lock()

    def get(self, schema_id: int) -> WriterSchema | None:
        """See `resources.schemas.Schemas.get`.

        What nobody knew is asked for again after a few seconds; bytes that only look framed name thousands of ids, and
        beyond some the registry is not asked for any more until then.
        """
        with self._lock:
            if schema_id not in self._known:
                self._look()
            if schema_id not in self._known:
                now = time.monotonic()
                self._missed = {missed: at for missed, at in self._missed.items() if now - at < _MISSED_SECONDS}
                if schema_id in self._missed or len(self._missed) >= _MOST_MISSED:
                    return None
                told = self._registry.get(schema_id)
                if told is None:
                    self._missed[schema_id] = now
                    return None
                # Two at once may both do this: the same schema stands twice then, which means what it means once.
                self._lake.append(TABLE, _row(told))
                self._known[schema_id] = told
            return self._known[schema_id]

    def _look(self) -> None:
        """Take up what the table has, where it changed."""
        if self._handle is None:
            self._handle = self._lake.open(TABLE)
        else:
            before = self._handle.version()
            self._handle.update_incremental()
            if self._handle.version() == before:
                return
        rows = self._lake.scan(TABLE, handle=self._handle).select("schema_id", "kind", "schema", "references").collect()
        self._known |= {
            schema_id: WriterSchema(schema_id, kind, text, tuple((told["name"], told["schema"]) for told in references))
            for schema_id, kind, text, references in rows.iter_rows()
        }


def _row(schema: WriterSchema) -> pl.DataFrame:
    references = [{"name": name, "schema": text} for name, text in schema.references]
    row = (schema.schema_id, schema.kind, schema.text, references)
    return pl.DataFrame([row], schema=TABLE.schema, orient="row")
