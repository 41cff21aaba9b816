"""What outbound requests are aimed at: a canary that must never be reached, a receiver, names."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain, repeat

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult


class Canary:
    """Listens on all of 127.0.0.0/8 and ::1, and counts who comes."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Canary"]:
        server = await asyncio.start_server(self._count, "0.0.0.0", 0)
        self.port = server.sockets[0].getsockname()[1]
        beside = await asyncio.start_server(self._count, "::1", self.port)
        async with server, beside:
            yield self

    def _count(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


class Names(AbstractResolver):
    """A name server that answers each question about a name with the next of its answers.

    The last one is repeated. Unknown names have no address.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {
            name.replace("_", "."): chain(given, repeat(given[-1]))
            for name, given in answers.items()
        }
        self.questions: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.questions.append(host)
        if host.rstrip(".") not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in next(self._answers[host.rstrip(".")])
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def receiver(
    handler: Callable[..., object],
    *,
    host: str = "127.0.0.1",
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """An HTTP server on *host* that *handler* answers for; gives its port."""
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=ssl_context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.Response:
    """Answers with method, path, host and body of the request."""
    head = f"{request.method} {request.path_qs} {request.host} "
    return web.Response(body=head.encode() + await request.read())
