"""Outbound requests that must not reach their targets: the canary gets no connection."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from shared.errors import Invalid, Unavailable
from shared.security.outbound import OutboundClient
from tests.integration.shared.security.targets import Canary, Names, echo, receiver

PORT = "PORT"
# Each leads, in one reading or another, to 127.0.0.1 or ::1 at the canary's port.
HOSTILE_URLS = [
    "http://127.0.0.1:PORT/",
    "http://127.0.0.2:PORT/",
    "http://127.255.255.254:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://0x7f.1:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7F.0x0.0x0.0x1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.0.0.01:PORT/",
    "http://127.0.0.1%00:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://[::1]:PORT/",
    "http://[::]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::1]:PORT/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[fe80::1%lo]:PORT/",
    "http://[::1%25lo]:PORT/",
    "http://[v1.127]:PORT/",
    "http://localhost:PORT/",
    "http://localhost.:PORT/",
    "http://LOCALHOST:PORT/",
    "http://loc%61lhost:PORT/",
    "http://127.0.0.1.rebind.test:PORT/",
    "http://internal.test:PORT/",
    "http://internal.test.:PORT/",
    "http://six.test:PORT/",
    "http://mapped.test:PORT/",
    "http://mixed.test:PORT/",
    "http://metadata.test:PORT/",
    "http://unknown.test:PORT/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:PORT/",
    "http://127。0。0。1:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/",
    "http://xn--1-7ka.test:PORT/",
    "http://a@127.0.0.1:PORT/",
    "http://a:b@127.0.0.1:PORT/",
    "http://@127.0.0.1:PORT/",
    "http://public.test@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@public.test/",
    "http://public.test\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@public.test/",
    "http://127.0.0.1:PORT?@public.test/",
    "http:\\\\127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "127.0.0.1:PORT",
    "http://127.0.0.1\t:PORT/",
    "http://127.0.0.1\n:PORT/",
    "http://127.0.0.1\r\nHost: x:PORT/",
    " http://127.0.0.1:PORT/",
    "http://127.0.0.1 :PORT/",
    "http://127.0.0.1\u00a0:PORT/",
    "http://127.0.0.1\u200b:PORT/",
    "http://127.0.0.1:PORT:80/",
    "http://:PORT/",
    "http://.:PORT/",
    "http://",
    "http://[",
    "http://[::1/",
    "https://127.0.0.1:PORT/",
    "https://[::1]:PORT/",
    "gopher://127.0.0.1:PORT/_",
    "file:///etc/passwd",
    "ftp://127.0.0.1:PORT/",
    "ws://127.0.0.1:PORT/",
    "tcp://127.0.0.1:PORT/",
    "unix:///var/run/docker.sock",
    "data:text/plain,x",
    "javascript:alert(1)",
    "http://127.0.0.1:PORT/" + "a" * 2_048,
    "",
]


def hostile_names() -> Names:
    loopback = [["127.0.0.1"]]
    return Names(
        localhost=loopback,
        internal_test=loopback,
        **{"127_0_0_1_rebind_test": loopback},
        six_test=[["::1"]],
        mapped_test=[["::ffff:127.0.0.1"]],
        mixed_test=[["1.1.1.1", "127.0.0.1"]],
        metadata_test=[["169.254.169.254"]],
    )


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with Canary().listening() as canary:
        yield canary


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_S51_no_spelling_of_a_url_reaches_this_machine(canary: Canary, url: str) -> None:
    client = OutboundClient(
        allow_private=False,
        ports={80, 443, canary.port},
        lookup=hostile_names(),
        seconds_max=2,
    )

    with pytest.raises((Invalid, Unavailable)):
        await client.request("GET", url.replace(PORT, str(canary.port)))

    await client.close()
    assert canary.connections == 0


async def test_S51_the_canary_counts_who_is_allowed_to_come(canary: Canary) -> None:
    client = OutboundClient(allow_private=True, ports={canary.port}, seconds_max=5)

    for host in ("127.0.0.1", "[::1]", "127.0.0.2"):
        with pytest.raises(Unavailable):
            await client.request("GET", f"http://{host}:{canary.port}/")

    await client.close()
    # A request that is safe to repeat is sent again when the peer hangs up.
    assert canary.connections >= 3


@pytest.mark.parametrize(
    "answers",
    [
        [["1.1.1.1"], ["127.0.0.1"]],
        [["127.0.0.1"], ["1.1.1.1"]],
        [["1.1.1.1", "127.0.0.1"]],
        [["2606:4700::1"], ["::1"]],
    ],
)
async def test_S51_a_name_that_changes_its_answer_does_not_reach_this_machine(
    canary: Canary, answers: list[list[str]]
) -> None:
    names = Names(rebind_test=answers)
    client = OutboundClient(allow_private=False, ports={canary.port}, lookup=names, seconds_max=0.3)

    for _ in range(4):
        with pytest.raises((Invalid, Unavailable)):
            await client.request("GET", f"http://rebind.test:{canary.port}/")
        client._session.connector.clear_dns_cache()  # type: ignore[union-attr]

    await client.close()
    assert len(names.questions) == 4
    assert canary.connections == 0


async def test_S50_a_request_goes_to_the_address_that_was_checked() -> None:
    names = Names(hook_test=[["127.0.0.1"], ["169.254.169.254"]])
    async with receiver(echo) as port:
        client = OutboundClient(allow_private=True, ports={port}, lookup=names)

        reply = await client.request("POST", f"http://hook.test:{port}/in?a=1#x", body=b"hello")

        await client.close()
    assert reply.status == 200
    assert reply.body == f"POST /in?a=1 hook.test:{port} hello".encode()
    assert names.questions == ["hook.test"]


async def test_S50_the_socket_is_the_last_to_check(canary: Canary) -> None:
    client = OutboundClient(allow_private=False, ports={canary.port})
    # Whoever gets past the checks of URL and name comes here.
    async with asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientConnectorError, match="not allowed"):
            await client._session.get(f"http://127.0.0.1:{canary.port}/")

    await client.close()
    assert canary.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:PORT/latest/meta-data",
        "//127.0.0.1:PORT/",
        "http://internal.test:PORT/",
        "http://[::ffff:127.0.0.1]:PORT/",
        "http://2130706433:PORT/",
        "http://user@open.test:PORT/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/",
        "http://[",
    ],
)
async def test_S51_a_redirect_is_checked_like_the_first_url(
    canary: Canary, status: int, location: str
) -> None:
    async def redirect(_request: web.BaseRequest) -> web.Response:
        target = location.replace(PORT, str(canary.port))
        return web.Response(status=status, headers={"Location": target})

    # The receiver's address stands for a public one; those of the canary are refused.
    names = Names(open_test=[["127.0.0.9"]], internal_test=[["127.0.0.1"]])
    async with receiver(redirect, host="127.0.0.9") as port:
        client = OutboundClient(
            allow_private=True,
            networks_denied=["127.0.0.0/29", "::1/128"],
            ports={port, canary.port},
            lookup=names,
        )
        with pytest.raises(Invalid):
            await client.request("POST", f"http://open.test:{port}/", body=b"x")
        await client.close()
    assert canary.connections == 0
