"""Guards against runaway cardinality: what of a tenant is new, and how much of that may come."""

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

GUARD_REASONS: Final = ("too_many_new_series", "too_many_attribute_keys")


@dataclass(slots=True)
class _Seen:
    max_new: int
    new: int = 0
    lately: set[Hashable] = field(default_factory=set)
    before: set[Hashable] = field(default_factory=set)

    def news(self, sent: AbstractSet[Hashable]) -> int:
        """How many of these are new."""
        return len(sent - self.lately - self.before) if self.max_new else 0

    def remember(self, sent: AbstractSet[Hashable]) -> None:
        """They are known, in this hour and the next."""
        self.new += self.news(sent)
        self.lately |= sent

    def turn(self) -> None:
        """The hour ends."""
        self.before, self.lately, self.new = self.lately, set(), 0


class Guard:
    """What is known of one tenant, and how much that is new it may send in an hour.

    *series_max* and *keys_max* are those limits; 0 is none. Memory has no bound here.
    """

    def __init__(self, *, series_max: int = 0, keys_max: int = 0) -> None:
        self._series = _Seen(series_max)
        self._keys = _Seen(keys_max)

    def excess(self, series: AbstractSet[Hashable], keys: AbstractSet[str]) -> str | None:
        """Why an item with that series (if any) and these keys may not come; None if it may, and
        then they are known from now on."""
        limited = ((self._series, series), (self._keys, keys))
        for (seen, sent), reason in zip(limited, GUARD_REASONS, strict=True):
            news = seen.news(sent)
            if news and seen.new + news > seen.max_new:
                return reason
        self._series.remember(series)
        self._keys.remember(keys)
        return None

    def turn(self) -> None:
        """An hour ends: what was sent in it is known for one more."""
        self._series.turn()
        self._keys.turn()
