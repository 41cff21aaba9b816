"""Rate limits: so many requests in so many seconds, for each user or address.

The generic cell rate algorithm: one number for each key, no burst at the change of a window. Counts
are those of this process; several API processes each allow the limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.errors import RateLimited

# A key is some 200 bytes; the one that was quiet the longest is forgotten first.
KEYS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit after a request."""

    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int

    def headers(self) -> dict[str, str]:
        """As X-RateLimit headers and as the RateLimit fields of the IETF's draft."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_seconds}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_seconds}',
        }


class Throttle:
    """*limit* requests in *window_seconds* for each key."""

    def __init__(
        self, limit: int, window_seconds: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._seconds_each = window_seconds / limit
        self._clock = clock
        # For each key, when its allowance will be whole again.
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> Allowance:
        """Count one request; RateLimited when there is none left."""
        now = self._clock()
        whole_at = max(self._whole_at.pop(key, now), now) + self._seconds_each
        excess_seconds = whole_at - now - self._window_seconds
        if excess_seconds > 1e-9:
            self._whole_at[key] = whole_at - self._seconds_each
            raise RateLimited(
                f"more than {self._limit} requests in {self._window_seconds} s",
                retry_after_seconds=max(1.0, excess_seconds),
            )
        self._whole_at[key] = whole_at
        if len(self._whole_at) > KEYS_MAX:
            self._whole_at.popitem(last=False)
        return Allowance(
            limit=self._limit,
            remaining=int((self._window_seconds - (whole_at - now)) / self._seconds_each + 1e-6),
            reset_seconds=max(0, round(whole_at - now)),
            window_seconds=self._window_seconds,
        )
