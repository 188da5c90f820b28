"""Metrics in YAML: a file in `gold/metrics` is an asset, with partitions, checks, freshness and a picture.

A file says which ``metric`` it is (`KINDS`), a ``description``, an ``owner`` where it is not the platform's, a
``dialect`` (`semantics.dialects`) where it is not ours, and the fields of that kind's specification, which come before
the dialect's; its name is the metric's. What is wrong with it is an error that names file, line
and field, and it stands alone: the other files are read all the same (`metric_numbers.survey`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from platform_assets.semantics.cohorts import Cohort
from platform_assets.semantics.dialects import OURS, completed
from platform_assets.semantics.experiment.specification import DatedExperiment
from platform_assets.semantics.funnels import Funnel
from platform_assets.semantics.lifecycle import Lifecycle
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.specification import Specification
from platform_assets.semantics.stickiness import RollingStickiness
from platform_assets.semantics.trends import Trend

FOLDER = Path(__file__).parent / "metrics"
"""The project's own metrics."""

KINDS: Mapping[str, type[Specification]] = {
    "funnel": Funnel,
    "retention": Retention,
    "lifecycle": Lifecycle,
    "experiment": DatedExperiment,
    "cohort": Cohort,
    "trend": Trend,
    "stickiness": RollingStickiness,
}
"""What can be said in a file, and the specification that it is checked against."""

FOLDERS: Mapping[str, str] = {
    "funnel": "funnels",
    "retention": "retention",
    "lifecycle": "lifecycle",
    "experiment": "experiment_results",
    "cohort": "cohorts",
    "trend": "trends",
    "stickiness": "stickiness",
}
"""By kind, the folder of `gold` that its tables are in."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
_KIND = re.compile(r"^metric:\s*[\"']?(\w+)", re.MULTILINE)
_OWNER = re.compile(r"team:\S.*|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_NO_COLUMNS = ("description", "event", "name", "value")
"""Fields in which the name of a column is more likely another word."""
_OWN_FIELDS = ("metric", "description", "owner", "dialect")


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
        node: The file as it was written, to tell lines by.
    """

    name: str
    kind: str
    description: str
    owner: str
    specification: Specification
    node: yaml.Node = dataclasses.field(repr=False, compare=False)

    def at(self, *path: int | str, says: str | None = None) -> str:
        """File and line of a field, or of the deepest one on the way to it that the file has.

        Args:
            path: The way to the field.
            says: A value of which only that is known: its line below the field, where it is there.
        """
        _, line, node = _placed(self.node, path)
        found = [] if says is None else sorted(_saying(node, says))
        return f"{self.name}.yaml:{found[0][1] if found else line}"

    @property
    def table_name(self) -> str:
        """The name of its table."""
        return f"gold/{FOLDERS[self.kind]}/{self.name}"

    @property
    def definition_version(self) -> int:
        """A number that is another one as soon as the definition is: a digest of the specification."""
        said = json.dumps(self.specification.model_dump(mode="json"), sort_keys=True)
        return int.from_bytes(hashlib.sha256(f"{self.kind}:{said}".encode()).digest()[:6], "big")


@dataclass(frozen=True)
class WrongFile:
    """A file that is no metric.

    Attributes:
        name: The file's name, without its ending.
        kind: The key of `KINDS` that it says; None where it says none that there is.
        faults: What is wrong, a line for each fault: file, line, field, and what to do.
    """

    name: str
    kind: str | None
    faults: str

    @property
    def table_name(self) -> str:
        """The name of the table that it would have; one under `gold/metrics` where the file tells none."""
        if self.kind is None or _NAME.fullmatch(self.name) is None:
            return f"gold/metrics/{_NO_NAME.sub('_', self.name)}"
        return f"gold/{FOLDERS[self.kind]}/{self.name}"


def paths(folder: Path) -> list[Path]:
    """The files of a folder of metrics, by name."""
    return sorted(folder.glob("*.yaml"))


