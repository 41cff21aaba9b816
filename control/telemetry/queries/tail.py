"""Following what arrives: each look gives what is new since the place where the last one ended.

Items arrive out of order. So a place is more than the position (time, identity) of the last item
that was given in order: it also knows which of the items before that were given, the last
`GIVEN_MAX` of them. What is behind the position is new; what is before it and not among the given
came late. What comes later than `WINDOW_SECONDS` after it happened, or is older than all that the
place knows, is not shown.

A place is all that a tail knows, and goes out with each look as a signed cursor: whoever comes back
with it goes on there, at any process, and gets nothing twice. There is no queue: a reader who is
slow is asked less often, and is told what was left out when more waits than `BACKLOG_MAX`.
"""

import asyncio
import base64
import contextlib
import time
from bisect import insort
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import xxhash

from control.telemetry.arrivals import Arrivals
from control.telemetry.queries.engine import (
    DISCONNECT_POLL_SECONDS,
    RESULT_ROWS_MAX,
    Reading,
)
from control.telemetry.queries.paging import Items
from control.telemetry.queries.sql import Fragment, Part, Select, Value, all_of, during, moment, sql
from control.telemetry.queries.time_range import SECOND_NS
from shared.errors import Invalid, RateLimited

TAIL_SECONDS_MAX: Final = 900
# What comes later than that after it happened is not shown.
WINDOW_SECONDS: Final = 60
# Clocks of senders may be ahead.
AHEAD_SECONDS: Final = 60
# A tail begins with what happened just now.
BEGIN_SECONDS: Final = 5
ITEMS_OF_LOOK_MAX: Final = 500
# As cursors hold them: six bytes each, so that one fits into a header at every proxy.
GIVEN_MAX: Final = 500
_KEY_BYTES: Final = 6
TAIL_CURSOR_CHARACTERS_MAX: Final = 8_000
# Between two looks at least.
PAUSE_SECONDS: Final = 0.2
BACKLOG_MAX: Final = 10_000
TAILS_OF_TENANT_MAX: Final = 5

# Time in nanoseconds, identity.
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many items were not given, from a time on, up to another."""

    items: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Look:
    """What is new, the oldest first."""

    rows: list[dict[str, Any]]
    cursor: str
    left_out: LeftOut | None
    has_more: bool


@dataclass
class _Place:
    """All given items behind *start*, in order; behind *end* none was given."""

    start: Position
    end: Position
    given: list[Position] = field(default_factory=list)

    def give(self, position: Position) -> None:
        insort(self.given, position)
        self.end = max(self.end, position)

    def forget_before(self, position: Position) -> None:
        """Items up to *position* are no longer looked for."""
        self.start, self.end = max(self.start, position), max(self.end, position)
        self.given = [one for one in self.given if one > self.start]

    def trim(self) -> None:
        if len(self.given) > GIVEN_MAX:
            self.forget_before(self.given[-GIVEN_MAX - 1])


@dataclass(frozen=True)
class Followed:
    """What to follow: *question* is what cursors are good for, *cursor* where to go on."""

    signal: str
    items: Items
    conditions: Sequence[Fragment]
    question: str
    cursor: str | None = None


class Tails:
    """Counts those that follow, for each tenant."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._running: dict[str, int] = {}

    async def follow(
        self, reading: Reading, what: Followed, *, seconds: float
    ) -> AsyncGenerator[Look, None]:
        """A look whenever something may have arrived, also when nothing has.

        RateLimited beyond the limit, Invalid for a cursor of another question.
        """
        if self._running.get(reading.tenant, 0) >= TAILS_OF_TENANT_MAX:
            raise RateLimited(
                f"{TAILS_OF_TENANT_MAX} live tails of this tenant run already",
                retry_after_seconds=10.0,
            )
        self._running[reading.tenant] = self._running.get(reading.tenant, 0) + 1
        try:
            with self._arrivals.of(reading.tenant, what.signal) as told:
                until = time.monotonic() + seconds
                tail = _Tail(reading, what)
                await tail.begin()
                while True:
                    told.clear()
                    look = await tail.look()
                    yield look
                    await asyncio.sleep(PAUSE_SECONDS)
                    wait = 0.0 if look.has_more else self._arrivals.look_seconds
                    await _told_or_late(told, min(time.monotonic() + wait, until), reading)
                    is_over = self._arrivals.is_over or reading.is_abandoned()
                    if is_over or time.monotonic() >= until:
                        return
        finally:
            self._running[reading.tenant] -= 1
            if not self._running[reading.tenant]:
                del self._running[reading.tenant]


async def _told_or_late(told: asyncio.Event, until: float, reading: Reading) -> None:
    """Until then at most; less when *told* is set, or the caller has left."""
    while not told.is_set() and not reading.is_abandoned():
        left = until - time.monotonic()
        if left <= 0:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), min(left, DISCONNECT_POLL_SECONDS))


