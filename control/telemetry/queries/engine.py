"""Questions to ClickHouse for a tenant: in turn, limited, checked, and ended with the caller.

A `Reading` belongs to one request: it adds up what the request's queries cost, and knows when
nobody waits for the answer any more.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from control.telemetry.queries.checker import check
from control.telemetry.queries.cursors import Cursors
from control.telemetry.queries.fair_queue import FairQueue
from control.telemetry.queries.sql import Rendering, Select
from shared.cache.cache import Cache
from shared.clickhouse.client import ClickHouse
from shared.errors import Forbidden
from shared.http.call import Call

RESULT_ROWS_MAX: Final = 50_000
# What one query may use; ClickHouse compares the rows with what it is about to read, so that a
# query beyond the limit is refused before it reads anything.
LIMITS: Final = {
    "max_execution_time": "30",
    "max_memory_usage": str(1 << 30),
    "max_rows_to_read": "2000000000",
    "max_bytes_to_read": str(200 << 30),
    "max_result_rows": str(RESULT_ROWS_MAX),
    "max_result_bytes": str(64 << 20),
    "max_threads": "2",
    "result_overflow_mode": "throw",
    # A name in WHERE is the column, not what SELECT calls the same.
    "prefer_column_name_to_alias": "1",
    # Where the server has room for it (`uncompressed_cache_size`); large reads pass it by.
    "use_uncompressed_cache": "1",
    "cancel_http_readonly_queries_on_client_close": "1",
    "readonly": "2",
}
DISCONNECT_POLL_SECONDS: Final = 0.1

T = TypeVar("T")
Other = TypeVar("Other")


@dataclass
class Statistics:
    """What the queries of a request cost."""

    queries: int = 0
    rows_read: int = 0
    bytes_read: int = 0
    elapsed_ms: float = 0.0


class Engine:
    """ClickHouse as readers see it; one for the process."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        *,
        database: str,
        cache: Cache,
        cursors: Cursors,
        limits: Mapping[str, str] | None = None,
    ) -> None:
        self._clickhouse = clickhouse
        self._database = database
        self._queue = FairQueue()
        self._limits = {**LIMITS, **(limits or {})}
        self.cache = cache
        self.cursors = cursors

    async def rows(self, tenant: str, select: Select, told: Statistics) -> list[dict[str, Any]]:
        """The rows by column name. When cancelled, the engine's query is ended too."""
        rendering = Rendering(self._database, tenant)
        text = rendering.text_of(select)
        check(text, self._database)
        query_id = secrets.token_hex(16)
        async with self._queue.place(tenant):
            begun = time.perf_counter()
            try:
                found = await self._clickhouse.read(
                    text, rendering.parameters, self._limits, query_id=query_id
                )
            except asyncio.CancelledError:
                await asyncio.shield(asyncio.ensure_future(self._kill(query_id)))
                raise
        told.queries += 1
        told.rows_read += found.rows_read
        told.bytes_read += found.bytes_read
        told.elapsed_ms += (time.perf_counter() - begun) * 1000
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    async def _kill(self, query_id: str) -> None:
        # What cannot be told to the engine ends at its own limit of time.
        with contextlib.suppress(Exception):
            await self._clickhouse.kill(query_id)


@dataclass
class Reading:
    """One request of a tenant."""

    engine: Engine
    tenant: str
    statistics: Statistics = field(default_factory=Statistics)
    is_abandoned: Callable[[], bool] = lambda: False

    async def rows(self, select: Select) -> list[dict[str, Any]]:
        """The rows of *select*, all of this tenant."""
        return await self.until_abandoned(self.engine.rows(self.tenant, select, self.statistics))

    async def until_abandoned(self, work: Awaitable[T]) -> T:
        """The result of *work*, which is cancelled when the caller leaves."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=DISCONNECT_POLL_SECONDS)
                if not task.done() and self.is_abandoned():
                    raise asyncio.CancelledError
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return task.result()


async def both(one: Awaitable[T], other: Awaitable[Other]) -> tuple[T, Other]:
    """The results of both, which run at the same time; when one fails, the other is cancelled."""
    tasks = asyncio.ensure_future(one), asyncio.ensure_future(other)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def reading(call: Call) -> Reading:
    """What the caller's tenant may read; Forbidden for callers without a tenant."""
    if not call.caller.telemetry_id:
        raise Forbidden("choose a tenant: send its id as X-Tenant-Id")
    request = call.request

    def is_abandoned() -> bool:
        return request.transport is None or request.transport.is_closing()

    return Reading(call.service(Engine), call.caller.telemetry_id, is_abandoned=is_abandoned)
