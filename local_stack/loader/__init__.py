"""Loads a file of a user's own events through Kafka, with their historical record times; see docs/loading.md.

- `mapping`: how the columns of a JSON Lines, CSV or Parquet file become the event envelope; `event_time`: its times.
- `rows`: the file's rows, one by one; `records`: what goes into Kafka for a row, or why nothing can.
- `survey`: the first reading of the file; `retention`: what the topic would do to records so old.
- `state`: how far a load is; `load`: the load itself; `command`: the command line.
"""

from __future__ import annotations

from local_stack.loader.command import main
from local_stack.loader.load import BadRow, BadRowFound, DeliveryFailed, Loaded, Watcher, load
from local_stack.loader.mapping import Mapping, MappingInvalid
from local_stack.loader.state import LoadRefused, State, default_state_file

__all__ = [
    "BadRow",
    "BadRowFound",
    "DeliveryFailed",
    "LoadRefused",
    "Loaded",
    "Mapping",
    "MappingInvalid",
    "State",
    "Watcher",
    "default_state_file",
    "load",
    "main",
]
