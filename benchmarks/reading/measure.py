"""Asks questions of a loaded data set, and tells how long they took and what they read."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import psutil

from benchmarks.dataset.loading import DATABASE
from benchmarks.reading.questions import DAY_NS, HOUR_NS, Asked, Sample
from control.telemetry.queries.cursors import Cursors
from control.telemetry.queries.engine import Engine, Reading
from shared.cache.cache import Cache
from shared.cache.memory import MemoryCache
from shared.clickhouse.client import ClickHouse

SAMPLES: Final = 16
# The condition cache would turn a repeated question into a look-up.
_HONEST: Final = {"use_query_condition_cache": "0"}
# As if there were neither indices nor projections.
_PLAIN: Final = {**_HONEST, "use_skip_indexes": "0", "optimize_use_projections": "0"}


@dataclass(frozen=True)
class Cost:
    """What was read for one answer."""

    rows: int
    bytes: int


Ask = Callable[[Sample], Awaitable[Cost]]


@dataclass(frozen=True)
class Figures:
    """Milliseconds; CPU of the processes that answer, and what was read, for one asking."""

    p50_ms: float
    p95_ms: float
    cpu_ms: float
    rows: int
    bytes: int


@asynccontextmanager
async def engine(clickhouse: ClickHouse, *, plain: bool = False) -> AsyncIterator[Engine]:
    """Reads as the API does, without its cache of answers."""
    async with Cache(MemoryCache(items_max=1, bytes_max=1_000), None) as cache:
        yield Engine(
            clickhouse,
            database=DATABASE,
            cache=cache,
            cursors=Cursors(b"key of a benchmark"),
            limits=_PLAIN if plain else _HONEST,
        )


async def samples(
    clickhouse: ClickHouse, tenant: str, *, end_ns: int, seed: int
) -> Sequence[Sample]:
    """What to ask for: spans and orders of random moments of the last day, and metrics."""
    random = Random(seed)
    found: list[Sample] = []
    metrics = {
        kind: await clickhouse.query(
            f"SELECT MetricName, ServiceName FROM {DATABASE}.tf_metric_names WHERE TenantId = "
            f"'{tenant}' AND Type = '{kind}' GROUP BY ALL ORDER BY ALL"
        )
        for kind in ("gauge", "sum")
    }
    while len(found) < SAMPLES:
        moment_ns = end_ns - random.randrange(HOUR_NS, DAY_NS)
        spans = await clickhouse.query(
            "SELECT lower(hex(TraceId)), ServiceName, substring(SpanAttributes['order.id'], 7) "
            f"FROM {DATABASE}.tf_traces WHERE TenantId = '{tenant}' AND Timestamp >= "
            f"fromUnixTimestamp64Nano({moment_ns}) AND Timestamp < "
            f"fromUnixTimestamp64Nano({moment_ns + HOUR_NS}) ORDER BY SpanId LIMIT 1"
        )
        pairs = [random.choice(metrics[kind]) for kind in ("gauge", "sum")]
        found += [Sample(end_ns - DAY_NS, end_ns, *row, *map(tuple, pairs)) for row in spans]
    return found


def over(days: int, given: Sequence[Sample]) -> list[Sample]:
    """The same over so many days."""
    return [replace(one, start_ns=one.end_ns - days * DAY_NS) for one in given]


def asking(engine: Engine, tenant: str, ask: Asked) -> Ask:
    """Asks as the API does, without the API."""

    async def asked(sample: Sample) -> Cost:
        reading = Reading(engine, tenant)
        await ask(reading, sample)
        return Cost(reading.statistics.rows_read, reading.statistics.bytes_read)

    return asked


async def figures(
    ask: Ask,
    given: Sequence[Sample],
    *,
    processes: Sequence[psutil.Process],
    rounds: int,
    users: int = 1,
) -> Figures:
    """*users* ask at the same time, each *rounds* times, one after the other."""

    def cpu_seconds() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    milliseconds: list[float] = []
    rows = size = 0

    async def user(number: int) -> None:
        nonlocal rows, size
        for turn in range(rounds):
            begun = time.perf_counter()
            cost = await ask(given[(number * 3 + turn) % len(given)])
            milliseconds.append((time.perf_counter() - begun) * 1_000)
            rows += cost.rows
            size += cost.bytes

    cpu_begun = cpu_seconds()
    await asyncio.gather(*map(user, range(users)))
    milliseconds.sort()
    asked = len(milliseconds)
    return Figures(
        milliseconds[asked // 2],
        milliseconds[min(math.ceil(asked * 0.95), asked) - 1],
        (cpu_seconds() - cpu_begun) * 1_000 / asked,
        rows // asked,
        size // asked,
    )
