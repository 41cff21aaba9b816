"""Receivers of gRPC under attack: each flood is answered, counted and ended, and hurts nobody."""

import asyncio
import socket
from contextlib import suppress
from typing import cast

import pytest

from ingest.receivers.grpc import GrpcConnection, GrpcReceiver
from ingest.receivers.limits import Limits
from tests.attacks.frames import data, farewell_in, frame, header_block, headers, opening
from tests.attacks.http2 import ACK, FLOODS, SETTINGS
from tests.contract.fake_gateway import BEARER
from tests.contract.raw_grpc import ENGINES, Server, framed, grpc_server
from tests.contract.raw_http import SECONDS_MAX, until
from tests.contract.test_receiver_operation import growth_of
from tests.streams import cut

INITIAL_WINDOW_SIZE = 4
BLOCK = header_block(authorization=BEARER)


async def answer_to(
    server: Server, payload: bytes, settings: dict[int, int] | None = None
) -> tuple[bytes, bool]:
    """What the server says to *payload*, and whether it ends the connection within a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.receiver.port)
    received = b""
    try:
        writer.write(opening(settings) + payload)
        async with asyncio.timeout(SECONDS_MAX):
            while piece := await reader.read(1 << 16):
                received += piece
    except TimeoutError:
        return received, False
    except ConnectionError:
        pass
    finally:
        await cut(writer)
    return received, True


def connections_of(server: Server) -> list[GrpcConnection]:
    """The connections that ngh2's receiver has open."""
    assert isinstance(server.receiver, GrpcReceiver)
    return [cast("GrpcConnection", connection) for connection in server.receiver.connections]


async def serves(server: Server) -> bool:
    async with server.raw() as raw:
        return (await raw.call(framed(b"x")))["grpc-status"] == "0"


@pytest.mark.parametrize("name", list(FLOODS))
async def test_S02_a_flood_is_answered_with_goaway_and_counted(name: str) -> None:
    flood = FLOODS[name]
    refused = [
        growth_of("connections_refused_total", transport="grpc", reason=reason)
        for reason in flood.reason.split("|")
    ]
    async with grpc_server() as server:
        received, ended = await answer_to(server, flood.payload(flood.frames, BLOCK))
        assert ended
        assert farewell_in(received) == flood.code
        assert sum(growth() for growth in refused) == 1
        assert await serves(server)
        # That of the good client is still open.
        await until(lambda: len(connections_of(server)) <= 1)


@pytest.mark.parametrize("name", list(FLOODS))
async def test_S02_grpcio_survives_every_flood(name: str) -> None:
    flood = FLOODS[name]
    async with grpc_server("grpcio") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.receiver.port)
        writer.write(opening() + flood.payload(flood.frames, BLOCK))
        assert await serves(server)
        await cut(writer)
        assert await serves(server)


async def test_S02_what_clients_do_in_good_faith_is_no_flood() -> None:
    """Cancelled calls among good ones, a large message in frames of 16 KiB, refusals."""
    limits = Limits(failures_max=50)
    async with grpc_server(limits=limits) as server:
        async with server.raw() as raw:
            for _ in range(3):
                for _ in range(40):
                    stream_id = raw.open()
                    raw.flush()
                    raw.session.reset_stream(stream_id)
                    raw.flush()
                for _ in range(40):
                    answer = await raw.call(framed(b"x"))
                    assert answer["grpc-status"] == "0"
        body = bytes(1 << 20)
        message = b"\0" + len(body).to_bytes(4, "big") + body
        pieces = [data(1, message[at : at + 64]) for at in range(0, len(message), 64)]
        _, writer = await asyncio.open_connection("127.0.0.1", server.receiver.port)
        # The windows of the server's settings hold once they are acknowledged.
        writer.write(opening() + frame(SETTINGS, flags=ACK))
        writer.write(headers(1, BLOCK) + b"".join(pieces) + data(1, b"", end=True))
        await until(lambda: server.gateway.exports[-1].body == body)
        await cut(writer)


async def test_S02_zero_windows_and_unread_answers_end() -> None:
    limits = Limits(write_stalled_seconds=0.1, tick_seconds=0.02)
    unread = growth_of("connections_refused_total", transport="grpc", reason="unread_answers")
    async with grpc_server(limits=limits) as server:
        call = headers(1, BLOCK) + data(1, framed(b"x"), end=True)
        _, ended = await answer_to(server, call, {INITIAL_WINDOW_SIZE: 0})
        assert ended
        assert unread() == 1
        assert await serves(server)


async def test_S06_a_client_that_is_cut_off_and_does_not_read_is_gone_soon() -> None:
    """Else its connection would live as long as its machine acknowledges that it does not read."""
    limits = Limits(linger_seconds=0.1, tick_seconds=0.02, pings_max=1 << 30)
    async with grpc_server(limits=limits) as server:
        with socket.create_connection(("127.0.0.1", server.receiver.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            await until(lambda: len(connections_of(server)) == 1)
            (connection,) = connections_of(server)
            transport = connection._transport
            while not transport.get_write_buffer_size():
                transport.write(bytes(16 << 10))
            client.send(b"this is no HTTP/2 and never will be, whatever comes")
            await until(lambda: not connections_of(server))


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_S06_silent_and_idle_connections_end(engine: str) -> None:
    limits = Limits(header_seconds=0.3, grpc_idle_seconds=0.5, tick_seconds=0.05)
    async with grpc_server(engine, limits=limits) as server:
        port = server.receiver.port
        for said in (b"", b"PRI * HTTP/2.0\r\n", opening()):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            async with asyncio.timeout(SECONDS_MAX):
                with suppress(ConnectionError):
                    while await reader.read(1 << 16):
                        pass
            await cut(writer)
        assert await serves(server)


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_L08_connections_beyond_the_limit_are_closed(engine: str) -> None:
    async with grpc_server(engine, limits=Limits(connections_max=3)) as server:
        port = server.receiver.port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in held:
            writer.write(opening())
        await asyncio.gather(*(reader.readexactly(9) for reader, _ in held))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(opening())
        async with asyncio.timeout(SECONDS_MAX):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        await cut(writer)
        for _, one in held:
            await cut(one)
