"""WebSockets of browsers: what a page cannot send as a header comes as a subprotocol.

A page opens a WebSocket with a URL and names of subprotocols, and with nothing else (HTML standard,
section 9.3). So who calls may stand there, as Kubernetes has it too:

    new WebSocket(url, ["telemetryflow", `bearer.${accessToken}`, `tenant.${tenantId}`])

Behind this module both are the headers that they stand for, and nobody sees them again; a URL,
which logs would keep, never holds them. A header that was sent stands.
"""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

# What the answer names: a browser gives up a connection that agrees to none of its subprotocols.
PROTOCOL: Final = "telemetryflow"
HEADER: Final = "Sec-WebSocket-Protocol"
_STANDS_FOR: Final = (("bearer.", "Authorization", "Bearer "), ("tenant.", "X-Tenant-Id", ""))


def asks_for_socket(request: web.BaseRequest) -> bool:
    """Whether *request* wants to become a WebSocket (RFC 6455, section 4.1)."""
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


@web.middleware
async def with_headers_of_subprotocols(
    request: web.Request, handler: Handler
) -> web.StreamResponse:
    """Puts what stands in subprotocols where all else looks for it."""
    if HEADER not in request.headers or not asks_for_socket(request):
        return await handler(request)
    headers = CIMultiDict(request.headers)
    offered = [one.strip() for text in headers.popall(HEADER) for one in text.split(",")]
    for start, name, before in _STANDS_FOR:
        for one in offered:
            if one.startswith(start) and name not in headers:
                headers[name] = before + one.removeprefix(start)
    # What is left out here is not in the log either, into which aiohttp writes the names of
    # subprotocols that nobody serves.
    if PROTOCOL in offered:
        headers[HEADER] = PROTOCOL
    return await handler(request.clone(headers=headers))
