"""Live tails over the API."""

import asyncio
import json
import time

import aiohttp

from control.telemetry.queries.tail import TAILS_OF_TENANT_MAX
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import Line, Span, logs_request, spans_request


async def _lines(answer: aiohttp.ClientResponse) -> list[str]:
    """The bodies of all events until the stream ends."""
    bodies = []
    async for line in answer.content:
        if line.startswith(b"data: "):
            found = json.loads(line[6:])
            bodies.append(found.get("body", found.get("operation")))
    return bodies


async def test_what_arrives_is_shown_once_and_only_to_its_tenant(explorer: Explorer) -> None:
    assert explorer.other is not None
    url = f"{explorer.client.url}/api/v2/telemetry"
    mine = {"Authorization": f"Bearer {explorer.client.token}"}
    theirs = {"Authorization": f"Bearer {explorer.other.client.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/logs/tail?seconds=4&search=wanted", headers=mine) as logs,
        session.get(f"{url}/spans/tail?seconds=4", headers=mine) as spans,
        session.get(f"{url}/logs/tail?seconds=4", headers=theirs) as foreign,
    ):
        assert logs.content_type == "text/event-stream"
        for number in range(2):
            now = time.time_ns()
            lines = [Line(now, f"wanted {number}"), Line(now, "other")]
            await store(
                explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=now
            )
            await store(
                explorer.store, "traces", explorer.tenant,
                spans_request([Span(9, number + 1, now, name=f"op {number}")]), received_ns=now,
            )  # fmt: skip
            await asyncio.sleep(0.5)
        found = await asyncio.gather(_lines(logs), _lines(spans), _lines(foreign))

    assert list(found) == [["wanted 0", "wanted 1"], ["op 0", "op 1"], []]


async def test_live_tails_of_a_tenant_have_a_limit_and_are_given_back(explorer: Explorer) -> None:
    url = f"{explorer.client.url}/api/v2/telemetry/logs/tail?seconds=60"
    headers = {"Authorization": f"Bearer {explorer.client.token}"}
    async with aiohttp.ClientSession() as session:
        open_tails = [await session.get(url, headers=headers) for _ in range(TAILS_OF_TENANT_MAX)]
        refused = await explorer.client.get("/telemetry/logs/tail?seconds=60")
        for one in open_tails:
            one.close()
        async with asyncio.timeout(20):
            while True:
                async with session.get(url, headers=headers) as again:
                    if again.status == 200:
                        break
                await asyncio.sleep(0.2)

    assert refused.status == 429
    assert all(one.status == 200 for one in open_tails)
