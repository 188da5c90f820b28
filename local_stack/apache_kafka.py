"""Apache Kafka 4 as a child process: one KRaft node, without containers.

Development and most tests use the embedded broker. This one is the same code's proof against the real server;
it needs Java and Maven, so that no first command depends on it. Here belongs how this server is brought,
configured, formatted and asked; how a child lives and dies is in `process`.
"""

import base64
import fcntl
import logging
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local_stack.process import LOOPBACK, ChildProcess, ProcessFailed, Server, free_port, tail

KAFKA_VERSION: Final = "4.4.0"
_SCALA: Final = "2.13"
_LOG4J_VERSION: Final = "2.25.5"
"""Of the Log4j that this Kafka brings; the binding from SLF4J it leaves to its users must be the same."""

_PLUGIN_VERSION: Final = "3.8.1"
_JAVA_AT_LEAST: Final = 17
_FETCH_SECONDS: Final = 600.0
_FORMAT_SECONDS: Final = 60.0
_START_SECONDS: Final = 90.0
_NODE_ID: Final = 1

_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headwater</groupId>
  <artifactId>apache-kafka-node</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <build><pluginManagement><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId>
    <artifactId>maven-dependency-plugin</artifactId>
    <version>{_PLUGIN_VERSION}</version>
  </plugin></plugins></pluginManagement></build>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{_SCALA}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_LOG4J: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""

_silent = logging.getLogger(f"{__name__}.waiting")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def unavailable() -> str | None:
    """One line that names what this machine lacks to run Apache Kafka, or None where it lacks nothing."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        return f"Apache Kafka needs Java {_JAVA_AT_LEAST} and Maven: not found on the path: {', '.join(missing)}"
    shown = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    if found is None or int(found[1]) < _JAVA_AT_LEAST:
        has = "no version that it would tell" if found is None else found[1]
        return f"Apache Kafka needs Java {_JAVA_AT_LEAST} or newer: found {has}"
    return None


class ApacheKafka(Server):
    """One node that is both broker and controller, listening on the loopback address only.

    Its records stay in `data` from one start to the next, on whichever port; nothing is ever retired by age
    or size, so that a test's historical timestamps are safe. Topics are created by asking for them alone.

    Example:
        >>> with ApacheKafka(Path("var/apache-kafka"), free_port()) as kafka:  # doctest: +SKIP
        ...     AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics()
    """

    def __init__(self, folder: Path, port: int, *, data: Path | None = None) -> None:
        """Keep where things go; nothing is brought or started here.

        Args:
            folder: Keeps the jars, for later runs and other nodes too.
            port: Where clients reach it.
            data: The node's own records, settings and log; by default `data` in `folder`. One node at a time
                may own it.
        """
        super().__init__()
        self.folder = folder.resolve()
        self.port = port
        self.data = (data or folder / "data").resolve()
        self._owned = ExitStack()

    @property
    def bootstrap_servers(self) -> str:
        """What a client's `bootstrap.servers` should say."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """The node's warnings and errors, of all its starts."""
        return self.data / "node.log"

    def start(self, within: float = _START_SECONDS) -> None:
        """Bring what is missing, format new storage, start the node and wait until it answers clients.

        Args:
            within: Seconds for the node to answer once it was started; bringing the jars has its own limit.

        Raises:
            ProcessFailed: Maven could not bring the jars, the storage could not be formatted, the node runs
                already, or it did not answer in time (the port is taken, or so is `data`).
        """
        if self.running:
            raise ProcessFailed(f"Apache Kafka already runs on port {self.port}")
        self._owned.close()
        java = self._java(bring_jars(self.folder))
        self.data.mkdir(parents=True, exist_ok=True)
        with ExitStack() as owned:
            self._own(owned)
            settings = self.data / "server.properties"
            settings.write_text(self.settings(), encoding="utf-8")
            (self.data / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
            cluster_id = self._cluster_id() or self._format(java, settings)
            self._child = ChildProcess(
                f"Apache Kafka {KAFKA_VERSION}", [*java, "kafka.Kafka", str(settings)], self.log_file
            )
            self._child.start()
            self._child.await_ready(self._question(cluster_id), within)
            self._owned = owned.pop_all()

    def stop(self, grace: float = 90.0) -> None:
        """Stop the node in order, by force after `grace` seconds; does nothing where it does not run."""
        if self._child is not None:
            self._child.stop(grace)
            self._child = None
        self._owned.close()

    def kill(self) -> None:
        """End the node as a crash would; what it acknowledged is still there at the next start.

        What `delete_records` removed may be there again: Kafka writes the new low watermark to disk once a
        minute and at an orderly stop only.
        """
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._owned.close()

    def settings(self) -> str:
        """The text of the node's server.properties, with a free port for its controller."""
        # The controller's voters are named here and not, as `format --standalone` would, in the storage: the
        # storage would keep the controller's port, and the next start has another.
        while (controller_port := free_port()) == self.port:
            continue
        controller = f"{LOOPBACK}:{controller_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": _NODE_ID,
            "listeners": f"CLIENTS://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENTS://{self.bootstrap_servers}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"{_NODE_ID}@{controller}",
            "log.dirs": self._log_dir.as_posix(),
            "auto.create.topics.enable": "false",
            # Kept for ever, whatever timestamps the records bear. A segment's age is counted in them too: the
            # default week would begin a segment at every jump of history.
            "log.retention.ms": -1,
            "log.retention.bytes": -1,
            "log.roll.hours": 24 * 365 * 100,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # After a crash the controller lets the broker in again only when its former self's session has
            # ended. The default of 9 s makes each such start wait for it.
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _own(self, owned: ExitStack) -> None:
        # Kafka's own lock comes too late: a second node's controller has by then written to the first one's
        # metadata log, and the first can no longer stop in order.
        lock = owned.enter_context((self.data / "owner.lock").open("wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProcessFailed(f"another node owns the records in {self.data}") from error

    def _question(self, cluster_id: str) -> Callable[[], str | None]:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers}, logger=_silent)

        def not_ready() -> str | None:
            # A port says little: another server's answer has another cluster id, and a node answers before
            # its controller has let it in among the brokers.
            try:
                answer = admin.list_topics(timeout=1.0)
            except KafkaException as error:
                return str(error)
            if answer.cluster_id != cluster_id:
                return f"port {self.port} is answered by another cluster, {answer.cluster_id}"
            return None if _NODE_ID in answer.brokers else "the broker is not yet registered"

        return not_ready

    @property
    def _log_dir(self) -> Path:
        return self.data / "log"

    def _java(self, jars: Path) -> list[str]:
        # Few threads and the first compiler only: a node that lives for some seconds on two cores starts
        # sooner and takes less from its neighbours.
        return [
            "java",
            "-Xmx512m",
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}",
            "-cp",
            f"{jars}{os.sep}*",
        ]

    def _cluster_id(self) -> str | None:
        """The id that the storage was formatted with, or None where it is new; Kafka writes the file last."""
        properties = self._log_dir / "meta.properties"
        if not properties.exists():
            return None
        found = re.search(r"^cluster\.id=(\S+)$", properties.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise ProcessFailed(f"{properties} names no cluster.id: the storage is damaged")
        return found[1]

    def _format(self, java: list[str], settings: Path) -> str:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            str(settings),
        ]
        _run(command, "formatting Kafka's storage", self.data / "format.log", _FORMAT_SECONDS)
        return cluster_id


