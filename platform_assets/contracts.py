"""Contracts of tables as documents of the Open Data Contract Standard, and what in them may not change unannounced.

A document is a function of a table's declaration: names, types, key, rules, references, service level. It is what a
table promises to its readers and asks of its writers, so a change of it that would break either needs another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import yaml
from polars.datatypes import DataTypeClass

from platform_assets.quality.conservation import CONSERVATIONS
from platform_assets.table import Column, Reference, Table

API_VERSION = "v3.1.0"
"""The version of the Open Data Contract Standard (https://bitol-io.github.io/open-data-contract-standard)."""

Document = Mapping[str, Any]

RETIRED = "retired"
"""The status of the contract of a table that is no more."""

_HEADER = "# Generated from the table's declaration by `headwater contracts`.\n"
_DIGEST = 1_000_000
"""Versions count up from 1; that of a metric is a digest of its definition, and always above this."""

_LOGICAL: dict[type[pl.DataType], tuple[str, str]] = {
    pl.String: ("string", "string"),
    pl.Boolean: ("boolean", "boolean"),
    pl.Int16: ("integer", "short"),
    pl.Int32: ("integer", "integer"),
    pl.Int64: ("integer", "long"),
    pl.Float64: ("number", "double"),
    pl.Date: ("date", "date"),
    pl.Binary: ("string", "binary"),
}
"""Types of the standard, and of Delta."""


def path_of(table: Table) -> PurePosixPath:
    """Where the contract of a table is, from the folder of all: ``gold/orders.yaml``."""
    return PurePosixPath(f"{table.name}.yaml")


def odcs(table: Table) -> dict[str, Any]:
    """The contract of a table, as a document of the Open Data Contract Standard.

    Its version is that of the table's definition. What the standard has no word for is in `customProperties`: units,
    what is provenance, how rows come in.
    """
    hours = table.service_level / timedelta(hours=1)
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"headwater.{table.name.replace('/', '.')}",
        "name": table.name,
        "version": str(table.version),
        "status": "active",
        "domain": "product analytics",
        "description": {"purpose": table.description},
        "team": {"name": table.owner.removeprefix("team:")},
        "schema": [
            {
                "id": _id(table),
                "name": _id(table),
                "physicalName": table.name,
                "physicalType": "table",
                "dataGranularityDescription": table.grain,
                "properties": [_property(table, column) for column in table.columns],
                "quality": [_unique(table), *_conserved(table)],
                **({"relationships": [_relationship(table, r) for r in table.references]} if table.references else {}),
            }
        ],
        "slaProperties": [
            {
                "property": "latency",
                "value": int(hours) if hours.is_integer() else hours,
                "unit": "h",
                "element": f"{_id(table)}.{table.window_on}",
            }
        ],
        "customProperties": [
            {"property": "updatePattern", "value": table.update},
            {"property": "partitions", "value": table.partitions or "none"},
        ],
    }


