"""The published contracts of tables: written from the declarations, and never changed under their readers' feet.

A contract that is committed is a promise. It is written over only by one that breaks nobody, or that says by its
version that it does (`platform_assets.contracts`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_stack.stack import StackRefused
from platform_assets.contracts import RETIRED, document, odcs, parsed, path_of, refused, refused_removal
from platform_assets.table import Table
from platform_assets.tables import tables

FOLDER = Path("docs") / "contracts"
"""Where the contracts are, from the project's root."""

Contracts = Mapping[str, dict[str, Any]]
"""Contracts by their path from `FOLDER`."""


@dataclass(frozen=True)
class Told:
    """What became of a command.

    Attributes:
        refused: What is not as it should be, and what to do.
        done: What was done, or was found well.
    """

    refused: Sequence[str]
    done: Sequence[str]


def written(root: Path, declared: Sequence[Table] | None = None, *, check: bool = False) -> Told:
    """Write the contracts, but for those that would break somebody unannounced.

    What stands committed (`HEAD`) is what readers have; without git, what is in the folder.

    Args:
        root: The project.
        declared: The tables; by default all.
        check: Write nothing; only say what is not up to date.
    """
    made = _made(declared)
    there = _there(root)
    before = committed(root, "HEAD") if _is_repository(root) else there
    wrong = _broken(before, made, there)
    if wrong:
        return Told(wrong, [])
    texts = {name: document(contract) for name, contract in made.items()}
    files = {name: root / FOLDER / name for name in texts}
    outdated = [name for name, file in files.items() if not file.exists() or file.read_text("utf-8") != texts[name]]
    unknown = [name for name in there if name not in made and there[name]["status"] != RETIRED]
    if check:
        stale = [f"{FOLDER / name} is out of date: `headwater contracts` writes it" for name in outdated]
        stale += [f"{FOLDER / name} is of no table: remove it" for name in unknown]
        return Told(stale, [] if stale else [f"{len(made)} contracts are up to date"])
    for name in outdated:
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(texts[name], encoding="utf-8")
    for name in unknown:  # it was never committed: `_broken` would have said so
        (root / FOLDER / name).unlink()
    return Told([], [f"wrote {len(outdated)} of {len(made)} contracts to {FOLDER}"])


def compared(root: Path, ref: str, declared: Sequence[Table] | None = None) -> Told:
    """Say what would break those who have the contracts of a commit.

    Args:
        root: The project.
        ref: The commit; one that has no contracts yet breaks nobody.
        declared: The tables; by default all.

    Raises:
        StackRefused: There is no such commit.
    """
    before = committed(root, ref)
    wrong = _broken(before, _made(declared), _there(root))
    well = f"{len(before)} contracts of {ref}: nobody is broken" if before else f"{ref} has no contracts yet"
    return Told(wrong, [] if wrong else [well])


def committed(root: Path, ref: str) -> Contracts:
    """The contracts of a commit; none where it has none.

    Raises:
        StackRefused: There is no such commit.
    """
    found = _git(root, "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}")
    if found is None:
        msg = f"there is no commit {ref!r} here; name one that `git log` shows (CI: fetch more than one commit)"
        raise StackRefused(msg)
    commit = found.strip()
    listed = _git(root, "ls-tree", "-r", "--name-only", commit, "--", f"{FOLDER.as_posix()}/") or ""
    files = [Path(line) for line in listed.splitlines() if line.endswith(".yaml")]
    # One call for all: half a hundred of `git show` take seconds.
    asked = "".join(f"{commit}:./{file.as_posix()}\n" for file in files)
    told = subprocess.run(
        ["git", "-C", str(root), "cat-file", "--batch"], input=asked.encode(), capture_output=True, check=True
    ).stdout
    found_texts: dict[str, dict[str, Any]] = {}
    for file in files:
        head, _, rest = told.partition(b"\n")
        size = int(head.split()[-1])
        found_texts[file.relative_to(FOLDER).as_posix()] = parsed(rest[:size])
        told = rest[size + 1 :]
    return found_texts


def _made(declared: Sequence[Table] | None) -> Contracts:
    return {path_of(table).as_posix(): odcs(table) for table in (tables() if declared is None else declared)}


def _there(root: Path) -> Contracts:
    folder = root / FOLDER
    return {file.relative_to(folder).as_posix(): parsed(file.read_bytes()) for file in sorted(folder.rglob("*.yaml"))}


def _broken(before: Contracts, made: Contracts, there: Contracts) -> list[str]:
    """What breaks those who have some contracts; a table that is gone breaks nobody where its file says so."""
    wrong = []
    for name, old in before.items():
        if name in made:
            wrong += refused(old, made[name])
        elif name not in there or there[name]["status"] != RETIRED:
            wrong += refused_removal(old)
    return wrong


def _is_repository(root: Path) -> bool:
    return _git(root, "rev-parse", "--quiet", "--verify", "HEAD") is not None


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None where it refuses, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
