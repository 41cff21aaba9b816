"""The fuzz targets of the receivers' edges: bytes of a connection into HTTP/1.1 or HTTP/2.

An input is what a client sends, after a first byte that says how it is cut into reads. Whatever
comes, nothing is raised, no error is logged, the connection ends, and everything that it held is
given back. With *compare* the same bytes also go into connections with wide limits, once cut and
once whole: what is exported must not depend on that.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias, cast

from ingest.directory import Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.memory_budget import MemoryBudget
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.listener import Listener
from ingest.signals import Signal
from shared.security.credentials import Credentials

# Small, so that inputs of a few kilobytes reach them.
LIMITS: Final = Limits(
    body_bytes_max=2_000,
    compressed_members_max=3,
    url_bytes_max=100,
    header_line_bytes_max=200,
    headers_max=12,
    headers_bytes_max=500,
    metadata_bytes_max=800,
    pipelined_requests_max=3,
    discarded_bytes_max=50,
    chunk_overhead_bytes_max=300,
    failures_max=5,
    streams_max=4,
    pings_max=3,
    idle_events_max=30,
)
# None of these is reached by an input.
WIDE: Final = Limits(streams_max=10_000, failures_max=10_000, pings_max=10_000)
BUDGET_BYTES: Final = 6_000
WIDE_BUDGET_BYTES: Final = 1 << 30
TURNS: Final = 6
# More than any time limit.
LATER_SECONDS: Final = 4_000.0


Export: TypeAlias = tuple[Signal, Encoding, bytes]


class Recorder:
    """Implements Exporter: it keeps what it is given, and believes everybody."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget = MemoryBudget(bytes_max=budget_bytes)
        self.exports: Counter[Export] = Counter()

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        return Principal("acme", 30)

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        self.exports[signal, encoding, body] += 1
        return FULL_SUCCESS

    def ready(self) -> str | None:
        return None


class Edge(Protocol):
    """What both connections are: a buffered protocol and a listener.Connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def tick(self, now: float) -> None: ...


class Pipe(asyncio.Transport):
    """A transport whose peer reads everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.reading = True
        self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.ended:
            self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The peer sees the end; it may still send."""

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


class Complaints(logging.Handler):
    """Raises what is logged as an error: a defect that the receiver caught."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(self.format(record))


def check_of(target: str, loop: asyncio.AbstractEventLoop) -> Callable[..., None]:
    """The target of that name, `http1` or `http2`."""
    receiver = HttpReceiver if target == "http1" else GrpcReceiver

    def talk_on(limits: Limits, budget_bytes: int, sent: bytes, size: int) -> Counter[Export]:
        listener = receiver(Recorder(budget_bytes), "", 0, limits=limits)
        logger = logging.getLogger("ingest")
        complaints = Complaints(logging.ERROR)
        logger.addHandler(complaints)
        try:
            return loop.run_until_complete(talk(listener, sent, size))
        finally:
            logger.removeHandler(complaints)

    def check(data: bytes, *, compare: bool) -> None:
        size, sent = (data[0] + 1 if data else 1), data[1:]
        talk_on(LIMITS, BUDGET_BYTES, sent, size)
        if not compare:
            return
        exports = talk_on(WIDE, WIDE_BUDGET_BYTES, sent, size)
        at_once = talk_on(WIDE, WIDE_BUDGET_BYTES, sent, len(sent) + 1)
        # A call that is given up in the bytes that bring it may not have begun.
        lost = at_once - exports
        if target == "http1":
            lost += exports - at_once
        if lost:
            raise AssertionError(f"in reads of {size}: {exports}, at once: {at_once}")

    return check


async def talk(listener: Listener, sent: bytes, read_bytes: int) -> Counter[Export]:
    """What a connection exports that is sent those bytes in reads of so many."""
    gateway = cast("Recorder", listener.gateway)
    connection = cast("Edge", listener.new_connection())
    pipe = Pipe()
    connection.connection_made(pipe)
    for piece in pieces_of(sent, read_bytes):
        await deliver(connection, pipe, piece)
    if not pipe.ended and not connection.eof_received():
        pipe.close()
    await turns()
    now = asyncio.get_running_loop().time()
    # Its time limits end it, once and for all.
    connection.tick(now + LATER_SECONDS)
    await turns()
    connection.tick(now + 2 * LATER_SECONDS)
    ended = pipe.ended
    connection.connection_lost(None)
    await turns()
    if not ended:
        raise AssertionError("the connection would stay open for ever")
    if gateway.budget.bytes_held:
        raise AssertionError(f"{gateway.budget.bytes_held} bytes are held by nobody")
    if listener.connections:
        raise AssertionError("the listener remembers a connection that is gone")
    return gateway.exports


def pieces_of(sent: bytes, read_bytes: int) -> Iterator[bytes]:
    for at in range(0, len(sent), read_bytes):
        yield sent[at : at + read_bytes]


async def deliver(connection: Edge, pipe: Pipe, piece: bytes) -> None:
    """Give a connection bytes as a transport would: into its buffers, while it reads."""
    while piece and not pipe.ended:
        for _ in range(TURNS):
            if pipe.reading:
                break
            await asyncio.sleep(0)
        if not pipe.reading:
            return
        buffer = connection.get_buffer(-1)
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        piece = piece[size:]
        del buffer
        connection.buffer_updated(size)
        await asyncio.sleep(0)


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
