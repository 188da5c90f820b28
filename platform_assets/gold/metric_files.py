"""Metrics in YAML: a file in `gold/metrics` is an asset, with partitions, checks, freshness and a picture.

A file says its ``kind``, a ``description``, an ``owner`` where it is not the platform's, and the fields of that kind's
specification; its name is the metric's. What is wrong with it is an error that names file, line and field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.specification import Specification

FOLDER = Path(__file__).parent / "metrics"
"""The project's own metrics."""

KINDS: Mapping[str, type[Specification]] = {"funnel": Funnel}
"""What can be said in a file, and the specification that it is checked against."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OWN_FIELDS = ("kind", "description", "owner")


class MetricFileError(ValueError):
    """A file of metrics is wrong: file, line, field, and what to do."""


@dataclass(frozen=True)
class Metric:
    """One metric, as its file says it.

    Attributes:
        name: The file's name, without its ending.
        kind: A key of `KINDS`.
        description: What it is for.
        owner: Who answers for it.
        specification: What it is.
    """

    name: str
    kind: str
    description: str
    owner: str
    specification: Specification

    @property
    def definition_version(self) -> int:
        """A number that is another one as soon as the definition is: a digest of the specification."""
        said = json.dumps(self.specification.model_dump(mode="json"), sort_keys=True)
        return int.from_bytes(hashlib.sha256(f"{self.kind}:{said}".encode()).digest()[:6], "big")


def load(folder: Path = FOLDER) -> tuple[Metric, ...]:
    """The metrics of a folder's ``*.yaml``, by name.

    Raises:
        MetricFileError: A file is wrong; every fault of the file is named.
    """
    return tuple(read(path) for path in sorted(folder.glob("*.yaml")))


def read(path: Path) -> Metric:
    """The metric of one file.

    Raises:
        MetricFileError: It is wrong.
    """
    if _NAME.fullmatch(path.stem) is None:
        msg = f"{path.name}: a metric is named by small letters, digits and underscores, beginning with a letter"
        raise MetricFileError(msg)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"))
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        msg = f"{path.name}: not YAML: {error}"
        raise MetricFileError(msg) from error
    if node is None or not isinstance(told, dict):
        msg = f"{path.name}:1: a metric is a mapping of fields, beginning with kind: {', '.join(KINDS)}"
        raise MetricFileError(msg)
    kind = told.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "is missing" if kind is None else f"{kind!r} is unknown"
        msg = f"{path.name}:{_line(node, ('kind',))}: kind: {said}; the kinds are {', '.join(KINDS)}"
        raise MetricFileError(msg)
    for field in ("description", "owner"):
        value = told.get(field, "" if field == "description" else "team:data-platform")
        if not isinstance(value, str) or not value.strip():
            msg = f"{path.name}:{_line(node, (field,))}: {field}: say it in words, got {value!r}"
            raise MetricFileError(msg)
    fields = {name: value for name, value in told.items() if name not in _OWN_FIELDS}
    try:
        specification = KINDS[kind].model_validate(fields)
    except ValidationError as error:
        raise MetricFileError("\n".join(_faults(path.name, node, error))) from error
    owner = told.get("owner", "team:data-platform")
    return Metric(path.stem, kind, told["description"].strip(), owner, specification)


def _faults(file: str, node: yaml.Node, error: ValidationError) -> list[str]:
    found: dict[str, None] = {}
    for fault in error.errors():
        place = [part for part in fault["loc"] if _is_in_file(part)]
        field = ".".join(str(part) for part in place) or "the metric"
        given = f", got {fault['input']!r}" if fault["type"] not in ("missing", "value_error") else ""
        message = fault["msg"].removeprefix("Value error, ")
        found[f"{file}:{_line(node, place)}: {field}: {message}{given}"] = None
    return list(found)


def _is_in_file(part: int | str) -> bool:
    """Whether a part of pydantic's path is one of the file; others name the members of a union."""
    return isinstance(part, int) or (_FIELD.fullmatch(part) is not None and part not in _UNION_MEMBERS)


_FIELD = re.compile(r"[a-z_][a-z_0-9]*")
_UNION_MEMBERS = frozenset({"str", "bool", "int", "float", "tuple"})


def _line(node: yaml.Node, place: Sequence[int | str]) -> int:
    """The line, from 1, of the deepest part of a path that the file has."""
    mark = node.start_mark.line
    for part in place:
        below: Any = None
        if isinstance(node, yaml.MappingNode):
            below = next(((key, value) for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            below = (node.value[part], node.value[part])
        if below is None:
            break
        mark, node = below[0].start_mark.line, below[1]
    return int(mark) + 1
