"""How long to wait before the next try: decorrelated jitter.

Each wait is random between the base and three times the wait before, up to a cap: tries of many
processes spread out instead of falling together on a server that has just come back.
"""

import random
from collections.abc import Callable
from typing import Final

WAIT_SECONDS_MIN: Final = 0.1
WAIT_SECONDS_MAX: Final = 30.0


class Backoff:
    """Waits of one series of tries of one thing."""

    def __init__(
        self,
        *,
        seconds_min: float = WAIT_SECONDS_MIN,
        seconds_max: float = WAIT_SECONDS_MAX,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._seconds_min = seconds_min
        self._seconds_max = seconds_max
        self._uniform = uniform
        self._last = seconds_min

    def next_seconds(self) -> float:
        """How long to wait now: from the base up to the cap."""
        self._last = min(self._seconds_max, self._uniform(self._seconds_min, self._last * 3))
        return self._last
