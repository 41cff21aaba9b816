"""The cache of one process, for tests that look into its levels and hold its answers back."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from shared.cache.cache import Cache
from shared.cache.memory import MemoryCache
from shared.cache.redis import Found, RedisCache

RETRY_SECONDS = 0.2
POLL_SECONDS = 0.01


class HeldRedis(RedisCache):
    """Redis whose answers come, and whose deletions go, only while `is_open`."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, database=1, retry_seconds=RETRY_SECONDS)
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.held = 0

    async def get(self, key: str) -> Found:
        """What Redis had when it was asked."""
        found = await super().get(key)
        await self._pass()
        return found

    async def delete(self, pattern: str) -> int:
        """Delete as soon as it is open."""
        await self._pass()
        return await super().delete(pattern)

    async def _pass(self) -> None:
        self.held += 1
        await self.is_open.wait()
        self.held -= 1


class Process:
    """The cache of one process, and its levels to look into."""

    def __init__(self, port: int) -> None:
        self.l1 = MemoryCache(items_max=1_000, bytes_max=10_000_000)
        self.l2 = HeldRedis(port)
        self.cache = Cache(self.l1, self.l2)

    async def in_redis(self, key: str) -> bool:
        """Whether Redis has a value for *key*."""
        return (await self.l2.get(key)).value is not None


async def started(stack: AsyncExitStack, port: int) -> Process:
    """A process that uses Redis already."""
    process = Process(port)
    await stack.enter_async_context(process.cache)
    await until(lambda: process.l2.is_up)
    return process


async def until(holds: Callable[[], bool], *, seconds_max: float = 10) -> None:
    """Returns as soon as *holds* does; fails the test when it does not in time."""
    async with asyncio.timeout(seconds_max):
        while not holds():
            await asyncio.sleep(POLL_SECONDS)
