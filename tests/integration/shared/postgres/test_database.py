"""Transactions, their scope and what becomes of driver errors, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.errors import Conflict, Unavailable
from shared.postgres.address import PostgresAddress
from shared.postgres.connection import Connection, savepoint
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


@pytest.fixture
async def single(database_address: PostgresAddress) -> AsyncIterator[Database]:
    """A pool whose next user gets the connection of the one before."""
    pool = await Database.open(database_address, size_max=1, statement_seconds_max=10)
    yield pool
    await pool.close()


LEFT_BEHIND = (
    "SET app.platform = 'on'",
    "SET statement_timeout = '7s'",
    "SET search_path = pg_catalog",
    "SELECT pg_advisory_lock(7)",
    "LISTEN anything",
)


async def left_behind(database: Database) -> list[object]:
    """What the session still has of `LEFT_BEHIND`."""
    ((*found,),) = await database.look_up(
        """
        SELECT nullif(current_setting('app.platform', true), ''),
               nullif(current_setting('statement_timeout'), '10s'),
               nullif(current_setting('search_path'), '"$user", public'),
               (SELECT min(objid::text) FROM pg_locks WHERE locktype = 'advisory'),
               (SELECT min(channel) FROM pg_listening_channels() AS channel)
        """
    )
    return [one for one in found if one is not None]


async def leave_behind(connection: Connection) -> None:
    for statement in LEFT_BEHIND:
        await connection.execute(statement)


async def test_S32_nothing_of_a_session_is_left_for_the_next_transaction(single: Database) -> None:
    async def fail() -> None:
        async with single.begin(PLATFORM) as connection:
            await leave_behind(connection)
            raise ValueError("no")

    async with single.begin(PLATFORM) as connection:
        await leave_behind(connection)
    assert await left_behind(single) == []
    with pytest.raises(ValueError, match="no"):
        await fail()
    assert await left_behind(single) == []
    async with single.session() as connection:
        await leave_behind(connection)
    assert await left_behind(single) == []
    async with single.pool.acquire() as connection:
        await leave_behind(connection)
    assert await left_behind(single) == []


async def test_S32_a_look_up_that_fails_leaves_nothing_either(single: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await single.look_up("SELECT set_config('app.platform', 'on', false), 1 / $1::int", 0)
    async with single.session() as connection:
        await leave_behind(connection)

    assert await left_behind(single) == []


async def test_a_look_up_is_outside_of_any_scope(single: Database) -> None:
    async with single.begin(PLATFORM):
        pass
    ((is_platform, organization, tenant),) = await single.look_up(
        "SELECT is_platform(), scoped_organization(), scoped_tenant()"
    )

    assert (is_platform or False, organization, tenant) == (False, None, None)


async def test_who_is_cancelled_in_a_transaction_leaves_nothing(single: Database) -> None:
    async def wait_for_long() -> None:
        async with single.begin(PLATFORM) as connection:
            await connection.execute(
                """
                INSERT INTO idempotency_keys (owner_id, key, route, request_digest)
                VALUES ($1, 'x', 'x', 'x')
                """,
                uuid4(),
            )
            await leave_behind(connection)
            begun.set()
            await connection.execute("SELECT pg_sleep(9)")

    begun = asyncio.Event()
    waiting = asyncio.create_task(wait_for_long())
    async with asyncio.timeout(SECONDS_MAX):
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await left_behind(single) == []
        async with single.read(PLATFORM) as connection:
            assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_a_commit_that_is_refused_is_told_and_the_connection_goes_on(
    single: Database,
) -> None:
    async def commit() -> None:
        async with single.begin(PLATFORM) as connection:
            await connection.execute("CREATE TEMP TABLE twice (one int UNIQUE DEFERRABLE)")
            await connection.execute("SET CONSTRAINTS ALL DEFERRED")
            await connection.execute("INSERT INTO twice VALUES (1), (1)")

    with pytest.raises(Conflict):
        await commit()
    assert await left_behind(single) == []
    async with single.begin(Scope()) as connection:
        assert not await connection.fetchval("SELECT is_platform()")


async def test_a_read_writes_nothing(database: Database) -> None:
    async def write() -> None:
        async with database.read(PLATFORM) as connection:
            await connection.execute("UPDATE users SET first_name = 'X'")

    with pytest.raises(Unavailable):
        await write()


async def test_a_snapshot_sees_one_moment_and_writes_nothing(database: Database) -> None:
    async with database.snapshot(PLATFORM) as connection:
        shown = [
            await connection.fetchval(f"SHOW {name}")
            for name in ("transaction_isolation", "transaction_read_only")
        ]

    assert shown == ["repeatable read", "on"]


async def test_S32_what_is_no_id_does_not_become_text_of_a_statement(database: Database) -> None:
    forged: Any = "x'; SET LOCAL app.platform = 'on"

    with pytest.raises(AttributeError):
        async with database.begin(Scope(tenant_id=forged)):
            pass


async def test_what_fails_within_a_savepoint_is_undone_alone(database: Database) -> None:
    async def try_to_add(connection: Connection, key: str, error: Exception | None) -> None:
        async with savepoint(connection):
            await connection.execute(
                """
                INSERT INTO idempotency_keys (owner_id, key, route, request_digest)
                VALUES ($1, $2, 'x', 'x')
                """,
                uuid4(),
                key,
            )
            if error is not None:
                raise error

    async with database.begin(PLATFORM) as connection:
        await try_to_add(connection, "first", None)
        with pytest.raises(ValueError, match="no"):
            await try_to_add(connection, "undone", ValueError("no"))
        await try_to_add(connection, "last", None)

    async with database.read(PLATFORM) as connection:
        rows = await connection.fetch("SELECT key FROM idempotency_keys ORDER BY key")
    assert [row["key"] for row in rows] == ["first", "last"]


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
