"""Run the cases of other systems that are in a folder: ``python -m tests.conformance FOLDER``.

Prints, for each family, how many cases passed, failed, and are out of scope, by which rule; and a line for each
failure. The exit status is 1 where one failed, 2 where there is nothing to run.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections import Counter
from pathlib import Path
from types import ModuleType

from tests.conformance.outcome import OutOfScope, shared

_FAMILIES = ("product_insights", "window_funnel", "experiment_statistics", "activity_tables")


def main(arguments: list[str] | None = None) -> int:
    """Run every family that is there; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=shared(), help="the folder of families")
    parser.add_argument("--match", default="", help="only the cases whose name has this in it")
    parser.add_argument("--traceback", action="store_true", help="where each failure came from")
    chosen = parser.parse_args(arguments)
    families = [module for module in map(_module, _FAMILIES) if module and (chosen.folder / module.FAMILY).is_dir()]
    if not families:
        print(f"no family of cases in {chosen.folder}: there should be some of {', '.join(_FAMILIES)}", file=sys.stderr)  # noqa: T201
        return 2
    failures = [_run(module, chosen.folder / module.FAMILY, chosen.match, chosen.traceback) for module in families]
    return 1 if any(failures) else 0


def _module(name: str) -> ModuleType | None:
    full = f"tests.conformance.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as missing:
        if missing.name != full:
            raise
        return None


def _run(module: ModuleType, folder: Path, match: str, with_traceback: bool) -> int:
    suites: dict[str, Counter[str]] = {}
    rules: Counter[str] = Counter()
    lines: list[str] = []
    for told in module.cases(folder):
        # A family gives its cases, or pairs of a name and a case.
        name, case = told if isinstance(told, tuple) else (str(told), told)
        if match not in name:
            continue
        outcome = "passed"
        try:
            module.run(case)
        except OutOfScope as reason:
            outcome = "out of scope"
            rules[str(reason)] += 1
        except Exception as failure:  # noqa: BLE001 (a case that breaks is a case that failed; the others still run)
            outcome = "failed"
            lines.append(
                f"  FAILED {name}: {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
            )
            if with_traceback:
                lines.append(traceback.format_exc())
        suite = getattr(case, "suite", module.FAMILY)
        suites.setdefault(suite, Counter())[outcome] += 1
    total = sum(suites.values(), Counter())
    _say(module.FAMILY, total)
    for suite, counted in suites.items():
        if len(suites) > 1:
            _say(f"  {suite}", counted)
    for rule, count in rules.most_common():
        print(f"  out of scope {count}: {rule}")  # noqa: T201
    print(*lines, sep="\n", end="\n" if lines else "")  # noqa: T201
    return total["failed"]


def _say(name: str, counted: Counter[str]) -> None:
    print(f"{name}: " + ", ".join(f"{counted[kind]} {kind}" for kind in ("passed", "failed", "out of scope")))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
