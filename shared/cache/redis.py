"""The second level of the cache: Redis (or Valkey), shared by all processes.

Whether Redis is in use is decided in one place, `RedisCache.follow`: it connects, listens for what
other processes delete, and tries again every few seconds when Redis has gone. Requests never wait
for a Redis that is down: the first call that fails ends its use, all others find nothing at once.

A deletion that could not be made is owed: it is made before Redis is used again, for Redis may
have kept what was deleted. It is forgotten when the process ends first; then the time to live of
the entry is what ends it.

What is loaded while another process deletes must not come into Redis after the deletion. The word
of a deletion may be heard too late for that, so every deletion leaves a mark in Redis, and what was
loaded is kept only if the mark is still the one that was seen before the load.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError

from shared.cache.keys import EVERYTHING, is_one_key, key_matcher
from shared.cache.metrics import DELETIONS_HEARD, REDIS_FAILURES, REDIS_UP, HitCount

CONNECT_SECONDS_MAX: Final = 0.5
# A request waits no longer for the cache than it may take to do without.
CALL_SECONDS_MAX: Final = 0.25
RETRY_SECONDS: Final = 5.0
# Others wait for their turn, which is not held against Redis; when too many wait, the next ones do
# without the cache. Deletions always wait.
CALLS_AT_ONCE_MAX: Final = 8
CALLS_MAX: Final = 2_000
# Silence that is answered with a ping; twice that long without a word, and Redis has gone.
SILENCE_SECONDS_MAX: Final = 1.0
SCAN_KEYS: Final = 1_000
# Beyond that many owed deletions everything is deleted instead.
OWED_MAX: Final = 1_000
# Whatever else lives in the same database is neither counted as ours nor deleted.
NAMESPACE: Final = "telemetryflow:"
# Not a name of an entry, so that deleting everything leaves it. No load takes as long as it lives.
LAST_DELETION: Final = "telemetryflow-last-deletion"
LAST_DELETION_SECONDS: Final = 3_600
SET_UNLESS_DELETED: Final = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """What Redis answered: the value if there is one, its time, and the mark of a deletion."""

    value: bytes | None
    left_seconds: float
    last_deletion: bytes  # empty: none for as long as marks live


# No deletion leaves this mark, so nothing that was loaded without asking comes into Redis.
NOT_ASKED: Final = Found(None, 0.0, b"unknown")


class RedisCache:
    """Values by key, for all processes that share a database of a Redis.

    Nothing here raises because of Redis: without it, values are not there and not kept. Used only
    while `follow` runs.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        password: str = "",
        database: int = 0,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.hits = HitCount("l2")
        self._client = Redis(
            host=host,
            port=port,
            password=password or None,
            db=database,
            max_connections=CALLS_AT_ONCE_MAX + 1,  # and the subscription
            socket_connect_timeout=CONNECT_SECONDS_MAX,
            # Calls are timed as a whole, below. The library would time each write on its own, with
            # asyncio.wait_for, which before Python 3.12 may swallow a cancellation.
            socket_timeout=None,
            retry=Retry(NoBackoff(), retries=0),
        )
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
        self._calls = 0
        # Channels, unlike keys, are common to all databases of a server.
        self._channel = f"{NAMESPACE}{database}:deleted"
        self._sender = uuid4().hex
        self._retry_seconds = retry_seconds
        self._owed: set[str] = set()
        # None until it was tried for the first time.
        self._is_up: bool | None = None

    @property
    def is_up(self) -> bool:
        """Whether Redis is in use."""
        return self._is_up is True

    async def get(self, key: str) -> Found:
        """What there is under *key*; NOT_ASKED without Redis."""
        name = NAMESPACE + key
        answers = await self._ask(("GET", name), ("PTTL", name), ("GET", LAST_DELETION))
        if answers is None:
            return NOT_ASKED
        value, left_ms, last_deletion = answers
        # It may have expired between the first two commands: then no time is left.
        if value is None or left_ms <= 0:
            self.hits.miss()
            return Found(None, 0.0, last_deletion or b"")
        self.hits.hit()
        return Found(value, left_ms / 1_000, last_deletion or b"")

    async def set(self, key: str, value: bytes, *, ttl_seconds: float) -> None:
        """Keep *value* for *ttl_seconds*, in place of what was there."""
        await self._ask(("SET", NAMESPACE + key, value, "PX", _milliseconds(ttl_seconds)))

    async def set_loaded(
        self, key: str, value: bytes, *, ttl_seconds: float, last_deletion: bytes
    ) -> None:
        """Like `set`, unless something was deleted after `get` had told *last_deletion*."""
        names = (NAMESPACE + key, LAST_DELETION)
        arguments = (last_deletion, value, _milliseconds(ttl_seconds))
        await self._ask(("EVAL", SET_UNLESS_DELETED, len(names), *names, *arguments))

    async def delete(self, pattern: str) -> int:
        """Delete the keys that *pattern* names, here and in the memory of all other processes.

        Returns how many were here. Without Redis the deletion is owed.
        """
        is_done = False
        try:
            if self.is_up:
                deleted = await self._delete(pattern)
                is_done = True
                return deleted
        except (RedisError, OSError) as error:
            # What cannot be deleted must not be read either, even if reading works.
            self._go_down(error)
        finally:
            # Also when the caller is cancelled: half a deletion is none.
            if not is_done:
                self._owe(pattern)
        return 0

    async def size(self) -> tuple[int, int]:
        """Number of keys of the database, and bytes of memory of the server; zeros without it."""
        answers = await self._ask(("DBSIZE",), ("INFO", "memory"))
        return (0, 0) if answers is None else (answers[0], int(answers[1]["used_memory"]))

    async def follow(self, forget: Callable[[str], object]) -> None:
        """Keep Redis in use whenever it is there, until cancelled.

        Calls *forget* with the pattern of each deletion by another process, and with the pattern
        of everything each time that deletions may have been missed.
        """
        try:
            while True:
                try:
                    await self._use(forget)
                except (RedisError, OSError) as error:
                    self._go_down(error)
                await asyncio.sleep(self._retry_seconds)
        finally:
            self._is_up = None
            REDIS_UP.set(0)

    async def close(self) -> None:
        """Close all connections; `follow` must have ended."""
        await self._client.aclose()

    async def _use(self, forget: Callable[[str], object]) -> None:
        """Bring Redis into use and listen, until something fails."""
        # Idle connections lead to the server that has gone.
        await self._client.connection_pool.disconnect(inuse_connections=False)
        async with self._client.pubsub() as subscription:
            async with asyncio.timeout(CONNECT_SECONDS_MAX + CALL_SECONDS_MAX):
                await subscription.subscribe(self._channel)
                await subscription.get_message(timeout=None)  # the confirmation
            # A subscription alone does not show that calls come back in time.
            await self._send(("PING",))
            await self._pay()
            # From here on nothing is missed; what was missed until now, nobody knows.
            forget(EVERYTHING)
            self._come_up()
            await self._listen(subscription, forget)

    async def _listen(self, subscription: PubSub, forget: Callable[[str], object]) -> None:
        """Listen until a call finds Redis down, or until nothing comes, not even to a ping."""
        has_asked = False
        while True:
            async with asyncio.timeout(SILENCE_SECONDS_MAX + CALL_SECONDS_MAX):
                message = await subscription.get_message(timeout=SILENCE_SECONDS_MAX)
                if message is None:
                    await subscription.ping()
            if message is None and has_asked:
                raise TimeoutError("no answer to a ping")
            has_asked = message is None
            if message is not None and message["type"] == "message":
                self._hear(message["data"], forget)
            if not self.is_up:
                return
            await self._pay()

    def _hear(self, data: bytes, forget: Callable[[str], object]) -> None:
        sender, _, pattern = data.decode(errors="replace").partition(" ")
        if sender != self._sender:
            DELETIONS_HEARD.inc()
            forget(pattern)

    async def _ask(self, *commands: tuple[str | bytes | int, ...]) -> list[Any] | None:
        """The answers to *commands*, or None if Redis is down, goes down or refuses one."""
        if not self.is_up:
            return None
        if self._calls >= CALLS_MAX:
            REDIS_FAILURES.labels("crowded").inc()
            return None
        self._calls += 1
        try:
            return await self._send(*commands)
        except ResponseError:
            # It answers, so it is there: full, for example, it still has what it has.
            REDIS_FAILURES.labels("refused").inc()
        except (RedisError, OSError) as error:
            self._go_down(error)
        finally:
            self._calls -= 1
        return None

    async def _send(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """The answers to *commands*, sent together."""
        was_up = self.is_up
        async with self._turns:
            if was_up and not self.is_up:
                raise NoConnection("it went down while this call waited for its turn")
            async with (
                asyncio.timeout(CALL_SECONDS_MAX),
                self._client.pipeline(transaction=False) as pipeline,
            ):
                for command in commands:
                    pipeline.execute_command(*command)
                return list(await pipeline.execute())

    async def _delete(self, pattern: str) -> int:
        # Marked first: what was loaded until now comes too late from here on.
        mark = ("SET", LAST_DELETION, uuid4().hex, "EX", LAST_DELETION_SECONDS)
        # Told last: who forgets it before it is gone reads it again.
        tell = ("PUBLISH", self._channel, f"{self._sender} {pattern}")
        if is_one_key(pattern):
            _, deleted, _ = await self._send(mark, ("UNLINK", NAMESPACE + pattern), tell)
            return int(deleted)
        await self._send(mark)
        deleted = await self._delete_many(pattern)
        await self._send(tell)
        return deleted

    async def _delete_many(self, pattern: str) -> int:
        matches = key_matcher(pattern)
        # Redis' star goes across colons, so it finds too many, and never too few.
        glob = NAMESPACE + pattern.replace(":" + EVERYTHING, "*").replace(EVERYTHING, "*")
        cursor, deleted = 0, 0
        while True:
            ((cursor, found),) = await self._send(
                ("SCAN", cursor, "MATCH", glob, "COUNT", SCAN_KEYS)
            )
            names = [
                name for name in found if matches(name.decode(errors="replace")[len(NAMESPACE) :])
            ]
            if names:
                (unlinked,) = await self._send(("UNLINK", *names))
                deleted += unlinked
            if not cursor:
                return deleted

    def _owe(self, pattern: str) -> None:
        self._owed.add(pattern)
        if len(self._owed) > OWED_MAX:
            self._owed = {EVERYTHING}

    async def _pay(self) -> None:
        while self._owed:
            pattern = self._owed.pop()
            try:
                await self._delete(pattern)
            except BaseException:
                self._owe(pattern)
                raise

    def _come_up(self) -> None:
        if self._is_up is False:
            logger.warning("Redis answers again: caching in it")
        self._is_up = True
        REDIS_UP.set(1)

    def _go_down(self, error: Exception) -> None:
        REDIS_FAILURES.labels("lost").inc()
        if self._is_up is not False:
            # Its class alone: the text of an answer may quote a key.
            logger.warning(
                "Redis does not answer (%s): caching in memory only", type(error).__name__
            )
        self._is_up = False
        REDIS_UP.set(0)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
