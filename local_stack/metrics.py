"""`headwater metrics`: serves the platform's metrics to Prometheus, until it is stopped."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
from prometheus_client import start_http_server
from prometheus_client.registry import CollectorRegistry
from rich.console import Console

from local_stack.instance import instance_of
from local_stack.process import wait_for_ctrl_c
from local_stack.stack import Stack
from platform_assets.definitions import build_defs
from platform_assets.platform import Platform
from platform_assets.serving.machine_metrics import MachineMetrics
from platform_assets.tables import tables
from resources.settings import Settings


def registry_of(platform: Platform, instance: dg.DagsterInstance) -> CollectorRegistry:
    """What is served of a platform."""
    checks = build_defs(platform).resolve_asset_graph().asset_check_keys
    registry = CollectorRegistry()
    registry.register(MachineMetrics(platform, instance, tables(), sorted(checks, key=str)))
    return registry


def serve(stack: Stack, host: str, port: int, console: Console) -> int:
    """Serve until Ctrl-C. Returns the exit status."""
    # Beside `make up` the environment says where everything is; alone, the stack's state does.
    home = Path(os.environ["DAGSTER_HOME"]) if "DAGSTER_HOME" in os.environ else stack.dagster_home
    settings = Settings() if "DAGSTER_HOME" in os.environ else stack.settings()
    if not (home / "dagster.yaml").exists():
        console.print(f"there is no Dagster instance in {home}: `make up` makes one", highlight=False)
        return 1
    platform = Platform.from_settings(settings)
    with instance_of(home) as instance:
        try:
            server, _ = start_http_server(port, host, registry_of(platform, instance))
        except OSError as error:
            console.print(f"port {port} on {host}: {error.strerror}; choose another with --port", highlight=False)
            return 1
        try:
            console.print(f"metrics on http://{host}:{port}/metrics", highlight=False)
            wait_for_ctrl_c()
        except KeyboardInterrupt:
            server.shutdown()
    return 0
