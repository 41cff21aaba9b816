"""How soon after its answer data can be queried: single spans beside a load, and a query for them.

A span is sent every few milliseconds, by itself, and the engine is asked again and again which of
them it shows. One is visible from the end of the first query that shows it on: what is told is too
much by up to the time between two queries, never too little.
"""

import asyncio
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import median
from types import TracebackType
from typing import Final, Self

import aiohttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.capacity.measure import cores
from tests.e2e.processes import Product

SERVICE: Final = "visibility"
SEND_SECONDS: Final = 0.02
POLL_SECONDS: Final = 0.05
# After the last was sent.
SEEN_SECONDS_MAX: Final = 60.0
_HEADERS: Final = {"Content-Type": "application/x-protobuf"}
# By the sorting key of the table; those that were seen before are not asked for again.
_SEEN: Final = (
    "SELECT toUInt32OrZero(SpanName) AS number FROM tf_traces WHERE TenantId = 'default' AND "
    f"ServiceName = '{SERVICE}' AND number >= {{first:UInt32}}"
)


class Visibility:
    """A context manager: spans are sent while it is open; it closes when all of them were seen."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._url = f"http://127.0.0.1:{product.http_port}/v1/traces"
        # When each span was answered, and when it was seen first.
        self._answered: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._polls: list[float] = []
        self._closing = False
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._watching = self._thread.submit(self._run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._watching.result()
        self._thread.shutdown()

    def milliseconds(self) -> dict[str, float]:
        """Quantiles of the time from answered to seen, and how far apart looks were."""
        found = sorted(
            1e3 * max(0.0, self._seen[number] - answered)
            for number, answered in self._answered.items()
        )
        gaps = [1e3 * (after - before) for before, after in pairwise(self._polls)]
        parts = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1.0))
        quantiles = {name: found[int(part * (len(found) - 1))] for name, part in parts}
        return quantiles | {"between looks": median(gaps)}

    def _run(self) -> None:
        os.sched_setaffinity(0, cores()[1])  # of this thread alone
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        sending = asyncio.create_task(self._send())
        until = float("inf")
        while not sending.done() or self._answered.keys() - self._seen.keys():
            await self._look()
            if sending.done():
                until = min(until, time.perf_counter() + SEEN_SECONDS_MAX)
            if time.perf_counter() > until:
                raise RuntimeError(f"not seen: {self._answered.keys() - self._seen.keys()}")
            await asyncio.sleep(POLL_SECONDS)
        await sending

    async def _look(self) -> None:
        first = next(number for number in range(len(self._seen) + 1) if number not in self._seen)
        rows = await asyncio.to_thread(self._product.rows, _SEEN, first=str(first))
        now = time.perf_counter()
        self._polls.append(now)
        for row in rows:
            self._seen.setdefault(row["number"], now)

    async def _send(self) -> None:
        async with aiohttp.ClientSession(headers=_HEADERS) as session, asyncio.TaskGroup() as sent:
            number = 0
            while not self._closing:
                sent.create_task(self._send_one(session, number))
                number += 1
                await asyncio.sleep(SEND_SECONDS)

    async def _send_one(self, session: aiohttp.ClientSession, number: int) -> None:
        async with session.post(self._url, data=_body(number)) as answer:
            if answer.status == 200:
                self._answered[number] = time.perf_counter()


def _body(number: int) -> bytes:
    """One span, distinct by its ids, that bears its number as its name."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    name = resource.resource.attributes.add(key="service.name")
    name.value.string_value = SERVICE
    now = time.time_ns()
    resource.scope_spans.add().spans.add(
        trace_id=secrets.token_bytes(16),
        span_id=secrets.token_bytes(8),
        name=str(number),
        start_time_unix_nano=now,
        end_time_unix_nano=now,
    )
    return message.SerializeToString()
