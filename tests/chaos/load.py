"""Clients that never give up: they send the same bytes again until they are told of success.

What was acknowledged is remembered, so that it can be looked for afterwards.
"""

import http.client
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

CLIENTS: Final = 4
RECORDS_A_REQUEST: Final = 3
RETRY_SECONDS: Final = 0.05
# Then it goes on at the next port.
REQUESTS_PER_CONNECTION: Final = 10
ANSWER_SECONDS_MAX: Final = 10
LOAD_SECONDS_MAX: Final = 90
RETRYABLE: Final = (429, 502, 503, 504)


@dataclass
class Ledger:
    """What became of each log record, by its body."""

    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    # Sent at least once over a connection that broke: whether that was stored, nobody was told.
    unsure: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    retries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note_sent(self, bodies: list[str]) -> None:
        with self.lock:
            self.sent.update(bodies)

    def note_acknowledged(self, bodies: list[str]) -> None:
        with self.lock:
            self.acknowledged.update(bodies)

    def note_unsure(self, bodies: list[str]) -> None:
        with self.lock:
            self.unsure.update(bodies)

    def note_retry(self) -> None:
        with self.lock:
            self.retries += 1

    def note_refusal(self, text: str) -> None:
        with self.lock:
            self.refusals.append(text)


def request_of(bodies: list[str], now_ns: int) -> bytes:
    """An export request with one log record for each body."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add(time_unix_nano=now_ns).body.string_value = body
    return request.SerializeToString()


class Client:
    """One client: one request at a time, until *stopping* is set.

    It goes from one of the *ports* to the next; what went wrong is sent again there.
    """

    def __init__(
        self,
        ports: Sequence[int],
        name: str,
        ledger: Ledger,
        stopping: threading.Event,
        *,
        headers: Mapping[str, str],
    ) -> None:
        self._ports = cycle(ports)
        self._headers = {"Content-Type": "application/x-protobuf", **headers}
        self._name = name
        self._ledger = ledger
        self._stopping = stopping
        self._deadline = time.monotonic() + LOAD_SECONDS_MAX
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Sends until told to stop; the last request is seen through to its answer."""
        number = 0
        while not self._stopping.is_set() and time.monotonic() < self._deadline:
            bodies = [f"{self._name}/{number}/{part}" for part in range(RECORDS_A_REQUEST)]
            self._ledger.note_sent(bodies)
            request = request_of(bodies, time.time_ns())
            while time.monotonic() < self._deadline and not self._is_settled(request, bodies):
                self._ledger.note_retry()
                time.sleep(RETRY_SECONDS)
            number += 1
            if number % REQUESTS_PER_CONNECTION == 0:
                self._disconnect()
        self._disconnect()

    def _is_settled(self, request: bytes, bodies: list[str]) -> bool:
        try:
            status, content = self._post(request)
        except ConnectionRefusedError:
            self._disconnect()
            return False
        except (OSError, http.client.HTTPException):
            self._disconnect()
            self._ledger.note_unsure(bodies)
            return False
        if status in RETRYABLE:
            self._disconnect()
            return False
        rejected = (
            ExportLogsServiceResponse.FromString(content).partial_success.rejected_log_records
            if status == 200
            else None
        )
        if rejected == 0:
            self._ledger.note_acknowledged(bodies)
        else:
            self._ledger.note_refusal(f"{status}: {content!r}")
        return True

    def _post(self, request: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", next(self._ports), timeout=ANSWER_SECONDS_MAX
            )
        self._connection.request("POST", "/v1/logs", request, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def load(
    port: int, run: str, *more_ports: int, headers: Mapping[str, str] | None = None
) -> Iterator[Ledger]:
    """Load on the HTTP ports within the block; at its end every request has its answer.

    The bodies of log records begin with *run*; requests carry *headers*, such as an API key.
    """
    ledger = Ledger()
    stopping = threading.Event()
    ports = (port, *more_ports)
    clients = [
        Client(
            ports[number % len(ports) :] + ports,
            f"{run}/{number}",
            ledger,
            stopping,
            headers=headers or {},
        )
        for number in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield ledger
    finally:
        stopping.set()
        for thread in threads:
            thread.join(LOAD_SECONDS_MAX)