def as_they_are(folder: Path = FOLDER) -> tuple[tuple[str, int, int], ...]:
    """By what it is told that files of a folder came, changed or went: name, time of change (ns), bytes."""
    found = []
    for path in paths(folder):
        with suppress(FileNotFoundError):  # it went just now
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def load(folder: Path = FOLDER) -> tuple[Metric, ...]:
    """The metrics of a folder's ``*.yaml``, by name.

    Raises:
        MetricFileError: Files are wrong; every fault of each is named.
    """
    found, faults = [], []
    for path in paths(folder):
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
        text = path.read_text(encoding="utf-8")
        node, told = yaml.compose(text), yaml.safe_load(text)
    except OSError as error:
        msg = f"{path.name}: it cannot be read: {error.strerror}"
        raise MetricFileError(msg) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)  # none of a text that is no UTF-8, a day that no calendar has
        msg = f"{path.name}{'' if mark is None else f':{mark.line + 1}'}: not YAML: {error}"
        raise MetricFileError(msg) from error
    if node is None or not isinstance(told, dict):
        msg = f"{path.name}:1: a metric is a mapping of fields, beginning with metric: {', '.join(KINDS)}"
        raise MetricFileError(msg)
    kind = told.get("metric")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "is missing" if kind is None else f"{kind!r} is unknown"
        msg = f"{path.name}:{_placed(node, ('metric',))[1]}: metric: {said}; there are {', '.join(KINDS)}"
        raise MetricFileError(msg)
    defaults = {"description": "", "owner": "team:data-platform", "dialect": OURS}
    for field, default in defaults.items():
        value = told.get(field, default)
        if not isinstance(value, str) or not value.strip():
            msg = f"{path.name}:{_placed(node, (field,))[1]}: {field}: say it in words, got {value!r}"
            raise MetricFileError(msg)
    fields = {name: value for name, value in told.items() if name not in _OWN_FIELDS}
    if "name" in KINDS[kind].model_fields:
        fields.setdefault("name", path.stem)
    try:
        fields = completed(told.get("dialect", defaults["dialect"]), KINDS[kind], fields)
    except ValueError as error:
        msg = f"{path.name}:{_placed(node, ('dialect',))[1]}: dialect: {error}"
        raise MetricFileError(msg) from error
    try:
        specification = KINDS[kind].model_validate(fields)
    except ValidationError as error:
        raise MetricFileError("\n".join(_faults(path.name, node, error))) from error
    slips = [
        f"{path.name}:{_placed(node, place)[1]}: {'.'.join(map(str, place))}: {wrong}"
        for place, wrong in _slips(specification)
    ]
    if slips:
        raise MetricFileError("\n".join(slips))
    owner = told.get("owner", defaults["owner"])
    if _OWNER.fullmatch(owner) is None:
        msg = f"{path.name}:{_placed(node, ('owner',))[1]}: owner: an address, or a team as team:growth, got {owner!r}"
        raise MetricFileError(msg)
    return Metric(path.stem, kind, told["description"].strip(), owner, specification, node)


def kind_of(path: Path) -> str | None:
    """The kind that a file says, be the rest of it no YAML at all; None where it says none that there is."""
    try:
        said = _KIND.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return said[1] if said is not None and said[1] in KINDS else None


def _slips(specification: Specification) -> Iterator[tuple[Sequence[int | str], str]]:
    """What a specification may say by function and a file may not: a number of its own that is none, or a slip.

    A funnel of one step is a count, and a step that says nothing is any event (semantics 7 has steps, and predicates).

    Yields:
        The path to the field, and what is wrong with it.
    """
    if not isinstance(specification, Funnel):
        return
    if len(specification.steps) == 1:
        yield ("steps",), "a funnel has two steps or more, got 1; how many persons do one thing is a trend of actors"
    for field in ("steps", "exclusions"):
        for number, step in enumerate(getattr(specification, field)):
            names = (step.event,) if isinstance(step.event, str) else step.event
            if names is not None and not all(name.strip() for name in names or ("",)):
                yield (field, number, "event"), f"names no event, got {step.event!r}; say its name"
            elif not step.model_fields_set & {"event", "where", "any_of", "name"}:
                yield (field, number), "says nothing; say which event it is or, of any event, a name"


def _faults(file: str, node: yaml.Node, error: ValidationError) -> list[str]:
    found: dict[str, None] = {}
    faults = error.errors()
    deeper = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    for fault in faults:
        if fault["loc"] in deeper:  # a list is short of the items that are wrong
            continue
        place, line, _ = _placed(node, fault["loc"])
        field = ".".join(map(str, place)) or "the metric"
        given = f", got {fault['input']!r}" if fault["type"] not in ("missing", "value_error") else ""
        message = fault["msg"].removeprefix("Value error, ")
        found[f"{file}:{line}: {field}: {message}{given}"] = None
    return list(found)


def _placed(node: yaml.Node, path: Sequence[int | str]) -> tuple[list[int | str], int, yaml.Node]:
    """The parts of pydantic's path that the file has (others name members of a union), the deepest and its line.

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
    return place, int(line) + 1, node


def _saying(node: yaml.Node, value: str, of: str = "") -> Iterator[tuple[bool, int]]:
    """The lines at which a value stands, each with whether it may well be another word there."""
    if isinstance(node, yaml.MappingNode):
        for key, below in node.value:
            yield from _saying(below, value, key.value)
    elif isinstance(node, yaml.SequenceNode):
        for below in node.value:
            yield from _saying(below, value, of)
    elif node.value == value:
        yield of in _NO_COLUMNS, node.start_mark.line + 1
