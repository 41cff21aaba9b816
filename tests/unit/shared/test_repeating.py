"""What is done again and again outlives whatever goes wrong once."""

import asyncio

import pytest

from shared.errors import Unavailable
from shared.repeating import repeat


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a defect"), OSError(28)])
async def test_an_error_ends_nothing_and_is_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = asyncio.Event()
    done = 0

    async def step() -> bool:
        nonlocal done
        done += 1
        if done == 1:
            raise error
        stopping.set()
        return False

    await repeat(step, every_seconds=0.001, stopping=stopping, failing="the work waits")

    assert done == 2
    assert [record.getMessage() for record in caplog.records] == [f"the work waits: {error}"]


async def test_while_there_is_more_nothing_is_waited_for() -> None:
    stopping = asyncio.Event()
    done = 0

    async def step() -> bool:
        nonlocal done
        done += 1
        if done == 3:
            stopping.set()
        return done < 3

    async with asyncio.timeout(10):
        await repeat(step, every_seconds=3_600, stopping=stopping, failing="the work waits")

    assert done == 3
