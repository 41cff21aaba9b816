"""Waiting for a log that recovers by itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import Unavailable

_Result = TypeVar("_Result")


async def eventually(
    attempt: Callable[[], Awaitable[_Result]], seconds_max: float = 15.0
) -> _Result:
    """Repeats *attempt* while it is Unavailable or a claim in it fails, until the deadline."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return await attempt()
        except (Unavailable, AssertionError, ValueError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.02)
