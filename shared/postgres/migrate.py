"""Migrations of PostgreSQL: numbered SQL files, applied once, in order, and never changed.

Each file is one transaction, recorded with its checksum: a file that fails leaves no trace, those
before it stay. One lock of the database lets a single process migrate at a time; the others wait
and then find nothing to do.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import asyncpg

from shared.errors import Conflict, Unavailable
from shared.postgres.address import PostgresAddress

# Any number, the same for all processes of this product.
LOCK_KEY: Final = 0x7E1E_F10
LOCK_WAIT_SECONDS_MAX: Final = 300
# A migration that cannot get its table within that time gives up, so that requests do not pile up
# behind it; it is safe to run it again.
TABLE_LOCK_MS_MAX: Final = 3_000
CONNECT_SECONDS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number and name, its text and the checksum of the text."""

    number: int
    name: str
    text: str
    checksum: str


def migrations(package: str) -> list[Migration]:
    """The migrations in the folder `migrations` of *package*, in order."""
    found = []
    for file in (resources.files(package) / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
            text = file.read_text()
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), file.name, text, checksum))
    return sorted(found, key=lambda migration: migration.number)


async def create_database(address: PostgresAddress) -> None:
    """Make the database when the server does not have it yet."""
    connection = await _connect(address.at("postgres"))
    try:
        name = address.database.replace('"', '""')
        await connection.execute(f'CREATE DATABASE "{name}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        # Also when another process made it in this very moment.
        return
    finally:
        await connection.close()


async def migrate(address: PostgresAddress, available: list[Migration]) -> list[str]:
    """Apply what is pending and return the names; Conflict when history was rewritten."""
    connection = await _connect(address)
    try:
        await connection.execute(
            f"SET lock_timeout = '{LOCK_WAIT_SECONDS_MAX}s'; SELECT pg_advisory_lock({LOCK_KEY})",
            timeout=LOCK_WAIT_SECONDS_MAX + 5,
        )
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
              number int PRIMARY KEY,
              name text NOT NULL,
              checksum text NOT NULL,
              applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        pending = await _pending(connection, available)
        for migration in pending:
            await _apply(connection, migration)
        return [migration.name for migration in pending]
    finally:
        await connection.close()


async def pending(address: PostgresAddress, available: list[Migration]) -> list[str]:
    """The names of what `migrate` would apply."""
    connection = await _connect(address)
    try:
        if not await connection.fetchval("SELECT to_regclass('schema_migrations')::text"):
            return [migration.name for migration in available]
        return [migration.name for migration in await _pending(connection, available)]
    finally:
        await connection.close()


async def _pending(connection: Any, available: list[Migration]) -> list[Migration]:
    rows = await connection.fetch("SELECT number, name, checksum FROM schema_migrations")
    applied = {row["number"]: row for row in rows}
    for migration in available:
        row = applied.get(migration.number)
        if row is not None and row["checksum"] != migration.checksum:
            raise Conflict(
                f"{migration.name} was changed after it was applied as {row['name']}: "
                "restore the file, and put the change into a new one"
            )
    newest = max((migration.number for migration in available), default=0)
    if unknown := [row["name"] for number, row in applied.items() if number > newest]:
        raise Conflict(
            f"the database has migrations that this release does not know ({', '.join(unknown)}): "
            "run the newer release"
        )
    return [migration for migration in available if migration.number not in applied]


async def _apply(connection: Any, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{TABLE_LOCK_MS_MAX}ms'")
            await connection.execute(migration.text)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable(
            f"{migration.name}: its tables are in use; nothing was changed, run migrate again"
        ) from error
    except asyncpg.PostgresError as error:
        raise Conflict(
            f"{migration.name} failed, and nothing of it was kept: {error}; the migrations before "
            "it are applied"
        ) from error


async def _connect(address: PostgresAddress) -> Any:
    try:
        return await asyncpg.connect(**address.options(), timeout=CONNECT_SECONDS_MAX)
    except asyncpg.InvalidCatalogNameError as error:
        raise Unavailable(f"the database {address.database} does not exist") from error
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise Unavailable(
            f"PostgreSQL at {address.host}:{address.port} refuses the user {address.user}: "
            "check DB_USERNAME and DB_PASSWORD"
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(
            f"PostgreSQL at {address.host}:{address.port} does not answer "
            f"({type(error).__name__}): check DB_HOST and DB_PORT"
        ) from error
