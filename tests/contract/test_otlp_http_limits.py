"""Limits, compression and the life of OTLP/HTTP connections."""

import asyncio
import gzip
import itertools
import socket
import ssl
import zlib
from typing import cast

import pytest
from backports import zstd

from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.tls import ServerTls
from shared.errors import Conflict
from tests.contract.fake_gateway import BUDGET_BYTES, FakeGateway
from tests.contract.raw_http import RawConnection, chunked, http_server, post, until
from tests.contract.test_otlp_http import refused

BODY = b"telemetry " * 20_000
FAST = 0.02
_WIDE: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
_COMPRESSOR = zstd.ZstdCompressor(options=_WIDE)
# Asks its reader for 128 MiB.
WIDE_WINDOW = _COMPRESSOR.compress(BODY) + _COMPRESSOR.flush()


def with_crc_of(data: bytes, wrong: int) -> bytes:
    """gzip of *data* with one bit of its trailer turned."""
    compressed = bytearray(gzip.compress(data, mtime=0))
    compressed[-wrong] ^= 1
    return bytes(compressed)


@pytest.mark.parametrize(
    ("name", "compressed"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, compresslevel=0)),
        ("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
        ("gzip", gzip.compress(b"") * 1_023 + gzip.compress(BODY, mtime=0)),
        ("zstd", zstd.compress(BODY)),
        ("zstd", zstd.compress(BODY[:9]) + zstd.compress(BODY[9:])),
    ],
    ids=map(str, itertools.count()),
)
async def test_C013_C014_C018_compressed_bodies_arrive_as_they_were(
    name: str, compressed: bytes
) -> None:
    async with http_server() as server:
        response = await server.once(post(compressed, headers={"Content-Encoding": name}))
        assert response.status == 200
        assert server.gateway.exports[0].body == BODY


@pytest.mark.parametrize("name", ["br", "deflate", "foo", "gzip, gzip", "gzip,identity"])
async def test_C015_other_encodings_are_refused(name: str) -> None:
    async with http_server() as server:
        response = await server.once(post(BODY, headers={"Content-Encoding": name}))
        refused(response, 415, 12)
        assert server.gateway.exports == []


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", b"this is not gzip at all"),
        ("gzip", b""),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8]),
        ("gzip", gzip.compress(BODY, mtime=0)[:40]),
        ("gzip", with_crc_of(BODY, 8)),
        ("gzip", with_crc_of(BODY, 1)),
        ("gzip", gzip.compress(BODY, mtime=0) + b"garbage"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"\0"),
        ("gzip", gzip.compress(b"") * 1_025),
        ("gzip", zlib.compress(BODY)),
        ("zstd", b"this is not zstd at all"),
        ("zstd", b""),
        ("zstd", zstd.compress(BODY)[:-1]),
        ("zstd", zstd.compress(BODY) + b"garbage"),
        ("zstd", zstd.compress(b"x") * 1_025),
        ("zstd", WIDE_WINDOW),
    ],
    ids=map(str, itertools.count()),
)
async def test_C016_to_C020_a_broken_stream_is_invalid(name: str, body: bytes) -> None:
    async with http_server() as server, server.connection() as connection:
        headers = {"Content-Encoding": name}
        refused(await connection.exchange(post(body, headers=headers)), 400, 3)
        assert server.gateway.exports == []
        assert (await connection.exchange(post(b"x"))).status == 200


@pytest.mark.parametrize("chunks", [False, True])
async def test_C023_a_client_that_sends_all_before_it_reads_gets_its_answer(chunks: bool) -> None:
    """Else it sees a broken connection, and sends again what will never fit."""
    limits = Limits(body_bytes_max=20_000_000)
    body = b"x" * 25_000_000
    headers = {"Transfer-Encoding": "chunked"} if chunks else {}
    request = post(
        chunked([body[:5_000_000]] * 5) if chunks else body,
        headers=headers,
        length=None if chunks else -1,
    )
    gateway = FakeGateway(budget_bytes=64 << 20)
    async with (
        http_server(gateway, limits=limits) as server,
        server.connection() as connection,
    ):
        connection.send(request)
        # No system buffers so much: it drains only if the receiver reads.
        await connection.writer.drain()
        refused(await connection.response(), 413, 8)
        assert server.gateway.budget.bytes_held == 0
        assert await connection.closed()


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
async def test_C024_the_limit_holds_after_decompression(compress: type[bytes]) -> None:
    name = "gzip" if compress is gzip.compress else "zstd"
    headers = {"Content-Encoding": name}
    async with http_server(limits=Limits(body_bytes_max=2_000_000)) as server:
        at_limit = post(compress(bytes(2_000_000)), headers=headers)
        assert (await server.once(at_limit)).status == 200
        beyond = post(compress(bytes(2_000_001)), headers=headers)
        refused(await server.once(beyond), 413, 8)
        refused(await server.once(post(compress(bytes(30_000_000)), headers=headers)), 413, 8)


async def test_C027_what_a_bomb_inflates_to_is_held_in_the_budget() -> None:
    bomb = post(gzip.compress(bytes(3 * BUDGET_BYTES)), headers={"Content-Encoding": "gzip"})
    async with http_server() as server:
        answers = await asyncio.gather(*(server.once(bomb) for _ in range(8)))
        for answer in answers:
            refused(answer, 503, 14)
        assert server.gateway.budget.bytes_held == 0
        assert (await server.once(post(b"x"))).status == 200


async def refused_and_closed(connection: RawConnection, request: bytes, status: int) -> None:
    response = await connection.exchange(request)
    assert response.status == status
    assert response.headers["connection"] == "close"
    assert await connection.closed()


