"""Outbound requests: redirects, limits, headers, failures of the network."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from aiohttp import web

from shared.errors import Invalid, TelemetryFlowError, Unavailable
from shared.security.outbound import OutboundClient, Reply
from tests.integration.shared.security.targets import Canary, Names, echo, receiver


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with Canary().listening() as canary:
        yield canary


async def test_redirects_are_followed_three_times() -> None:
    seen = []

    async def redirect(request: web.BaseRequest) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": request.path + "x"})

    async with receiver(redirect) as port:
        client = OutboundClient(allow_private=True, ports={port})
        reply = await client.request("GET", f"http://127.0.0.1:{port}/")
        first = await client.request("GET", f"http://127.0.0.1:{port}/a", redirects_max=0)
        await client.close()

    assert seen == ["/", "/x", "/xx", "/xxx", "/a"]
    assert (reply.status, reply.url) == (307, f"http://127.0.0.1:{port}/xxx")
    assert (first.status, first.url) == (307, f"http://127.0.0.1:{port}/a")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(301, b"GET /b "), (302, b"GET /b "), (303, b"GET /b "), (307, b"POST /b data")],
)
async def test_a_redirect_keeps_the_body_only_where_http_says_so(
    status: int, expected: bytes
) -> None:
    async def once(request: web.BaseRequest) -> web.Response:
        if request.path == "/a":
            return web.Response(status=status, headers={"Location": "/b"})
        return web.Response(
            body=f"{request.method} {request.path} ".encode() + await request.read()
        )

    async with receiver(once) as port:
        client = OutboundClient(allow_private=True, ports={port})
        reply = await client.request("POST", f"http://127.0.0.1:{port}/a", body=b"data")
        await client.close()

    assert reply.body == expected


async def test_S50_credentials_do_not_follow_a_redirect_to_another_origin() -> None:
    async def tell(request: web.BaseRequest) -> web.Response:
        return web.json_response(dict(request.headers))

    async with receiver(tell) as other:

        async def redirect(request: web.BaseRequest) -> web.Response:
            if request.path == "/told":
                return await tell(request)
            port = other if request.path == "/away" else request.url.port
            location = f"http://127.0.0.1:{port}/told"
            return web.Response(status=307, headers={"Location": location, "Set-Cookie": "a=b"})

        async with receiver(redirect) as port:
            client = OutboundClient(allow_private=True, ports={port, other})
            headers = {"Authorization": "Bearer x", "X-Api-Key": "y", "Content-Type": "text/plain"}
            base = f"http://127.0.0.1:{port}"
            away = await client.request("POST", f"{base}/away", headers=headers, body=b"z")
            here = await client.request("POST", f"{base}/here", headers=headers, body=b"z")
            await client.close()

    assert b"Bearer" not in away.body
    assert b"X-Api-Key" not in away.body
    assert b"text/plain" in away.body
    assert b"Bearer x" in here.body
    assert b"Cookie" not in away.body + here.body


async def test_S50_a_redirect_from_https_to_http_is_refused(canary: Canary) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hook.test").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)

    async def redirect(request: web.BaseRequest) -> web.Response:
        if request.path == "/ok":
            return web.Response(text=str(request.url))
        return web.Response(status=302, headers={"Location": f"http://hook.test:{canary.port}/"})

    names = Names(hook_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    async with receiver(redirect, ssl_context=server_side) as port:
        client = OutboundClient(
            allow_private=True, ports={port, canary.port}, lookup=names, ssl_context=client_side
        )
        reply = await client.request("GET", f"https://hook.test:{port}/ok")
        with pytest.raises(Invalid, match="from https to http"):
            await client.request("GET", f"https://hook.test:{port}/")
        with pytest.raises(Unavailable):
            await client.request("GET", f"https://other.test:{port}/ok")
        await client.close()

    assert reply.body == f"https://hook.test:{port}/ok".encode()
    assert canary.connections == 0


async def test_S53_a_body_is_read_up_to_its_limit() -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            return response

    async with receiver(endless) as port:
        client = OutboundClient(allow_private=True, ports={port}, body_bytes_max=50_001)
        reply = await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()

    assert reply.is_truncated
    assert reply.body == b"x" * 50_001


async def test_a_body_as_long_as_the_limit_is_whole() -> None:
    async with receiver(echo) as port:
        client = OutboundClient(allow_private=True, ports={port}, body_bytes_max=64)
        padding = "x" * (64 - len(f"GET / 127.0.0.1:{port} ") - 3)
        reply = await client.request("GET", f"http://127.0.0.1:{port}/{padding}?a=")
        await client.close()

    assert (len(reply.body), reply.is_truncated) == (64, False)


async def test_a_compressed_body_is_handed_out_as_it_is() -> None:
    async def bomb(request: web.BaseRequest) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        response = web.Response(body=b"0" * 1_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with receiver(bomb) as port:
        client = OutboundClient(allow_private=True, ports={port})
        reply = await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()

    assert reply.body.startswith(b"\x1f\x8b")
    assert len(reply.body) < 10_000


async def test_a_target_that_does_not_answer_is_given_up() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = OutboundClient(allow_private=True, ports={port}, seconds_max=0.2)
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()
        await asyncio.wait_for(left.wait(), 5)


async def test_the_time_limit_holds_for_all_redirects_together() -> None:
    async def slow(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(status=302, headers={"Location": "/"})

    async with receiver(slow) as port:
        client = OutboundClient(allow_private=True, ports={port}, seconds_max=0.5)
        with pytest.raises(Unavailable):
            await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "internal"},
        {"transfer-encoding": "chunked"},
        {"Content-Length": "5"},
        {"X-A": "b\r\nX-Evil: 1"},
        {"X-A": "b\x00"},
        {"X A": "b"},
        {"X-A:": "b"},
        {"": "b"},
        {"X-A": "b" * 4_097},
        {f"X-{number}": "b" for number in range(65)},
    ],
)
async def test_headers_that_frame_a_request_are_refused(
    canary: Canary, headers: dict[str, str]
) -> None:
    client = OutboundClient(allow_private=True, ports={canary.port})

    with pytest.raises(Invalid) as refusal:
        await client.request("GET", f"http://127.0.0.1:{canary.port}/", headers=headers)

    await client.close()
    assert refusal.value.field == "headers"
    assert canary.connections == 0


@pytest.mark.parametrize("method", ["get", "CONNECT", "TRACE", "GET / HTTP/1.1\r\nX: y"])
async def test_other_methods_are_refused(canary: Canary, method: str) -> None:
    client = OutboundClient(allow_private=True, ports={canary.port})

    with pytest.raises(Invalid, match="the method is one of"):
        await client.request(method, f"http://127.0.0.1:{canary.port}/")

    await client.close()
    assert canary.connections == 0


async def test_S50_other_ports_are_refused(canary: Canary) -> None:
    client = OutboundClient(allow_private=True)

    with pytest.raises(Invalid, match="80, 443, 8080, 8443"):
        await client.request("GET", f"http://127.0.0.1:{canary.port}/")

    await client.close()
    assert canary.connections == 0


async def test_S50_proxies_of_the_environment_are_not_used(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    async with receiver(echo) as port:
        client = OutboundClient(allow_private=True, ports={port})
        reply = await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()

    assert reply.status == 200
    assert canary.connections == 0


async def test_S54_answers_of_the_name_server_are_kept_for_few_names_only() -> None:
    names = Names(**{f"n{number}_test": [["127.0.0.1"]] for number in range(3)})
    async with receiver(echo) as port:
        client = OutboundClient(allow_private=True, ports={port}, lookup=names)
        for _ in range(2):
            for number in range(3):
                await _get(client, f"http://n{number}.test:{port}/")
        table = client._session.connector._cached_hosts  # type: ignore[union-attr]
        await client.close()

    assert names.questions == ["n0.test", "n1.test", "n2.test"]
    assert (table._max_size, table._ttl) == (1_000, 10)


async def test_a_closed_port_is_an_error_of_the_network() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    client = OutboundClient(allow_private=True, ports={port})

    with pytest.raises(Unavailable, match="the request failed"):
        await client.request("GET", f"http://127.0.0.1:{port}/")

    await client.close()


async def test_garbage_instead_of_http_is_an_error_of_the_network() -> None:
    async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = OutboundClient(allow_private=True, ports={port})
        with pytest.raises(TelemetryFlowError):
            await client.request("GET", f"http://127.0.0.1:{port}/")
        await client.close()


async def _get(client: OutboundClient, url: str) -> Reply:
    return await client.request("GET", url)
