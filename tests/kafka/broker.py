"""Real Apache Kafka in KRaft mode, as processes of their own that tests may talk to and kill."""

import atexit
import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.kafka.jars import cache_folder, jars
from tests.kafka.security import PASSWORD, SCRAM_MECHANISMS, SECURE_LISTENERS, USERNAME, Security
from tests.ports import free_ports

FORMAT_SECONDS_MAX: Final = 60
START_SECONDS_MAX: Final = 60
STOP_SECONDS_MAX: Final = 30
POLL_SECONDS: Final = 0.05
LOG_CHARACTERS_MAX: Final = 4_000

_JVM: Final = (
    *("-Xms256m", "-Xmx320m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC"),
    *("-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"),
)
_LOGGING: Final = """\
status=error
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=OUT
"""
# Small, quick and strict.
_PROPERTIES: Final[Mapping[str, str | int]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": "false",
    "num.network.threads": 2,
    "num.io.threads": 2,
    "background.threads": 2,
    "log.cleaner.dedupe.buffer.size": 4 * 2**20,  # the default takes 128 MiB of the heap
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "log.initial.task.delay.ms": 1_000,
    "log.retention.check.interval.ms": 1_000,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.fetch.timeout.ms": 1_000,
    "broker.heartbeat.interval.ms": 500,
    # A killed broker comes back only when its former session is over.
    "broker.session.timeout.ms": 3_000,
}


def _cluster_id() -> str:
    # The first byte keeps it from beginning with "-", which the format tool takes for an option.
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


