"""What a gateway costs from socket to log: receive, authenticate, decode, batch and compress.

The log only swallows. The server is a process of its own, and only its CPU is counted:
`cpu_seconds_per_million_items` in a result's extra info is the number to look at.
"""

from collections.abc import Iterator
from itertools import count, cycle
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from benchmarks.micro.receiver_client import drive, server
from benchmarks.payloads import SIGNALS, requests

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS: Final = 5
WARM_UP_PART: Final = 4
# items a request -> requests a round, requests in flight.
LOADS: Final = {1: (16_000, 160), 50: (3_000, 64), 500: (400, 32)}
GRPC_CONNECTIONS: Final = 8
DISTINCT_REQUESTS: Final = 100
# Field 1000, fixed64, which OTLP does not have.
UNKNOWN_FIELD: Final = b"\xc1\x3e"


def never_twice(bodies: list[bytes]) -> Iterator[bytes]:
    """*bodies* again and again, each time with another end: repeats would not be decoded."""
    for number, body in zip(count(), cycle(bodies), strict=False):
        yield body + UNKNOWN_FIELD + number.to_bytes(8, "little")


@pytest.mark.parametrize("items", LOADS)
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_gateway_from_socket_to_log(
    benchmark: "BenchmarkFixture", transport: str, signal: str, items: int
) -> None:
    sent, in_flight = LOADS[items]
    connections = in_flight if transport == "http" else GRPC_CONNECTIONS
    load = (sent, connections, in_flight // connections)
    warm_up = (sent // WARM_UP_PART, *load[1:])
    bodies = never_twice(requests(signal, items=items, count=DISTINCT_REQUESTS))
    cpu_seconds: list[float] = []
    with server(transport, "gateway") as running:

        def run() -> None:
            before = running.cpu_seconds()
            uvloop.run(drive(transport, running.port, signal, bodies, load))
            cpu_seconds.append(running.cpu_seconds() - before)

        uvloop.run(drive(transport, running.port, signal, bodies, warm_up))
        benchmark.pedantic(run, rounds=ROUNDS)  # type: ignore[no-untyped-call]
        benchmark.extra_info["resident_bytes"] = running.process.memory_info().rss
    blocks, rows = map(int, running.said.split())
    assert rows == (warm_up[0] + ROUNDS * sent) * items
    rounds = sorted(seconds / (sent * items) * 1e6 for seconds in cpu_seconds)
    benchmark.group = f"gateway, {signal}, {items} items a request"
    benchmark.extra_info["rows_a_block"] = rows / blocks
    benchmark.extra_info["cpu_seconds_per_million_items"] = rounds[ROUNDS // 2]
    benchmark.extra_info["cpu_seconds_per_million_items_min"] = rounds[0]
