"""The load generator, a process of its own: one JSON of options in, one JSON of results out.

    python -m benchmarks.capacity.load '{"transport": "grpc", "port": 4317, "requests": 1000}'

Closed loop (`rate` 0): a fixed number of requests is in flight. Open loop: requests are due at a
fixed rate whatever the server does, and a request's latency counts from when it was due, so that a
server that stands still is charged for everything that it held up (no coordinated omission).
It ends after `requests` or `seconds_max`, and sends to this machine only, unless `--remote` is
given.
"""

import asyncio
import gc
import ipaddress
import json
import math
import re
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Final, cast

import uvloop
from ngh2 import (
    Connection,
    DataReceived,
    ResponseReceived,
    Role,
    Setting,
    StreamReset,
    TrailersReceived,
)

from benchmarks.capacity.bodies import bodies

SERVICES: Final = {
    "traces": "trace.v1.TraceService",
    "logs": "logs.v1.LogsService",
    "metrics": "metrics.v1.MetricsService",
}
REQUESTS_MAX: Final = 50_000_000
SECONDS_MAX: Final = 900.0
# Requests that an open loop has waiting or in flight; what is due beyond that is dropped, counted.
OUTSTANDING_MAX: Final = 20_000
TICK_SECONDS: Final = 0.001
# Buckets of the histogram grow by 2 %, as an HDR histogram of two digits.
BUCKET_GROWTH: Final = math.log(1.02)
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to send. `rate` is requests a second, 0 for a closed loop."""

    transport: str
    port: int
    host: str = "127.0.0.1"
    signals: tuple[str, ...] = ("traces",)
    items: int = 500
    requests: int = 1_000
    seconds_max: float = 60.0
    rate: float = 0.0
    connections: int = 8
    streams: int = 4
    encoding: str = "protobuf"
    compressed: bool = False
    # Authorization of each connection in turn, so that many tenants can send; none: no header.
    keys: tuple[str, ...] = ()
    seed: int = 1

    def checked(self, *, remote: bool) -> "Options":
        """Itself, when it is bounded and stays on this machine."""
        if not 0 < self.requests <= REQUESTS_MAX or not 0 < self.seconds_max <= SECONDS_MAX:
            raise SystemExit(f"at most {REQUESTS_MAX} requests and {SECONDS_MAX:.0f} seconds")
        if not remote and not ipaddress.ip_address(self.host).is_loopback:
            raise SystemExit(f"{self.host} is not this machine: --remote allows it")
        return self


@dataclass
class Result:
    """What became of the requests. `buckets` counts latencies: see `quantile_ms`."""

    answered: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    items: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    buckets: Counter[int] = field(default_factory=Counter)

    def count(self, outcome: str, latency_seconds: float) -> None:
        """One answer. Latencies below a microsecond count as one."""
        self.answered[outcome] += 1
        if outcome == "ok":
            self.buckets[int(math.log(max(latency_seconds * 1e6, 1.0)) / BUCKET_GROWTH)] += 1


def quantile_ms(buckets: dict[int, int], part: float) -> float:
    """The latency that *part* of the answers were within, to 2 %."""
    left = part * sum(buckets.values())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            return math.exp((bucket + 1) * BUCKET_GROWTH) / 1e3
    return 0.0


class Source:
    """Hands out what is to be sent next, and knows when all is done."""

    def __init__(self, options: Options, result: Result) -> None:
        self.options = options
        self.result = result
        self.unsent = options.requests
        self.in_flight = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Open loop: when each request that waits for a free connection was due.
        self.due: deque[float] = deque()
        self._kinds = cycle(
            [
                (signal, self._bodies(signal, number))
                for number, signal in enumerate(options.signals)
            ]
        )

    def _bodies(self, signal: str, number: int) -> Iterator[bytes]:
        options = self.options
        made = bodies(
            signal,
            options.items,
            seed=options.seed * 1_000 + number,
            encoding=options.encoding,
            compressed=options.compressed,
        )
        next(made)  # before the clock runs: the first one builds the templates
        return made

    def take(self) -> tuple[float, str, bytes] | None:
        """(since when its latency counts, signal, body) of the next request, None for no more."""
        if self.options.rate:
            if not self.due:
                return None
            since = self.due.popleft()
        elif self.unsent:
            self.unsent -= 1
            since = time.perf_counter()
        else:
            return None
        signal, made = next(self._kinds)
        body = next(made)
        self.in_flight += 1
        self.result.items += self.options.items
        self.result.bytes += len(body)
        return since, signal, body

    def answered(self, outcome: str, since: float) -> None:
        """A request that was taken has its answer, or never will."""
        self.in_flight -= 1
        self.result.count(outcome, time.perf_counter() - since)
        if not self.in_flight and not self.unsent and not self.due:
            self.finish()

    def finish(self) -> None:
        """End the run."""
        if not self.done.done():
            self.done.set_result(None)


class Client(asyncio.Protocol):
    """A connection with up to `streams` requests in flight."""

    def __init__(self, source: Source, key: str) -> None:
        self.source = source
        self.key = key.encode()
        self.open: dict[int, float] = {}
        self.room = source.options.streams if source.options.transport == "grpc" else 1
        self.received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        for since in self.open.values():
            self.source.answered("connection lost", since)
        self.open.clear()
        self.room = 0

    def fill(self) -> None:
        """Send as long as there is room and something to send."""
        raise NotImplementedError

    def end(self, number: int, outcome: str) -> None:
        """The request of that number is answered."""
        since = self.open.pop(number, None)
        if since is not None:
            self.source.answered(outcome, since)


class HttpClient(Client):
    """OTLP/HTTP on a connection that is kept alive."""

    def fill(self) -> None:
        while len(self.open) < self.room and (taken := self.source.take()):
            since, signal, body = taken
            self.open[0] = since
            self.transport.write(self._head(signal, len(body)))
            self.transport.write(body)

    def _head(self, signal: str, length: int) -> bytes:
        options = self.source.options
        kind = "application/json" if options.encoding == "json" else "application/x-protobuf"
        coding = b"Content-Encoding: gzip\r\n" if options.compressed else b""
        key = b"Authorization: %b\r\n" % self.key if self.key else b""
        return (
            b"POST /v1/%b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: capacity/1\r\n"
            b"Content-Type: %b\r\n%b%bContent-Length: %d\r\n\r\n"
        ) % (signal.encode(), kind.encode(), coding, key, length)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self.received, 0, end)
            end += 4 + (int(found[1]) if found else 0)
            if len(self.received) < end:
                return
            status = self.received[9:12]
            self.received = self.received[end:]
            self.end(0, "ok" if status == b"200" else f"HTTP {status.decode()}")
            self.fill()


class GrpcClient(Client):
    """OTLP/gRPC: unary calls on one connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._session = Connection(Role.CLIENT)
        self._session.initiate_connection({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
        self._headers = {signal: self._headers_of(signal) for signal in SERVICES}

    def _headers_of(self, signal: str) -> tuple[tuple[bytes, bytes], ...]:
        path = f"/opentelemetry.proto.collector.{SERVICES[signal]}/Export".encode()
        fixed = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"capacity/1"),
        )
        coding = ((b"grpc-encoding", b"gzip"),) if self.source.options.compressed else ()
        return fixed + coding + (((b"authorization", self.key),) if self.key else ())

    def fill(self) -> None:
        flag = b"\1" if self.source.options.compressed else b"\0"
        while len(self.open) < self.room and (taken := self.source.take()):
            since, signal, body = taken
            stream_id = self._session.send_request(self._headers[signal])
            self.open[stream_id] = since
            data = flag + len(body).to_bytes(4, "big") + body
            self._session.send_data(stream_id, data, end_stream=True)
        self.transport.write(self._session.data_to_send())

    def data_received(self, data: bytes) -> None:
        self._session.receive_data(data)
        for event in self._session.events():
            if isinstance(event, TrailersReceived) or (
                isinstance(event, ResponseReceived) and event.end_stream
            ):
                status = dict(event.headers).get(b"grpc-status", b"none")
                outcome = "ok" if status == b"0" else f"gRPC {status.decode()}"
                self.end(event.stream_id, outcome)
            elif isinstance(event, StreamReset):
                self.end(event.stream_id, "reset")
            elif not isinstance(event, DataReceived):
                continue
        self.fill()


