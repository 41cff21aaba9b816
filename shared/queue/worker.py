"""The worker: takes jobs from PostgreSQL, runs them, tries again, and holds what keeps failing."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import asyncpg
from opentelemetry import context as otel_context
from opentelemetry.propagate import extract
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.executors import DatabaseRetryEntrypointExecutor, EntrypointExecutor
from pgqueuer.core.qm import QueueManager
from pgqueuer.errors import FailingListenerError, RetryRequested
from pgqueuer.models import Context
from pgqueuer.models import Job as StoredJob
from pgqueuer.types import QueueEntrypoint

from shared.caller import SYSTEM, acting_as
from shared.errors import Invalid, Unavailable
from shared.otel.spans import span
from shared.postgres.address import PostgresAddress
from shared.postgres.connection import CONNECTION_LOST
from shared.postgres.database import APPLICATION_ROLE
from shared.queue.jobs import Job, decoded
from shared.queue.metrics import JOB_SECONDS, JOBS
from shared.queue.queues import QUEUES, Queue

JobHandler = Callable[[Job], Awaitable[None]]
# The name of a job to who runs it; names are unique over all queues.
JobHandlers = Mapping[str, JobHandler]

BATCH_JOBS: Final = 100
CONNECTIONS: Final = 6
# A job whose worker was killed goes to another one after this.
HEARTBEAT_SECONDS: Final = 15.0
PAUSES_SECONDS: Final = 1.0
# Changes by administrators and ends of delays are found by looking.
POLL_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass
class Pace:
    """Begins at most so many jobs a second."""

    seconds_each: float
    next_at: float = 0.0

    async def wait(self) -> None:
        """Returns when it is this job's turn."""
        now = time.monotonic()
        self.next_at = max(now, self.next_at + self.seconds_each)
        if self.next_at > now:
            await asyncio.sleep(self.next_at - now)


class Attempts(DatabaseRetryEntrypointExecutor):
    """Tries again what may go well later; holds at once what never will."""

    async def execute(self, job: StoredJob, context: Context) -> None:
        """One attempt."""
        try:
            await EntrypointExecutor.execute(self, job, context)
        except Exception as error:
            if isinstance(error, Invalid) or job.attempts >= self.max_attempts:
                raise
            delay = self.initial_delay * self.backoff_multiplier**job.attempts
            if isinstance(error, Unavailable):
                delay = max(delay, timedelta(seconds=error.retry_after_seconds))
            raise RetryRequested(delay=min(delay, self.max_delay), reason=str(error)) from error


class PausableManager(QueueManager):
    """pgqueuer's manager, which takes nothing from queues that are paused."""

    paused: frozenset[str] = frozenset()

    def entrypoints_below_capacity_limits(self) -> set[QueueEntrypoint]:
        """All queues that are not paused."""
        found = super().entrypoints_below_capacity_limits()
        return {one for one in found if one not in self.paused}


class Worker:
    """Runs the jobs of all queues until it is told to stop; survives an absent PostgreSQL."""

    def __init__(
        self,
        address: PostgresAddress,
        handlers: Sequence[JobHandlers],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._address = address
        self._heartbeat_seconds = heartbeat_seconds
        self._handlers: dict[str, JobHandler] = {}
        for table in handlers:
            if twice := self._handlers.keys() & table.keys():
                raise Invalid(f"two handlers for the job {', '.join(sorted(twice))}")
            self._handlers.update(table)
        self._paces = {name: Pace(1 / queue.rate_per_second) for name, queue in QUEUES.items()}

    async def run(self, stopping: asyncio.Event) -> None:
        """Take jobs; at the end, those that run are finished."""
        while not stopping.is_set():
            try:
                await self._run_connected(stopping)
            except Exception as error:
                if not _is_about_postgres(error):
                    raise
                logger.warning("the worker waits for PostgreSQL: %s", type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), RECONNECT_SECONDS)

    async def _run_connected(self, stopping: asyncio.Event) -> None:
        # A pool of its own: pgqueuer reads and writes JSON as text.
        async with asyncpg.create_pool(
            **self._address.options(),
            min_size=1,
            max_size=CONNECTIONS,
            server_settings={"role": APPLICATION_ROLE, "application_name": "telemetryflow worker"},
        ) as pool:
            manager = PausableManager(Queries(AsyncpgPoolDriver(pool)))
            for queue in QUEUES.values():
                self._register(manager, queue)
            manager.paused = await _paused(pool)
            watching = asyncio.create_task(self._watch(manager, pool, stopping))
            try:
                await manager.run(
                    dequeue_timeout=timedelta(seconds=POLL_SECONDS),
                    batch_size=BATCH_JOBS,
                    heartbeat_timeout=timedelta(seconds=self._heartbeat_seconds),
                    shutdown_on_listener_failure=True,
                )
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    def _register(self, manager: QueueManager, queue: Queue) -> None:
        async def run(stored: StoredJob) -> None:
            await self._run_one(queue, stored)

        manager.entrypoint(
            queue.name,
            concurrency_limit=queue.workers,
            on_failure="hold",
            executor_factory=lambda parameters: Attempts(
                parameters,
                # pgqueuer counts what went before the present attempt.
                max_attempts=queue.attempts - 1,
                initial_delay=timedelta(seconds=queue.backoff_seconds),
            ),
        )(run)

    async def _run_one(self, queue: Queue, stored: StoredJob) -> None:
        await self._paces[queue.name].wait()
        job = decoded(stored.id, queue.name, stored.payload, stored.attempts)
        handler = self._handlers.get(job.name)
        if handler is None:
            raise Invalid(f"no handler for the job {job.name}")
        begun = time.monotonic()
        token = otel_context.attach(extract(job.trace))
        try:
            with span(f"job {job.name}", queue=queue.name), acting_as(SYSTEM):
                await handler(job)
        except Exception:
            JOBS.labels(queue.name, "failed").inc()
            logger.warning("job %s (%d) failed at attempt %d", job.name, job.id, job.attempt)
            raise
        finally:
            otel_context.detach(token)
            JOB_SECONDS.labels(queue.name).observe(time.monotonic() - begun)
        JOBS.labels(queue.name, "done").inc()

    async def _watch(self, manager: PausableManager, pool: Any, stopping: asyncio.Event) -> None:
        """End the manager when told to, and let it know what is paused."""
        while not stopping.is_set():
            with contextlib.suppress(asyncpg.PostgresError, *CONNECTION_LOST):
                manager.paused = await _paused(pool)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), PAUSES_SECONDS)
        manager.shutdown.set()


def _is_about_postgres(error: BaseException) -> bool:
    """Whether PostgreSQL went away: what else pgqueuer's tasks raise is a defect."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_about_postgres, error.exceptions))
    return isinstance(error, (asyncpg.PostgresError, *CONNECTION_LOST, FailingListenerError))


async def _paused(pool: Any) -> frozenset[str]:
    rows = await pool.fetch("SELECT queue FROM queue_pauses")
    return frozenset(row["queue"] for row in rows)
