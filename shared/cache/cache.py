"""The cache: memory in front of Redis, one load at a time for each key."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import orjson

from shared.cache.keys import EVERYTHING, is_one_key, key_matcher, keys_below
from shared.cache.memory import MemoryCache
from shared.cache.metrics import LOADS, TOO_LARGE
from shared.cache.redis import NOT_ASKED, Found, RedisCache
from shared.settings import Settings

VALUE_BYTES_MAX: Final = 1_000_000
L1_TTL_SECONDS: Final = 60.0
L2_TTL_SECONDS: Final = 1_800.0
TTL_SECONDS_MAX: Final = 604_800.0


def cache_of(settings: Settings) -> "Cache":
    """The cache that *settings* describe: with Redis if they name one, else in memory only."""
    l2 = None
    if settings.redis_host:
        l2 = RedisCache(
            settings.redis_host,
            settings.redis_port,
            password=settings.redis_password,
            database=settings.redis_cache_db,
        )
    return Cache(
        MemoryCache(items_max=settings.cache_l1_max_size, bytes_max=settings.cache_l1_bytes_max),
        l2,
        l1_ttl_seconds=settings.cache_l1_ttl_seconds,
        l2_ttl_seconds=settings.cache_l2_ttl_seconds,
    )


class Cache:
    """Values that JSON can hold, under keys made by shared.cache.keys.cache_key.

    A value comes back as JSON has it, from a first load too: a UUID or a time as text. Every
    look-up makes a copy of its own. A value above 1 MB is not kept; None is a value like any other.

    A deletion takes effect in this process and in Redis before the call returns, and in the memory
    of the other processes a moment later, told by Redis. Without Redis nobody tells them: they may
    go on with what they have until its time in memory is over, 60 seconds unless the caller of
    `set` asked for more. `set` tells nobody: after a change, delete.

    Without Redis, or while it is down, everything works, in memory only. Used as a context manager,
    which connects in the background and waits for nothing.
    """

    def __init__(
        self,
        l1: MemoryCache,
        l2: RedisCache | None,
        *,
        l1_ttl_seconds: float = L1_TTL_SECONDS,
        l2_ttl_seconds: float = L2_TTL_SECONDS,
    ) -> None:
        self._l1 = l1
        self._l2 = l2
        self._l1_ttl_seconds = l1_ttl_seconds
        self._l2_ttl_seconds = l2_ttl_seconds
        # Loads that a caller may join. A deletion takes them out: what they bring is of before.
        self._loads: dict[str, asyncio.Task[bytes]] = {}
        # All loads that run, for nobody else holds on to one that was taken out.
        self._running: set[asyncio.Task[bytes]] = set()
        self._follower: asyncio.Task[None] | None = None
        # Counts changes, so that what was read from Redis before one is not kept after it.
        self._changes = 0

    async def __aenter__(self) -> Self:
        if self._l2 is not None:
            self._follower = asyncio.create_task(self._l2.follow(self._forget))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancels what still loads, and closes the connections."""
        running = tuple(self._running)
        for load in running:
            load.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._l2 is None or self._follower is None:
            return
        self._follower.cancel()
        try:
            await asyncio.wait([self._follower])
        finally:
            await self._l2.close()
        if not self._follower.cancelled():
            self._follower.result()  # it ends by itself only with an error

    async def get(self, key: str, default: Any = None) -> Any:
        """The value under *key*, or *default* if there is none."""
        held = self._l1.get(key)
        if held is None:
            held = (await self._from_l2(key)).value
        return default if held is None else orjson.loads(held)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl_seconds: float | None = None,
        l2_ttl_seconds: float | None = None,
    ) -> None:
        """Keep *value*, *ttl_seconds* in memory and *l2_ttl_seconds* in Redis.

        Both default to the settings. TypeError if JSON cannot hold the value.
        """
        text = orjson.dumps(value)
        if len(text) > VALUE_BYTES_MAX:
            TOO_LARGE.inc()
            await self.delete(key)
            return
        self._forget(key)
        l1_seconds = _checked(self._l1_ttl_seconds if ttl_seconds is None else ttl_seconds)
        l2_seconds = _checked(self._l2_ttl_seconds if l2_ttl_seconds is None else l2_ttl_seconds)
        self._l1.set(key, text, ttl_seconds=l1_seconds)
        if self._l2 is not None:
            await self._l2.set(key, text, ttl_seconds=l2_seconds)

    async def wrap(
        self, key: str, load: Callable[[], Awaitable[Any]], *, ttl_seconds: float | None = None
    ) -> Any:
        """The value under *key*; if there is none, what *load* returns, which is then kept.

        However many ask at the same time, one load runs in this process, and all get its result or
        its error; an error is not kept. It runs on when a caller is cancelled, for the others'
        sake. A value is good for *ttl_seconds* (default: the time in Redis), of which it spends no
        more in memory than the time that is set for memory.
        """
        held = self._l1.get(key)
        if held is None:
            held = await asyncio.shield(self._loads.get(key) or self._start(key, load, ttl_seconds))
        return orjson.loads(held)

    async def delete(self, key: str) -> None:
        """Forget the value under *key*, in all levels and processes."""
        await self._delete(key)

    async def delete_pattern(self, prefix: str) -> int:
        """Forget all keys whose first parts are *prefix*, in which `*` is any one part.

        Returns how many entries were deleted, of this process and of Redis together. Invalid if
        *prefix* cannot be the beginning of a key.
        """
        return await self._delete(keys_below(prefix))

    async def clear(self) -> int:
        """Forget everything, in all levels and processes; returns what delete_pattern does."""
        return await self._delete(EVERYTHING)

    async def stats(self) -> dict[str, dict[str, float]]:
        """What each level holds, in entries and bytes, and its share of hits since the start."""
        keys, memory = (0, 0) if self._l2 is None else await self._l2.size()
        return {
            "l1": {
                "size": len(self._l1),
                "bytes": self._l1.bytes_used,
                "maxSize": self._l1.items_max,
                "hitRate": self._l1.hits.rate,
            },
            "l2": {
                "keys": keys,
                "memory": memory,
                "hitRate": 0.0 if self._l2 is None else self._l2.hits.rate,
                "up": self._l2 is not None and self._l2.is_up,
            },
        }

    async def _delete(self, pattern: str) -> int:
        deleted = self._forget(pattern)
        if self._l2 is None:
            return deleted
        try:
            return deleted + await self._l2.delete(pattern)
        finally:
            # What was copied from Redis meanwhile.
            self._forget(pattern)

    def _forget(self, pattern: str) -> int:
        """Forget what *pattern* names in this process, and what is being loaded for it."""
        self._changes += 1
        if is_one_key(pattern):
            self._loads.pop(pattern, None)
        else:
            for key in filter(key_matcher(pattern), tuple(self._loads)):
                del self._loads[key]
        return self._l1.delete(pattern)

    async def _from_l2(self, key: str) -> Found:
        """What Redis has, its value copied into memory."""
        if self._l2 is None:
            return NOT_ASKED
        changes = self._changes
        found = await self._l2.get(key)
        if found.value is not None and changes == self._changes:
            ttl_seconds = min(found.left_seconds, self._l1_ttl_seconds)
            self._l1.set(key, found.value, ttl_seconds=ttl_seconds)
        return found

    def _start(
        self, key: str, load: Callable[[], Awaitable[Any]], ttl_seconds: float | None
    ) -> "asyncio.Task[bytes]":
        ttl_seconds = self._l2_ttl_seconds if ttl_seconds is None else ttl_seconds
        task = asyncio.create_task(self._fill(key, load, ttl_seconds))
        self._loads[key] = task
        self._running.add(task)
        task.add_done_callback(partial(self._end, key))
        return task

    def _end(self, key: str, task: "asyncio.Task[bytes]") -> None:
        self._running.discard(task)
        if self._loads.get(key) is task:
            del self._loads[key]

    async def _fill(
        self, key: str, load: Callable[[], Awaitable[Any]], ttl_seconds: float
    ) -> bytes:
        """The value from Redis or from *load*, kept unless it was deleted in the meantime."""
        found = await self._from_l2(key)
        if found.value is not None:
            return found.value
        try:
            text = orjson.dumps(await load())
        except BaseException:
            LOADS.labels("failed").inc()
            raise
        LOADS.labels("ok").inc()
        if len(text) > VALUE_BYTES_MAX:
            TOO_LARGE.inc()
        elif self._is_current(key):
            l1_ttl_seconds = min(_checked(ttl_seconds), self._l1_ttl_seconds)
            self._l1.set(key, text, ttl_seconds=l1_ttl_seconds)
            if self._l2 is not None:
                await self._l2.set_loaded(
                    key, text, ttl_seconds=ttl_seconds, last_deletion=found.last_deletion
                )
        return text

    def _is_current(self, key: str) -> bool:
        """Whether the running load of *key* has not been taken out by a change."""
        return self._loads.get(key) is asyncio.current_task()


def _checked(ttl_seconds: float) -> float:
    """*ttl_seconds*; ValueError if nothing can be kept that long."""
    if not 0 < ttl_seconds <= TTL_SECONDS_MAX:
        raise ValueError(f"a time to live is between 0 and {TTL_SECONDS_MAX:.0f} seconds")
    return ttl_seconds
