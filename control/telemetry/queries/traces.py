"""Traces: search, one trace as a waterfall, latency heat map, attribute keys and values."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, SteppedQuery, meta_of
from control.telemetry.queries.catalogue import LOGS, TRACE_TIMES, TRACES, field_of, hex_id
from control.telemetry.queries.engine import Reading, both
from control.telemetry.queries.filters import condition_of, filter_of
from control.telemetry.queries.logs import LINE, LogView, log_view
from control.telemetry.queries.paging import (
    Filtered,
    Items,
    PagedQuery,
    cursor_at,
    page_of,
    place_of,
    slices_of,
)
from control.telemetry.queries.services import bucket_of
from control.telemetry.queries.spans import ATTRIBUTES, REST, SPAN, SpanView, span_fields
from control.telemetry.queries.sql import (
    Fragment,
    Select,
    Value,
    all_of,
    between,
    during,
    moment,
    sql,
    text,
    texts,
)
from control.telemetry.queries.time_range import (
    SECOND_NS,
    TimeRange,
    iso,
)
from control.telemetry.queries.waterfall import Node, services_of, waterfall_of
from shared.errors import NotFound
from shared.http.models import Text, View

SPANS_OF_TRACE_MAX: Final = 10_000
LOGS_OF_TRACE_MAX: Final = 1_000
# Spans of a trace may lie so far outside of the range that one of them was found in.
TRACE_AROUND_NS: Final = 3_600 * SECOND_NS
MS_NS: Final = 1_000_000
_HASH: Final = "cityHash64(TraceId, SpanId)"
SPAN_ITEMS: Final = Items("tf_traces", "Timestamp", _HASH, {**SPAN, **ATTRIBUTES})
_BEFORE_OTHERS: Final = "tuple(ParentSpanId != unhex('0000000000000000'), Timestamp)"


class SpanConditions(Filtered):
    """Which spans."""

    service: Text | None = Field(None, max_length=100)
    operation: Text | None = Field(None, max_length=200)
    status: Literal["Unset", "Ok", "Error"] | None = None
    kind: Literal["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"] | None = (
        None
    )
    min_duration_ms: float | None = Field(None, ge=0, le=1e12)
    max_duration_ms: float | None = Field(None, ge=0, le=1e12)

    def conditions(self) -> list[Fragment]:
        """As SQL."""
        found = [
            sql(f"{column} = ", text(value))
            for column, value in (
                ("ServiceName", self.service),
                ("SpanName", self.operation),
                ("StatusCode", self.status),
                ("SpanKind", self.kind),
            )
            if value is not None
        ]
        if self.min_duration_ms is not None:
            found.append(sql("Duration >= ", Value(round(self.min_duration_ms * MS_NS), "UInt64")))
        if self.max_duration_ms is not None:
            found.append(sql("Duration <= ", Value(round(self.max_duration_ms * MS_NS), "UInt64")))
        if self.filter is not None:
            found.append(condition_of(TRACES, filter_of(self.filter)))
        return found


class SpanFilter(SpanConditions, PagedQuery):
    """Which spans, and where the page before ended."""


class SpanList(View):
    """Spans, the newest first."""

    data: list[SpanView]
    next_cursor: str | None
    meta: MetaView


class TraceSummary(View):
    """A trace at a glance."""

    trace_id: str
    root_service: str
    root_operation: str
    start_time: str
    duration_ns: int
    spans: int
    errors: int
    services: list[str]
    matched_spans: int = Field(description="spans that the search found")


class TraceList(View):
    """Traces with a span that was found, those with the newest such span first."""

    data: list[TraceSummary]
    next_cursor: str | None
    meta: MetaView


class WaterfallSpan(SpanView):
    """A span in its place."""

    depth: int
    offset_ns: int = Field(description="from the beginning of the trace")
    self_ns: int = Field(description="time in which none of its children ran")
    critical_ns: int = Field(description="time in which the trace waited for just this span")
    child_count: int
    is_orphan: bool = Field(description="it names a parent that is not there")


class GapView(View):
    """A time in which a span with children ran and none of them did."""

    span_id: str
    offset_ns: int
    duration_ns: int


class TraceView(View):
    """A trace: spans in the order of a waterfall, parents before children."""

    trace_id: str
    start_time: str
    duration_ns: int
    services: dict[str, int] = Field(description="spans by service")
    spans: list[WaterfallSpan]
    gaps: list[GapView]
    logs: list[LogView] = Field(description="log records of the trace, the oldest first")
    is_truncated: bool = Field(description="it has more spans than are shown")
    meta: MetaView


class TraceQuery(RangeQuery):
    """When the trace was, if it is known: that makes it faster to find."""

    format: Literal["json", "otlp", "jaeger"] = Field(
        "json", description="otlp: OTLP/JSON; jaeger: as Jaeger's API has it"
    )
    with_attributes: bool = Field(True, description="with attributes, events and links")


class HeatmapQuery(SpanConditions, SteppedQuery):
    """Which spans, in which steps."""


class HeatmapCell(View):
    """Spans of a step whose duration is below *durationMs* and not below half of it."""

    time: int
    duration_ms: float
    spans: int
    errors: int


class Heatmap(View):
    """Durations over time; what has no spans has no cell."""

    data: list[HeatmapCell]
    step_seconds: int
    meta: MetaView


async def list_spans(reading: Reading, query: SpanFilter) -> SpanList:
    """A page of spans."""
    found = await page_of(
        reading,
        SPAN_ITEMS,
        query,
        query.conditions(),
    )
    return SpanList(
        data=[SpanView(**span_fields(row)) for row in found.rows],
        next_cursor=found.next_cursor,
        meta=meta_of(reading, found.span, "tf_traces", 0),
    )


async def list_traces(reading: Reading, query: SpanFilter) -> TraceList:
    """A page of traces: first which, then what they are like as a whole."""
    span, place = place_of(reading, query)
    rows = await _newest_traces(reading, query, span, place)
    shown = rows[: query.limit]
    matching = all_of([_during(span), *query.conditions()])
    summaries = await _summaries(reading, [row["trace"] for row in shown], span, matching)
    next_cursor = None
    if len(rows) > query.limit:
        next_cursor = cursor_at(reading, query, span, [shown[-1]["last_ns"], shown[-1]["trace"]])
    return TraceList(
        data=[
            TraceSummary(**summaries[row["trace"]]) for row in shown if row["trace"] in summaries
        ],
        next_cursor=next_cursor,
        meta=meta_of(reading, span, "tf_traces", 0),
    )


def _during(span: TimeRange) -> Fragment:
    return during("tf_traces", "Timestamp", span.start_ns, span.end_ns)


async def _newest_traces(
    reading: Reading, query: SpanFilter, span: TimeRange, place: Sequence[Any]
) -> list[dict[str, Any]]:
    """Which traces, by their last span that fulfils everything: one page, and one more.

    The end of the range is looked at first: the last span of those that are there is the last of
    the whole range too, and traces that are not there come behind them.
    """
    having = None
    pages = span
    if place:
        last, trace = moment(place[0]), text(place[1])
        having = sql("last < ", last, " OR (last = ", last, " AND trace < ", trace, ")")
        pages = TimeRange(span.start_ns, min(place[0] + 1, span.end_ns))
    rows: list[dict[str, Any]] = []
    slices = slices_of(pages)
    while slices:
        part, start_ns = slices.pop(0)
        within = TimeRange(start_ns, span.end_ns)
        rows = await reading.rows(
            Select(
                columns={
                    "trace": "lower(hex(TraceId))",
                    "last": "max(Timestamp)",
                    "last_ns": "toUnixTimestamp64Nano(max(Timestamp))",
                },
                source="tf_traces",
                where=all_of([_during(within), *query.conditions()]),
                looks_first=True,
                group_by=["trace"],
                having=having,
                order_by="last DESC, trace DESC",
                limit=query.limit + 1,
            )
        )
        if len(rows) > query.limit:
            break
        if len(rows) * part <= query.limit:
            # The whole range has few: looking more than twice costs more than it saves.
            del slices[:-1]
    return rows


def _one_of(traces: Sequence[str]) -> Fragment:
    """By the index, which leaves one granule in ten of others; in these ids are told as numbers."""
    by_index = sql("lower(hex(TraceId)) IN ", texts(traces))
    numbers = [int.from_bytes(bytes.fromhex(trace), "little") for trace in traces]
    first = sql("reinterpretAsUInt128(TraceId) IN ", Value(numbers, "Array(UInt128)"))
    return by_index._replace(first=(first,))


async def _summaries(
    reading: Reading, traces: Sequence[str], span: TimeRange, matching: Fragment
) -> dict[str, dict[str, Any]]:
    """What each of *traces* is like, spans a little beyond the range included."""
    if not traces:
        return {}
    around = _during(TimeRange(span.start_ns - TRACE_AROUND_NS, span.end_ns + TRACE_AROUND_NS))
    rows = await reading.rows(
        Select(
            columns={
                "trace": "lower(hex(TraceId))",
                "root_service": f"argMin(ServiceName, {_BEFORE_OTHERS})",
                "root_operation": f"argMin(SpanName, {_BEFORE_OTHERS})",
                "start_ns": "toUnixTimestamp64Nano(min(Timestamp))",
                "end_ns": "max(toUnixTimestamp64Nano(Timestamp) + toInt64(Duration))",
                "spans": "count()",
                "errors": "countIf(StatusCode = 'Error')",
                "services": "arraySort(groupUniqArray(ServiceName))",
                "matched_spans": sql("countIf(", matching, ")"),
            },
            source="tf_traces",
            where=all_of([_one_of(traces), around]),
            looks_first=True,
            group_by=["trace"],
        )
    )
    return {
        row["trace"]: {
            "trace_id": row["trace"],
            "start_time": iso(row["start_ns"]),
            "duration_ns": row["end_ns"] - row["start_ns"],
            **{
                name: row[name]
                for name in (
                    *("root_service", "root_operation", "spans", "errors", "services"),
                    "matched_spans",
                )
            },
        }
        for row in rows
    }


async def spans_of_trace(
    reading: Reading, trace: str, query: TraceQuery, times: TimeRange | None
) -> tuple[list[dict[str, Any]], bool]:
    """All spans as rows, and whether there are more; NotFound when there are none.

    *times*: when they began, where that is known.
    """
    conditions = [sql("lower(hex(TraceId)) = ", text(hex_id(trace, 32)))]
    if times is not None:
        conditions.append(_during(times))
    columns = dict(SPAN)
    if query.with_attributes or query.format != "json":
        columns |= ATTRIBUTES
    if query.format == "otlp":
        columns |= REST
    rows = await reading.rows(
        Select(
            columns=columns,
            source="tf_traces",
            where=all_of(conditions),
            order_by="Timestamp ASC, span ASC",
            limit=SPANS_OF_TRACE_MAX + 1,
        )
    )
    if not rows:
        raise NotFound("no such trace: its spans may still be on their way, or have expired")
    return rows[:SPANS_OF_TRACE_MAX], len(rows) > SPANS_OF_TRACE_MAX


async def times_of_trace(reading: Reading, trace: str, query: TraceQuery) -> TimeRange | None:
    """When its spans began: as was noted when they were stored, else about what the caller says.

    None when neither is there: a note may have expired before the last span did.
    """
    noted = await reading.rows(
        Select(
            columns={
                "notes": "count()",
                "first": "toUnixTimestamp(min(Start))",
                "last": "toUnixTimestamp(max(End))",
            },
            source=TRACE_TIMES,
            where=sql(text(hex_id(trace, 32))),
        )
    )
    if noted[0]["notes"]:
        first, last = noted[0]["first"], noted[0]["last"]
        return TimeRange(first * SECOND_NS, (last + 1) * SECOND_NS)
    if query.start_time is None and query.last is None:
        return None
    span = query.span
    return TimeRange(span.start_ns - TRACE_AROUND_NS, span.end_ns + TRACE_AROUND_NS)


async def get_trace(
    reading: Reading, trace: str, query: TraceQuery, *, with_logs: bool = True
) -> TraceView:
    """The waterfall, with the log records of the trace."""
    times = await times_of_trace(reading, trace, query)
    logs: list[LogView] = []
    if times is None or not with_logs:
        rows, is_truncated = await spans_of_trace(reading, trace, query, times)
    else:
        (rows, is_truncated), logs = await both(
            spans_of_trace(reading, trace, query, times), _logs_of(reading, trace, times)
        )
    found = waterfall_of(rows)
    span = TimeRange(found.start_ns, found.end_ns + 1)
    if with_logs and (times is None or span.end_ns > times.end_ns + TRACE_AROUND_NS):
        logs = await _logs_of(reading, trace, span)
    return TraceView(
        trace_id=hex_id(trace, 32),
        start_time=iso(found.start_ns),
        duration_ns=found.end_ns - found.start_ns,
        services=services_of(found.nodes),
        spans=[_waterfall_span(node, found.start_ns) for node in found.nodes],
        gaps=[
            GapView(
                span_id=gap.span,
                offset_ns=gap.start_ns - found.start_ns,
                duration_ns=gap.end_ns - gap.start_ns,
            )
            for gap in found.gaps
        ],
        logs=logs,
        is_truncated=is_truncated,
        meta=meta_of(reading, span, "tf_traces", 0),
    )


def _waterfall_span(node: Node, start_ns: int) -> WaterfallSpan:
    return WaterfallSpan(
        **span_fields(node.row),
        depth=node.depth,
        offset_ns=node.start_ns - start_ns,
        self_ns=node.self_ns,
        critical_ns=node.critical_ns,
        child_count=len(node.children),
        is_orphan=node.is_orphan,
    )


async def _logs_of(reading: Reading, trace: str, span: TimeRange) -> list[LogView]:
    rows = await reading.rows(
        Select(
            columns=LINE,
            source="tf_logs",
            where=all_of(
                [
                    sql(field_of(LOGS, "traceId").expression, " = ", text(hex_id(trace, 32))),
                    between(
                        "Timestamp", span.start_ns - TRACE_AROUND_NS, span.end_ns + TRACE_AROUND_NS
                    ),
                ]
            ),
            order_by="Timestamp ASC",
            limit=LOGS_OF_TRACE_MAX,
        )
    )
    return [log_view(row) for row in rows]


async def heatmap(reading: Reading, query: HeatmapQuery) -> Heatmap:
    """Durations by powers of two of a microsecond, over time."""
    span = query.span
    step = query.step_seconds()
    grid = query.grid(span, step)
    rows = await reading.rows(
        Select(
            columns={
                "bucket": bucket_of(grid, "Timestamp"),
                "power": "roundToExp2(intDiv(Duration, 1000))",
                "spans": "count()",
                "errors": "countIf(StatusCode = 'Error')",
            },
            source="tf_traces",
            where=all_of([_during(span), *query.conditions()]),
            group_by=["bucket", "power"],
            order_by="bucket ASC, power ASC",
        )
    )
    data = [
        HeatmapCell(
            time=row["bucket"] // MS_NS,
            duration_ms=max(row["power"] * 2, 1) / 1000,
            spans=row["spans"],
            errors=row["errors"],
        )
        for row in rows
    ]
    return Heatmap(data=data, step_seconds=step, meta=meta_of(reading, span, "tf_traces", 0))
