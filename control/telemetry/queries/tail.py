"""Following what arrives: the newest items, again and again, each of them once.

Each look covers the last while, because items arrive later than they happened; those that were
given already are known by time and identity. Of more than a look can take, the newest are given.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from control.telemetry.queries.engine import Reading
from control.telemetry.queries.paging import Items
from control.telemetry.queries.sql import Fragment, Select, all_of, between
from control.telemetry.queries.time_range import SECOND_NS
from shared.errors import RateLimited

TAIL_SECONDS_MAX: Final = 900
LOOK_SECONDS: Final = 1.0
# What arrives later than this after it happened is not shown.
WINDOW_SECONDS: Final = 60
# Clocks of senders may be ahead.
AHEAD_SECONDS: Final = 60
ITEMS_OF_LOOK_MAX: Final = 500
TAILS_OF_TENANT_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What is new, the oldest first; *is_partial*: there was more than is shown."""

    rows: list[dict[str, Any]]
    is_partial: bool


class Tails:
    """Counts those that follow, for each tenant."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}

    async def follow(
        self, reading: Reading, items: Items, conditions: Sequence[Fragment], *, seconds: float
    ) -> AsyncGenerator[Look, None]:
        """A look each second, also when there is nothing new; RateLimited beyond the limit."""
        if self._running.get(reading.tenant, 0) >= TAILS_OF_TENANT_MAX:
            raise RateLimited(
                f"{TAILS_OF_TENANT_MAX} live tails of this tenant run already",
                retry_after_seconds=10.0,
            )
        self._running[reading.tenant] = self._running.get(reading.tenant, 0) + 1
        try:
            given: dict[tuple[int, int], None] = {}
            begun_ns = time.time_ns()
            until = time.monotonic() + seconds
            while time.monotonic() < until and not reading.is_abandoned():
                yield await _look(reading, items, conditions, given, begun_ns)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._running[reading.tenant] -= 1


async def _look(
    reading: Reading,
    items: Items,
    conditions: Sequence[Fragment],
    given: dict[tuple[int, int], None],
    begun_ns: int,
) -> Look:
    now = time.time_ns()
    start = max(begun_ns - 5 * SECOND_NS, now - WINDOW_SECONDS * SECOND_NS)
    column = items.time_column
    rows = await reading.rows(
        Select(
            columns={
                "time_ns": f"toUnixTimestamp64Nano({column})",
                "identity": items.identity,
                **items.columns,
            },
            source=items.table,
            where=all_of([between(column, start, now + AHEAD_SECONDS * SECOND_NS), *conditions]),
            order_by=f"{column} DESC, identity DESC",
            limit=ITEMS_OF_LOOK_MAX + 1,
        )
    )
    shown = rows[:ITEMS_OF_LOOK_MAX]
    new = [row for row in shown if (row["time_ns"], row["identity"]) not in given]
    given.update(((row["time_ns"], row["identity"]), None) for row in new)
    for key in [key for key in given if key[0] < start]:
        del given[key]
    is_partial = len(rows) > ITEMS_OF_LOOK_MAX and len(new) == ITEMS_OF_LOOK_MAX
    return Look(new[::-1], is_partial)
