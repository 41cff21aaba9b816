"""What a receiver costs per request, without the gateway behind it.

The server is a process of its own, so that its CPU can be told from the client's.
`cpu_microseconds_per_request` in a result's extra info is the number to look at.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, cast

import psutil
import pytest
import uvloop

from benchmarks.micro.receiver_client import BEARER, GrpcClient, HttpClient, Load
from benchmarks.payloads import requests

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

EXPORT_PATH: Final = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
)
ROUNDS: Final = 3
WARM_UP_REQUESTS: Final = 500
# items a request -> requests a round, connections, requests in flight on each of them.
LOADS: Final = {1: (20_000, 16, 20), 500: (1_000, 8, 4)}
GRPCIO_REQUESTS: Final = 1_500
# As the product sets them at its start: else malloc maps and unmaps memory for every large body,
# and page faults cost three times what the receiver does.
MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@contextmanager
def server(transport: str) -> Iterator[tuple[psutil.Process, int]]:
    """A receiver in its own process, and its port."""
    command = [sys.executable, "-m", "benchmarks.micro.receiver_server", transport]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | MALLOC
    ) as process:
        try:
            port = int(cast("IO[bytes]", process.stdout).readline())
            yield psutil.Process(process.pid), port
            process.communicate(timeout=30)
        finally:
            process.kill()


async def drive(transport: str, port: int, body: bytes, load: tuple[int, int, int]) -> None:
    """Send *load* and wait for every answer."""
    count, connections, in_flight = load
    state = Load(count, 1 if transport == "http" else in_flight)
    loop = asyncio.get_running_loop()
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark/1\r\n"
        b"Content-Type: application/x-protobuf\r\nAuthorization: %b\r\nContent-Length: %d\r\n\r\n"
    ) % (BEARER, len(body))

    def client() -> asyncio.Protocol:
        if transport == "http":
            return HttpClient(state, head + body, ANSWER)
        return GrpcClient(state, EXPORT_PATH, body)

    clients = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(connections)]
    async with asyncio.timeout(120):
        await state.done
    for connection, _ in clients:
        connection.close()


@pytest.mark.parametrize("items", LOADS)
@pytest.mark.parametrize("transport", ["http", "grpc", "grpcio"])
def test_receiver_from_socket_to_answer(
    benchmark: "BenchmarkFixture", transport: str, items: int
) -> None:
    count, connections, in_flight = LOADS[items]
    count = min(count, GRPCIO_REQUESTS) if transport == "grpcio" else count
    body = requests("traces", items=items, count=1)[0]
    cpu_seconds: list[float] = []
    with server(transport) as (process, port):

        def run() -> None:
            before = process.cpu_times()
            uvloop.run(drive(transport, port, body, (count, connections, in_flight)))
            after = process.cpu_times()
            cpu_seconds.append(after.user + after.system - before.user - before.system)

        uvloop.run(drive(transport, port, body, (WARM_UP_REQUESTS, connections, in_flight)))
        benchmark.pedantic(run, rounds=ROUNDS)  # type: ignore[no-untyped-call]
        benchmark.extra_info["resident_bytes"] = process.memory_info().rss
    microseconds = sorted(seconds / count * 1e6 for seconds in cpu_seconds)
    benchmark.group = f"receiver, {items} items a request"
    benchmark.extra_info["bytes_a_request"] = len(body)
    benchmark.extra_info["cpu_microseconds_per_request"] = microseconds[ROUNDS // 2]
    benchmark.extra_info["cpu_microseconds_per_request_min"] = microseconds[0]
