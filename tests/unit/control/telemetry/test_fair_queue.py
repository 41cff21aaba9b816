"""Turns at the engine."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from control.telemetry.queries.fair_queue import WAITING_OF_TENANT_MAX, FairQueue
from shared.errors import RateLimited, Unavailable


async def _enter(queue: FairQueue, tenant: str, entered: list[str], leave: asyncio.Event) -> None:
    async with queue.place(tenant):
        entered.append(tenant)
        await leave.wait()


async def test_L15_a_tenant_runs_four_at_a_time_and_others_go_on() -> None:
    queue, entered, leave = FairQueue(), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(_enter(queue, "greedy", entered, leave))
        tasks.create_task(_enter(queue, "modest", entered, leave))
        for _ in range(5):
            await asyncio.sleep(0)
        assert entered == ["greedy"] * 4 + ["modest"]
        leave.set()
    assert entered.count("greedy") == 10


async def test_a_free_place_goes_to_the_tenants_in_turn() -> None:
    queue = FairQueue(running_max=1)
    order: list[str] = []

    async def ask(tenant: str) -> None:
        async with queue.place(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for tenant in ("a", "a", "a", "a", "b", "b", "c"):
            tasks.create_task(ask(tenant))
    assert order == ["a", "a", "b", "c", "a", "b", "a"]


async def test_who_waits_too_long_or_with_too_many_is_told() -> None:
    queue = FairQueue(running_max=1, wait_seconds_max=0.01)
    async with queue.place("a"):
        with pytest.raises(Unavailable):
            async with queue.place("a"):
                pass
        async with AsyncExitStack() as stack:
            waiting = [
                asyncio.create_task(stack.enter_async_context(queue.place("b")))
                for _ in range(WAITING_OF_TENANT_MAX)
            ]
            await asyncio.sleep(0)
            with pytest.raises(RateLimited):
                async with queue.place("b"):
                    pass
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    async with queue.place("b"):
        pass
