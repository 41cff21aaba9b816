"""The second wall: what a query that forgot its tenant would see."""

import contextlib
from uuid import uuid4

import asyncpg
import pytest

from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM, Scope
from tests.control.people import seed

TABLES = ("organizations", "workspaces", "tenants", "users", "user_roles")
SECRETS = ("accounts", "sessions", "refresh_tokens", "recovery_codes", "mail_tokens")


async def test_S32_without_a_scope_there_are_no_rows(database: Database) -> None:
    await seed(database)

    async with database.read(Scope()) as connection:
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_S32_a_scope_sees_its_own_organization_alone(database: Database) -> None:
    ours = await seed(database)
    await seed(database)

    async with database.read(Scope(organization_id=ours.organization)) as connection:
        for table in TABLES[1:]:
            rows = await connection.fetch(f"SELECT DISTINCT organization_id FROM {table}")
            assert [row["organization_id"] for row in rows] == [ours.organization], table
    async with database.read(PLATFORM) as connection:
        assert await connection.fetchval("SELECT count(*) FROM organizations") == 2


async def test_S32_nobody_writes_into_another_organization(database: Database) -> None:
    ours, theirs = await seed(database), await seed(database)

    async def write() -> None:
        async with database.begin(Scope(organization_id=ours.organization)) as connection:
            await connection.execute(
                "INSERT INTO groups (id, version, organization_id, name) VALUES ($1, 1, $2, 'G')",
                uuid4(),
                theirs.organization,
            )

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await write()
    async with database.begin(Scope(organization_id=ours.organization)) as connection:
        changed = await connection.execute("UPDATE users SET first_name = 'X'")
    assert changed == f"UPDATE {len(ours.people)}"


@pytest.mark.parametrize("table", SECRETS)
async def test_S32_what_proves_who_somebody_is_has_no_scope_but_the_platforms(
    database: Database, table: str
) -> None:
    ours = await seed(database)
    async with database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO accounts (id, version, organization_id, email) VALUES ($1, 1, $2, 'a@b.c')
            """,
            ours.people[2],
            ours.organization,
        )

    async with database.read(Scope(organization_id=ours.organization)) as connection:
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "DELETE FROM schema_migrations",
        "UPDATE roles SET level = 5 WHERE is_system",
        "INSERT INTO permissions VALUES (gen_random_uuid(), 'x:y', 'x', 'y', '')",
    ],
)
async def test_S32_processes_cannot_take_the_wall_down(database: Database, statement: str) -> None:
    ours = await seed(database)

    async def run() -> str:
        async with database.begin(Scope(organization_id=ours.organization)) as connection:
            done: str = await connection.execute(statement)
            return done

    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        assert (await run()).endswith(" 0")
