"""The requests that this gateway has under way or made durable lately.

A client that saw no answer sends the same request again. Here it joins the answer under way, or is
told at once that its request was stored. What this gateway does not remember, or another gateway
took, the writer recognises in the log (`ingest.repeats`): this memory only spares the work, and
tells the client.
"""

import asyncio
from collections import OrderedDict
from time import monotonic
from typing import Final

# About 22 MB of memory at most, whatever the writer remembers.
REQUESTS_MAX: Final = 100_000


class RecentRequests:
    """Remembers requests by identity (bytes that include tenant and signal).

    With a window of nothing each request is made durable as often as it comes, unless the same
    one is under way.
    """

    def __init__(self, *, window_seconds: float, requests_max: int = REQUESTS_MAX) -> None:
        self._window_seconds = window_seconds
        self._requests_max = requests_max
        # Under way, with what repeats wait for once there are any.
        self._pending: dict[bytes, asyncio.Future[bool] | None] = {}
        # Oldest first. The first entry of a plain dict is found behind all that were deleted before
        # it: with as many as these, that took longer than the rest of a small request.
        self._durable: OrderedDict[bytes, float] = OrderedDict()

    async def claim(self, identity: bytes) -> bool:
        """True: the caller makes the request durable, and calls `end`. False: it is durable.

        Waits while another caller has the claim.
        """
        while identity in self._pending:
            pending = self._pending[identity]
            if pending is None:
                pending = asyncio.get_running_loop().create_future()
                self._pending[identity] = pending
            if await asyncio.shield(pending):
                return False
        stored_at = self._durable.get(identity)
        if stored_at is not None and stored_at >= monotonic() - self._window_seconds:
            return False
        self._pending[identity] = None
        return True

    def end(self, identity: bytes, *, durable: bool) -> None:
        """The request is durable, or it is not known to be."""
        pending = self._pending.pop(identity)
        if pending is not None:
            pending.set_result(durable)
        if durable and self._window_seconds:
            now = monotonic()
            self._durable.pop(identity, None)
            self._durable[identity] = now
            self._forget(now)

    def _forget(self, now: float) -> None:
        while self._durable:
            identity, stored_at = next(iter(self._durable.items()))
            if len(self._durable) <= self._requests_max and (
                stored_at >= now - self._window_seconds
            ):
                return
            del self._durable[identity]