class Broker:
    """One node with its data in a folder; it ends with the process of the tests at the latest.

    A process ends with the thread that spawned it, so spawn from a thread that lasts.
    """

    def __init__(
        self,
        data: Path,
        config: Mapping[str, str | int] | None = None,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        security: Security | None = None,
        node_id: int = 1,
        voters: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
    ) -> None:
        """*advertised_port* is told to the clients of `bootstrap` instead of *port*, for a proxy
        in front; *config* overrides properties; *voters* maps nodes to ports of their controllers.
        """
        client, internal, controller, *secure = free_ports(3 + len(SECURE_LISTENERS))
        self.data = data.absolute()
        self.port = port or client
        self.bootstrap = f"127.0.0.1:{advertised_port or self.port}"
        self.node_id = node_id
        self._security = security
        self._secure_ports = dict(zip(SECURE_LISTENERS, secure, strict=True)) if security else {}
        self._cluster_id = cluster_id or _cluster_id()
        self._process: subprocess.Popen[bytes] | None = None
        self._archive_draft: Path | None = None
        voters = voters or {node_id: controller}
        own = {"INTERNAL": internal, "CONTROLLER": voters[node_id], **self._secure_ports}
        self._properties = {
            **_PROPERTIES,
            **(security.properties() if security else {}),
            **_replication(len(voters)),
            **_addresses({"PLAINTEXT": self.port, **own}, self.bootstrap),
            "node.id": node_id,
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{p}" for n, p in voters.items()),
            "log.dirs": str(self.data / "log"),
            **(config or {}),
        }
        self._class_path = ":".join(map(str, jars()))
        self._archive = cache_folder() / "classes.jsa"

    def secure_bootstrap(self, protocol: str) -> str:
        """The address for SSL, SASL_PLAINTEXT or SASL_SSL; with *security* only."""
        return f"127.0.0.1:{self._secure_ports[protocol]}"

    @property
    def pid(self) -> int:
        """Id of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what the broker wrote."""
        return self._log_file.read_text(errors="replace")[-LOG_CHARACTERS_MAX:]

    def start(self) -> None:
        """Start, the first time with empty data, and wait until it serves."""
        self.spawn()
        self.wait()

    def spawn(self) -> None:
        """Start without waiting."""
        assert self._process is None, "it runs already"
        if not self.data.exists():
            self._format()
        command = self._java("kafka.Kafka", str(self._properties_file))
        if not self._archive.exists():
            # The first clean end of a broker writes the archive.
            self._archive_draft = self._archive.with_name(f"{uuid.uuid4()}.jsa")
            command.insert(1, f"-XX:ArchiveClassesAtExit={self._archive_draft}")
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*_die_with_parent(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        atexit.register(self.kill)

    def wait(self) -> None:
        """Returns as soon as it serves; fails the test when it ends or does not in time."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._serves():
            assert self._process.poll() is None, f"the broker ended: {self.log}"
            assert time.monotonic() < deadline, f"the broker does not serve: {self.log}"
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL: nothing is written or said any more. The data stay for the next start."""
        atexit.unregister(self.kill)
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """SIGTERM: a clean end; SIGKILL when that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS_MAX)
        self.kill()
        if self._archive_draft is not None and self._archive_draft.exists():
            self._archive_draft.replace(self._archive)

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is None or self._process.poll() is not None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _properties_file(self) -> Path:
        return self.data / "server.properties"

    @property
    def _log_file(self) -> Path:
        return self.data / "broker.log"

    def _java(self, *arguments: str) -> list[str]:
        options = [*_JVM, f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}"]
        if self._archive.exists():
            # Loaded classes out of an archive halve the start.
            options.append(f"-XX:SharedArchiveFile={self._archive}")
        return ["java", *options, "-cp", self._class_path, *arguments]

    def _format(self) -> None:
        self.data.mkdir(parents=True)
        (self.data / "log4j2.properties").write_text(_LOGGING)
        lines = (f"{name}={value}\n" for name, value in self._properties.items())
        self._properties_file.write_text("".join(lines))
        users: list[str] = []
        for mechanism in SCRAM_MECHANISMS if self._security else ():
            users += ["--add-scram", f"{mechanism}=[name={USERNAME},password={PASSWORD}]"]
        done = subprocess.run(
            [
                *self._java("kafka.tools.StorageTool", "format"),
                *("-t", self._cluster_id, "-c", str(self._properties_file), *users),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FORMAT_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def _serves(self) -> bool:
        # The listeners open when the broker is registered and up to date.
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Cluster:
    """Nodes that replicate to each other; what a majority has is acknowledged."""

    def __init__(
        self, data: Path, config: Mapping[str, str | int] | None = None, *, nodes: int = 3
    ) -> None:
        voters = dict(enumerate(free_ports(nodes), 1))
        shared = _cluster_id()
        self.nodes = {
            node: Broker(data / str(node), config, node_id=node, voters=voters, cluster_id=shared)
            for node in voters
        }

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    def start(self) -> None:
        """Start all nodes. They wait for each other, so all are spawned first."""
        for node in self.nodes.values():
            node.spawn()
        for node in self.nodes.values():
            node.wait()

    def kill(self) -> None:
        """SIGKILL to all that run; a clean end of the last one would wait for the others."""
        for node in self.nodes.values():
            node.kill()


def _addresses(ports: Mapping[str, int], advertised: str) -> dict[str, str]:
    listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
    told = {**listeners, "PLAINTEXT": f"PLAINTEXT://{advertised}"}
    del told["CONTROLLER"]
    return {
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(told.values()),
        "listener.security.protocol.map": ",".join(
            f"{name}:{name if name in SECURE_LISTENERS else 'PLAINTEXT'}" for name in listeners
        ),
    }


def _replication(nodes: int) -> dict[str, int]:
    majority = nodes // 2 + 1
    return {
        "default.replication.factor": nodes,
        "min.insync.replicas": majority,
        "offsets.topic.replication.factor": nodes,
        "transaction.state.log.replication.factor": nodes,
        "transaction.state.log.min.isr": majority,
        "share.coordinator.state.topic.replication.factor": nodes,
        "share.coordinator.state.topic.min.isr": majority,
    }


def _die_with_parent() -> Sequence[str]:
    """A killed test process takes its brokers along (Linux)."""
    return ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
