"""What is measured: our processes and the peers', each started alone, pinned, and ended."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Final, cast

from benchmarks.capacity.measure import cores, pin, rss_bytes
from shared.directory.state import DirectoryState
from shared.security.peppers import Peppers
from tests.directory_states import add_key, state_of
from tests.e2e.processes import Product, accepts_connections, wait_for
from tests.ports import free_ports

START_SECONDS_MAX: Final = 60
STOP_SECONDS_MAX: Final = 30
PEPPER: Final = "a pepper of the capacity harness"
SETTLE_SECONDS_MAX: Final = 180
ROWS_OF: Final = {
    "traces": "SELECT count() AS rows FROM tf_traces",
    "logs": "SELECT count() AS rows FROM tf_logs",
    "traces of an exporter": "SELECT count() AS rows FROM otel.otel_traces",
    "metrics": "SELECT sum(rows) AS rows FROM (SELECT count() AS rows FROM merge('^tf_metrics_"
    "(gauge|sum|histogram|exponential_histogram|summary)$'))",
}
# As the product sets them at its start: else malloc maps and unmaps memory for every large body,
# and page faults cost three times what the receiver does.
MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@dataclass(frozen=True)
class Server:
    """A server that runs: its processes by name, and where it takes OTLP."""

    pids: Mapping[str, int]
    grpc_port: int
    http_port: int

    def port(self, transport: str) -> int:
        """Where *transport* (grpc or http) is served."""
        return self.grpc_port if transport == "grpc" else self.http_port


@contextmanager
def receiver(engine: str, behind: str) -> Iterator[Server]:
    """Our receiver alone: *engine* http, grpc or grpcio; *behind*: see `receiver`."""
    command = [sys.executable, "-m", "benchmarks.capacity.receiver", engine, behind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | MALLOC
    ) as process:
        try:
            port = int(cast("IO[bytes]", process.stdout).readline())
            pin(process.pid, cores()[0])
            yield Server({"receiver": process.pid}, port, port)
            process.communicate(timeout=STOP_SECONDS_MAX)
        finally:
            process.kill()


@contextmanager
def gateway(
    folder: Path, settings: Mapping[str, str], directory: DirectoryState | None = None
) -> Iterator[Server]:
    """`telemetryflow ingest` alone, on the log that *settings* name; *directory*: who may send."""
    product = Product(folder, settings)
    try:
        if directory is not None:
            product.write_directory(directory)
        product.start("ingest")
        pin(product.pid("ingest"), cores()[0])
        yield Server({"gateway": product.pid("ingest")}, product.grpc_port, product.http_port)
    finally:
        product.close()


@contextmanager
def _program(
    name: str, command: Sequence[str], ports: tuple[int, int], log: Path
) -> Iterator[Server]:
    grpc, http = ports
    environment = {"PATH": os.environ["PATH"], "GOMAXPROCS": str(len(cores()[0]))}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:

        def serves() -> bool:
            return process.poll() is not None or (
                accepts_connections(grpc) and accepts_connections(http)
            )

        wait_for(f"start of {name}", serves, START_SECONDS_MAX)
        if process.returncode is not None:
            raise RuntimeError(f"{name} ended: {log.read_text(errors='replace')[-2_000:]}")
        pin(process.pid, cores()[0])
        yield Server({name: process.pid}, grpc, http)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def collector(binary: Path, folder: Path, exporter: str) -> Iterator[Server]:
    """The OpenTelemetry Collector: otlp → *exporter*, a piece of its configuration."""
    grpc, http = free_ports(2)
    name = exporter.split(":", 1)[0].strip()
    pipelines = "\n".join(
        f"    {signal}: {{receivers: [otlp], exporters: [{name}]}}"
        for signal in ("traces", "logs", "metrics")
    )
    config = folder / "collector.yaml"
    config.write_text(
        f"""\
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  {exporter}
service:
  telemetry:
    metrics: {{level: none}}
    logs: {{level: error}}
  pipelines:
{pipelines}
"""
    )
    command = [str(binary), "--config", str(config)]
    with _program("collector", command, (grpc, http), folder / "collector.txt") as server:
        yield server


ROTEL_BLACK_HOLE: Final = {"--exporter": "blackhole"}
DEBUG_EXPORTER: Final = "debug: {verbosity: basic, sampling_thereafter: 1000000}"


def kafka_exporter(brokers: str, topic: str) -> str:
    """Answers when all brokers in sync have it, one zstd batch a request."""
    topics = ", ".join(
        f"{signal}: {{topic: {topic}, encoding: otlp_proto}}"
        for signal in ("traces", "logs", "metrics")
    )
    return (
        f'kafka: {{brokers: ["{brokers}"], {topics}, '
        "producer: {required_acks: -1, compression: zstd, max_message_bytes: 10000000}, "
        "sending_queue: {wait_for_result: true, block_on_overflow: true}}"
    )


@contextmanager
def black_hole(port: int, engine_port: int) -> Iterator[None]:
    """The engine at *engine_port* as one that swallows what is inserted."""
    command = [sys.executable, "-m", "benchmarks.capacity.black_hole", str(port), str(engine_port)]
    with subprocess.Popen(command) as process:
        try:
            pin(process.pid, cores()[1])
            wait_for("start of a black hole", lambda: accepts_connections(port), START_SECONDS_MAX)
            yield
        finally:
            process.terminate()


@contextmanager
def engine(folder: Path) -> Iterator[Product]:
    """The embedded ClickHouse alone, with nothing in it."""
    product = Product(folder)
    try:
        product.start("clickhouse")
        yield product
    finally:
        product.close()


def rotel_to_clickhouse(port: int) -> dict[str, str]:
    """Flags for an exporter that sends rows at once; its compression is not that of HTTP."""
    return {
        "--exporter": "clickhouse",
        "--clickhouse-exporter-endpoint": f"http://127.0.0.1:{port}",
        "--clickhouse-exporter-compression": "none",
        "--clickhouse-exporter-async-insert": "false",
    }


@contextmanager
def rotel(folder: Path, exporter: Mapping[str, str] = ROTEL_BLACK_HOLE) -> Iterator[Server]:
    """Rotel, a Rust collector: otlp → what *exporter*, its flags, says."""
    grpc, http = free_ports(2)
    program = str(files("rotel") / "rotel-agent")
    flags = {
        "--otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
        "--otlp-http-endpoint": f"127.0.0.1:{http}",
    } | dict(exporter)
    command = [program, "start", *(part for flag in flags.items() for part in flag)]
    with _program("rotel", command, (grpc, http), folder / "rotel.txt") as server:
        yield server


def rss_of(server: Server) -> int:
    """Resident bytes of all processes of *server*."""
    return sum(rss_bytes(pid) for pid in server.pids.values())


class Stored:
    """Waits until everything that was acknowledged can be queried."""

    def __init__(self, product: Product, signal: str) -> None:
        self._product = product
        self._sql = ROWS_OF[signal]
        self._rows = self._count()
        self._since = time.monotonic()
        self.rows_a_second: list[float] = []

    def _count(self) -> int:
        return int(self._product.rows(self._sql)[0]["rows"])

    def begin(self) -> None:
        """A round begins."""
        self._since = time.monotonic()

    def settle(self, rows: int) -> None:
        """Returns when so many more rows can be queried."""
        self._rows += rows
        wait_for("everything stored", lambda: self._count() >= self._rows, SETTLE_SECONDS_MAX)
        self.rows_a_second.append(rows / (time.monotonic() - self._since))


@contextmanager
def product(folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[Product, Server]]:
    """Gateway, writer and engine of one machine; the gateway and the writer share our cores."""
    with Product(folder, settings) as running:
        pids = {name: running.pid(name) for name in ("ingest", "writer", "clickhouse")}
        yield running, Server(pids, running.grpc_port, running.http_port)


def tenants_and_keys(count: int) -> tuple[DirectoryState, tuple[str, ...]]:
    """*count* tenants, and the Authorization of a key of each."""
    names = [f"tenant-{number}" for number in range(count)]
    state = state_of(*names)
    peppers = Peppers.from_text(PEPPER)
    found = [add_key(state, peppers, name) for name in names]
    return state, tuple(f"Bearer {key.id}:{secret}" for key, secret in found)
