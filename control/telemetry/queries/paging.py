"""Pages of items, the newest first, that neither repeat nor skip while data arrives.

A page ends at a time and a hash of the item; of items that are equal in both, the cursor counts how
many were given. It also holds the time range, so that `last=1h` means the same on all pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    between,
    moment,
    sql,
)
from control.telemetry.queries.time_range import TimeRange
from shared.http.models import Text

PAGE_ITEMS: Final = 100
PAGE_ITEMS_MAX: Final = 1_000
# In a request line of 16 KiB, where a character may take twelve bytes.
FILTER_CHARACTERS_MAX: Final = 800


class FilteredQuery(RangeQuery):
    """Which items."""

    filter: Text | None = Field(
        None,
        max_length=FILTER_CHARACTERS_MAX,
        description="a filter as JSON, as in the body of POST /telemetry/query",
        examples=['{"op": "eq", "field": "attributes.http.method", "value": "GET"}'],
    )


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
    """What to page through: rows of *table*, each told from others by *identity*."""

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
    narrowed = [between(column, span.start_ns, span.end_ns), *conditions]
    if place:
        time_ns, identity, skipped = place
        narrowed.append(sql(f"{column} <= ", moment(time_ns)))
        narrowed.append(
            sql(f"{column} < ", moment(time_ns), f" OR {items.identity} <= ", _identity(identity))
        )
    rows = await reading.rows(
        Select(
            columns={
                "time_ns": f"toUnixTimestamp64Nano({column})",
                "identity": items.identity,
                **items.columns,
            },
            source=items.table,
            where=all_of(narrowed),
            order_by=f"{column} DESC, identity DESC",
            limit=query.limit + 1,
            offset=skipped,
        )
    )
    shown = rows[: query.limit]
    next_cursor = None
    if len(rows) > query.limit:
        last = (shown[-1]["time_ns"], shown[-1]["identity"])
        equal = sum(1 for row in shown if (row["time_ns"], row["identity"]) == last)
        if place and last == (place[0], int(place[1])):
            equal += skipped
        next_cursor = cursor_at(reading, query, span, [last[0], str(last[1]), equal])
    return Found(shown, span, next_cursor)


def _identity(text: str) -> Value:
    return Value(int(text), "UInt64")
