"""Turns at the engine: so many queries at a time for each tenant, and turns in order of tenants.

A tenant that asks much waits for itself: when a place is free, the tenants that wait get it in
turn, however many queries each has waiting.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared.errors import RateLimited, Unavailable

# The engine has two to eight cores for this; clients wait shorter in a queue than in contention.
RUNNING_MAX: Final = 12
RUNNING_OF_TENANT_MAX: Final = 4
WAITING_OF_TENANT_MAX: Final = 32
WAIT_SECONDS_MAX: Final = 30.0


class FairQueue:
    """Lends places; a place is given back when the block ends."""

    def __init__(
        self,
        *,
        running_max: int = RUNNING_MAX,
        running_of_tenant_max: int = RUNNING_OF_TENANT_MAX,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self._free = running_max
        self._of_tenant_max = running_of_tenant_max
        self._wait_seconds_max = wait_seconds_max
        self._running: dict[str, int] = {}
        # The tenant whose turn is next comes first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """RateLimited when too many of the tenant wait, Unavailable when the wait is too long."""
        waiting = self._waiting.setdefault(tenant, deque())
        if len(waiting) >= WAITING_OF_TENANT_MAX:
            raise RateLimited(
                f"{WAITING_OF_TENANT_MAX} queries of this tenant wait already",
                retry_after_seconds=1.0,
            )
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        self._lend()
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._wait_seconds_max)
        except TimeoutError:
            self._leave(tenant, turn)
            raise Unavailable("the queries before this one take too long: try again") from None
        except asyncio.CancelledError:
            self._leave(tenant, turn)
            raise
        try:
            yield
        finally:
            self._give_back(tenant)

    def _lend(self) -> None:
        """Give free places to tenants in turn."""
        while self._free:
            tenant = next(
                (
                    one
                    for one, turns in self._waiting.items()
                    if turns and self._running.get(one, 0) < self._of_tenant_max
                ),
                None,
            )
            if tenant is None:
                return
            self._waiting[tenant].popleft().set_result(None)
            self._waiting.move_to_end(tenant)
            self._running[tenant] = self._running.get(tenant, 0) + 1
            self._free -= 1

    def _leave(self, tenant: str, turn: "asyncio.Future[None]") -> None:
        if turn.done():
            self._give_back(tenant)
        else:
            self._waiting[tenant].remove(turn)
            self._forget(tenant)

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._running[tenant] -= 1
        self._forget(tenant)
        self._lend()

    def _forget(self, tenant: str) -> None:
        if not self._running.get(tenant) and not self._waiting.get(tenant):
            self._running.pop(tenant, None)
            self._waiting.pop(tenant, None)