async def test_L10_a_long_url_is_refused() -> None:
    async with http_server() as server:
        path = "/v1/traces?" + "x" * 4_085
        assert (await server.once(post(b"x", path=path))).status == 200
        async with server.connection() as connection:
            await refused_and_closed(connection, post(b"x", path=path + "x"), 414)


@pytest.mark.parametrize(
    ("taken", "too_much"),
    [
        ({"X-Long": "x" * 8_186}, {"X-Long": "x" * 8_187}),
        ({f"X-{n}": "v" for n in range(96)}, {f"X-{n}": "v" for n in range(97)}),
        ({f"X-{n}": "v" * 8_000 for n in range(4)}, {f"X-{n}": "v" * 8_100 for n in range(5)}),
    ],
)
async def test_L10_large_or_many_headers_are_refused(
    taken: dict[str, str], too_much: dict[str, str]
) -> None:
    async with http_server() as server:
        assert (await server.once(post(b"x", headers=taken))).status == 200
        async with server.connection() as connection:
            await refused_and_closed(connection, post(b"x", headers=too_much), 431)


async def test_L10_a_header_that_never_ends_is_cut_off() -> None:
    async with http_server() as server, server.connection() as connection:
        connection.send(b"POST /v1/traces HTTP/1.1\r\nX-Long: ")
        for _ in range(12):
            connection.send(b"x" * 8_000)
            await asyncio.sleep(FAST)
        assert (await connection.response()).status == 431
        assert await connection.closed()


async def test_S05_trailers_are_bounded() -> None:
    async with http_server() as server, server.connection() as connection:
        headers = {"Transfer-Encoding": "chunked"}
        trailers = b"".join(b"x-%d: y\r\n" % number for number in range(200))
        request = post(b"1\r\nx\r\n0\r\n" + trailers + b"\r\n", headers=headers, length=None)
        await refused_and_closed(connection, request, 431)
        assert server.gateway.exports == []


async def test_L09_slow_headers_end_with_408_and_silence_with_nothing() -> None:
    limits = Limits(header_seconds=0.1, tick_seconds=FAST)
    async with http_server(limits=limits) as server:
        async with server.connection() as connection:
            await refused_and_closed(connection, b"POST /v1/traces HTTP/1.1\r\nHost:", 408)
        async with server.connection() as connection:
            assert await connection.closed()


@pytest.mark.parametrize("length", [10, 60_000])
async def test_S06_a_body_that_drips_is_given_up(length: int) -> None:
    limits = Limits(body_grace_seconds=0.1, tick_seconds=FAST)
    async with http_server(limits=limits) as server, server.connection() as connection:
        await refused_and_closed(connection, post(b"x", length=length), 408)
        assert server.gateway.exports == []


async def test_L09_an_idle_connection_is_closed() -> None:
    limits = Limits(idle_seconds=0.1, tick_seconds=FAST)
    async with http_server(limits=limits) as server, server.connection() as connection:
        assert (await connection.exchange(post(b"x"))).status == 200
        assert await connection.closed()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    limits = Limits(write_stalled_seconds=0.1, tick_seconds=FAST)
    async with http_server(limits=limits) as server, server.connection() as connection:
        cast("asyncio.Transport", connection.writer.transport).pause_reading()
        request = post(b"{}", path="/nowhere", content_type="application/json")
        cut_off = False
        async with asyncio.timeout(8):
            while not cut_off:
                connection.send(request * 200)
                try:
                    await connection.writer.drain()
                except ConnectionError:
                    cut_off = True


async def test_L08_connections_beyond_the_limits_are_closed() -> None:
    for limits in (Limits(connections_max=2), Limits(connections_per_address_max=2)):
        async with http_server(limits=limits) as server, server.connection() as first:
            assert (await first.exchange(post(b"x"))).status == 200
            async with server.connection() as second, server.connection() as third:
                assert (await second.exchange(post(b"x"))).status == 200
                assert await third.closed()
            await until(lambda server=server: len(server.receiver.connections) == 1)
            assert (await server.once(post(b"x"))).status == 200


async def test_L11_requests_in_flight_are_answered_when_the_receiver_drains() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server, server.connection() as connection:
        async with server.connection() as idle:
            await idle.exchange(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.send(post(b"x"))
            await until(lambda: gateway.waiting == 1)
            server.receiver.stop_accepting()
            assert await idle.closed()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", server.receiver.port)
        draining = asyncio.create_task(server.receiver.drain(10))
        gateway.gate.set()
        response = await connection.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        await draining


async def test_drain_does_not_wait_longer_than_told() -> None:
    gateway = FakeGateway()
    gateway.gate = asyncio.Event()
    async with http_server(gateway) as server, server.connection() as connection:
        connection.send(post(b"x"))
        await until(lambda: gateway.waiting == 1)
        async with asyncio.timeout(5):
            await server.receiver.drain(0.1)
        assert await connection.closed()
        await until(lambda: gateway.cancelled == 1)


async def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        receiver = HttpReceiver(FakeGateway(), "127.0.0.1", port, limits=Limits())
        with pytest.raises(Conflict, match=rf"{port}.*in use.*INGEST_HTTP_PORT"):
            await receiver.start()


async def test_C107_http_is_served_over_tls(
    server_tls: ServerTls, client_tls: ssl.SSLContext
) -> None:
    async with http_server(tls=server_tls) as server:
        async with server.connection(client_tls) as connection:
            for body in (b"x", b"x" * 400_000):
                assert (await connection.exchange(post(body))).status == 200
                assert server.gateway.exports[-1].body == body
        async with server.connection() as plain:
            plain.send(post(b"x"))
            assert await plain.closed()
