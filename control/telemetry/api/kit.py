"""What all routes here do: read for the caller's tenant, and keep what will not change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel

from control.telemetry.queries.answers import RangeQuery
from control.telemetry.queries.engine import Reading, reading
from control.telemetry.queries.time_range import TimeRange
from shared.cache.keys import cache_key
from shared.errors import TelemetryFlowError
from shared.http.call import Answer, Call

KEPT_SECONDS: Final = 300.0
CACHE_HEADER: Final = "X-Cache"
# What the routes declare.
ANSWER_HEADERS: Final = {
    CACHE_HEADER: "HIT or MISS for a range that is given and over; else BYPASS",
}

# Who takes nothing for so long is given up.
SEND_SECONDS_MAX: Final = 60.0

logger = logging.getLogger(__name__)

Q = TypeVar("Q", bound=RangeQuery)


async def answered_in_range(
    call: Call, query: Q, load: Callable[[Reading, Q], Awaitable[BaseModel]]
) -> Answer:
    """What *load* gives for *query*; kept when its range is given and over."""
    return await answered(call, query, lambda found: load(found, query), span=query.fixed_span)


async def answered(
    call: Call,
    question: BaseModel,
    load: Callable[[Reading], Awaitable[BaseModel]],
    *,
    span: TimeRange | None,
) -> Answer:
    """What *load* gives; for a *span* that is given and over, kept for five minutes.

    The key holds the tenant, the route and every parameter of the question.
    """
    found = reading(call)
    if span is None or not span.is_closed:
        return Answer(await load(found), {CACHE_HEADER: "BYPASS"})
    key = cache_key(
        found.tenant, "telemetry", call.request.path, question.model_dump_json(by_alias=True)
    )
    cache = found.engine.cache
    # Kept as its text: to make objects of a large answer, and text again, takes longer than all
    # else here.
    text = await cache.get(key)
    is_held = isinstance(text, str)
    if not is_held:
        text = (await load(found)).model_dump_json(by_alias=True)
        await cache.set(key, text, ttl_seconds=KEPT_SECONDS, l2_ttl_seconds=KEPT_SECONDS)
    return Answer(text.encode(), {CACHE_HEADER: "HIT" if is_held else "MISS"})


async def send(response: web.StreamResponse, piece: bytes) -> None:
    """A piece of a stream; TimeoutError when nobody takes it."""
    async with asyncio.timeout(SEND_SECONDS_MAX):
        await response.write(piece)


@asynccontextmanager
async def until_broken(request: web.Request) -> AsyncIterator[None]:
    """What streams inside breaks off when its reader or the engine goes away.

    It has then not the end of its transfer coding, by which the client knows.
    """
    try:
        yield
    except (ConnectionError, TimeoutError, TelemetryFlowError) as error:
        say_broken(request, error)
        if request.transport is not None:
            request.transport.close()


def say_broken(request: web.Request, error: Exception) -> None:
    """Tell the operator, unless it was the reader who left."""
    if isinstance(error, TelemetryFlowError):
        logger.warning("%s broke off: %s", request.path, error)
