"""Live tails in a browser, which sends no header with a WebSocket but subprotocols and its page."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
import pytest

from tests.control.client import Client
from tests.control.tails import WAIT_SECONDS_MAX
from tests.control.telemetry import Explorer
from tests.integration.control.telemetry.test_reading_keys import key_of
from tests.integration.control.telemetry.test_tail import log

PAGE = "https://app.example.com"


@asynccontextmanager
async def socket_of(
    client: Client, subprotocols: Sequence[str], *, page: str = "", **headers: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """What `new WebSocket(url, subprotocols)` does in *page*; of the API itself by default."""
    url = f"{client.url}/api/v2/telemetry/logs/tail?seconds=60"
    headers = {"Origin": page or client.url, **headers}
    async with (
        asyncio.timeout(WAIT_SECONDS_MAX),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=subprotocols, headers=headers) as socket,
    ):
        yield socket


async def refusal(client: Client, subprotocols: Sequence[str], *, page: str = "") -> int:
    """The status that refuses such a WebSocket."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with socket_of(client, subprotocols, page=page):
            pass
    return refused.value.status


async def test_a_page_follows_with_its_token_as_a_subprotocol_and_no_log_tells_it(
    explorer: Explorer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = explorer.client.token
    subprotocols = ["telemetryflow", f"bearer.{token}", f"tenant.{explorer.tenant}"]
    async with socket_of(explorer.client, subprotocols) as socket:
        begun = await socket.receive_json()
        await log(explorer, "for the page")
        found = await socket.receive_json()
    # aiohttp warns of subprotocols that nobody serves.
    async with socket_of(explorer.client, subprotocols[1:]) as unnamed:
        await unnamed.receive_json()

    assert socket.protocol == "telemetryflow"
    assert unnamed.protocol is None
    assert begun["items"] == []
    assert [one["body"] for one in found["items"]] == ["for the page"]
    assert token is not None
    assert token not in caplog.text


async def test_S33_a_subprotocol_opens_no_more_than_a_header(explorer: Explorer) -> None:
    assert explorer.other is not None
    client, token = explorer.client, explorer.client.token
    mine = ["telemetryflow", f"bearer.{token}"]
    ended = explorer.other.client.token
    assert (await explorer.other.client.post("/auth/logout")).status == 204

    assert await refusal(client, ["telemetryflow"]) == 401
    assert await refusal(client, [*mine[:1], f"bearer.{token}x"]) == 401
    assert await refusal(client, [*mine[:1], f"bearer.{ended}"]) == 401
    assert await refusal(client, [*mine, f"tenant.{explorer.other.tenant}"]) == 403
    assert await refusal(client, [*mine, f"tenant.{uuid4()}"]) == 403
    assert await refusal(client, [*mine, "tenant.x"]) == 403
    # What a header says stands.
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with socket_of(client, mine, Authorization="Bearer x"):
            pass
    assert refused.value.status == 401


async def test_an_API_key_is_a_subprotocol_too(explorer: Explorer) -> None:
    bearer = (await key_of(explorer)).pair.replace(":", ".")
    async with socket_of(explorer.client, ["telemetryflow", f"bearer.{bearer}"]) as socket:
        assert (await socket.receive_json())["items"] == []


async def test_pages_of_other_origins_open_a_WebSocket_where_CORS_lets_them(
    explorer: Explorer,
) -> None:
    admin = await explorer.product.as_admin()
    mine = ["telemetryflow", f"bearer.{explorer.client.token}"]
    before = await refusal(explorer.client, mine, page=PAGE)
    made = await admin.post("/cors", {"name": "Web application", "origins": [PAGE]})
    assert made.status == 201, made.text
    await explorer.product.cors.refresh()
    async with socket_of(explorer.client, mine, page=PAGE) as socket:
        begun = await socket.receive_json()
    other = await refusal(explorer.client, mine, page=f"{PAGE}.evil.example")

    assert (before, other) == (403, 403)
    assert begun["items"] == []
    assert await refusal(explorer.client, mine, page="null") == 403
