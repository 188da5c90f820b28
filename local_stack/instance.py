"""The Dagster instance of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg


@contextmanager
def instance_of(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance whose `dagster.yaml` is in a folder, which this process's environment names from now on.

    `dagster.yaml` says where the events are by `DAGSTER_HOME`, so the environment must have it.
    """
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance
