"""gRPC by hand over HTTP/2 frames, and the two engines behind one fixture."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ngh2 import (
    Configuration,
    Connection,
    DataReceived,
    Event,
    NGH2Error,
    ResponseReceived,
    Role,
    Setting,
    StreamReset,
    TrailersReceived,
)

from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.tls import ServerTls
from ingest.signals import Signal
from tests.contract.fake_gateway import BEARER, FakeGateway
from tests.contract.raw_http import SECONDS_MAX
from tests.streams import cut

ENGINES: dict[str, type[GrpcReceiver] | type[GrpcioReceiver]] = {
    "ngh2": GrpcReceiver,
    "grpcio": GrpcioReceiver,
}
METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
EXPORT = METHODS[Signal.TRACES]


class Server:
    """A gRPC receiver over a fake gateway."""

    def __init__(self, gateway: FakeGateway, receiver: GrpcReceiver | GrpcioReceiver) -> None:
        self.gateway = gateway
        self.receiver = receiver
        self.target = f"localhost:{receiver.port}"

    @asynccontextmanager
    async def raw(self) -> "AsyncIterator[RawGrpc]":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.receiver.port)
        try:
            yield RawGrpc(reader, writer)
        finally:
            await cut(writer)


@asynccontextmanager
async def grpc_server(
    engine: str = "ngh2",
    gateway: FakeGateway | None = None,
    *,
    limits: Limits | None = None,
    tls: ServerTls | None = None,
) -> AsyncIterator[Server]:
    """Serves until the block ends; everything that calls held must be given back by then."""
    gateway = gateway or FakeGateway()
    receiver = ENGINES[engine](gateway, "127.0.0.1", 0, limits=limits or Limits(), tls=tls)
    await receiver.start()
    try:
        yield Server(gateway, receiver)
    finally:
        await receiver.drain(1)
    assert gateway.budget.bytes_held == 0


def framed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A message with its prefix; *length* lies about it."""
    size = len(message) if length is None else length
    return bytes([flag]) + size.to_bytes(4, "big") + message


class RawGrpc:
    """One HTTP/2 connection on which a test decides about every frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.session = Connection(Role.CLIENT, Configuration(max_send_header_block_length=1 << 20))
        self.session.initiate_connection({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
        self.seen: list[Event] = []

    def open(
        self, headers: dict[str, str] | None = None, *, path: str = EXPORT, end: bool = False
    ) -> int:
        """HEADERS of a call; *headers* replace or add fields, "" leaves one out."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            "authorization": BEARER,
        } | (headers or {})
        pairs = [(name.encode(), value.encode()) for name, value in fields.items() if value]
        return self.session.send_request(pairs, end_stream=end)

    def flush(self) -> None:
        self.writer.write(self.session.data_to_send())

    async def read(self) -> bool:
        """Take in what the server sent; False when it closed."""
        self.flush()
        data = await self.reader.read(1 << 16)
        if data:
            try:
                self.session.receive_data(data)
            except NGH2Error:
                return False
            self.seen += self.session.events()
            self.flush()
        return bool(data)

    async def fields(self, stream_id: int) -> dict[str, str]:
        """Header and trailer fields of the answer on *stream_id*, once it is complete."""
        async with asyncio.timeout(SECONDS_MAX):
            while not self._ended(stream_id):
                assert await self.read(), "the connection was closed"
        pairs = [
            pair
            for event in self.seen
            if isinstance(event, ResponseReceived | TrailersReceived)
            and event.stream_id == stream_id
            for pair in event.headers
        ]
        return {name.decode(): value.decode() for name, value in pairs}

    async def call(
        self, data: bytes, headers: dict[str, str] | None = None, *, path: str = EXPORT
    ) -> dict[str, str]:
        """The fields of the answer to a call whose DATA is *data*."""
        stream_id = self.open(headers, path=path, end=not data)
        if data:
            self.session.send_data(stream_id, data, end_stream=True)
        return await self.fields(stream_id)

    async def closed(self) -> bool:
        """Whether the server closes the connection."""
        async with asyncio.timeout(SECONDS_MAX):
            try:
                while await self.read():
                    pass
            except ConnectionError:
                pass
            return True

    def data(self, stream_id: int) -> bytes:
        """The DATA that came on *stream_id*."""
        return b"".join(
            event.data
            for event in self.seen
            if isinstance(event, DataReceived) and event.stream_id == stream_id
        )

    def _ended(self, stream_id: int) -> bool:
        return any(
            (isinstance(event, ResponseReceived | DataReceived) and event.end_stream)
            or isinstance(event, TrailersReceived | StreamReset)
            for event in self.seen
            if getattr(event, "stream_id", None) == stream_id
        )
