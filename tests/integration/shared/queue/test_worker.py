"""Jobs on a real PostgreSQL: ordered in a transaction, tried again, held, paused, never lost."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Invalid, NotFound
from shared.http.models import PageQuery
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.queue import administration
from shared.queue.jobs import PAYLOAD_BYTES_MAX, Job, enqueue
from shared.queue.worker import JobHandlers, Worker

ROOT = Path(__file__).parents[4]
SECONDS_MAX = 30.0


async def order(database: Database, name: str = "test", **options: Any) -> int | None:
    async with database.begin(PLATFORM) as connection:
        return await enqueue(connection, "notification", name, {"a": 1}, **options)


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def working(address: PostgresAddress, handlers: JobHandlers) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(Worker(address, [handlers]).run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, SECONDS_MAX)


async def test_a_job_exists_when_its_transaction_commits(
    database: Database, database_address: PostgresAddress
) -> None:
    done: list[Job] = []

    async def run(job: Job) -> None:
        done.append(job)

    async def roll_back() -> None:
        async with database.begin(PLATFORM) as connection:
            await enqueue(connection, "notification", "test", {"a": 2})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await roll_back()
    await order(database)
    async with working(database_address, {"test": run}):
        await until(lambda: _is(len(done) == 1))

    assert [(job.name, job.data, job.attempt) for job in done] == [("test", {"a": 1}, 1)]


async def _is(value: bool) -> bool:
    return value


async def test_a_second_job_with_the_same_key_waits_for_no_second_run(database: Database) -> None:
    first = await order(database, dedupe_key="k")
    second = await order(database, dedupe_key="k")

    assert first is not None
    assert second is None


async def test_too_much_data_is_refused(database: Database) -> None:
    async with database.begin(PLATFORM) as connection:
        with pytest.raises(Invalid, match="larger"):
            await enqueue(connection, "notification", "x", {"a": "x" * PAYLOAD_BYTES_MAX})


async def test_a_job_that_fails_is_tried_again_later(
    database: Database, database_address: PostgresAddress
) -> None:
    attempts: list[int] = []

    async def fail_once(job: Job) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise RuntimeError("not yet")

    job_id = await order(database)
    async with working(database_address, {"test": fail_once}):
        await until(lambda: _is(attempts == [1]))
        await until(
            lambda: database.pool.fetchval(
                "SELECT execute_after > now() + interval '1 second' FROM pgqueuer WHERE id = $1",
                job_id,
            )
        )
        await database.pool.execute("UPDATE pgqueuer SET execute_after = now()")
        await until(lambda: _is(attempts == [1, 2]))


async def test_what_keeps_failing_is_held_and_can_be_tried_again(
    database: Database, database_address: PostgresAddress
) -> None:
    broken = True
    done: list[int] = []

    async def fail(job: Job) -> None:
        if broken:
            raise RuntimeError("the reason")
        done.append(job.id)

    job_id = await order(database)
    async with working(database_address, {"test": fail}):
        await until(
            lambda: database.pool.fetchval(
                """
                WITH sooner AS (UPDATE pgqueuer SET execute_after = now() WHERE status = 'queued')
                SELECT count(*) = 1 FROM pgqueuer WHERE status = 'failed'
                """
            )
        )
        async with database.begin(PLATFORM) as connection:
            page = await administration.failed(
                connection, "notification", PageQuery.model_validate({})
            )
            (queue,) = await administration.list_queues(connection, only="notification")
        assert [(job.id, job.name, job.attempts) for job in page.data] == [(job_id, "test", 5)]
        assert page.data[0].error is not None
        assert "the reason" in page.data[0].error
        assert (queue.failed, queue.waiting) == (1, 0)
        broken = False
        async with database.begin(PLATFORM) as connection:
            await administration.retry(connection, "notification", int(job_id or 0))
        await until(lambda: _is(done == [job_id]))


async def test_what_never_goes_well_is_held_at_once(
    database: Database, database_address: PostgresAddress
) -> None:
    attempts: list[int] = []

    async def refuse(job: Job) -> None:
        attempts.append(job.attempt)
        raise Invalid("there is no such address")

    await order(database, "unheard of")
    await order(database)
    async with working(database_address, {"test": refuse}):
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 2 FROM pgqueuer WHERE status = 'failed'"
            )
        )

    assert attempts == [1]


async def test_a_paused_queue_rests_on_all_workers(
    database: Database, database_address: PostgresAddress
) -> None:
    done: list[int] = []

    async def run(job: Job) -> None:
        done.append(job.id)

    async with database.begin(PLATFORM) as connection:
        await administration.pause(connection, "notification", None)
    async with (
        working(database_address, {"test": run}),
        working(database_address, {"test": run}),
    ):
        await order(database)
        await asyncio.sleep(1.5)
        assert done == []
        async with database.begin(PLATFORM) as connection:
            await administration.resume(connection, "notification")
        await until(lambda: _is(len(done) == 1))


async def test_queues_that_do_not_exist_are_not_found(database: Database) -> None:
    async with database.begin(PLATFORM) as connection:
        with pytest.raises(NotFound):
            await administration.list_queues(connection, only="nope")
        with pytest.raises(NotFound):
            await administration.retry(connection, "notification", 1)


async def test_waiting_jobs_can_be_deleted(database: Database) -> None:
    await order(database)

    async with database.begin(PLATFORM) as connection:
        assert await administration.clean(connection, "notification", "waiting", 3_600) == 0
        assert await administration.clean(connection, "notification", "waiting", 0) == 1


def test_two_handlers_of_one_job_stop_the_start() -> None:
    async def run(_job: Job) -> None:
        return

    address = PostgresAddress(
        host="127.0.0.1", port=1, user="", password="", database="", ssl="disable"
    )
    with pytest.raises(Invalid, match="two handlers"):
        Worker(address, [{"test": run}, {"test": run}])


KILLED = """
import asyncio, sys
sys.path.insert(0, {root!r})
from shared.postgres.address import PostgresAddress
from shared.queue.worker import Worker

async def hang(job):
    print("taken", flush=True)
    await asyncio.sleep(600)

async def main():
    address = PostgresAddress(**eval(sys.stdin.readline()))
    await Worker(address, [{{"test": hang}}], heartbeat_seconds=2).run(asyncio.Event())

asyncio.run(main())
"""


async def test_a_job_of_a_killed_worker_is_done_by_another(
    database: Database, database_address: PostgresAddress
) -> None:
    done: list[int] = []

    async def run(job: Job) -> None:
        done.append(job.id)

    job_id = await order(database)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED.format(root=str(ROOT)),
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{database_address.options()!r}\n".encode())
    assert await asyncio.wait_for(process.stdout.readline(), SECONDS_MAX) == b"taken\n"
    process.kill()
    await process.communicate()

    stopping = asyncio.Event()
    worker = Worker(database_address, [{"test": run}], heartbeat_seconds=2)
    task = asyncio.create_task(worker.run(stopping))
    await until(lambda: _is(done == [job_id]))
    stopping.set()
    await task
