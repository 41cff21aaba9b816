"""Instructions of the hot paths for a fixed payload, which no neighbour on the machine changes.

    python -m benchmarks.instructions           count (with valgrind) and compare with what is kept
    python -m benchmarks.instructions --keep    count, and keep the counts

A count depends on the compiler, the C library and the release of Python, so counts are kept for
each of these that was used; `tests/test_instructions.py` holds them to ± 3 %.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import pickle
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Final, cast

from ngh2 import Connection, Role

from benchmarks.no_gateway import NoGateway
from ingest.admission import Admission
from ingest.app import GC_THRESHOLDS
from ingest.batcher import Batcher, BlockLimits
from ingest.codec import Encoder
from ingest.compression import compression
from ingest.directory import Directory
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.log import Headers, Record
from ingest.memory_budget import MemoryBudget
from ingest.partition_writer import PartitionWriter
from ingest.plans import PlannedRecord, RetryWindow
from ingest.ranges import BatchLimits
from ingest.receivers.grpc import GrpcConnection, GrpcReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.recent_requests import REQUESTS_MAX, RecentRequests
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers
from ingest.repeats import SeenRequests
from shared.security.peppers import Peppers
from tests.directory_states import add_key, state_of
from tests.fakes import MemoryInserts, MemoryLog

KEPT_FILE: Final = Path(__file__).parent / "instructions.json"
TOLERANCE: Final = 0.03
SIGNALS: Final = ("traces", "logs", "metrics")
ITEMS: Final = 500
REQUESTS: Final = 8
SMALL_REQUESTS: Final = 100
RECORDS: Final = 50
# So many that the oldest of them have been forgotten when it is counted what one more takes.
REMEMBERED: Final = REQUESTS_MAX + REQUESTS_MAX // 2
# Callgrind writes down what was counted so far, and begins anew, whenever this is called.
MARK: Final = "getppid"
VALGRIND_SECONDS_MAX: Final = 300


class Sink(asyncio.Transport):
    """A connection whose answers are only counted."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Whatever comes was sent before."""

    def resume_reading(self) -> None:
        """Whatever comes was sent before."""


