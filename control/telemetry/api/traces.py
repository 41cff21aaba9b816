"""Routes of spans and traces."""

import orjson

from control.telemetry.api.kit import ANSWER_HEADERS, answered_in_range
from control.telemetry.queries import attributes, traces
from control.telemetry.queries.engine import reading
from control.telemetry.queries.logs import ValueList
from control.telemetry.queries.otlp import jaeger_of, otlp_of
from shared.http.call import Answer, Call
from shared.http.models import View
from shared.http.routes import Routes

routes = Routes(
    "Telemetry: traces",
    "Spans and traces: search, waterfall, latencies.",
    is_open_to_keys=True,
    answer_headers=ANSWER_HEADERS,
)


@routes.get(
    "/telemetry/traces", permission="traces:read", query=traces.SpanFilter, answer=traces.TraceList
)
async def list_traces(call: Call, query: traces.SpanFilter) -> Answer:
    """List traces that have a span as described, the newest first."""
    return await answered_in_range(call, query, traces.list_traces)


@routes.get(
    "/telemetry/spans", permission="traces:read", query=traces.SpanFilter, answer=traces.SpanList
)
async def list_spans(call: Call, query: traces.SpanFilter) -> Answer:
    """List spans, the newest first."""
    return await answered_in_range(call, query, traces.list_spans)


@routes.get(
    "/telemetry/traces/heatmap",
    permission="traces:read",
    query=traces.HeatmapQuery,
    answer=traces.Heatmap,
)
async def get_latency_heatmap(call: Call, query: traces.HeatmapQuery) -> Answer:
    """Count spans by duration over time."""
    return await answered_in_range(call, query, traces.heatmap)


@routes.get(
    "/telemetry/traces/{trace}",
    permission="traces:read",
    query=traces.TraceQuery,
    answer=traces.TraceView,
)
async def get_trace(call: Call, query: traces.TraceQuery) -> View | Answer:
    """Get a trace as a waterfall, with critical path, gaps and log records.

    The records are left out for who may not read logs (`logs:read`). With `format=otlp` or
    `format=jaeger`, in those shapes instead.
    """
    trace, with_logs = call.text("trace"), call.caller.may("logs:read")
    found = reading(call)
    if query.format == "json":
        return await traces.get_trace(found, trace, query, with_logs=with_logs)
    times = await traces.times_of_trace(found, trace, query)
    rows, _ = await traces.spans_of_trace(found, trace, query, times)
    return Answer(orjson.dumps(otlp_of(rows) if query.format == "otlp" else jaeger_of(rows)))


@routes.get(
    "/telemetry/attributes",
    permission="traces:read",
    query=attributes.KeysQuery,
    answer=attributes.KeyList,
)
async def list_attribute_keys(call: Call, query: attributes.KeysQuery) -> Answer:
    """List the attributes of spans or log records; the latter need `logs:read` too."""
    if query.signal == "logs":
        call.caller.require("logs:read")
    return await answered_in_range(call, query, attributes.list_keys)


@routes.get(
    "/telemetry/spans/values",
    permission="traces:read",
    query=attributes.SpanValuesQuery,
    answer=ValueList,
)
async def list_span_values(call: Call, query: attributes.SpanValuesQuery) -> Answer:
    """List the most frequent values of a field of spans, with counts."""
    return await answered_in_range(call, query, attributes.span_values)
