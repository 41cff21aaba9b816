"""The audit trail at size: recording, what commands feel of it, and verifying.

    python -m benchmarks.audit [--events 100000] [--organizations 100] [--people 10000]
                               [--seconds 20] [--rate 5000]

Starts the embedded PostgreSQL in a temporary folder. Goals: 5 000 events a second without slowing
commands, a million entries verified within a minute.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from uuid import uuid4

import psutil

from control.app import secret_box
from control.audit.checkpoints import Checkpoints
from control.audit.person_keys import PersonKeys
from control.audit.recorder import Recorder
from control.audit.verification import verify
from control.core.events import RegionCreated
from shared.messaging.events import utc_now
from shared.postgres.database import Database, address_of
from shared.postgres.migrate import create_database, migrate, migrations
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM
from shared.settings import Settings
from tests.postgres.server import PostgresServer

COMMAND_PAUSE_SECONDS = 0.005


async def fill(database: Database, events: int, options: argparse.Namespace) -> None:
    """Events of as many organizations in turns, as contexts leave them in the outbox."""
    async with database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO outbox (event_id, event_type, aggregate_id, organization_id, payload,
                                context, occurred_at)
            SELECT gen_random_uuid(), 'UserUpdated', md5('person ' || number % $3)::uuid,
                   md5((number % $2)::text)::uuid,
                   '{"email": "ada@example.com", "changed": ["name"]}',
                   '{"actor": "user", "ipAddress": "192.0.2.1", "userAgent": "curl/8"}', now()
              FROM generate_series(1, $1::int) AS number
            """,
            events,
            options.organizations,
            options.people,
        )


async def opened(settings: Settings) -> Database:
    """A pool."""
    return await Database.open(address_of(settings), size_max=2, statement_seconds_max=600)


async def recorded(settings: Settings, options: argparse.Namespace) -> None:
    """Record everything that there is, as fast as it goes."""
    database = await opened(settings)
    await fill(database, options.events, options)
    recorder = Recorder(database, PersonKeys(secret_box(settings)))
    begun, cpu, count = time.perf_counter(), cpu_seconds(), 0
    while one := await recorder.record():
        count += one
    seconds = time.perf_counter() - begun
    own, of_database = (
        (after - before) / count * 1e6 for before, after in zip(cpu, cpu_seconds(), strict=True)
    )
    print(
        f"recorded {count / seconds:.0f} events a second; CPU of each: {own:.0f} us here, "
        f"{of_database:.0f} us in PostgreSQL"
    )
    await database.close()


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of those of PostgreSQL."""
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return time.process_time(), sum(one.user + one.system for one in times)


async def commands(settings: Settings, seconds: float) -> list[float]:
    """How many ms each of many commands takes: a transaction that appends its event."""
    database = await opened(settings)
    times_ms = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        begun = time.perf_counter()
        async with database.begin(PLATFORM) as connection:
            await append_to_outbox(
                connection, [RegionCreated(aggregate_id=uuid4(), name="R", code="r")]
            )
        times_ms.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(COMMAND_PAUSE_SECONDS)
    await database.close()
    return times_ms


def load(settings: Settings, options: argparse.Namespace, ready: Flag, ending: Flag) -> None:
    """A worker of its own: *rate* events a second arrive, and are recorded."""

    async def run() -> None:
        database = await opened(settings)
        recorder = Recorder(database, PersonKeys(secret_box(settings)))
        filled, done, begun = 0, 0, time.perf_counter()
        ready.set()
        while not ending.is_set():
            due = int((time.perf_counter() - begun) * options.rate) - filled
            if due >= options.rate // 10:
                await fill(database, due, options)
                filled += due
            if one := await recorder.record():
                done += one
            else:
                await asyncio.sleep(0.01)
        seconds = time.perf_counter() - begun
        print(f"meanwhile {filled / seconds:.0f} a second came, {done / seconds:.0f} were recorded")
        await database.close()

    asyncio.run(run())


def felt(settings: Settings, options: argparse.Namespace) -> None:
    """What commands feel of the recorder."""

    def told(name: str, times_ms: list[float]) -> None:
        hundredths = statistics.quantiles(times_ms, n=100)
        print(f"a command {name}: p50 {hundredths[49]:.1f} ms, p95 {hundredths[94]:.1f} ms")

    told("alone", asyncio.run(commands(settings, options.seconds)))
    context = multiprocessing.get_context("spawn")
    ready, ending = context.Event(), context.Event()
    worker = context.Process(target=load, args=(settings, options, ready, ending))
    worker.start()
    ready.wait()
    try:
        told(
            f"while {options.rate} events a second are recorded",
            asyncio.run(commands(settings, options.seconds)),
        )
    finally:
        ending.set()
        worker.join()


async def verified(settings: Settings) -> None:
    """Sign, and look through everything."""
    database, checkpoints = await opened(settings), Checkpoints(settings)
    async with database.read(PLATFORM) as connection:
        await checkpoints.write(connection, now=utc_now())
    signed = [one async for one in checkpoints.read()]
    begun, cpu = time.perf_counter(), cpu_seconds()
    async with database.snapshot(PLATFORM) as connection:
        keys = PersonKeys(secret_box(settings))
        verdict = await verify(connection, signed, keys=keys, archive=None)
    seconds = time.perf_counter() - begun
    assert not verdict.findings
    own, of_database = (after - before for before, after in zip(cpu, cpu_seconds(), strict=True))
    print(
        f"verified {verdict.entries} entries in {seconds:.1f} s; CPU: {own:.1f} s here, "
        f"{of_database:.1f} s in PostgreSQL"
    )
    await database.close()


async def prepared(settings: Settings) -> None:
    """The tables."""
    await create_database(address_of(settings))
    await migrate(address_of(settings), migrations("control"))


def main() -> None:
    """Start, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--organizations", type=int, default=100)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryflow-benchmark-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder)) as server:
            settings = Settings(telemetryflow_data_dir=folder, db_port=server.port)
            asyncio.run(prepared(settings))
            print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
            if options.seconds:
                felt(settings, options)
            asyncio.run(recorded(settings, options))
            asyncio.run(verified(settings))
            print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
