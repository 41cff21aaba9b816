"""Traces over the API: search, waterfall, other shapes."""

import json
import time
from collections import Counter
from random import Random
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict

from control.telemetry.queries.sql import Rendering, Select, during
from tests.control.telemetry import DATABASE, Explorer, store
from tests.control.telemetry_data import (
    MINUTE,
    MS,
    SECOND,
    Line,
    Span,
    logs_request,
    spans_request,
    trace_id,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
RANGE = f"startTime={NOW - MINUTE}&endTime={NOW + 10 * MINUTE}"


async def _store_spans(explorer: Explorer, spans: list[Span]) -> Any:
    request = spans_request(spans)
    await store(explorer.store, "traces", explorer.tenant, request, received_ns=time.time_ns())
    return request


async def test_a_trace_is_a_tree_with_its_critical_path_and_its_log_records(
    explorer: Explorer,
) -> None:
    await _store_spans(
        explorer,
        [
            Span(7, 3, NOW + 60 * MS, 30 * MS, parent=1, service="payments"),
            Span(7, 1, NOW, 100 * MS),
            Span(7, 2, NOW + 10 * MS, 30 * MS, parent=1, service="checkout", status=2),
            Span(7, 9, NOW + 20 * MS, MS, parent=8, service="lost"),
        ],
    )
    lines = [Line(NOW + 5 * MS, "begun", trace=7, span=1), Line(NOW, "of another", trace=8)]
    await store(
        explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=time.time_ns()
    )

    answer = await explorer.client.get(f"/telemetry/traces/{trace_id(7).hex()}")

    assert answer.status == 200, answer.text
    found = answer.json
    assert [one["spanId"][-1] for one in found["spans"]] == ["1", "2", "3", "9"]
    assert [one["depth"] for one in found["spans"]] == [0, 1, 1, 0]
    assert [one["criticalNs"] // MS for one in found["spans"]] == [40, 30, 30, 1]
    assert [one["isOrphan"] for one in found["spans"]] == [False, False, False, True]
    assert [(one["offsetNs"] // MS, one["durationNs"] // MS) for one in found["gaps"]] == [
        (0, 10),
        (40, 20),
        (90, 10),
    ]
    assert [one["body"] for one in found["logs"]] == ["begun"]
    assert found["services"] == {"web": 1, "checkout": 1, "payments": 1, "lost": 1}


async def test_S33_a_trace_of_another_tenant_is_unknown(explorer: Explorer) -> None:
    assert explorer.other is not None
    await _store_spans(explorer, [Span(77, 1, NOW)])

    foreign = await explorer.other.client.get(f"/telemetry/traces/{trace_id(77).hex()}")
    unknown = await explorer.other.client.get(f"/telemetry/traces/{'ab' * 16}")
    wrong = await explorer.client.get("/telemetry/traces/xyz")

    assert (foreign.status, unknown.status, wrong.status) == (404, 404, 400)
    assert foreign.json["detail"] == unknown.json["detail"]


async def test_spans_are_found_by_what_they_are(explorer: Explorer) -> None:
    await _store_spans(
        explorer,
        [
            Span(1, 1, NOW, 10 * MS, attributes={"http.method": "GET", "size": 5, "ok": True}),
            Span(2, 1, NOW + 1, 90 * MS, attributes={"http.method": "POST", "size": 50}),
            Span(3, 1, NOW + 2, 20 * MS, service="checkout", name="Pay", status=2),
        ],
    )
    cases: list[tuple[str, list[int]]] = [
        ("service=checkout", [3]),
        ("operation=Pay&status=Error", [3]),
        ("minDurationMs=20", [3, 2]),
        ("maxDurationMs=20", [3, 1]),
        (_filter({"op": "eq", "field": "attributes.http.method", "value": "POST"}), [2]),
        (_filter({"op": "ne", "field": "attributes.http.method", "value": "POST"}), [1]),
        (_filter({"op": "gt", "field": "attributes.size", "value": 9}), [2]),
        (_filter({"op": "eq", "field": "attributes.size", "value": 5.0}), [1]),
        (_filter({"op": "eq", "field": "attributes.ok", "value": True}), [1]),
        (_filter({"op": "exists", "field": "attributes.size"}), [2, 1]),
        (_filter({"op": "not", "filter": {"op": "exists", "field": "attributes.size"}}), [3]),
        (_filter({"op": "in", "field": "attributes.http.method", "values": ["GET", "PUT"]}), [1]),
        (_filter({"op": "regex", "field": "attributes.http.method", "value": "^P"}), [2]),
        (_filter({"op": "ge", "field": "durationNs", "value": 20 * MS}), [3, 2]),
        (_filter({"op": "eq", "field": "traceId", "value": trace_id(2).hex().upper()}), [2]),
    ]
    for parameters, expected in cases:
        answer = await explorer.client.get(f"/telemetry/spans?{RANGE}&{parameters}")
        assert answer.status == 200, (parameters, answer.text)
        traces = [int(one["traceId"], 16) for one in answer.json["data"]]
        assert traces == expected, parameters


def _filter(given: Any) -> str:
    return f"filter={quote(json.dumps(given))}"


async def test_traces_are_listed_whole_though_one_span_was_found(explorer: Explorer) -> None:
    for number in range(5):
        start = NOW + number * SECOND
        await _store_spans(
            explorer,
            [
                Span(number + 1, 1, start, 100 * MS, name="GET /cart"),
                Span(number + 1, 2, start + MS, 5 * MS, parent=1, service="checkout", status=2),
            ],
        )

    first = await explorer.client.get(f"/telemetry/traces?service=checkout&limit=3&{RANGE}")
    second = await explorer.client.get(
        f"/telemetry/traces?service=checkout&limit=3&{RANGE}&cursor={first.json['nextCursor']}"
    )

    assert [int(one["traceId"], 16) for one in first.json["data"]] == [5, 4, 3]
    assert [int(one["traceId"], 16) for one in second.json["data"]] == [2, 1]
    assert second.json["nextCursor"] is None
    one = first.json["data"][0]
    assert (one["rootService"], one["rootOperation"]) == ("web", "GET /cart")
    assert (one["spans"], one["errors"], one["matchedSpans"]) == (2, 1, 1)
    assert (one["durationNs"], one["services"]) == (100 * MS, ["checkout", "web"])


async def test_a_page_of_many_traces_is_whole(explorer: Explorer) -> None:
    now = time.time_ns()
    spans = [Span(number, 1, now - number * MS) for number in range(1, 401)]
    request = spans_request(spans)
    await store(explorer.store, "traces", explorer.tenant, request, received_ns=now)

    found = await explorer.client.get("/telemetry/traces?limit=300&last=15m")

    assert found.status == 200, found.text
    assert [one["traceId"] for one in found.json["data"]] == [
        f"{number:032x}" for number in range(1, 301)
    ]
    assert found.json["nextCursor"]


async def test_S47_pages_of_a_long_range_give_each_once_though_its_end_is_read_first(
    explorer: Explorer,
) -> None:
    random = Random(47)
    hour = 60 * MINUTE
    now = time.time_ns() // MINUTE * MINUTE
    spans = []
    for number in range(1, 61):
        # Most are young, and some take hours: what is found of them is in several slices.
        begun = now - int(23 * hour * random.random() ** 4) - MINUTE
        for span in range(1, random.randrange(2, 7)):
            start = min(begun + random.randrange(0, 3 * hour) * (number % 3 == 0), now - SECOND)
            kept = {"kept": "yes"} if random.random() < 0.7 else {"kept": "no", "other": "yes"}
            spans.append(Span(number, span, start + span, MS, attributes=kept))
    await _store_spans(explorer, spans)

    for only in ("", "&" + _filter({"op": "eq", "field": "attributes.kept", "value": "yes"})):
        found = [one for one in spans if not only or one.attributes["kept"] == "yes"]
        counts = Counter(trace_id(one.trace).hex() for one in found)
        last = {trace_id(one.trace).hex(): 0 for one in found}
        for one in found:
            last[trace_id(one.trace).hex()] = max(last[trace_id(one.trace).hex()], one.start_ns)
        traces = sorted(last, key=lambda trace: (last[trace], trace), reverse=True)
        for limit in (3, 40, 100):
            asked = f"limit={limit}&startTime={now - 24 * hour}&endTime={now}{only}"
            listed = await _all_pages(explorer, f"/telemetry/traces?{asked}")
            assert [one["traceId"] for one in listed] == traces
            assert {one["traceId"]: one["matchedSpans"] for one in listed} == counts
            listed = await _all_pages(explorer, f"/telemetry/spans?{asked}")
            times = [one["startTime"] for one in listed]
            assert times == sorted(times, reverse=True)
            assert sorted((one["traceId"], one["spanId"]) for one in listed) == sorted(
                (trace_id(one.trace).hex(), f"{one.id:016x}") for one in found
            )


async def _all_pages(explorer: Explorer, path: str) -> list[Any]:
    listed: list[Any] = []
    cursor = ""
    while True:
        page = await explorer.client.get(path + cursor)
        assert page.status == 200, page.text
        listed += page.json["data"]
        if page.json["nextCursor"] is None:
            return listed
        cursor = f"&cursor={page.json['nextCursor']}"


async def test_a_trace_comes_out_as_OTLP_as_it_came_in(explorer: Explorer) -> None:
    request = spans_request([Span(5, 1, NOW + 1, 7, attributes={"b": "2", "a": "1"})])
    of_resource = request.resource_spans[0]
    of_resource.schema_url = "https://opentelemetry.io/schemas/1.24.0"
    of_resource.resource.dropped_attributes_count = 2
    scope = of_resource.scope_spans[0]
    scope.scope.name, scope.scope.version, scope.schema_url = "lib", "1.0", "https://scope"
    scope.scope.attributes.add(key="k").value.string_value = "v"
    span = scope.spans[0]
    span.trace_state, span.flags, span.status.message = "a=b", 257, "fine"
    event = span.events.add(name="e", time_unix_nano=NOW + 3, dropped_attributes_count=1)
    event.attributes.add(key="x").value.string_value = "y"
    span.links.add(trace_id=trace_id(6), span_id=bytes(7) + b"\x02", trace_state="l", flags=3)
    span.dropped_links_count, span.dropped_events_count = 4, 5
    twin = scope.spans.add()
    twin.CopyFrom(span)
    twin.span_id, twin.parent_span_id = bytes(7) + b"\x09", span.span_id
    await store(explorer.store, "traces", explorer.tenant, request, received_ns=time.time_ns())

    answer = await explorer.client.get(f"/telemetry/traces/{trace_id(5).hex()}?format=otlp")

    del scope.spans[0].attributes[:], scope.spans[1].attributes[:]
    for one in scope.spans:  # attributes are kept in the order of their keys
        one.attributes.add(key="a").value.string_value = "1"
        one.attributes.add(key="b").value.string_value = "2"
    assert _parsed(answer.json) == MessageToDict(request)


def _parsed(found: Any) -> Any:
    """As protobuf reads it, so that defaults do not count."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    as_base64 = json.loads(json.dumps(found), object_hook=_with_base64)
    return MessageToDict(ParseDict(as_base64, TracesData()))


def _with_base64(found: dict[str, Any]) -> dict[str, Any]:
    import base64

    for name in ("traceId", "spanId", "parentSpanId"):
        if name in found:
            found[name] = base64.b64encode(bytes.fromhex(found[name])).decode()
    return found


async def test_a_trace_comes_out_as_Jaeger_shows_it(explorer: Explorer) -> None:
    await _store_spans(
        explorer,
        [
            Span(4, 1, NOW, 100 * MS),
            Span(4, 2, NOW + MS, 5 * MS, parent=1, service="checkout", status=2),
        ],
    )

    answer = await explorer.client.get(f"/telemetry/traces/{trace_id(4).hex()}?format=jaeger")

    (trace,) = answer.json["data"]
    root, child = trace["spans"]
    assert root["references"] == []
    assert child["references"][0] == {
        "refType": "CHILD_OF",
        "traceID": trace_id(4).hex(),
        "spanID": root["spanID"],
    }
    assert (child["startTime"], child["duration"]) == ((NOW + MS) // 1000, 5_000)
    assert trace["processes"][child["processID"]]["serviceName"] == "checkout"
    assert {"key": "error", "type": "bool", "value": True} in child["tags"]


async def test_attributes_and_latencies_are_counted(explorer: Explorer) -> None:
    spans = [
        Span(
            1,
            number,
            NOW + number,
            (number % 2 + 1) * 100_000,
            attributes={"route": f"/{number % 2}"},
        )
        for number in range(1, 65)
    ]
    await _store_spans(explorer, spans)

    keys = await explorer.client.get(f"/telemetry/attributes?{RANGE}")
    values = await explorer.client.get(f"/telemetry/spans/values?field=attributes.route&{RANGE}")
    heat = await explorer.client.get(f"/telemetry/traces/heatmap?step=1m&{RANGE}")

    assert [one["field"] for one in keys.json["data"]] == [
        *("attributes.route", "resource.service.name")
    ]
    assert [(one["value"], one["count"]) for one in values.json["data"]] == [("/0", 32), ("/1", 32)]
    assert [(one["durationMs"], one["spans"]) for one in heat.json["data"]] == [
        (0.128, 32),
        (0.256, 32),
    ]


async def test_a_trace_is_whole_without_a_range_though_it_took_hours(explorer: Explorer) -> None:
    early, late = NOW - 600 * MINUTE, NOW
    await _store_spans(explorer, [Span(11, 1, early, MS), Span(12, 1, NOW, MS)])
    await _store_spans(explorer, [Span(11, 2, late, MS, parent=1)])
    lines = [Line(early, "begun", trace=11), Line(late + SECOND, "done", trace=11)]
    await store(
        explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=time.time_ns()
    )
    path = f"/telemetry/traces/{trace_id(11).hex()}"

    noted = await explorer.client.get(path)
    ranged = await explorer.client.get(f"{path}?{RANGE}")
    # A note may expire before the last span does.
    await explorer.store.command(
        "ALTER TABLE telemetry.tf_trace_ts DELETE WHERE 1", {"mutations_sync": "2"}
    )
    without = await explorer.client.get(path)

    for answer in (noted, ranged, without):
        assert answer.status == 200, answer.text
        assert [one["spanId"][-1] for one in answer.json["spans"]] == ["1", "2"]
        assert [one["body"] for one in answer.json["logs"]] == ["begun", "done"]
    missing = await explorer.client.get(f"/telemetry/traces/{trace_id(13).hex()}")
    assert missing.status == 404


async def test_the_notes_of_traces_are_of_one_tenant(explorer: Explorer) -> None:
    assert explorer.other is not None
    await _store_spans(explorer, [Span(21, 1, NOW, MS)])

    answer = await explorer.other.client.get(f"/telemetry/traces/{trace_id(21).hex()}")

    assert answer.status == 404


async def test_spans_of_a_time_are_found_by_its_five_minutes(explorer: Explorer) -> None:
    slot = NOW // (5 * MINUTE) * 5 * MINUTE
    edges = [slot - 1, slot, slot + 1, slot + 5 * MINUTE - 1, slot + 5 * MINUTE]
    await _store_spans(explorer, [Span(9, n, at, MS) for n, at in enumerate(edges, start=1)])

    def counted(start_ns: int, end_ns: int) -> tuple[str, dict[str, Any]]:
        rendering = Rendering(DATABASE, explorer.tenant)
        within = during("tf_traces", "Timestamp", start_ns, end_ns)
        found = Select(columns={"items": "count()"}, source="tf_traces", where=within)
        return rendering.text_of(found), rendering.parameters

    for start in edges:
        for end in (*(edge + 1 for edge in edges), 5_000_000_000 * SECOND):
            rows = await explorer.store.query(*counted(start, end))
            assert rows == [(sum(start <= at < end for at in edges),)], (start, end)
    text, parameters = counted(slot, slot + MINUTE)
    plan = await explorer.store.query(f"EXPLAIN indexes = 1 {text}", parameters)
    (found,) = [n for n, (line,) in enumerate(plan) if line.strip() == "PrimaryKey"]
    assert "toStartOfFiveMinutes(Timestamp)" in {line.strip() for (line,) in plan[found:]}
