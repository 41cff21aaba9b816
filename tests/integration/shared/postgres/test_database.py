"""Transactions, their scope and what becomes of driver errors, on a real PostgreSQL."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from shared.errors import Unavailable
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.migrate import migrate, migrations
from shared.postgres.scope import PLATFORM, Scope
from tests.postgres.fixtures import migrated
from tests.postgres.server import PostgresServer

SECONDS_MAX = 20.0


async def test_a_failed_block_leaves_nothing(database: Database) -> None:
    async def fail_after_an_insert() -> None:
        async with database.begin(PLATFORM) as connection:
            await connection.execute(
                """
                INSERT INTO idempotency_keys (owner_id, key, route, request_digest)
                VALUES ($1, 'x', 'x', 'x')
                """,
                uuid4(),
            )
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail_after_an_insert()

    async with database.read(PLATFORM) as connection:
        assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_S32_a_connection_forgets_the_scope_of_its_former_transaction(
    database: Database,
) -> None:
    tenant = uuid4()
    async with database.begin(Scope(tenant_id=tenant)) as connection:
        assert await connection.fetchval("SELECT scoped_tenant()") == tenant

    async with database.begin(Scope()) as connection:
        assert await connection.fetchval("SELECT scoped_tenant()") is None
        assert not await connection.fetchval("SELECT is_platform()")


async def test_S32_processes_work_as_a_role_that_cannot_bypass_row_level_security(
    database: Database,
) -> None:
    async with database.read(PLATFORM) as connection:
        row = await connection.fetchrow(
            "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )

    assert tuple(row) == ("telemetryflow_app", False, False)


async def test_two_processes_migrating_at_once_are_safe(postgres: PostgresServer) -> None:
    address = postgres.address.at(f"test_{uuid4().hex}")
    connection = await asyncpg.connect(**postgres.address.options())
    await connection.execute(f"CREATE DATABASE {address.database}")
    await connection.close()
    available = migrations("control")

    applied = await asyncio.gather(*(migrate(address, available) for _ in range(4)))

    assert sorted(len(names) for names in applied) == [0, 0, 0, len(available)]


async def test_PostgreSQL_that_is_gone_is_unavailable_and_comes_back(
    own_postgres: PostgresServer,
) -> None:
    address: PostgresAddress = await migrated(own_postgres)
    database = await Database.open(address, size_max=2, statement_seconds_max=5)
    try:
        assert await database.is_up()
        own_postgres.kill()
        # A backend lives on for a moment after its killed server.
        async with asyncio.timeout(SECONDS_MAX):
            while await database.is_up():
                await asyncio.sleep(0.02)
        with pytest.raises(Unavailable):
            async with database.read(PLATFORM):
                pass
        await asyncio.to_thread(own_postgres.start)
        assert await database.is_up()
    finally:
        await database.close()
