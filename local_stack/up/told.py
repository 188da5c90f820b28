"""What people see on the terminal while the stack starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_PLAIN_SECONDS = 5.0


class Show(Protocol):
    """Shows how far a component is on its way."""

    def __call__(self, note: str, share: float | None = None) -> None: ...  # noqa: D102


class Told:
    """What people see: a spinner with a bar while a component is not ready, one line when it is.

    Without a terminal, plain lines only.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        """One line."""
        self._console.print(escape(text))

    @contextmanager
    def starting(self, name: str) -> Iterator[Show]:
        """Show that a component is on its way; the block is handed what to call with a note and a share."""
        if not self._console.is_terminal:
            yield self._plainly(name)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(f"{name:<10}", total=None, note="")

            def show(note: str, share: float | None = None) -> None:
                progress.update(task, note=escape(note), total=None if share is None else 1.0, completed=share or 0.0)

            yield show

    def ready(self, name: str, what: str, since: float) -> None:
        """A component is ready."""
        self._console.print(
            f"[green]{name:<10} ready[/]  {escape(what)}  [dim]({time.monotonic() - since:.1f} s)[/]", highlight=False
        )

    def _plainly(self, name: str) -> Show:
        last = time.monotonic()

        def show(note: str, share: float | None = None) -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                done = "" if share is None else f" {share:.0%}"
                self.line(f"{name:<10}{done} {note}")

        return show
