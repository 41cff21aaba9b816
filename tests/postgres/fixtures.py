"""Fixtures: a server for the run, a database for a test, cloned from a migrated template."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import pytest

from control.core.seeds import write_catalogue
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.migrate import create_database, migrate, migrations
from tests.postgres.server import PostgresServer

TEMPLATE: Final = "template_telemetryflow"
# Port and folder of a server that runs already, for tests that other tests run.
PLACE_OF_SERVER: Final = "TESTS_POSTGRES"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process; tests that kill one start their own."""
    if place := os.environ.get(PLACE_OF_SERVER):
        port, _, data = place.partition(" ")
        yield PostgresServer(Path(data), port=int(port))
        return
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-postgres-"))
    try:
        with PostgresServer(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-postgres-"))
    try:
        with PostgresServer(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def migrated(server: PostgresServer) -> PostgresAddress:
    """A new database of *server* with all tables."""
    if not server.has_template:
        template = server.address.at(TEMPLATE)
        await create_database(template)
        if await migrate(template, migrations("control")):
            await write_catalogue(template)
        server.has_template = True
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(**server.address.options())
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    finally:
        await connection.close()
    return server.address.at(name)


@pytest.fixture
async def database_address(postgres: PostgresServer) -> AsyncIterator[PostgresAddress]:
    """A fresh, migrated database: commits are real and nothing leaks."""
    address = await migrated(postgres)
    yield address
    connection = await asyncpg.connect(**postgres.address.options())
    try:
        await connection.execute(f"DROP DATABASE {address.database} WITH (FORCE)")
    finally:
        await connection.close()


@pytest.fixture
async def database(database_address: PostgresAddress) -> AsyncIterator[Database]:
    """A pool on a fresh database, in the role that processes have."""
    pool = await Database.open(database_address, size_max=10, statement_seconds_max=10)
    yield pool
    await pool.close()
