"""Metrics in YAML: a file in `gold/metrics` is an asset, with partitions, checks, freshness and a picture.

A file says which ``metric`` it is (`KINDS`), a ``description``, an ``owner`` where it is not the platform's, and the
fields of that kind's specification; its name is the metric's. What is wrong with it is an error that names file, line
and field.
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

from platform_assets.semantics.cohorts import Cohort
from platform_assets.semantics.experiment.specification import DatedExperiment
from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.lifecycle import Lifecycle
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.specification import Specification

FOLDER = Path(__file__).parent / "metrics"
"""The project's own metrics."""

KINDS: Mapping[str, type[Specification]] = {
    "funnel": Funnel,
    "retention": Retention,
    "lifecycle": Lifecycle,
    "experiment": DatedExperiment,
    "cohort": Cohort,
}
"""What can be said in a file, and the specification that it is checked against."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OWN_FIELDS = ("metric", "description", "owner")


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
        MetricFileError: Files are wrong; every fault of each is named.
    """
    found, faults = [], []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found.append(read(path))
        except MetricFileError as error:
            faults.append(str(error))
    if faults:
        raise MetricFileError("\n".join(faults))
    return tuple(found)


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
        msg = f"{path.name}:1: a metric is a mapping of fields, beginning with metric: {', '.join(KINDS)}"
        raise MetricFileError(msg)
    kind = told.get("metric")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "is missing" if kind is None else f"{kind!r} is unknown"
        msg = f"{path.name}:{_placed(node, ('metric',))[1]}: metric: {said}; there are {', '.join(KINDS)}"
        raise MetricFileError(msg)
    for field in ("description", "owner"):
        value = told.get(field, "" if field == "description" else "team:data-platform")
        if not isinstance(value, str) or not value.strip():
            msg = f"{path.name}:{_placed(node, (field,))[1]}: {field}: say it in words, got {value!r}"
            raise MetricFileError(msg)
    fields = {name: value for name, value in told.items() if name not in _OWN_FIELDS}
    if "name" in KINDS[kind].model_fields:
        fields.setdefault("name", path.stem)
    try:
        specification = KINDS[kind].model_validate(fields)
    except ValidationError as error:
        raise MetricFileError("\n".join(_faults(path.name, node, error))) from error
    owner = told.get("owner", "team:data-platform")
    return Metric(path.stem, kind, told["description"].strip(), owner, specification)


def _faults(file: str, node: yaml.Node, error: ValidationError) -> list[str]:
    found: dict[str, None] = {}
    faults = error.errors()
    deeper = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    for fault in faults:
        if fault["loc"] in deeper:  # a list is short of the items that are wrong
            continue
        place, line = _placed(node, fault["loc"])
        field = ".".join(map(str, place)) or "the metric"
        given = f", got {fault['input']!r}" if fault["type"] not in ("missing", "value_error") else ""
        message = fault["msg"].removeprefix("Value error, ")
        found[f"{file}:{line}: {field}: {message}{given}"] = None
    return list(found)


def _placed(node: yaml.Node, path: Sequence[int | str]) -> tuple[list[int | str], int]:
    """The parts of pydantic's path that the file has (others name members of a union), and the line of the deepest.

    The last part is a field that is missing, where the file does not have it.
    """
    place: list[int | str] = []
    line = node.start_mark.line
    for part in path:
        below: Any = None
        if isinstance(node, yaml.MappingNode):
            below = next(((key, value) for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            below = (node.value[part], node.value[part])
        if below is not None:
            place.append(part)
            line, node = below[0].start_mark.line, below[1]
    if path and isinstance(node, yaml.MappingNode) and path[-1] not in place[-1:]:
        place.append(path[-1])
    return place, int(line) + 1