async def run(options: Options) -> Result:
    """Send it all, and wait for the answers."""
    result = Result()
    source = Source(options, result)
    keys = cycle(options.keys or ("",))
    loop = asyncio.get_running_loop()
    kind: type[Client] = GrpcClient if options.transport == "grpc" else HttpClient
    clients = []
    for _ in range(options.connections):
        client = kind(source, next(keys))
        await loop.create_connection(partial(_same, client), options.host, options.port)
        clients.append(client)
    gc.freeze()
    started, cpu = time.perf_counter(), time.process_time()
    try:
        async with asyncio.timeout(options.seconds_max + 10), asyncio.TaskGroup() as sending:
            if options.rate:
                sending.create_task(_make_due(source, deque(clients)))
            for client in clients:
                client.fill()
            await source.done
    except TimeoutError:
        result.answered["in flight at the end"] += source.in_flight
    result.seconds = time.perf_counter() - started
    result.cpu_seconds = time.process_time() - cpu
    for client in clients:
        client.open.clear()
        client.transport.abort()
    return result


async def _make_due(source: Source, clients: deque[Client]) -> None:
    """Open loop: make requests due on time, and give them to connections with room, in turn.

    In turn, because a server closes connections that never say anything.
    """
    options = source.options
    count = min(options.requests, int(options.rate * options.seconds_max))
    begin = time.perf_counter()
    made = 0
    source.unsent = 1  # not done before all were due
    while made < count:
        now = time.perf_counter()
        while made < count and begin + made / options.rate <= now:
            if len(source.due) + source.in_flight >= OUTSTANDING_MAX:
                source.result.dropped += 1
            else:
                source.due.append(begin + made / options.rate)
            made += 1
        for _ in range(len(clients)):
            if not source.due:
                break
            if clients[0].room:
                clients[0].fill()
            clients.rotate(-1)
        await asyncio.sleep(TICK_SECONDS)
    source.unsent = 0
    if not source.due and not source.in_flight:
        source.finish()


def _same(client: Client) -> Client:
    return client


def main(arguments: list[str]) -> None:
    """Read options from the command line, write the result to standard output."""
    remote = "--remote" in arguments
    (text,) = [each for each in arguments if each != "--remote"]
    wanted: dict[str, Any] = json.loads(text)
    options = Options(**{key: _hashable(value) for key, value in wanted.items()})
    result = uvloop.run(run(options.checked(remote=remote)))
    print(json.dumps(vars(result) | {"peak_rss_bytes": _peak_rss_bytes()}))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
