"""What a receiver costs per request, without the gateway behind it.

The server is a process of its own, so that its CPU can be told from the client's.
`cpu_microseconds_per_request` in a result's extra info is the number to look at.
"""

from itertools import repeat
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from benchmarks.micro.receiver_client import drive, server
from benchmarks.payloads import requests

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS: Final = 3
WARM_UP_REQUESTS: Final = 500
# items a request -> requests a round, connections, requests in flight on each of them.
LOADS: Final = {1: (20_000, 16, 20), 500: (1_000, 8, 4)}
GRPCIO_REQUESTS: Final = 1_500


@pytest.mark.parametrize("items", LOADS)
@pytest.mark.parametrize("transport", ["http", "grpc", "grpcio"])
def test_receiver_from_socket_to_answer(
    benchmark: "BenchmarkFixture", transport: str, items: int
) -> None:
    count, connections, in_flight = LOADS[items]
    count = min(count, GRPCIO_REQUESTS) if transport == "grpcio" else count
    body = requests("traces", items=items, count=1)[0]
    cpu_seconds: list[float] = []
    bodies = repeat(body)
    with server(transport, "nothing") as running:

        def run() -> None:
            before = running.cpu_seconds()
            uvloop.run(
                drive(transport, running.port, "traces", bodies, (count, connections, in_flight))
            )
            cpu_seconds.append(running.cpu_seconds() - before)

        warm_up = (WARM_UP_REQUESTS, connections, in_flight)
        uvloop.run(drive(transport, running.port, "traces", bodies, warm_up))
        benchmark.pedantic(run, rounds=ROUNDS)  # type: ignore[no-untyped-call]
        benchmark.extra_info["resident_bytes"] = running.process.memory_info().rss
    microseconds = sorted(seconds / count * 1e6 for seconds in cpu_seconds)
    benchmark.group = f"receiver, {items} items a request"
    benchmark.extra_info["bytes_a_request"] = len(body)
    benchmark.extra_info["cpu_microseconds_per_request"] = microseconds[ROUNDS // 2]
    benchmark.extra_info["cpu_microseconds_per_request_min"] = microseconds[0]
