"""What it costs to turn OTLP requests into Native blocks, beside parsing them with upb alone.

`cpu_seconds_per_million_items` in a result's extra info is the number to look at: it travels
between machines better than items per second do.
"""

import time
from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, Final

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.payloads import NOW_NS, SIGNALS, requests
from ingest.codec import Encoder
from ingest.codec.cardinality import Guard
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.compression import compression

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ITEMS: Final = (1, 50, 500, 5_000)
# Rounds of a few milliseconds measure the neighbours on a shared machine.
ITEMS_A_ROUND: Final = 100_000
ROUNDS: Final = 7
# More distinct bytes than a second-level cache holds, so that no request is warm when it comes.
DISTINCT_ITEMS_MAX: Final = 100_000
DISTINCT_REQUESTS_MAX: Final = 200
MESSAGE_OF: Final[dict[str, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def measure(
    benchmark: "BenchmarkFixture",
    signal: str,
    items: int,
    decode: Callable[[list[bytes]], None],
    share: float = 1.0,
) -> None:
    """Times *decode* over rounds of distinct requests and keeps its least CPU time per item.

    *share* is the part of a round's items that *decode* really takes.
    """
    count = min(DISTINCT_REQUESTS_MAX, max(2, DISTINCT_ITEMS_MAX // items))
    bodies = cycle(requests(signal, items=items, count=count))
    requests_a_round = max(1, min(20_000, ITEMS_A_ROUND // items))
    cpu_seconds: list[float] = []

    def batch() -> tuple[tuple[list[bytes]], dict[str, object]]:
        return ([next(bodies) for _ in range(requests_a_round)],), {}

    def timed(batch_bodies: list[bytes]) -> None:
        begin = time.process_time()
        decode(batch_bodies)
        cpu_seconds.append(time.process_time() - begin)

    benchmark.pedantic(timed, setup=batch, rounds=ROUNDS, warmup_rounds=2)  # type: ignore[no-untyped-call]
    rounds = sorted(cpu_seconds[-ROUNDS:])
    per_million = 1_000_000 / (requests_a_round * items * share)
    benchmark.group = f"{signal}, {items} items a request"
    benchmark.extra_info["items_a_request"] = items
    benchmark.extra_info["bytes_a_item"] = len(next(bodies)) / items
    benchmark.extra_info["cpu_seconds_per_million_items"] = rounds[len(rounds) // 2] * per_million
    benchmark.extra_info["cpu_seconds_per_million_items_min"] = rounds[0] * per_million


@pytest.mark.parametrize("items", ITEMS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_encoder_from_request_to_closed_blocks(
    benchmark: "BenchmarkFixture", signal: str, items: int
) -> None:
    # About 4 000 rows a block, as the gateway fills them.
    requests_a_block = max(1, 4_000 // items)
    encoder = Encoder(signal, retention_days=30)

    def decode(bodies: list[bytes]) -> None:
        for first in range(0, len(bodies), requests_a_block):
            for body in bodies[first : first + requests_a_block]:
                encoder.append(body, tenant="acme", received_ns=NOW_NS)
            encoder.close()

    measure(benchmark, signal, items, decode)


@pytest.mark.parametrize("signal", SIGNALS)
def test_encoder_with_one_request_of_500_items_a_block(
    benchmark: "BenchmarkFixture", signal: str
) -> None:
    encoder = Encoder(signal, retention_days=30)

    def decode(bodies: list[bytes]) -> None:
        for body in bodies:
            encoder.append(body, tenant="acme", received_ns=NOW_NS)
            encoder.close()

    measure(benchmark, signal, 500, decode)


@pytest.mark.parametrize("signal", SIGNALS)
def test_encoder_with_a_guard_that_knows_everything(
    benchmark: "BenchmarkFixture", signal: str
) -> None:
    """What a limit to new series and attribute keys costs, beside 500 items a request without."""
    encoder = Encoder(signal, retention_days=30)
    guard = Guard(series_max=1 << 40, keys_max=1 << 40)

    def decode(bodies: list[bytes]) -> None:
        for first in range(0, len(bodies), 8):
            for body in bodies[first : first + 8]:
                encoder.append(body, tenant="acme", received_ns=NOW_NS, guard=guard)
            encoder.close()

    measure(benchmark, signal, 500, decode)


@pytest.mark.parametrize("items", ITEMS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_upb_parsing_alone(benchmark: "BenchmarkFixture", signal: str, items: int) -> None:
    message = MESSAGE_OF[signal]

    def decode(bodies: list[bytes]) -> None:
        for body in bodies:
            message.FromString(body)

    measure(benchmark, signal, items, decode)


@pytest.mark.parametrize("signal", SIGNALS)
def test_reference_from_request_to_closed_blocks(
    benchmark: "BenchmarkFixture", signal: str
) -> None:
    """The plain-Python twin: what the compiled codec saves."""
    encoder = ReferenceEncoder(signal, retention_days=30)

    def decode(bodies: list[bytes]) -> None:
        for body in bodies[:2]:
            encoder.append(body, tenant="acme", received_ns=NOW_NS)
            encoder.close()

    measure(benchmark, signal, 500, decode, share=2 / (ITEMS_A_ROUND // 500))


@pytest.mark.parametrize("encoding", ["zstd", "lz4"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_compression_of_a_block(benchmark: "BenchmarkFixture", signal: str, encoding: str) -> None:
    """One frame of a block of about 4 000 rows."""
    frame = compression(encoding).frame
    encoder = Encoder(signal, retention_days=30)
    for body in requests(signal, items=500, count=8):
        encoder.append(body, tenant="acme", received_ns=NOW_NS)
    blocks = [block.native for block in encoder.close()]

    def compress(_bodies: list[bytes]) -> None:
        for block in blocks:
            frame(block)

    measure(benchmark, signal, 500, compress, share=4_000 / ITEMS_A_ROUND)
    sizes = [len(frame(block)) for block in blocks]
    benchmark.extra_info["compressed_bytes_a_item"] = sum(sizes) / 4_000
