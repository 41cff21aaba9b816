"""HTTP/1.1 by hand, so that tests can also send what no client library would."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.tls import ServerTls
from tests.contract.fake_gateway import BEARER, FakeGateway
from tests.streams import cut

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
SECONDS_MAX = 10


@dataclass(frozen=True)
class Response:
    """One response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One connection; requests and responses are separate steps."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self, *, body: bool = True) -> Response:
        async with asyncio.timeout(SECONDS_MAX):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            lines = [line.split(": ", 1) for line in head[1:] if line]
            headers = {name.lower(): value for name, value in lines}
            assert len(headers) == len(lines), head
            length = int(headers.get("content-length", "0")) if body else 0
            return Response(
                int(head[0].split(" ")[1]), headers, await self.reader.readexactly(length)
            )

    async def exchange(self, data: bytes) -> Response:
        self.send(data)
        return await self.response()

    async def closed(self) -> bool:
        """Whether the server closes without another byte."""
        async with asyncio.timeout(SECONDS_MAX):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


def post(
    body: bytes = b"",
    *,
    path: str = "/v1/traces",
    content_type: str | None = PROTOBUF,
    headers: dict[str, str] | None = None,
    length: int | None = -1,
    authorization: str | None = BEARER,
    method: str = "POST",
) -> bytes:
    """A request; *length* None leaves Content-Length out, -1 tells the truth."""
    lines = {"Host": "localhost"}
    if content_type is not None:
        lines["Content-Type"] = content_type
    if authorization is not None:
        lines["Authorization"] = authorization
    if length is not None:
        lines["Content-Length"] = str(len(body) if length < 0 else length)
    lines |= headers or {}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return head.encode() + b"\r\n" + body


def chunked(pieces: list[bytes]) -> bytes:
    """The body of a chunked request."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Server:
    """A receiver over a fake gateway."""

    def __init__(self, gateway: FakeGateway, receiver: HttpReceiver) -> None:
        self.gateway = gateway
        self.receiver = receiver

    @asynccontextmanager
    async def connection(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawConnection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.receiver.port, ssl=tls)
        try:
            yield RawConnection(reader, writer)
        finally:
            await cut(writer)

    async def once(self, data: bytes) -> Response:
        """One request on a connection of its own."""
        async with self.connection() as connection:
            return await connection.exchange(data)


@asynccontextmanager
async def http_server(
    gateway: FakeGateway | None = None,
    *,
    limits: Limits | None = None,
    tls: ServerTls | None = None,
    cors_origins: frozenset[str] = frozenset(),
) -> AsyncIterator[Server]:
    """Serves until the block ends; everything that requests held must be given back by then."""
    gateway = gateway or FakeGateway()
    receiver = HttpReceiver(
        gateway, "127.0.0.1", 0, limits=limits or Limits(), tls=tls, cors_origins=cors_origins
    )
    await receiver.start()
    try:
        yield Server(gateway, receiver)
    finally:
        await receiver.drain(1)
    assert gateway.budget.bytes_held == 0


async def until(holds: object, seconds: float = SECONDS_MAX) -> None:
    """Wait until the callable *holds* returns true."""
    assert callable(holds)
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
