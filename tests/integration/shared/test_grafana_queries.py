"""What Grafana's ClickHouse data source asks of OpenTelemetry tables, on the views of a tenant.

The statements have the shape that its query builder gives them (plugin 4, its OpenTelemetry
preset): quoted identifiers, aliases that conditions use, times as the backend fills them in.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import pytest

from shared.clickhouse.client import ClickHouse
from shared.clickhouse.views import tenant_database, views_of_tenant
from tests.control.telemetry import DATABASE, store
from tests.control.telemetry_data import (
    MINUTE,
    MS,
    SECOND,
    Line,
    Span,
    logs_request,
    spans_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
FROM, TO = f"toDateTime({NOW // SECOND})", f"toDateTime({NOW // SECOND + 120})"
TRACE = f"{7:032x}"
BUCKET = "toStartOfInterval({}, INTERVAL 60 second)"


def tags(column: str) -> str:
    return f"arrayMap(key -> map('key', key, 'value', {column}[key]), mapKeys({column}))"


class Source:
    """The data source of one tenant."""

    def __init__(self, client: ClickHouse, tenant: str) -> None:
        self._client = client
        self._database = tenant_database(tenant)

    async def ask(self, statement: str) -> Sequence[Sequence[Any]]:
        filled: Mapping[str, str] = {
            name: f'"{self._database}"."{name}"'
            for name in ("otel_logs", "otel_traces", "otel_traces_trace_id_ts")
        }
        return await self._client.query(statement.format(**filled))


@pytest.fixture
async def source(telemetry_store: ClickHouse) -> Source:
    """With a trace of two spans, one of them with an error, and log records beside it."""
    tenant = uuid4().hex
    for statement in views_of_tenant(DATABASE, tenant):
        await telemetry_store.command(statement)
    spans = [
        Span(7, 1, NOW, 20 * MS, name="GET /cart", attributes={"http.route": "/cart"}),
        Span(7, 2, NOW + MS, 5 * MS, parent=1, service="db", name="SELECT", kind=3, status=2),
        Span(8, 3, NOW + MINUTE, 3 * MS, name="GET /"),
    ]
    request = spans_request(spans)
    event = (
        request.resource_spans[1]
        .scope_spans[0]
        .spans[0]
        .events.add(name="exception", time_unix_nano=NOW + 2 * MS)
    )
    event.attributes.add(key="exception.type").value.string_value = "Timeout"
    lines = [
        Line(NOW + 1, "card declined", severity=17, trace=7, span=2, attributes={"card": "visa"}),
        Line(NOW + 2, "cart of 3"),
        Line(NOW + MINUTE, "cart of 4"),
    ]
    logs = logs_request(lines)
    for number, text in enumerate(("ERROR", "INFO", "INFO")):
        logs.resource_logs[number].scope_logs[0].log_records[0].severity_text = text
    for other in (tenant, "another"):
        for signal, sent in (("traces", request), ("logs", logs)):
            await store(telemetry_store, signal, other, sent, received_ns=time.time_ns())
    return Source(telemetry_store, tenant)


@pytest.mark.parametrize(
    ("time_filter", "order"),
    [
        (f"( timestamp >= {FROM} AND timestamp <= {TO} )", "timestamp DESC"),
        (f"( TimestampTime >= {FROM} AND TimestampTime <= {TO} )", "TimestampTime DESC, timestamp"),
    ],
    ids=["preset without TimestampTime", "preset 1.2.9"],
)
async def test_log_search(source: Source, time_filter: str, order: str) -> None:
    select = (
        'SELECT "Timestamp" as "timestamp", "Body" as "body", "SeverityText" as "level", '
        '"LogAttributes" as "labels", "TraceId" as "traceID" FROM {otel_logs} WHERE '
    )

    everything = await source.ask(f"{select}{time_filter} ORDER BY {order} LIMIT 1000")
    found = await source.ask(
        f"{select}{time_filter} AND ( level IN ('ERROR') ) AND ( labels['card'] = 'visa' ) "
        f"AND (body LIKE '%declined%') ORDER BY {order} LIMIT 1000"
    )

    # One preset orders by whole seconds only.
    assert [row[1] for row in everything][:1] == ["cart of 4"]
    assert sorted(row[1] for row in everything[1:]) == ["card declined", "cart of 3"]
    assert [row[1:] for row in found] == [("card declined", "ERROR", {"card": "visa"}, TRACE)]


async def test_the_volume_of_logs_by_level(source: Source) -> None:
    levels = {"error": ["error", "err", "ERROR"], "info": ["info", "INFO", "Info"]}
    sums = ", ".join(
        f'sum(multiSearchAny(toString("level"), {words})) AS "{level}"'
        for level, words in levels.items()
    )
    rows = await source.ask(
        f'SELECT {BUCKET.format(chr(34) + "timestamp" + chr(34))} AS "time", {sums} FROM ('
        'SELECT "Timestamp" as "timestamp", "Body" as "body", "SeverityText" as "level" '
        f'FROM {{otel_logs}}) WHERE "timestamp" >= {FROM} AND "timestamp" <= {TO} '
        'GROUP BY "time" ORDER BY "time" ASC'
    )

    assert [tuple(row[1:]) for row in rows] == [(1, 1), (0, 1)]


async def test_trace_search(source: Source) -> None:
    rows = await source.ask(
        'SELECT "TraceId" as traceID, "ServiceName" as serviceName, "SpanName" as operationName, '
        'multiply(toUnixTimestamp64Nano("Timestamp"), 0.000001) as startTime, '
        'multiply("Duration", 0.000001) as duration FROM {otel_traces} '
        f"WHERE ( Timestamp >= {FROM} AND Timestamp <= {TO} ) AND ( ParentSpanId = '' ) "
        "AND ( Duration > 0 ) ORDER BY Timestamp DESC, Duration DESC LIMIT 1000"
    )

    assert [tuple(row[:3]) for row in rows] == [
        (f"{8:032x}", "web", "GET /"),
        (TRACE, "web", "GET /cart"),
    ]
    assert [row[4] for row in rows] == pytest.approx([3.0, 20.0])
    assert rows[1][3] == pytest.approx(NOW / MS)


# The first is what the plugin asks where it trusts the table of times, the second what it asked
# before that.
@pytest.mark.parametrize(
    "condition",
    [
        'traceID = trace_id AND "Timestamp" >= trace_start AND "Timestamp" <= trace_end',
        "traceID = trace_id AND startTime >= trace_start AND startTime <= trace_end",
    ],
    ids=["by Timestamp", "by startTime"],
)
async def test_a_trace_by_its_id(source: Source, condition: str) -> None:
    rows = await source.ask(
        f"WITH '{TRACE}' as trace_id, "
        "(SELECT min(Start) FROM {otel_traces_trace_id_ts} WHERE TraceId = trace_id) "
        "as trace_start, "
        "(SELECT max(End) + 1 FROM {otel_traces_trace_id_ts} WHERE TraceId = trace_id) "
        "as trace_end "
        'SELECT "TraceId" as traceID, "SpanId" as spanID, "ParentSpanId" as parentSpanID, '
        '"ServiceName" as serviceName, "SpanName" as operationName, "Timestamp" as startTime, '
        'multiply("Duration", 0.000001) as duration, '
        f"{tags(chr(34) + 'SpanAttributes' + chr(34))} as tags, "
        f"{tags(chr(34) + 'ResourceAttributes' + chr(34))} as serviceTags, "
        "if(\"StatusCode\" IN ('Error', 'STATUS_CODE_ERROR'), 2, 0) as statusCode, "
        "arrayMap((name, timestamp, attributes) -> tuple(name, "
        "toString(toUnixTimestamp64Milli(timestamp)), arrayMap(key -> map('key', key, 'value', "
        "attributes[key]), mapKeys(attributes)))::Tuple(name String, timestamp String, "
        'fields Array(Map(String, String))), "Events.Name", "Events.Timestamp", '
        '"Events.Attributes") AS logs, '
        "arrayMap((traceID, spanID, attributes) -> tuple(traceID, spanID, arrayMap(key -> "
        "map('key', key, 'value', attributes[key]), mapKeys(attributes)))::Tuple(traceID String, "
        'spanID String, tags Array(Map(String, String))), "Links.TraceId", "Links.SpanId", '
        '"Links.Attributes") AS references, '
        '"SpanKind" as kind, "StatusMessage" as statusMessage, '
        '"ScopeName" as instrumentationLibraryName, '
        '"ScopeVersion" as instrumentationLibraryVersion, '
        f'"TraceState" as traceState FROM {{otel_traces}} WHERE {condition} '
        "ORDER BY startTime ASC LIMIT 1000"
    )

    root, child = rows
    assert [tuple(row[:5]) for row in rows] == [
        (TRACE, f"{1:016x}", "", "web", "GET /cart"),
        (TRACE, f"{2:016x}", f"{1:016x}", "db", "SELECT"),
    ]
    assert root[7] == [{"key": "http.route", "value": "/cart"}]
    assert root[8] == [{"key": "service.name", "value": "web"}]
    assert [row[9] for row in rows] == [0, 2]
    ((name, milliseconds, fields),) = (tuple(_values(one)) for one in child[10])
    assert (name, int(milliseconds)) == ("exception", (NOW + 2 * MS) // MS)
    assert fields == [{"key": "exception.type", "value": "Timeout"}]
    assert [row[12] for row in rows] == ["Server", "Client"]


def _values(one: Any) -> Any:
    """The driver gives a tuple with names as a dictionary."""
    return one.values() if isinstance(one, dict) else one


async def test_a_time_series_by_service(source: Source) -> None:
    rows = await source.ask(
        f'SELECT {BUCKET.format("Timestamp")} as "time", ServiceName, count(*) as spans, '
        "quantile(0.99)(Duration) as p99 FROM {otel_traces} "
        f"WHERE ( Timestamp >= {FROM} AND Timestamp <= {TO} ) "
        "GROUP BY ServiceName, time ORDER BY time ASC, ServiceName ASC LIMIT 1000"
    )

    assert [tuple(row[1:3]) for row in rows] == [("db", 1), ("web", 1), ("web", 1)]


async def test_what_there_is_to_choose_from(source: Source) -> None:
    columns = await source.ask("DESC TABLE {otel_logs}")
    keys = await source.ask(
        "SELECT DISTINCT arrayJoin(mapKeys(SpanAttributes)) as keys FROM {otel_traces} LIMIT 1000"
    )
    subcolumn = await source.ask(
        "SELECT DISTINCT arrayJoin(LogAttributes.keys) as keys FROM {otel_logs} LIMIT 1000"
    )
    values = await source.ask(
        "SELECT DISTINCT ServiceName FROM {otel_traces} ORDER BY ServiceName LIMIT 1000"
    )

    wanted = {"Timestamp", "Body", "SeverityText", "TraceId", "LogAttributes", "TimestampTime"}
    assert wanted <= {row[0] for row in columns}
    assert [row[0] for row in keys] == ["http.route"]
    assert [row[0] for row in subcolumn] == ["card"]
    assert [row[0] for row in values] == ["db", "web"]
