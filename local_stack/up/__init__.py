"""`headwater up`, `down` and `reset`: the whole local stack, started, watched over and stopped in order.

- `options`: how to start; `preflight`: what stands in the way, what is kept from start to start, the settings.
- `up`: what is started and stopped, in which order; `running`: the processes; `failures`: what may go wrong.
- `servers`: the embedded database, schema registry and broker; `dagster_servers`: code, web UI and daemon.
- `runs`: what becomes of Dagster's runs; `lake`: a first history, new epochs, the last records of the topics.
- `readers`: metrics, dashboard and API; `sources`: what brings work, simulated or relayed.
- `told`: what people see; `signals`: Ctrl-C; `down`: `down` and `reset`.

A refusal comes fast: `servers`, `runs`, `lake`, `sources` and `failures` rest on what takes seconds to import (Dagster,
Polars, Delta), and `up` imports them when it needs them.
"""

from __future__ import annotations

from local_stack.up.down import down, reset
from local_stack.up.options import Options
from local_stack.up.up import up

__all__ = ["Options", "down", "reset", "up"]
