"""A gateway as users run it, watched: its memory, its metrics, and how a good client fares."""

import asyncio
import multiprocessing
import os
import ssl
import statistics
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.attacks.frames import data, header_block, headers, opening
from tests.attacks.frames import frame as any_frame
from tests.contract.raw_http import post
from tests.e2e.processes import COMMAND, ROOT, accepts_connections, wait_for
from tests.ports import free_ports

START_SECONDS_MAX = 60
# The good client sends one request over HTTP and one over gRPC in this time.
INTERVAL_SECONDS = 0.02
ANSWER_SECONDS_MAX = 10.0
EMPTY_CALL = b"\0\0\0\0\0"
SETTINGS, WINDOW_UPDATE, ACK = 4, 8, 1
STREAM_MAX = 1 << 30


@dataclass(frozen=True)
class Ports:
    """Where a gateway listens."""

    grpc: int
    http: int
    metrics: int
    # The authority of its certificate, where it has one.
    authority: str = ""

    def client_tls(self) -> ssl.SSLContext | None:
        """What clients connect with; None in the clear."""
        return ssl.create_default_context(cafile=self.authority) if self.authority else None


@dataclass
class Fared:
    """How the good client fared: seconds from request to answer."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p99_ms(self) -> float:
        if len(self.seconds) < 2:
            return float("nan")
        return statistics.quantiles(self.seconds, n=100)[98] * 1e3


@contextmanager
def gateway(folder: Path, settings: dict[str, str], authority: str = "") -> Iterator["Gateway"]:
    """A process of `telemetryflow ingest`, ended with the block."""
    grpc, http, metrics = free_ports(3)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "TELEMETRYFLOW_ENV": "test",
        "TELEMETRYFLOW_DATA_DIR": str(folder),
        "INGEST_GRPC_PORT": str(grpc),
        "INGEST_HTTP_PORT": str(http),
        "INGEST_METRICS_PORT": str(metrics),
        **settings,
    }
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, "ingest"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(
            "start of the gateway",
            lambda: accepts_connections(grpc) and accepts_connections(http),
            START_SECONDS_MAX,
        )
        yield Gateway(process.pid, Ports(grpc, http, metrics, authority))
    finally:
        process.terminate()
        process.wait(60)


class Gateway:
    """The process under attack."""

    def __init__(self, pid: int, ports: Ports) -> None:
        self.ports = ports
        self._process = psutil.Process(pid)

    def memory_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def refused(self) -> Counter[str]:
        """Connections refused so far, by transport and reason."""
        url = f"http://127.0.0.1:{self.ports.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "telemetryflow_ingest_connections_refused_total":
                    found[sample.labels["reason"]] += int(sample.value)
        return found

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """The largest memory seen while the block runs, as the only item of the list."""
        peak = [self.memory_bytes()]
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                peak[0] = max(peak[0], self.memory_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            ended.set()
            watcher.join()

    @contextmanager
    def good_client(self) -> Iterator[Fared]:
        """A client in a process of its own; how it fared is told at the end of the block."""
        fared = Fared()
        mine, its = multiprocessing.get_context("spawn").Pipe()
        client = multiprocessing.get_context("spawn").Process(
            target=_be_good, args=(self.ports, its)
        )
        client.start()
        mine.recv()
        try:
            yield fared
        finally:
            mine.send("end")
            fared.seconds, fared.failed = mine.recv()
            client.join()


def _be_good(ports: Ports, pipe: Connection) -> None:
    fared = Fared()
    asyncio.run(_send_until_told(ports, pipe, fared))
    pipe.send((fared.seconds, fared.failed))


async def _send_until_told(ports: Ports, pipe: Connection, fared: Fared) -> None:
    senders = [
        asyncio.create_task(_send(ports, fared, over_grpc=over_grpc)) for over_grpc in (True, False)
    ]
    pipe.send("begun")
    await asyncio.to_thread(pipe.recv)
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)


async def _send(ports: Ports, fared: Fared, *, over_grpc: bool) -> None:
    """Requests one after the other on one connection, and on another one when that breaks."""
    tls = ports.client_tls()
    if tls is not None:
        tls.set_alpn_protocols(["h2" if over_grpc else "http/1.1"])
    while True:
        writer = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(
                    "localhost" if tls else "127.0.0.1",
                    ports.grpc if over_grpc else ports.http,
                    ssl=tls,
                )
            await (_calls if over_grpc else _posts)(reader, writer, fared)
        except (OSError, EOFError, TimeoutError):
            fared.failed += 1
            await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            if writer is not None:
                writer.transport.abort()


async def _posts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fared: Fared) -> None:
    while True:
        begun = time.monotonic()
        writer.write(post(b"", authorization=None))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await reader.readuntil(b"\r\n\r\n")
        fared.seconds.append(time.monotonic() - begun)
        await asyncio.sleep(INTERVAL_SECONDS)


async def _calls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fared: Fared) -> None:
    """Calls by frames: no library's time is measured. A call's trailers end its stream."""
    writer.write(opening() + any_frame(SETTINGS, flags=ACK))
    block = header_block()
    for stream_id in range(1, STREAM_MAX, 2):
        begun = time.monotonic()
        writer.write(headers(stream_id, block) + data(stream_id, EMPTY_CALL, end=True))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            while await _next_frame(reader) != (stream_id, True):
                pass
        fared.seconds.append(time.monotonic() - begun)
        await asyncio.sleep(INTERVAL_SECONDS)


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The stream of the next frame, and whether it ends it."""
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3], "big"))
    return int.from_bytes(head[5:], "big"), head[3] in {0, 1} and bool(head[4] & 1)
