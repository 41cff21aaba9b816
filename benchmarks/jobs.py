"""How many jobs a second the queue carries: ordering them, and one worker that runs them.

    python -m benchmarks.jobs [--jobs 20000]

Starts the embedded PostgreSQL in a temporary folder. The queues' own rates and numbers of workers
(`shared/queue/queues.py`) are lifted here: they protect what jobs do, and jobs here do nothing.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.queue.jobs import Job, enqueue
from shared.queue.queues import QUEUES
from shared.queue.worker import Worker
from tests.postgres.fixtures import migrated
from tests.postgres.server import PostgresServer

QUEUE: Final = "notification"
JOBS_A_TRANSACTION: Final = 100
SECONDS_MAX: Final = 300


async def measure(server: PostgresServer, jobs: int) -> None:
    """Print the rates."""
    address = await migrated(server)
    database = await Database.open(address, size_max=4, statement_seconds_max=30)
    begun = time.perf_counter()
    for first in range(0, jobs, JOBS_A_TRANSACTION):
        async with database.begin(PLATFORM) as connection:
            for number in range(first, min(first + JOBS_A_TRANSACTION, jobs)):
                await enqueue(connection, QUEUE, "nothing", {"number": number})
    ordered = time.perf_counter() - begun
    print(f"ordered   {jobs / ordered:8.0f} jobs/s, {JOBS_A_TRANSACTION} in a transaction")

    done = 0
    stopping = asyncio.Event()

    async def run(_job: Job) -> None:
        nonlocal done
        done += 1
        if done == jobs:
            stopping.set()

    QUEUES[QUEUE] = replace(QUEUES[QUEUE], workers=1_000, rate_per_second=1_000_000)
    begun, cpu = time.perf_counter(), time.process_time()
    async with asyncio.timeout(SECONDS_MAX):
        await Worker(address, [{"nothing": run}]).run(stopping)
    ran, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(
        f"ran       {done / ran:8.0f} jobs/s, {cpu / done * 1e6:.0f} us of CPU each in the worker"
    )
    left = await database.pool.fetchval("SELECT count(*) FROM pgqueuer")
    print(f"left      {left:8d}")
    await database.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-jobs-"))
    try:
        with PostgresServer(folder) as server:
            asyncio.run(measure(server, options.jobs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
