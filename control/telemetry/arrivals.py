"""Who waits for telemetry of which tenant, and is woken when it was stored.

The writer tells in the log what it stored (topic `telemetry.ingested.v1`, ingest.ingested); one
task of each API process follows that while anybody waits. Where the log cannot be read, whoever
waits looks by the clock.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from shared.errors import TelemetryFlowError

# How often whoever waits looks by himself: where nobody tells, and where somebody does.
LOOK_SECONDS: Final = 1.0
LOOK_SECONDS_TOLD: Final = 5.0
RETRY_SECONDS: Final = 10.0

# Told is each document; None once: from now on all of them are.
Tell = Callable[[Mapping[str, Any] | None], None]
# Tells until it is cancelled.
Follow = Callable[[Tell], Awaitable[None]]

logger = logging.getLogger(__name__)


class Arrivals:
    """Of one process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._is_told = False
        # Whether the process ends: nobody is to wait any more.
        self.is_over = False

    @property
    def look_seconds(self) -> float:
        """How long to wait at most before looking without having been told."""
        return LOOK_SECONDS_TOLD if self._is_told else LOOK_SECONDS

    @contextmanager
    def of(self, tenant: str, signal: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something of the *signal* was stored for *tenant*."""
        place, told = (tenant, signal), asyncio.Event()
        self._waiting[place].add(told)
        self._wanted.set()
        try:
            yield told
        finally:
            self._waiting[place].discard(told)
            if not self._waiting[place]:
                del self._waiting[place]
            if not self._waiting:
                self._wanted.clear()

    def tell(self, document: Mapping[str, Any] | None) -> None:
        """Wake who waits for what *document* tells; None: from now on all is told."""
        if document is None:
            self._is_told = True
            return
        signal = str(document["signal"])
        for tenant in {str(one["tenant"]) for one in document["counts"]}:
            for told in self._waiting.get((tenant, signal), ()):
                told.set()

    async def run(self, follow: Follow, stopping: asyncio.Event) -> None:
        """Follow the log while anybody waits; at *stopping* wake all who do, and end."""
        following = asyncio.create_task(self._follow_again_and_again(follow))
        await stopping.wait()
        following.cancel()
        await asyncio.wait({following})
        self.is_over = True
        for waiting in self._waiting.values():
            for told in waiting:
                told.set()

    async def _follow_again_and_again(self, follow: Follow) -> None:
        is_warned = False
        while True:
            await self._wanted.wait()
            try:
                await self._while_wanted(follow)
                is_warned = False
            except Exception as error:
                # Whatever it is: tails go on by the clock, and it is tried again.
                if not is_warned:
                    is_known = isinstance(error, TelemetryFlowError)
                    text = "live tails look each second, the log tells nothing: %s"
                    logger.warning(text, error, exc_info=not is_known)
                is_warned = True
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._is_told = False

    async def _while_wanted(self, follow: Follow) -> None:
        following = asyncio.ensure_future(follow(self.tell))
        try:
            # One tail often comes after another: the log is not opened for each.
            while not following.done() and self._wanted.is_set():
                await asyncio.wait({following}, timeout=RETRY_SECONDS)
        finally:
            following.cancel()
            await asyncio.wait({following})
        if not following.cancelled():
            following.result()
