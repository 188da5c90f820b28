"""How the stack is to be started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local_stack.process import LOOPBACK


@dataclass(frozen=True)
class Options:
    """How to start.

    Attributes:
        var: The stack's folder; None for `var` in the project.
        host: Address of the web UI.
        port: Port of the web UI.
        kafka_port: Port of the embedded broker, on loopback.
        postgres_port: Port of the embedded database, on loopback.
        registry_port: Port of the embedded schema registry, on loopback.
        metrics_port: Port of the metrics for Prometheus, on the web UI's address.
        dashboard_port: Port of the dashboard, on the web UI's address.
        api_port: Port of the HTTP API, on the web UI's address; it is started where a token is set.
        database: Whether to start the embedded database, where the settings name no other.
        rate: Simulated events per second; 0 for none.
        simulate: Send simulated traffic to a Kafka of your own, too.
        days: Length of the first start's history; 0 for none.
        persons: Of that history.
    """

    var: Path | None = None
    host: str = LOOPBACK
    port: int = 3000
    kafka_port: int = 9092
    postgres_port: int = 5433
    registry_port: int = 8081
    metrics_port: int = 9464
    dashboard_port: int = 8501
    api_port: int = 8080
    database: bool = True
    rate: float = 2.0
    simulate: bool = False
    days: int = 10
    persons: int = 10_000

    def url(self, port: int, path: str = "") -> str:
        """Where the web UI, or what serves readers, is on a port."""
        return f"http://{self.host}:{port}{path}"

    @property
    def reached(self) -> str:
        """The address that this machine reaches the web UI and what serves readers at."""
        return LOOPBACK if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104
