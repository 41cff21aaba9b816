"""Routes of log records."""

import csv
import io
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import Field

from control.telemetry.api.kit import (
    ANSWER_HEADERS,
    answered,
    answered_in_range,
    send,
    until_broken,
)
from control.telemetry.queries import logs, patterns
from control.telemetry.queries.answers import RangeQuery
from control.telemetry.queries.engine import reading
from shared.http.call import Answer, Call
from shared.http.routes import Routes
from shared.spreadsheets import cell_of

routes = Routes(
    "Telemetry: logs",
    "Log records: search, volume, context, export.",
    is_open_to_keys=True,
    answer_headers=ANSWER_HEADERS,
)

_COLUMNS: Final = (
    *("time", "service", "severityNumber", "severityText", "body", "traceId", "spanId"),
    *("eventName", "attributes", "resourceAttributes"),
)
PIECE_BYTES: Final = 65_536


class LogExport(logs.LogConditions, RangeQuery):
    """Which records, how many of them, and as what."""

    limit: int = Field(logs.EXPORTED_MAX, ge=1, le=logs.EXPORTED_MAX)
    format: Literal["csv", "ndjson"] = Field("ndjson", description="one record on each line")

    @property
    def wanted(self) -> logs.LogFilter:
        """The same records, as a search that has pages."""
        given = self.model_dump(exclude={"limit", "format"}, exclude_none=True, by_alias=True)
        return logs.LogFilter.model_validate(given)


@routes.get("/telemetry/logs", permission="logs:read", query=logs.LogFilter, answer=logs.LogList)
async def list_logs(call: Call, query: logs.LogFilter) -> Answer:
    """List log records, the newest first."""
    return await answered_in_range(call, query, logs.search_logs)


@routes.get(
    "/telemetry/logs/query", permission="logs:read", query=logs.LogFilter, answer=logs.LogList
)
async def query_logs(call: Call, query: logs.LogFilter) -> Answer:
    """Search log records by words, severity, service and filters."""
    return await answered_in_range(call, query, logs.search_logs)


@routes.get(
    "/telemetry/logs/histogram", permission="logs:read", query=logs.VolumeQuery, answer=logs.Volume
)
async def get_log_histogram(call: Call, query: logs.VolumeQuery) -> Answer:
    """Count log records over time, by severity."""
    return await answered_in_range(call, query, logs.log_volume)


@routes.get(
    "/telemetry/logs/context",
    permission="logs:read",
    query=logs.ContextQuery,
    answer=logs.LogContext,
    errors=(404,),
)
async def get_log_context(call: Call, query: logs.ContextQuery) -> Answer:
    """Get the lines of a service around one of its lines."""
    return await answered(call, query, partial(logs.log_context, query=query), span=None)


@routes.get(
    "/telemetry/logs/values", permission="logs:read", query=logs.ValuesQuery, answer=logs.ValueList
)
async def list_log_values(call: Call, query: logs.ValuesQuery) -> Answer:
    """List the most frequent values of a field, with counts."""
    return await answered_in_range(call, query, logs.log_values)


@routes.get(
    "/telemetry/logs/patterns",
    permission="logs:read",
    query=patterns.PatternsQuery,
    answer=patterns.PatternList,
)
async def list_log_patterns(call: Call, query: patterns.PatternsQuery) -> Answer:
    """List what the bodies of log records look like, numbers, ids and the like put aside.

    More than 20 000 records are sampled; the answer says how many were looked at.
    """
    return await answered_in_range(call, query, patterns.log_patterns)


@routes.get(
    "/telemetry/logs/export",
    permission="logs:read",
    query=LogExport,
    content_type="application/x-ndjson",
    other_content_types=("text/csv",),
    item=logs.LogView,
)
async def export_logs(call: Call, query: LogExport) -> web.StreamResponse:
    """Take log records out, the newest first, as NDJSON or CSV; at most 100 000 at once.

    The trailer of a CSV is its last line: a file that was cut short has fewer lines than the search
    counts. Narrow the time to take out more.
    """
    found = reading(call)
    lines = _written(logs.all_logs(found, query.wanted, limit=query.limit), query.format)
    # What is wrong with the question becomes an answer of its own, before the file begins.
    first = await anext(lines, b"")
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8"
            if query.format == "csv"
            else "application/x-ndjson",
            "Content-Disposition": f'attachment; filename="logs.{query.format}"',
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(call.request)
    async with until_broken(call.request):
        await send(response, first)
        async for piece in lines:
            await send(response, piece)
        await response.write_eof()
    return response


async def _written(views: AsyncIterator[logs.LogView], chosen: str) -> AsyncIterator[bytes]:
    """The file in pieces."""
    piece = bytearray(_csv_line(_COLUMNS) if chosen == "csv" else b"")
    async for view in views:
        line = view.model_dump(mode="json", by_alias=True)
        if chosen == "csv":
            piece += _csv_line([cell_of(line[name]) for name in _COLUMNS])
        else:
            piece += orjson.dumps(line) + b"\n"
        if len(piece) > PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _csv_line(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
