"""The writer: from the log into ClickHouse, exactly once (see `partition_writer`).

It waits until ClickHouse is there with all tables, then writes all partitions side by side.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from ingest.backoff import Backoff
from ingest.conservation import watch_conservation
from ingest.inserts import ClickHouseInserts, Inserts
from ingest.log import CountingLog
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from ingest.signals import TOPIC_OF_SIGNAL
from shared.clickhouse.client import ClickHouse
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.clickhouse.migrate import Migrator, Problem
from shared.errors import Conflict, TelemetryFlowError, Unavailable
from shared.settings import Settings

# Inserts that run at a time: each holds its body in memory here, and its rows in the server.
INSERTS_AT_ONCE_MAX: Final = 4
# Records that are read and not yet stored, over all partitions.
BUFFERED_BYTES_MAX: Final = 256 * 1024 * 1024
# How long an insert waits for the views of a tenant that was never seen before.
TENANT_SECONDS_MAX: Final = 1.0
TENANT_RETRY_SECONDS: Final = 60.0
# After a stop, what is under way may be finished; what is not is repeated by the next start.
DRAIN_SECONDS_MAX: Final = 10.0

logger = logging.getLogger(__name__)

EnsureTenant = Callable[[str], Awaitable[None]]
FindProblems = Callable[[], Awaitable[Sequence[Problem]]]


class Writer:
    """Writes the partitions of all signals."""

    def __init__(
        self,
        log: CountingLog,
        inserts: Inserts,
        *,
        limits: BatchLimits,
        find_problems: FindProblems,
        ensure_tenant: EnsureTenant,
    ) -> None:
        self._log = log
        self._inserts = inserts
        self._limits = limits
        self._find_problems = find_problems
        self._tenants = Tenants(ensure_tenant)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Write until `stop`. Raises Conflict when ClickHouse would store repeats twice (I7)."""
        work = asyncio.create_task(self._run())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((work,), timeout=DRAIN_SECONDS_MAX if self._stop.is_set() else None)
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, self._tenants.close(), return_exceptions=True)
        if not work.cancelled():
            work.result()

    def stop(self) -> None:
        """Let `run` finish the plans under way, if that is quick, and return."""
        self._stop.set()

    async def _run(self) -> None:
        await wait_until_ready(self._find_problems)
        writers = await self._partition_writers()
        watch = asyncio.create_task(watch_conservation(self._log))
        try:
            async with asyncio.TaskGroup() as tasks:
                for writer in writers:
                    tasks.create_task(writer.run(self._stop))
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _partition_writers(self) -> list[PartitionWriter]:
        places = [
            (topic, partition)
            for topic in TOPIC_OF_SIGNAL.values()
            for partition in range(await self._log.partitions(topic))
        ]
        bytes_max = min(self._limits.bytes_max, BUFFERED_BYTES_MAX // len(places))
        limits = replace(self._limits, bytes_max=bytes_max)
        slots = asyncio.Semaphore(INSERTS_AT_ONCE_MAX)
        return [
            PartitionWriter(
                self._log,
                topic,
                partition,
                self._inserts,
                limits=limits,
                ensure_tenants=self._tenants.ensure,
                insert_slots=slots,
            )
            for topic, partition in places
        ]


class Tenants:
    """Sees to it that each tenant has its views, before its first rows if that is quick."""

    def __init__(self, ensure_tenant: EnsureTenant) -> None:
        self._ensure_tenant = ensure_tenant
        self._made: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ensure(self, tenants: Sequence[str]) -> None:
        """Make what is missing of *tenants*; never fails, and takes a second at most."""
        now = monotonic()
        missing = [
            tenant
            for tenant in tenants
            if tenant not in self._made and self._retry_at.get(tenant, now) <= now
        ]
        if not missing:
            return
        # Noted now, so that inserts that follow do not ask for the same again.
        self._retry_at.update(dict.fromkeys(missing, now + TENANT_RETRY_SECONDS))
        task = asyncio.create_task(self._make(missing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task,), timeout=TENANT_SECONDS_MAX)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _make(self, tenants: Sequence[str]) -> None:
        async with self._lock:
            for tenant in tenants:
                try:
                    await self._ensure_tenant(tenant)
                except TelemetryFlowError as error:
                    logger.warning("the views of tenant %s are not there yet: %s", tenant, error)
                else:
                    self._made.add(tenant)
                    self._retry_at.pop(tenant, None)


async def wait_until_ready(
    find_problems: FindProblems, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Wait until ClickHouse answers and has every table; Conflict when a window is missing."""
    backoff = Backoff()
    while True:
        try:
            problems = await find_problems()
        except (Unavailable, SchemaMismatch) as error:
            logger.warning("the writer waits for ClickHouse: %s", error)
        else:
            if not problems:
                return
            lasting = [f"{one.table} {one.text}" for one in problems if not _is_missing(one)]
            if lasting:
                raise Conflict("; ".join(lasting))
            names = ", ".join(one.table for one in problems)
            logger.warning("the writer waits for tables (run 'telemetryflow migrate'): %s", names)
        await sleep(backoff.next_seconds())


def _is_missing(problem: Problem) -> bool:
    return problem.text.startswith("is missing")


def new_writer(
    log: CountingLog, clickhouse: ClickHouse, settings: Settings, ensure_tenant: EnsureTenant
) -> Writer:
    """The writer as configured."""
    database = settings.clickhouse_database
    migrator = Migrator(clickhouse.command, clickhouse.query, database=database)
    return Writer(
        log,
        ClickHouseInserts(clickhouse, database=database),
        limits=BatchLimits(
            rows_max=settings.writer_batch_rows_max,
            bytes_max=settings.writer_batch_bytes_max,
            wait_ms=settings.writer_batch_wait_ms,
        ),
        find_problems=migrator.problems,
        ensure_tenant=ensure_tenant,
    )
