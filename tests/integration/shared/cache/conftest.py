"""Valkey servers and processes that use them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from tests.integration.shared.cache.processes import Process, started
from tests.integration.shared.cache.valkey import ValkeyServer


@pytest.fixture(scope="module")
def shared_valkey() -> Iterator[ValkeyServer]:
    """A server that stays up."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def admin(shared_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """A client of its own on the server that stays up, which it empties first."""
    async with Redis(host="127.0.0.1", port=shared_valkey.port, db=1) as client:
        await client.flushall()
        yield client


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A server that the test may kill."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def pair(shared_valkey: ValkeyServer, admin: Redis) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes on an empty Redis."""
    async with AsyncExitStack() as stack:
        processes = [await started(stack, shared_valkey.port) for _ in range(2)]
        yield processes[0], processes[1]
