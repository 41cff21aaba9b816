"""An open live tail, as a client of the API sees it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from tests.control.client import Client

WAIT_SECONDS_MAX: Final = 20.0


class Tail:
    """An open stream of server-sent events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""
        self.left_out: list[Any] = []

    async def messages(self) -> AsyncIterator[Any]:
        async for line in self.answer.content:
            if line.startswith(b"id: "):
                self.last_id = line[4:].decode().strip()
            if line.startswith(b"data: "):
                found = json.loads(line[6:])
                assert found["cursor"] == self.last_id
                self.left_out += [found["leftOut"]] if found["leftOut"] else []
                yield found

    async def first(self, count: int) -> list[str]:
        """The bodies of so many items, or the operations of spans."""
        found: list[str] = []
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            if count:
                async for message in self.messages():
                    found += [one.get("body", one.get("operation")) for one in message["items"]]
                    if len(found) >= count:
                        break
            else:
                await anext(self.messages())
        return found

    async def all(self) -> list[str]:
        return [
            one.get("body", one.get("operation"))
            async for message in self.messages()
            for one in message["items"]
        ]


@asynccontextmanager
async def tail_of(
    client: Client, path: str = "logs/tail?seconds=60", **headers: str
) -> AsyncIterator[Tail]:
    url = f"{client.url}/api/v2/telemetry/{path}"
    sent = {"Authorization": f"Bearer {client.token}", **headers}
    async with aiohttp.ClientSession() as session, session.get(url, headers=sent) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield Tail(answer)