class _Tail:
    def __init__(self, reading: Reading, what: Followed) -> None:
        self._reading = reading
        self._what = what
        begin = (time.time_ns() - BEGIN_SECONDS * SECOND_NS, 0)
        self._place = _Place(begin, begin)

    async def begin(self) -> None:
        """Where the cursor says: its items are found again by their keys."""
        if self._what.cursor is None:
            return
        cursors = self._reading.engine.cursors
        start, end, keys = cursors.read(
            self._reading.tenant, self._what.question, self._what.cursor
        )
        self._place = _Place(_position(start), _position(end))
        rest = Counter(_unpacked(keys))
        columns = {"identity": self._what.items.identity}
        for row in await self._rows(self._before(), columns, limit=RESULT_ROWS_MAX):
            position = (row["time_ns"], row["identity"])
            if rest[_key(position)]:
                rest[_key(position)] -= 1
                self._place.give(position)

    async def look(self) -> Look:
        """What came late, then what is new."""
        place = self._place
        floor = (time.time_ns() - WINDOW_SECONDS * SECOND_NS, 0)
        late = await self._late()
        found, left_out = await self._new()
        rows = late + found
        for row in rows:
            place.give((row["time_ns"], row["identity"]))
        place.trim()
        has_more = max(len(late), len(found)) >= ITEMS_OF_LOOK_MAX
        if not has_more:
            place.forget_before(floor)
        return Look(rows, self._cursor(), left_out, has_more)

    async def _late(self) -> list[dict[str, Any]]:
        """Not given, although before the end."""
        if self._place.end == self._place.start:
            return []
        counted = await self._reading.rows(
            self._select({"items": "count()"}, self._before(), limit=None)
        )
        if counted[0]["items"] == len(self._place.given):
            return []
        limit = ITEMS_OF_LOOK_MAX + len(self._place.given)
        rows = await self._rows(self._before(), self._what.items.columns, limit=limit)
        given, late = Counter(self._place.given), []
        for row in rows:
            position = (row["time_ns"], row["identity"])
            if given[position]:
                given[position] -= 1
            else:
                late.append(row)
        return late[:ITEMS_OF_LOOK_MAX]

    async def _new(self) -> tuple[list[dict[str, Any]], LeftOut | None]:
        columns = self._what.items.columns
        rows = await self._rows(self._behind(), columns, limit=ITEMS_OF_LOOK_MAX)
        if len(rows) < ITEMS_OF_LOOK_MAX:
            return rows, None
        left_out = await self._skip()
        if left_out is None:
            return rows, None
        return await self._rows(self._behind(), columns, limit=ITEMS_OF_LOOK_MAX), left_out

    async def _skip(self) -> LeftOut | None:
        """When too much waits, go on where `BACKLOG_MAX` of it are left."""
        waiting = self._select({"items": "count()"}, self._behind(), limit=None)
        items = (await self._reading.rows(waiting))[0]["items"]
        if items <= BACKLOG_MAX:
            return None
        columns = {"identity": self._what.items.identity}
        (row,) = await self._rows(self._behind(), columns, limit=1, offset=items - BACKLOG_MAX - 1)
        start, end = self._place.end, (row["time_ns"], row["identity"])
        self._place.forget_before(end)
        return LeftOut(items - BACKLOG_MAX, start[0], end[0])

    async def _rows(
        self, within: Fragment, columns: Any, *, limit: int, offset: int = 0
    ) -> list[dict[str, Any]]:
        return await self._reading.rows(
            self._select(
                {
                    "time_ns": f"toUnixTimestamp64Nano({self._what.items.time_column})",
                    "identity": self._what.items.identity,
                    **columns,
                },
                within,
                limit=limit,
                offset=offset,
            )
        )

    def _select(
        self, columns: dict[str, Part], within: Fragment, *, limit: int | None, offset: int = 0
    ) -> Select:
        items = self._what.items
        is_list = limit is not None
        return Select(
            columns=columns,
            source=items.table,
            where=all_of([within, *self._what.conditions]),
            order_by=f"{items.time_column} ASC, identity ASC" if is_list else "",
            limit=limit,
            offset=offset,
        )

    def _before(self) -> Fragment:
        """Behind the start, up to the end."""
        place, column = self._place, self._what.items.time_column
        return all_of(
            [
                self._after(place.start, place.end[0] + 1),
                sql(
                    f"{column} < ", moment(place.end[0]),
                    f" OR {self._what.items.identity} <= ", Value(place.end[1], "UInt64"),
                ),
            ]
        )  # fmt: skip

    def _behind(self) -> Fragment:
        return self._after(self._place.end, time.time_ns() + AHEAD_SECONDS * SECOND_NS)

    def _after(self, position: Position, end_ns: int) -> Fragment:
        table, column = self._what.items.table, self._what.items.time_column
        return all_of(
            [
                # Alone, so that the primary key prunes.
                during(table, column, position[0], end_ns),
                sql(
                    f"{column} > ", moment(position[0]),
                    f" OR {self._what.items.identity} > ", Value(position[1], "UInt64"),
                ),
            ]
        )  # fmt: skip

    def _cursor(self) -> str:
        place = self._place
        keys = b"".join(_key(one) for one in place.given)
        packed = base64.b85encode(keys).decode()
        # Identities are beyond what JSON takes as a number everywhere.
        ends = [[one[0], str(one[1])] for one in (place.start, place.end)]
        return self._reading.engine.cursors.written(
            self._reading.tenant, self._what.question, [*ends, packed]
        )


def _position(written: list[Any]) -> Position:
    return int(written[0]), int(written[1])


def _key(position: Position) -> bytes:
    digest = xxhash.xxh3_64_digest(f"{position[0]}/{position[1]}".encode())
    return digest[:_KEY_BYTES]


def _unpacked(packed: str) -> list[bytes]:
    try:
        keys = base64.b85decode(packed)
    except ValueError:
        raise Invalid("this cursor cannot be read", field="cursor") from None
    return [keys[at : at + _KEY_BYTES] for at in range(0, len(keys), _KEY_BYTES)]
