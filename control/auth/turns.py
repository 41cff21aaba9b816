"""One after another: attempts at the same thing from the same place take turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from shared.errors import RateLimited

# More than a person's devices; a flood gets an answer instead of a place in the line.
WAITING_MAX: Final = 20


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Turns:
    """Without them many right passwords in one moment would look like many guesses."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], _Turn] = {}

    @asynccontextmanager
    async def of(self, *key: str) -> AsyncIterator[None]:
        """Within the block nobody else of this process has the turn of *key*."""
        name = (key[0].strip().lower(), "|".join(key[1:]))
        turn = self._turns.setdefault(name, _Turn())
        if turn.waiting >= WAITING_MAX:
            raise RateLimited("too many sign-ins at once: wait a moment", retry_after_seconds=1)
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(name, None)