def bring_jars(folder: Path) -> Path:
    """The folder in `folder` that holds this version's jars, brought by Maven where it is not there yet.

    Two processes may do this at once: each brings its own, and the first one done keeps the place.

    Raises:
        ProcessFailed: Maven is missing or could not bring them; the message ends with what it said.
    """
    jars = folder.resolve() / f"jars-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bringing-") as work:
        pom = Path(work, "pom.xml")
        pom.write_text(_POM, encoding="utf-8")
        brought = Path(work, "jars")
        _run(
            [
                *("mvn", "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={brought}"),
            ],
            "bringing Kafka's jars with Maven",
            folder / "maven.log",
            _FETCH_SECONDS,
        )
        try:
            brought.rename(jars)
        except OSError:
            if not jars.is_dir():
                raise
    return jars


def _run(command: list[str], what: str, log_file: Path, within: float) -> None:
    """Run a command to its end; a `ProcessFailed` says how it failed and ends with its output's tail."""
    with log_file.open("wb") as log:
        try:
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=within
            ).returncode
        except FileNotFoundError as error:
            raise ProcessFailed(f"{what}: {command[0]} is not on the path") from error
        except subprocess.TimeoutExpired as error:
            raise ProcessFailed(f"{what} took more than {within:g} s:\n{tail(log_file)}") from error
    if status != 0:
        raise ProcessFailed(f"{what} failed with status {status}:\n{tail(log_file)}")
