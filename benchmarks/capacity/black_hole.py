"""ClickHouse whose INSERTs of telemetry go nowhere: what is left is the cost of the writer itself.

    python -m benchmarks.capacity.black_hole PORT ENGINE_PORT

Blocks are read and thrown away; everything else is answered by the engine behind it, so that the
writer finds its tables.
"""

import sys
from collections.abc import Iterable
from typing import Final

import aiohttp
from aiohttp import web

_SWALLOWED: Final = "INSERT INTO "
_FORMAT: Final = "FORMAT Native"
# What belongs to one connection, and is made anew for the next.
_HOP_BY_HOP: Final = frozenset(("connection", "content-length", "host", "transfer-encoding"))


class BlackHole:
    """Stands before the engine at *engine_port* of this machine."""

    def __init__(self, engine_port: int) -> None:
        self._engine = f"http://127.0.0.1:{engine_port}"
        self._session: aiohttp.ClientSession

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _app: web.Application) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def _close(self, _app: web.Application) -> None:
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.Response:
        sql = request.query.get("query", "")
        if sql.startswith(_SWALLOWED) and sql.endswith(_FORMAT):
            async for _piece in request.content.iter_any():
                pass
            return web.Response()
        async with self._session.request(
            request.method,
            self._engine + str(request.rel_url),
            data=await request.read(),
            headers=_passed_on(request.headers.items()),
        ) as answer:
            headers = _passed_on(answer.headers.items())
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)


def _passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _HOP_BY_HOP}


if __name__ == "__main__":
    port, engine_port = map(int, sys.argv[1:])
    web.run_app(
        BlackHole(engine_port).application(),
        host="127.0.0.1",
        port=port,
        print=None,
        access_log=None,
        auto_decompress=False,
    )
