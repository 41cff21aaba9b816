"""Clients that keep a fixed number of requests in flight, as cheaply as Python can."""

import asyncio
from typing import cast

from ngh2 import Connection, DataReceived, Role, Setting, TrailersReceived

BEARER = b"Bearer tfk_" + b"0123456789abcdef" * 2 + b":tfs_" + b"0123456789abcdef" * 4


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
    """Sends *request* again whenever its answer, which must be *answer*, has come."""

    def __init__(self, load: Load, request: bytes, answer: bytes) -> None:
        self._load = load
        self._request = request
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        for _ in range(self._load.in_flight):
            self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received.startswith(self._answer):
            self._received = self._received[len(self._answer) :]
            self._load.answered()
            self._send()
        if len(self._received) >= len(self._answer):
            self._load.fail(repr(self._received[:200]))

    def _send(self) -> None:
        if self._load.unsent:
            self._load.unsent -= 1
            self._transport.write(self._request)


class GrpcClient(asyncio.Protocol):
    """Makes the call again whenever one was answered with status 0."""

    def __init__(self, load: Load, path: bytes, message: bytes) -> None:
        self._load = load
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
        self._data = b"\0" + len(message).to_bytes(4, "big") + message
        self._session = Connection(Role.CLIENT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._session.initiate_connection({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
        for _ in range(self._load.in_flight):
            self._call()
        self._transport.write(self._session.data_to_send())

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
            self._session.send_data(stream_id, self._data, end_stream=True)
