"""Live tails as server-sent events (HTML standard, section 9.2)."""

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, Field

from control.telemetry.queries.engine import reading
from control.telemetry.queries.logs import LOG_ITEMS, LogConditions, log_view
from control.telemetry.queries.paging import Items
from control.telemetry.queries.spans import SpanView, span_fields
from control.telemetry.queries.sql import Fragment
from control.telemetry.queries.tail import TAIL_SECONDS_MAX, Tails
from control.telemetry.queries.traces import SPAN_ITEMS, SpanConditions
from shared.http.call import Call
from shared.http.routes import Routes

routes = Routes(
    "Telemetry: live", "What arrives, as it arrives (server-sent events).", is_open_to_keys=True
)

EVENT_STREAM: Final = "text/event-stream"
_SECONDS: Final = Field(ge=1, le=TAIL_SECONDS_MAX, description="how long to follow")


class LogTail(LogConditions):
    """Which log records, and how long."""

    seconds: int = _SECONDS


class SpanTail(SpanConditions):
    """Which spans, and how long."""

    seconds: int = _SECONDS


@routes.get(
    "/telemetry/logs/tail", permission="logs:read", query=LogTail, content_type=EVENT_STREAM
)
async def tail_logs(call: Call, query: LogTail) -> web.StreamResponse:
    """Follow log records as they arrive; an event `log` each, `partial` when there are too many."""
    return await _stream(call, LOG_ITEMS, query.conditions(), query.seconds, ("log", log_view))


@routes.get(
    "/telemetry/spans/tail", permission="traces:read", query=SpanTail, content_type=EVENT_STREAM
)
async def tail_spans(call: Call, query: SpanTail) -> web.StreamResponse:
    """Follow spans as they arrive; an event `span` each, `partial` when there are too many."""
    return await _stream(call, SPAN_ITEMS, query.conditions(), query.seconds, ("span", _span))


def _span(row: dict[str, Any]) -> SpanView:
    return SpanView(**span_fields(row))


async def _stream(
    call: Call,
    items: Items,
    conditions: list[Fragment],
    seconds: int,
    shown: tuple[str, Callable[[dict[str, Any]], BaseModel]],
) -> web.StreamResponse:
    event, view = shown
    async with reading(call) as found:
        looks = call.service(Tails).follow(found, items, conditions, seconds=seconds)
        # What is wrong with the question becomes an answer of its own, before the stream begins.
        first = await anext(looks)
        response = web.StreamResponse(
            headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
        )
        await response.prepare(call.request)
        try:
            await response.write(_events(event, view, first.rows, is_partial=first.is_partial))
            async for look in looks:
                await response.write(_events(event, view, look.rows, is_partial=look.is_partial))
        finally:
            await looks.aclose()
        await response.write_eof()
        return response


def _events(
    event: str,
    view: Callable[[dict[str, Any]], BaseModel],
    rows: list[dict[str, Any]],
    *,
    is_partial: bool,
) -> bytes:
    """The text of a look; a comment when there is nothing, so that proxies keep the connection."""
    lines = [
        f"event: {event}\nid: {row['time_ns']}\ndata: {data}\n\n"
        for row in rows
        for data in [view(row).model_dump_json(by_alias=True)]
    ]
    if is_partial:
        lines.insert(0, "event: partial\ndata: {}\n\n")
    return ("".join(lines) or ": nothing new\n\n").encode()
