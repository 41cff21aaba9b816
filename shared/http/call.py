"""One call of the API: who asks, for what, and the services that answer."""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web

from shared.caller import Caller
from shared.errors import Forbidden, Invalid, NotFound
from shared.http.refusals import Refused, told_to_nobody
from shared.messaging.commands import Command, CommandBus
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.settings import Settings

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Services:
    """What handlers reach: the write side, the read side, and what the composition root adds."""

    settings: Settings
    commands: CommandBus
    database: Database
    authenticate: Callable[[web.Request], Awaitable[Caller]]
    extras: Mapping[type[Any], Any] = field(default_factory=dict)
    refused: Refused = told_to_nobody


@dataclass(frozen=True)
class Answer:
    """An answer that is more than its model: with headers, or not JSON."""

    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


@dataclass(frozen=True)
class Call:
    """What a handler gets; *caller* is authenticated and has the route's permission."""

    request: web.Request
    caller: Caller
    services: Services

    async def execute(self, command: Command[T]) -> T:
        """Carry out *command* on the caller's behalf."""
        return await self.services.commands.execute(command, self.caller)

    def read(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction that sees what the caller may see, and writes nothing."""
        return self.services.database.read(self.caller.scope)

    def write(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction for what is no business of a context, such as a queue's state."""
        return self.services.database.begin(self.caller.scope)

    def service(self, kind: type[S]) -> S:
        """A service that the composition root gave by its type."""
        found: S = self.services.extras[kind]
        return found

    def id(self, name: str = "id") -> UUID:
        """A UUID of the path; one that is malformed is as unknown as one that nobody has."""
        try:
            return UUID(self.request.match_info[name])
        except ValueError:
            raise NotFound(f"no such {name.removesuffix('_id') or 'thing'}") from None

    @property
    def own_id(self) -> UUID:
        """The id of the person who calls; Forbidden for callers that are no people."""
        if self.caller.user_id is None:
            raise Forbidden("this is for people")
        return self.caller.user_id

    def text(self, name: str) -> str:
        """Another parameter of the path."""
        return self.request.match_info[name]

    @property
    def expected_version(self) -> int | None:
        """The version in If-Match; None when the caller takes whatever is there."""
        header = self.request.headers.get("If-Match", "").strip()
        if header in ("", "*"):
            return None
        match = re.fullmatch(r'(?:W/)?"(\d{1,9})"', header)
        if match is None:
            raise Invalid('If-Match: give one ETag as it was received, such as "3"')
        return int(match[1])
