"""Times that tell nothing: how long an answer takes must not show whether an address is known."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic


@asynccontextmanager
async def lasting_steps_of(seconds: float) -> AsyncIterator[None]:
    """The block, its errors included, lasts a multiple of *seconds*; waiting costs no CPU.

    A whole step hides what differs by less: a row more to write, a mail to order.
    """
    begun = monotonic()
    try:
        yield
    finally:
        await asyncio.sleep((begun - monotonic()) % seconds)
