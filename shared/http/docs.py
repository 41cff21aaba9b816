"""/docs: the API's description for people, and /openapi.json for programs; all files are ours."""

from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

CACHE_SECONDS: Final = 3_600
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
# Swagger UI styles its elements, and draws its pictures from data URLs.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


def add_docs(application: web.Application, document: dict[str, Any]) -> None:
    """Serve *document* and the page that shows it."""
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2)

    async def description(_request: web.Request) -> web.Response:
        return web.Response(body=data, content_type="application/json")

    async def page(_request: web.Request) -> web.Response:
        return _file("docs.html")

    async def file(request: web.Request) -> web.Response:
        return _file(request.match_info["name"])

    application.router.add_get("/openapi.json", description)
    application.router.add_get("/docs", page)
    application.router.add_get(r"/docs/{name:[a-z-]+\.(?:js|css)}", file)


def _file(name: str) -> web.Response:
    found = resources.files("shared.http") / "static" / name
    if not found.is_file():
        raise web.HTTPNotFound
    return web.Response(
        body=found.read_bytes(),
        content_type=_TYPES[name.rpartition(".")[2]],
        charset="utf-8",
        headers={
            "Content-Security-Policy": _POLICY,
            "Cache-Control": f"max-age={CACHE_SECONDS}",
        },
    )
