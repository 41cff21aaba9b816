"""Two processes' caches on a real Valkey, which is also flushed, frozen, killed and restarted."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.cache.cache import Cache, cache_of
from shared.cache.keys import cache_key
from shared.cache.redis import (
    CALL_SECONDS_MAX,
    CALLS_AT_ONCE_MAX,
    CALLS_MAX,
    LAST_DELETION,
    NAMESPACE,
    NOT_ASKED,
    OWED_MAX,
    RedisCache,
)
from shared.settings import Settings
from tests.integration.shared.cache.processes import (
    POLL_SECONDS,
    RETRY_SECONDS,
    Process,
    started,
    until,
)
from tests.integration.shared.cache.valkey import ValkeyServer
from tests.ports import free_port

KEY = cache_key("t1", "dashboard", 1)
# A hundred calls that do not wait for Redis, on a busy machine.
INSTANT_SECONDS_MAX = 1.0


async def value() -> str:
    """A load."""
    return "value"


async def test_what_one_process_loads_another_finds(pair: tuple[Process, Process]) -> None:
    one, other = pair
    await one.cache.wrap(KEY, value, ttl_seconds=300)

    assert await other.cache.get(KEY) == "value"
    assert len(other.l1) == 1
    stats = await other.cache.stats()
    assert stats["l2"].pop("memory") > 0
    assert stats["l2"] == {"keys": 1, "hitRate": 1.0, "up": True}


async def test_times_to_live_are_seconds_in_redis_too(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, other = pair
    await one.cache.set(KEY, 1, ttl_seconds=60, l2_ttl_seconds=300)
    assert 299_000 < await admin.pttl(NAMESPACE + KEY) <= 300_000

    await admin.pexpire(NAMESPACE + KEY, 200)
    assert await other.cache.get(KEY) == 1
    # The copy in memory ends with the original.
    await until(lambda: other.l1.get(KEY) is None, seconds_max=5)


async def test_nothing_is_a_value_in_redis_too(pair: tuple[Process, Process]) -> None:
    one, other = pair
    await one.cache.set(KEY, None)

    assert await other.cache.get(KEY, "missing") is None


async def test_a_deletion_reaches_the_memory_of_other_processes(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    await one.cache.set(KEY, "value")
    await other.cache.get(KEY)
    await one.cache.delete(KEY)

    assert not await one.in_redis(KEY)
    await until(lambda: other.l1.get(KEY) is None)


async def test_a_process_does_not_hear_its_own_deletions(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, other = pair
    await one.cache.set(KEY, "value")
    # As late as can be: what Redis tells of a deletion may come behind a new value.
    await admin.publish(one.l2._channel, f"{one.l2._sender} {KEY}")
    await all_is_heard(one, other)

    assert one.l1.get(KEY) is not None


async def test_S38_a_pattern_reaches_what_it_names_and_nothing_else(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, other = pair
    await admin.set("logs:t1:of-another-product", "1")
    for tenant in ("t1", "t12", "t2"):
        for number in range(1_500 if tenant == "t1" else 2):
            await one.l2.set(cache_key(tenant, "logs", number), b"1", ttl_seconds=60)
        await other.cache.get(cache_key(tenant, "logs", 0))

    assert await one.cache.delete_pattern(cache_key("t1", "logs")) == 1_500
    await until(lambda: len(other.l1) == 2)
    assert await one.in_redis(cache_key("t12", "logs", 1))
    assert await one.cache.delete_pattern("*:t12") == 2
    await until(lambda: len(other.l1) == 1)
    assert await one.cache.clear() == 2
    await until(lambda: len(other.l1) == 0)
    await admin.delete(LAST_DELETION)
    assert await admin.keys() == [b"logs:t1:of-another-product"]


async def test_what_was_read_before_a_deletion_is_not_kept_after_it(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    await other.cache.set(KEY, "before")
    one.l2.is_open.clear()
    task = asyncio.create_task(one.cache.get(KEY))
    await until(lambda: one.l2.held == 1)
    await other.cache.delete(KEY)
    await all_is_heard(one, other)
    one.l2.is_open.set()

    assert await task == "before"
    assert one.l1.get(KEY) is None


async def test_what_was_read_during_a_deletion_is_not_kept_after_it(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    await other.cache.set(KEY, "before")
    one.l2.is_open.clear()
    task = asyncio.create_task(one.cache.delete(KEY))
    await until(lambda: one.l2.held == 1)
    found = await RedisCache.get(one.l2, KEY)
    assert found.value is not None
    one.l1.set(KEY, found.value, ttl_seconds=found.left_seconds)
    one.l2.is_open.set()
    await task

    assert one.l1.get(KEY) is None


async def test_what_was_deleted_on_its_way_to_redis_does_not_stay_there(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    async with AsyncExitStack() as stack:

        async def load() -> str:
            await hold_turns(stack, one)
            return "before"

        task = asyncio.create_task(one.cache.wrap(KEY, load))
        await until(lambda: one.l1.get(KEY) is not None)
        await other.cache.delete(KEY)
        await until(lambda: one.l1.get(KEY) is None)

    assert await task == "before"
    assert not await one.in_redis(KEY)


async def test_what_was_deleted_during_a_load_is_not_kept_however_late_that_is_heard(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    monkeypatch.setattr(one.l2, "_hear", lambda *_: None)

    async def load() -> str:
        await other.cache.delete(KEY)
        return "before"

    assert await one.cache.wrap(KEY, load) == "before"
    assert not await other.in_redis(KEY)
    # Kept again once it is loaded without a deletion on the way.
    assert await other.cache.wrap(KEY, value) == "value"
    assert await other.in_redis(KEY)


async def hold_turns(stack: AsyncExitStack, process: Process) -> None:
    """Let all calls of *process* wait until *stack* ends."""
    for _ in range(CALLS_AT_ONCE_MAX):
        await stack.enter_async_context(process.l2._turns)


async def test_what_another_process_deleted_while_it_was_loaded_is_not_kept(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    is_loading, goes_on = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        is_loading.set()
        await goes_on.wait()
        return "before"

    task = asyncio.create_task(one.cache.wrap(KEY, load))
    await is_loading.wait()
    await other.cache.delete(KEY)
    await all_is_heard(one, other)
    goes_on.set()

    assert await task == "before"
    assert one.l1.get(KEY) is None
    assert not await one.in_redis(KEY)


class Truth:
    """Rows that a database would hold, read and changed through caches."""

    def __init__(self) -> None:
        self.random = Random(7)
        self.rows = {cache_key("t1", "row", number): 0 for number in range(3)}

    async def read(self, cache: Cache, key: str) -> Any:
        """What a process sees."""

        async def load() -> int:
            seen = self.rows[key]
            await asyncio.sleep(self.random.random() / 500)
            return seen

        return await cache.wrap(key, load)

    async def read_often(self, cache: Cache) -> None:
        """A process that reads."""
        for _ in range(400):
            await self.read(cache, self.random.choice(list(self.rows)))

    async def change_often(self, cache: Cache) -> None:
        """A process that changes rows, each time deleting what is cached."""
        for _ in range(200):
            key = self.random.choice(list(self.rows))
            self.rows[key] += 1
            await cache.delete(key)
            await asyncio.sleep(self.random.random() / 500)


async def test_when_all_is_quiet_every_process_has_the_truth(
    pair: tuple[Process, Process],
) -> None:
    truth = Truth()
    async with asyncio.TaskGroup() as group:
        for process in pair:
            for _ in range(4):
                group.create_task(truth.read_often(process.cache))
            group.create_task(truth.change_often(process.cache))
    for process, peer in (pair, pair[::-1]):
        await all_is_heard(process, peer)

    for process in pair:
        for key, now in truth.rows.items():
            assert await truth.read(process.cache, key) == now


async def all_is_heard(process: Process, peer: Process) -> None:
    """Returns when *process* has heard of every deletion that *peer* made until now."""
    probe = cache_key("t1", "probe")
    await process.cache.set(probe, "value")
    await peer.cache.delete(probe)
    await until(lambda: process.l1.get(probe) is None)


async def test_F46_a_flushed_redis_means_loading_again(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, other = pair
    await one.cache.set(KEY, "old")
    await admin.flushall()

    assert await other.cache.wrap(KEY, value) == "value"
    assert other.l2.is_up


async def test_a_lost_subscription_means_forgetting_everything(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, _ = pair
    await one.cache.set(KEY, "value")
    await admin.client_kill_filter(_type="pubsub")

    await until(lambda: len(one.l1) == 0)
    await until(lambda: one.l2.is_up)
    assert await one.cache.get(KEY) == "value"


async def test_a_refused_command_does_not_end_the_use_of_redis(
    pair: tuple[Process, Process], admin: Redis
) -> None:
    one, _ = pair
    await admin.xadd(NAMESPACE + KEY, {"of": "another type"})

    assert await one.cache.get(KEY) is None
    assert one.l2.is_up


async def test_a_burst_is_served(pair: tuple[Process, Process]) -> None:
    one, other = pair
    keys = [cache_key("t1", "row", number) for number in range(1_000)]
    await asyncio.gather(*(one.cache.set(key, key) for key in keys))
    found = await asyncio.gather(*(other.cache.get(key) for key in keys))

    assert one.l2.is_up
    assert other.l2.is_up
    assert found == keys


async def test_what_would_wait_too_long_does_without_redis(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    await one.l2.set(KEY, b"1", ttl_seconds=60)
    found = await asyncio.gather(*(one.l2.get(KEY) for _ in range(CALLS_MAX + 10)))

    assert found.count(NOT_ASKED) == 10
    assert one.l2.is_up


async def test_S38_a_cancelled_look_up_never_leaves_its_answer_to_another(
    valkey: ValkeyServer,
) -> None:
    async with AsyncExitStack() as stack:
        process = await started(stack, valkey.port)
        keys = [cache_key(f"t{number}", "row") for number in range(20)]
        for key in keys:
            await process.l2.set(key, key.encode(), ttl_seconds=60)
        for _ in range(5):
            valkey.freeze()
            tasks = [asyncio.create_task(process.l2.get(key)) for key in keys]
            await asyncio.sleep(CALL_SECONDS_MAX / 5)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            valkey.thaw()
            for key in reversed(keys):
                found = await process.l2.get(key)
                assert found.value in (None, key.encode())
            await until(lambda: process.l2.is_up)


async def test_F45_the_start_does_not_wait_and_redis_may_come_later(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.kill()
    process = Process(valkey.port)
    begun = time.monotonic()
    async with process.cache as cache:
        assert await cache.wrap(KEY, value) == "value"
        assert time.monotonic() - begun < INSTANT_SECONDS_MAX
        assert (await cache.stats())["l2"] == {"keys": 0, "memory": 0, "hitRate": 0.0, "up": False}
        # Several attempts, one warning.
        await until(lambda: len(warnings(caplog)) > 0)
        await asyncio.sleep(3 * RETRY_SECONDS)
        assert len(warnings(caplog)) == 1
        valkey.start()
        await until(lambda: process.l2.is_up)
        await cache.set(KEY, "value")
        assert await process.in_redis(KEY)


async def test_F45_a_killed_redis_costs_one_call_and_comes_back(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        process = await started(stack, valkey.port)
        for round_number in (1, 2):
            await process.cache.set(KEY, "value")
            valkey.kill()
            await process.cache.get(cache_key("t1", "missing"))
            begun = time.monotonic()
            assert await process.cache.get(KEY) == "value"
            for number in range(100):
                await process.cache.wrap(cache_key("t1", "row", number), value)
            assert time.monotonic() - begun < INSTANT_SECONDS_MAX
            assert not process.l2.is_up
            valkey.start()
            await until(lambda: process.l2.is_up)
            # One for each change.
            assert len(warnings(caplog)) == 2 * round_number
            await process.cache.set(KEY, "again")
            assert await process.in_redis(KEY)


async def test_F47_a_frozen_redis_costs_one_short_call(valkey: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        process = await started(stack, valkey.port)
        await process.cache.set(KEY, "value")
        valkey.freeze()
        begun = time.monotonic()
        # All at the same time: who waits for a turn does not try in vain.
        keys = [cache_key("t1", "slow", number) for number in range(200)]
        await asyncio.gather(*(process.cache.wrap(key, value) for key in keys))
        assert time.monotonic() - begun < CALL_SECONDS_MAX + INSTANT_SECONDS_MAX

        begun = time.monotonic()
        for number in range(100):
            await process.cache.wrap(cache_key("t1", "row", number), value)
        assert time.monotonic() - begun < INSTANT_SECONDS_MAX
        valkey.thaw()
        await until(lambda: process.l2.is_up)


async def test_a_silent_redis_is_noticed_without_any_call(valkey: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        process = await started(stack, valkey.port)
        valkey.freeze()
        await until(lambda: not process.l2.is_up)
        valkey.thaw()
        await until(lambda: process.l2.is_up)


@pytest.mark.parametrize("deletions", [1, OWED_MAX + 1])
async def test_what_was_deleted_while_redis_was_away_is_gone_when_it_is_back(
    valkey: ValkeyServer, deletions: int
) -> None:
    async with AsyncExitStack() as stack:
        one, other = [await started(stack, valkey.port) for _ in range(2)]
        await one.cache.set(KEY, "before")
        await other.cache.get(KEY)
        valkey.freeze()
        await one.cache.get(cache_key("t1", "missing"))
        # It is down by now: the deletion is not even sent.
        await one.cache.delete(KEY)
        for number in range(1, deletions):
            await one.cache.delete(cache_key("t1", "row", number))
        valkey.thaw()

        await until(lambda: one.l2.is_up)
        assert not await one.in_redis(KEY)
        await until(lambda: other.l1.get(KEY) is None)
        assert await one.cache.get(KEY) is None


async def test_a_cancelled_deletion_is_made_up_for(pair: tuple[Process, Process]) -> None:
    one, other = pair
    await one.cache.set(KEY, "before")
    await other.cache.get(KEY)
    async with AsyncExitStack() as stack:
        await hold_turns(stack, one)
        task = asyncio.create_task(one.cache.delete(KEY))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert one.l1.get(KEY) is None

    await until(lambda: other.l1.get(KEY) is None)
    assert not await one.in_redis(KEY)


async def test_settings_name_the_redis_and_its_password(caplog: pytest.LogCaptureFixture) -> None:
    secret = "correct-horse"
    with ValkeyServer(password=secret) as server:
        settings = Settings(redis_host="127.0.0.1", redis_port=server.port, redis_password=secret)
        async with cache_of(settings) as cache:
            assert await up(cache)
        async with cache_of(replace(settings, redis_password="wrong-" + secret)) as cache:
            await until(lambda: len(warnings(caplog)) > 0)
            assert await cache.wrap(KEY, value) == "value"

    assert secret not in caplog.text


async def test_an_unknown_address_ends_in_memory_only() -> None:
    process = Process(free_port())
    async with process.cache as cache:
        assert await cache.clear() == 0
        await cache.set(KEY, "value")
        assert await cache.get(KEY) == "value"


async def up(cache: Cache) -> bool:
    """Whether Redis comes into use."""
    async with asyncio.timeout(10):
        while not (await cache.stats())["l2"]["up"]:
            await asyncio.sleep(POLL_SECONDS)
    return True


def warnings(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """What the cache complained about."""
    return [
        record
        for record in caplog.records
        if record.name == "shared.cache.redis" and record.levelno >= logging.WARNING
    ]
