"""The HTTP receiver under attack: each abuse is answered, counted and ended, and hurts nobody."""

import asyncio
import gzip
import re
import socket
from contextlib import AsyncExitStack, suppress
from typing import cast

import pytest
from backports import zstd

from ingest.receivers.http_connection import HttpConnection
from ingest.receivers.limits import Limits
from tests.attacks.http1 import ABUSES, SMUGGLING
from tests.contract.fake_gateway import BUDGET_BYTES, FakeGateway
from tests.contract.raw_http import SECONDS_MAX, Server, http_server, post, until
from tests.contract.test_receiver_operation import growth_of
from tests.streams import cut

CHUNKED = post(length=None, headers={"Transfer-Encoding": "chunked"})


async def answers_to(server: Server, payload: bytes) -> list[int]:
    """The statuses that the server answers before it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.receiver.port)
    received = b""
    try:
        writer.write(payload)
        async with asyncio.timeout(SECONDS_MAX):
            while piece := await reader.read(1 << 16):
                received += piece
    except ConnectionError:
        pass
    finally:
        await cut(writer)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.mark.parametrize("name", list(ABUSES))
async def test_S05_abuse_is_refused_and_the_connection_closed(name: str) -> None:
    abuse = ABUSES[name]
    async with http_server() as server:
        statuses = await answers_to(server, abuse.payload(abuse.size, CHUNKED))
        assert set(statuses) == {abuse.status}
        assert server.gateway.exports == []
        assert (await server.once(post(b"x"))).status == 200


async def test_S05_what_clients_do_in_good_faith_is_no_abuse() -> None:
    """Small chunks by the thousand, a few trailers, refusals among successes."""
    async with http_server(limits=Limits(failures_max=50)) as server:
        body = b"".join(b"18\r\n%b\r\n" % bytes(24) for _ in range(40_000))
        sent = CHUNKED + body + b"0\r\nx: y\r\n\r\n"
        assert (await server.once(sent)).status == 200
        assert len(server.gateway.exports[0].body) == 24 * 40_000
        async with server.connection() as connection:
            for _ in range(3):
                for path, status in (("/x", 404), ("/v1/traces", 200)):
                    for _ in range(40):
                        answer = await connection.exchange(post(b"x", path=path))
                        assert answer.status == status


async def test_S05_a_series_of_refused_requests_is_counted() -> None:
    refused = growth_of("connections_refused_total", transport="http", reason="failures")
    async with http_server(limits=Limits(failures_max=5)) as server:
        payload = post(b"x", path="/x") * 20
        assert await answers_to(server, payload) == [404] * 6
        assert refused() == 1


@pytest.mark.parametrize("name", list(SMUGGLING))
async def test_S05_no_request_hides_in_another(name: str) -> None:
    """Whatever the framing says, the request that follows in the bytes is not carried out."""
    hidden = post(b"hidden")
    head = post(length=None)[:-2] + SMUGGLING[name] + b"\r\n"
    async with http_server() as server:
        for body in (b"0\r\n\r\n", b"x", b""):
            statuses = await answers_to(server, head + body + hidden + hidden)
            assert statuses
            assert statuses[0] in {400, 411, 413}
            assert len(statuses) == 1
        assert server.gateway.exports == []
        assert (await server.once(post(b"x"))).status == 200


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_S01_bombs_in_parallel_stay_within_the_budget(name: str) -> None:
    """Also nested: only one layer is taken off. A client may leave while one is inflated."""
    compress = gzip.compress if name == "gzip" else zstd.compress
    bomb = compress(bytes(3 * BUDGET_BYTES))
    request = post(bomb, headers={"Content-Encoding": name})
    nested = post(compress(bomb), headers={"Content-Encoding": name})
    async with http_server() as server:
        leaving = [await asyncio.open_connection("127.0.0.1", server.receiver.port) for _ in "123"]
        for _, writer in leaving:
            writer.write(request)
        answers = await asyncio.gather(*(server.once(request) for _ in range(12)))
        for _, writer in leaving:
            await cut(writer)
        assert {answer.status for answer in answers} == {503}
        assert (await server.once(nested)).status == 200
        assert server.gateway.exports[-1].body == bomb
        await until(lambda: server.gateway.budget.bytes_held == 0)


async def test_S06_dribbled_heads_and_bodies_end_while_a_good_client_is_served() -> None:
    limits = Limits(
        header_seconds=0.5, body_grace_seconds=0.5, tick_seconds=0.05, linger_seconds=0.2
    )
    async with http_server(limits=limits) as server, AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(server.connection()) for _ in range(80)]
        for number, connection in enumerate(slow):
            head = b"POST /v1/traces HTTP/1.1\r\nHost"
            connection.send(head if number % 2 else post(length=100_000) + b"x")
        await until(lambda: len(server.receiver.connections) == 80)
        assert (await server.once(post(b"x"))).status == 200
        for connection in slow:
            assert (await connection.response()).status == 408
        await until(lambda: not server.receiver.connections)


class AskedGateway(FakeGateway):
    """Counts how often it was asked whether it is ready."""

    asked = 0

    def ready(self) -> str | None:
        self.asked += 1
        return super().ready()


async def test_S06_a_turn_of_the_event_loop_takes_few_of_many_pipelined_requests() -> None:
    """However many are there to be read, so that others get their turns."""
    request, count = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 4_000
    gateway = AskedGateway()
    async with http_server(gateway) as server:
        with socket.create_connection(("127.0.0.1", server.receiver.port)) as client:
            client.setblocking(False)
            unsent, most = request * count, 0
            async with asyncio.timeout(SECONDS_MAX):
                while gateway.asked < count:
                    with suppress(BlockingIOError):
                        unsent = unsent[client.send(unsent) :]
                    before = gateway.asked
                    await asyncio.sleep(0)
                    most = max(most, gateway.asked - before)
                    with suppress(BlockingIOError):
                        client.recv(1 << 20)
    assert 0 < most <= Limits().pipelined_read_bytes // len(request) + 1


async def test_S06_unread_answers_end_the_connection() -> None:
    limits = Limits(write_stalled_seconds=0.2, tick_seconds=0.05)
    unread = growth_of("connections_refused_total", transport="http", reason="unread_answers")
    async with http_server(limits=limits) as server:
        with socket.create_connection(("127.0.0.1", server.receiver.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            for _ in range(200):
                try:
                    client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000)
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                except ConnectionError:
                    break
            await until(lambda: not server.receiver.connections)
        assert unread() == 1


async def test_S06_a_client_that_is_closed_and_does_not_read_is_gone_soon() -> None:
    """Half-closed, too: there is then no end to be written that could be waited for."""
    limits = Limits(linger_seconds=0.1, body_grace_seconds=0.1, tick_seconds=0.02)
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway, limits=limits) as server:
        with socket.create_connection(("127.0.0.1", server.receiver.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.send(post(b"x"))
            client.shutdown(socket.SHUT_WR)
            await until(lambda: gateway.waiting == 1)
            (connection,) = server.receiver.connections
            transport = cast("HttpConnection", connection)._transport
            while not transport.get_write_buffer_size():
                transport.write(bytes(16 << 10))
            gateway.gate.set()
            await until(lambda: not server.receiver.connections)