def document(contract: Document) -> str:
    """A contract as YAML, as it is committed."""
    told = yaml.dump(dict(contract), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return _HEADER + told


def parsed(text: str | bytes) -> dict[str, Any]:
    """A contract out of its YAML."""
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def breaking(old: Document, new: Document) -> list[str]:
    """What in a contract's change breaks somebody, each in a sentence; empty where nobody is.

    The standard leaves to its users what a breaking change is. Here it is one of a rule in either direction: a
    tightened one (a column that became required, a value that is no longer accepted, a raised minimum) breaks writers
    and the rows that are there, a loosened one breaks readers who rest on it. So does a column that is gone or of
    another type or unit, another key, a rule of the whole table that is gone, and a longer service level. Nobody is
    broken by another description, owner or layout, a column that is new and may be null, a reference, or a column that
    changed its place.

    Args:
        old: The contract that readers have.
        new: The one that it is to become.
    """
    if old["status"] == RETIRED:
        return []
    before, after = (_columns(contract) for contract in (old, new))
    told = []
    for name, column in before.items():
        if name not in after:
            told.append(f"column {name}: it was {column['physicalType']}, and is gone or has another name")
            continue
        told += [f"column {name}: {change}" for change in _changes(_rules(column), _rules(after[name]))]
    told += [
        f"column {name}: it is new and required, which rows that are there cannot satisfy"
        for name in after
        if name not in before and after[name]["required"]
    ]
    keys = [_key(columns) for columns in (before, after)]
    if keys[0] != keys[1]:
        told.append(f"the key was ({', '.join(keys[0])}), and is ({', '.join(keys[1])})")
    promises = [{rule["id"] for rule in contract["schema"][0]["quality"]} for contract in (old, new)]
    told += [f"its rule {rule} is gone" for rule in sorted(promises[0] - promises[1])]
    latencies = [contract["slaProperties"][0]["value"] for contract in (old, new)]
    if latencies[1] > latencies[0]:
        told.append(f"the service level was {latencies[0]} h, and is {latencies[1]} h")
    return told


def refused(old: Document, new: Document) -> list[str]:
    """Why a contract may not take another's place: it breaks somebody, and its version does not say so.

    Each reason names the table, what was, what is, and what to do.
    """
    name, versions = new["name"], [int(contract["version"]) for contract in (old, new)]
    found = breaking(old, new)
    counted = all(version < _DIGEST for version in versions)
    if counted and versions[1] < versions[0] and old["status"] != RETIRED:
        return [
            f"{name}: its version was {versions[0]}, and is {versions[1]}: one number would mean two things; raise it"
        ]
    if not found:
        return []
    if versions[1] > versions[0] or (not counted and versions[0] != versions[1]):
        return []
    way = (
        f"raise the table's version above {versions[0]}"
        if counted
        else "give the metric another name, and retire this one's contract"
    )
    return [f"{name}: {told}: a breaking change; take it back, or {way}" for told in found]


def refused_removal(old: Document) -> list[str]:
    """Why a table may not be gone: nobody was told."""
    if old["status"] == RETIRED:
        return []
    name = old["name"]
    told = (
        f"{name}: the table is gone: a breaking change; declare it again, or set `status: {RETIRED}` in its contract, "
        f"{name}.yaml, and leave the file there for as long as readers may look for it"
    )
    return [told]


def _id(table: Table) -> str:
    """As SQL names the table, but for the dot."""
    return table.name.replace("/", "_")


def _property(table: Table, column: Column) -> dict[str, Any]:
    logical = _typed(column.dtype)
    if column.minimum is not None:
        logical.setdefault("logicalTypeOptions", {})["minimum"] = column.minimum
    place = {name: number for number, name in enumerate(table.key, 1)}.get(column.name)
    laid = {name: number for number, name in enumerate(table.partition_by, 1)}.get(column.name)
    marks = {"unit": column.unit, "provenance": column.provenance, "protected": column.protected}
    custom = [{"property": mark, "value": value} for mark, value in marks.items() if value]
    return {
        "id": column.name,
        "name": column.name,
        **logical,
        "description": column.description,
        "required": not column.nullable,
        **({"unique": True} if table.key == (column.name,) else {}),
        **({"primaryKey": True, "primaryKeyPosition": place} if place else {}),
        **({"partitioned": True, "partitionKeyPosition": laid} if laid else {}),
        **({"classification": "personal"} if column.personal else {}),
        **({"quality": [_accepted(column.accepted)]} if column.accepted is not None else {}),
        **({"customProperties": custom} if custom else {}),
    }


def _typed(dtype: pl.DataType) -> dict[str, Any]:
    if isinstance(dtype, pl.Datetime):
        options = {"timezone": True, "defaultTimezone": "UTC"}
        return {"logicalType": "timestamp", "physicalType": "timestamp", "logicalTypeOptions": options}
    if isinstance(dtype, pl.Decimal):
        return {"logicalType": "number", "physicalType": f"decimal({dtype.precision},{dtype.scale})"}
    if isinstance(dtype, pl.List):
        items = _typed(_instance(dtype.inner))
        return {"logicalType": "array", "physicalType": f"array<{items['physicalType']}>", "items": items}
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _typed(_instance(field.dtype)) for field in dtype.fields}
        inner = ",".join(f"{name}:{typed['physicalType']}" for name, typed in fields.items())
        properties = [{"name": name, **typed} for name, typed in fields.items()]
        return {"logicalType": "object", "physicalType": f"struct<{inner}>", "properties": properties}
    if type(dtype) not in _LOGICAL:
        msg = f"the type {dtype} has no counterpart in a contract; add it to `_LOGICAL`"
        raise TypeError(msg)
    logical, physical = _LOGICAL[type(dtype)]
    return {"logicalType": logical, "physicalType": physical}


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _accepted(values: Iterable[str]) -> dict[str, Any]:
    return {
        "metric": "invalidValues",
        "arguments": {"validValues": list(values)},
        "mustBe": 0,
        "dimension": "conformity",
        "severity": "error",
    }


def _unique(table: Table) -> dict[str, Any]:
    return {
        "id": "unique_key",
        "metric": "duplicateValues",
        "arguments": {"properties": list(table.key)},
        "mustBe": 0,
        "dimension": "uniqueness",
        "severity": "error",
    }


def _conserved(table: Table) -> Iterator[dict[str, Any]]:
    for conservation in CONSERVATIONS:
        if conservation.table is table:
            yield {
                "id": conservation.name,
                "type": "text",
                "description": conservation.says,
                "dimension": "consistency",
                "severity": "error",
            }


def _relationship(table: Table, reference: Reference) -> dict[str, Any]:
    up = "../" * table.name.count("/")
    there = f"{up}{path_of(reference.table)}#schema/{_id(reference.table)}/properties/"
    here = f"schema/{_id(table)}/properties/"
    sides = {
        "from": [here + name for name in reference.columns],
        "to": [there + name for name in reference.referred],
    }
    single = len(reference.columns) == 1
    return {
        "type": "foreignKey",
        **{side: names[0] if single else names for side, names in sides.items()},
        "customProperties": [
            {"property": "severity", "value": "warning"},
            {"property": "toleratedShare", "value": reference.share},
        ],
    }


def _columns(contract: Document) -> dict[str, Document]:
    return {column["name"]: column for column in contract["schema"][0]["properties"]}


def _key(columns: Mapping[str, Document]) -> list[str]:
    keys = [column for column in columns.values() if column.get("primaryKey")]
    return [column["name"] for column in sorted(keys, key=lambda column: int(column["primaryKeyPosition"]))]


def _rules(column: Document) -> dict[str, object]:
    """What a column promises: by rule, as people read it."""
    accepted = [
        value
        for rule in column.get("quality", ())
        if rule["metric"] == "invalidValues"
        for value in rule["arguments"]["validValues"]
    ]
    custom = {p["property"]: p["value"] for p in column.get("customProperties", ())}
    return {
        "its type": column["physicalType"],
        "whether it is required": column["required"],
        "its accepted values": sorted(accepted) or "any",
        "its minimum": column.get("logicalTypeOptions", {}).get("minimum", "none"),
        "its unit": custom.get("unit", "none"),
        "whether addresses in it are protected": custom.get("protected", False),
    }


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for rule, was in old.items():
        if new[rule] != was:
            yield f"{rule} was {was}, and is {new[rule]}"
