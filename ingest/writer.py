"""The writer: from the log into ClickHouse, exactly once (see `partition_writer`).

It waits until ClickHouse is there with all tables, then writes the partitions that it is given, all
side by side. Several writers share a log in Kafka; each follows what it is assigned.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from ingest import metrics
from ingest.backoff import Backoff
from ingest.conservation import watch_log
from ingest.inserts import ClickHouseInserts, Inserts
from ingest.log import Assignment, LostPartition, TelemetryLog
from ingest.partition_writer import WRITER_GROUP, PartitionWriter
from ingest.plans import DEFAULT_WINDOW, RetryWindow
from ingest.ranges import BatchLimits
from ingest.signals import TOPIC_OF_SIGNAL
from shared.clickhouse.client import ClickHouse
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.clickhouse.migrate import Migrator, Problem
from shared.errors import Conflict, TelemetryFlowError, Unavailable
from shared.faults import crash_point
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
# A partition that goes to another writer: as above, but the other one waits.
HAND_OVER_SECONDS_MAX: Final = 5.0
# Before the work on a partition begins anew that seemed to be another's.
LOST_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)

EnsureTenant = Callable[[str], Awaitable[None]]
FindProblems = Callable[[], Awaitable[Sequence[Problem]]]


class Writer:
    """Writes the partitions of all signals that are assigned to this process."""

    def __init__(
        self,
        log: TelemetryLog,
        inserts: Inserts,
        *,
        limits: BatchLimits,
        find_problems: FindProblems,
        ensure_tenant: EnsureTenant,
        window: RetryWindow = DEFAULT_WINDOW,
    ) -> None:
        self._log = log
        self._inserts = inserts
        self._limits = limits
        self._find_problems = find_problems
        self._tenants = Tenants(ensure_tenant)
        self._window = window
        self._stop = asyncio.Event()
        self._waits_for: str | None = "waiting for ClickHouse and its tables"
        self._running: dict[tuple[str, int], _Running] = {}
        self._insert_slots = asyncio.Semaphore(INSERTS_AT_ONCE_MAX)
        metrics.RETRY_WINDOW_SECONDS.set_function(self._retry_window_seconds)

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

    def ready(self) -> str | None:
        """None when the writer is at work, else what it waits for."""
        return self._waits_for or self._log.trouble()

    def _retry_window_seconds(self) -> float:
        windows = [one.writer.retry_window_seconds for one in self._running.values()]
        return min(windows, default=0.0)

    async def _run(self) -> None:
        await wait_until_ready(self._find_problems)
        self._waits_for = "waiting to be given partitions"
        assignment = await self._joined()
        self._waits_for = None
        watch = asyncio.create_task(watch_log(self._log))
        try:
            while not self._stop.is_set():
                try:
                    await self._follow(assignment)
                except Unavailable as error:
                    logger.warning("the writer waits for the log: %s", error)
                    await asyncio.sleep(LOST_SECONDS)
                    continue
                await self._until_something_changes(assignment)
        finally:
            watch.cancel()
            await self._retire(tuple(self._running))
            await asyncio.gather(watch, assignment.close(), return_exceptions=True)

    async def _joined(self) -> Assignment:
        backoff = Backoff(seconds_max=5.0)
        while True:
            try:
                return await self._log.join(WRITER_GROUP, list(TOPIC_OF_SIGNAL.values()))
            except Unavailable as error:
                logger.warning("the writer waits for the log: %s", error)
            await asyncio.sleep(backoff.next_seconds())

    async def _follow(self, assignment: Assignment) -> None:
        """Have exactly the assigned partitions written."""
        assigned = assignment.assigned()
        for topic, partition in sorted(assigned - self._running.keys()):
            writer = await self._partition_writer(topic, partition, assignment)
            stop = asyncio.Event()
            task = asyncio.create_task(writer.run(stop), name=f"{topic}/{partition}")
            self._running[topic, partition] = _Running(writer, stop, task)
        lost = self._running.keys() - assigned
        await self._retire(tuple(lost))
        # Also what is held and was not worked on; what was given back meanwhile is kept.
        revoked = assignment.revoked() - self._running.keys()
        if revoked:
            assignment.release(revoked)

    async def _retire(self, places: Sequence[tuple[str, int]]) -> None:
        """End the work on *places*: after the plan under way, if that is quick."""
        retired = [self._running.pop(place) for place in places]
        for one in retired:
            one.stop.set()
        if not retired:
            return
        tasks = [one.task for one in retired]
        await asyncio.wait(tasks, timeout=HAND_OVER_SECONDS_MAX)
        crash_point("writer.in_revoke")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_something_changes(self, assignment: Assignment) -> None:
        """Returns when the assignment changed, a partition's work ended, or `stop` was called."""
        changed = asyncio.create_task(assignment.changed())
        stopped = asyncio.create_task(self._stop.wait())
        tasks = [one.task for one in self._running.values()]
        await asyncio.wait((changed, stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if changed.done():
            changed.result()
        changed.cancel()
        ended = [place for place, one in self._running.items() if one.task.done()]
        if ended and not self._stop.is_set():
            for place in ended:
                _raise_unless_lost(place, self._running.pop(place).task)
            # The group is about to say to whom they belong now.
            await asyncio.sleep(LOST_SECONDS)

    async def _partition_writer(
        self, topic: str, partition: int, assignment: Assignment
    ) -> PartitionWriter:
        share = BUFFERED_BYTES_MAX // (await self._log.partitions(topic) * len(TOPIC_OF_SIGNAL))
        return PartitionWriter(
            self._log,
            topic,
            partition,
            self._inserts,
            limits=replace(self._limits, bytes_max=min(self._limits.bytes_max, share)),
            ensure_tenants=self._tenants.ensure,
            insert_slots=self._insert_slots,
            window=self._window,
            lease=assignment.lease(topic, partition),
        )


@dataclass(slots=True)
class _Running:
    """The work on one partition."""

    writer: PartitionWriter
    stop: asyncio.Event
    task: asyncio.Task[None]


def _raise_unless_lost(place: tuple[str, int], task: asyncio.Task[None]) -> None:
    """A partition that went to another writer is no error; work on it may begin anew."""
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, LostPartition):
        logger.warning("%s/%d: %s", *place, error)
    elif error is not None:
        raise error


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
    log: TelemetryLog, clickhouse: ClickHouse, settings: Settings, ensure_tenant: EnsureTenant
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
        window=RetryWindow(
            settings.log_retry_window_seconds * 1_000, settings.log_retry_requests_max
        ),
    )