def deliver(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Hand *data* to a protocol as the event loop does, in pieces that its buffer takes."""
    view = memoryview(data)
    while view:
        buffer = cast("memoryview", protocol.get_buffer(-1))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


Work = Callable[[], Awaitable[None]]


def decoding(signal: str, bodies: Sequence[bytes], now_ns: int) -> Work:
    """From requests to a closed block."""
    encoder = Encoder(signal, retention_days=30)

    async def decode() -> None:
        for body in bodies:
            encoder.append(body, tenant="acme", received_ns=now_ns)
        encoder.close()

    return decode


def receiving_http(bodies: Sequence[bytes]) -> Work:
    """From the bytes of a connection to the bytes of its answers, over HTTP."""
    receiver = HttpReceiver(NoGateway(), "127.0.0.1", 0, limits=Limits())
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    sent = [head % len(body) + body for body in bodies]
    connection = cast("asyncio.BufferedProtocol", receiver.new_connection())
    sink = Sink()
    connection.connection_made(sink)

    async def receive() -> None:
        for data in sent:
            before = len(sink.written)
            deliver(connection, data)
            while len(sink.written) == before:  # noqa: ASYNC110
                await asyncio.sleep(0)

    return receive


def receiving_grpc(bodies: Sequence[bytes]) -> Work:
    """The same over gRPC; a new connection each time, since streams cannot be sent again."""
    receiver = GrpcReceiver(NoGateway(), "127.0.0.1", 0, limits=Limits())
    sent = _grpc_calls(receiver, bodies)

    async def receive() -> None:
        connection = cast("asyncio.BufferedProtocol", receiver.new_connection())
        connection.connection_made(Sink())
        deliver(connection, sent)
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)

    return receive


def storing_grpc(bodies: Sequence[bytes], now_ns: int) -> Work:
    """With a key through the whole gateway to a log in memory, all requests in flight at once."""
    peppers, state = Peppers.from_text("a pepper of the benchmark"), state_of("acme")
    key, secret = add_key(state, peppers, "acme")
    directory = Directory(peppers=peppers)
    directory.state = state
    log = MemoryLog()
    # Time enough for all of them: how many share a block must not depend on the machine.
    limits = BlockLimits(bytes_max=8 << 20, rows_max=65_536, wait_ms=3_000)
    gateway = Gateway(
        directory=directory,
        admission=Admission(key_requests_per_minute=0, unix_clock=directory.now),
        batcher=Batcher(log, lanes=1, limits=limits, compress=compression("zstd")),
        budget=MemoryBudget(bytes_max=256 << 20),
        counts=GatewayCounts(log),
        request_seed=1,
        # The second time they are no repeats.
        retry_window_seconds=0,
        clock_ns=lambda: now_ns,
    )
    receiver = GrpcReceiver(gateway, "127.0.0.1", 0, limits=Limits())
    sent = _grpc_calls(receiver, bodies, (b"authorization", f"Bearer {key.id}:{secret}".encode()))

    async def store() -> None:
        connection = cast("GrpcConnection", receiver.new_connection())
        connection.connection_made(Sink())
        deliver(connection, sent)
        while connection.busy:  # noqa: ASYNC110
            # Seldom: each look is counted.
            await asyncio.sleep(1)

    return store


def _grpc_calls(
    receiver: GrpcReceiver, bodies: Sequence[bytes], *more_headers: tuple[bytes, bytes]
) -> bytes:
    """What a client sends when it knows the windows of the server."""
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more_headers,
    )
    client = Connection(Role.CLIENT)
    client.initiate_connection()
    greeting = Sink()
    cast("asyncio.BufferedProtocol", receiver.new_connection()).connection_made(greeting)
    client.receive_data(bytes(greeting.written))
    list(client.events())
    for body in bodies:
        stream = client.send_request(headers)
        data = b"\0" + len(body).to_bytes(4, "big") + body
        client.send_data(stream, data, end_stream=True)
    return client.data_to_send()


def writing(body: bytes, now_ns: int) -> Work:
    """From records of the log to inserts, without log and database."""
    encoder = Encoder("traces", retention_days=30)
    encoder.append(body, tenant="acme", received_ns=now_ns)
    (block,) = encoder.close()
    value = compression("zstd").frame(block.native)
    log = MemoryLog()
    writer = PartitionWriter(
        log,
        "otlp.traces.v1",
        0,
        MemoryInserts(),
        limits=BatchLimits(rows_max=RECORDS * ITEMS, bytes_max=64 << 20, wait_ms=0),
        ensure_tenants=_no_tenants,
        insert_slots=asyncio.Semaphore(1),
    )

    # What it does every few seconds would come into some counts and not into others.
    writer._look_back_at = math.inf

    async def write() -> None:
        for number in range(RECORDS):
            await log.append("otlp.traces.v1", 0, value, _headers(number + 1000 * len(log.commits)))
        while (await log.backlog("writer", "otlp.traces.v1")).records:
            await writer.step()

    return write


def remembering() -> Work:
    """In a gateway that remembers as many requests as it may, one more."""
    recent = RecentRequests(window_seconds=300.0)
    numbers, rounds = count(), iter((REMEMBERED, SMALL_REQUESTS))

    async def remember() -> None:
        for number in islice(numbers, next(rounds)):
            identity = number.to_bytes(16, "big") + b"traces/acme"
            await recent.claim(identity)
            recent.end(identity, durable=True)

    return remember


def noting() -> Work:
    """The same in a writer: records of one request each, behind one of all that were before."""
    seen = SeenRequests(RetryWindow(300_000, REQUESTS_MAX))
    record = Record("otlp.traces.v1", 0, 0, 1_000, b"", ())
    rounds = iter(
        (
            [PlannedRecord(record, _info(range(REMEMBERED)))],
            [PlannedRecord(record, _info([REMEMBERED + each])) for each in range(SMALL_REQUESTS)],
        )
    )

    async def note() -> None:
        for one in next(rounds):
            seen.without_repeats(one)

    return note


async def _no_tenants(_tenants: Sequence[str]) -> None:
    return None


def _headers(number: int) -> Headers:
    return to_headers(_info([number]))


def _info(numbers: Sequence[int]) -> RecordInfo:
    """Of a record with a request of each of *numbers*."""
    return RecordInfo(
        table="tf_traces",
        rows=ITEMS,
        retention_days=30,
        time_min_ns=1,
        time_max_ns=2,
        encoding="zstd",
        tenants=(TenantRows("acme", ITEMS),),
        requests=tuple(
            RequestRows(number.to_bytes(16, "big"), "acme", 0, 0, ITEMS) for number in numbers
        ),
    )


async def run(payload: dict[str, Sequence[bytes]], now_ns: int) -> None:
    """Every path once to warm up, then once between two marks."""
    paths = paths_of(payload, now_ns)
    # As the product has it: what a collection finds depends on all that is there.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for path in paths.values():
        await path()
    start_counting()
    for path in paths.values():
        # So that none has to collect what others, which wait for a clock, have left behind.
        gc.collect()
        os.getppid()
        await path()
        os.getppid()


def start_counting() -> None:
    """Only from here on: what is imported and warmed up runs ten times faster without."""
    command = ["callgrind_control", "--instr=on", str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as control:
        # Valgrind takes the command while this process runs, and not while it waits.
        while control.poll() is None:
            time.sleep(0)
        if control.returncode:
            raise RuntimeError("callgrind did not start to count")


def paths_of(payload: dict[str, Sequence[bytes]], now_ns: int) -> dict[str, Work]:
    """What is counted, by name; how many items each takes is in `ITEMS_OF`."""
    return {
        **{f"decode {signal}": decoding(signal, payload[signal], now_ns) for signal in SIGNALS},
        "receive HTTP, 500 spans": receiving_http(payload["traces"]),
        "receive HTTP, 1 span": receiving_http(payload["small"]),
        "receive gRPC, 500 spans": receiving_grpc(payload["traces"]),
        "receive gRPC, 1 span": receiving_grpc(payload["small"]),
        "store gRPC, 1 span": storing_grpc(payload["small"], now_ns),
        "write": writing(payload["traces"][0], now_ns),
        "remember in a gateway": remembering(),
        "note in a writer": noting(),
    }


# What a count is divided by: items decoded, requests received, records written.
PARTS_OF: Final = {
    **{f"decode {signal}": ITEMS * REQUESTS for signal in SIGNALS},
    "receive HTTP, 500 spans": REQUESTS,
    "receive HTTP, 1 span": SMALL_REQUESTS,
    "receive gRPC, 500 spans": REQUESTS,
    "receive gRPC, 1 span": SMALL_REQUESTS,
    "store gRPC, 1 span": SMALL_REQUESTS,
    "write": RECORDS,
    "remember in a gateway": SMALL_REQUESTS,
    "note in a writer": SMALL_REQUESTS,
}


def counted() -> dict[str, int]:
    """Instructions by path: per item, request or record."""
    # Not at the top: the protobuf library would be imported under valgrind.
    from benchmarks.payloads import NOW_NS, requests  # noqa: PLC0415

    payload = {signal: requests(signal, items=ITEMS, count=REQUESTS) for signal in SIGNALS}
    payload["small"] = requests("traces", items=1, count=SMALL_REQUESTS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "payload"
        file.write_bytes(pickle.dumps((payload, NOW_NS)))
        command = [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--dump-before={MARK}"),
            f"--callgrind-out-file={folder}/counts",
            *(sys.executable, "-m", "benchmarks.instructions", "--run", str(file)),
        ]
        # A seed of its own for each process would change what dictionaries do.
        env = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            command, check=True, capture_output=True, timeout=VALGRIND_SECONDS_MAX, env=env
        )
        return {
            # The first dump holds everything before the first mark, each second one what is between
            # two paths.
            name: _total(Path(folder) / f"counts.{2 * number + 2}") // parts
            for number, (name, parts) in enumerate(PARTS_OF.items())
        }


def _total(dump: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{dump.name} holds no count")
    return int(found[1])


def built_with() -> str:
    """What counts depend on, beside the code."""
    compiler = str(sysconfig.get_config_var("CC")).split()[0]
    release = subprocess.run(
        [compiler, "-dumpversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    library = " ".join(platform.libc_ver())
    python = platform.python_version()
    return f"{platform.machine()}, {compiler} {release}, {library}, Python {python}"


def compared(kept: dict[str, int], found: dict[str, int]) -> list[str]:
    """One sentence for each path whose count is not what is kept, within `TOLERANCE`."""
    return [
        f"{name}: {found[name]} instructions instead of {instructions} "
        f"({found[name] / instructions - 1:+.1%})"
        for name, instructions in kept.items()
        if abs(found[name] - instructions) > TOLERANCE * instructions
    ]


def kept_counts() -> dict[str, dict[str, int]]:
    """What is kept, by what it was built with."""
    found: dict[str, dict[str, int]] = json.loads(KEPT_FILE.read_text())
    return found


def main() -> int:
    """Count and compare; 1 when a path takes another number of instructions than is kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.instructions", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep what is counted")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        payload, now_ns = pickle.loads(options.run.read_bytes())
        asyncio.run(run(payload, now_ns))
        return 0
    found = counted()
    kept = kept_counts() if KEPT_FILE.exists() else {}
    before = kept.get(built_with(), {})
    for name, instructions in found.items():
        print(f"{name:<28} {instructions:>9}   kept {before.get(name, '-')}")
    if options.keep:
        text = json.dumps(kept | {built_with(): found}, indent=1, sort_keys=True)
        KEPT_FILE.write_text(text + "\n")
        return 0
    return 1 if compared(before, found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
