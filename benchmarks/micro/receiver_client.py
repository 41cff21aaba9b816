"""A server in its own process, and clients that keep a fixed number of requests in flight."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, cast

import psutil
from ngh2 import Connection, DataReceived, Role, Setting, TrailersReceived

KEY_ID: Final = "tfk_" + "0123456789abcdef" * 2
SECRET: Final = "tfs_" + "0123456789abcdef" * 4
BEARER: Final = f"Bearer {KEY_ID}:{SECRET}".encode()
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
)
SERVICES: Final = {
    "traces": "trace.v1.TraceService",
    "logs": "logs.v1.LogsService",
    "metrics": "metrics.v1.MetricsService",
}
# As the product sets them at its start: else malloc maps and unmaps memory for every large body,
# and page faults cost three times what the receiver does.
MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@dataclass(slots=True)
class Server:
    """A server process, its port, and what it said when it ended."""

    process: psutil.Process
    port: int
    said: str = ""

    def cpu_seconds(self) -> float:
        """CPU that the server has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def server(transport: str, exporter: str) -> Iterator[Server]:
    """A receiver of *transport* over *exporter*, see `receiver_server`."""
    command = [sys.executable, "-m", "benchmarks.micro.receiver_server", transport, exporter]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | MALLOC
    ) as process:
        try:
            port = int(cast("IO[bytes]", process.stdout).readline())
            running = Server(psutil.Process(process.pid), port)
            yield running
            running.said = process.communicate(timeout=30)[0].decode()
        finally:
            process.kill()


async def drive(
    transport: str, port: int, signal: str, bodies: Iterator[bytes], load: tuple[int, int, int]
) -> None:
    """Send *load* (requests, connections, in flight on each) and wait for every answer.

    HTTP/1.1 has one request in flight on a connection.
    """
    count, connections, in_flight = load
    state = Load(count, 1 if transport == "http" else in_flight)
    loop = asyncio.get_running_loop()

    def client() -> asyncio.Protocol:
        if transport == "http":
            return HttpClient(state, signal, bodies)
        return GrpcClient(state, signal, bodies)

    clients = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(connections)]
    async with asyncio.timeout(120):
        await state.done
    for connection, _ in clients:
        connection.close()


class Load:
    """How many requests are still to be sent and to be answered; `done` ends the run."""

    def __init__(self, requests: int, in_flight: int) -> None:
        self.unsent = requests
        self.unanswered = requests
        self.in_flight = in_flight
        self.failures: list[str] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self) -> None:
        self.unanswered -= 1
        if not self.unanswered and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        self.failures.append(why)
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))


class HttpClient(asyncio.Protocol):
    """Sends the next of *bodies* whenever an answer, which must be `ANSWER`, has come."""

    def __init__(self, load: Load, signal: str, bodies: Iterator[bytes]) -> None:
        self._load = load
        self._bodies = bodies
        self._head = (
            b"POST /v1/%b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark/1\r\n"
            b"Content-Type: application/x-protobuf\r\nAuthorization: %b\r\nContent-Length: "
        ) % (signal.encode(), BEARER)
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        for _ in range(self._load.in_flight):
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(f"the server closed a connection: {error}")

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received.startswith(ANSWER):
            self._received = self._received[len(ANSWER) :]
            self._load.answered()
            self._send()
        if len(self._received) >= len(ANSWER):
            self._load.fail(repr(self._received[:200]))

    def _send(self) -> None:
        if self._load.unsent:
            self._load.unsent -= 1
            body = next(self._bodies)
            self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))


class GrpcClient(asyncio.Protocol):
    """Calls with the next of *bodies* whenever a call was answered with status 0."""

    def __init__(self, load: Load, signal: str, bodies: Iterator[bytes]) -> None:
        self._load = load
        self._bodies = bodies
        path = f"/opentelemetry.proto.collector.{SERVICES[signal]}/Export".encode()
        self._headers = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"benchmark/1"),
            (b"authorization", BEARER),
        )
        self._session = Connection(Role.CLIENT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._session.initiate_connection({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
        for _ in range(self._load.in_flight):
            self._call()
        self._transport.write(self._session.data_to_send())

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(f"the server closed a connection: {error}")

    def data_received(self, data: bytes) -> None:
        self._session.receive_data(data)
        for event in self._session.events():
            if isinstance(event, TrailersReceived):
                if dict(event.headers).get(b"grpc-status") != b"0":
                    self._load.fail(repr(event))
                self._load.answered()
                self._call()
            elif isinstance(event, DataReceived) and event.data != bytes(5):
                self._load.fail(repr(event))
        self._transport.write(self._session.data_to_send())

    def _call(self) -> None:
        if self._load.unsent:
            self._load.unsent -= 1
            stream_id = self._session.send_request(self._headers)
            body = next(self._bodies)
            data = b"\0" + len(body).to_bytes(4, "big") + body
            self._session.send_data(stream_id, data, end_stream=True)
