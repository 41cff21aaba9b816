"""A client of the API that tests read easily."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDict[str]
    text: str
    json: Any = field(default=None)


class Client:
    """Speaks to the API at *url* as whoever *token* stands for."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def as_(self, token: str | None) -> "Client":
        """The same connection, somebody else."""
        other = Client(self.url, token)
        other._session = self._session
        return other

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Reply:
        """One request; *path* begins after the prefix unless it begins with two slashes."""
        assert self._session is not None
        url = f"{self.url}{path[1:]}" if path.startswith("//") else f"{self.url}/api/v2{path}"
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        content: dict[str, Any] = {}
        if data is not None:
            content["data"] = data
        elif body is not None:
            content["json"] = body
        async with self._session.request(method, url, headers=sent, **content) as answer:
            text = await answer.text()
            is_json = answer.content_type.endswith(("/json", "+json"))
            return Reply(
                answer.status,
                CIMultiDict(answer.headers),
                text,
                await answer.json(content_type=None) if is_json and text else None,
            )

    async def get(self, path: str, **headers: str) -> Reply:
        """GET."""
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        """POST."""
        return await self.ask("POST", path, body, headers=headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Reply:
        """PATCH."""
        return await self.ask("PATCH", path, body, headers=headers)

    async def delete(self, path: str, **headers: str) -> Reply:
        """DELETE."""
        return await self.ask("DELETE", path, headers=headers)
