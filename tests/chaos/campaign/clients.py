"""Clients that send every item of a run, and each request until they are told of success."""

import http.client
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc  # type: ignore[import-untyped]

from tests.chaos.campaign.bodies import SIGNALS, body
from tests.chaos.load import RETRYABLE

HTTP_CLIENTS: Final = 5
GRPC_CLIENTS: Final = 1
ANSWER_SECONDS_MAX: Final = 8.0
RETRY_SECONDS: Final = 0.05
# So much is sent while faults happen at the most; the rest shows that all is well again (I13).
SHARE_UNDER_FAULTS: Final = 0.9
SIZES: Final = (1, 1, 2, 10, 50, 200, 500, 1_000, 3_000)
_METHODS: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


@dataclass(frozen=True, slots=True)
class Sender:
    """A tenant, and what its requests carry to prove it."""

    tenant: str
    headers: dict[str, str]


@dataclass
class Tally:
    """What a run sent and was told; one for all its clients."""

    items: int
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    acked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    requests: int = 0
    retries: int = 0
    refusals: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def acked_items(self) -> int:
        """Over all signals."""
        return sum(self.acked.values())


class Clients:
    """All clients of one run: *items* items in all.

    They take *seconds* for it, but never end before the faults do: `faults_are_over` says so.
    """

    def __init__(
        self,
        run: str,
        items: int,
        senders: Sequence[Sender],
        *,
        http_ports: Sequence[int],
        grpc_ports: Sequence[int],
        seconds: float,
        seconds_max: float,
        seed: int,
    ) -> None:
        self.tally = Tally(items)
        self._run_name = run
        self._senders = senders
        self._http_ports = http_ports
        self._grpc_ports = grpc_ports
        self._random = random.Random(seed)
        self._left = items
        self._started = time.monotonic()
        self._seconds = seconds
        self._deadline = self._started + seconds_max
        self._faults_over = threading.Event()
        kinds = [self._http] * HTTP_CLIENTS + [self._grpc] * GRPC_CLIENTS
        self._threads = [threading.Thread(target=kind, args=(n,)) for n, kind in enumerate(kinds)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def faults_are_over(self) -> None:
        """Send the rest, without a break."""
        self._faults_over.set()

    def join(self) -> None:
        """Wait until everything is acknowledged, or the time is over."""
        for thread in self._threads:
            thread.join()

    def _next(self) -> tuple[str, Sender, bytes, int] | None:
        """The next request, when it is its time; None when nothing is left to send."""
        with self.tally.lock:
            if not self._left:
                return None
            signal = self._random.choice(SIGNALS)
            sender = self._random.choice(self._senders)
            items = min(self._random.choice(SIZES), self._left)
            self._left -= items
            first = self.tally.sent[signal]
            self.tally.sent[signal] += items
            self.tally.requests += 1
            done = 1 - self._left / self.tally.items
        due = self._started + done * self._seconds
        if done > SHARE_UNDER_FAULTS:
            due = self._deadline
        self._faults_over.wait(max(due - time.monotonic(), 0))
        return signal, sender, body(signal, self._run_name, sender.tenant, first, items), items

    def _http(self, number: int) -> None:
        while (request := self._next()) is not None:
            signal, sender, content, items = request
            connection: http.client.HTTPConnection | None = None
            tries = number
            while time.monotonic() < self._deadline:
                port = self._http_ports[tries % len(self._http_ports)]
                tries += 1
                connection = http.client.HTTPConnection(
                    "127.0.0.1", port, timeout=ANSWER_SECONDS_MAX
                )
                try:
                    headers = {"Content-Type": "application/x-protobuf", **sender.headers}
                    connection.request("POST", f"/v1/{signal}", content, headers)
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    pass
                else:
                    if answer.status == 200:
                        self._acked(signal, items)
                        break
                    if answer.status not in RETRYABLE:
                        self._refused(f"{answer.status}: {text[:200]!r}")
                        break
                finally:
                    connection.close()
                self._retry()

    def _grpc(self, number: int) -> None:
        channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in self._grpc_ports]
        calls = [
            {signal: channel.unary_unary(method) for signal, method in _METHODS.items()}
            for channel in channels
        ]
        while (request := self._next()) is not None:
            signal, sender, content, items = request
            metadata = [(name.lower(), text) for name, text in sender.headers.items()]
            tries = number
            while time.monotonic() < self._deadline:
                call = calls[tries % len(calls)][signal]
                tries += 1
                try:
                    call(content, timeout=ANSWER_SECONDS_MAX, metadata=metadata)
                except grpc.RpcError as error:
                    code = error.code()
                    if code not in (
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        grpc.StatusCode.CANCELLED,
                    ):
                        self._refused(f"{code}: {error.details()}")
                        break
                else:
                    self._acked(signal, items)
                    break
                self._retry()
        for channel in channels:
            channel.close()

    def _acked(self, signal: str, items: int) -> None:
        with self.tally.lock:
            self.tally.acked[signal] += items

    def _refused(self, text: str) -> None:
        with self.tally.lock:
            self.tally.refusals.append(text)

    def _retry(self) -> None:
        with self.tally.lock:
            self.tally.retries += 1
        time.sleep(RETRY_SECONDS)
