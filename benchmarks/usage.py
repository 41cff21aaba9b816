"""The copy of usage at size: how long PostgreSQL takes to learn what ClickHouse summed up.

    python -m benchmarks.usage [--keys 10000] [--hours 24]

Starts the embedded ClickHouse and PostgreSQL in a temporary folder: a tenant for every 100 keys,
and each key stores logs in every hour of a day. Goal: a copy takes a small part of its 30 seconds.
"""

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from control.api_keys.usage import UsageCopy
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.postgres.database import Database, address_of
from shared.postgres.migrate import create_database, migrate, migrations
from shared.postgres.scope import PLATFORM
from shared.settings import Settings
from tests.integration.shared.embedded_server import EmbeddedServer
from tests.postgres.server import PostgresServer

KEYS_OF_A_TENANT = 100
DAY = datetime(2026, 3, 1, tzinfo=UTC)


async def fill(database: Database, clickhouse: ClickHouse, keys: int, hours: int) -> None:
    """Tenants in PostgreSQL, and their usage in ClickHouse."""
    async with database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            WITH region AS (
              INSERT INTO regions (id, version, name, code)
              VALUES (gen_random_uuid(), 1, 'R', 'r') RETURNING id
            ), organization AS (
              INSERT INTO organizations (id, version, region_id, name, slug)
              SELECT gen_random_uuid(), 1, id, 'O', 'o' FROM region RETURNING id
            ), workspace AS (
              INSERT INTO workspaces (id, version, organization_id, name, slug)
              SELECT gen_random_uuid(), 1, id, 'W', 'w' FROM organization
              RETURNING id, organization_id
            )
            INSERT INTO tenants
              (id, version, organization_id, workspace_id, name, slug, telemetry_id)
            SELECT gen_random_uuid(), 1, organization_id, id, 'T', 't' || number, 't' || number
              FROM workspace, generate_series(0, $1::int) AS number
            """,
            keys // KEYS_OF_A_TENANT,
        )
    for hour in range(hours):
        start = int(DAY.timestamp()) + hour * 3_600
        await clickhouse.command(
            "INSERT INTO telemetry.tf_usage "
            "(Hour, TenantId, KeyId, Signal, Items, Bytes, LastMinute) "
            f"SELECT toDateTime({start}), "
            f"concat('t', toString(intDiv(number, {KEYS_OF_A_TENANT}))), "
            f"concat('tfk_', leftPad(toString(number), 32, '0')), 'logs', 1000, 500000, "
            f"toDateTime({start}) FROM numbers({keys})"
        )


async def measure(settings: Settings, options: argparse.Namespace) -> None:
    """A first copy, one of the same rows again, and one when nothing was told for a while."""
    await create_database(address_of(settings))
    await migrate(address_of(settings), migrations("control"))
    database = await Database.open(address_of(settings), size_max=2, statement_seconds_max=600)
    async with ClickHouse(ClickHouseAddress.of(settings)) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database="telemetry").migrate()
        await fill(database, clickhouse, options.keys, options.hours)
        copy = UsageCopy(database, clickhouse, "telemetry")
        for name in ("the first copy", "the same again"):
            begun, cpu = time.perf_counter(), time.process_time()
            rows = await copy.copy()
            seconds, own = time.perf_counter() - begun, time.process_time() - cpu
            print(f"{name}: {rows} rows in {seconds:.2f} s, {own:.2f} s of CPU in the worker")
        await clickhouse.command(
            "ALTER TABLE telemetry.tf_usage UPDATE ToldAt = ToldAt - 3600 WHERE 1 "
            "SETTINGS mutations_sync = 1"
        )
        begun = time.perf_counter()
        rows = await copy.copy()
        print(f"nothing new: {rows} rows in {time.perf_counter() - begun:.3f} s")
    await database.close()


def main() -> None:
    """Start, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryflow-benchmark-") as folder:
        Path(folder).chmod(0o755)
        with (
            PostgresServer(Path(folder)) as postgres,
            EmbeddedServer(Path(folder) / "clickhouse") as clickhouse,
        ):
            settings = Settings(
                telemetryflow_data_dir=folder,
                db_port=postgres.port,
                clickhouse_host="127.0.0.1",
                clickhouse_port=clickhouse.port,
            )
            asyncio.run(measure(settings, options))


if __name__ == "__main__":
    main()
