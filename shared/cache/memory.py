"""The first level of the cache: a bounded part of the memory of this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.cache.keys import is_one_key, key_matcher
from shared.cache.metrics import EVICTIONS, HitCount

# What an entry takes beyond its text: two objects' headers, the entry and its place in the table.
ENTRY_OVERHEAD_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    expires_at: float  # on the clock of the cache


class MemoryCache:
    """Keeps the entries that were used last, bounded in number and in bytes.

    An entry that has expired is never returned; it takes room until it is looked up or evicted.
    """

    def __init__(
        self, *, items_max: int, bytes_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.items_max = items_max
        self.bytes_used = 0
        self.hits = HitCount("l1")
        self._bytes_max = bytes_max
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def get(self, key: str) -> bytes | None:
        """The value under *key*, unless it expired."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() >= entry.expires_at:
            self._remove(key)
            entry = None
        if entry is None:
            self.hits.miss()
            return None
        self._entries.move_to_end(key)
        self.hits.hit()
        return entry.value

    def set(self, key: str, value: bytes, *, ttl_seconds: float) -> None:
        """Keep *value* for *ttl_seconds*, in place of what was there; evicts what room it needs.

        A value that has no room even alone is not kept.
        """
        self._remove(key)
        if _bytes_of(key, value) > self._bytes_max:
            return
        self._entries[key] = _Entry(value, self._clock() + ttl_seconds)
        self.bytes_used += _bytes_of(key, value)
        while len(self._entries) > self.items_max or self.bytes_used > self._bytes_max:
            self._remove(next(iter(self._entries)))
            EVICTIONS.inc()

    def delete(self, pattern: str) -> int:
        """Forget the keys that *pattern* names (see shared.cache.keys); returns how many."""
        if is_one_key(pattern):
            return self._remove(pattern)
        return sum(self._remove(key) for key in filter(key_matcher(pattern), tuple(self._entries)))

    def _remove(self, key: str) -> int:
        entry = self._entries.pop(key, None)
        if entry is None:
            return 0
        self.bytes_used -= _bytes_of(key, entry.value)
        return 1


def _bytes_of(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD_BYTES
