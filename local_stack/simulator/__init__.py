"""A seeded traffic simulator: a small shop whose true numbers are known.

It runs in three steps, each a module:

- `world`: persons use devices and shop; the outcome is *true events*, in order of their true time.
- `corrupt`: the way from the device to Kafka, which repeats, delays, reorders and garbles; the outcome is
  *deliveries*, in order of their record time, and one row of *truth* per event that arrived.
- `producer`: writes deliveries to Kafka, as history at full speed or live on the wall clock.

`truth` keeps the rows of truth in a Parquet file. `python -m local_stack.simulator --help` is the command
line. Times are integers, microseconds since 1970-01-01 UTC, unless a name says `_ms` or a type says
`datetime`.
"""

from __future__ import annotations

from local_stack.simulator.corrupt import Corruption, Delivery, TruthRow, history
from local_stack.simulator.producer import live, produce_history
from local_stack.simulator.truth import TruthFile
from local_stack.simulator.world import TrueEvent, World

__all__ = [
    "Corruption",
    "Delivery",
    "TrueEvent",
    "TruthFile",
    "TruthRow",
    "World",
    "history",
    "live",
    "produce_history",
]
