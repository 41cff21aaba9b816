"""Live tails, as server-sent events (HTML standard, section 9.2) or over a WebSocket (RFC 6455)."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from aiohttp import WSCloseCode, web
from pydantic import BaseModel, Field

from control.telemetry.api.kit import SEND_SECONDS_MAX, say_broken, send, until_broken
from control.telemetry.queries.engine import reading
from control.telemetry.queries.logs import LOG_ITEMS, LogConditions, LogView, log_view
from control.telemetry.queries.spans import SpanView, span_fields
from control.telemetry.queries.tail import (
    TAIL_CURSOR_CHARACTERS_MAX,
    TAIL_SECONDS_MAX,
    Followed,
    Look,
    Tails,
)
from control.telemetry.queries.time_range import iso
from control.telemetry.queries.traces import SPAN_ITEMS, SpanConditions
from shared.errors import Invalid, TelemetryFlowError
from shared.http.call import Call
from shared.http.models import Text, View
from shared.http.routes import Routes
from shared.http.sockets import PROTOCOL

routes = Routes(
    "Telemetry: live",
    "What arrives, as it arrives: server-sent events, or a WebSocket for who asks for one.",
    is_open_to_keys=True,
)

EVENT_STREAM: Final = "text/event-stream"
LAST_EVENT: Final = "Last-Event-ID"
HEARTBEAT_SECONDS: Final = 15.0
# Clients have nothing to say.
MESSAGE_BYTES_MAX: Final = 1_024
_SECONDS: Final = Field(ge=1, le=TAIL_SECONDS_MAX, description="how long to follow")
_CURSOR: Final = Field(
    None,
    max_length=TAIL_CURSOR_CHARACTERS_MAX,
    description="of the last message: what arrived since comes first; also as Last-Event-ID",
)


class LogTail(LogConditions):
    """Which log records, and how long."""

    seconds: int = _SECONDS
    cursor: Text | None = _CURSOR


class SpanTail(SpanConditions):
    """Which spans, and how long."""

    seconds: int = _SECONDS
    cursor: Text | None = _CURSOR


class LeftOutView(View):
    """Items that were not given, because more waited than is given; a search finds them."""

    items: int
    start_time: str
    end_time: str


class Arrived(View):
    """A message of a live tail."""

    items: Sequence[LogView | SpanView] = Field(description="each once, the oldest first")
    left_out: LeftOutView | None
    cursor: str


@routes.get(
    "/telemetry/logs/tail",
    permission="logs:read",
    query=LogTail,
    content_type=EVENT_STREAM,
    item=Arrived,
    is_live=True,
)
async def tail_logs(call: Call, query: LogTail) -> web.StreamResponse:
    """Follow log records as they arrive; events `logs`, or messages of a WebSocket.

    Each has `items`, `leftOut` where a slow reader missed some, and `cursor`, which is also the id
    of the event: sent as `Last-Event-ID` or `cursor`, the tail goes on behind it.
    """
    what = Followed("logs", LOG_ITEMS, query.conditions(), *_question(call, query))
    return await _stream(call, what, query.seconds, log_view)


@routes.get(
    "/telemetry/spans/tail",
    permission="traces:read",
    query=SpanTail,
    content_type=EVENT_STREAM,
    item=Arrived,
    is_live=True,
)
async def tail_spans(call: Call, query: SpanTail) -> web.StreamResponse:
    """Follow spans as they arrive; events `traces`, or messages of a WebSocket, as for logs."""
    what = Followed("traces", SPAN_ITEMS, query.conditions(), *_question(call, query))
    return await _stream(call, what, query.seconds, _span)


def _span(row: dict[str, Any]) -> SpanView:
    return SpanView(**span_fields(row))


def _question(call: Call, query: LogTail | SpanTail) -> tuple[str, str | None]:
    """What cursors are good for, and the one that came."""
    asked = query.model_dump_json(exclude={"seconds", "cursor"})
    cursor = call.request.headers.get(LAST_EVENT) or query.cursor
    if cursor is not None and len(cursor) > TAIL_CURSOR_CHARACTERS_MAX:
        raise Invalid(f"{LAST_EVENT} is none of ours", field="cursor")
    return f"{type(query).__name__} {asked}", cursor


async def _stream(
    call: Call, what: Followed, seconds: int, view: Callable[[dict[str, Any]], BaseModel]
) -> web.StreamResponse:
    def message(look: Look) -> str:
        return _arrived(look, view).model_dump_json(by_alias=True)

    tails = call.service(Tails)
    async with aclosing(tails.follow(reading(call), what, seconds=seconds)) as looks:
        # What is wrong with the question becomes an answer of its own, before the stream begins.
        first = await anext(looks)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MESSAGE_BYTES_MAX, protocols=(PROTOCOL,)
        )
        if socket.can_prepare(call.request):
            return await _over(socket, call.request, (first, looks), message)
        return await _as_events(call.request, (first, looks), message, event=what.signal)


def _arrived(look: Look, view: Callable[[dict[str, Any]], Any]) -> Arrived:
    missed, left_out = look.left_out, None
    if missed is not None:
        left_out = LeftOutView(
            items=missed.items, start_time=iso(missed.start_ns), end_time=iso(missed.end_ns)
        )
    return Arrived(items=[view(row) for row in look.rows], left_out=left_out, cursor=look.cursor)


Looks = tuple[Look, AsyncGenerator[Look, None]]


async def _as_events(
    request: web.Request, looks: Looks, message: Callable[[Look], str], *, event: str
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
    )
    await response.prepare(request)

    def told(look: Look) -> str:
        return f"event: {event}\nid: {look.cursor}\ndata: {message(look)}\n\n"

    first, others = looks
    # One that breaks may go on with the last id.
    async with until_broken(request):
        await send(response, told(first).encode())
        async for look in others:
            # A comment, so that proxies keep the connection.
            text = told(look) if look.rows or look.left_out else ": nothing new\n\n"
            await send(response, text.encode())
        await response.write_eof()
    return response


async def _over(
    socket: web.WebSocketResponse,
    request: web.Request,
    looks: Looks,
    message: Callable[[Look], str],
) -> web.WebSocketResponse:
    await socket.prepare(request)
    # Takes what comes, so that a close is noticed.
    listening = asyncio.create_task(_until_closed(socket))

    async def tell(look: Look) -> None:
        async with asyncio.timeout(SEND_SECONDS_MAX):
            await socket.send_str(message(look))

    first, others = looks
    try:
        await tell(first)
        async for look in others:
            if socket.closed:
                break
            if look.rows or look.left_out:
                await tell(look)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    except TelemetryFlowError as error:
        say_broken(request, error)
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"go on with the last cursor")
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    await socket.close()
    return socket


async def _until_closed(socket: web.WebSocketResponse) -> None:
    async for _message in socket:
        pass
