"""Threads that carry out what blocks, and never outlive the request that they work for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

# An engine that does not know the query yet cannot stop it: it is told again after so long, then
# after twice as long, and so on.
STOP_AGAIN_SECONDS: Final = 0.1
STOP_AGAIN_SECONDS_MAX: Final = 1.0
# Stopping must not wait for a thread behind the queries that are to be stopped.
STOPPING_THREADS: Final = 4

Result = TypeVar("Result")


class Threads:
    """A pool for the work, and a small one for what ends it."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="clickhouse")
        self._stopping = ThreadPoolExecutor(STOPPING_THREADS, thread_name_prefix="clickhouse-stop")

    async def run(
        self, work: Callable[[], Result], *, stop: Callable[[], None] | None = None
    ) -> Result:
        """The result of *work*. When cancelled: *stop* is called until the work ended."""
        job = self._pool.submit(work)
        waiting = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.shield(asyncio.ensure_future(self._end(waiting, stop)))
            raise

    async def clean_up(self, work: Callable[[], None], *, stop: Callable[[], None]) -> None:
        """Carry out *work*, whatever comes; *stop* is called until it ended."""
        waiting = asyncio.wrap_future(self._pool.submit(work))
        await asyncio.shield(asyncio.ensure_future(self._end(waiting, stop)))

    async def _end(
        self, waiting: "asyncio.Future[Result]", stop: Callable[[], None] | None
    ) -> None:
        seconds = STOP_AGAIN_SECONDS
        while not waiting.done():
            if stop is not None:
                await asyncio.get_running_loop().run_in_executor(self._stopping, stop)
            await asyncio.wait({waiting}, timeout=seconds)
            seconds = min(2 * seconds, STOP_AGAIN_SECONDS_MAX)
        if not waiting.cancelled():
            waiting.exception()  # nobody is left to be told

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()
        self._stopping.shutdown()
