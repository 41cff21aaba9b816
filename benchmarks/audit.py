"""The audit trail at size: how many events a second it takes, and how long verifying it takes.

    python -m benchmarks.audit [--events 100000] [--organizations 100]

Starts the embedded PostgreSQL in a temporary folder. Goals: 5 000 events a second, a million
entries verified within a minute.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from control.audit.checkpoints import Checkpoints
from control.audit.recorder import Recorder
from control.audit.verification import verify
from shared.messaging.events import utc_now
from shared.postgres.database import Database, address_of
from shared.postgres.migrate import create_database, migrate, migrations
from shared.postgres.scope import PLATFORM
from shared.settings import Settings
from tests.postgres.server import PostgresServer


async def fill(database: Database, events: int, organizations: int) -> None:
    """Events of as many organizations in turns, as contexts leave them in the outbox."""
    async with database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO outbox (event_id, event_type, aggregate_id, organization_id, payload,
                                context, occurred_at)
            SELECT gen_random_uuid(), 'UserUpdated', gen_random_uuid(),
                   md5((number % $2)::text)::uuid,
                   '{"email": "ada@example.com", "changed": ["name"]}',
                   '{"actor": "user", "ipAddress": "192.0.2.1", "userAgent": "curl/8"}', now()
              FROM generate_series(1, $1::int) AS number
            """,
            events,
            organizations,
        )


async def measure(settings: Settings, options: argparse.Namespace) -> None:
    """Record everything, verify everything."""
    await create_database(address_of(settings))
    await migrate(address_of(settings), migrations("control"))
    database = await Database.open(address_of(settings), size_max=2, statement_seconds_max=600)
    await fill(database, options.events, options.organizations)
    recorder = Recorder(database)
    begun, cpu = time.perf_counter(), time.process_time()
    recorded = 0
    while count := await recorder.record():
        recorded += count
    seconds = time.perf_counter() - begun
    microseconds = (time.process_time() - cpu) / recorded * 1e6
    print(f"recorded {recorded / seconds:.0f} events a second, {microseconds:.0f} us of CPU each")
    checkpoints = Checkpoints(settings)
    async with database.read(PLATFORM) as connection:
        await checkpoints.write(connection, now=utc_now())
        begun = time.perf_counter()
        verdict = await verify(connection, checkpoints.read())
    seconds = time.perf_counter() - begun
    assert not verdict.findings
    print(f"verified {verdict.entries} entries in {seconds:.1f} s")
    await database.close()


def main() -> None:
    """Start, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--organizations", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryflow-benchmark-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder)) as server:
            settings = Settings(telemetryflow_data_dir=folder, db_port=server.port)
            asyncio.run(measure(settings, options))


if __name__ == "__main__":
    main()
