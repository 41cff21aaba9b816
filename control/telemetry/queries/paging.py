"""Pages of items, the newest first, that neither repeat nor skip while data arrives.

A page ends at a time and a hash of the item; of items that are equal in both, the cursor counts how
many were given. It also holds the time range, so that `last=1h` means the same on all pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import Field

from control.telemetry.queries.answers import RangeQuery
from control.telemetry.queries.cursors import CURSOR_CHARACTERS_MAX
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.sql import (
    Fragment,
    Part,
    Select,
    Value,
    all_of,
    during,
    moment,
    sql,
)
from control.telemetry.queries.time_range import SECOND_NS, TimeRange
from shared.http.models import Query, Text

PAGE_ITEMS: Final = 100
PAGE_ITEMS_MAX: Final = 1_000
# Rows are looked up by so many times one by one, else by the oldest of them.
EXACT_TIMES_MAX: Final = 150
# Every part of a table is read at its end before the newest rows are known; so they are looked for
# in a 32nd of a long range first, then in a quarter of it; of days, in a 256th before. By how long
# (s) the range is at least.
_SLICES: Final = {256: 64 * 3_600, 32: 900, 4: 900, 1: 0}
# In a request line of 16 KiB, where a character may take twelve bytes.
FILTER_CHARACTERS_MAX: Final = 800


class Filtered(Query):
    """Which items."""

    filter: Text | None = Field(
        None,
        max_length=FILTER_CHARACTERS_MAX,
        description="a filter as JSON, as in the body of POST /telemetry/query",
        examples=['{"op": "eq", "field": "attributes.http.method", "value": "GET"}'],
    )


class FilteredQuery(RangeQuery, Filtered):
    """Which items, and when."""


class PagedQuery(FilteredQuery):
    """Which items, and where the page before ended."""

    limit: int = Field(PAGE_ITEMS, ge=1, le=PAGE_ITEMS_MAX)
    cursor: str | None = Field(
        None, max_length=CURSOR_CHARACTERS_MAX, description="nextCursor of the page before"
    )

    @property
    def question(self) -> str:
        """What a cursor is good for: all parameters but the page's."""
        asked = self.model_dump_json(exclude={"cursor", "limit"})
        return f"{type(self).__name__} {asked}"


@dataclass(frozen=True, slots=True)
class Items:
    """What to page through: rows of *table*, each told from others by *identity*.

    Columns are not read of all rows that are looked at: first the times of the page are found, then
    the rows of these times.
    """

    table: str
    time_column: str
    identity: str
    columns: Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class Found:
    """A page."""

    rows: list[dict[str, Any]]
    span: TimeRange
    next_cursor: str | None


def place_of(reading: Reading, query: PagedQuery) -> tuple[TimeRange, list[Any]]:
    """The range, and where in it to go on; a cursor brings both."""
    if query.cursor is None:
        return query.span, []
    start, end, *place = reading.engine.cursors.read(reading.tenant, query.question, query.cursor)
    return TimeRange(start, end), place


def cursor_at(reading: Reading, query: PagedQuery, span: TimeRange, place: Sequence[Any]) -> str:
    """A cursor for the next page."""
    return reading.engine.cursors.written(
        reading.tenant, query.question, [span.start_ns, span.end_ns, *place]
    )


async def page_of(
    reading: Reading, items: Items, query: PagedQuery, conditions: Sequence[Fragment]
) -> Found:
    """The next page of the items that fulfil *conditions*."""
    span, place = place_of(reading, query)
    column = items.time_column
    skipped = 0
    end_ns = span.end_ns
    behind: list[Fragment] = []
    if place:
        time_ns, identity, skipped = place
        end_ns = min(end_ns, time_ns + 1)
        behind = [
            sql(f"{column} < ", moment(time_ns), f" OR {items.identity} <= ", _identity(identity))
        ]
    within = TimeRange(span.start_ns, end_ns)
    rows = await _newest(reading, items, within, (conditions, behind), (query.limit + 1, skipped))
    shown = rows[: query.limit]
    next_cursor = None
    if len(rows) > query.limit:
        last = (shown[-1]["time_ns"], shown[-1]["identity"])
        equal = sum(1 for row in shown if (row["time_ns"], row["identity"]) == last)
        if place and last == (place[0], int(place[1])):
            equal += skipped
        next_cursor = cursor_at(reading, query, span, [last[0], str(last[1]), equal])
    return Found(shown, span, next_cursor)


async def _newest(
    reading: Reading,
    items: Items,
    span: TimeRange,
    asked: tuple[Sequence[Fragment], Sequence[Fragment]],
    counts: tuple[int, int],
) -> list[dict[str, Any]]:
    """The newest rows of *span* that fulfil everything: so many, after so many that are skipped."""
    limit, skipped = counts
    conditions, behind = asked
    column = items.time_column
    within = [during(items.table, column, span.start_ns, span.end_ns), *conditions]
    page = Select(
        columns={
            "time_ns": f"toUnixTimestamp64Nano({column})",
            "identity": items.identity,
            **items.columns,
        },
        source=items.table,
        where=all_of([*within, *behind]),
        looks_first=True,
        order_by=f"{column} DESC, identity DESC",
        limit=limit,
        offset=skipped,
    )
    newest = await _newest_times(reading, items, span, conditions, limit + skipped)
    if newest is None:
        return await reading.rows(page)
    if not newest:
        return []
    times = list(dict.fromkeys(newest))
    if len(times) > EXACT_TIMES_MAX:
        of_times = sql(f"{column} >= ", moment(times[-1]))
    else:
        of_times = sql(f"toUnixTimestamp64Nano({column}) IN ", Value(times, "Array(Int64)"))
    rows = await reading.rows(replace(page, where=all_of([*within, *behind, of_times])))
    if len(rows) < limit and len(newest) == limit + skipped:
        # Rows of a time at which the page before ended took the places of older ones.
        return await reading.rows(page)
    return rows


def slices_of(span: TimeRange) -> list[tuple[int, int]]:
    """Which part of a range its end is, and from when on; the last is the whole."""
    length_ns = span.end_ns - span.start_ns
    return [
        (part, span.end_ns - length_ns // part)
        for part, seconds_min in _SLICES.items()
        if length_ns >= seconds_min * SECOND_NS
    ]


async def _newest_times(
    reading: Reading, items: Items, span: TimeRange, conditions: Sequence[Fragment], limit: int
) -> list[int] | None:
    """The times of the newest rows, the newest first: looked for in the end of the range first.

    None when that tells that the whole range has few: then looking twice costs more than it saves.
    """
    column = items.time_column
    found: list[int] = []
    end_ns = span.end_ns
    for part, start_ns in slices_of(span):
        rows = await reading.rows(
            Select(
                columns={"time_ns": f"toUnixTimestamp64Nano({column})"},
                source=items.table,
                where=all_of([during(items.table, column, start_ns, end_ns), *conditions]),
                looks_first=True,
                order_by=f"{column} DESC",
                limit=limit - len(found),
            )
        )
        found += [row["time_ns"] for row in rows]
        if len(found) >= limit:
            break
        if part > 1 and end_ns == span.end_ns and len(found) * part < limit:
            return None
        end_ns = start_ns
    return found


def _identity(text: str) -> Value:
    return Value(int(text), "UInt64")
