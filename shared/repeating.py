"""Work that is done again and again for as long as the process lives."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from shared.errors import TelemetryFlowError

logger = logging.getLogger(__name__)


async def repeat(
    step: Callable[[], Awaitable[object]],
    *,
    every_seconds: float,
    stopping: asyncio.Event,
    failing: str,
) -> None:
    """Do *step* until *stopping*, every so often, or at once when it says that there is more.

    It outlives any error, which is told after *failing*: the next time may go well.
    """
    while not stopping.is_set():
        has_more: object = False
        try:
            has_more = await step()
        except Exception as error:
            is_known = isinstance(error, TelemetryFlowError)
            logger.warning("%s: %s", failing, error, exc_info=not is_known)
        if not has_more:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), every_seconds)
