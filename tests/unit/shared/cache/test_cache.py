"""One load at a time, and nothing kept that was deleted while it was loaded; in memory only."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from shared.cache.cache import VALUE_BYTES_MAX, Cache, cache_of
from shared.cache.keys import cache_key
from shared.cache.memory import MemoryCache
from shared.errors import Invalid, Unavailable
from shared.settings import Settings

KEY = cache_key("t1", "dashboard", 1)
MISSING = object()


class Source:
    """What is cached: counts how often it is asked, and answers when it is told to."""

    def __init__(self, value: Any = "value", error: Exception | None = None) -> None:
        self.loads = 0
        self.value = value
        self.error = error
        self.is_open = asyncio.Event()

    async def slow(self) -> Any:
        """The value of the time of the question, as soon as the source is open."""
        self.loads += 1
        value = self.value
        await self.is_open.wait()
        if self.error is not None:
            raise self.error
        return value

    async def fast(self) -> Any:
        """The value."""
        self.loads += 1
        return self.value


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    """In memory only."""
    return Cache(MemoryCache(items_max=100, bytes_max=10_000_000, clock=clock), None)


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until *holds* does."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


def waiting(
    cache: Cache, load: Callable[[], Awaitable[Any]], many: int
) -> list["asyncio.Task[Any]"]:
    """Tasks that ask for the same key at the same time."""
    return [asyncio.create_task(cache.wrap(KEY, load, ttl_seconds=60)) for _ in range(many)]


async def test_a_value_comes_back_until_it_is_deleted(cache: Cache) -> None:
    assert await cache.get(KEY) is None
    await cache.set(KEY, {"a": [1, 2.5, None]}, ttl_seconds=60, l2_ttl_seconds=300)
    assert await cache.get(KEY) == {"a": [1, 2.5, None]}

    await cache.delete(KEY)
    assert await cache.get(KEY) is None


async def test_times_to_live_are_seconds(cache: Cache, clock: Clock) -> None:
    await cache.set(KEY, 1, ttl_seconds=300)
    clock.now = 299
    assert await cache.get(KEY) == 1

    clock.now = 300
    assert await cache.get(KEY) is None


@pytest.mark.parametrize("seconds", [0, -1, 604_801, float("nan")])
async def test_a_time_to_live_that_makes_no_sense_is_refused(cache: Cache, seconds: float) -> None:
    with pytest.raises(ValueError, match="time to live"):
        await cache.set(KEY, 1, ttl_seconds=seconds)


async def test_a_value_stays_in_memory_no_longer_than_a_minute(cache: Cache, clock: Clock) -> None:
    source = Source()
    await cache.wrap(KEY, source.fast, ttl_seconds=1_800)
    clock.now = 59
    await cache.wrap(KEY, source.fast, ttl_seconds=1_800)
    assert source.loads == 1

    clock.now = 60
    await cache.wrap(KEY, source.fast, ttl_seconds=1_800)
    assert source.loads == 2


async def test_nothing_is_a_value_like_any_other(cache: Cache) -> None:
    source = Source(value=None)

    assert await cache.wrap(KEY, source.fast) is None
    assert await cache.wrap(KEY, source.fast) is None
    assert source.loads == 1
    assert await cache.get(KEY, MISSING) is None
    assert await cache.get(cache_key("t1", "dashboard", 2), MISSING) is MISSING


async def test_a_first_load_looks_like_a_later_one_and_is_nobody_elses(cache: Cache) -> None:
    source = Source(value={"id": UUID(int=1), "rows": []})

    first = await cache.wrap(KEY, source.fast)
    first["rows"].append("mine")

    assert await cache.wrap(KEY, source.fast) == {"id": str(UUID(int=1)), "rows": []}


async def test_one_load_serves_all_who_ask_at_the_same_time(cache: Cache) -> None:
    source = Source()
    tasks = waiting(cache, source.slow, 100)
    await until(lambda: source.loads > 0)
    source.is_open.set()

    assert await asyncio.gather(*tasks) == ["value"] * 100
    assert source.loads == 1


async def test_a_failed_load_fails_all_and_is_not_kept(cache: Cache) -> None:
    source = Source(error=Unavailable("the database is down"))
    tasks = waiting(cache, source.slow, 10)
    await until(lambda: source.loads > 0)
    source.is_open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(result, Unavailable) for result in results)
    assert source.loads == 1
    assert await cache.wrap(KEY, source.fast) == "value"


async def test_a_value_that_json_cannot_hold_fails_its_load(cache: Cache) -> None:
    source = Source(value=object())

    with pytest.raises(TypeError):
        await cache.wrap(KEY, source.fast)


async def test_who_gives_up_does_not_take_the_others_along(cache: Cache) -> None:
    source = Source()
    first, *others = waiting(cache, source.slow, 3)
    await until(lambda: source.loads > 0)
    first.cancel()
    await asyncio.wait([first])
    source.is_open.set()

    assert first.cancelled()
    assert await asyncio.gather(*others) == ["value"] * 2


async def test_a_load_that_nobody_waits_for_any_more_fails_quietly(cache: Cache) -> None:
    source = Source(error=Unavailable("the database is down"))
    (only,) = waiting(cache, source.slow, 1)
    await until(lambda: source.loads > 0)
    only.cancel()
    await asyncio.wait([only])
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: reported.append(what))
    source.is_open.set()

    with pytest.raises(Unavailable):
        await cache.wrap(KEY, source.slow)
    gc.collect()
    assert not reported
    assert source.loads == 1


@pytest.mark.parametrize("how", ["delete", "delete_pattern", "clear", "set"])
async def test_what_was_deleted_while_it_was_loaded_is_not_kept(cache: Cache, how: str) -> None:
    source = Source(value="before")
    (early,) = waiting(cache, source.slow, 1)
    await until(lambda: source.loads > 0)
    source.value = "after"
    match how:
        case "delete":
            await cache.delete(KEY)
        case "delete_pattern":
            await cache.delete_pattern(cache_key("t1", "dashboard"))
        case "clear":
            await cache.clear()
        case _:
            await cache.set(KEY, "after")

    # Who asks after the deletion does not join the load of before.
    late = asyncio.create_task(cache.wrap(KEY, source.fast))
    assert await late == "after"
    source.is_open.set()
    assert await early == "before"
    assert await cache.get(KEY) == "after"


async def test_loads_of_other_keys_survive_a_deletion(cache: Cache) -> None:
    source = Source()
    (task,) = waiting(cache, source.slow, 1)
    await until(lambda: source.loads > 0)
    await cache.delete(cache_key("t2", "dashboard", 1))
    source.is_open.set()
    await task

    assert await cache.get(KEY) == "value"


async def test_S38_a_pattern_of_one_tenant_leaves_the_other_tenants_alone(cache: Cache) -> None:
    for tenant in ("t1", "t12", "t2"):
        for kind in ("logs", "metrics"):
            await cache.set(cache_key(tenant, kind, "q"), tenant)

    assert await cache.delete_pattern(cache_key("t1", "logs")) == 1
    assert await cache.get(cache_key("t12", "logs", "q")) == "t12"
    assert await cache.get(cache_key("t1", "metrics", "q")) == "t1"
    assert await cache.delete_pattern("*:t1") == 1
    assert await cache.clear() == 4


async def test_a_malformed_pattern_is_refused(cache: Cache) -> None:
    with pytest.raises(Invalid):
        await cache.delete_pattern("log*")


async def test_a_value_above_a_megabyte_is_returned_and_not_kept(cache: Cache) -> None:
    source = Source(value="x" * VALUE_BYTES_MAX)

    assert len(await cache.wrap(KEY, source.fast)) == VALUE_BYTES_MAX
    assert await cache.get(KEY) is None

    await cache.set(KEY, "small")
    await cache.set(KEY, source.value)
    assert await cache.get(KEY) is None


async def test_the_end_of_the_cache_ends_its_loads(cache: Cache) -> None:
    source = Source()
    async with cache:
        (task,) = waiting(cache, source.slow, 1)
        await until(lambda: source.loads > 0)
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()


async def test_stats_tell_what_is_held_and_found(cache: Cache) -> None:
    await cache.set(KEY, "value")
    await cache.get(KEY)
    await cache.get(cache_key("t1", "dashboard", 2))
    stats = await cache.stats()

    assert stats["l1"].pop("bytes") > len(KEY)
    assert stats == {
        "l1": {"size": 1, "maxSize": 100, "hitRate": 0.5},
        "l2": {"keys": 0, "memory": 0, "hitRate": 0.0, "up": False},
    }


async def test_without_a_host_there_is_no_redis() -> None:
    async with cache_of(Settings(cache_l1_max_size=2)) as cache:
        await cache.set(KEY, "value")
        stats = await cache.stats()

    assert stats["l1"]["maxSize"] == 2
    assert stats["l2"]["up"] is False
