"""`headwater down` and `headwater reset`."""

from __future__ import annotations

import os
import select
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from local_stack.stack import Stack, StackHeld


def down(var: Path | None, console: Console, within: float = 60.0) -> int:
    """Ask the supervisor to stop, and wait until it has. Returns the exit status."""
    stack = Stack.at(var)
    holder = stack.holder()
    if holder is None:
        console.print("nothing is up", highlight=False)
        return 0
    if holder.role != "up" or holder.pid == 0:
        console.print(f"`headwater {holder.role}`, process {holder.pid}, holds the stack: wait for it", highlight=False)
        return 1
    console.print(f"stopping process {holder.pid} …", highlight=False)
    # Whoever holds the lock is alive, and wrote the number itself; the handle stays with that process.
    process = os.pidfd_open(holder.pid)
    try:
        if stack.holder() == holder:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], within)[0]:
            console.print(f"it did not stop within {within:g} s: it is killed", highlight=False)
            signal.pidfd_send_signal(process, signal.SIGKILL)  # the kernel ends its children with it
            select.select([process], [], [], within)
    finally:
        os.close(process)
    with suppress(StackHeld), stack.held("up"):
        stack.end_leftovers()
    console.print("stopped", highlight=False)
    return 0


def reset(var: Path | None, console: Console) -> int:
    """Delete what a stack keeps; a lake outside its folder stays. Returns the exit status.

    Raises:
        StackRefused: The stack is up.
    """
    from local_stack.database import data_folder  # noqa: PLC0415
    from resources.warehouse import Warehouse  # noqa: PLC0415

    stack = Stack.at(var)
    with stack.held("up"):
        stack.end_leftovers()
        for folder in (stack.lake, stack.dagster_home, stack.logs, data_folder(stack.database)):
            if folder.exists():
                shutil.rmtree(folder)
        Warehouse.beside(stack.lake).remove()
        elsewhere = stack.lake_elsewhere()
        if elsewhere is None:  # else it has what was written with the registry's ids, which must not be given anew
            stack.registry.unlink(missing_ok=True)
        stack.forget()
    console.print("deleted", highlight=False)
    if elsewhere is not None:
        console.print(f"the lake {escape(elsewhere)} is outside the stack's folder and was left alone", highlight=False)
    return 0
